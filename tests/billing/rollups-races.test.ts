import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { histories } from "../helpers/properties.ts";
import { authorize, billingDatabase, capture, newWorkspace, record, refund, release } from "./money.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await billingDatabase({ poolSize: 12 });
  // charges are booked at the time of the tests' clock
  await db.query("alter table billing.usage_events alter column created_at set default private.now()");
});

const rollUp = () => db.service.call<number>("billing.roll_up_usage");
const faults = () => db.service.rpc("billing.verify_usage");
const charged = async (workspaceId: string) =>
  (
    await db.query(
      `select coalesce(sum(charges), 0)::int as charges from billing.usage_rollups
      where workspace_id = $1 and grain = 'day'`,
      [workspaceId],
    )
  )[0]!.charges;

test("a charge whose transaction ends after those begun later is added all the same", async () => {
  const first = await newWorkspace(db, { prepaid: 100 });
  const second = await newWorkspace(db, { prepaid: 100 });
  const slow = await db.connect("service");
  await slow.begin();
  await record(slow, first.workspaceId, 1);
  await record(db.service, second.workspaceId, 1);
  await rollUp();
  expect([await charged(first.workspaceId), await charged(second.workspaceId)]).toEqual([0, 1]);
  expect(await faults()).toEqual([]);
  await slow.commit();
  expect(await rollUp()).toBe(1);
  expect(await charged(first.workspaceId)).toBe(1);
  expect(await faults()).toEqual([]);
});

test("a roll-up that is undone takes nothing, and one beside another adds nothing twice", async () => {
  const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
  await record(db.service, workspaceId, 1);
  const undone = await db.connect("service");
  await undone.begin();
  expect(await undone.call("billing.roll_up_usage")).toBe(1);
  expect(await rollUp()).toBe(0);
  await undone.rollback();
  expect(await charged(workspaceId)).toBe(0);
  await Promise.all([rollUp(), rollUp(), rollUp()]);
  await rollUp();
  expect(await charged(workspaceId)).toBe(1);
});

test("charges, roll-ups and rebuilding at once end in the sums that the events say", async () => {
  const workspaces = await Promise.all([1, 2, 3].map(() => newWorkspace(db, { prepaid: 100_000 })));
  let running = true;
  const sweeping = (async () => {
    for (let n = 0; running; n++) {
      await rollUp();
      if (n % 3 === 0)
        await db.service.call(
          "billing.rebuild_usage",
          n % 2 ? {} : { workspace_id: workspaces[0]!.workspaceId },
        );
      expect(await faults()).toEqual([]);
    }
  })();
  await Promise.all(
    workspaces.flatMap(({ workspaceId }) =>
      [1, 2].map(async () => {
        for (let n = 0; n < 25; n++) {
          const charge = await record(db.service, workspaceId, 1 + (n % 3));
          if (n % 4 === 0) await refund(db.service, charge.usage_event_id);
        }
      }),
    ),
  );
  running = false;
  await sweeping;
  await rollUp();
  expect(await faults()).toEqual([]);
  for (const { workspaceId } of workspaces) expect(await charged(workspaceId)).toBe(50);
});

test("rebuilding makes right what was wrong", async () => {
  const { workspaceId } = await newWorkspace(db, { prepaid: 100 });
  await record(db.service, workspaceId, 3);
  await rollUp();
  await record(db.service, workspaceId, 4);
  await db.query(
    "update billing.usage_rollups set captured_micro = captured_micro + 1 where workspace_id = $1 and grain = 'hour'",
    [workspaceId],
  );
  expect(await faults()).toMatchObject([{ workspace_id: workspaceId, expected_micro: 7, actual_micro: 8 }]);
  expect(await db.service.call("billing.rebuild_usage", { workspace_id: workspaceId })).toBe(3);
  expect(await faults()).toEqual([]);
  expect(await charged(workspaceId)).toBe(2);
});

