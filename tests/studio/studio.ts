import { randomUUID } from "node:crypto";
import { createTestDatabase, type TestDatabase, type TestDatabaseOptions } from "../helpers/database.ts";
import type { Row } from "../helpers/session.ts";
import type { TestUser } from "../helpers/users.ts";
import { makeQueue, noon, type Queue } from "../ops/queue.ts";

/** What one output costs, in micro-units. */
export const price = 2298;

/** A person with credits, a garment and a model in their own workspace. */
export interface Brand extends TestUser {
  garmentId: string;
  modelId: string;
  personPath: string;
}

export interface Studio extends TestDatabase {
  jobs: Queue;
  brand(credits?: number): Promise<Brand>;
  /** Stores the row of an uploaded picture and gives its path. */
  upload(
    workspaceId: string,
    options?: { path?: string; mimetype?: string | null; bucket?: string },
  ): Promise<string>;
  join(workspaceId: string, role: string): Promise<TestUser>;
  request(brand: Brand, more?: Record<string, unknown>): Promise<Row>;
  creation(id: string): Promise<Row>;
  charge(creation: Row): Promise<Row>;
  balance(workspaceId: string): Promise<Row>;
  /** Claims and ends the jobs of these creations, each with as many pictures as it asked for, or as given. */
  finish(creations: Row[], pictures?: number): Promise<Record<number, string>>;
  claim(): Promise<Row[]>;
}

export async function createStudio(options?: TestDatabaseOptions): Promise<Studio> {
  const db = await createTestDatabase(options);
  const jobs = makeQueue(db.service);
  await db.query("update ops.sweeps set next_run_at = 'infinity'");

  const upload: Studio["upload"] = async (workspaceId, { path, mimetype = "image/png", bucket } = {}) => {
    const name = path ?? `${workspaceId}/${randomUUID()}.png`;
    await db.query("insert into storage.objects (bucket_id, name, metadata) values ($1, $2, $3)", [
      bucket ?? "studio-uploads",
      name,
      mimetype === null ? null : JSON.stringify({ mimetype, size: 1000 }),
    ]);
    return name;
  };

  async function brand(credits = 100 * price): Promise<Brand> {
    const user = await db.createUser();
    const workspace_id = user.workspaceId;
    if (credits > 0) {
      const grant = { workspace_id, amount_micro: credits, kind: "promotion", key: randomUUID() };
      await db.service.rpc("billing.grant_credits", grant);
    }
    const [garmentPath, modelPath, personPath] = await Promise.all([1, 2, 3].map(() => upload(workspace_id)));
    const [garment] = await db.query(
      `insert into studio.wardrobe_garments (workspace_id, storage_path, filename) values ($1, $2, 'shirt.png')
      returning id`,
      [workspace_id, garmentPath],
    );
    const [model] = await db.query(
      "insert into studio.models (workspace_id, storage_path) values ($1, $2) returning id",
      [workspace_id, modelPath],
    );
    return { ...user, garmentId: garment!.id, modelId: model!.id, personPath: personPath! };
  }

  const creation: Studio["creation"] = async (id) =>
    (await db.query("select * from studio.creations where id = $1", [id]))[0]!;

  return {
    ...db,
    jobs,
    upload,
    brand,
    creation,
    join: async (workspaceId, role) => {
      const user = await db.createUser();
      await db.query(
        "insert into identity.workspace_members (workspace_id, user_id, role) values ($1, $2, $3)",
        [workspaceId, user.id, role],
      );
      return user;
    },
    request: (brand, more = {}) => db.user(brand.id).call("studio.request_creation", tryon(brand, more)),
    charge: async ({ usage_event_id }) =>
      (await db.query("select * from billing.usage_events where id = $1", [usage_event_id]))[0]!,
    balance: (workspace_id) => db.service.call("billing.balance", { workspace_id }),
    claim: () => jobs.claim("w", { max: 100 }),
    finish: async (creations, pictures) => {
      await jobs.claim("w", { max: 100 });
      return jobs.complete(
        "w",
        creations.map((c) => ({ id: c.job_id, output: { result_paths: resultPaths(c, pictures) } })),
      );
    },
  };
}

export function tryon(brand: Brand, more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    workspace_id: brand.workspaceId,
    creation_type: "tryon",
    garment_id: brand.garmentId,
    model_id: "input_path" in more ? undefined : brand.modelId,
    ...more,
  };
}

export function resultPaths(creation: Row, pictures: number = creation.num_outputs): string[] {
  return Array.from({ length: pictures }, (_, n) => `${creation.workspace_id}/${creation.id}/${n + 1}.png`);
}

/** A row for each creation that is not in step with its charge and its job; none when all are. */
export const inconsistent = `
  select c.id, c.status, u.status as charge, u.captured_micro, c.cost_micro, j.state
  from studio.creations c
  left join billing.usage_events u on u.id = c.usage_event_id
  left join ops.jobs j on j.id = c.job_id
  where (case c.status
    when 'completed' then u.status = 'captured' and u.captured_micro = c.cost_micro and j.state = 'completed'
    when 'failed' then u.status = 'released' and j.state = 'dead'
    when 'cancelled' then u.status = 'released' and j.state = 'cancelled'
    else u.status = 'held' and j.finished_at is null end) is not true`;

export { noon };
