import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { cutOut } from "../picture/cut-out.ts";
import { NoGarment } from "../picture/garment.ts";
import { tryOn } from "../picture/try-on.ts";
import { type ModelInput, type ModelName, pictureFault } from "./models.ts";
import type { Deps, FalRequest, ResultFile } from "./state.ts";

const maxBytes = 25 * 1024 * 1024;
const fetchTimeoutMs = 15_000;

type Made = { name: string; content_type: string; bytes: Buffer };

/** Runs the model of a request and stores its pictures. */
export async function makePictures(deps: Deps, request: FalRequest): Promise<ResultFile[]> {
  const made = request.rule.plain
    ? [await plainPicture()]
    : await run[request.model](deps, request.input as never);
  const dir = join(deps.filesDir, request.id);
  await mkdir(dir, { recursive: true });
  return Promise.all(
    made.map(async ({ name, content_type, bytes }) => {
      await writeFile(join(dir, name), bytes);
      const { width, height } = await sharp(bytes).metadata();
      return { name, content_type, size: bytes.length, width, height };
    }),
  );
}

const run: { [M in ModelName]: (deps: Deps, input: ModelInput<M>) => Promise<Made[]> } = {
  "fal-ai/fashn/tryon/v1.6": async (deps, input) => {
    const [person, garment] = await Promise.all([
      load(deps, "model_image", input.model_image),
      load(deps, "garment_image", input.garment_image),
    ]);
    const made: Made[] = [];
    for (let sample = 0; sample < input.num_samples; sample++) {
      const seed = input.seed + sample;
      const picture = await tryOn({ person, garment, category: input.category, seed }).catch(
        (error: unknown) => {
          if (!(error instanceof NoGarment)) throw error;
          throw pictureFault(
            "garment_image",
            "image_load_error",
            "No garment was found.",
            input.garment_image,
          );
        },
      );
      const jpeg = input.output_format === "jpeg";
      const bytes = jpeg ? await sharp(picture).jpeg({ quality: 92 }).toBuffer() : picture;
      made.push({
        name: `sample-${sample + 1}.${jpeg ? "jpg" : "png"}`,
        content_type: jpeg ? "image/jpeg" : "image/png",
        bytes,
      });
    }
    return made;
  },
  "fal-ai/birefnet/v2": async (deps, input) => {
    const cut = sharp(await cutOut(await load(deps, "image_url", input.image_url)));
    const webp = input.output_format === "webp";
    const bytes = await (webp ? cut.webp() : cut.png()).toBuffer();
    return [{ name: `cut-out.${input.output_format}`, content_type: `image/${input.output_format}`, bytes }];
  },
  "fal-ai/esrgan": async (deps, input) => {
    const source = await load(deps, "image_url", input.image_url);
    const { width, height } = await sharp(source).metadata();
    const size = { width: Math.round(width * input.scale), height: Math.round(height * input.scale) };
    const scaled = sharp(source)
      .resize({ ...size, kernel: "lanczos3" })
      .sharpen({ sigma: 1 });
    const png = input.output_format === "png";
    const bytes = await (png ? scaled.png() : scaled.jpeg({ quality: 92 })).toBuffer();
    return [
      { name: `upscaled.${png ? "png" : "jpg"}`, content_type: png ? "image/png" : "image/jpeg", bytes },
    ];
  },
};

/** For tests that need many runs and look at none. */
async function plainPicture(): Promise<Made> {
  const create = { width: 64, height: 96, channels: 3, background: "#8899aa" } as const;
  return { name: "plain.png", content_type: "image/png", bytes: await sharp({ create }).png().toBuffer() };
}

async function load(deps: Deps, field: string, url: string): Promise<Buffer> {
  const bytes = await download(deps, field, url);
  try {
    const { width, height } = await sharp(bytes).metadata();
    if (width < 16 || height < 16) throw new Error(`it measures only ${width} x ${height}`);
    return await sharp(bytes, { limitInputPixels: 60_000_000 })
      .rotate()
      .png({ compressionLevel: 1 })
      .toBuffer();
  } catch (error) {
    throw pictureFault(
      field,
      "image_load_error",
      `Failed to load the image: ${(error as Error).message}.`,
      url,
    );
  }
}

async function download(deps: Deps, field: string, url: string): Promise<Buffer> {
  try {
    const response = await fetch(deps.reachable(url), { signal: AbortSignal.timeout(fetchTimeoutMs) });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const bytes = Buffer.from(await response.arrayBuffer());
    if (bytes.length > maxBytes) throw new Error(`it has ${bytes.length} bytes`);
    return bytes;
  } catch (error) {
    throw pictureFault(
      field,
      "file_download_error",
      `Failed to download the file: ${(error as Error).message}.`,
      url,
    );
  }
}
