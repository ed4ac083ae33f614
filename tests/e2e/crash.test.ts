import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { eventually, type Person, useStack } from "./stack.ts";

const price = 383 * 6;
const s = useStack();

/** Lets leases that dead workers hold end now, as they would by themselves after a minute. */
async function endLostLeases() {
  await s.sql("update ops.claims set expires_at = now()");
}

/** Every creation has ended as completed and charged once, or failed and not charged. */
async function expectSettled(person: Person, asked: number): Promise<void> {
  const creations = await eventually(
    "every creation has ended",
    async () => {
      const rows = await s
        .sql<{ status: string; cost_micro: string | null; completed_at: Date | null }>(
          "select status, cost_micro, completed_at from studio.creations where workspace_id = $1",
          [person.workspaceId],
        )
        .catch(() => []);
      return rows.length >= asked && rows.every((row) => row.completed_at) ? rows : undefined;
    },
    90,
  );
  const completed = creations.filter((creation) => creation.status === "completed");
  expect(creations.every((c) => c.status === "completed" || c.status === "failed")).toBe(true);
  expect(completed.length).toBeGreaterThan(0);
  expect(await s.balance(person)).toMatchObject({
    held_micro: 0,
    available_micro: 100_000 - completed.length * price,
  });
  expect(await s.faults()).toEqual([]);
}

test("a worker killed at random points loses no creation and charges none twice", {
  timeout: 180_000,
}, async () => {
  const person = await s.person();
  await s.order("fal", { delay_ms: 150 });
  let asked = 0;
  for (let round = 0; round < 8; round++) {
    await s.request(person);
    asked++;
    await sleep(Math.random() * 700);
    s.stack.functions.kill("worker");
    await endLostLeases();
    await s.sql("delete from ops.workers");
  }
  await expectSettled(person, asked);
});

test("PostgreSQL killed at random points loses nothing it had said yes to", {
  timeout: 240_000,
}, async () => {
  const person = await s.person();
  let asked = 0;
  for (let round = 0; round < 4; round++) {
    for (let n = 0; n < 3; n++) {
      // a request whose answer was lost may or may not have happened: its key makes asking again safe
      await eventually("the request is taken", async () => {
        const answer = await s.request(person, { key: `${round}-${n}` }).catch(() => undefined);
        return answer?.id;
      });
      asked++;
    }
    await sleep(Math.random() * 800);
    await s.stack.restartPostgres(true);
    await eventually("PostgreSQL answers", () =>
      endLostLeases().then(
        () => true,
        () => false,
      ),
    );
  }
  await expectSettled(person, asked);
});
