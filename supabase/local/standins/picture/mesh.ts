import type { Image, Point } from "./image.ts";

/** A corner of the mesh: where it is in the garment's picture, and where it comes to lie. */
export type Vertex = { from: Point; to: Point };
/** Rows of vertices, all of the same length. */
export type Mesh = Vertex[][];

/** Pictures that a mesh is drawn on keep their colours multiplied with alpha, so that edges mix rightly. */
export function blank(width: number, height: number): Image {
  return { width, height, data: new Uint8ClampedArray(width * height * 4) };
}

export function drawMesh(target: Image, source: Image, mesh: Mesh): void {
  for (let row = 0; row + 1 < mesh.length; row++) {
    const [upper, lower] = [mesh[row] as Vertex[], mesh[row + 1] as Vertex[]];
    for (let column = 0; column + 1 < upper.length; column++) {
      const [a, b] = [upper[column] as Vertex, upper[column + 1] as Vertex];
      const [c, d] = [lower[column] as Vertex, lower[column + 1] as Vertex];
      drawTriangle(target, source, a, b, c);
      drawTriangle(target, source, b, d, c);
    }
  }
}

function drawTriangle(target: Image, source: Image, a: Vertex, b: Vertex, c: Vertex): void {
  const area = cross(a.to, b.to, c.to);
  if (Math.abs(area) < 1e-6) return;
  const left = Math.max(0, Math.ceil(Math.min(a.to.x, b.to.x, c.to.x) - 0.5));
  const right = Math.min(target.width - 1, Math.floor(Math.max(a.to.x, b.to.x, c.to.x) + 0.5));
  const top = Math.max(0, Math.ceil(Math.min(a.to.y, b.to.y, c.to.y) - 0.5));
  const bottom = Math.min(target.height - 1, Math.floor(Math.max(a.to.y, b.to.y, c.to.y) + 0.5));
  const slack = -1e-4;
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const p = { x, y };
      const wa = cross(b.to, c.to, p) / area;
      const wb = cross(c.to, a.to, p) / area;
      const wc = 1 - wa - wb;
      if (wa < slack || wb < slack || wc < slack) continue;
      const sx = a.from.x * wa + b.from.x * wb + c.from.x * wc;
      const sy = a.from.y * wa + b.from.y * wb + c.from.y * wc;
      put(target, (y * target.width + x) * 4, source, sx, sy);
    }
  }
}

function cross(a: Point, b: Point, c: Point): number {
  return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
}

/** Samples bilinearly; a pixel that two triangles share keeps the more opaque one. */
function put(target: Image, at: number, source: Image, x: number, y: number): void {
  if (x < 0 || y < 0 || x > source.width - 1 || y > source.height - 1) return;
  const [x0, y0] = [Math.floor(x), Math.floor(y)];
  const [tx, ty] = [x - x0, y - y0];
  const sum = [0, 0, 0, 0];
  for (const [dx, dy, weight] of [
    [0, 0, (1 - tx) * (1 - ty)],
    [1, 0, tx * (1 - ty)],
    [0, 1, (1 - tx) * ty],
    [1, 1, tx * ty],
  ] as const) {
    if (weight === 0) continue;
    const i = ((y0 + dy) * source.width + x0 + dx) * 4;
    const alpha = ((source.data[i + 3] as number) / 255) * weight;
    for (let c = 0; c < 3; c++) sum[c] = (sum[c] as number) + (source.data[i + c] as number) * alpha;
    sum[3] = (sum[3] as number) + alpha * 255;
  }
  if ((sum[3] as number) <= (target.data[at + 3] as number)) return;
  for (let c = 0; c < 4; c++) target.data[at + c] = sum[c] as number;
}

/** Lays one premultiplied picture over another. */
export function over(below: Image, above: Image): void {
  for (let i = 0; i < below.data.length; i += 4) {
    const rest = 1 - (above.data[i + 3] as number) / 255;
    for (let c = 0; c < 4; c++)
      below.data[i + c] = (above.data[i + c] as number) + (below.data[i + c] as number) * rest;
  }
}
