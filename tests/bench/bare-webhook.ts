// The least a webhook route can do: take the body, insert one row. What the real route is compared with.
import { Hono } from "hono";
import pg from "pg";

const pool = new pg.Pool({ connectionString: Deno.env.get("SUPABASE_DB_URL"), max: 10 });
const app = new Hono();
app.get("/webhooks/health", (c) => c.json({ ok: true }));
app.post("/webhooks/stripe", async (c) => {
  const payload = await c.req.text();
  await pool.query({
    name: "insert",
    text: "insert into bare.webhook_events (provider, event_id, event_type, payload) values ('stripe', $1, $2, $3)",
    values: [crypto.randomUUID(), "bare", payload],
  });
  return c.json({ received: true });
});
Deno.serve(app.fetch);
