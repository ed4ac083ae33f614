import { expect, test } from "vitest";
import { docsFolder, generateDocs } from "../../scripts/docs.ts";
import { outdated } from "../../scripts/generated.ts";
import { generateTypes } from "../../scripts/types.ts";
import { createTestDatabase } from "../helpers/database.ts";

const db = await createTestDatabase({ from: "plain" });

test("the database types are those of the migrations (npm run types)", async () => {
  expect(await outdated(await generateTypes(db.ownerUrl))).toEqual([]);
});

test("the reference is that of the migrations (npm run docs)", async () => {
  expect(await outdated(await generateDocs(db.ownerUrl), [docsFolder])).toEqual([]);
});
