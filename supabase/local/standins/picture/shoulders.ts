import type { Body, Side } from "./body.ts";
import { columns } from "./fit.ts";
import type { Garment, GarmentSide } from "./garment.ts";
import { clamp, lerp, type Mask, mix, type Point } from "./image.ts";
import type { Vertex } from "./mesh.ts";

/** Cloth lies on top of the shoulder, not inside its outline. */
const thickness = 4;
/** A little of the sleeve comes along under the seam, so that no gap shows there. */
const overlap = 0.03;

export type Armpits = { left: Point; right: Point; y: number };

/** Where the garment's armpits come to lie: a close cut fits the body's, a wide one hangs lower and farther out. */
export function armpitsOn(body: Body, garment: Garment, scale: number): Armpits {
  const cornerY = (garment.left.corner.y + garment.right.corner.y) / 2;
  const natural = body.shoulderY + (garment.armpitY - cornerY) * scale;
  const lowest = body.armpitY + body.shoulderHalf * 0.4;
  const y = Math.round(clamp(lerp(body.armpitY, natural, 0.75), body.armpitY, lowest));
  const trunk = body.trunk(y + 4);
  const cloth = garment.trunk(garment.armpitY + 4);
  const out = (needed: number, own: number) =>
    needed + clamp((own * scale - needed) * 0.6, 3, body.shoulderHalf * 0.09);
  return {
    left: { x: body.axis - out(body.axis - trunk.from, garment.axis - cloth.from), y },
    right: { x: body.axis + out(trunk.to - body.axis, cloth.to - garment.axis), y },
    y,
  };
}

/**
 * Rows from the line over the shoulders (t = 0) to the line between the armpits (t = 1); those above are the
 * collar's rim. The curve of the shoulders fades quickly, so that stripes on the chest lie straight.
 */
export function shoulderRow(body: Body, garment: Garment, armpits: Armpits, t: number): Vertex[] {
  const { left, right } = garment;
  const inset = strapInset(body, garment);
  const corners = {
    left: { x: body.left.corner.x + inset.left, y: 0 },
    right: { x: body.right.corner.x - inset.right, y: 0 },
  };
  corners.left.y = shoulderTop(body, corners.left.x) - thickness;
  corners.right.y = shoulderTop(body, corners.right.x) - thickness;
  const top = topLine(left, right);
  const fade = t <= 0 ? 1 : (1 - t) ** 2;
  return Array.from({ length: columns + 1 }, (_, i) => {
    const u = lerp(-overlap, 1 + overlap, i / columns);
    const from = mix(mix(left.corner, right.corner, u), mix(left.armpit, right.armpit, u), t);
    const to = mix(mix(corners.left, corners.right, u), mix(armpits.left, armpits.right, u), t);
    const x = lerp(corners.left.x, corners.right.x, u);
    from.y += (top(u) - lerp(left.corner.y, right.corner.y, u)) * fade;
    to.y += (shoulderTop(body, x) - thickness - lerp(corners.left.y, corners.right.y, u)) * fade;
    return { from, to };
  });
}

const contours = new WeakMap<Body, Map<number, number>>();

/** The upper outline of the shoulders at x; hair and neck above it are stepped over. */
export function shoulderTop(body: Body, x: number): number {
  let contour = contours.get(body);
  if (!contour) {
    contour = evened(new Map([...walk(body, body.left, 1), ...walk(body, body.right, -1), ...caps(body)]));
    contours.set(body, contour);
  }
  const inner = body.neckHalf * 0.9;
  const away = clamp(Math.abs(x - body.axis), inner, body.shoulderHalf + capWidth);
  return contour.get(Math.round(body.axis + Math.sign(x - body.axis || 1) * away)) ?? body.shoulderY;
}

/** A running mean: the outline comes in whole pixels, cloth does not. */
function evened(contour: Map<number, number>): Map<number, number> {
  const even = ([x, y]: [number, number]): [number, number] => {
    const near = Array.from({ length: 11 }, (_, i) => contour.get(x + i - 5) ?? y);
    return [x, near.reduce((sum, value) => sum + value, 0) / near.length];
  };
  return new Map([...contour].map(even));
}

/** From the corner inwards: the outline as long as it rises gently, then on with the slope it had. */
function walk(body: Body, side: Side, step: 1 | -1): [number, number][] {
  const found: [number, number][] = [];
  const usual = 0.3;
  let y = side.corner.y;
  let lost = !body.measured;
  for (let x = Math.round(side.corner.x); (body.axis - x) * step >= body.neckHalf * 0.8; x += step) {
    const outline = topOf(body.mask, x, y - 12, y + 12);
    if (outline === null || y - outline > 5) lost = true;
    y = lost ? y - usual : Math.min(y, lerp(y, outline ?? y, 0.5));
    found.push([x, y]);
  }
  return found;
}

const capWidth = 12;

/** From the corners outwards, where the upper arms round off. */
function caps(body: Body): [number, number][] {
  const found: [number, number][] = [];
  for (const [side, step] of [
    [body.left, -1],
    [body.right, 1],
  ] as const) {
    let y = side.corner.y;
    for (let i = 1; i <= capWidth + 1; i++) {
      const x = Math.round(side.corner.x) + i * step;
      const outline = body.measured ? topOf(body.mask, x, y - 6, y + 30) : null;
      y = outline ?? y + 2;
      found.push([x, y]);
    }
  }
  return found;
}

/** The first row of the mask in this column, if it begins between the two rows. */
function topOf({ width, data }: Mask, x: number, from: number, to: number): number | null {
  const inside = (y: number) => (data[Math.round(y) * width + x] ?? 0) > 0.5;
  if (inside(from)) return null;
  for (let y = from; y <= to; y++) if (inside(y)) return y;
  return null;
}

/** Straps end nearer to the neck than the shoulder's corner. */
function strapInset(body: Body, garment: Garment) {
  const of = (side: GarmentSide, own: Side) => {
    if (side.sleeve) return 0;
    const share =
      Math.abs(side.corner.x - garment.axis) / Math.max(1, Math.abs(side.armpit.x - garment.axis));
    const half = Math.abs(own.armpit.x - body.axis) * clamp(share, 0.3, 1.15);
    return Math.max(0, Math.abs(own.corner.x - body.axis) - half);
  };
  return { left: of(garment.left, body.left), right: of(garment.right, body.right) };
}

/** The height of the upper edge at u: from shoulder over both collar points to shoulder, straight across the neck. */
function topLine(left: GarmentSide, right: GarmentSide): (u: number) => number {
  const points = [left.corner, left.collar, right.collar, right.corner];
  return (u) => {
    const x = lerp(left.corner.x, right.corner.x, clamp(u, 0, 1));
    for (let i = 0; i < 3; i++) {
      const [a, b] = [points[i] as Point, points[i + 1] as Point];
      if (x <= b.x && b.x > a.x) return lerp(a.y, b.y, (x - a.x) / (b.x - a.x));
    }
    return right.corner.y;
  };
}
