import type { Database, Statement } from "../db.ts";
import type { Json } from "./queue.ts";

/** What a provider is asked to make. */
export interface Creation {
  id: string;
  workspace_id: string;
  creation_type: string;
  garment_path: string | null;
  model_storage_path: string | null;
  prompt: string | null;
  quality: "fast" | "balanced" | "high" | "ultra";
  category: "upper_body" | "lower_body" | "dresses";
  num_outputs: number;
  settings: Json;
  status: "pending" | "processing" | "completed" | "failed" | "cancelled";
  result_paths: string[];
  error_code: string | null;
  error_message: string | null;
}

/** A creation as its row says it is to be made now: by whom, and with which model. */
export interface PlannedCreation extends Creation {
  provider: string;
  provider_model: string;
  /** False: it has been switched off, and begins nothing more. */
  provider_enabled: boolean;
  /** Outputs of one run of the model; null when its row is gone. */
  max_outputs: number | null;
  output_kind: "image" | "video";
}

const find: Statement = {
  name: "creation",
  text: `select c.id, c.workspace_id, c.creation_type, c.garment_path, c.model_storage_path, c.prompt, c.quality,
      c.category, c.num_outputs, c.settings, c.provider, c.provider_model, t.output_kind, c.status, c.result_paths,
      c.error_code, c.error_message, m.max_outputs,
      exists (select from studio.providers p where p.provider = c.provider and p.is_enabled) as provider_enabled
    from studio.creations c join studio.creation_types t on t.creation_type = c.creation_type
    left join studio.provider_models m on m.creation_type = c.creation_type and m.quality = c.quality
      and m.provider = c.provider and m.model = c.provider_model
    where c.id = $1`,
  repeatable: true,
};

/** A creation, or null when it has been deleted. */
export async function findCreation(db: Database, id: string): Promise<PlannedCreation | null> {
  const [creation] = await db.rows<PlannedCreation>(find, [id]);
  return creation ?? null;
}

const fallback: Statement = {
  name: "creation_has_fallback",
  text: "select studio.creation_has_fallback($1) as yes",
  repeatable: true,
};

/** Could another provider go on with it at this moment, if the present one gave up? */
export async function hasFallback(db: Database, id: string): Promise<boolean> {
  return (await db.row<{ yes: boolean }>(fallback, [id])).yes;
}

const close: Statement = {
  name: "close_provider",
  text: "select ops.close_limit_key('provider:' || $1, $2, $3) as until",
  repeatable: true,
};

/** No job of the provider begins for so many seconds: it asked all of us to wait. */
export async function closeProvider(
  db: Database,
  provider: string,
  seconds: number,
  reason: string,
): Promise<void> {
  await db.row(close, [provider, seconds, reason]);
}
