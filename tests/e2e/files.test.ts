import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { eventually, must, type Person, useStack } from "./stack.ts";

const s = useStack();
const picture = new Blob([new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10])], { type: "image/png" });

const gone = (bucket: string, paths: string[]) =>
  eventually(`the end of ${paths}`, async () => {
    const answers = await Promise.all(paths.map((path) => s.service.storage.from(bucket).download(path)));
    return answers.every(({ error }) => error !== null);
  });
const there = async (bucket: string, path: string) =>
  (await s.service.storage.from(bucket).download(path)).error === null;
const made = async (person: Person, more = {}) => {
  const { id } = await s.request(person, more);
  await s.ended(person, id);
  return eventually("the small copy", async () => {
    const row = must(
      await person.client.schema("studio").from("creations").select("*").eq("id", id).single(),
    );
    return row.thumbnail_path?.endsWith("thumbnail.webp") && row;
  });
};

test("what a person deletes leaves storage: results, small copies and the photo of the last that used it", async () => {
  const person = await s.person();
  const first = await made(person);
  const second = await made(person);
  const studio = person.client.schema("studio");
  must(await studio.from("creations").delete().eq("id", first.id).select("id"));
  await gone("studio-results", [...first.result_paths, first.thumbnail_path!]);
  expect(await there("studio-uploads", person.personPath)).toBe(true);
  expect(await there("studio-results", second.result_paths[0]!)).toBe(true);
  must(await studio.from("creations").delete().eq("id", second.id).select("id"));
  await gone("studio-uploads", [person.personPath]);

  const [garment] = must(await studio.from("wardrobe_garments").select("storage_path, thumbnail_path"));
  must(await studio.from("wardrobe_garments").delete().eq("id", person.garmentId).select("id"));
  await gone("studio-uploads", [garment!.storage_path]);
  if (garment!.thumbnail_path) await gone("studio-results", [garment!.thumbnail_path]);
}, 120_000);

test("an upload that no row took, and a result whose worker crashed, leave storage after a day", async () => {
  const person = await s.person();
  const upload = `${person.workspaceId}/forgotten.png`;
  const result = `${person.workspaceId}/${randomUUID()}/1.png`;
  must(await person.client.storage.from("studio-uploads").upload(upload, picture));
  must(await s.service.storage.from("studio-results").upload(result, picture));
  const sweep = async () => {
    await s.sql("update ops.file_buckets set next_pass_at = '-infinity', position = ''");
    await s.sql("select ops.sweep_files()");
  };
  await sweep();
  expect(await there("studio-uploads", upload)).toBe(true);
  await s.sql("update storage.objects set updated_at = now() - interval '25 hours' where name like $1", [
    `${person.workspaceId}/%`,
  ]);
  await sweep();
  await gone("studio-uploads", [upload]);
  await gone("studio-results", [result]);
  const [garment] = must(
    await person.client.schema("studio").from("wardrobe_garments").select("storage_path"),
  );
  expect(await there("studio-uploads", garment!.storage_path)).toBe(true);
}, 60_000);

test("who leaves takes all files along", async () => {
  const person = await s.person();
  const creation = await made(person);
  expect((await s.service.auth.admin.deleteUser(person.userId)).error).toBeNull();
  await gone("studio-results", [...creation.result_paths, creation.thumbnail_path!]);
  await eventually("an empty folder", async () => {
    const left = await s.sql("select from storage.objects where name like $1", [`${person.workspaceId}/%`]);
    return left.length === 0;
  });
}, 60_000);
