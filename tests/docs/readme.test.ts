import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDatabase } from "../../functions/_shared/db.ts";
import { createLog } from "../../functions/_shared/log.ts";
import { platformLimits, Worker } from "../../functions/worker/worker.ts";
import { createTestDatabase } from "../helpers/database.ts";
import { blocks } from "./blocks.ts";

const root = join(import.meta.dirname, "../..");
const readme = await readFile(join(root, "README.md"), "utf8");
const db = await createTestDatabase();
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "backlot-readme-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** The code blocks under a heading, in order. */
const under = (title: string) => blocks(readme).filter(({ heading }) => heading === title);

test("the README's job kind works as it stands there", async () => {
  const [migration, handler, enqueue] = under("Add your own job kind");
  expect([migration, handler, enqueue].map((block) => block?.language)).toEqual(["sql", "ts", "sql"]);
  expect(migration!.code.split("\n").length + handler!.code.split("\n").length).toBeLessThanOrEqual(30);

  // as the role that owns the rest, which applies migrations
  await db.query(`begin; set local role postgres; ${migration!.code}; commit`);
  const file = join(folder, "describe.ts");
  const job = pathToFileURL(join(root, "functions/worker/job.ts")).href;
  await writeFile(file, handler!.code.replace("../job.ts", job));
  const { describe } = await import(pathToFileURL(file).href);

  const { workspaceId } = await db.createUser();
  const [garment] = await db.query(
    `insert into studio.wardrobe_garments (workspace_id, storage_path, filename, name, tags)
      values ($1::uuid, $1::uuid || '/shirt.png', 'shirt.png', 'Shirt', '{red,warm}') returning id`,
    [workspaceId],
  );
  const first = await db.service.query(enqueue!.code, [garment!.id, workspaceId]);
  const again = await db.service.query(enqueue!.code, [garment!.id, workspaceId]);
  expect(again).toEqual([{ ...first[0], created: false }]);

  const database = createDatabase({ url: db.url, name: "readme", most: 2 });
  const limits = { ...platformLimits, idleMs: 50, pollMs: 10 };
  const worker = new Worker({
    db: database,
    handlers: { "studio.describe": describe },
    log: createLog({}, () => {}),
    limits,
    handOn: () => {},
  });
  await worker.begin();
  expect(await worker.work()).toMatchObject({ claimed: 1, results: { completed: 1 } });
  await database.end();

  const [row] = await db.query("select description from studio.wardrobe_garments where id = $1", [
    garment!.id,
  ]);
  expect(row).toEqual({ description: "Shirt, red and warm." });
});

test("the README leads to every page, and no link of any page leads nowhere", async () => {
  const pages = (await readdir(join(root, "docs"))).filter((name) => name.endsWith(".md"));
  expect(pages.filter((name) => !readme.includes(`](docs/${name})`))).toEqual([]);
  const dead: string[] = [];
  const screens = (await readdir(join(root, "docs/selify"))).map((name) => `docs/selify/${name}`);
  for (const file of ["README.md", ...pages.map((name) => `docs/${name}`), ...screens]) {
    const text = await readFile(join(root, file), "utf8");
    for (const [, path, anchor] of text.matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)/g)) {
      const target = path ? join(root, file, "..", path) : join(root, file);
      const found = await readFile(target, "utf8").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "EISDIR") return "";
        if (error.code === "ENOENT") return undefined;
        throw error;
      });
      const headings = [...(found ?? "").matchAll(/^#+ (.*)$/gm)].map(([, title]) => slug(title!));
      if (found === undefined || (anchor && !headings.includes(anchor)))
        dead.push(`${file}: ${path}#${anchor ?? ""}`);
    }
  }
  expect(dead).toEqual([]);
});

/** A heading's anchor, as the forges make it. */
function slug(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");
}
