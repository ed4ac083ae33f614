import type { ArmSlice, Body, Side } from "./body.ts";
import { ease, row, rowHeight } from "./fit.ts";
import type { Garment, GarmentSide } from "./garment.ts";
import { clamp, lerp, type Point, runs, smooth } from "./image.ts";
import type { Mesh, Vertex } from "./mesh.ts";
import { type Armpits, armpitsOn, shoulderRow, shoulderTop } from "./shoulders.ts";

/** The meshes that put a shirt, a jacket or a dress on a body. */
export function upperMeshes(body: Body, garment: Garment, longest: number): { trunk: Mesh; sleeves: Mesh[] } {
  const scale = upperScale(body, garment);
  const armpits = armpitsOn(body, garment, scale);
  const sleeves = [
    sleeveMesh(body, body.left, garment.left, armpits.left, -1, scale),
    sleeveMesh(body, body.right, garment.right, armpits.right, 1, scale),
  ];
  return { trunk: trunkMesh(body, garment, armpits, scale, longest), sleeves };
}

/** The size of the garment on this body: by the shoulders if it has sleeves, else by the chest. */
function upperScale(body: Body, garment: Garment): number {
  const trunk = body.trunk(body.armpitY + 6);
  const chest = garment.trunk(garment.armpitY + 4);
  const byChest = ((trunk.to - trunk.from) * 1.1) / Math.max(1, chest.to - chest.from);
  if (!garment.left.sleeve && !garment.right.sleeve) return byChest;
  const byShoulders = (2 * body.shoulderHalf) / Math.max(1, garment.right.corner.x - garment.left.corner.x);
  return (byChest + byShoulders) / 2;
}

/** Follows the slope of the shoulders above, the sides of the body below. */
function trunkMesh(body: Body, garment: Garment, armpits: Armpits, scale: number, longest: number): Mesh {
  const { armpitY, box } = garment;
  const hemY = Math.min(armpits.y + (box.bottom - armpitY) * scale, longest);
  const mesh: Mesh = [];
  const above = 14;
  for (let i = -4; i <= above; i++) mesh.push(shoulderRow(body, garment, armpits, i / above));
  const rows = Math.max(4, Math.round((hemY - armpits.y) / rowHeight));
  for (let i = 1; i <= rows; i++) {
    const y = lerp(armpits.y, hemY, i / rows);
    const gy = lerp(armpitY, box.bottom, i / rows);
    const g = garment.trunk(gy);
    const half = trunkHalves(body, garment, y, gy, scale);
    const blend = smooth((y - armpits.y) / (body.shoulderHalf * 0.5));
    const left = lerp(armpits.left.x, body.axis - half.left, blend);
    const right = lerp(armpits.right.x, body.axis + half.right, blend);
    mesh.push(row({ x: g.from, y: gy }, { x: g.to, y: gy }, { x: left, y }, { x: right, y }));
  }
  return mesh;
}

/** The cloth's reach to either side: as wide as the body needs, or as it falls by itself. */
export function trunkHalves(body: Body, garment: Garment, y: number, gy: number, scale: number) {
  const b = body.trunk(y);
  const g = garment.trunk(gy);
  const own = { left: (garment.axis - g.from) * scale, right: (g.to - garment.axis) * scale };
  const wide = { left: (body.axis - b.from) * ease, right: (b.to - body.axis) * ease };
  const loose = (natural: number, needed: number) => Math.max(needed, lerp(needed, natural, 0.72));
  return { left: loose(own.left, wide.left), right: loose(own.right, wide.right) };
}

/** One sleeve along one arm. A long sleeve ends at the wrist, a short one where its length ends. */
function sleeveMesh(
  body: Body,
  own: Side,
  side: GarmentSide,
  armpit: Point,
  sign: 1 | -1,
  scale: number,
): Mesh {
  if (!side.sleeve) return [];
  const { slices, length } = side.sleeve;
  const cuff = cuffOf(own.arm, length * scale);
  const topY = shoulderTop(body, own.corner.x) - 4;
  const middle = (topY + armpit.y + 3) / 2;
  const drop = (armpit.y + 3 - topY) / 2;
  /** The slant of the seam fades along the sleeve, slowly enough that the rows never cross. */
  const pace = clamp((0.6 * (cuff.center.y - middle)) / drop, 0.8, 3);
  const last = slices.length - 1;
  const first = slices[0] as [Point, Point];
  const rows = slices.map(([outer, inner], i) => {
    const t = i / last;
    const seam = 1 - smooth(t * pace);
    const from = {
      outer: moved(outer, side.corner, first[0], seam),
      inner: moved(inner, side.armpit, first[1], seam),
    };
    const natural = (Math.hypot(outer.x - inner.x, outer.y - inner.y) * scale) / 2;
    const y = lerp(middle, cuff.center.y, t);
    const half = lerp(cuff.slant, drop, seam);
    const outerX = outerEdge(body, own, sign, y - half, natural);
    const innerX = lerp(edge(own.arm, y + half, -sign, natural), armpit.x - sign * 4, smooth(seam * 1.3));
    return row(from.outer, from.inner, { x: outerX, y: y - half }, { x: innerX, y: y + half });
  });
  return [underlap(body, rows[0] as Vertex[], sign, scale), ...rows];
}

