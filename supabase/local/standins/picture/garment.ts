import { withAlpha } from "./cut-out.ts";
import { type Box, boundingBox, type Image, lerp, type Mask, type Point, type Run, runs } from "./image.ts";
import { foreground } from "./mask.ts";

export type Category = "tops" | "bottoms" | "one-pieces";

/** The sleeve as slices along its axis: the two edges, from the seam to the cuff. */
export type Sleeve = { length: number; slices: [outer: Point, inner: Point][] };
export type GarmentSide = { corner: Point; armpit: Point; collar: Point; sleeve: Sleeve | null };

export type Garment = {
  image: Image;
  mask: Mask;
  box: Box;
  axis: number;
  armpitY: number;
  /** Where trousers part into two legs; null for anything else. */
  crotchY: number | null;
  left: GarmentSide;
  right: GarmentSide;
  trunk(y: number): Run;
  leg(side: "left" | "right", y: number): Run;
};

export class NoGarment extends Error {}

export function measureGarment(source: Image): Garment {
  const mask = foreground(source);
  const box = boundingBox(mask);
  if (!box || box.right - box.left < 8 || box.bottom - box.top < 8)
    throw new NoGarment("no garment was found");
  const image = withAlpha(source, mask);
  const tall = box.bottom - box.top;
  const axis = middleOf(mask, box);
  const crotchY = findCrotch(mask, box, axis);
  const trunk = trunkEdges(mask, box, axis);
  const { armpitY, sleeved } = findArmpit(box, trunk);
  const side = (sign: 1 | -1): GarmentSide => {
    const run = trunk(armpitY + Math.round(tall * 0.02));
    const armpit = { x: sign < 0 ? run.from : run.to, y: armpitY };
    const cornerX = sleeved ? lerp(armpit.x, axis, 0.05) : strapEdge(mask, box, axis, sign);
    const corner = { x: cornerX, y: topOf(mask, box, cornerX) };
    const sleeve = sleeved ? measureSleeve(mask, box, sign, corner, armpit) : null;
    return { corner, armpit, collar: collarPoint(mask, box, axis, corner), sleeve };
  };
  return {
    image,
    mask,
    box,
    axis,
    armpitY,
    crotchY,
    left: side(-1),
    right: side(1),
    trunk,
    leg: legEdges(mask, axis, trunk),
  };
}

/** What a garment is by its shape alone. */
export function categoryOf({ box, crotchY, left, right }: Garment): Category {
  if (crotchY !== null && !left.sleeve && !right.sleeve) return "bottoms";
  const shoulders = right.corner.x - left.corner.x;
  return (box.bottom - box.top) / Math.max(1, shoulders) > 2.3 ? "one-pieces" : "tops";
}

/** The middle of the lower half's rows. */
function middleOf(mask: Mask, box: Box): number {
  const middles: number[] = [];
  for (let y = Math.round(lerp(box.top, box.bottom, 0.5)); y < lerp(box.top, box.bottom, 0.92); y++) {
    const all = runs(mask, y);
    const [first, last] = [all[0], all.at(-1)];
    if (first && last) middles.push((first.from + last.to) / 2);
  }
  middles.sort((a, b) => a - b);
  return Math.round(middles[middles.length >> 1] ?? (box.left + box.right) / 2);
}

function findCrotch(mask: Mask, box: Box, axis: number): number | null {
  const tall = box.bottom - box.top;
  let y = box.bottom - Math.round(tall * 0.06);
  let open = 0;
  const parted = (row: number) => {
    const all = runs(mask, row);
    return all.some(({ to }) => to < axis) && all.some(({ from }) => from > axis) && !covers(all, axis);
  };
  while (y > box.top && parted(y)) {
    y--;
    open++;
  }
  return open > tall * 0.25 && y > box.top + tall * 0.12 ? y - 4 : null;
}

const covers = (all: Run[], x: number) => all.some(({ from, to }) => from <= x && x <= to);

