// A cap as those meet it who ask for work: the request is refused as a whole, and goes on when the cap is raised.
import { beforeAll, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import { createStudio, price, type Studio } from "../studio/studio.ts";

let db: Studio;
beforeAll(async () => {
  db = await createStudio();
  await db.query("alter table billing.usage_events alter column created_at set default private.now()");
});

const counted = () => db.service.rpc("billing.verify_budgets");

test("a creation that would pass the cap is not begun, and is when the cap is raised", async () => {
  const brand = await db.brand();
  const cap = (limit_micro: number) =>
    db.user(brand.id).call("billing.set_budget", { workspace_id: brand.workspaceId, limit_micro });
  await cap(price * 2 - 1);
  const first = await db.request(brand);
  const { facts } = await expectError(db.request(brand), "spend_cap_reached", "PT403");
  expect(facts).toMatchObject({ held_micro: price, required_micro: price, left_micro: price - 1 });
  const made = () =>
    db.query(
      `select (select count(*)::int from studio.creations where workspace_id = $1) as creations,
        (select count(*)::int from ops.jobs where workspace_id = $1) as jobs,
        (select count(*)::int from billing.usage_events where workspace_id = $1) as charges`,
      [brand.workspaceId],
    );
  expect(await made()).toEqual([{ creations: 1, jobs: 1, charges: 1 }]);
  await cap(price * 2);
  await db.request(brand);
  expect(await made()).toEqual([{ creations: 2, jobs: 2, charges: 2 }]);
  await db.finish([first]);
  expect(await counted()).toEqual([]);
});

test("a creation that fails gives its part of the cap back", async () => {
  const brand = await db.brand();
  await db.user(brand.id).call("billing.set_budget", { workspace_id: brand.workspaceId, limit_micro: price });
  const creation = await db.request(brand);
  await expectError(db.request(brand), "spend_cap_reached");
  await db.jobs.claim("w", { max: 10 });
  const error = "provider_rejected: No person can be seen.";
  await db.jobs.complete("w", [{ id: creation.job_id, outcome: "failed", error, retry: false }]);
  await db.request(brand);
  expect(await counted()).toEqual([]);
});

test("a member's cap stops the member's creations, not the owner's", async () => {
  const brand = await db.brand();
  const member = await db.join(brand.workspaceId, "member");
  await db
    .user(brand.id)
    .call("billing.set_budget", { workspace_id: brand.workspaceId, limit_micro: price, user_id: member.id });
  const asMember = { ...brand, id: member.id };
  await db.request(asMember);
  expect((await expectError(db.request(asMember), "spend_cap_reached")).facts.user_id).toBe(member.id);
  await db.request(brand);
  expect(await counted()).toEqual([]);
});
