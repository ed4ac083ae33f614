// Training, as far as it can be done without a model: what is learnt is the mean of the pictures, which pictures made
// with it show. The weights are a real safetensors file.
// Source: https://huggingface.co/docs/safetensors, "Format".

import { unzipSync } from "fflate";
import sharp from "sharp";
import { type Detail, FalError, type ModelInput } from "./models.ts";
import type { Deps } from "./state.ts";

const side = 64;
const channels = 3;

type Trained = { name: string; content_type: string; bytes: Buffer };
type Training = ModelInput<"fal-ai/flux-lora-fast-training">;

/** The weights and the configuration that the pictures of an archive come to. */
export async function train(deps: Deps, input: Training): Promise<Trained[]> {
  const faces = await picturesOf(await fetched(deps, "images_data_url", input.images_data_url));
  const mean = Buffer.alloc(side * side * channels);
  for (let i = 0; i < mean.length; i++) {
    mean[i] = Math.round(faces.reduce((sum, face) => sum + face[i]!, 0) / faces.length);
  }
  const { trigger_word, steps, is_style } = input;
  const config = { trigger_word, steps, is_style, images: faces.length };
  return [
    {
      name: "pytorch_lora_weights.safetensors",
      content_type: "application/octet-stream",
      bytes: safetensors(mean, { trigger_word: trigger_word ?? "" }),
    },
    { name: "config.json", content_type: "application/json", bytes: Buffer.from(JSON.stringify(config)) },
  ];
}

/** A picture with what the weights have learnt in its middle; the scale says how clearly. */
export async function withWeights(
  deps: Deps,
  picture: Buffer,
  loras: { path: string; scale: number }[],
): Promise<Buffer> {
  let made = picture;
  for (const { path, scale } of loras) {
    const mean = readSafetensors(await fetched(deps, "loras", path), path);
    const { width, height } = await sharp(made).metadata();
    const edge = Math.round(Math.min(width, height) / 2);
    const face = await sharp(mean, { raw: { width: side, height: side, channels } })
      .resize(edge, edge)
      .ensureAlpha(Math.min(1, scale))
      .png()
      .toBuffer();
    made = await sharp(made)
      .composite([{ input: face, gravity: "centre" }])
      .png()
      .toBuffer();
  }
  return made;
}

async function picturesOf(archive: Buffer): Promise<Buffer[]> {
  let entries: Uint8Array[];
  try {
    entries = Object.entries(unzipSync(archive)).flatMap(([name, bytes]) =>
      /\.txt$/.test(name) ? [] : [bytes],
    );
  } catch {
    throw fault("images_data_url", "The archive cannot be read.");
  }
  if (entries.length === 0) throw fault("images_data_url", "The archive has no pictures.");
  return Promise.all(
    entries.map((bytes) =>
      sharp(bytes)
        .rotate()
        .resize(side, side, { fit: "cover" })
        .toColourspace("srgb")
        .flatten()
        .raw()
        .toBuffer()
        .catch(() => {
          throw fault("images_data_url", "A file of the archive is no picture.");
        }),
    ),
  );
}

function safetensors(data: Buffer, metadata: Record<string, string>): Buffer {
  const tensor = { dtype: "U8", shape: [side, side, channels], data_offsets: [0, data.length] };
  const header = Buffer.from(JSON.stringify({ __metadata__: metadata, mean: tensor }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, data]);
}

function readSafetensors(file: Buffer, path: string): Buffer {
  try {
    const end = 8 + Number(file.readBigUInt64LE(0));
    const { mean } = JSON.parse(file.subarray(8, end).toString("utf8"));
    return file.subarray(end + mean.data_offsets[0], end + mean.data_offsets[1]);
  } catch {
    throw fault("loras", `The weights at ${path} cannot be read.`);
  }
}

async function fetched(deps: Deps, field: string, url: string): Promise<Buffer> {
  try {
    const response = await fetch(deps.reachable(url), { signal: AbortSignal.timeout(15_000) });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    return Buffer.from(await response.arrayBuffer());
  } catch (error) {
    throw fault(field, `Failed to download the file: ${(error as Error).message}.`);
  }
}

function fault(field: string, msg: string): FalError {
  const detail: Detail = { loc: ["body", field], msg, type: "file_download_error" };
  return new FalError(422, [detail]);
}
