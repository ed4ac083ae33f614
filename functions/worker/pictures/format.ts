// What a file is by its first bytes, whatever its name and announced type say.
// Sources: PNG (RFC 2083, APNG 1.0), JPEG (ITU-T T.81), WebP container (https://developers.google.com/speed/webp).

export type PictureType = "image/png" | "image/jpeg" | "image/webp";

const pngSignature = [137, 80, 78, 71, 13, 10, 26, 10];

export function typeOf(bytes: Uint8Array): PictureType | null {
  if (pngSignature.every((byte, i) => bytes[i] === byte)) return "image/png";
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return "image/jpeg";
  if (textAt(bytes, 0) === "RIFF" && textAt(bytes, 8) === "WEBP") return "image/webp";
  return null;
}

/** Does it hold more than one picture, one after the other? */
export function isAnimated(bytes: Uint8Array, type: PictureType): boolean {
  if (type === "image/webp") return textAt(bytes, 12) === "VP8X" && ((bytes[20] ?? 0) & 0x02) !== 0;
  if (type !== "image/png") return false;
  // Chunks before the pixels: length (4), name (4), content, checksum (4).
  for (let at = 8; at + 8 <= bytes.length; ) {
    const name = textAt(bytes, at + 4);
    if (name === "acTL") return true;
    if (name === "IDAT") return false;
    at += 12 + new DataView(bytes.buffer, bytes.byteOffset + at).getUint32(0);
  }
  return false;
}

function textAt(bytes: Uint8Array, at: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}
