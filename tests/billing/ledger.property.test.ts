// Random histories of one wallet against the model, and random sessions against each other.
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import type { TestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";
import { histories } from "../helpers/properties.ts";
import type { Connection, Session } from "../helpers/session.ts";
import { insertPlans, live, step } from "./histories.ts";
import {
  authorize,
  balance,
  billingDatabase,
  capture,
  expectSound,
  grant,
  newWorkspace,
  noon,
  record,
  refund,
  release,
} from "./money.ts";

let db: TestDatabase;
let service: Connection;

beforeAll(async () => {
  db = await billingDatabase({ poolSize: 40 });
  service = await db.connect("service");
  await insertPlans(db);
});

test("random histories end as the model says, step by step", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60, size: "max" }), (steps) =>
      live(db, service, steps),
    ),
    // on a busy machine fewer histories rather than a failure; npm run bench:properties takes its time
    histories(60, { seconds: 40 }),
  );
  await expectSound(db);
});

test("1,000 authorizations at once against credit for 100 end in exactly 100", async () => {
  const { workspaceId } = await newWorkspace(db, { prepaid: 60, admin: 40 });
  const results = await Promise.allSettled(
    Array.from({ length: 1000 }, () => authorize(db.service, workspaceId, 1)),
  );
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(100);
  const refused = results.filter((result) => result.status === "rejected");
  for (const { reason } of refused)
    await expectError(Promise.reject(reason), "insufficient_credits", "PT402");
  expect(await balance(db.service, workspaceId)).toMatchObject({ available_micro: 0, held_micro: 100 });
  await expectSound(db);
});

const allowed =
  /^(insufficient_credits|usage_not_held|usage_not_captured|refund_too_large|key_reused|invalid_argument): /;

test("eight sessions at random on three workspaces keep the books sound, without a deadlock", async () => {
  await db.setClock(noon);
  const workspaces = await Promise.all(
    Array.from({ length: 3 }, () => newWorkspace(db, { prepaid: 300, admin: 100, voucher: 100 })),
  );
  for (const { workspaceId } of workspaces)
    await db.query(
      `insert into billing.subscriptions (workspace_id, app, plan_id, allowance_anchor_at)
      select $1, p.app, p.id, private.now() from billing.plans p where p.slug = 'history-weekly'`,
      [workspaceId],
    );
  const charges: string[] = [];
  let rounds = 0;
  async function work(session: Session, seed: number): Promise<void> {
    const random = (n: number) =>
      fc.sample(fc.nat({ max: n - 1 }), { numRuns: 1, seed: seed * 1000 + rounds++ })[0]!;
    for (let step = 0; step < 50; step++) {
      const { workspaceId } = workspaces[random(3)]!;
      const charge = charges[random(Math.max(1, charges.length))];
      const choice = charge === undefined ? 0 : random(12);
      try {
        if (choice < 4)
          charges.push(
            (await authorize(session, workspaceId, 1 + random(40), { key: `k${random(60)}` })).usage_event_id,
          );
        else if (choice < 6) await capture(session, charge!, random(3) ? undefined : 1);
        else if (choice === 6) await release(session, charge!);
        else if (choice === 7) await refund(session, charge!, `reason ${random(2)}`, random(2) ? 3 : null);
        else if (choice === 8) await record(session, workspaceId, 1 + random(9));
        else if (choice === 9)
          await grant(session, workspaceId, 1 + random(30), "promotion", {
            expires_at: "2027-01-20T00:00:00Z",
          });
        else if (choice === 10) await db.advanceClock("5 hours");
        else await session.call(random(2) ? "billing.expire_lots" : "billing.release_expired_holds");
      } catch (error) {
        expect((error as Error).message).toMatch(allowed);
      }
    }
  }
  const sessions = await Promise.all(Array.from({ length: 8 }, () => db.connect("service")));
  await Promise.all(sessions.map(work));
  await expectSound(db);
  expect(await db.service.rpc("billing.rebuild_balances")).toEqual([]);
  const [books] = await db.query("select sum(amount_micro)::bigint as total from billing.ledger_entries");
  expect(books!.total).toBe(0);
});
