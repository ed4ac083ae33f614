// What generating models do, as far as it can be done without one: pictures that follow from their inputs, so that the
// same inputs and seed give the same picture and others give another.

import { createHash } from "node:crypto";
import sharp from "sharp";
import { cutOut } from "./cut-out.ts";
import { mp4 } from "./mp4.ts";

/** A picture made of a text: shapes and colours that follow from it, with the text below. */
export function draw(prompt: string, seed: number, width: number, height: number): Promise<Buffer> {
  const number = numbers(`${prompt}:${seed}`);
  const hue = () => number() % 360;
  const shapes = Array.from({ length: 7 }, () => {
    const [x, y] = [number() % width, number() % height];
    const r = Math.round(Math.min(width, height) * (0.08 + (number() % 20) / 100));
    return `<circle cx="${x}" cy="${y}" r="${r}" fill="hsl(${hue()} 70% 55%)" opacity="0.7"/>`;
  });
  const size = Math.round(height / 28);
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">
    <defs><linearGradient id="g" x2="1" y2="1">
      <stop stop-color="hsl(${hue()} 60% 40%)"/><stop offset="1" stop-color="hsl(${hue()} 60% 75%)"/>
    </linearGradient></defs>
    <rect width="100%" height="100%" fill="url(#g)"/>${shapes.join("")}
    <text x="${size}" y="${height - size}" font-size="${size}" font-family="sans-serif" fill="white"
      >${escaped(prompt.slice(0, 60))}</text></svg>`;
  return sharp(Buffer.from(svg)).png().toBuffer();
}

/** What stands before the background, in the colour that the text speaks of, or one that follows from it. */
export async function recolour(picture: Buffer, prompt: string, seed: number): Promise<Buffer> {
  const named =
    /#[0-9a-f]{6}\b/i.exec(prompt)?.[0] ?? colours.find((name) => prompt.toLowerCase().includes(name));
  const hue = numbers(`${prompt}:${seed}`)() % 360;
  const front = sharp(await cutOut(picture));
  const dyed = named ? front.tint(named) : front.modulate({ hue });
  return sharp(picture)
    .composite([{ input: await dyed.png().toBuffer() }])
    .png()
    .toBuffer();
}

/** The picture on its way to what the text says: 1 leaves little of it. */
export async function restyle(
  picture: Buffer,
  prompt: string,
  strength: number,
  seed: number,
): Promise<Buffer> {
  const { width, height } = await sharp(picture).metadata();
  const drawn = await sharp(await draw(prompt, seed, width, height))
    .ensureAlpha(Math.min(0.9, strength * 0.6))
    .png()
    .toBuffer();
  return sharp(picture)
    .composite([{ input: drawn, blend: "over" }])
    .png()
    .toBuffer();
}

const framesPerSecond = 4;

/** A slow move towards the middle of the picture, at most 480 pixels wide. */
export async function film(picture: Buffer, seconds: number): Promise<Buffer> {
  const small = await sharp(picture)
    .flatten({ background: "#ffffff" })
    .resize({ width: 480, height: 480, fit: "inside" })
    .toBuffer({ resolveWithObject: true });
  const even = (value: number) => value - (value % 2);
  const [width, height] = [even(small.info.width), even(small.info.height)];
  const count = Math.max(2, Math.round(seconds * framesPerSecond));
  const frames: Buffer[] = [];
  for (let n = 0; n < count; n++) {
    const share = 1 - (0.25 * n) / count;
    const [w, h] = [Math.round(width * share), Math.round(height * share)];
    const crop = { left: (width - w) >> 1, top: (height - h) >> 1, width: w, height: h };
    frames.push(await sharp(small.data).extract(crop).resize(width, height).jpeg({ quality: 70 }).toBuffer());
  }
  return mp4({ width, height, frames, framesPerSecond });
}

const colours = [
  "red",
  "green",
  "blue",
  "black",
  "white",
  "yellow",
  "orange",
  "purple",
  "pink",
  "brown",
  "grey",
];

function numbers(text: string): () => number {
  const bytes = createHash("sha256").update(text).digest();
  let at = 0;
  return () => {
    at = (at + 2) % 30;
    return bytes.readUInt16BE(at);
  };
}

function escaped(value: string): string {
  return value.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Larger by a factor, with sharper edges. */
export async function enlarge(source: Buffer, scale: number): Promise<Buffer> {
  const { width, height } = await sharp(source).metadata();
  return sharp(source)
    .resize({ width: Math.round(width * scale), height: Math.round(height * scale), kernel: "lanczos3" })
    .sharpen({ sigma: 1 })
    .png()
    .toBuffer();
}
