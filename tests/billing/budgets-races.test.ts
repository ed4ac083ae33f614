import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { histories } from "../helpers/properties.ts";
import {
  authorize,
  balance,
  billingDatabase,
  capture,
  expectSound,
  newWorkspace,
  record,
  refund,
  release,
} from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase({ poolSize: 20 });
  await db.query("alter table billing.usage_events alter column created_at set default private.now()");
});

const expectCounted = async () => expect(await db.service.rpc("billing.verify_budgets")).toEqual([]);
const refused = (results: PromiseSettledResult<unknown>[]) =>
  results.filter((result) => {
    if (result.status === "rejected") expect(result.reason.message).toMatch(/^spend_cap_reached: /);
    return result.status === "rejected";
  }).length;

test("forty charges at once cannot pass a cap, and use all of it", async () => {
  const { userId, workspaceId } = await newWorkspace(db, { prepaid: 100_000 });
  await db.user(userId).call("billing.set_budget", { workspace_id: workspaceId, limit_micro: 100 });
  const results = await Promise.allSettled(
    Array.from({ length: 40 }, (_, n) => (n % 2 ? record : authorize)(db.service, workspaceId, 5)),
  );
  expect(refused(results)).toBe(20);
  const { held_micro, available_micro } = await balance(db.service, workspaceId);
  expect(100_000 - available_micro).toBe(100);
  const [status] = await db.query("select * from billing.budget_status where workspace_id = $1", [
    workspaceId,
  ]);
  expect(status).toMatchObject({ held_micro, spent_micro: 100 - held_micro, left_micro: 0 });
  await expectCounted();
  await expectSound(db);
});

test("a cap that is set or raised among charges counts each of them", async () => {
  const { userId, workspaceId } = await newWorkspace(db, { prepaid: 100_000 });
  const set = (limit_micro: number, timezone = "UTC") =>
    db.user(userId).call("billing.set_budget", { workspace_id: workspaceId, limit_micro, timezone });
  const results = await Promise.allSettled(
    Array.from({ length: 40 }, async (_, n) => {
      if (n % 10 === 5) await set(40 + n, n % 20 === 5 ? "UTC" : "Asia/Tokyo");
      return record(db.service, workspaceId, 3);
    }),
  );
  refused(results);
  await expectCounted();
  await set(1000);
  await record(db.service, workspaceId, 3);
  await expectCounted();
});

test("a charge that waited while its cap was set is held to it", async () => {
  const { userId, workspaceId } = await newWorkspace(db, { prepaid: 1000 });
  const admin = await db.connect({ user: userId });
  await admin.begin();
  await admin.call("billing.set_budget", { workspace_id: workspaceId, limit_micro: 10 });
  const waiting = record(db.service, workspaceId, 11);
  const outcome = expect(waiting).rejects.toThrow(/^spend_cap_reached: /);
  await admin.commit();
  await outcome;
});

test("whatever happens to charges, budgets count what a direct aggregate says, and caps hold", async () => {
  await db.setClock("2027-01-30T12:00:00Z");
  const { userId, workspaceId } = await newWorkspace(db, { prepaid: 1e9 });
  const charges: string[] = [];
  const maybe = (call: Promise<unknown>) =>
    call.catch((error: Error) => expect(error.message).toMatch(/^\w+: /));
  const step = fc.tuple(
    fc.constantFrom(
      "authorize",
      "authorize",
      "record",
      "capture",
      "part",
      "release",
      "refund",
      "budget",
      "amend",
      "later",
    ),
    fc.nat(1000),
    fc.integer({ min: 1, max: 400 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      for (const [what, n, size] of steps) {
        const options = { metadata: n % 2 ? { user_id: userId } : {} };
        if (what === "authorize" || what === "record") {
          const call = what === "record" ? record : authorize;
          await call(db.service, workspaceId, size, options).then(
            ({ usage_event_id }) => charges.push(usage_event_id),
            (error: Error) => expect(error.message).toMatch(/^spend_cap_reached: /),
          );
        }
        if (what === "later") await db.advanceClock(`${n} minutes`);
        if (what === "budget") {
          await db.user(userId).call("billing.set_budget", {
            workspace_id: workspaceId,
            limit_micro: size * 5,
            period: ["day", "week", "month"][n % 3],
            user_id: n % 4 ? null : userId,
            stops: n % 5 > 0,
            timezone: n % 7 ? "UTC" : "America/New_York",
          });
        }
        const id = charges[n % Math.max(charges.length, 1)];
        if (!id) continue;
        if (what === "capture") await maybe(capture(db.service, id));
        if (what === "amend") {
          const correction = {
            usage_event_id: id,
            quantity: size,
            reason: "wrong",
            key: `${n}-${charges.length}`,
          };
          await maybe(db.service.call("billing.amend_usage", correction));
        }
        if (what === "part") await maybe(capture(db.service, id, size / 2));
        if (what === "release") await maybe(release(db.service, id));
        if (what === "refund") await maybe(refund(db.service, id, `refund ${size}`, n % 2 ? null : size));
      }
      await expectCounted();
    }),
    histories(12),
  );
  await expectSound(db);
});
