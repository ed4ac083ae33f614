import type { Image } from "./image.ts";

type Terms = [number, number, number, number, number];

/** How far each pixel is from a plain background, which may get lighter or darker across the picture. */
export type Difference = {
  /** The largest difference of a channel. */
  total: Uint8Array;
  /** 1 where the pixel has the background's colour, only darker: a soft shadow. */
  shadow: Uint8Array;
};

export function differenceFromBackground(image: Image): Difference {
  const { width, height, data } = image;
  const fits = fitBackground(image);
  const total = new Uint8Array(width * height);
  const shadow = new Uint8Array(width * height);
  for (let i = 0; i < total.length; i++) {
    const [one, x, y, xx, yy] = termsAt(i, width, height);
    let least = 255;
    let most = -255;
    for (let c = 0; c < 3; c++) {
      const f = fits[c] as Terms;
      const drop = f[0] * one + f[1] * x + f[2] * y + f[3] * xx + f[4] * yy - (data[i * 4 + c] as number);
      if (drop < least) least = drop;
      if (drop > most) most = drop;
    }
    total[i] = Math.min(255, Math.round(Math.max(most, -least)));
    shadow[i] = least > -13 && most < 75 && most - least < 16 ? 1 : 0;
  }
  return { total, shadow };
}

export function borderIndexes({ width, height }: Image): number[] {
  const indexes: number[] = [];
  for (let x = 0; x < width; x++) indexes.push(x, (height - 1) * width + x);
  for (let y = 1; y < height - 1; y++) indexes.push(y * width, y * width + width - 1);
  return indexes;
}

function termsAt(i: number, width: number, height: number): Terms {
  const x = ((i % width) / width) * 2 - 1;
  const y = (Math.floor(i / width) / height) * 2 - 1;
  return [1, x, y, x * x, y * y];
}

/** Each channel as a surface through the border's pixels; those that do not fit, like a cut-off arm, are left out. */
function fitBackground(image: Image): Terms[] {
  const { width, height, data } = image;
  let samples = borderIndexes(image).filter((_, k) => k % 5 === 0);
  let fits: Terms[] = [];
  for (let round = 0; round < 3; round++) {
    const rows = samples.map((i) => termsAt(i, width, height));
    fits = [0, 1, 2].map((c) =>
      leastSquares(
        rows,
        samples.map((i) => data[i * 4 + c] as number),
      ),
    );
    const errors = samples.map((i, k) => {
      const wrong = fits.map((fit, c) => Math.abs(dot(fit, rows[k] as Terms) - (data[i * 4 + c] as number)));
      return Math.max(...wrong);
    });
    const median = [...errors].sort((a, b) => a - b)[errors.length >> 1] as number;
    const kept = samples.filter((_, k) => (errors[k] as number) <= Math.max(6, 3 * median));
    if (kept.length > 20) samples = kept;
  }
  return fits;
}

function dot(a: Terms, b: Terms): number {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3] + a[4] * b[4];
}

/** Solves the normal equations by elimination; a touch of damping keeps them solvable. */
function leastSquares(rows: Terms[], values: number[]): Terms {
  const size = 5;
  const m = Array.from({ length: size }, (_, a) => {
    const line = Array.from({ length: size }, (_, b) =>
      rows.reduce((sum, row) => sum + (row[a] as number) * (row[b] as number), a === b ? 1e-6 : 0),
    );
    return [...line, rows.reduce((sum, row, k) => sum + (row[a] as number) * (values[k] as number), 0)];
  });
  for (let a = 0; a < size; a++) {
    for (let b = 0; b < size; b++) {
      if (a === b) continue;
      const factor = (m[b]?.[a] as number) / (m[a]?.[a] as number);
      m[b] = (m[b] as number[]).map((value, k) => value - factor * (m[a]?.[k] as number));
    }
  }
  return m.map((line, a) => (line[size] as number) / (line[a] as number)) as Terms;
}
