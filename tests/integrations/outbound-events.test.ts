import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { type Brand, createStudio, type Studio } from "../studio/studio.ts";

let db: Studio;
let brand: Brand;
beforeAll(async () => {
  db = await createStudio();
});
beforeEach(async () => {
  brand = await db.brand();
  await db.user(brand.id).call("integrations.create_webhook_endpoint", {
    workspace_id: brand.workspaceId,
    url: "https://hooks.example.com/",
  });
});

// biome-ignore lint/suspicious/noExplicitAny: data of any event.
type Told = { type: string; payload: any };
const told = () =>
  db.query("select type, payload from ops.outbox where workspace_id = $1 order by id", [
    brand.workspaceId,
  ]) as unknown as Promise<Told[]>;

test("every event that triggers emit has a row with an example of just its data", async () => {
  const types = await db.query("select type, example from integrations.webhook_event_types order by type");
  expect(types.map(({ type }) => type)).toEqual([
    "creation.cancelled",
    "creation.completed",
    "creation.failed",
    "credits.low",
    "member.joined",
    "payment.failed",
    "payment.succeeded",
    "payout.failed",
    "payout.paid",
    "payout.reversed",
    "subscription.changed",
    "webhook.test",
  ]);
});

const keysOf = async (type: string) => {
  const [row] = await db.query("select example from integrations.webhook_event_types where type = $1", [
    type,
  ]);
  return Object.keys(row!.example as object).sort();
};

test("a cancelled creation is told, with the data of its example", async () => {
  const { id } = await db.request(brand);
  await db.user(brand.id).rpc("studio.cancel_creation", { creation_id: id });
  const [event] = await told();
  expect(event).toMatchObject({ type: "creation.cancelled", payload: { id, status: "cancelled" } });
  expect(Object.keys(event!.payload).sort()).toEqual(await keysOf("creation.cancelled"));
});

test.each([
  ["completed", "completed", { outcome: "completed", output: { result_paths: ["a/b/1.png"] } }],
  ["dead", "failed", { outcome: "failed", error: "provider_rejected: No.", retry: false }],
])("a creation whose job is %s is told once as %s", async (_, status, result) => {
  const { id } = await db.request(brand);
  const [job] = await db.query("select job_id from studio.creations where id = $1", [id]);
  await db.service.rpc("ops.claim_jobs", { worker: "w", max: 1000 });
  await db.service.rpc("ops.complete_jobs", { worker: "w", results: [{ id: job!.job_id, ...result }] });
  const events = (await told()).filter(({ payload }) => payload.id === id);
  expect(events).toMatchObject([{ type: `creation.${status}`, payload: { id, status } }]);
});

test("a member who joins is told, and the change that is undone is not", async () => {
  const [one, two] = [await db.createUser(), await db.createUser()];
  const insert =
    "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'member')";
  await db.query(insert, [brand.workspaceId, one.id]);
  const connection = await db.connect("superuser");
  await connection.begin();
  await connection.query(insert, [brand.workspaceId, two.id]);
  await connection.rollback();
  await connection.close();
  const events = await told();
  expect(events).toMatchObject([{ type: "member.joined", payload: { user_id: one.id, role: "member" } }]);
  expect(Object.keys(events[0]!.payload).sort()).toEqual(await keysOf("member.joined"));
});

test("a payment that succeeds is told once", async () => {
  await db.query(
    `insert into billing.payments (workspace_id, amount_minor, currency, kind) values ($1, 500, 'USD', 'subscription')`,
    [brand.workspaceId],
  );
  await db.query(
    "update billing.payments set status = 'succeeded', paid_at = now() where workspace_id = $1",
    [brand.workspaceId],
  );
  await db.query(
    "update billing.payments set status = 'succeeded', receipt_url = 'x' where workspace_id = $1",
    [brand.workspaceId],
  );
  const events = await told();
  expect(events).toMatchObject([{ type: "payment.succeeded", payload: { amount_minor: 500 } }]);
  expect(Object.keys(events[0]!.payload).sort()).toEqual(await keysOf("payment.succeeded"));
});

