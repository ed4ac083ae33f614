import {
  boundingBox,
  clamp,
  type Image,
  lerp,
  type Mask,
  type Point,
  type Run,
  runAt,
  runs,
} from "./image.ts";
import { foreground } from "./mask.ts";

export type ArmSlice = { center: Point; half: number };
export type Side = {
  /** The shoulder's outer corner, and the end of the fold under the arm. */
  corner: Point;
  armpit: Point;
  /** From the shoulder joint to the wrist. */
  arm: ArmSlice[];
};

export type Body = {
  width: number;
  height: number;
  mask: Mask;
  /** The body's axis. */
  axis: number;
  headTop: number;
  neckHalf: number;
  shoulderY: number;
  shoulderHalf: number;
  armpitY: number;
  waistY: number;
  crotchY: number;
  ankleY: number;
  left: Side;
  right: Side;
  /** Edges of the torso, below the armpits; of both legs together, below the crotch. */
  trunk(y: number): Run;
  /** Edges of one leg, below the crotch. */
  leg(side: "left" | "right", y: number): Run;
  /** Whether the silhouette was clear enough to measure, or proportions had to do. */
  measured: boolean;
};

/** Finds a standing person's proportions in the silhouette; falls back to those of the picture's size. */
export function measureBody(image: Image): Body {
  const mask = foreground(image);
  const box = boundingBox(mask);
  const { width, height } = image;
  const plausible = box && box.bottom - box.top > height * 0.45 && boundedAbove(mask, box.top);
  if (box && plausible) {
    const shoulders = findShoulders(mask, box.top, box.bottom);
    if (shoulders) return build(mask, box.top, box.bottom, shoulders, true);
  }
  const half = Math.min(width * 0.2, height * 0.14);
  const shoulders = { axis: width / 2, y: height * 0.27, half };
  return build(mask, Math.round(height * 0.08), Math.round(height * 0.97), shoulders, false);
}

/** A head against the wall above it; where the flood found nothing, the mask begins at the picture's edge. */
function boundedAbove(mask: Mask, top: number): boolean {
  const row = runs(mask, Math.min(mask.height - 1, top + 3));
  const [first, last] = [row[0], row.at(-1)];
  return top > 1 && first !== undefined && last !== undefined && last.to - first.from < mask.width * 0.6;
}

type Shoulders = { axis: number; y: number; half: number };

/** The row where the outline turns from the slope of the shoulders to the fall of the arms. */
function findShoulders(mask: Mask, top: number, bottom: number): Shoulders | null {
  const tall = bottom - top;
  /** Of a person cut off by the picture's edge, the head is a greater part. */
  const [lowest, farthest] = bottom >= mask.height - 3 ? [0.6, 0.75] : [0.32, 0.4];
  const headRow = runs(mask, Math.round(top + tall * 0.06))[0];
  if (!headRow) return null;
  const axis = Math.round((headRow.from + headRow.to) / 2);
  const widthAt = (y: number) => {
    const run = runAt(mask, axis, clamp(Math.round(y), 0, mask.height - 1));
    return run ? run.to - run.from + 1 : 0;
  };
  const window = Math.max(3, Math.round(tall * 0.009));
  const slope = (y: number) => (widthAt(y + window) - widthAt(y - window)) / (4 * window);
  let steepest = 0;
  let steepestSlope = 0;
  for (let y = top + tall * 0.09; y < top + tall * lowest; y++) {
    if (slope(y) > steepestSlope) [steepest, steepestSlope] = [y, slope(y)];
  }
  if (steepestSlope < 1) return null;
  let y = steepest;
  while (slope(y) > 0.95 && y < top + tall * farthest) y++;
  return { axis, y: Math.round(y), half: widthAt(y) / 2 };
}

function build(mask: Mask, top: number, bottom: number, shoulders: Shoulders, measured: boolean): Body {
  const { axis, half } = shoulders;
  const tall = bottom - top;
  const cropped = bottom >= mask.height - 3;
  const unit = half / 0.115;
  const bodyTall = measured && !cropped ? tall : unit;
  const armpitGuess = Math.round(shoulders.y + half * 0.66);
  const gap = measured
    ? findGaps(mask, axis, shoulders.y, Math.min(bottom, Math.round(shoulders.y + half * 2.4)))
    : null;
  const armpitY = gap ?? armpitGuess;
  const crotchGuess = Math.round(top + bodyTall * 0.535);
  const crotchY = measured ? (findCrotch(mask, axis, armpitY, bottom) ?? crotchGuess) : crotchGuess;
  const trunk = trunkEdges(mask, axis, half, gap !== null, crotchY);
  const waistY = findWaist(trunk, armpitY, crotchY);
  const side = (sign: 1 | -1): Side => {
    const run = trunk(armpitY + 4);
    const armpit = { x: sign < 0 ? run.from : run.to, y: armpitY };
    const corner = { x: axis + sign * half, y: shoulders.y };
    return { corner, armpit, arm: findArm(mask, axis, sign, corner, armpit, crotchY, gap !== null, half) };
  };
  return {
    width: mask.width,
    height: mask.height,
    mask,
    axis,
    headTop: top,
    neckHalf: half * 0.3,
    shoulderY: shoulders.y,
    shoulderHalf: half,
    armpitY,
    waistY,
    crotchY,
    ankleY: Math.round(top + bodyTall * 0.945),
    left: side(-1),
    right: side(1),
    trunk,
    leg: legEdges(mask, axis, trunk),
    measured,
  };
}

