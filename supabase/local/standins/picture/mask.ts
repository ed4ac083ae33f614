import { borderIndexes, type Difference, differenceFromBackground } from "./background.ts";
import { blur, emptyMask, type Image, type Mask, map } from "./image.ts";

/** What is in front of a plain background: by the picture's own alpha, or by flooding from its borders. */
export function foreground(image: Image): Mask {
  return alphaMask(image) ?? softened(floodedMask(image));
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

const plainTolerance = 13;
const pocketTolerance = 6;
const shadowStep = 4;

/**
 * 1 for the largest part that the flood from the borders did not reach. It covers what has the background's
 * colour, and near the floor also what gets darker in small steps: a soft shadow is background, a sharp
 * outline stops it.
 */
function floodedMask(image: Image): Mask {
  const { width, height } = image;
  const { total, shadow } = differenceFromBackground(image);
  const outside = new Uint8Array(width * height);
  const floor = Math.round(height * 0.8) * width;
  const isPlain = (i: number) => (total[i] as number) <= plainTolerance;
  spread(outside, width, borderIndexes(image).filter(isPlain), (i, from) => {
    return isPlain(i) || (i > floor && shadow[i] === 1 && step(image, i, from) <= shadowStep);
  });
  openPockets(image, outside, total);
  return largestPart(outside, width, height);
}

/** The largest difference of a channel between two pixels. */
function step({ data }: Image, i: number, j: number): number {
  const of = (c: number) => Math.abs((data[i * 4 + c] as number) - (data[j * 4 + c] as number));
  return Math.max(of(0), of(1), of(2));
}

/** Marks the seeds and all that can be reached from them; returns what was marked. */
function spread(
  marked: Uint8Array,
  width: number,
  seeds: Iterable<number>,
  enters: (i: number, from: number) => boolean,
): number[] {
  const found: number[] = [];
  for (const i of seeds) {
    if (marked[i]) continue;
    marked[i] = 1;
    found.push(i);
  }
  const visit = (i: number, from: number) => {
    if (marked[i] || !enters(i, from)) return;
    marked[i] = 1;
    found.push(i);
  };
  for (let k = 0; k < found.length; k++) {
    const i = found[k] as number;
    const x = i % width;
    if (x > 0) visit(i - 1, i);
    if (x < width - 1) visit(i + 1, i);
    if (i >= width) visit(i - width, i);
    if (i + width < marked.length) visit(i + width, i);
  }
  return found;
}

/** Enclosed patches of the background's colour, as between two legs, are background; not high up, where pale clothes are. */
function openPockets({ width, height }: Image, outside: Uint8Array, total: Difference["total"]): void {
  const smallest = outside.length * 0.0006;
  const seen = outside.slice();
  for (let start = Math.round(height * 0.5) * width; start < outside.length; start++) {
    if (seen[start] || (total[start] as number) > pocketTolerance) continue;
    const pocket = spread(seen, width, [start], (i) => (total[i] as number) <= pocketTolerance);
    if (pocket.length >= smallest) for (const i of pocket) outside[i] = 1;
  }
}

/** Only the largest connected part: no dust, no prop at the picture's side. */
function largestPart(outside: Uint8Array, width: number, height: number): Mask {
  const seen = outside.slice();
  let largest: number[] = [];
  for (let start = 0; start < seen.length; start++) {
    if (seen[start]) continue;
    const part = spread(seen, width, [start], () => true);
    if (part.length > largest.length) largest = part;
  }
  const mask = emptyMask({ width, height });
  for (const i of largest) mask.data[i] = 1;
  return mask;
}

/** A soft edge half a pixel inside the hard one, so that no fringe of the background comes along. */
function softened(mask: Mask): Mask {
  return map(blur(mask, 1), (value) => Math.min(1, Math.max(0, (value - 0.5) * 2.2)));
}
