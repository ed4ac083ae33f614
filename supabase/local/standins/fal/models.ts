import { z } from "zod";

const url = z
  .string()
  .refine(
    (value) => /^(https?:|data:image\/)/.test(value) && URL.canParse(value),
    "Input should be a valid URL",
  );
const format = z.enum(["png", "jpeg"]).default("png");

const tryOn = z.object({
  model_image: url,
  garment_image: url,
  category: z.enum(["tops", "bottoms", "one-pieces", "auto"]).default("auto"),
  mode: z.enum(["performance", "balanced", "quality"]).default("balanced"),
  garment_photo_type: z.enum(["auto", "model", "flat-lay"]).default("auto"),
  moderation_level: z.enum(["none", "permissive", "conservative"]).default("permissive"),
  num_samples: z.number().int().min(1).max(4).default(1),
  seed: z.number().int().default(42),
  segmentation_free: z.boolean().default(true),
  output_format: format,
  sync_mode: z.boolean().default(false),
});
const background = z.object({
  image_url: url,
  model: z.string().default("General Use (Light)"),
  operating_resolution: z.string().default("1024x1024"),
  output_format: z.enum(["png", "webp"]).default("png"),
  refine_foreground: z.boolean().default(true),
  output_mask: z.boolean().default(false),
});
const upscale = z.object({
  image_url: url,
  scale: z.number().min(1).max(8).default(2),
  tile: z.number().int().default(0),
  face: z.boolean().default(false),
  model: z.string().default("RealESRGAN_x4plus"),
  output_format: format,
});

const common = {
  seed: z.number().int().optional(),
  num_images: z.number().int().min(1).max(4).default(1),
  output_format: format,
  sync_mode: z.boolean().default(false),
};
const prompt = z.string().min(1);
const size = z.enum([
  "square_hd",
  "square",
  "portrait_4_3",
  "portrait_16_9",
  "landscape_4_3",
  "landscape_16_9",
]);
const textToImage = z.object({
  prompt,
  image_size: size.default("landscape_4_3"),
  num_inference_steps: z.number().int().min(1).max(50).optional(),
  guidance_scale: z.number().min(1).max(20).optional(),
  enable_safety_checker: z.boolean().default(true),
  ...common,
});
const edit = z.object({
  prompt,
  image_url: url,
  guidance_scale: z.number().min(1).max(20).default(3.5),
  safety_tolerance: z.enum(["1", "2", "3", "4", "5", "6"]).default("2"),
  ...common,
});
const imageToImage = z.object({
  prompt,
  image_url: url,
  strength: z.number().min(0.01).max(1).default(0.95),
  num_inference_steps: z.number().int().min(10).max(50).default(40),
  guidance_scale: z.number().min(1).max(20).default(3.5),
  ...common,
});
const video = z.object({
  prompt,
  image_url: url,
  duration: z.enum(["5", "10"]).default("5"),
  negative_prompt: z.string().default("blur, distort, and low quality"),
  cfg_scale: z.number().min(0).max(1).default(0.5),
});
const withLoras = textToImage.extend({
  loras: z.array(z.object({ path: url, scale: z.number().min(0).max(4).default(1) })).default([]),
});
const training = z.object({
  images_data_url: url,
  data_archive_format: z.string().optional(),
  trigger_word: z.string().optional(),
  steps: z.number().int().min(1).max(10_000).default(1000),
  create_masks: z.boolean().default(true),
  is_style: z.boolean().default(false),
  is_input_format_already_preprocessed: z.boolean().default(false),
});

/** The models there are, by path. A path is owner, alias and the model's own sub-path. */
export const models = {
  "fal-ai/fashn/tryon/v1.6": tryOn,
  "fal-ai/birefnet/v2": background,
  "fal-ai/esrgan": upscale,
  "fal-ai/flux-pro/kontext": edit,
  "fal-ai/flux-pro/kontext/max": edit,
  "fal-ai/flux/schnell": textToImage,
  "fal-ai/flux/dev": textToImage,
  "fal-ai/flux-pro/v1.1": textToImage,
  "fal-ai/flux-lora": withLoras,
  "fal-ai/flux-lora-fast-training": training,
  "fal-ai/flux/dev/image-to-image": imageToImage,
  "fal-ai/kling-video/v1.6/standard/image-to-video": video,
  "fal-ai/kling-video/v1.6/pro/image-to-video": video,
} as const;
export type ModelName = keyof typeof models;
export type ModelInput<M extends ModelName> = z.infer<(typeof models)[M]>;

export function isModel(name: string): name is ModelName {
  return Object.hasOwn(models, name);
}

export type Detail = { loc: (string | number)[]; msg: string; type: string; input?: unknown; ctx?: unknown };

/** An answer with `detail`, as fal gives it. */
export class FalError extends Error {
  readonly status: number;
  readonly detail: Detail[] | string;

  constructor(status: number, detail: Detail[] | string) {
    super(typeof detail === "string" ? detail : detail.map(({ msg }) => msg).join("; "));
    this.status = status;
    this.detail = detail;
  }
}

export function checkInput(model: ModelName, input: unknown): Record<string, unknown> {
  const parsed = models[model].safeParse(input, { reportInput: true });
  if (parsed.success) return parsed.data;
  const details = parsed.error.issues.map((issue): Detail => {
    const loc = ["body", ...issue.path.map((part) => (typeof part === "number" ? part : String(part)))];
    if (issue.input === undefined) return { loc, msg: "Field required", type: "missing" };
    return {
      loc,
      msg: issue.message,
      type: issue.code === "custom" ? "url_parsing" : issue.code,
      input: issue.input,
    };
  });
  throw new FalError(422, details);
}

/** The fault of one picture, found only when the model runs. */
export function pictureFault(
  field: string,
  type: "file_download_error" | "image_load_error",
  msg: string,
  input: string,
): FalError {
  return new FalError(422, [{ loc: ["body", field], msg, type, input }]);
}
