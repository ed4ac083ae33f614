// Random histories of plans, statuses, grants, time and use, each step answered as a small model answers it.
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { histories } from "../helpers/properties.ts";
import { changePlan, consume, entitlement, giveGrant, makePlan, release } from "./entitled.ts";
import { noon } from "./money.ts";

type Limit = { limit: number; period: "week" | "month" } | "unlimited" | false;
type Plan = { videos?: Limit; white_label?: boolean };
interface Grant {
  kind: "full_access" | "unlimited" | "limit_override";
  limit?: number;
  until: number;
  revoked: boolean;
}
interface World {
  now: number;
  plans: Record<string, Plan>;
  plan: string | null;
  status: string;
  graceUntil: number | null;
  grants: Grant[];
  born: number;
  anchor: number;
  period: { start: number; end: number } | null;
  used: number;
  open: Map<string, { amount: number; end: number }>;
}

const day = 86_400_000;
const slugs = ["one", "two", "three"];
let db: TestDatabase;
let staffId: string;
beforeAll(async () => {
  db = await createTestDatabase();
  staffId = (await db.createUser()).id;
});

/** The week or month from the anchor, or from the workspace's beginning without a plan, that holds a moment. */
function periodOf(anchor: number, now: number, unit: "week" | "month") {
  const step = (n: number) => (unit === "week" ? anchor + n * 7 * day : addMonths(anchor, n));
  let n = Math.floor((now - anchor) / (7 * day)) - 60;
  while (step(n + 1) <= now) n++;
  return { start: step(n), end: step(n + 1) };
}
function addMonths(anchor: number, n: number): number {
  const from = new Date(anchor);
  const [year, month] = [from.getUTCFullYear(), from.getUTCMonth() + n];
  const last = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  const first = Date.UTC(year, month, Math.min(from.getUTCDate(), last));
  return first + (anchor % day);
}
const hasAccess = (w: World) =>
  w.plan !== null &&
  (w.status === "active" || (w.status === "past_due" && w.graceUntil !== null && w.graceUntil > w.now));
const openGrants = (w: World) => w.grants.filter((grant) => !grant.revoked && grant.until > w.now);

/** Of all who speak of videos the most generous: its limit and period. Grants count in the plan's period. */
function videosOf(w: World): { limit: number; period: "week" | "month" } {
  const planned = hasAccess(w) ? w.plans[w.plan!]!.videos : undefined;
  const plannedPeriod = typeof planned === "object" ? planned.period : "week";
  const voices = openGrants(w).map(({ kind, limit }) => ({
    rank: [1, kind === "limit_override" ? limit! * 52 : Number.POSITIVE_INFINITY, 1],
    limit: kind === "limit_override" ? limit! : Number.POSITIVE_INFINITY,
    period: plannedPeriod,
  }));
  if (typeof planned === "object") {
    const yearly = planned.limit * (planned.period === "week" ? 52 : 12);
    voices.push({ rank: [1, yearly, 0], ...planned });
  } else if (planned === "unlimited")
    voices.push({ rank: [1, Number.POSITIVE_INFINITY, 0], limit: Number.POSITIVE_INFINITY, period: "week" });
  else if (planned === false) voices.push({ rank: [0, 0, 0], limit: 0, period: "week" });
  const [best] = voices.toSorted((a, b) => {
    const i = a.rank.findIndex((value, n) => value !== b.rank[n]);
    return i < 0 ? 0 : b.rank[i]! > a.rank[i]! ? 1 : -1;
  });
  return best ?? { limit: 0, period: "week" };
}
const limitOf = (w: World) => videosOf(w).limit;
const isWhite = (w: World) =>
  openGrants(w).some(({ kind }) => kind === "full_access") ||
  (hasAccess(w) && w.plans[w.plan!]!.white_label === true);

function roll(w: World) {
  if (w.period && w.period.end > w.now) return;
  w.period = null;
  w.used = 0;
}

async function compare(w: World, workspaceId: string) {
  roll(w);
  const { limit, period: unit } = videosOf(w);
  const period = w.period ?? periodOf(hasAccess(w) ? w.anchor : w.born, w.now, unit);
  expect(await entitlement(db.service, workspaceId, "videos")).toMatchObject({
    allowed: w.used < limit,
    unlimited: limit === Number.POSITIVE_INFINITY,
    limit_value: Number.isFinite(limit) ? limit : null,
    used_value: w.used,
    remaining: Number.isFinite(limit) ? Math.max(limit - w.used, 0) : null,
    period_start: new Date(period.start),
    period_end: new Date(period.end),
  });
  expect((await entitlement(db.service, workspaceId, "white_label")).allowed).toBe(isWhite(w));
  return period;
}

