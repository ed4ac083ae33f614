import type { ArmSlice, Body, Side } from "./body.ts";
import { ease, row, rowHeight } from "./fit.ts";
import type { Garment, GarmentSide } from "./garment.ts";
import { clamp, lerp, mix, type Point, smooth } from "./image.ts";
import type { Mesh } from "./mesh.ts";
import { armpitsOn, shoulderRow } from "./shoulders.ts";

/** The meshes that put a shirt, a jacket or a dress on a body. */
export function upperMeshes(body: Body, garment: Garment, longest: number): { trunk: Mesh; sleeves: Mesh[] } {
  const scale = upperScale(body, garment);
  const armpits = armpitsOn(body, garment, scale);
  const sleeves = [
    sleeveMesh(body.left, garment.left, armpits.left, -1, scale),
    sleeveMesh(body.right, garment.right, armpits.right, 1, scale),
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

type Armpits = ReturnType<typeof armpitsOn>;

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
function sleeveMesh(own: Side, side: GarmentSide, armpit: Point, sign: 1 | -1, scale: number): Mesh {
  if (!side.sleeve) return [];
  const { slices, length } = side.sleeve;
  const path = arcLengths(own.arm);
  const whole = path.at(-1) as number;
  const wanted = length * scale;
  const reach = wanted > whole * 0.8 ? whole : wanted;
  const last = slices.length - 1;
  const corner = { x: own.corner.x - sign * 2, y: own.corner.y - 4 };
  const fold = { x: armpit.x - sign * 5, y: armpit.y + 3 };
  return slices.map(([outer, inner], i) => {
    const t = i / last;
    const seam = 1 - smooth(t * Math.max(1.6, Math.min(4, length / 70)));
    const from = { outer: mix(outer, side.corner, seam), inner: mix(inner, side.armpit, seam) };
    const natural = (Math.hypot(outer.x - inner.x, outer.y - inner.y) * scale) / 2;
    const on = tube(own.arm, path, t * reach, sign, natural);
    const to = { outer: mix(on.outer, corner, seam), inner: mix(on.inner, fold, seam) };
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
  const step = Math.max(1e-6, (path[i] as number) - (path[i - 1] as number));
  const t = clamp((at - (path[i - 1] as number)) / step, 0, 1);
  const center = mix(a.center, b.center, t);
  const ahead = (arm[Math.min(arm.length - 1, i + 6)] as ArmSlice).center;
  const behind = (arm[Math.max(0, i - 7)] as ArmSlice).center;
  const length = Math.hypot(ahead.x - behind.x, ahead.y - behind.y) || 1;
  const along = { x: (ahead.x - behind.x) / length, y: (ahead.y - behind.y) / length };
  const needed = lerp(a.half, b.half, t) * along.y * 1.12 + 2;
  const half = Math.max(needed, lerp(needed, natural, 0.45));
  const normal = { x: sign * along.y, y: -sign * along.x };
  return {
    outer: { x: center.x + normal.x * half, y: center.y + normal.y * half },
    inner: { x: center.x - normal.x * half, y: center.y - normal.y * half },
  };
}
