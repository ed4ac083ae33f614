import sharp, { type OverlayOptions, type Sharp } from "sharp";

export type Size = { width: number; height: number };
export type Field = Size & { values: Float32Array };
export type Picture = Size & { rgba: Uint8ClampedArray };

export async function render(size: Size, body: string): Promise<Picture> {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${size.width}" height="${size.height}">${body}</svg>`;
  const rgba = await sharp(Buffer.from(svg)).ensureAlpha().raw().toBuffer();
  return { ...size, rgba: new Uint8ClampedArray(rgba) };
}

/** One channel of a rendered drawing as 0..1. */
export async function field(size: Size, body: string, channel = 3): Promise<Field> {
  const { rgba } = await render(size, body);
  const values = new Float32Array(size.width * size.height);
  for (let i = 0; i < values.length; i++) values[i] = (rgba[i * 4 + channel] ?? 0) / 255;
  return { ...size, values };
}

export function blur({ width, height, values }: Field, radius: number): Field {
  let current = values;
  for (let pass = 0; pass < 3; pass++) {
    current = boxRows(
      transpose(boxRows(current, width, height, radius), width, height),
      height,
      width,
      radius,
    );
    current = transpose(current, height, width);
  }
  return { width, height, values: current };
}

function boxRows(values: Float32Array, width: number, height: number, radius: number): Float32Array {
  const result = new Float32Array(values.length);
  const size = 2 * radius + 1;
  for (let y = 0; y < height; y++) {
    const at = (x: number) => values[y * width + Math.min(width - 1, Math.max(0, x))] as number;
    let sum = 0;
    for (let x = -radius; x <= radius; x++) sum += at(x);
    for (let x = 0; x < width; x++) {
      result[y * width + x] = sum / size;
      sum += at(x + radius + 1) - at(x - radius);
    }
  }
  return result;
}

function transpose(values: Float32Array, width: number, height: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) result[x * height + y] = values[y * width + x] as number;
  }
  return result;
}

/** Blows a flat shape up like a balloon: solves the Poisson equation inside, and takes the root. */
export function inflate(mask: Field, rounds = 500): Field {
  const { width, height, values } = mask;
  const h = new Float32Array(values.length);
  const inside: number[] = [];
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++)
      if ((values[y * width + x] as number) > 0.5) inside.push(y * width + x);
  }
  const n = (i: number) => h[i] as number;
  for (let round = 0; round < rounds; round++) {
    for (const i of inside) {
      const mean = (n(i - 1) + n(i + 1) + n(i - width) + n(i + width) + 1) / 4;
      h[i] = n(i) + 1.85 * (mean - n(i));
    }
  }
  return { width, height, values: h.map((value) => Math.sqrt(Math.max(0, value))) };
}

/** Smooth random heights around 0: `sx`, `sy` are the sizes of its bumps. */
export function noise({ width, height }: Size, seed: number, sx: number, sy: number): Field {
  const hash = (x: number, y: number) => {
    const value = Math.sin(x * 127.1 + y * 311.7 + seed * 74.7) * 43758.5453;
    return (value - Math.floor(value)) * 2 - 1;
  };
  const ease = (t: number) => t * t * (3 - 2 * t);
  const values = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [gx, gy] = [x / sx, y / sy];
      const [x0, y0] = [Math.floor(gx), Math.floor(gy)];
      const [tx, ty] = [ease(gx - x0), ease(gy - y0)];
      const top = hash(x0, y0) * (1 - tx) + hash(x0 + 1, y0) * tx;
      const bottom = hash(x0, y0 + 1) * (1 - tx) + hash(x0 + 1, y0 + 1) * tx;
      values[y * width + x] = top * (1 - ty) + bottom * ty;
    }
  }
  return { width, height, values };
}

export function sum(...terms: [Field, number][]): Field {
  const first = terms[0] as [Field, number];
  const values = new Float32Array(first[0].values.length);
  for (const [term, factor] of terms) {
    for (let i = 0; i < values.length; i++)
      values[i] = (values[i] as number) + (term.values[i] as number) * factor;
  }
  return { width: first[0].width, height: first[0].height, values };
}

export type Light = {
  ambient: number;
  strength: number;
  gloss: number;
  shadowTint: [number, number, number];
};

/** Lights a flat drawing from the upper left, as if it had these heights. Changes the picture. */
export function shade(picture: Picture, heights: Field, light: Light): Picture {
  const { width, height, rgba } = picture;
  const h = heights.values;
  const [lx, ly, lz] = [-0.42, -0.5, 0.757];
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const i = y * width + x;
      if (rgba[i * 4 + 3] === 0) continue;
      const dx = ((h[i + 1] as number) - (h[i - 1] as number)) / 2;
      const dy = ((h[i + width] as number) - (h[i - width] as number)) / 2;
      const length = Math.hypot(dx, dy, 1);
      const facing = (-dx * lx - dy * ly + lz) / length;
      const bright = light.ambient + light.strength * Math.max(0, facing);
      const gloss = light.gloss * Math.max(0, facing) ** 24 * 255;
      const dark = Math.max(0, 1 - bright);
      for (let c = 0; c < 3; c++) {
        const tint = light.shadowTint[c] as number;
        rgba[i * 4 + c] = (rgba[i * 4 + c] as number) * (bright + dark * tint) + gloss;
      }
    }
  }
  return picture;
}

export function layer(picture: Picture): OverlayOptions {
  const { width, height, rgba } = picture;
  return { input: Buffer.from(rgba.buffer), raw: { width, height, channels: 4 } };
}

export async function stack(size: Size, layers: OverlayOptions[]): Promise<Sharp> {
  const create = { ...size, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } as const;
  const flat = await sharp({ create }).composite(layers).raw().toBuffer();
  return sharp(flat, { raw: { ...size, channels: 4 } });
}