test("a payment that is stored as succeeded, as those of subscriptions are, is told, too", async () => {
  await db.query(
    `insert into billing.payments (workspace_id, amount_minor, currency, kind, status, paid_at)
      values ($1, 700, 'USD', 'subscription', 'succeeded', now())`,
    [brand.workspaceId],
  );
  expect(await told()).toMatchObject([{ type: "payment.succeeded", payload: { amount_minor: 700 } }]);
});

test("a payment that fails twice is told twice, then that it succeeded", async () => {
  await db.query(
    "insert into billing.payments (workspace_id, amount_minor, currency, kind) values ($1, 500, 'USD', 'subscription')",
    [brand.workspaceId],
  );
  for (const [status, code] of [
    ["failed", "card_declined"],
    ["processing", null],
    ["failed", "expired_card"],
    ["succeeded", null],
  ]) {
    await db.query(
      "update billing.payments set status = $2, error_code = $3, paid_at = case $2 when 'succeeded' then now() end where workspace_id = $1",
      [brand.workspaceId, status, code],
    );
  }
  const events = await told();
  expect(events.map(({ type, payload }) => [type, payload.error_code])).toEqual([
    ["payment.failed", "card_declined"],
    ["payment.failed", "expired_card"],
    ["payment.succeeded", null],
  ]);
  expect(Object.keys(events[0]!.payload).sort()).toEqual(await keysOf("payment.failed"));
});

test("a payout is told when it is paid, and when the bank returns it", async () => {
  const [payout] = await db.query(
    `with account as (
        insert into billing.payout_accounts (workspace_id, country) values ($1, 'US') returning id)
      insert into billing.payouts (workspace_id, payout_account_id, amount_minor, currency, key, provider_account_id)
      select $1, id, 500, 'USD', 'k', 'acct_1' from account returning id`,
    [brand.workspaceId],
  );
  const change = (set: string) => db.query(`update billing.payouts set ${set} where id = $1`, [payout!.id]);
  await change("status = 'transferred', provider_transfer_id = 'tr_1'");
  await change("status = 'paid', settled_minor = 500, finished_at = now()");
  await change("bank_status = 'paid'");
  await change("status = 'failed', settled_minor = 0, returned_minor = 500, failure_code = 'account_closed'");
  const events = await told();
  expect(events).toMatchObject([
    { type: "payout.paid", payload: { id: payout!.id, amount_minor: 500, settled_minor: 500 } },
    { type: "payout.failed", payload: { returned_minor: 500, failure_code: "account_closed" } },
  ]);
  expect(Object.keys(events[0]!.payload).sort()).toEqual(await keysOf("payout.paid"));
});

describe("subscription.changed", () => {
  const subscribe = async () => {
    const [row] = await db.query(
      `insert into billing.subscriptions (workspace_id, app, plan_id, status, current_period_start, current_period_end)
        select $1, p.app, p.id, 'active', now(), now() + interval '1 month' from billing.plans p
        where p.app = 'amplify' order by p.slug limit 1 returning id`,
      [brand.workspaceId],
    );
    return row!.id as string;
  };
  const change = (id: string, set: string) =>
    db.query(`update billing.subscriptions set ${set} where id = $1`, [id]);

  test("is told when it begins, with the data of its example, and what was before when it changes", async () => {
    const id = await subscribe();
    await change(id, "status = 'past_due'");
    const [begun, late] = await told();
    expect(begun).toMatchObject({
      type: "subscription.changed",
      payload: { id, app: "amplify", status: "active", previous: null },
    });
    expect(late!.payload).toMatchObject({ status: "past_due", previous: { status: "active" } });
    expect(Object.keys(late!.payload).sort()).toEqual(await keysOf("subscription.changed"));
    expect(Object.keys(late!.payload.previous).sort()).toEqual(["plan", "status"]);
  });

  test("is told of a cancellation and its end, not of a period that follows another", async () => {
    const id = await subscribe();
    await change(
      id,
      "current_period_start = current_period_end, current_period_end = current_period_end + interval '1 month'",
    );
    await change(id, "cancel_at_period_end = true, cancel_at = current_period_end, cancelled_at = now()");
    await change(id, "status = 'cancelled', ended_at = now()");
    const events = (await told()).slice(1);
    expect(events.map(({ payload }) => [payload.status, payload.cancel_at_period_end])).toEqual([
      ["active", true],
      ["cancelled", true],
    ]);
  });

  test("is one for all changes of a transaction, and none when they are taken back", async () => {
    const id = await subscribe();
    const connection = await db.connect("superuser");
    const together = async (...sets: string[]) => {
      await connection.begin();
      for (const set of sets)
        await connection.query(`update billing.subscriptions set ${set} where id = '${id}'`);
      await connection.commit();
    };
    await together("status = 'past_due'", "status = 'unpaid'");
    await together("status = 'paused'", "status = 'unpaid'");
    await connection.close();
    const events = (await told()).slice(1);
    expect(events).toMatchObject([{ payload: { status: "unpaid", previous: { status: "active" } } }]);
  });
});

