import type { Body } from "./body.ts";
import { ease, row, rowHeight } from "./fit.ts";
import { trunkHalves } from "./fit-upper.ts";
import type { Garment } from "./garment.ts";
import { lerp, smooth } from "./image.ts";
import type { Mesh } from "./mesh.ts";

/** Trousers, shorts, skirts: the waistband on the waist, the legs on the legs. */
export function lowerMeshes(body: Body, garment: Garment): Mesh[] {
  const { box, crotchY } = garment;
  const waistY = lerp(body.waistY, body.crotchY, 0.2);
  const waist = body.trunk(waistY);
  const band = garment.trunk(box.top + 3);
  const scale = ((waist.to - waist.from) * ease) / Math.max(1, band.to - band.from);
  const split = crotchY ?? box.bottom;
  const skirtHem = Math.min(waistY + (box.bottom - box.top) * scale, body.ankleY);
  const splitTo = crotchY === null ? skirtHem : body.crotchY + 8;
  const hips: Mesh = [];
  const rows = Math.max(6, Math.round((splitTo - waistY) / rowHeight));
  for (let i = 0; i <= rows; i++) {
    const y = lerp(waistY, splitTo, i / rows);
    const gy = lerp(box.top, split, i / rows);
    const g = garment.trunk(gy);
    const half = trunkHalves(body, garment, y, gy, scale);
    const [left, right] = [body.axis - half.left, body.axis + half.right];
    hips.push(row({ x: g.from, y: gy }, { x: g.to, y: gy }, { x: left, y }, { x: right, y }));
  }
  if (crotchY === null) return [hips];
  const stretch = (splitTo - waistY) / Math.max(1, split - box.top);
  const natural = splitTo + (box.bottom - split) * Math.max(scale, stretch);
  const hemY = natural > lerp(splitTo, body.ankleY, 0.8) ? body.ankleY : natural;
  const legs = (["left", "right"] as const).map((side) => legMesh(body, garment, side, splitTo, hemY, scale));
  return [hips, ...legs];
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
  const split = crotchY ?? box.top;
  const sign = side === "left" ? -1 : 1;
  const top = trunkHalves(body, garment, fromY, split, scale);
  const outerTop = body.axis + sign * (sign < 0 ? top.left : top.right);
  const rows = Math.max(6, Math.round((hemY - fromY) / rowHeight));
  const mesh: Mesh = [];
  for (let i = 0; i <= rows; i++) {
    const t = i / rows;
    const y = lerp(fromY, hemY, t);
    const gy = lerp(split, box.bottom, t);
    const g = garment.leg(side, gy);
    const b = body.leg(side, y);
    const middle = (b.from + b.to) / 2;
    const needed = ((b.to - b.from) / 2) * ease + 2;
    const own = ((g.to - g.from) / 2) * scale;
    const half = Math.max(needed, lerp(needed, own, 0.7));
    const outer = lerp(outerTop, middle + sign * half, smooth(t * 5));
    const inner = lerp(body.axis, middle - sign * half, smooth(t * 3));
    const [left, right] =
      sign < 0 ? [outer, Math.min(inner, body.axis)] : [Math.max(inner, body.axis), outer];
    mesh.push(row({ x: g.from, y: gy }, { x: g.to, y: gy }, { x: left, y }, { x: right, y }));
  }
  return mesh;
}
