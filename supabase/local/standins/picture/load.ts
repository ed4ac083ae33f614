import sharp from "sharp";

const maxBytes = 25 * 1024 * 1024;
const fetchTimeoutMs = 15_000;

/** A picture that was named by its address and cannot be had, or is none. */
export class PictureFault extends Error {
  readonly kind: "download" | "load";
  constructor(kind: "download" | "load", message: string) {
    super(message);
    this.kind = kind;
  }
}

/** The picture at an address, upright and as PNG. */
export async function loadPicture(url: string): Promise<Buffer> {
  const bytes = await download(url);
  try {
    const { width, height } = await sharp(bytes).metadata();
    if (width < 16 || height < 16) throw new Error(`it measures only ${width} x ${height}`);
    return await sharp(bytes, { limitInputPixels: 60_000_000 })
      .rotate()
      .png({ compressionLevel: 1 })
      .toBuffer();
  } catch (error) {
    throw new PictureFault("load", `Failed to load the image: ${(error as Error).message}.`);
  }
}

async function download(url: string): Promise<Buffer> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(fetchTimeoutMs) });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const bytes = Buffer.from(await response.arrayBuffer());
    if (bytes.length > maxBytes) throw new Error(`it has ${bytes.length} bytes`);
    return bytes;
  } catch (error) {
    throw new PictureFault("download", `Failed to download the file: ${(error as Error).message}.`);
  }
}

/** A small plain picture, for tests that need many runs and look at none. */
export function plainPicture(): Promise<Buffer> {
  const create = { width: 64, height: 96, channels: 3, background: "#8899aa" } as const;
  return sharp({ create }).png().toBuffer();
}
