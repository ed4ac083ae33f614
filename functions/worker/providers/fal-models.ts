// Which model of fal makes what, and its input. Source: the models' pages at https://fal.ai/models.

import { z } from "zod";
import { JobError } from "../job.ts";
import type { CreationRequest } from "./provider.ts";

const categories = { upper_body: "tops", lower_body: "bottoms", dresses: "one-pieces" } as const;
const modes = { fast: "performance", balanced: "balanced", high: "quality", ultra: "quality" } as const;

const settings = z.object({
  seed: z.number().int().min(0).max(4_294_967_295).optional(),
  scale: z.number().min(1).max(8).optional(),
});

/** The model and its input for a creation. Errors: invalid_settings, unsupported_creation. */
export function falInput({ creation, personUrl, garmentUrl }: CreationRequest): {
  model: string;
  input: Record<string, unknown>;
} {
  const { seed, scale } = parseSettings(creation.settings);
  switch (creation.creation_type) {
    case "tryon":
      return {
        model: "fal-ai/fashn/tryon/v1.6",
        input: {
          model_image: personUrl,
          garment_image: garmentUrl,
          category: categories[creation.category],
          mode: modes[creation.quality],
          num_samples: creation.num_outputs,
          ...(seed !== undefined && { seed }),
          output_format: "png",
        },
      };
    case "bg_remove":
      return { model: "fal-ai/birefnet/v2", input: { image_url: personUrl, output_format: "png" } };
    case "upscale": {
      const factor = scale ?? (creation.quality === "ultra" ? 4 : 2);
      return { model: "fal-ai/esrgan", input: { image_url: personUrl, scale: factor } };
    }
    default:
      throw new JobError("unsupported_creation", `fal makes no "${creation.creation_type}".`, {
        retry: false,
      });
  }
}

function parseSettings(value: unknown): z.infer<typeof settings> {
  const parsed = settings.safeParse(value ?? {});
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new JobError("invalid_settings", `settings.${issue?.path.join(".")}: ${issue?.message}.`, {
    retry: false,
  });
}
