import type { Sharp } from "sharp";
import type { Drawing } from "./garments/cloth.ts";
import { softFilters } from "./outline.ts";
import { blur, field, inflate, layer, noise, render, shade, stack, sum } from "./relief.ts";

const clothLight = {
  ambient: 0.4,
  strength: 0.78,
  gloss: 0.02,
  shadowTint: [0.1, 0.09, 0.12] as [number, number, number],
};

/** A garment lying flat, lit from the upper left, on nothing. */
export async function drawGarment({ size, outline, surface, folds, weave }: Drawing): Promise<Sharp> {
  const shape = `<path d="${outline}" fill="#fff"/>`;
  const flat = await render(
    size,
    `<defs>${softFilters}<clipPath id="cut"><path d="${outline}"/></clipPath></defs><g clip-path="url(#cut)">${surface}</g>`,
  );
  const bulk = blur(inflate(await field(size, shape), 60), 4);
  const ridges = blur(await field(size, `<rect width="100%" height="100%" fill="#808080"/>${folds}`, 0), 7);
  const relief = sum(
    [bulk, 0.9],
    [ridges, 13],
    [noise(size, 5, 90, 120), 3],
    [noise(size, 9, 34, 44), 0.6],
    [noise(size, 2, 2.1, 2.1), weave],
  );
  return stack(size, [layer(shade(flat, relief, clothLight))]);
}
