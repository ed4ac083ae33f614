import { describe, expect, test } from "vitest";
import { expectError } from "../helpers/errors.ts";
import type { Row } from "../helpers/session.ts";
import { ann, db } from "./again-stage.ts";
import { price } from "./studio.ts";
import { openShop, visits } from "./vr.ts";

async function fail({ job_id: id }: Row): Promise<void> {
  await db.claim();
  await db.jobs.complete("w", [{ id, outcome: "failed", retry: false, error: "provider_rejected: no" }]);
}
const retry = ({ id }: Row): Promise<Row> =>
  db.user(ann.id).call("studio.retry_creation", { creation_id: id });
const replay = ({ job_id }: Row) => db.service.call("ops.replay_job", { id: job_id });
const completed = () =>
  db.query("select cost_micro from studio.creations where workspace_id = $1 and status = 'completed'", [
    ann.workspaceId,
  ]);

describe("a failed creation that its owner tries again", () => {
  test("is not replayed beside that", async () => {
    const failed = await db.request(ann);
    await fail(failed);
    const again = await retry(failed);
    await expectError(replay(failed), "creation_went_on", "PT409");
    await fail(again);
    await replay(again);
    await db.finish([again]);
    expect(await completed()).toEqual([{ cost_micro: price }]);
  });

  test("at the moment at which an operator replays it is made and charged once", async () => {
    for (let round = 0; round < 6; round++) {
      const failed = await db.request(ann);
      await fail(failed);
      const ways = [retry(failed), replay(failed)];
      const ended = await Promise.allSettled(round % 2 ? ways : ways.reverse());
      expect(ended.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
      await db.finish(
        await db.query("select * from studio.creations where completed_at is null and workspace_id = $1", [
          ann.workspaceId,
        ]),
      );
      expect(await completed()).toHaveLength(round + 1);
    }
  });
});

test("a visitor's try-on that failed and was replayed counts by its last end, on the day of each", async () => {
  const shop = await openShop(db, ann);
  const visit = visits(db);
  const tryon = await visit.tryon(shop, await visit.photo(shop));
  const [creation] = await db.query("select * from studio.creations where id = $1", [tryon.creation_id]);
  const figures = async () => ({
    ...(
      await db.query("select total_successful, total_failed from studio.vr_shop_tokens where id = $1", [
        shop.tokenId,
      ])
    )[0],
    days: await db.query(
      "select tryons, successful, failed, cost_micro from studio.vr_token_usage where token_id = $1 order by day",
      [shop.tokenId],
    ),
  });
  const asked = { tryons: 1, successful: 0, failed: 0, cost_micro: 0 };
  await fail(creation!);
  expect(await figures()).toEqual({ total_successful: 0, total_failed: 1, days: [{ ...asked, failed: 1 }] });
  await db.advanceClock("13 hours");
  await replay(creation!);
  expect(await figures()).toEqual({ total_successful: 0, total_failed: 0, days: [asked] });
  await db.finish([creation!]);
  expect(await figures()).toEqual({
    total_successful: 1,
    total_failed: 0,
    days: [asked, { tryons: 0, successful: 1, failed: 0, cost_micro: price }],
  });
});
