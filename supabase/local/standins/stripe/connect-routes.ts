import { Hono } from "hono";
import { z } from "zod";
import * as connect from "./connect.ts";
import * as money from "./connect-money.ts";
import * as schema from "./connect-params.ts";
import { ApiError, check, invalid, missing } from "./errors.ts";
import type { Env } from "./gate.ts";
import { page } from "./lists.ts";
import { listFields } from "./params.ts";
import { type Deps, seconds } from "./state.ts";

/** Accounts, account links, transfers with their reversals, and payouts of the account in `Stripe-Account`. */
export function connectRoutes(app: Hono<Env>, deps: Deps): void {
  const data = () => connect.connectData(deps);
  app.post("/accounts", (c) =>
    c.json(connect.createAccount(deps, check(schema.accountCreate, c.get("params")))),
  );
  app.get("/accounts/:id", (c) => c.json(connect.findAccount(deps, c.req.param("id"))));
  app.post("/account_links", (c) => {
    const params = check(schema.linkCreate, c.get("params"));
    const { id } = connect.findAccount(deps, params.account, "account");
    data().accountLinks[id] = { account: id, return_url: params.return_url };
    return c.json({
      object: "account_link",
      created: seconds(),
      expires_at: seconds() + 300,
      url: `${deps.baseUrl()}/connect/onboarding/${id}`,
    });
  });
  app.post("/accounts/:id/login_links", (c) => {
    const { id, details_submitted } = connect.findAccount(deps, c.req.param("id"));
    if (!details_submitted) throw invalid("The account has not finished its onboarding.");
    return c.json({ object: "login_link", created: seconds(), url: `${deps.baseUrl()}/connect/${id}` });
  });

  app.post("/transfers", (c) =>
    c.json(money.createTransfer(deps, check(schema.transferCreate, c.get("params")), c.get("cause"))),
  );
  app.get("/transfers", (c) => {
    const params = check(schema.transferList, c.get("params"));
    const all = Object.values(data().transfers).filter(
      ({ transfer_group, destination }) =>
        (!params.transfer_group || params.transfer_group === transfer_group) &&
        (!params.destination || params.destination === destination),
    );
    return c.json(page(all, "/v1/transfers", params));
  });
  app.get("/transfers/:id", (c) => c.json(money.findTransfer(deps, c.req.param("id"))));
  app.post("/transfers/:id/reversals", (c) => {
    const params = check(schema.reversalCreate, c.get("params"));
    return c.json(money.reverseTransfer(deps, c.req.param("id"), params, c.get("cause")));
  });

  const payoutsOf = (account: string | undefined) =>
    Object.values(data().bankPayouts).filter((payout) => payout.account === account);
  app.post("/payouts", (c) => {
    const account = connect.findAccount(deps, c.req.header("stripe-account") ?? "", "Stripe-Account");
    const params = check(schema.payoutCreate, c.get("params"));
    return c.json(money.bare(money.createPayout(deps, account, params, c.get("cause"))));
  });
  app.get("/payouts", (c) => {
    const params = check(z.strictObject(listFields), c.get("params"));
    const all = payoutsOf(c.req.header("stripe-account"));
    const listed = page(all, "/v1/payouts", params);
    return c.json({ ...listed, data: listed.data.map(money.bare) });
  });
  app.get("/payouts/:id", (c) => {
    const payout = payoutsOf(c.req.header("stripe-account")).find(({ id }) => id === c.req.param("id"));
    if (!payout) throw missing("payout", c.req.param("id"));
    return c.json(money.bare(payout));
  });
}

const answer = z.strictObject({ outcome: z.enum(["complete", "incomplete"]).default("complete") });
const bank = z.strictObject({ outcome: z.enum(["in_transit", "paid", "failed"]) });
const platform = z.strictObject({ available: z.number().int().min(0).nullable() });

/**
 * What people and banks do: GET and POST /connect/onboarding/<account>, POST /_bank/<payout>, POST /_platform with
 * what we can transfer. None asks for a key.
 */
export function connectPages(deps: Deps): Hono {
  const app = new Hono();
  app.onError((error, c) => {
    if (error instanceof ApiError) return c.json({ error: error.body }, error.status);
    if (error instanceof z.ZodError) return c.json({ error: z.prettifyError(error) }, 400);
    throw error;
  });
  app.get("/connect/onboarding/:account", (c) => {
    const { email } = connect.findAccount(deps, c.req.param("account"));
    return c.html(`<!doctype html><title>Onboarding</title><form method="post"><p>Account of ${escaped(email ?? "")}</p>
      <button name="outcome" value="complete">Complete</button>
      <button name="outcome" value="incomplete">Leave something out</button></form>`);
  });
  app.post("/connect/onboarding/:account", async (c) => {
    const byForm = !c.req.header("content-type")?.includes("application/json");
    const { outcome } = answer.parse(byForm ? await c.req.parseBody() : await c.req.json());
    const account = connect.onboard(deps, c.req.param("account"), outcome === "complete");
    const link = connect.connectData(deps).accountLinks[account.id];
    return byForm && link ? c.redirect(link.return_url, 303) : c.json(account);
  });
  app.post("/_bank/:payout", async (c) => {
    const { outcome } = bank.parse(await c.req.json());
    return c.json(money.bankAnswers(deps, c.req.param("payout"), outcome));
  });
  app.post("/_platform", async (c) => {
    connect.connectData(deps).platformAvailable = platform.parse(await c.req.json()).available;
    deps.changed();
    return c.json({ available: connect.connectData(deps).platformAvailable });
  });
  return app;
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