/** The first row with air between the torso and both arms. */
function findGaps(mask: Mask, axis: number, from: number, to: number): number | null {
  const open = (y: number) => {
    const all = runs(mask, y);
    const torso = all.findIndex((run) => run.from <= axis && axis <= run.to);
    return torso > 0 && torso < all.length - 1;
  };
  for (let y = from; y < to; y++) if (open(y) && open(y + 4) && open(y + 8)) return y;
  return null;
}

function findCrotch(mask: Mask, axis: number, armpitY: number, bottom: number): number | null {
  for (let y = armpitY + 20; y < bottom - 12; y++) {
    if (!runAt(mask, axis, y) && !runAt(mask, axis, y + 8)) return y;
  }
  return null;
}

function trunkEdges(mask: Mask, axis: number, half: number, free: boolean, crotchY: number) {
  const guess = { from: axis - half * 0.8, to: axis + half * 0.8 };
  const measured = (y: number): Run => {
    const row = clamp(Math.round(y), 0, mask.height - 1);
    const own = runAt(mask, axis, row);
    if (own && row < crotchY) return own;
    const legs = runs(mask, row).filter(
      ({ from, to }) => from < axis + half * 1.15 && to > axis - half * 1.15,
    );
    const [first, last] = [legs[0], legs.at(-1)];
    return first && last ? { from: first.from, to: last.to } : guess;
  };
  if (!free) return () => guess;
  /** A nick in the outline is not a waist: the middle one of a few rows counts. */
  return (y: number): Run => {
    const rows = [-8, -4, 0, 4, 8].map((dy) => measured(y + dy));
    const middle = (of: (run: Run) => number) => rows.map(of).sort((a, b) => a - b)[2] as number;
    return { from: middle(({ from }) => from), to: middle(({ to }) => to) };
  };
}

function findWaist(trunk: (y: number) => Run, armpitY: number, crotchY: number): number {
  let best = Math.round(lerp(armpitY, crotchY, 0.45));
  let narrowest = Number.POSITIVE_INFINITY;
  for (let y = Math.round(lerp(armpitY, crotchY, 0.25)); y < lerp(armpitY, crotchY, 0.65); y++) {
    const run = trunk(y);
    if (run.to - run.from < narrowest) [best, narrowest] = [y, run.to - run.from];
  }
  return best;
}

function legEdges(mask: Mask, axis: number, trunk: (y: number) => Run) {
  const measured = (side: "left" | "right", y: number): Run => {
    const row = clamp(Math.round(y), 0, mask.height - 1);
    const both = trunk(row);
    const own = runs(mask, row).filter(({ from, to }) => {
      const middle = (from + to) / 2;
      return middle > both.from && middle < both.to && (side === "left" ? to < axis : from > axis);
    });
    const [first, last] = [own[0], own.at(-1)];
    if (first && last) return { from: first.from, to: last.to };
    return side === "left" ? { from: both.from, to: axis - 2 } : { from: axis + 2, to: both.to };
  };
  return (side: "left" | "right", y: number): Run => {
    const rows = [-6, -3, 0, 3, 6].map((dy) => measured(side, y + dy));
    const mean = (of: (run: Run) => number) => rows.reduce((sum, run) => sum + of(run), 0) / rows.length;
    return { from: mean(({ from }) => from), to: mean(({ to }) => to) };
  };
}

/** The arm as slices from joint to wrist: measured where it hangs free, else along the body's side. */
function findArm(
  mask: Mask,
  axis: number,
  sign: 1 | -1,
  corner: Point,
  armpit: Point,
  crotchY: number,
  free: boolean,
  half: number,
): ArmSlice[] {
  const joint = {
    center: { x: (corner.x + armpit.x) / 2 + sign * half * 0.04, y: (corner.y + armpit.y) / 2 },
    half: half * 0.3,
  };
  const slices = [joint];
  const reach = half * 4.2;
  for (let y = armpit.y + 6; free && y < Math.min(mask.height, crotchY + half * 1.4); y += 4) {
    const row = runs(mask, y).filter((run) =>
      sign < 0 ? run.to < axis - half * 0.3 : run.from > axis + half * 0.3,
    );
    const run = sign < 0 ? row[0] : row.at(-1);
    const torso = runAt(mask, axis, y);
    if (!run || (torso && run.from === torso.from) || run.to - run.from > half) break;
    slices.push({ center: { x: (run.from + run.to) / 2, y }, half: (run.to - run.from) / 2 });
  }
  if (slices.length < 8) {
    for (let t = 0.1; t <= 1; t += 0.1) {
      slices.push({
        center: { x: corner.x - sign * half * 0.12, y: armpit.y + t * half * 2.6 },
        half: half * 0.22,
      });
    }
    return slices;
  }
  const length = slices.at(-1)!.center.y - corner.y;
  const wristY = corner.y + Math.min(length * 0.8, reach);
  return slices.filter(({ center }) => center.y <= wristY);
}
