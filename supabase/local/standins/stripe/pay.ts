import { Hono } from "hono";
import { z } from "zod";
import { outcomes, pay } from "./checkout.ts";
import { ApiError } from "./errors.ts";
import { closedPage, payPage } from "./page.ts";
import { findSession } from "./sessions.ts";
import type { Deps } from "./state.ts";

const order = z.object({
  outcome: z.enum(outcomes).default("success"),
  after_ms: z.coerce.number().int().min(0).optional(),
});

/** The payment page: a form for people, JSON for programs. */
export function payRoutes(deps: Deps): Hono {
  const app = new Hono();
  app.onError((error, c) => {
    if (error instanceof ApiError) return c.json({ error: error.body }, error.status);
    throw error;
  });
  app.get("/pay/:session", (c) => {
    const session = findSession(deps, c.req.param("session"));
    if (session.status !== "open") return c.html(closedPage(session));
    return c.html(payPage(session, deps.data.lineItems[session.id] ?? []));
  });
  app.post("/pay/:session", async (c) => {
    const id = c.req.param("session");
    const byForm = !c.req.header("content-type")?.includes("application/json");
    const parsed = order.safeParse(byForm ? await c.req.parseBody() : await c.req.json());
    if (!parsed.success) return c.json({ error: { message: z.prettifyError(parsed.error) } }, 400);
    const { outcome, after_ms } = parsed.data;
    try {
      const session = pay(deps, id, outcome, after_ms);
      if (!byForm) return c.json(session);
      return c.redirect((session.success_url ?? "").replace("{CHECKOUT_SESSION_ID}", id), 303);
    } catch (error) {
      if (!byForm || !(error instanceof ApiError) || error.status !== 402) throw error;
      return c.html(payPage(findSession(deps, id), deps.data.lineItems[id] ?? [], error.message), 402);
    }
  });
  return app;
}
