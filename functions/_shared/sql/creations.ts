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

const find: Statement = {
  name: "creation",
  text: `select id, workspace_id, creation_type, garment_path, model_storage_path, prompt, quality, category, num_outputs,
      settings, status, result_paths, error_code, error_message
    from studio.creations where id = $1`,
  repeatable: true,
};

/** A creation, or null when it has been deleted. */
export async function findCreation(db: Database, id: string): Promise<Creation | null> {
  const [creation] = await db.rows<Creation>(find, [id]);
  return creation ?? null;
}
