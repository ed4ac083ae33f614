import type { ArmSlice, Body, Side } from "./body.ts";
import type { Garment, GarmentSide } from "./garment.ts";
import { clamp, lerp, mix, type Point, smooth } from "./image.ts";
import type { Mesh, Vertex } from "./mesh.ts";

const columns = 24;
const rowHeight = 6;
/** How far the mesh reaches over the garment's own edge, to take its soft outline along. */
const margin = 0.03;

/** How wide cloth lies around a body: a little wider than it. */
const ease = 1.05;

function row(fromLeft: Point, fromRight: Point, toLeft: Point, toRight: Point): Vertex[] {
  return Array.from({ length: columns + 1 }, (_, i) => {
    const t = -margin + (i / columns) * (1 + 2 * margin);
    return { from: mix(fromLeft, fromRight, t), to: mix(toLeft, toRight, t) };
  });
}

/** The size of the garment on this body: by the shoulders if it has sleeves, else by the chest. */
export function upperScale(body: Body, garment: Garment): number {
  const trunk = body.trunk(body.armpitY + 6);
  const chest = garment.trunk(garment.armpitY + 4);
  const byChest = ((trunk.to - trunk.from) * 1.1) / Math.max(1, chest.to - chest.from);
  if (!garment.left.sleeve && !garment.right.sleeve) return byChest;
  const byShoulders = (2 * body.shoulderHalf) / Math.max(1, garment.right.corner.x - garment.left.corner.x);
  return (byChest + byShoulders) / 2;
}

/** Shirts and dresses: follows the slope of the shoulders above, the sides of the body below. */
export function trunkMesh(body: Body, garment: Garment, scale: number, longest: number): Mesh {
  const { armpitY, box } = garment;
  const hemY = Math.min(body.armpitY + (box.bottom - armpitY) * scale, longest);
  const mesh: Mesh = [];
  const above = 14;
  for (let i = -4; i <= above; i++) mesh.push(shoulderRow(body, garment, i / above));
  const rows = Math.max(4, Math.round((hemY - body.armpitY) / rowHeight));
  for (let i = 1; i <= rows; i++) {
    const y = lerp(body.armpitY, hemY, i / rows);
    const gy = lerp(armpitY, box.bottom, i / rows);
    const g = garment.trunk(gy);
    const half = halfWidths(body, garment, y, gy, scale);
    const blend = smooth((i / rows) * 6);
    const left = lerp(body.left.armpit.x - 3, body.axis - half.left, blend);
    const right = lerp(body.right.armpit.x + 3, body.axis + half.right, blend);
    mesh.push(row({ x: g.from, y: gy }, { x: g.to, y: gy }, { x: left, y }, { x: right, y }));
  }
  return mesh;
}

/** The cloth's reach to either side: as wide as the body needs, or as it falls by itself. */
function halfWidths(body: Body, garment: Garment, y: number, gy: number, scale: number) {
  const b = body.trunk(y);
  const g = garment.trunk(gy);
  const own = { left: (garment.axis - g.from) * scale, right: (g.to - garment.axis) * scale };
  const wide = { left: (body.axis - b.from) * ease, right: (b.to - body.axis) * ease };
  const loose = (natural: number, needed: number) => Math.max(needed, lerp(needed, natural, 0.72));
  return { left: loose(own.left, wide.left), right: loose(own.right, wide.right) };
}

