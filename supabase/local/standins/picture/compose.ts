import type { Body } from "./body.ts";
import { lowerMeshes } from "./fit-lower.ts";
import { upperMeshes } from "./fit-upper.ts";
import { inFront } from "./front.ts";
import type { Category, Garment } from "./garment.ts";
import { blur, clamp, emptyMask, type Image, lerp, type Mask, map } from "./image.ts";
import { blank, drawMesh, over } from "./mesh.ts";
import { castShadow, lighting, roundness } from "./shading.ts";

/** The cloth as it lies on the body, colours multiplied with alpha. */
function drape(body: Body, person: Image, garment: Garment, category: Category): Image {
  const cloth = blank(body.width, body.height);
  if (category === "bottoms") {
    for (const mesh of lowerMeshes(body, garment)) drawMesh(cloth, garment.image, mesh);
    erase(cloth, inFront(body, person));
    return cloth;
  }
  const longest = lerp(body.crotchY, body.ankleY, category === "tops" ? 0.03 : 0.7);
  const meshes = upperMeshes(body, garment, longest);
  drawMesh(cloth, garment.image, meshes.trunk);
  const front = inFront(body, person);
  erase(cloth, front);
  const sleeves = blank(body.width, body.height);
  for (const mesh of meshes.sleeves) drawMesh(sleeves, garment.image, mesh);
  erase(sleeves, front, "hair");
  over(cloth, sleeves);
  return cloth;
}

function erase(cloth: Image, front: { arms: Mask; hair: Mask }, only?: "hair"): void {
  for (let i = 0; i < front.arms.data.length; i++) {
    const hidden = Math.max(front.hair.data[i] as number, only ? 0 : (front.arms.data[i] as number));
    if (hidden <= 0) continue;
    for (let c = 0; c < 4; c++) cloth.data[i * 4 + c] = (cloth.data[i * 4 + c] as number) * (1 - hidden);
  }
}

/** The cloth's alpha, made softer where a mesh ends abruptly; the colours follow it. */
function softEdges(cloth: Image): Mask {
  const hard = emptyMask(cloth);
  for (let i = 0; i < hard.data.length; i++) hard.data[i] = (cloth.data[i * 4 + 3] as number) / 255;
  const near = blur(hard, 1);
  return map(hard, (alpha, i) => {
    const soft = Math.min(alpha, clamp(((near.data[i] as number) - 0.3) / 0.55, 0, 1));
    if (soft < alpha)
      for (let c = 0; c < 4; c++) cloth.data[i * 4 + c] = ((cloth.data[i * 4 + c] as number) * soft) / alpha;
    return soft;
  });
}

export type Look = { brightness: number; warmth: number };

/** The person wearing the garment. Pixels that neither cloth nor its shadow touches stay as they were. */
export function compose(body: Body, person: Image, garment: Garment, category: Category, look: Look): Image {
  const cloth = drape(body, person, garment, category);
  const cover = softEdges(cloth);
  const light = lighting(person, body);
  const round = roundness(cover);
  const shadow = castShadow(cover);
  const result = new Uint8ClampedArray(person.data);
  const tint = [1 + look.warmth, 1, 1 - look.warmth];
  for (let i = 0; i < cover.data.length; i++) {
    const alpha = cover.data[i] as number;
    const shade = 1 - (shadow.data[i] as number) * (body.mask.data[i] as number) * 0.42;
    if (alpha === 0 && shade > 0.995) continue;
    const lit = (0.35 + 0.65 * (light.data[i] as number)) * (round.data[i] as number) * look.brightness;
    for (let c = 0; c < 3; c++) {
      const colour = (cloth.data[i * 4 + c] as number) * lit * (tint[c] as number);
      result[i * 4 + c] = colour + (person.data[i * 4 + c] as number) * shade * (1 - alpha);
    }
  }
  return { width: person.width, height: person.height, data: result };
}
