import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { cutOut } from "../picture/cut-out.ts";
import { NoGarment } from "../picture/garment.ts";
import { draw, enlarge, film, recolour, restyle } from "../picture/generate.ts";
import { loadPicture, PictureFault, plainPicture } from "../picture/load.ts";
import { tryOn } from "../picture/try-on.ts";
import { type ModelInput, type ModelName, pictureFault } from "./models.ts";
import type { Deps, FalRequest, ResultFile } from "./state.ts";
import { train, withWeights } from "./training.ts";

type Made = { name: string; content_type: string; bytes: Buffer };

/** Runs the model of a request and stores what it makes. */
export async function makePictures(deps: Deps, request: FalRequest): Promise<ResultFile[]> {
  const video = request.model.endsWith("/image-to-video");
  const plain = request.rule.plain && request.model !== "fal-ai/flux-lora-fast-training";
  const made = plain
    ? [video ? await plainFilm() : await plainFile()]
    : await run[request.model](deps, request.input as never);
  const dir = join(deps.filesDir, request.id);
  await mkdir(dir, { recursive: true });
  return Promise.all(
    made.map(async ({ name, content_type, bytes }) => {
      await writeFile(join(dir, name), bytes);
      if (!content_type.startsWith("image/")) return { name, content_type, size: bytes.length };
      const { width, height } = await sharp(bytes).metadata();
      return { name, content_type, size: bytes.length, width, height };
    }),
  );
}

type Runs = { [M in ModelName]: (deps: Deps, input: ModelInput<M>) => Promise<Made[]> };
type Generate = { seed?: number | undefined; num_images: number; output_format: "png" | "jpeg" };

/** Several pictures that differ by their seed. */
async function several(
  { seed = 1, num_images, output_format }: Generate,
  make: (seed: number) => Promise<Buffer>,
): Promise<Made[]> {
  const made: Made[] = [];
  for (let n = 0; n < num_images; n++) made.push(await encoded(await make(seed + n), n, output_format));
  return made;
}

async function encoded(picture: Buffer, index: number, format: "png" | "jpeg"): Promise<Made> {
  const jpeg = format === "jpeg";
  const bytes = jpeg ? await sharp(picture).jpeg({ quality: 92 }).toBuffer() : picture;
  const name = `sample-${index + 1}.${jpeg ? "jpg" : "png"}`;
  return { name, content_type: jpeg ? "image/jpeg" : "image/png", bytes };
}

const sizes = {
  square_hd: [1024, 1024],
  square: [512, 512],
  portrait_4_3: [768, 1024],
  portrait_16_9: [576, 1024],
  landscape_4_3: [1024, 768],
  landscape_16_9: [1024, 576],
} as const;

const textToImage: Runs["fal-ai/flux/dev"] = async (_deps, input) => {
  const [width, height] = sizes[input.image_size];
  return several(input, (seed) => draw(input.prompt, seed, width, height));
};
const edit: Runs["fal-ai/flux-pro/kontext"] = async (deps, input) => {
  const picture = await load(deps, "image_url", input.image_url);
  return several(input, (seed) => recolour(picture, input.prompt, seed));
};
const video: Runs["fal-ai/kling-video/v1.6/standard/image-to-video"] = async (deps, input) => {
  const picture = await load(deps, "image_url", input.image_url);
  return [
    { name: "output.mp4", content_type: "video/mp4", bytes: await film(picture, Number(input.duration)) },
  ];
};

const run: Runs = {
  "fal-ai/fashn/tryon/v1.6": async (deps, input) => {
    const [person, garment] = await Promise.all([
      load(deps, "model_image", input.model_image),
      load(deps, "garment_image", input.garment_image),
    ]);
    const { category, seed, num_samples: num_images, output_format } = input;
    return several({ seed, num_images, output_format }, (seed) =>
      tryOn({ person, garment, category, seed }).catch((error: unknown) => {
        if (!(error instanceof NoGarment)) throw error;
        throw pictureFault("garment_image", "image_load_error", "No garment was found.", input.garment_image);
      }),
    );
  },
  "fal-ai/birefnet/v2": async (deps, input) => {
    const cut = sharp(await cutOut(await load(deps, "image_url", input.image_url)));
    const webp = input.output_format === "webp";
    const bytes = await (webp ? cut.webp() : cut.png()).toBuffer();
    return [{ name: `cut-out.${input.output_format}`, content_type: `image/${input.output_format}`, bytes }];
  },
  "fal-ai/esrgan": async (deps, input) => {
    const source = await load(deps, "image_url", input.image_url);
    return [await encoded(await enlarge(source, input.scale), 0, input.output_format)];
  },
  "fal-ai/flux-pro/kontext": edit,
  "fal-ai/flux-pro/kontext/max": edit,
  "fal-ai/flux/schnell": textToImage,
  "fal-ai/flux/dev": textToImage,
  "fal-ai/flux-pro/v1.1": textToImage,
  "fal-ai/flux-lora": async (deps, input) => {
    const [width, height] = sizes[input.image_size];
    return several(input, async (seed) =>
      withWeights(deps, await draw(input.prompt, seed, width, height), input.loras),
    );
  },
  "fal-ai/flux-lora-fast-training": train,
  "fal-ai/flux/dev/image-to-image": async (deps, input) => {
    const picture = await load(deps, "image_url", input.image_url);
    return several(input, (seed) => restyle(picture, input.prompt, input.strength, seed));
  },
  "fal-ai/kling-video/v1.6/standard/image-to-video": video,
  "fal-ai/kling-video/v1.6/pro/image-to-video": video,
};

async function plainFile(): Promise<Made> {
  return { name: "plain.png", content_type: "image/png", bytes: await plainPicture() };
}

async function plainFilm(): Promise<Made> {
  return { name: "plain.mp4", content_type: "video/mp4", bytes: await film(await plainPicture(), 0) };
}

async function load(deps: Deps, field: string, url: string): Promise<Buffer> {
  try {
    return await loadPicture(deps.reachable(url));
  } catch (error) {
    if (!(error instanceof PictureFault)) throw error;
    const type = error.kind === "load" ? "image_load_error" : "file_download_error";
    throw pictureFault(field, type, error.message, url);
  }
}