/** The point, shifted by a share of the way between two others. */
function moved(point: Point, to: Point, from: Point, share: number): Point {
  return { x: point.x + (to.x - from.x) * share, y: point.y + (to.y - from.y) * share };
}

/** A strip of cloth beyond the seam, so that no gap shows between sleeve and trunk. */
function underlap(body: Body, seam: Vertex[], sign: 1 | -1, scale: number): Vertex[] {
  const width = body.shoulderHalf * 0.05;
  return seam.map(({ from, to }, i) => {
    const share = 1 - i / seam.length;
    const x = to.x - sign * width;
    const rise = share > 0.9 ? Math.min(0, shoulderTop(body, x) - shoulderTop(body, to.x)) : 0;
    return {
      from: { x: from.x - (sign * width) / scale, y: from.y + rise / scale },
      to: { x, y: to.y + rise },
    };
  });
}

/** Where the sleeve ends on the arm, and how far its rim leans. */
function cuffOf(arm: ArmSlice[], wanted: number): { center: Point; slant: number } {
  const lengths = [0];
  for (let i = 1; i < arm.length; i++) {
    const [a, b] = [(arm[i - 1] as ArmSlice).center, (arm[i] as ArmSlice).center];
    lengths.push((lengths[i - 1] as number) + Math.hypot(b.x - a.x, b.y - a.y));
  }
  const whole = lengths.at(-1) as number;
  const reach = wanted > whole * 0.8 ? whole : wanted;
  const at = Math.max(
    1,
    lengths.findIndex((value) => value >= reach),
  );
  const [before, slice] = [arm[Math.max(0, at - 6)] as ArmSlice, arm[at] as ArmSlice];
  const lean = Math.abs(slice.center.x - before.center.x) / Math.max(1, slice.center.y - before.center.y);
  return { center: slice.center, slant: slice.half * Math.min(1, lean) };
}

/** The side of the cloth around the arm in this row: a little wider than the arm, wider if cut so. */
function edge(arm: ArmSlice[], y: number, sign: number, natural: number): number {
  const next = arm.findIndex(({ center }) => center.y >= y);
  const b = arm[next < 0 ? arm.length - 1 : next] as ArmSlice;
  const a = arm[Math.max(0, (next < 0 ? arm.length : next) - 1)] as ArmSlice;
  const t = clamp((y - a.center.y) / Math.max(1, b.center.y - a.center.y), 0, 1);
  const needed = lerp(a.half, b.half, t) * 1.12 + 2;
  return lerp(a.center.x, b.center.x, t) + sign * Math.max(needed, lerp(needed, natural, 0.4));
}

/** Over the shoulder it follows the outline of the body, farther down the arm. */
function outerEdge(body: Body, own: Side, sign: 1 | -1, y: number, natural: number): number {
  const free = body.armpitY + 10;
  const below = edge(own.arm, Math.max(y, free), sign, natural);
  if (y >= free) return below;
  const share = (y - own.corner.y) / Math.max(1, free - own.corner.y);
  const outline = body.measured ? outlineAt(body, sign, y) + sign * 3 : lerp(own.corner.x, below, share);
  const swell = below - (body.measured ? outlineAt(body, sign, free) + sign * 3 : below);
  return outline + swell * smooth(share);
}

/** The body's outline on this side, evened over a few rows. */
function outlineAt(body: Body, sign: 1 | -1, y: number): number {
  const near = [-6, -4, -2, 0, 2, 4, 6].map((dy) => outermost(body, sign, y + dy));
  return near.reduce((sum, x) => sum + x, 0) / near.length;
}

function outermost(body: Body, sign: 1 | -1, y: number): number {
  const all = runs(body.mask, clamp(Math.round(y), 0, body.height - 1));
  return (sign < 0 ? all[0]?.from : all.at(-1)?.to) ?? body.axis + sign * body.shoulderHalf;
}
