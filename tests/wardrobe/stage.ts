import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import sharp from "sharp";
import type { Database } from "../../functions/_shared/db.ts";
import { createApp } from "../../functions/worker/app.ts";
import { pictureHandlers } from "../../functions/worker/handlers/pictures.ts";
import { type Handlers, JobError } from "../../functions/worker/job.ts";
import { createPictures } from "../../functions/worker/pictures/magick.ts";
import type { Storage } from "../../functions/worker/storage.ts";
import { platformLimits } from "../../functions/worker/worker.ts";
import { workerReport } from "../../types/contracts.ts";
import { keptLog } from "../functions/harness.ts";
import type { TestDatabase } from "../helpers/database.ts";

const main = createRequire(import.meta.url).resolve("@imagemagick/magick-wasm");
export const pictures = createPictures(() => readFile(join(main, "../x86/magick.wasm")));

/** A plain picture of one colour, in whatever form. */
export function picture(
  width = 300,
  height = 400,
  form: "png" | "jpeg" | "webp" = "png",
  alpha = 1,
): Promise<Uint8Array<ArrayBuffer>> {
  const background = { r: 180, g: 40, b: 40, alpha };
  return sharp({ create: { width, height, channels: alpha < 1 ? 4 : 3, background } })
    .toFormat(form)
    .toBuffer()
    .then((buffer) => new Uint8Array(buffer));
}

/** Storage and outside addresses in memory, and a worker of the wardrobe's kinds. */
export function createStage(
  testDb: TestDatabase,
  db: Database,
  more: (stage: Stage) => Handlers = () => ({}),
) {
  const objects = new Map<string, { bytes: Uint8Array; contentType: string }>();
  const outside = new Map<string, () => Response | Promise<Response>>();
  const { log, lines } = keptLog();
  const storage: Storage = {
    signedUrl: async (bucket, path) => {
      if (!objects.has(`${bucket}/${path}`))
        throw new JobError("unknown_image", `There is no picture "${path}" any more, or not yet.`, {
          retry: false,
        });
      return `https://storage.test/${bucket}/${path}`;
    },
    upload: async (bucket, path, bytes, contentType) => {
      objects.set(`${bucket}/${path}`, { bytes, contentType });
    },
  };
  const fetcher: typeof fetch = async (input) => {
    const url = new URL(String(input));
    const known = outside.get(url.href)?.();
    if (known) return known;
    const object = objects.get(url.pathname.slice(1));
    if (url.host !== "storage.test" || !object) return new Response("no", { status: 404 });
    return new Response(new Uint8Array(object.bytes));
  };
  const stage = { objects, outside, storage, fetch: fetcher, log, lines };
  const handlers = {
    ...pictureHandlers({ storage, pictures, shopFiles: [new URL("https://cdn.shop.test")], fetch: fetcher }),
    ...more(stage),
  };
  const limits = { ...platformLimits, idleMs: 0, pollMs: 5 };
  const app = createApp({ db, log, secretKeys: ["key"], handOn: () => {}, limits, handlers });

  return {
    ...stage,
    /** One turn of the sweeps, then of the worker. */
    async work() {
      await testDb.service.call("studio.enqueue_picture_work", {});
      const response = await app.request("/worker", { method: "POST", headers: { apikey: "key" } });
      return workerReport.parse(await response.json());
    },
    /** Puts a file into the bucket of uploads. */
    async upload(workspaceId: string, bytes: Uint8Array, name: string = randomUUID(), type = "image/png") {
      const path = `${workspaceId}/${name}`;
      objects.set(`studio-uploads/${path}`, { bytes, contentType: type });
      await testDb.query(
        `insert into storage.objects (bucket_id, name, metadata) values ('studio-uploads', $1, $2)
        on conflict do nothing`,
        [path, JSON.stringify({ mimetype: type, size: bytes.length })],
      );
      return path;
    },
    async addGarment(user: { id: string; workspaceId: string }, path: string): Promise<string> {
      const [garment] = await testDb
        .user(user.id)
        .query(
          "insert into studio.wardrobe_garments (workspace_id, storage_path, filename) values ($1, $2, 'a') returning id",
          [user.workspaceId, path],
        );
      return garment!.id;
    },
    async garment(id: string) {
      return (await testDb.query("select * from studio.wardrobe_garments where id = $1", [id]))[0]!;
    },
  };
}
export type Stage = Pick<Awaited<ReturnType<typeof createStage>>, "storage" | "fetch" | "outside" | "log">;