/** t = 0 is the line over the shoulders, 1 the line between the armpits; below 0 is the collar's rim. */
function shoulderRow(body: Body, garment: Garment, t: number): Vertex[] {
  const from = topLine(garment.left, garment.right);
  const slope = body.shoulderHalf * 0.2;
  const neck = { left: body.axis - body.neckHalf, right: body.axis + body.neckHalf };
  const lift = 4;
  const to = (x: number): Point => {
    const outward =
      x < body.axis
        ? (x - neck.left) / (body.left.corner.x - neck.left)
        : (x - neck.right) / (body.right.corner.x - neck.right);
    return { x, y: body.shoulderY - lift - slope * (1 - clamp(outward, 0, 1.05)) };
  };
  const inset = strapInset(body, garment);
  return Array.from({ length: columns + 1 }, (_, i) => {
    const u = i / columns;
    const top = from(u);
    const low = mix(garment.left.armpit, garment.right.armpit, u);
    const bodyTop = to(lerp(body.left.corner.x + inset.left, body.right.corner.x - inset.right, u));
    const bodyLow = mix(
      { x: body.left.armpit.x - 3, y: body.armpitY },
      { x: body.right.armpit.x + 3, y: body.armpitY },
      u,
    );
    return { from: mix(top, low, t), to: mix(bodyTop, bodyLow, t) };
  });
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

/** One sleeve along one arm. A long sleeve ends at the wrist, a short one where its length ends. */
export function sleeveMesh(own: Side, side: GarmentSide, sign: 1 | -1, scale: number): Mesh {
  if (!side.sleeve) return [];
  const { slices, length } = side.sleeve;
  const path = arcLengths(own.arm);
  const whole = path.at(-1) as number;
  const wanted = length * scale;
  const reach = wanted > whole * 0.8 ? whole : wanted;
  const last = slices.length - 1;
  return slices.map(([outer, inner], i) => {
    const t = i / last;
    const seam = 1 - smooth(t * 4);
    const from = { outer: mix(outer, side.corner, seam), inner: mix(inner, side.armpit, seam) };
    const natural = (Math.hypot(outer.x - inner.x, outer.y - inner.y) * scale) / 2;
    const on = tube(own.arm, path, t * reach, sign, natural);
    const corner = { x: own.corner.x + sign * 2, y: own.corner.y - 3 };
    const to = {
      outer: mix(on.outer, corner, seam),
      inner: mix(on.inner, { x: own.armpit.x, y: own.armpit.y + 4 }, seam),
    };
    return row(from.outer, from.inner, to.outer, to.inner);
  });
}

function arcLengths(arm: ArmSlice[]): number[] {
  const lengths = [0];
  for (let i = 1; i < arm.length; i++) {
    const [a, b] = [(arm[i - 1] as ArmSlice).center, (arm[i] as ArmSlice).center];
    lengths.push((lengths[i - 1] as number) + Math.hypot(b.x - a.x, b.y - a.y));
  }
  return lengths;
}

/** Both edges of the cloth around the arm, so far along it. */
function tube(arm: ArmSlice[], path: number[], at: number, sign: 1 | -1, natural: number) {
  let i = 1;
  while (i < path.length - 1 && (path[i] as number) < at) i++;
  const [a, b] = [arm[i - 1] as ArmSlice, arm[i] as ArmSlice];
  const t = clamp(
    (at - (path[i - 1] as number)) / Math.max(1e-6, (path[i] as number) - (path[i - 1] as number)),
    0,
    1,
  );
  const center = mix(a.center, b.center, t);
  const ahead = arm[Math.min(arm.length - 1, i + 3)] as ArmSlice;
  const behind = arm[Math.max(0, i - 4)] as ArmSlice;
  const length = Math.hypot(ahead.center.x - behind.center.x, ahead.center.y - behind.center.y) || 1;
  const along = {
    x: (ahead.center.x - behind.center.x) / length,
    y: (ahead.center.y - behind.center.y) / length,
  };
  const needed = lerp(a.half, b.half, t) * along.y * 1.12 + 2;
  const half = Math.max(needed, lerp(needed, natural, 0.45));
  const normal = { x: sign * along.y, y: -sign * along.x };
  return {
    outer: { x: center.x + normal.x * half, y: center.y + normal.y * half },
    inner: { x: center.x - normal.x * half, y: center.y - normal.y * half },
  };
}

/** Trousers, shorts, skirts: the waistband on the waist, the legs on the legs. */
export function lowerMeshes(body: Body, garment: Garment): Mesh[] {
  const { box, crotchY } = garment;
  const waistY = lerp(body.waistY, body.crotchY, 0.2);
  const waist = body.trunk(waistY);
  const band = garment.trunk(box.top + 3);
  const scale = ((waist.to - waist.from) * ease) / Math.max(1, band.to - band.from);
  const split = crotchY ?? box.bottom;
  const splitTo =
    crotchY === null ? Math.min(waistY + (box.bottom - box.top) * scale, body.ankleY) : body.crotchY + 6;
  const meshes: Mesh[] = [[]];
  const rows = Math.max(6, Math.round((splitTo - waistY) / rowHeight));
  for (let i = 0; i <= rows; i++) {
    const y = lerp(waistY, splitTo, i / rows);
    const gy = lerp(box.top, split, i / rows);
    const g = garment.trunk(gy);
    const half = halfWidths(body, garment, y, gy, scale);
    meshes[0]?.push(
      row(
        { x: g.from, y: gy },
        { x: g.to, y: gy },
        { x: body.axis - half.left, y },
        { x: body.axis + half.right, y },
      ),
    );
  }
  if (crotchY === null) return meshes;
  const stretch = (splitTo - waistY) / Math.max(1, split - box.top);
  const natural = splitTo + (box.bottom - split) * Math.max(scale, stretch);
  const hemY = natural > lerp(splitTo, body.ankleY, 0.8) ? body.ankleY : natural;
  for (const side of ["left", "right"] as const)
    meshes.push(legMesh(body, garment, side, splitTo, hemY, scale));
  return meshes;
}

function legMesh(
  body: Body,
  garment: Garment,
  side: "left" | "right",
  fromY: number,
  hemY: number,
  scale: number,
): Mesh {
  const { box, crotchY } = garment;
  const rows = Math.max(6, Math.round((hemY - fromY) / rowHeight));
  const sign = side === "left" ? -1 : 1;
  const mesh: Mesh = [];
  for (let i = 0; i <= rows; i++) {
    const t = i / rows;
    const y = lerp(fromY, hemY, t);
    const gy = lerp(crotchY ?? box.top, box.bottom, t);
    const g = garment.leg(side, gy);
    const b = body.leg(side, y);
    const middle = (b.from + b.to) / 2;
    const needed = ((b.to - b.from) / 2) * ease + 2;
    const own = ((g.to - g.from) / 2) * scale;
    const half = Math.max(needed, lerp(needed, own, 0.7));
    const top = halfWidths(body, garment, fromY, crotchY ?? box.top, scale);
    const outerTop = body.axis + sign * (sign < 0 ? top.left : top.right);
    const blend = smooth(t * 5);
    const outer = lerp(outerTop, middle + sign * half, blend);
    const inner = lerp(body.axis, middle - sign * half, smooth(t * 3));
    const edges = sign < 0 ? [outer, Math.min(inner, body.axis)] : [Math.max(inner, body.axis), outer];
    mesh.push(
      row(
        { x: g.from, y: gy },
        { x: g.to, y: gy },
        { x: edges[0] as number, y },
        { x: edges[1] as number, y },
      ),
    );
  }
  return mesh;
}
