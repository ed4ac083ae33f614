import type { Body } from "./body.ts";
import { blur, clamp, emptyMask, type Image, type Mask, map } from "./image.ts";

const luminance = (data: Uint8ClampedArray, i: number) =>
  0.299 * (data[i * 4] as number) + 0.587 * (data[i * 4 + 1] as number) + 0.114 * (data[i * 4 + 2] as number);

/**
 * How brightly the person is lit, as a factor around 1. Skin and clothes differ in tone, which is not light:
 * the tones are grouped first, and each pixel is compared with the mean of its group.
 */
export function lighting(person: Image, body: Body): Mask {
  const { width, height, data } = person;
  const inside = body.mask.data;
  const tones = groupTones(person, inside);
  const light = emptyMask({ width, height });
  for (let i = 0; i < light.data.length; i++) {
    if ((inside[i] as number) < 0.5) {
      light.data[i] = 1;
      continue;
    }
    const value = luminance(data, i);
    const tone = tones.reduce((best, mean) =>
      Math.abs(mean - value) < Math.abs(best - value) ? mean : best,
    );
    light.data[i] = clamp(value / Math.max(20, tone), 0.72, 1.22);
  }
  return blur(light, Math.max(2, Math.round(width * 0.009)));
}

/** The means of four groups of luminance (k-means on a sample). */
function groupTones({ data }: Image, inside: Float32Array): number[] {
  const values: number[] = [];
  for (let i = 0; i < inside.length; i += 37)
    if ((inside[i] as number) > 0.9) values.push(luminance(data, i));
  let means = [50, 105, 165, 220];
  for (let round = 0; round < 6; round++) {
    const groups = means.map(() => ({ sum: 0, count: 0 }));
    for (const value of values) {
      const nearest = means.reduce(
        (best, mean, k) => (Math.abs(mean - value) < Math.abs((means[best] as number) - value) ? k : best),
        0,
      );
      const group = groups[nearest] as { sum: number; count: number };
      group.sum += value;
      group.count++;
    }
    means = groups.map(({ sum, count }, k) => (count > 0 ? sum / count : (means[k] as number)));
  }
  return means;
}

/** Cloth turns away from the light at its edges: darker there, a little lighter where it faces it. */
export function roundness(cloth: Mask): Mask {
  const reach = Math.max(3, Math.round(cloth.width * 0.018));
  const wide = blur(cloth, reach);
  const { width } = cloth;
  return map(wide, (value, i) => {
    const inner = clamp((value - 0.5) * 2, 0, 1);
    const side = ((wide.data[i + reach] ?? value) - (wide.data[i - reach] ?? value)) * 0.1;
    const above = ((wide.data[i + reach * width] ?? value) - (wide.data[i - reach * width] ?? value)) * 0.05;
    return 0.78 + 0.22 * Math.sqrt(inner) + side + above;
  });
}

/** The shadow that cloth casts on what it lies on, falling down and to the right. */
export function castShadow(cloth: Mask): Mask {
  const { width } = cloth;
  const drop = Math.max(2, Math.round(width * 0.006));
  const soft = blur(cloth, drop);
  return map(soft, (_, i) =>
    clamp((soft.data[i - drop * width - (drop >> 1)] ?? 0) - (cloth.data[i] as number), 0, 1),
  );
}
