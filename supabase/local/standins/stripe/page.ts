import { html } from "hono/html";
import type { HtmlEscapedString } from "hono/utils/html";
import type { LineItem, Session } from "./state.ts";

type Html = HtmlEscapedString | Promise<HtmlEscapedString>;

export function money(amount: number | null, currency: string | null): string {
  const style = new Intl.NumberFormat("en", { style: "currency", currency: currency ?? "usd" });
  const digits = style.resolvedOptions().maximumFractionDigits ?? 2;
  return style.format((amount ?? 0) / 10 ** digits);
}

export function layout(title: string, body: Html): Html {
  return html`<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: #f2f1ee; color: #22252b;
    font: 16px/1.5 system-ui, sans-serif }
  main { width: min(24rem, 90vw); padding: 2rem; border-radius: 14px; background: #fff; box-shadow: 0 8px 40px #0001 }
  h1 { margin: 0 0 1rem; font-size: 2rem }
  small { color: #777b84 }
  ul { list-style: none; margin: 0 0 1.5rem; padding: 0; border-top: 1px solid #e6e5e1 }
  li { display: flex; justify-content: space-between; padding: .6rem 0; border-bottom: 1px solid #e6e5e1 }
  button { width: 100%; margin-top: .6rem; padding: .8rem; border: 0; border-radius: 8px; font: inherit; cursor: pointer }
  .pay { background: #24593f; color: #fff; font-weight: 600 }
  .error { padding: .6rem .8rem; border-radius: 8px; background: #fbe9e7; color: #8c2f22 }
</style>
<main>${body}</main>
</html>`;
}

export function payPage(session: Session, lines: LineItem[], error?: string): Html {
  const total = money(session.amount_total, session.currency);
  return layout(
    `Pay ${total}`,
    html`<small>Payment page of the Stripe stand-in: no real money moves</small>
    <h1>${total}</h1>
    <ul>${lines.map((line) => html`<li><span>${line.quantity} × ${line.description ?? "Item"}</span><span>${money(line.amount_total, line.currency)}</span></li>`)}</ul>
    ${error ? html`<p class="error">${error}</p>` : ""}
    <form method="post">
      <button class="pay" name="outcome" value="success">Pay ${total}</button>
      <button name="outcome" value="async">Pay by slow bank transfer</button>
      <button name="outcome" value="decline">Pay with a card that is declined</button>
    </form>
    ${session.cancel_url ? html`<p><a href="${session.cancel_url}">Back to the shop</a></p>` : ""}`,
  );
}

export function closedPage(session: Session): Html {
  const done = session.status === "complete";
  return layout(
    done ? "Paid" : "Expired",
    html`<h1>${done ? "Thank you" : "Too late"}</h1>
    <p>${done ? `This payment of ${money(session.amount_total, session.currency)} is complete.` : "This page has expired."}</p>`,
  );
}
