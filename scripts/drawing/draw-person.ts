import type { OverlayOptions } from "sharp";
import { baseLayer, bodyDetails, bodyPaths } from "./bodies.ts";
import { faceDetails, hairBack, hairFront, headPath } from "./faces.ts";
import { softFilters } from "./outline.ts";
import { cx, type Person, size } from "./people.ts";
import { blur, type Field, field, inflate, layer, noise, render, shade, stack, sum } from "./relief.ts";

const skinLight = {
  ambient: 0.42,
  strength: 0.72,
  gloss: 0.05,
  shadowTint: [0.34, 0.16, 0.1] as [number, number, number],
};
const hairLight = {
  ambient: 0.35,
  strength: 0.85,
  gloss: 0.1,
  shadowTint: [0.1, 0.06, 0.04] as [number, number, number],
};

const filled = (path: string, fill = "#fff", more = "") => `<path d="${path}" fill="${fill}" ${more}/>`;
const svg = (body: string) => `<defs>${softFilters}</defs>${body}`;

async function heights(paths: string[], depth: number, smooth: number): Promise<Field> {
  const mask = await field(size, paths.map((path) => filled(path)).join(""));
  return sum([blur(inflate(mask), smooth), depth]);
}

function backdrop(person: Person): string {
  const [light, dark] = person.backdrop;
  return `<defs>${softFilters}
    <radialGradient id="wall" cx="0.45" cy="0.35" r="0.9"><stop offset="0" stop-color="${light}"/><stop offset="1" stop-color="${dark}"/></radialGradient></defs>
    <rect width="100%" height="100%" fill="url(#wall)"/>
    <ellipse cx="${cx + 14}" cy="1096" rx="150" ry="14" fill="#3a332c" fill-opacity="0.30" filter="url(#soft12)"/>
    <ellipse cx="${cx}" cy="1097" rx="96" ry="8" fill="#2a241f" fill-opacity="0.35" filter="url(#soft6)"/>`;
}

function shoes(person: Person): string {
  const ankle = person.leg.find(([, y]) => y >= 1060)?.[0] ?? 58;
  const one = (side: number) => {
    const mid = cx + side * (ankle - 11);
    return `<path d="M${mid - side * 17} 1046 C${mid - side * 20} 1066 ${mid - side * 24} 1090 ${mid - side * 14} 1098
      L${mid + side * 28} 1098 C${mid + side * 34} 1084 ${mid + side * 20} 1064 ${mid + side * 17} 1046 Z" fill="${person.shoes}"/>
      <path d="M${mid - side * 17} 1093 L${mid + side * 30} 1093 L${mid + side * 28} 1100 L${mid - side * 13} 1100 Z" fill="#c9c5bd"/>
      <path d="M${mid - 9} 1060 h18 M${mid - 10} 1068 h20 M${mid - 10} 1076 h21" stroke="#b5b0a7" stroke-width="2.4"/>`;
  };
  return one(1) + one(-1);
}

async function body(person: Person): Promise<OverlayOptions[]> {
  const paths = bodyPaths(person);
  const clip = `<clipPath id="body">${paths.map((path) => `<path d="${path}"/>`).join("")}</clipPath>`;
  const base = baseLayer(person);
  const neckShadow = `<ellipse cx="${cx + 4}" cy="212" rx="${person.neck + 14}" ry="20" fill="#4a1f10" fill-opacity="0.42" filter="url(#soft6)"/>`;
  const edge = (path: string) =>
    `<path d="${path}" fill="none" stroke="#2a2622" stroke-opacity="0.28" stroke-width="3" filter="url(#soft2)"/>`;
  const flat = await render(
    size,
    `<defs>${softFilters}${clip}</defs><g clip-path="url(#body)">
      ${paths.map((path) => filled(path, person.skin)).join("")}${neckShadow}${bodyDetails(person)}
      ${filled(base.shorts, person.shorts)}${edge(base.shorts)}${filled(base.top, person.top)}${edge(base.top)}</g>`,
  );
  const bulk = await heights(paths, 1.5, 3);
  const creases = noise(size, 3, 60, 34);
  const clothes = blur(await field(size, filled(base.top) + filled(base.shorts)), 3);
  const relief = sum(
    [bulk, 1],
    [clothes, 1.2],
    [{ ...size, values: clothes.values.map((v, i) => v * (creases.values[i] as number)) }, 2],
  );
  return [layer(shade(flat, relief, skinLight)), layer(await render(size, shoes(person)))];
}

async function head(person: Person): Promise<OverlayOptions[]> {
  const path = headPath(person);
  const flat = await render(size, filled(path, person.skin));
  const relief = await heights([path], 1.25, 4);
  const face = await render(
    size,
    svg(
      `<clipPath id="head"><path d="${path}"/></clipPath><g clip-path="url(#head)">${faceDetails(person)}</g>`,
    ),
  );
  return [layer(shade(flat, relief, { ...skinLight, ambient: 0.5, strength: 0.62 })), layer(face)];
}

async function hair(path: string, person: Person, seed: number): Promise<OverlayOptions[]> {
  if (!path) return [];
  const flat = await render(size, svg(filled(path, person.hair, `filter="url(#soft1)"`)));
  const strands = sum([noise(size, seed, 3.2, 90), 0.9], [noise(size, seed + 1, 9, 140), 2.2]);
  const light = noise(size, seed + 2, 5, 120).values;
  const warm = [1, 3, 5].map((at) => Number.parseInt(person.hairLight.slice(at, at + 2), 16));
  for (let i = 0; i < light.length; i++) {
    const share = Math.max(0, light[i] as number) * 0.6;
    for (let c = 0; c < 3; c++) {
      const was = flat.rgba[i * 4 + c] as number;
      flat.rgba[i * 4 + c] = was + ((warm[c] as number) - was) * share;
    }
  }
  return [layer(shade(flat, sum([await heights([path], 1.3, 2), 1], [strands, 1]), hairLight))];
}

/** A drawn person in plain clothes before a studio wall, as JPEG. */
export async function drawPerson(person: Person): Promise<Buffer> {
  const wall = await render(size, backdrop(person));
  const layers = [
    layer(wall),
    ...(await hair(hairBack(person), person, 11)),
    ...(await body(person)),
    ...(await head(person)),
    ...(await hair(hairFront(person), person, 17)),
  ];
  const picture = await stack(size, layers);
  return picture.flatten({ background: "#ffffff" }).jpeg({ quality: 88, mozjpeg: true }).toBuffer();
}
