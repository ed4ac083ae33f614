import { mix, type Point } from "./image.ts";
import type { Vertex } from "./mesh.ts";

/** Pieces of one garment share it, so that their rows join. */
export const columns = 40;
/** How far the mesh reaches over the garment's own edge, to take its soft outline along. */
const margin = 0.02;

/** The distance of two rows of a mesh on the body, in pixels. */
export const rowHeight = 6;
/** How wide cloth lies around a body: a little wider than it. */
export const ease = 1.05;

/** One row of a mesh between two edges of the garment, and between where they come to lie. */
export function row(fromLeft: Point, fromRight: Point, toLeft: Point, toRight: Point): Vertex[] {
  return Array.from({ length: columns + 1 }, (_, i) => {
    const t = -margin + (i / columns) * (1 + 2 * margin);
    return { from: mix(fromLeft, fromRight, t), to: mix(toLeft, toRight, t) };
  });
}
