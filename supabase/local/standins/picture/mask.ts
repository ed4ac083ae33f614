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

/** A plain background as a surface over the picture: constant, slopes and curvature for each channel. */
function backgroundModel(image: Image): (i: number) => Colour {
  const { width, height } = image;
  const terms = (i: number) => {
    const [x, y] = [((i % width) / width) * 2 - 1, (Math.floor(i / width) / height) * 2 - 1];
    return [1, x, y, x * x, y * y];
  };
  let samples = borderIndexes(image).filter((_, k) => k % 5 === 0);
  let fits: number[][] = [];
  for (let round = 0; round < 3; round++) {
    fits = [0, 1, 2].map((c) =>
      leastSquares(
        samples.map(terms),
        samples.map((i) => image.data[i * 4 + c] as number),
      ),
    );
    const model = at(fits, terms);
    const errors = samples.map((i) => distance(colourAt(image, i), model(i)));
    const median = [...errors].sort((p, q) => p - q)[errors.length >> 1] as number;
    const kept = samples.filter((_, k) => (errors[k] as number) <= Math.max(6, 3 * median));
    if (kept.length > 20) samples = kept;
  }
  return at(fits, terms);
}

function at(fits: number[][], terms: (i: number) => number[]): (i: number) => Colour {
  return (i) => {
    const t = terms(i);
    return fits.map((fit) => fit.reduce((sum, factor, k) => sum + factor * (t[k] as number), 0)) as Colour;
  };
}

/** Solves the normal equations by elimination; a touch of damping keeps them solvable. */
function leastSquares(rows: number[][], values: number[]): number[] {
  const n = rows[0]?.length ?? 0;
  const m = Array.from({ length: n }, (_, a) => {
    const line = Array.from({ length: n }, (_, b) =>
      rows.reduce((sum, row) => sum + (row[a] as number) * (row[b] as number), 0),
    );
    line[a] = (line[a] as number) + 1e-6;
    return [...line, rows.reduce((sum, row, k) => sum + (row[a] as number) * (values[k] as number), 0)];
  });
  for (let a = 0; a < n; a++) {
    for (let b = 0; b < n; b++) {
      if (a === b) continue;
      const factor = (m[b]?.[a] as number) / (m[a]?.[a] as number);
      m[b] = (m[b] as number[]).map((value, k) => value - factor * (m[a]?.[k] as number));
    }
  }
  return m.map((line, a) => (line[n] as number) / (line[a] as number));
}

const plainTolerance = 13;
const shadowStep = 4;
const deepestShadow = 75;

/** The colour of the background, only darker. */
function shadowed(there: Colour, plain: Colour): boolean {
  const drops = there.map((value, c) => (plain[c] as number) - value);
  const [least, most] = [Math.min(...drops), Math.max(...drops)];
  return least > -plainTolerance && most < deepestShadow && most - least < 16;
}

/**
 * 1 where the flood from the borders did not come. It covers what has the background's colour, and near
 * the floor also what gets darker in small steps: a soft shadow is background, a sharp outline stops it.
 */
function floodedMask(image: Image): Mask {
  const { width, height } = image;
  const plain = backgroundModel(image);
  const outside = new Uint8Array(width * height);
  const queue: number[] = [];
  const floor = Math.round(height * 0.8) * width;
  const enter = (i: number, from: number) => {
    if (outside[i]) return;
    const [there, expected] = [colourAt(image, i), plain(i)];
    const isPlain = distance(there, expected) <= plainTolerance;
    const isShadow =
      from >= 0 &&
      i > floor &&
      shadowed(there, expected) &&
      distance(there, colourAt(image, from)) <= shadowStep;
    if (!isPlain && !isShadow) return;
    outside[i] = 1;
    queue.push(i);
  };
  for (const i of borderIndexes(image)) enter(i, -1);
  while (queue.length > 0) {
    const i = queue.pop() as number;
    const x = i % width;
    if (x > 0) enter(i - 1, i);
    if (x < width - 1) enter(i + 1, i);
    if (i >= width) enter(i - width, i);
    if (i + width < outside.length) enter(i + width, i);
  }
  openPockets(image, outside, plain);
  return { width, height, data: Float32Array.from(outside, (value) => 1 - value) };
}

const pocketTolerance = 6;

/** Enclosed patches of the very colour of the background, as between two legs, are background too; not so high up, where pale clothes are. */
function openPockets(image: Image, outside: Uint8Array, plain: (i: number) => Colour): void {
  const { width } = image;
  const smallest = outside.length * 0.0006;
  const seen = new Uint8Array(outside.length);
  const isPlain = (i: number) =>
    !outside[i] && !seen[i] && distance(colourAt(image, i), plain(i)) <= pocketTolerance;
  const highest = Math.round(image.height * 0.5) * width;
  for (let start = highest; start < outside.length; start++) {
    if (!isPlain(start)) continue;
    seen[start] = 1;
    const pocket = [start];
    for (let k = 0; k < pocket.length; k++) {
      const i = pocket[k] as number;
      for (const next of [i - 1, i + 1, i - width, i + width]) {
        if (next < 0 || next >= outside.length || !isPlain(next)) continue;
        seen[next] = 1;
        pocket.push(next);
      }
    }
    if (pocket.length >= smallest) for (const i of pocket) outside[i] = 1;
  }
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
  return {
    width,
    height,
    data: Float32Array.from(label, (value) => (bestSize > 0 && value === best ? 1 : 0)),
  };
}

/** A soft edge half a pixel inside the hard one, so that no fringe of the background comes along. */
function softened(mask: Mask): Mask {
  return map(blur(mask, 1), (value) => Math.min(1, Math.max(0, (value - 0.5) * 2.2)));
}
