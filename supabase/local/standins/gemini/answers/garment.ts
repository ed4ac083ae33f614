// What a picture of a garment shows, measured: its shape gives the category, sleeves and length, its colours the
// pattern.

import { categoryOf, type Garment, measureGarment, NoGarment } from "../../picture/garment.ts";
import { decode } from "../../picture/image.ts";
import { GoogleError } from "../errors.ts";
import type { Answer } from "./index.ts";

const categories = { tops: "upper_body", bottoms: "lower_body", "one-pieces": "dresses" } as const;
const visible = { upper_body: "upper", lower_body: "lower", dresses: "full" } as const;

export const garment: Answer = async ({ contents, generationConfig }) => {
  if (!generationConfig?.responseSchema?.properties?.leffa_category) return undefined;
  const data = contents.flatMap(({ parts }) => parts).find(({ inlineData }) => inlineData)?.inlineData?.data;
  if (data === undefined) return undefined;
  const image = await decode(Buffer.from(data, "base64"), { width: 512, height: 512 }).catch(() => {
    throw new GoogleError(400, "Unable to process input image. Please retry or report the problem.");
  });
  try {
    return JSON.stringify(described(measureGarment(image)));
  } catch (error) {
    if (error instanceof NoGarment) return JSON.stringify(nothingSeen);
    throw error;
  }
};

const nothingSeen = {
  leffa_category: "upper_body",
  category_confidence: 0.1,
  sleeve_type: null,
  neckline: null,
  length: null,
  fit: null,
  has_print: false,
  has_pattern: false,
  pattern_type: null,
  warnings: ["No garment can be made out in the picture."],
  recommended_body_visible: "full",
  recommended_pose: "front_standing",
};

function described(seen: Garment) {
  const category = categories[categoryOf(seen)];
  const tall = seen.box.bottom - seen.box.top;
  const wide = seen.box.right - seen.box.left;
  const variety = varietyOf(seen);
  const pattern = variety < 0.12 ? "solid" : variety < 0.3 ? "stripes" : "graphic";
  const touching = seen.box.left < 2 || seen.box.top < 2 || seen.box.right > seen.image.width - 3;
  return {
    leffa_category: category,
    category_confidence: 0.92,
    sleeve_type: category === "lower_body" ? null : sleeveOf(seen, tall),
    neckline: category === "lower_body" ? null : "crew",
    length: category === "dresses" ? (tall > 2 * wide ? "maxi" : "midi") : "regular",
    fit: "regular",
    has_print: pattern === "graphic",
    has_pattern: pattern !== "solid",
    pattern_type: pattern,
    warnings: touching ? ["The garment is cut off at the picture's edge."] : [],
    recommended_body_visible: visible[category],
    recommended_pose: "front_standing",
  };
}

function sleeveOf({ left, right }: Garment, tall: number): string {
  const length = Math.max(left.sleeve?.length ?? 0, right.sleeve?.length ?? 0) / tall;
  if (length === 0) return "sleeveless";
  return length < 0.15 ? "cap" : length < 0.45 ? "short" : length < 0.6 ? "3/4" : "long";
}

/** How far the garment's colours lie from their mean, 0 (one colour) to 1. */
function varietyOf({ image, mask }: Garment): number {
  const sum = [0, 0, 0];
  const squares = [0, 0, 0];
  let count = 0;
  for (let i = 0; i < mask.data.length; i++) {
    if ((mask.data[i] ?? 0) < 0.9) continue;
    count++;
    for (let channel = 0; channel < 3; channel++) {
      const value = (image.data[i * 4 + channel] ?? 0) / 255;
      sum[channel] = (sum[channel] ?? 0) + value;
      squares[channel] = (squares[channel] ?? 0) + value * value;
    }
  }
  const variances = sum.map((total, channel) => (squares[channel] ?? 0) / count - (total / count) ** 2);
  return Math.sqrt(Math.max(0, ...variances)) * 2;
}
