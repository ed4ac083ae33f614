import { decode, encode, type Image, type Mask } from "./image.ts";
import { foreground } from "./mask.ts";

/** The picture without its background, in the same size. */
export async function cutOut(bytes: Buffer): Promise<Buffer> {
  const image = await decode(bytes);
  return encode(withAlpha(image, foreground(image)));
}

/** Sets the alpha, and gives soft edge pixels the colour of their nearest firm neighbour. */
export function withAlpha({ width, height, data }: Image, mask: Mask): Image {
  const result = new Uint8ClampedArray(data);
  for (let i = 0; i < mask.data.length; i++) {
    const alpha = mask.data[i] as number;
    result[i * 4 + 3] = Math.round(alpha * 255);
    if (alpha <= 0 || alpha >= 0.98) continue;
    const firm = nearestFirm(mask, i);
    for (let c = 0; firm >= 0 && c < 3; c++) result[i * 4 + c] = data[firm * 4 + c] as number;
  }
  return { width, height, data: result };
}

function nearestFirm({ width, data }: Mask, i: number): number {
  for (let reach = 1; reach <= 4; reach++) {
    for (let dy = -reach; dy <= reach; dy++) {
      for (let dx = -reach; dx <= reach; dx++) {
        const at = i + dy * width + dx;
        if ((data[at] ?? 0) >= 0.98) return at;
      }
    }
  }
  return -1;
}