/** The run around the axis; where legs part, both together. */
function trunkEdges(mask: Mask, box: Box, axis: number) {
  const cache = new Map<number, Run>();
  /** Rounded corners of the hem stay round: the rows above them say how wide it is. */
  const lowest = lerp(box.bottom, box.top, 0.03);
  return (y: number): Run => {
    const row = Math.round(Math.min(lowest, Math.max(box.top, y)));
    const known = cache.get(row);
    if (known) return known;
    const all = runs(mask, row);
    const own = all.find(({ from, to }) => from <= axis && axis <= to);
    const before = all.filter(({ to }) => to < axis).at(-1);
    const after = all.find(({ from }) => from > axis);
    const run = own ?? { from: before?.from ?? axis - 1, to: after?.to ?? axis + 1 };
    cache.set(row, run);
    return run;
  };
}

/** Going up from the hem, the row where the width jumps because sleeves join; else, going down, where straps end. */
function findArmpit(box: Box, trunk: (y: number) => Run): { armpitY: number; sleeved: boolean } {
  const tall = box.bottom - box.top;
  const width = (y: number) => trunk(y).to - trunk(y).from;
  const window = Math.max(3, Math.round(tall * 0.03));
  const highest = box.top + tall * 0.08;
  for (let y = Math.round(box.top + tall * 0.62); y > highest; y--) {
    if (width(y - window) > width(y) * 1.14 && width(y - 2 * window) > width(y) * 1.14)
      return { armpitY: y, sleeved: true };
  }
  let widening = false;
  for (let y = Math.round(highest); y < box.top + tall * 0.4; y++) {
    const growth = width(y + window) / Math.max(1, width(y)) - 1;
    if (growth > 0.03) widening = true;
    else if (widening && growth < 0.01) return { armpitY: y, sleeved: false };
  }
  return { armpitY: Math.round(box.top + tall * 0.25), sleeved: false };
}

function topOf({ width, data }: Mask, box: Box, x: number): number {
  const column = Math.round(x);
  for (let y = box.top; y < box.bottom; y++) if ((data[y * width + column] as number) > 0.5) return y;
  return box.bottom;
}

/** The outer end of a strap: of the uppermost rows, the pixel farthest from the axis. */
function strapEdge(mask: Mask, box: Box, axis: number, sign: 1 | -1): number {
  const rows = Math.max(2, Math.round((box.bottom - box.top) * 0.03));
  let edge = axis + sign * 4;
  for (let y = box.top; y < box.top + rows; y++) {
    for (const { from, to } of runs(mask, y)) {
      const x = sign < 0 ? from : to;
      if ((x - edge) * sign > 0) edge = x;
    }
  }
  return edge;
}

/** The uppermost point between axis and shoulder: where the collar meets the neck. */
function collarPoint(mask: Mask, box: Box, axis: number, corner: Point): Point {
  let best = corner;
  const step = Math.sign(corner.x - axis) || 1;
  for (let x = corner.x; (x - axis) * step > 2; x -= step) {
    const y = topOf(mask, box, x);
    if (y < best.y - 1) best = { x, y };
  }
  return best;
}

