import { z } from "zod";

const picture = z
  .string()
  .refine(
    (value) => /^(https?:|data:image\/)/.test(value) && URL.canParse(value),
    "Does not match format 'uri'",
  );
const seed = z.number().int().optional();
const format = z.enum(["webp", "jpg", "png"]);
const ratio = z.enum(["1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21"]);
const count = z.number().int().min(1).max(4).default(1);

const edit = z.object({
  prompt: z.string(),
  input_image: picture.optional(),
  aspect_ratio: z.union([ratio, z.literal("match_input_image")]).default("match_input_image"),
  output_format: z.enum(["jpg", "png"]).default("png"),
  safety_tolerance: z.number().int().min(0).max(6).default(2),
  prompt_upsampling: z.boolean().default(false),
  seed,
});
const video = z.object({
  prompt: z.string(),
  start_image: picture.optional(),
  duration: z.union([z.literal(5), z.literal(10)]).default(5),
  aspect_ratio: z.enum(["16:9", "9:16", "1:1"]).default("16:9"),
  negative_prompt: z.string().default(""),
  cfg_scale: z.number().min(0).max(1).default(0.5),
});

/** The models there are, by owner and name. */
export const models = {
  "cuuupid/idm-vton": z.object({
    human_img: picture,
    garm_img: picture,
    garment_des: z.string().default(""),
    category: z.enum(["upper_body", "lower_body", "dresses"]).default("upper_body"),
    crop: z.boolean().default(false),
    force_dc: z.boolean().default(false),
    mask_only: z.boolean().default(false),
    steps: z.number().int().min(1).max(40).default(30),
    seed: z.number().int().default(42),
  }),
  "lucataco/remove-bg": z.object({ image: picture }),
  "nightmareai/real-esrgan": z.object({
    image: picture,
    scale: z.number().min(0).max(10).default(4),
    face_enhance: z.boolean().default(false),
  }),
  "black-forest-labs/flux-kontext-pro": edit,
  "black-forest-labs/flux-kontext-max": edit,
  "black-forest-labs/flux-schnell": z.object({
    prompt: z.string(),
    aspect_ratio: ratio.default("1:1"),
    num_outputs: count,
    num_inference_steps: z.number().int().min(1).max(4).default(4),
    output_format: format.default("webp"),
    output_quality: z.number().int().min(0).max(100).default(80),
    go_fast: z.boolean().default(true),
    disable_safety_checker: z.boolean().default(false),
    seed,
  }),
  "black-forest-labs/flux-dev": z.object({
    prompt: z.string(),
    image: picture.optional(),
    prompt_strength: z.number().min(0).max(1).default(0.8),
    aspect_ratio: ratio.default("1:1"),
    num_outputs: count,
    num_inference_steps: z.number().int().min(1).max(50).default(28),
    guidance: z.number().min(0).max(10).default(3),
    output_format: format.default("webp"),
    output_quality: z.number().int().min(0).max(100).default(80),
    go_fast: z.boolean().default(true),
    disable_safety_checker: z.boolean().default(false),
    seed,
  }),
  "black-forest-labs/flux-1.1-pro": z.object({
    prompt: z.string(),
    aspect_ratio: ratio.default("1:1"),
    output_format: format.default("webp"),
    output_quality: z.number().int().min(0).max(100).default(80),
    safety_tolerance: z.number().int().min(1).max(6).default(2),
    prompt_upsampling: z.boolean().default(false),
    seed,
  }),
  "kwaivgi/kling-v1.6-standard": video,
  "kwaivgi/kling-v1.6-pro": video,
} as const;
export type ModelName = keyof typeof models;
export type ModelInput<M extends ModelName> = z.infer<(typeof models)[M]>;

/** Models that are called by a version have this one; the others are official, and called by their name. */
export const versions: Partial<Record<ModelName, string>> = {
  "cuuupid/idm-vton": "0513734a452173b8173e907e3a59d19a36266e55b48528559432bd21c7d7e985",
  "lucataco/remove-bg": "95fcc2a26d3899cd6c2691c900465aaeff466285a65c14638cc5f36f34befaf1",
  "nightmareai/real-esrgan": "f121d640bd286e1fdc67f9799164c1d5be36ff74576ee11c803ae5b665dd46aa",
};

export function isModel(name: string): name is ModelName {
  return Object.hasOwn(models, name);
}

/** An answer that is no prediction. */
export class ReplicateError extends Error {
  readonly status: number;
  readonly body: Record<string, unknown>;

  constructor(status: number, detail: string, more: Record<string, unknown> = {}) {
    super(detail);
    this.status = status;
    this.body = { ...more, detail, status };
  }
}

export function checkInput(model: ModelName, input: unknown): Record<string, unknown> {
  const parsed = models[model].safeParse(input, { reportInput: true });
  if (parsed.success) return parsed.data;
  const fields = parsed.error.issues.map((issue) => {
    const field = ["input", ...issue.path.map(String)].join(".");
    return issue.input === undefined
      ? { type: "required", field: "input", description: `${issue.path.join(".")} is required` }
      : { type: issue.code, field, description: issue.message };
  });
  const detail = fields.map(({ field, description }) => `- ${field}: ${description}\n`).join("");
  throw new ReplicateError(422, detail, { title: "Input validation failed", invalid_fields: fields });
}
