// What the worker does with pixels, by ImageMagick compiled to WebAssembly. Only the three formats of the buckets are
// handed to it, each by name: none of its other readers is reached by what people upload.
// Source: https://supabase.com/docs/guides/functions/examples/image-manipulation.

import {
  AlphaAction,
  ColorSpace,
  type IMagickImage,
  ImageMagick,
  initializeImageMagick,
  MagickColors,
  MagickFormat,
  MagickGeometry,
  MagickImageInfo,
  MagickReadSettings,
  Orientation,
  PixelChannel,
} from "@imagemagick/magick-wasm";
import type { PictureType } from "./format.ts";

/** The bytes are no whole picture of their format. */
export class Unreadable extends Error {
  override readonly name = "Unreadable";
}

export interface PictureSize {
  /** In pixels, as it is shown: turned where its camera was. */
  width: number;
  height: number;
}

export interface Look {
  /** Is any pixel less than opaque? */
  hasTransparency: boolean;
  /** Is nothing at all to be seen? */
  isEmpty: boolean;
  /** WebP. */
  thumbnail: Uint8Array<ArrayBuffer>;
}

export interface Pictures {
  /** Reads the header only. Errors: Unreadable. */
  size(bytes: Uint8Array, type: PictureType): Promise<PictureSize>;
  /** Reads the whole picture; the thumbnail's longer side has at most so many pixels. Errors: Unreadable. */
  look(bytes: Uint8Array, type: PictureType, side: number): Promise<Look>;
  /** A JPEG on white, its longer side at most so many pixels, for whoever only looks at it. Errors: Unreadable. */
  jpeg(bytes: Uint8Array, type: PictureType, side: number): Promise<Uint8Array<ArrayBuffer>>;
}

const formats = {
  "image/png": MagickFormat.Png,
  "image/jpeg": MagickFormat.Jpeg,
  "image/webp": MagickFormat.WebP,
} as const;
const turned: readonly number[] = [
  Orientation.LeftTop,
  Orientation.RightTop,
  Orientation.RightBottom,
  Orientation.LeftBottom,
];

/** The library is fetched and compiled with the first picture, and kept. */
export function createPictures(loadWasm: () => Promise<Uint8Array>): Pictures {
  let ready: Promise<void> | undefined;
  const prepare = async () => {
    ready ??= loadWasm().then((wasm) => initializeImageMagick(wasm));
    // What failed to load is tried again by the next job.
    await ready.catch((error: unknown) => {
      ready = undefined;
      throw error;
    });
  };
  return {
    size: async (bytes, type) => {
      await prepare();
      return sizeOf(bytes, type);
    },
    look: async (bytes, type, side) => {
      await prepare();
      return read(bytes, type, side, (image) => {
        const hasTransparency = image.hasAlpha && !image.isOpaque;
        fit(image, side);
        const alpha = hasTransparency ? image.statistics().getChannel(PixelChannel.Alpha) : null;
        return { hasTransparency, isEmpty: alpha?.maximum === 0, thumbnail: write(image, MagickFormat.WebP) };
      });
    },
    jpeg: async (bytes, type, side) => {
      await prepare();
      return read(bytes, type, side, (image) => {
        fit(image, side);
        image.backgroundColor = MagickColors.White;
        image.alpha(AlphaAction.Remove);
        return write(image, MagickFormat.Jpeg);
      });
    },
  };
}

function settingsOf(type: PictureType): MagickReadSettings {
  return new MagickReadSettings({ format: formats[type] });
}

function sizeOf(bytes: Uint8Array, type: PictureType): PictureSize {
  try {
    const { width, height, orientation } = MagickImageInfo.create(bytes, settingsOf(type));
    return turned.includes(orientation) ? { width: height, height: width } : { width, height };
  } catch (error) {
    throw new Unreadable("The picture's header cannot be read.", { cause: error });
  }
}

function read<T>(bytes: Uint8Array, type: PictureType, side: number, work: (image: IMagickImage) => T): T {
  const settings = settingsOf(type);
  const { width, height } = sizeOf(bytes, type);
  // A large photograph is decoded at a half, quarter or eighth of its size, which saves most of the time.
  if (type === "image/jpeg" && Math.max(width, height) > 2 * side)
    settings.setDefine(MagickFormat.Jpeg, "size", `${2 * side}x${2 * side}`);
  try {
    return ImageMagick.read(bytes, settings, work);
  } catch (error) {
    throw new Unreadable("The picture cannot be read.", { cause: error });
  }
}

/** Upright, in sRGB, without the camera's notes, and no larger than asked for. */
function fit(image: IMagickImage, side: number): void {
  image.autoOrient();
  if (image.colorSpace === ColorSpace.CMYK) image.colorSpace = ColorSpace.sRGB;
  const box = new MagickGeometry(side, side);
  box.greater = true;
  image.thumbnail(box);
  image.strip();
  image.quality = 80;
}

function write(image: IMagickImage, format: MagickFormat): Uint8Array<ArrayBuffer> {
  // The bytes live in the library's memory until the callback returns.
  return image.write(format, (data) => new Uint8Array(data));
}
