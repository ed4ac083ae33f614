// The models of fal that creations are made with, and the input of each. Which of them makes what is in
// studio.provider_models. Source: the models' pages, https://fal.ai/models/<model>/api.

import { JobError } from "../job.ts";
import type { CreationRequest } from "./provider.ts";
import { given, promptOf, readSettings, type Settings, scaleOf, stepsOf } from "./settings.ts";

type Input = Record<string, unknown>;
type Build = (request: CreationRequest, settings: Settings) => Input;

const categories = { upper_body: "tops", lower_body: "bottoms", dresses: "one-pieces" } as const;
const modes = { fast: "performance", balanced: "balanced", high: "quality", ultra: "quality" } as const;
const sizes = {
  "1:1": "square_hd",
  "4:3": "landscape_4_3",
  "3:4": "portrait_4_3",
  "16:9": "landscape_16_9",
  "9:16": "portrait_16_9",
} as const;

const textToImage =
  (steps?: (request: CreationRequest) => number): Build =>
  (request, settings) => ({
    prompt: request.creation.prompt,
    image_size: sizes[settings.aspect_ratio ?? "1:1"],
    num_images: request.creation.num_outputs,
    output_format: "png",
    ...(steps && { num_inference_steps: steps(request) }),
    ...given("seed", settings.seed),
  });

const edit: Build = ({ creation, personUrl }, settings) => ({
  prompt: promptOf(creation, settings),
  image_url: personUrl,
  num_images: creation.num_outputs,
  output_format: "png",
  ...given("seed", settings.seed),
});

const video: Build = ({ creation, personUrl }, settings) => ({
  prompt: creation.prompt,
  image_url: personUrl,
  duration: String(settings.duration ?? 5),
});

const models: Record<string, Build> = {
  "fal-ai/fashn/tryon/v1.6": ({ creation, personUrl, garmentUrl }, { seed }) => ({
    model_image: personUrl,
    garment_image: garmentUrl,
    category: categories[creation.category],
    mode: modes[creation.quality],
    num_samples: creation.num_outputs,
    ...given("seed", seed),
    output_format: "png",
  }),
  "fal-ai/birefnet/v2": ({ personUrl }) => ({ image_url: personUrl, output_format: "png" }),
  "fal-ai/esrgan": ({ creation, personUrl }, settings) => ({
    image_url: personUrl,
    scale: scaleOf(creation, settings),
  }),
  "fal-ai/flux-pro/kontext": edit,
  "fal-ai/flux-pro/kontext/max": edit,
  "fal-ai/flux/schnell": textToImage(() => 4),
  "fal-ai/flux/dev": textToImage(({ creation }) => stepsOf(creation.quality, 50)),
  "fal-ai/flux-pro/v1.1": textToImage(),
  "fal-ai/flux-lora": (request, settings) => ({
    ...textToImage(({ creation }) => stepsOf(creation.quality, 50))(request, settings),
    loras: request.lora ? [{ path: request.lora.url, scale: request.lora.scale }] : [],
  }),
  "fal-ai/flux/dev/image-to-image": ({ creation, personUrl }, settings) => ({
    prompt: creation.prompt,
    image_url: personUrl,
    strength: settings.strength ?? 0.8,
    num_inference_steps: stepsOf(creation.quality, 50),
    num_images: creation.num_outputs,
    ...given("seed", settings.seed),
  }),
  "fal-ai/kling-video/v1.6/standard/image-to-video": video,
  "fal-ai/kling-video/v1.6/pro/image-to-video": video,
};

const usual: Record<string, string> = {
  tryon: "fal-ai/fashn/tryon/v1.6",
  bg_remove: "fal-ai/birefnet/v2",
  upscale: "fal-ai/esrgan",
};

/** The model and its input for a creation. Errors: invalid_settings, unsupported_creation. */
export function falInput(request: CreationRequest): { model: string; input: Input } {
  const model = request.model ?? usual[request.creation.creation_type] ?? "";
  const build = Object.hasOwn(models, model) ? models[model] : undefined;
  if (!build) {
    throw new JobError(
      "unsupported_creation",
      `fal is not asked for "${model || request.creation.creation_type}".`,
      { retry: false },
    );
  }
  return { model, input: build(request, readSettings(request.creation.settings)) };
}
