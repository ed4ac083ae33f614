import { closed, line, mirrored, type Point } from "../outline.ts";

/** A garment laid flat. Colours and seams are flat drawing; `folds` are ridges and grooves for the relief. */
export type Drawing = {
  size: { width: number; height: number };
  outline: string;
  /** Drawn inside the outline. */
  surface: string;
  /** White strokes rise, black strokes sink. */
  folds: string;
  weave: number;
};

export const flipped = (points: Point[], cx: number) => `${line(points)}${line(mirrored(points, cx))}`;
const polygon = (half: Point[], cx: number) => {
  const right = half.map(([dx, y]): Point => [cx + dx, y]);
  return [...right, ...mirrored(right, cx)];
};
/** Straight stretches with soft corners, as cloth has them. */
export const cut = (half: Point[], cx: number) => closed(polygon(half, cx), 0.35);

export const seam = (path: string, width = 2, opacity = 0.4) =>
  `<path d="${path}" fill="none" stroke="#000" stroke-opacity="${opacity}" stroke-width="${width}"/>`;
export const stitches = (path: string) =>
  `<path d="${path}" fill="none" stroke="#fff" stroke-opacity="0.35" stroke-width="1.5" stroke-dasharray="5 4"/>`;
export const fold = (points: Point[], width: number, up: boolean) =>
  `<path d="${line(points)}" fill="none" stroke="${up ? "#fff" : "#000"}" stroke-width="${width}" stroke-linecap="round"/>`;

/** A round neckline from its lowest point up to where it meets the shoulder. */
export function neckline(half: number, top: number, depth: number): Point[] {
  return [0, 14, 30, 46, 62, 76, 86].map((degrees) => {
    const angle = (degrees * Math.PI) / 180;
    return [half * Math.sin(angle), top + (depth - top) * Math.cos(angle)];
  });
}
