import type { Database, Statement } from "../db.ts";

/** A training as its job needs it. */
export interface Training {
  id: string;
  workspace_id: string;
  images: { bucket: string; path: string }[];
  trigger_word: string;
  steps: number;
  status: "pending" | "training" | "completed" | "failed" | "cancelled";
  lora_path: string | null;
  error_message: string | null;
}

const find: Statement = {
  name: "lora_training",
  text: `select id, workspace_id, images, trigger_word, steps, status, lora_path, error_message
    from studio.lora_trainings where id = $1`,
  repeatable: true,
};

/** A training, or null when it has been deleted. */
export async function findTraining(db: Database, id: string): Promise<Training | null> {
  const [training] = await db.rows<Training>(find, [id]);
  return training ?? null;
}

/** The weights that a creation is made with: a file in the bucket studio-loras. */
export interface Lora {
  path: string;
  scale: number;
}

const ofCreation: Statement = {
  name: "lora_of_creation",
  text: `select t.lora_path as path, c.lora_scale::float8 as scale
    from studio.persona_creations c join studio.lora_trainings t on t.id = c.lora_training_id
    where c.creation_id = $1`,
  repeatable: true,
};

/** The weights a creation is to be made with, or null when it is of no trained persona. */
export async function findLora(db: Database, creationId: string): Promise<Lora | null> {
  const [lora] = await db.rows<Lora>(ofCreation, [creationId]);
  return lora ?? null;
}
