export type Point = [x: number, y: number];

const round = (value: number) => Math.round(value * 10) / 10;

/** A closed smooth outline through the points (Catmull-Rom as Bézier curves). */
export function closed(points: Point[], tension = 1): string {
  const at = (index: number): Point => points[(index + points.length) % points.length] as Point;
  const parts = points.map((point, index) =>
    curve(at(index - 1), point, at(index + 1), at(index + 2), tension),
  );
  return `M${at(0).map(round).join(" ")}${parts.join("")}Z`;
}

/** An open smooth line through the points. */
export function line(points: Point[], tension = 1): string {
  const at = (index: number): Point => points[Math.min(points.length - 1, Math.max(0, index))] as Point;
  const parts = points.slice(0, -1).map((point, i) => curve(at(i - 1), point, at(i + 1), at(i + 2), tension));
  return `M${at(0).map(round).join(" ")}${parts.join("")}`;
}

function curve(before: Point, from: Point, to: Point, after: Point, tension: number): string {
  const k = tension / 6;
  const a = [from[0] + (to[0] - before[0]) * k, from[1] + (to[1] - before[1]) * k];
  const b = [to[0] - (after[0] - from[0]) * k, to[1] - (after[1] - from[1]) * k];
  return `C${[...a, ...b, ...to].map(round).join(" ")}`;
}

/** Points mirrored at the vertical line x = cx, in the opposite direction. */
export function mirrored(points: Point[], cx: number): Point[] {
  return points.map(([x, y]): Point => [2 * cx - x, y]).reverse();
}

/** The outline whose right half is given from top to bottom, as distances from the axis. */
export function symmetric(half: Point[], cx: number, tension = 1): string {
  const right = half.map(([dx, y]): Point => [cx + dx, y]);
  return closed([...right, ...mirrored(right, cx)], tension);
}

/** Blurs of several strengths, for use as `filter="url(#soft4)"`. */
export const softFilters = [1, 2, 3, 4, 6, 8, 12]
  .map(
    (d) =>
      `<filter id="soft${d}" x="-50%" y="-50%" width="200%" height="200%"><feGaussianBlur stdDeviation="${d}"/></filter>`,
  )
  .join("");
