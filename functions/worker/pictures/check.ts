// Whether a picture will do, and why not, in words for people.

import type { PictureRules } from "../../_shared/sql/pictures.ts";
import { isAnimated, type PictureType, typeOf } from "./format.ts";
import { type PictureSize, type Pictures, Unreadable } from "./magick.ts";

export interface Reason {
  code: string;
  message: string;
}

/** What was found of a picture; what could not be told is absent. */
export interface Verdict {
  status: "accepted" | "rejected";
  errors: Reason[];
  mime_type?: PictureType;
  file_size: number;
  width?: number;
  height?: number;
  has_transparency?: boolean;
  /** WebP; only of accepted pictures. */
  thumbnail?: Uint8Array<ArrayBuffer>;
}

/** Longer side of thumbnails, in pixels: twice what a list shows, for dense screens. */
export const thumbnailSide = 512;

export async function checkPicture(
  pictures: Pictures,
  bytes: Uint8Array,
  rules: PictureRules,
): Promise<Verdict> {
  const verdict: Verdict = { status: "rejected", errors: [], file_size: bytes.length };
  const type = typeOf(bytes);
  if (!type) return reject(verdict, "image_type", "The file is not a PNG, JPEG or WebP picture.");
  verdict.mime_type = type;
  if (isAnimated(bytes, type))
    return reject(verdict, "image_animated", "The picture moves; use a still one.");
  try {
    const size = await pictures.size(bytes, type);
    verdict.width = size.width;
    verdict.height = size.height;
    verdict.errors.push(...sizeErrors(bytes.length, type, size, rules));
    if (verdict.errors.length > 0) return verdict;
    const { hasTransparency, isEmpty, thumbnail } = await pictures.look(bytes, type, thumbnailSide);
    verdict.has_transparency = hasTransparency;
    if (isEmpty)
      return reject(
        verdict,
        "image_empty",
        "The picture is transparent throughout: there is nothing to see.",
      );
    return { ...verdict, status: "accepted", thumbnail };
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    return reject(verdict, "image_unreadable", "The picture is damaged and cannot be read.");
  }
}

function sizeErrors(
  bytes: number,
  type: PictureType,
  { width, height }: PictureSize,
  rules: PictureRules,
): Reason[] {
  const errors: Reason[] = [];
  const seen = `The picture has ${width} x ${height} pixels`;
  const [form, pixels] =
    type === "image/jpeg" ? ["JPEG", rules.max_pixels] : ["PNG or WebP", rules.max_pixels_whole];
  if (bytes > rules.max_bytes) {
    const most = `${megabytes(rules.max_bytes)} MB`;
    errors.push({ code: "file_too_large", message: `The file has ${megabytes(bytes)} MB; at most ${most}.` });
  }
  if (Math.min(width, height) < rules.min_side) {
    const message = `${seen}; its shorter side needs at least ${rules.min_side}.`;
    errors.push({ code: "image_too_small", message });
  }
  if (Math.max(width, height) > rules.max_side) {
    errors.push({
      code: "image_too_large",
      message: `${seen}; its longer side has at most ${rules.max_side}.`,
    });
  } else if (width * height > pixels) {
    const most = `${Math.floor(pixels / 1e6)} million`;
    errors.push({ code: "image_too_large", message: `${seen}; a ${form} has at most ${most} in all.` });
  }
  return errors;
}

function reject(verdict: Verdict, code: string, message: string): Verdict {
  return { ...verdict, errors: [...verdict.errors, { code, message }] };
}

const megabytes = (bytes: number) => (bytes / 1_048_576).toFixed(1);
