import sharp, { type OverlayOptions } from "sharp";

type Picture = string | Buffer;

export type ContactSheet = {
  person: Picture;
  garment: Picture;
  /** One picture or several. */
  results: Picture[];
  /** The PNG file to write. */
  out: string;
  title: string;
};

const cell = { width: 400, height: 600 };
const margin = 40;
const gap = 24;
const header = 84;
const caption = 44;
const corner = 10;

/** Lays person, garment and results side by side on one sheet, with a title and captions. */
export async function contactSheet({ person, garment, results, out, title }: ContactSheet): Promise<string> {
  const many = results.length > 1;
  const cells = [
    { picture: person, name: "Person" },
    { picture: garment, name: "Garment" },
    ...results.map((picture, i) => ({ picture, name: many ? `Result ${i + 1}` : "Result" })),
  ];
  const width = 2 * margin + cells.length * cell.width + (cells.length - 1) * gap;
  const height = header + cell.height + caption + margin;
  const left = (index: number) => margin + index * (cell.width + gap);
  const pictures = await Promise.all(
    cells.map(
      async ({ picture }, i): Promise<OverlayOptions> => ({
        input: await framed(picture),
        left: left(i),
        top: header,
      }),
    ),
  );
  const words = cells.map(({ name }, i) =>
    label(name, left(i) + cell.width / 2, header + cell.height + 30, 18, "middle"),
  );
  const text = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">
    ${label(title, margin, 54, 28, "start")}${words.join("")}</svg>`;
  await sharp({ create: { width, height, channels: 3, background: "#f6f5f2" } })
    .composite([...pictures, { input: Buffer.from(text), left: 0, top: 0 }])
    .png({ compressionLevel: 9 })
    .toFile(out);
  return out;
}

/** The whole picture on a white card with round corners. */
async function framed(picture: Picture): Promise<Buffer> {
  const size = `width="${cell.width}" height="${cell.height}"`;
  const mask = `<svg xmlns="http://www.w3.org/2000/svg" ${size}><rect ${size} rx="${corner}" fill="#fff"/></svg>`;
  const { width, height } = await sharp(picture).rotate().metadata();
  const fills = Math.abs((width ?? 1) / (height ?? 1) / (cell.width / cell.height) - 1) < 0.08;
  const inset = fills ? 0 : 20;
  const card = await sharp(picture)
    .rotate()
    .flatten({ background: "#ffffff" })
    .resize({
      width: cell.width - 2 * inset,
      height: cell.height - 2 * inset,
      fit: fills ? "cover" : "contain",
      background: "#ffffff",
    })
    .extend({ top: inset, bottom: inset, left: inset, right: inset, background: "#ffffff" })
    .ensureAlpha()
    .png()
    .toBuffer();
  return sharp(card)
    .composite([{ input: Buffer.from(mask), blend: "dest-in" }])
    .png()
    .toBuffer();
}

function label(words: string, x: number, y: number, size: number, anchor: "start" | "middle"): string {
  const safe = words.replace(/[<>&]/g, (character) => `&#${character.charCodeAt(0)};`);
  const weight = anchor === "start" ? 600 : 400;
  return `<text x="${x}" y="${y}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="${size}"
    font-weight="${weight}" text-anchor="${anchor}" fill="#2b2d33">${safe}</text>`;
}