const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("pass" as const), hours: fc.integer({ min: 1, max: 240 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("subscribe" as const),
      slug: fc.constantFrom(...slugs),
      status: fc.constantFrom("active", "past_due", "cancelled", "unpaid"),
      grace: fc.option(fc.integer({ min: 1, max: 20 })),
      anchor: fc.integer({ min: -10, max: 10 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("change" as const),
      slug: fc.constantFrom(...slugs),
      videos: fc.constantFrom<(Limit | null)[]>(
        null,
        false,
        "unlimited",
        { limit: 3, period: "week" },
        { limit: 8, period: "week" },
        { limit: 15, period: "month" },
        { limit: 40, period: "month" },
      ),
      white: fc.constantFrom(null, true, false),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("give" as const),
      kind: fc.constantFrom("full_access" as const, "unlimited" as const, "limit_override" as const),
      limit: fc.integer({ min: 0, max: 25 }),
      days: fc.integer({ min: 1, max: 15 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("revoke" as const), which: fc.nat(5) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("use" as const),
      amount: fc.integer({ min: 1, max: 6 }),
      key: fc.integer({ min: 0, max: 8 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("release" as const), key: fc.integer({ min: 0, max: 8 }) }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function play(w: World, workspaceId: string, ids: string[], s: Step, n: number) {
  if (s.do === "pass") {
    w.now += s.hours * 3_600_000;
    await db.setClock(new Date(w.now));
  } else if (s.do === "subscribe") {
    Object.assign(w, { plan: s.slug, status: s.status, anchor: w.now + s.anchor * day });
    w.graceUntil = s.status === "past_due" && s.grace !== null ? w.now + s.grace * day : null;
    await db.service.query(
      `insert into billing.subscriptions (workspace_id, app, plan_id, status, grace_ends_at, allowance_anchor_at)
        select $1, 'amplify', p.id, $3, $4, $5 from billing.plans p where p.app = 'amplify' and p.slug = $2
        on conflict (workspace_id, app) do update set plan_id = excluded.plan_id, status = excluded.status,
          grace_ends_at = excluded.grace_ends_at, allowance_anchor_at = excluded.allowance_anchor_at`,
      [
        workspaceId,
        s.slug,
        s.status,
        w.graceUntil === null ? null : new Date(w.graceUntil),
        new Date(w.anchor),
      ],
    );
  } else if (s.do === "change") {
    w.plans[s.slug] = {
      ...(s.videos !== null && { videos: s.videos as Limit }),
      ...(s.white !== null && { white_label: s.white }),
    };
    const features = { videos: s.videos, white_label: s.white };
    await changePlan(db.service, "amplify", s.slug, { features });
  } else if (s.do === "give") {
    const until = w.now + s.days * day;
    w.grants.push({ kind: s.kind, limit: s.limit, until, revoked: false });
    const { admin_grant_id } = await giveGrant(db, workspaceId, staffId, s.kind, `g${n}`, {
      ...(s.kind !== "full_access" && { feature: "videos" }),
      ...(s.kind === "limit_override" && { limit_value: s.limit }),
      expires_at: new Date(until).toISOString(),
    });
    ids.push(admin_grant_id);
  } else if (s.do === "revoke" && w.grants[s.which]) {
    w.grants[s.which]!.revoked = true;
    const revoke = { admin_grant_id: ids[s.which], reason: "x", revoked_by: staffId };
    await db.service.call("billing.revoke_admin_grant", revoke);
  } else if (s.do === "use") {
    const key = `${s.key}-${s.amount}`;
    const fits = w.open.has(key) || w.used + s.amount <= limitOf(w);
    const period = await compare(w, workspaceId);
    const call = consume(db.service, workspaceId, "videos", s.amount, key);
    if (!fits) await expect(call).rejects.toThrow(/^quota_exceeded/);
    else expect((await call).created).toBe(!w.open.has(key));
    if (!fits || w.open.has(key)) return;
    w.period = period;
    w.used += s.amount;
    w.open.set(key, { amount: s.amount, end: period.end });
  } else if (s.do === "release") {
    for (const [key, { amount, end }] of w.open) {
      if (!key.startsWith(`${s.key}-`)) continue;
      const { created } = await release(db.service, workspaceId, key);
      expect(created).toBe(amount > 0);
      if (amount > 0 && w.period?.end === end) w.used -= amount;
      w.open.set(key, { amount: 0, end });
    }
  }
}

test("every answer is the model's", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const start = new Date(noon).getTime();
      await db.setClock(noon);
      for (const slug of slugs) {
        await makePlan(db, slug, { videos: null, white_label: null });
      }
      const { workspaceId } = await db.createUser();
      await db.query("update identity.workspaces set created_at = $2 where id = $1", [workspaceId, noon]);
      const w: World = {
        now: start,
        plans: Object.fromEntries(slugs.map((slug) => [slug, {}])),
        plan: null,
        status: "active",
        graceUntil: null,
        grants: [],
        born: start,
        anchor: start,
        period: null,
        used: 0,
        open: new Map(),
      };
      await db.query("update billing.features set limit_period = 'week' where slug = 'videos'");
      const ids: string[] = [];
      for (const [n, s] of steps.entries()) {
        roll(w);
        await play(w, workspaceId, ids, s, n);
        await compare(w, workspaceId);
      }
    }),
    { ...histories(25, { seconds: 25 }), endOnFailure: true },
  );
});
