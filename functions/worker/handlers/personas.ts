import type { Handlers } from "../job.ts";
import { type TrainingDeps, trainLora } from "./lora-training.ts";

/** Every kind of work on personas. */
export function personaHandlers(deps: TrainingDeps): Handlers {
  return {
    "studio.lora_training": trainLora(deps),
  };
}
