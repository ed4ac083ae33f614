import sharp from "sharp";

/** Raw RGBA pixels. */
export type Image = { width: number; height: number; data: Uint8ClampedArray };
/** One value of 0..1 a pixel. */
export type Mask = { width: number; height: number; data: Float32Array };
export type Point = { x: number; y: number };
export type Run = { from: number; to: number };

export async function decode(bytes: Buffer, limit?: { width: number; height: number }): Promise<Image> {
  let picture = sharp(bytes).rotate().toColourspace("srgb").ensureAlpha();
  if (limit) picture = picture.resize({ ...limit, fit: "inside", withoutEnlargement: true });
  const { data, info } = await picture.raw().toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, data: new Uint8ClampedArray(data) };
}

export function encode({ width, height, data }: Image): Promise<Buffer> {
  return sharp(Buffer.from(data.buffer), { raw: { width, height, channels: 4 } })
    .png({ compressionLevel: 6 })
    .toBuffer();
}

export function emptyMask({ width, height }: { width: number; height: number }): Mask {
  return { width, height, data: new Float32Array(width * height) };
}

export function map(mask: Mask, change: (value: number, index: number) => number): Mask {
  const data = new Float32Array(mask.data.length);
  for (let i = 0; i < data.length; i++) data[i] = change(mask.data[i] as number, i);
  return { ...mask, data };
}

/** Two passes of a box blur, close enough to a Gaussian. */
export function blur(mask: Mask, radius: number): Mask {
  const { width, height } = mask;
  let data = mask.data;
  for (let pass = 0; pass < 2; pass++) {
    data = boxed(data, width, height, radius, 1, width);
    data = boxed(data, height, width, radius, width, 1);
  }
  return { width, height, data };
}

function boxed(
  data: Float32Array,
  length: number,
  lines: number,
  radius: number,
  step: number,
  lineStep: number,
): Float32Array {
  const result = new Float32Array(data.length);
  const share = 1 / (2 * radius + 1);
  const last = length - 1;
  for (let line = 0; line < lines; line++) {
    const start = line * lineStep;
    const first = data[start] as number;
    const end = data[start + last * step] as number;
    let sum = first * (radius + 1);
    for (let i = 1; i <= radius; i++) sum += i <= last ? (data[start + i * step] as number) : end;
    for (let i = 0; i < length; i++) {
      result[start + i * step] = sum * share;
      const enters = i + radius + 1;
      const leaves = i - radius;
      sum += enters <= last ? (data[start + enters * step] as number) : end;
      sum -= leaves >= 0 ? (data[start + leaves * step] as number) : first;
    }
  }
  return result;
}

/** The stretches of a row that the mask covers. */
export function runs({ width, data }: Mask, y: number): Run[] {
  const found: Run[] = [];
  let from = -1;
  for (let x = 0; x <= width; x++) {
    const inside = x < width && (data[y * width + x] as number) > 0.5;
    if (inside && from < 0) from = x;
    if (!inside && from >= 0) {
      found.push({ from, to: x - 1 });
      from = -1;
    }
  }
  return found;
}

export function runAt(mask: Mask, x: number, y: number): Run | undefined {
  return runs(mask, y).find(({ from, to }) => from <= x && x <= to);
}

export type Box = { left: number; top: number; right: number; bottom: number };

export function boundingBox({ width, height, data }: Mask): Box | null {
  const box = { left: width, top: height, right: -1, bottom: -1 };
  for (let i = 0; i < data.length; i++) {
    if ((data[i] as number) <= 0.5) continue;
    const [x, y] = [i % width, Math.floor(i / width)];
    box.left = Math.min(box.left, x);
    box.right = Math.max(box.right, x);
    box.top = Math.min(box.top, y);
    box.bottom = Math.max(box.bottom, y);
  }
  return box.right < 0 ? null : box;
}

export const lerp = (a: number, b: number, t: number) => a + (b - a) * t;
export const clamp = (value: number, low: number, high: number) => Math.min(high, Math.max(low, value));
export const mix = (a: Point, b: Point, t: number): Point => ({ x: lerp(a.x, b.x, t), y: lerp(a.y, b.y, t) });
export const smooth = (t: number) => {
  const c = clamp(t, 0, 1);
  return c * c * (3 - 2 * c);
};
