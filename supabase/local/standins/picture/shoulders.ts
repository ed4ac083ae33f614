import type { Body, Side } from "./body.ts";
import type { Garment, GarmentSide } from "./garment.ts";
import { clamp, lerp, type Mask, mix, type Point } from "./image.ts";
import type { Vertex } from "./mesh.ts";

const columns = 24;
/** Cloth lies on top of the shoulder, not inside its outline. */
const thickness = 4;

/**
 * Where the garment's armpits come to lie: a close cut fits the body's, a wide one hangs lower.
 */
export function armpitsOn(
  body: Body,
  garment: Garment,
  scale: number,
): { left: Point; right: Point; y: number } {
  const cornerY = (garment.left.corner.y + garment.right.corner.y) / 2;
  const natural = body.shoulderY + (garment.armpitY - cornerY) * scale;
  const lowest = body.armpitY + body.shoulderHalf * 0.4;
  const y = Math.round(clamp(lerp(body.armpitY, natural, 0.75), body.armpitY, lowest));
  const trunk = body.trunk(y + 4);
  return { left: { x: trunk.from - 3, y }, right: { x: trunk.to + 3, y }, y };
}

/** Rows from the line over the shoulders (t = 0) to the line between the armpits (t = 1); the collar's rim is above. */
export function shoulderRow(
  body: Body,
  garment: Garment,
  armpits: { left: Point; right: Point },
  t: number,
): Vertex[] {
  const from = topLine(garment.left, garment.right);
  const inset = strapInset(body, garment);
  const corners = { left: body.left.corner.x + inset.left, right: body.right.corner.x - inset.right };
  /** A little of the sleeve comes along under the seam, so that no gap shows there. */
  const reach = { left: garment.left.sleeve ? 0.03 : 0.02, right: garment.right.sleeve ? 0.03 : 0.02 };
  return Array.from({ length: columns + 1 }, (_, i) => {
    const u = lerp(-reach.left, 1 + reach.right, i / columns);
    const x = lerp(corners.left, corners.right, u);
    const bodyTop = { x, y: shoulderTop(body, x) - thickness };
    return {
      from: mix(from(u), mix(garment.left.armpit, garment.right.armpit, u), t),
      to: mix(bodyTop, mix(armpits.left, armpits.right, u), t),
    };
  });
}

const contours = new WeakMap<Body, Map<number, number>>();

/** The upper outline of the shoulders at x; hair and neck above it are stepped over. */
function shoulderTop(body: Body, x: number): number {
  let contour = contours.get(body);
  if (!contour) {
    contour = new Map([...walk(body, body.left, 1), ...walk(body, body.right, -1)]);
    contours.set(body, contour);
  }
  const inner = body.neckHalf * 0.9;
  const away = clamp(Math.abs(x - body.axis), inner, body.shoulderHalf);
  return contour.get(Math.round(body.axis + Math.sign(x - body.axis || 1) * away)) ?? body.shoulderY;
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

/** From shoulder over both collar points to shoulder; straight across the neck's opening. */
function topLine(left: GarmentSide, right: GarmentSide): (u: number) => Point {
  const points = [left.corner, left.collar, right.collar, right.corner];
  return (u) => {
    const x = lerp(left.corner.x, right.corner.x, u);
    for (let i = 0; i < 3; i++) {
      const [a, b] = [points[i] as Point, points[i + 1] as Point];
      if (x <= b.x && b.x > a.x) return { x, y: lerp(a.y, b.y, (x - a.x) / (b.x - a.x)) };
    }
    return { x, y: right.corner.y };
  };
}