test("the nightly proof tells what is wrong and makes it right", async () => {
  const { workspaceId, userId } = await newWorkspace(db, { prepaid: 100 });
  expect(await db.service.call("billing.prove_usage")).toBe(0);
  await db.user(userId).call("billing.set_budget", { workspace_id: workspaceId, limit_micro: 50 });
  await record(db.service, workspaceId, 3);
  await rollUp();
  await db.query("update billing.usage_rollups set quantity = 4 where workspace_id = $1 and grain = 'day'", [
    workspaceId,
  ]);
  await db.query("update billing.budget_periods set spent_micro = 4");
  expect(await db.service.call("billing.prove_usage")).toBe(2);
  const told = await db.query(
    "select target_id, error_message, risk_level from ops.audit_log where action = 'billing.usage.fault'",
  );
  expect(told).toEqual([
    {
      target_id: workspaceId,
      error_message: "2 faults in the sums of usage or budgets",
      risk_level: "critical",
    },
  ]);
  expect(await faults()).toEqual([]);
  await db.query("update billing.budget_periods set spent_micro = 3");
  expect(await db.service.call("billing.prove_usage")).toBe(0);
});

test("whatever happens to charges, in whatever order, the sums are a direct aggregate of them", async () => {
  const people = await Promise.all([newWorkspace(db, { prepaid: 1e9 }), newWorkspace(db, { prepaid: 1e9 })]);
  const meters = ["unit", "hundred", "fraction", "free"];
  const charges: string[] = [];
  const pick = (n: number) => charges[n % Math.max(charges.length, 1)];
  // what the charge's state does not allow is refused, and a refused call changes nothing
  const maybe = (call: Promise<unknown>) =>
    call.catch((error: Error) => expect(error.message).toMatch(/^\w+: /));
  const step = fc.tuple(
    fc.constantFrom(
      "authorize",
      "record",
      "capture",
      "part",
      "release",
      "refund",
      "refund part",
      "roll up",
      "rebuild",
      "forget",
      "amend",
      "backfill",
      "later",
    ),
    fc.nat(1000),
    fc.integer({ min: 1, max: 9_999_999 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      for (const [what, n, size] of steps) {
        const { workspaceId, userId } = people[n % 2]!;
        const metadata = n % 3 ? { user_id: userId, ...(n % 5 && { source_platform: `app-${n % 5}` }) } : {};
        const options = { meter: meters[n % 4]!, metadata };
        if (what === "authorize")
          charges.push((await authorize(db.service, workspaceId, size / 1000, options)).usage_event_id);
        if (what === "record")
          charges.push((await record(db.service, workspaceId, size / 1000, options)).usage_event_id);
        if (what === "roll up") await rollUp();
        if (what === "rebuild")
          await db.service.call("billing.rebuild_usage", n % 3 ? { workspace_id: workspaceId } : {});
        if (what === "later") await db.advanceClock(`${n} minutes`);
        const correct = {
          quantity: size / 1000,
          reason: "wrong",
          key: `${n}-${size}-${what}-${charges.length}`,
        };
        if (what === "backfill") {
          const event_at = `2027-01-0${1 + (n % 9)}T00:10:00Z`;
          const work = { workspace_id: workspaceId, meter: options.meter, event_at, metadata };
          await maybe(db.service.call("billing.backfill_usage", { ...correct, ...work }));
        }
        const id = pick(n);
        if (!id) continue;
        if (what === "amend") {
          await maybe(db.service.call("billing.amend_usage", { ...correct, usage_event_id: id }));
        }
        if (what === "capture") await maybe(capture(db.service, id));
        if (what === "part") await maybe(capture(db.service, id, size / 1000));
        if (what === "release") await maybe(release(db.service, id));
        if (what === "refund") await maybe(refund(db.service, id));
        if (what === "refund part") await maybe(refund(db.service, id, `refund ${size}`, size % 500));
        if (what === "forget")
          await db.query("update billing.usage_events set user_id = null where id = $1", [id]);
      }
      expect(await faults()).toEqual([]);
      await rollUp();
      expect(await faults()).toEqual([]);
    }),
    histories(12),
  );
});
