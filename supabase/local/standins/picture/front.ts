import type { Body } from "./body.ts";
import { blur, clamp, emptyMask, type Image, type Mask, map, runs } from "./image.ts";

/** What of the person stays before the cloth: bare arms and hands beside the body, hair over the shoulders. */
export function inFront(body: Body, person: Image): { arms: Mask; hair: Mask } {
  return { arms: armMask(body), hair: hairMask(body, person) };
}

function armMask(body: Body): Mask {
  const arms = emptyMask(body);
  const { width } = body;
  for (let y = body.armpitY + 2; y < Math.min(body.ankleY, body.height); y++) {
    for (const run of runs(body.mask, y)) {
      const away = Math.abs((run.from + run.to) / 2 - body.axis);
      if (away < body.shoulderHalf * 0.85) continue;
      for (let x = run.from - 1; x <= run.to + 1; x++)
        arms.data[y * width + x] = body.mask.data[y * width + x] ?? 0;
    }
  }
  return arms;
}

type Colour = [number, number, number];

/** Spreads from the crown of the head over pixels of the hair's colour, down past the shoulders. */
function hairMask(body: Body, person: Image): Mask {
  const found = emptyMask(body);
  if (!body.measured) return found;
  const { width, data } = person;
  const at = (i: number): Colour => [
    data[i * 4] as number,
    data[i * 4 + 1] as number,
    data[i * 4 + 2] as number,
  ];
  const headTall = body.shoulderY - body.headTop;
  const seeds: number[] = [];
  for (let y = body.headTop + headTall * 0.05; y < body.headTop + headTall * 0.16; y++) {
    for (let dx = -headTall * 0.1; dx < headTall * 0.1; dx++)
      seeds.push(Math.round(y) * width + Math.round(body.axis + dx));
  }
  const hair = medianColour(seeds.map(at));
  const isHair = (i: number) => {
    const [r, g, b] = at(i);
    return Math.hypot(r - hair[0], g - hair[1], b - hair[2]) < 62;
  };
  const lowest = body.armpitY + body.shoulderHalf;
  const queue = seeds.filter(isHair);
  for (const i of queue) found.data[i] = 1;
  while (queue.length > 0) {
    const i = queue.pop() as number;
    const [x, y] = [i % width, Math.floor(i / width)];
    if (y > lowest || Math.abs(x - body.axis) > body.shoulderHalf) continue;
    for (const next of [i - 1, i + 1, i - width, i + width]) {
      if (next < 0 || found.data[next] || (body.mask.data[next] ?? 0) < 0.5 || !isHair(next)) continue;
      found.data[next] = 1;
      queue.push(next);
    }
  }
  return map(blur(found, 1), (value) => clamp(value * 1.6 - 0.15, 0, 1));
}

function medianColour(colours: Colour[]): Colour {
  const middle = (c: 0 | 1 | 2) =>
    colours.map((colour) => colour[c]).sort((a, b) => a - b)[colours.length >> 1] ?? 0;
  return [middle(0), middle(1), middle(2)];
}
