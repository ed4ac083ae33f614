import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { drawGarment } from "./drawing/draw-garment.ts";
import { drawPerson } from "./drawing/draw-person.ts";
import { garments } from "./drawing/garments/index.ts";
import { people } from "./drawing/people.ts";

/** Draws the pictures of samples/ anew: node scripts/draw-samples.ts [folder] */
const out = process.argv[2] ?? join(import.meta.dirname, "../samples");
await mkdir(out, { recursive: true });

for (const [name, person] of Object.entries(people)) {
  await sharp(await drawPerson(person)).toFile(join(out, `person-${name}.jpg`));
}
for (const [name, drawing] of Object.entries(garments)) {
  const picture = await drawGarment(drawing);
  if (name === "sweater")
    await picture
      .flatten({ background: "#ffffff" })
      .jpeg({ quality: 88 })
      .toFile(join(out, `garment-${name}.jpg`));
  else
    await picture
      .png({ palette: true, quality: 100, effort: 10, dither: 0.2, compressionLevel: 9 })
      .toFile(join(out, `garment-${name}.png`));
}
