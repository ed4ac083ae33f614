import type { Handlers } from "../job.ts";
import { type TrainingDeps, trainLora } from "./lora-training.ts";
import { removeFiles } from "./remove-files.ts";

/** Every kind of work on personas, and on the files that personas and visitors of shops leave. */
export function personaHandlers(deps: TrainingDeps): Handlers {
  return {
    "studio.lora_training": trainLora(deps),
    "studio.remove_files": removeFiles(deps),
  };
}
