import { expect, test } from "vitest";
import { adviseOn } from "../../scripts/advisors.ts";
import { createTestDatabase } from "../helpers/database.ts";

test("the platform's advisors find no error and no warning", async () => {
  const db = await createTestDatabase({ from: "plain" });
  expect(await adviseOn(db.ownerUrl)).toEqual([]);
});
