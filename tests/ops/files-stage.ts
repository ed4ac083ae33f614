import { afterAll, beforeEach } from "vitest";
import { fileHandlers } from "../../functions/worker/handlers/remove-files.ts";
import { waiting } from "../../functions/worker/job.ts";
import type { FileRemover } from "../../functions/worker/storage.ts";
import { functionsDatabase, keptLog, workOff, workOnce } from "../functions/harness.ts";
import { clearJobs } from "../helpers/jobs.ts";
import type { Row } from "../helpers/session.ts";
import { type Brand, createStudio } from "../studio/studio.ts";

export const studio = await createStudio();
const functionsDb = functionsDatabase(studio);
// The storage API's own way to its table, which no one else has.
const storageApi = await studio.connect("service");
afterAll(() => storageApi.close());
await storageApi.query("select set_config('storage.allow_delete_query', 'true', false)");

/** A person with a wardrobe, new for each test. */
export let ann: Brand;
/** How often storage says no before it deletes. */
export let trouble = 0;
export const breakStorage = (times: number) => {
  trouble = times;
};
beforeEach(async () => {
  trouble = 0;
  await studio.query(clearJobs);
  await storageApi.query("delete from storage.objects");
  await studio.query("update ops.file_buckets set position = '', next_pass_at = '-infinity'");
  ann = await studio.brand();
});

let turn: Promise<unknown> = Promise.resolve();
const storage: FileRemover = {
  remove: async (bucket, paths) => {
    // Storage answers well and leaves the files: the worker asks whether they are gone.
    if (trouble > 0) {
      trouble -= 1;
      return;
    }
    const removal = "delete from storage.objects where bucket_id = $1 and name = any ($2)";
    // jobs run side by side, the connection takes one statement at a time
    turn = turn.then(() => storageApi.query(removal, [bucket, paths]));
    await turn;
  },
};

/** Does what is due about files; `seconds`: as if so many had passed, again and again. */
export async function removeFiles(seconds = 2): Promise<void> {
  const { log } = keptLog();
  const handlers = {
    ...fileHandlers({ storage }),
    "studio.creation": async () => waiting({ poll_in: 86_400 }),
  };
  await workOff(studio, () => workOnce({ db: functionsDb, handlers, log }), { seconds, kinds: "storage.%" });
}

/** Stores objects; `age`: written so long ago. */
export async function store(bucket: string, paths: string[], age = "0"): Promise<string[]> {
  await studio.query(
    `insert into storage.objects (bucket_id, name, metadata, created_at, updated_at)
      select $1, p, '{"mimetype": "image/png", "size": 1000}', now() - $3::interval, now() - $3::interval
      from unnest($2::text[]) p`,
    [bucket, paths, age],
  );
  return paths;
}

/** Names of all objects of a workspace, sorted. */
export async function filesOf(workspaceId: string): Promise<string[]> {
  const rows = await studio.query(
    `select bucket_id || ':' || substr(name, 38) as file from storage.objects
      where name like $1 || '/%' order by bucket_id, name collate "C"`,
    [workspaceId],
  );
  return rows.map(({ file }) => file);
}

/** Only one of the objects: by its whole path. */
export const has = async (bucket: string, path: string) =>
  (await studio.query("select from storage.objects where bucket_id = $1 and name = $2", [bucket, path]))
    .length > 0;

/** A creation that has ended, with its results and small copy in storage. */
export async function made(brand: Brand, more: Record<string, unknown> = {}): Promise<Row> {
  const creation = await studio.request(brand, more);
  await studio.finish([creation]);
  const thumbnail = `${brand.workspaceId}/${creation.id}/thumbnail.webp`;
  await studio.query("update studio.creations set thumbnail_path = $2 where id = $1", [
    creation.id,
    thumbnail,
  ]);
  const row = await studio.creation(creation.id);
  await store("studio-results", [...row.result_paths, thumbnail]);
  return row;
}

export const modelPath = async (brand: Brand): Promise<string> =>
  (await studio.query("select storage_path from studio.models where id = $1", [brand.modelId]))[0]!
    .storage_path;
