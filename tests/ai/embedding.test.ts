import { expect, test } from "vitest";
import { createTestDatabase } from "../helpers/database.ts";
import { expectError } from "../helpers/errors.ts";

const db = await createTestDatabase();

/** An SQL expression of an embedding whose i-th number is the expression given. */
const embedding = (expression: string) =>
  `(select array_agg((${expression})::real order by i) from generate_series(1, 1536) as i)::real[]::ai.embedding`;
const distance = async (a: string, b: string) => {
  const [row] = await db.query(`select ai.cosine_distance(${embedding(a)}, ${embedding(b)}) as distance`);
  return row?.distance;
};

test("an embedding has exactly 1,536 numbers", async () => {
  await expectError(db.query("select array[1, 2, 3]::real[]::ai.embedding"), "23514");
  await expectError(db.query("select array_fill(null::real, array[1536])::ai.embedding"), "23514");
  await expectError(db.query("select array_fill(1::real, array[2, 768])::ai.embedding"), "23514");
});

test("the cosine distance is 0 for the same, 1 for an unrelated and 2 for the opposite direction", async () => {
  expect(await distance("i", "2 * i")).toBeCloseTo(0, 6);
  expect(await distance("i % 2", "(i + 1) % 2")).toBeCloseTo(1, 6);
  expect(await distance("i", "-i")).toBeCloseTo(2, 6);
});

test("a vector of zeros has no direction, so no distance", async () => {
  expect(await distance("0", "i")).toBeNull();
});

test("without pgvector no index is built, and the migration is told so", async () => {
  await db.query("create table ai.notes (id integer primary key, embedding ai.embedding)");
  expect(await db.query("select private.create_embedding_index('ai.notes', 'embedding') as built")).toEqual([
    { built: false },
  ]);
});
