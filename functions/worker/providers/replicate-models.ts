// The models of Replicate that creations are made with, and the input of each. Which of them makes what is in
// studio.provider_models. An official model is called by its name, any other by its version.
// Source: the models' pages, https://replicate.com/<owner>/<name>/api/schema.

import { JobError } from "../job.ts";
import type { CreationRequest } from "./provider.ts";
import { given, promptOf, readSettings, type Settings, scaleOf, stepsOf } from "./settings.ts";

type Input = Record<string, unknown>;
type Build = (request: CreationRequest, settings: Settings) => Input;

const edit: Build = ({ creation, personUrl }, settings) => ({
  prompt: promptOf(creation, settings),
  input_image: personUrl,
  aspect_ratio: "match_input_image",
  output_format: "png",
  ...given("seed", settings.seed),
});

const video: Build = ({ creation, personUrl }, settings) => ({
  prompt: creation.prompt,
  start_image: personUrl,
  duration: settings.duration ?? 5,
});

/** By owner and name, whatever the version. */
const models: Record<string, Build> = {
  "cuuupid/idm-vton": ({ creation, personUrl, garmentUrl }, settings) => ({
    human_img: personUrl,
    garm_img: garmentUrl,
    garment_des: settings.garment_description ?? "garment",
    category: creation.category,
    steps: stepsOf(creation.quality, 40),
    // pictures of any shape, not of 3:4 only
    crop: true,
    ...given("seed", settings.seed),
  }),
  "lucataco/remove-bg": ({ personUrl }) => ({ image: personUrl }),
  "nightmareai/real-esrgan": ({ creation, personUrl }, settings) => ({
    image: personUrl,
    scale: scaleOf(creation, settings),
    face_enhance: false,
  }),
  "black-forest-labs/flux-kontext-pro": edit,
  "black-forest-labs/flux-kontext-max": edit,
  "black-forest-labs/flux-schnell": ({ creation }, settings) => ({
    prompt: creation.prompt,
    aspect_ratio: settings.aspect_ratio ?? "1:1",
    num_outputs: creation.num_outputs,
    num_inference_steps: 4,
    output_format: "png",
    ...given("seed", settings.seed),
  }),
  "black-forest-labs/flux-dev": ({ creation, personUrl }, settings) => ({
    prompt: creation.prompt,
    num_outputs: creation.num_outputs,
    num_inference_steps: stepsOf(creation.quality, 50),
    output_format: "png",
    ...(creation.creation_type === "image_to_image"
      ? { image: personUrl, prompt_strength: settings.strength ?? 0.8 }
      : { aspect_ratio: settings.aspect_ratio ?? "1:1" }),
    ...given("seed", settings.seed),
  }),
  "black-forest-labs/flux-1.1-pro": ({ creation }, settings) => ({
    prompt: creation.prompt,
    aspect_ratio: settings.aspect_ratio ?? "1:1",
    output_format: "png",
    ...given("seed", settings.seed),
  }),
  "kwaivgi/kling-v1.6-standard": video,
  "kwaivgi/kling-v1.6-pro": video,
};

/**
 * Where a creation is asked for below /v1, and the body without its webhook.
 * Errors: invalid_settings, unsupported_creation.
 */
export function replicateRequest(request: CreationRequest): { path: string; body: Input } {
  const [name, version] = (request.model ?? "").split(":") as [string, string?];
  const build = Object.hasOwn(models, name) ? models[name] : undefined;
  if (!build) {
    throw new JobError(
      "unsupported_creation",
      `Replicate is not asked for "${name || request.creation.creation_type}".`,
      { retry: false },
    );
  }
  const input = build(request, readSettings(request.creation.settings));
  if (version) return { path: "/predictions", body: { version, input } };
  return { path: `/models/${name}/predictions`, body: { input } };
}
