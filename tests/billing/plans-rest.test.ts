// What a client app does: a price page in one request, and asking what its workspace may do, through the gateway.
import { createClient } from "@supabase/supabase-js";
import { beforeAll, expect, test } from "vitest";
import { must, type Person, useStack } from "../e2e/stack.ts";

const s = useStack({ functions: [] });
const options = { auth: { persistSession: false, autoRefreshToken: false } };
const billing = (key: string, token?: string) =>
  createClient(s.stack.apiUrl, key, {
    ...options,
    ...(token && { global: { headers: { authorization: `Bearer ${token}` } } }),
  }).schema("billing");
let person: Person;
let mine: ReturnType<typeof billing>;

beforeAll(async () => {
  person = await s.person(0);
  const { data } = await person.client.auth.getSession();
  mine = billing(s.stack.publishableKey, data.session!.access_token);
  must(
    await billing(s.stack.secretKey).rpc("change_plan", {
      app: "amplify",
      slug: "basic",
      change_reason: "On sale",
      plan: { is_visible: true },
      features: { videos: 10, support_level: "chat" },
      prices: [{ currency: "USD", amount_minor: 1000, billing_period: "month", is_default: true }],
    }),
  );
});

test("a price page comes in one request, with prices, features and their units, to visitors", async () => {
  const plans = must(
    await billing(s.stack.publishableKey)
      .from("plans")
      .select(
        "slug, is_featured, plan_prices(currency, amount_minor, billing_period), plan_features(limit_value, text_value, features(slug, unit, kind))",
      )
      .eq("app", "amplify")
      .order("sort_order"),
  );
  expect(plans).toEqual([
    {
      slug: "free",
      is_featured: false,
      plan_prices: [],
      plan_features: [
        { limit_value: 1, text_value: null, features: { slug: "videos", unit: "video", kind: "limit" } },
      ],
    },
    {
      slug: "basic",
      is_featured: false,
      plan_prices: [{ currency: "USD", amount_minor: 1000, billing_period: "month" }],
      plan_features: [
        {
          limit_value: null,
          text_value: "chat",
          features: { slug: "support_level", unit: null, kind: "text" },
        },
        { limit_value: 10, text_value: null, features: { slug: "videos", unit: "video", kind: "limit" } },
      ],
    },
  ]);
});

test("a member asks what the workspace may do, one feature or all", async () => {
  const workspace_id = person.workspaceId;
  const one = must(await mine.rpc("entitlement", { workspace_id, feature: "transcript_access" }));
  expect(one).toMatchObject({ feature: "transcript_access", allowed: true, source: "default" });
  const all = must(await mine.rpc("entitlements", { workspace_id }).eq("app", "neostream"));
  expect(all.map(({ feature }: { feature: string }) => feature)).toEqual([
    "sources",
    "destinations",
    "chat_connectors",
    "streaming_hours",
    "bandwidth_gb",
  ]);
});

test("refusals arrive with their status, facts and hint", async () => {
  const workspace_id = person.workspaceId;
  const refused = await mine.rpc("require_entitlement", { workspace_id, feature: "white_label" });
  expect(refused.status).toBe(403);
  expect(refused.error?.message).toMatch(/^not_entitled: /);
  expect(JSON.parse(refused.error?.details ?? "")).toMatchObject({
    feature: "white_label",
    source: "default",
  });
  const exceeded = await mine.rpc("require_entitlement", { workspace_id, feature: "videos" });
  expect(exceeded.status).toBe(402);
  const unknown = await mine.rpc("entitlement", { workspace_id, feature: "vidoes" });
  expect(unknown.status).toBe(404);
  const consumed = await mine.rpc("consume_quota", { workspace_id, feature: "sources", amount: 1, key: "k" });
  expect(consumed.error).not.toBeNull();
  expect([401, 403, 404]).toContain(consumed.status);
});