describe("credits.low", () => {
  const move = (sets: string) =>
    db.query(`update billing.wallets set ${sets} where workspace_id = $1`, [brand.workspaceId]);
  const threshold = (amount_micro: number | null, who = brand.id) =>
    db.user(who).call("billing.set_low_balance_threshold", { workspace_id: brand.workspaceId, amount_micro });
  const low = async () => (await told()).filter(({ type }) => type === "credits.low");

  test("is told once for each crossing downwards", async () => {
    await move("prepaid_micro = 1000, lots_micro = 0, allowance_micro = 0");
    await threshold(500);
    await move("prepaid_micro = 600");
    expect(await low()).toEqual([]);
    await move("prepaid_micro = 400");
    await move("prepaid_micro = 300");
    expect(await low()).toEqual([
      { type: "credits.low", payload: { available_micro: 400, threshold_micro: 500 } },
    ]);
    await move("prepaid_micro = 500");
    await move("prepaid_micro = 499");
    expect(await low()).toHaveLength(2);
  });

  test("is judged at the end of the transaction", async () => {
    await move("prepaid_micro = 0, lots_micro = 0, allowance_micro = 1000");
    await threshold(500);
    const connection = await db.connect("superuser");
    const each = async (...amounts: number[]) => {
      await connection.begin();
      for (const amount of amounts) {
        await connection.query("update billing.wallets set allowance_micro = $2 where workspace_id = $1", [
          brand.workspaceId,
          amount,
        ]);
      }
      await connection.commit();
    };
    await each(0, 1000);
    expect(await low()).toEqual([]);
    await each(400, 1000, 300);
    expect(await low()).toMatchObject([{ payload: { available_micro: 300 } }]);
    await connection.close();
  });

  test("has a threshold that admins set and that may be taken away", async () => {
    const editor = await db.createUser();
    await db.query(
      "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, 'editor')",
      [brand.workspaceId, editor.id],
    );
    await expectError(threshold(5, editor.id), "role_too_low", "PT403");
    await expectError(threshold(-1), "invalid_argument", "PT400");
    expect((await threshold(0)).low_balance_threshold_micro).toBe(0);
    expect((await threshold(null)).low_balance_threshold_micro).toBeNull();
  });
});

test("changes at once in a workspace with an ordered endpoint deadlock with nobody and lose no event", async () => {
  await db.user(brand.id).call("integrations.create_webhook_endpoint", {
    workspace_id: brand.workspaceId,
    url: "https://ordered.example.com/",
    ordered: true,
  });
  const [{ total }] = (await db.query(
    "select allowance_micro + lots_micro + prepaid_micro as total from billing.wallets where workspace_id = $1",
    [brand.workspaceId],
  )) as [{ total: number }];
  await db
    .user(brand.id)
    .call("billing.set_low_balance_threshold", { workspace_id: brand.workspaceId, amount_micro: total });
  const creations = await Promise.all(Array.from({ length: 8 }, () => db.request(brand)));
  await Promise.all(
    creations.map(({ id }) => db.user(brand.id).rpc("studio.cancel_creation", { creation_id: id })),
  );
  const events = await told();
  expect(events.filter(({ type }) => type === "credits.low")).toHaveLength(1);
  expect(events.filter(({ type }) => type === "creation.cancelled")).toHaveLength(8);
  const waiting = await db.query(
    `select count(*) filter (where d.job_id is not null) as jobs, count(*) as all
      from integrations.webhook_deliveries d join integrations.webhook_endpoints e on e.id = d.endpoint_id
      where e.workspace_id = $1 and e.ordered`,
    [brand.workspaceId],
  );
  expect(waiting).toEqual([{ jobs: 1, all: 9 }]);
});
