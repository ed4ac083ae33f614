import { blur, emptyMask, type Image, type Mask, map } from "./image.ts";

/** What is in front of a plain background: by the picture's own alpha, or by flooding from its borders. */
export function foreground(image: Image): Mask {
  return alphaMask(image) ?? softened(largestPart(floodedMask(image)));
}

function alphaMask({ width, height, data }: Image): Mask | null {
  const mask = emptyMask({ width, height });
  let clear = 0;
  for (let i = 0; i < mask.data.length; i++) {
    const alpha = (data[i * 4 + 3] as number) / 255;
    mask.data[i] = alpha;
    if (alpha < 0.1) clear++;
  }
  return clear > mask.data.length * 0.02 ? mask : null;
}

type Colour = [number, number, number];

function colourAt({ data }: Image, i: number): Colour {
  return [data[i * 4] as number, data[i * 4 + 1] as number, data[i * 4 + 2] as number];
}

function distance(a: Colour, b: Colour): number {
  return Math.max(Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1]), Math.abs(a[2] - b[2]));
}

function borderIndexes({ width, height }: Image): number[] {
  const indexes: number[] = [];
  for (let x = 0; x < width; x++) indexes.push(x, (height - 1) * width + x);
  for (let y = 1; y < height - 1; y++) indexes.push(y * width, y * width + width - 1);
  return indexes;
}

/** The colour most of the border has. */
function borderColour(image: Image, border: number[]): Colour {
  const channel = (c: number) => {
    const values = border.map((i) => image.data[i * 4 + c] as number).sort((a, b) => a - b);
    return values[values.length >> 1] as number;
  };
  return [channel(0), channel(1), channel(2)];
}

const stepTolerance = 7;
const totalTolerance = 62;

/**
 * 1 where the flood from the borders did not come. It spreads over small steps only, so that a gradient
 * or a soft shadow on the floor is background and the sharp outline of a body stops it.
 */
function floodedMask(image: Image): Mask {
  const { width, height } = image;
  const border = borderIndexes(image);
  const colour = borderColour(image, border);
  const outside = new Uint8Array(width * height);
  const queue: number[] = [];
  const enter = (i: number) => {
    if (outside[i]) return;
    outside[i] = 1;
    queue.push(i);
  };
  for (const i of border) if (distance(colourAt(image, i), colour) < totalTolerance) enter(i);
  while (queue.length > 0) {
    const i = queue.pop() as number;
    const here = colourAt(image, i);
    const x = i % width;
    for (const next of [x > 0 ? i - 1 : -1, x < width - 1 ? i + 1 : -1, i - width, i + width]) {
      if (next < 0 || next >= outside.length || outside[next]) continue;
      const there = colourAt(image, next);
      const near = distance(there, here) <= stepTolerance && distance(there, colour) < totalTolerance;
      if (near || distance(there, colour) <= stepTolerance * 1.5) enter(next);
    }
  }
  return { width, height, data: Float32Array.from(outside, (value) => 1 - value) };
}

/** Only the largest connected part: no dust, no prop at the picture's side. */
function largestPart(mask: Mask): Mask {
  const { width, height, data } = mask;
  const label = new Int32Array(data.length);
  let best = 0;
  let bestSize = 0;
  let last = 0;
  for (let start = 0; start < data.length; start++) {
    if (label[start] || (data[start] as number) < 0.5) continue;
    last++;
    let size = 0;
    const queue = [start];
    label[start] = last;
    while (queue.length > 0) {
      const i = queue.pop() as number;
      size++;
      const x = i % width;
      for (const next of [x > 0 ? i - 1 : -1, x < width - 1 ? i + 1 : -1, i - width, i + width]) {
        if (next < 0 || next >= width * height || label[next] || (data[next] as number) < 0.5) continue;
        label[next] = last;
        queue.push(next);
      }
    }
    if (size > bestSize) [best, bestSize] = [last, size];
  }
  return { width, height, data: Float32Array.from(label, (value) => (bestSize > 0 && value === best ? 1 : 0)) };
}

/** A soft edge half a pixel inside the hard one, so that no fringe of the background comes along. */
function softened(mask: Mask): Mask {
  return map(blur(mask, 1), (value) => Math.min(1, Math.max(0, (value - 0.5) * 2.2)));
}
