import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { cutOut } from "../picture/cut-out.ts";
import { draw, enlarge, film, recolour, restyle } from "../picture/generate.ts";
import { loadPicture, plainPicture } from "../picture/load.ts";
import { tryOn } from "../picture/try-on.ts";
import type { ModelInput, ModelName } from "./models.ts";
import type { Deps, Prediction, ResultFile } from "./state.ts";

type Format = "png" | "jpg" | "webp" | "mp4";
type Made = { format: Format; bytes: Buffer };

const types = { png: "image/png", jpg: "image/jpeg", webp: "image/webp", mp4: "video/mp4" } as const;

/** Runs the model of a prediction and stores what it makes. */
export async function makeFiles(deps: Deps, { id, model, input, rule }: Prediction): Promise<ResultFile[]> {
  const made = rule.plain ? await plain(model, input) : await run[model as ModelName](deps, input as never);
  const dir = join(deps.filesDir, id);
  await mkdir(dir, { recursive: true });
  return Promise.all(
    made.map(async ({ format, bytes }, index) => {
      const name = `${made.length > 1 ? `out-${index}` : "out"}.${format}`;
      await writeFile(join(dir, name), bytes);
      return { name, content_type: types[format] };
    }),
  );
}

async function plain(model: string, input: Record<string, unknown>): Promise<Made[]> {
  const picture = await plainPicture();
  if (model.startsWith("kwaivgi/")) return [{ format: "mp4", bytes: await film(picture, 0) }];
  const count = typeof input.num_outputs === "number" ? input.num_outputs : 1;
  return Array.from({ length: count }, () => ({ format: "png", bytes: picture }));
}

type Runs = { [M in ModelName]: (deps: Deps, input: ModelInput<M>) => Promise<Made[]> };

const load = (deps: Deps, url: string) => loadPicture(deps.reachable(url));

async function encoded(picture: Buffer, format: "png" | "jpg" | "webp"): Promise<Made> {
  const image = sharp(picture);
  if (format === "jpg") return { format, bytes: await image.jpeg({ quality: 90 }).toBuffer() };
  if (format === "webp") return { format, bytes: await image.webp({ quality: 80 }).toBuffer() };
  return { format, bytes: picture };
}

/** Width and height of about a million pixels in a ratio. */
function sizeOf(ratio: string): [number, number] {
  const [width, height] = ratio.split(":").map(Number) as [number, number];
  const unit = Math.sqrt((1024 * 1024) / (width * height));
  const round = (value: number) => Math.round((value * unit) / 16) * 16;
  return [round(width), round(height)];
}

const edit: Runs["black-forest-labs/flux-kontext-pro"] = async (deps, input) => {
  const seed = input.seed ?? 1;
  if (input.input_image === undefined) {
    return [await encoded(await draw(input.prompt, seed, 1024, 1024), input.output_format)];
  }
  const picture = await load(deps, input.input_image);
  return [await encoded(await recolour(picture, input.prompt, seed), input.output_format)];
};

const video: Runs["kwaivgi/kling-v1.6-pro"] = async (deps, input) => {
  const first =
    input.start_image === undefined
      ? await draw(input.prompt, 1, ...sizeOf(input.aspect_ratio))
      : await load(deps, input.start_image);
  return [{ format: "mp4", bytes: await film(first, input.duration) }];
};

const categories = { upper_body: "tops", lower_body: "bottoms", dresses: "one-pieces" } as const;

const run: Runs = {
  "cuuupid/idm-vton": async (deps, input) => {
    const [person, garment] = await Promise.all([load(deps, input.human_img), load(deps, input.garm_img)]);
    const { seed } = input;
    const category = categories[input.category];
    return [await encoded(await tryOn({ person, garment, category, seed }), "jpg")];
  },
  "lucataco/remove-bg": async (deps, { image }) => [
    await encoded(await cutOut(await load(deps, image)), "png"),
  ],
  "nightmareai/real-esrgan": async (deps, { image, scale }) => [
    await encoded(await enlarge(await load(deps, image), scale), "png"),
  ],
  "black-forest-labs/flux-kontext-pro": edit,
  "black-forest-labs/flux-kontext-max": edit,
  "black-forest-labs/flux-schnell": async (_deps, input) => {
    const made: Made[] = [];
    for (let n = 0; n < input.num_outputs; n++) {
      const drawn = await draw(input.prompt, (input.seed ?? 1) + n, ...sizeOf(input.aspect_ratio));
      made.push(await encoded(drawn, input.output_format));
    }
    return made;
  },
  "black-forest-labs/flux-dev": async (deps, input) => {
    const picture = input.image === undefined ? null : await load(deps, input.image);
    const made: Made[] = [];
    for (let n = 0; n < input.num_outputs; n++) {
      const seed = (input.seed ?? 1) + n;
      const drawn = picture
        ? await restyle(picture, input.prompt, input.prompt_strength, seed)
        : await draw(input.prompt, seed, ...sizeOf(input.aspect_ratio));
      made.push(await encoded(drawn, input.output_format));
    }
    return made;
  },
  "black-forest-labs/flux-1.1-pro": async (_deps, input) => [
    await encoded(
      await draw(input.prompt, input.seed ?? 1, ...sizeOf(input.aspect_ratio)),
      input.output_format,
    ),
  ],
  "kwaivgi/kling-v1.6-standard": video,
  "kwaivgi/kling-v1.6-pro": video,
};