function measureSleeve(mask: Mask, box: Box, sign: 1 | -1, corner: Point, armpit: Point): Sleeve | null {
  const joint = { x: (corner.x + armpit.x) / 2, y: (corner.y + armpit.y) / 2 };
  const points = sleevePoints(mask, box, sign, corner, armpit);
  if (points.length < 50) return null;
  const reach = points.map(({ x, y }) => Math.hypot(x - joint.x, y - joint.y));
  const farthest = Math.max(...sample(reach));
  const cuff = points.filter((_, i) => (reach[i] as number) > farthest * 0.9);
  const end = {
    x: cuff.reduce((sum, { x }) => sum + x, 0) / cuff.length,
    y: cuff.reduce((sum, { y }) => sum + y, 0) / cuff.length,
  };
  const span = Math.hypot(end.x - joint.x, end.y - joint.y);
  const along = { x: (end.x - joint.x) / span, y: (end.y - joint.y) / span };
  /** Points outwards and up: the outer edge has the greater coordinate. */
  const across = { x: along.y * sign, y: -along.x * sign };
  const count = 32;
  const length = lengthAlong(points, joint, along);
  const edges = Array.from({ length: count + 1 }, () => ({
    low: Number.POSITIVE_INFINITY,
    high: Number.NEGATIVE_INFINITY,
  }));
  for (const { x, y } of points) {
    const t = ((x - joint.x) * along.x + (y - joint.y) * along.y) / length;
    const edge = edges[Math.round(t * count)];
    if (!edge) continue;
    const s = (x - joint.x) * across.x + (y - joint.y) * across.y;
    edge.low = Math.min(edge.low, s);
    edge.high = Math.max(edge.high, s);
  }
  const lows = evened(edges.map(({ low }) => low));
  const highs = evened(edges.map(({ high }) => high));
  const slices = edges.map((_, i): [Point, Point] => {
    const t = (i / count) * length;
    const [low, high] = [lows[i] as number, highs[i] as number];
    const at = (s: number) => ({
      x: joint.x + along.x * t + across.x * s,
      y: joint.y + along.y * t + across.y * s,
    });
    return [at(high), at(low)];
  });
  return { length, slices };
}

/** Takes the wobble out of measured edges, and the rounded corners of the cuff. */
function evened(values: number[]): number[] {
  const known = values.map((value) => (Number.isFinite(value) ? value : 0));
  const last = known.length - 1;
  const firm = known.map((_, i) => known[Math.min(i, last - 2)] as number);
  return firm.map((_, i) => {
    const near = firm.slice(Math.max(0, i - 2), i + 3);
    return near.reduce((sum, value) => sum + value, 0) / near.length;
  });
}

/** The mask's pixels on the far side of the line from shoulder corner to armpit. */
function sleevePoints(mask: Mask, box: Box, sign: 1 | -1, corner: Point, armpit: Point): Point[] {
  const points: Point[] = [];
  for (let y = box.top; y <= box.bottom; y++) {
    const t = (y - corner.y) / Math.max(1, armpit.y - corner.y);
    const seam = lerp(corner.x, armpit.x, Math.min(1, Math.max(0, t)));
    for (const { from, to } of runs(mask, y)) {
      const below = y > armpit.y + 2 && from <= armpit.x && armpit.x <= to;
      if (below) continue;
      const [a, b] = sign < 0 ? [from, Math.min(to, seam)] : [Math.max(from, seam), to];
      for (let x = Math.ceil(a); x <= b; x++) points.push({ x, y });
    }
  }
  return points.filter(({ x, y }) => y <= armpit.y || (x - armpit.x) * sign > 0);
}

/** The length that 98 of 100 points lie within: a loose thread does not lengthen a sleeve. */
function lengthAlong(points: Point[], joint: Point, along: Point): number {
  const values = points
    .map(({ x, y }) => (x - joint.x) * along.x + (y - joint.y) * along.y)
    .sort((a, b) => a - b);
  return Math.max(4, values[Math.floor(values.length * 0.985)] ?? 4);
}

function sample(values: number[]): number[] {
  const step = Math.ceil(values.length / 5000);
  return values.filter((_, i) => i % step === 0);
}

function legEdges(mask: Mask, axis: number, trunk: (y: number) => Run) {
  return (side: "left" | "right", y: number): Run => {
    const own = runs(mask, Math.round(y)).filter(({ from, to }) => {
      const middle = (from + to) / 2;
      return side === "left" ? middle < axis : middle > axis;
    });
    const [first, last] = [own[0], own.at(-1)];
    if (first && last && !(first.from < axis && last.to > axis)) return { from: first.from, to: last.to };
    const both = trunk(y);
    return side === "left" ? { from: both.from, to: axis } : { from: axis, to: both.to };
  };
}
