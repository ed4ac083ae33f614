// The settings of creations, as studio.creation_settings describes them to clients.

import { z } from "zod";
import type { Creation } from "../../_shared/sql/creations.ts";
import { JobError } from "../job.ts";

const settings = z.object({
  seed: z.number().int().min(0).max(4_294_967_295).nullish(),
  scale: z.number().min(1).max(8).nullish(),
  strength: z.number().min(0.01).max(1).nullish(),
  aspect_ratio: z.enum(["1:1", "4:3", "3:4", "16:9", "9:16"]).nullish(),
  duration: z.union([z.literal(5), z.literal(10)]).nullish(),
  color: z.string().max(60).nullish(),
  garment_description: z.string().max(500).nullish(),
});
export type Settings = z.infer<typeof settings>;

/** Checked when the creation was requested; read once more, because a row may be older than a rule. */
export function readSettings(value: unknown): Settings {
  const parsed = settings.safeParse(value ?? {});
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new JobError("invalid_settings", `settings.${issue?.path.join(".")}: ${issue?.message}.`, {
    retry: false,
  });
}

/** Steps of a diffusion model: 20, 30, 40 and 50 from fast to ultra, as far as the model goes. */
export function stepsOf(quality: Creation["quality"], most: number): number {
  return Math.min(most, { fast: 20, balanced: 30, high: 40, ultra: 50 }[quality]);
}

export function scaleOf(creation: Creation, { scale }: Settings): number {
  return scale ?? (creation.quality === "ultra" ? 4 : 2);
}

/** The prompt, or for a change of colour one made of the colour. */
export function promptOf({ prompt }: Creation, { color }: Settings): string {
  if (prompt?.trim()) return prompt;
  return `Change the colour of the garment to ${color}. Keep its shape, fabric, folds, pattern and all else as they are.`;
}

/** The setting under the model's name for it, where it was given. */
export function given<K extends string, V>(name: K, value: V | null | undefined): { [P in K]?: V } {
  return value === null || value === undefined ? {} : ({ [name]: value } as { [P in K]?: V });
}
