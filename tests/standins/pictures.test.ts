import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { contactSheet } from "../../scripts/contact-sheet.ts";
import { measureBody } from "../../supabase/local/standins/picture/body.ts";
import { categoryOf, measureGarment } from "../../supabase/local/standins/picture/garment.ts";
import { decode, type Image } from "../../supabase/local/standins/picture/image.ts";
import { tryOn } from "../../supabase/local/standins/picture/try-on.ts";

const samples = join(import.meta.dirname, "../../samples");
const sample = (name: string) => readFile(join(samples, name));

type Region = { left: number; top: number; right: number; bottom: number };

/** The share of a region's pixels that differ between two pictures. */
function changed(a: Image, b: Image, { left, top, right, bottom }: Region): number {
  let different = 0;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const i = (y * a.width + x) * 4;
      if ([0, 1, 2].some((c) => a.data[i + c] !== b.data[i + c])) different++;
    }
  }
  return different / ((right - left) * (bottom - top));
}

async function dressed(person: string, garment: string, seed = 42): Promise<[before: Image, after: Image]> {
  const bytes = await sample(person);
  const result = await tryOn({ person: bytes, garment: await sample(garment), category: "auto", seed });
  return [await decode(bytes), await decode(result)];
}

const torso = { left: 310, top: 300, right: 450, bottom: 520 };
const chest = { left: 290, top: 240, right: 480, bottom: 460 };
const thighs = { left: 300, top: 720, right: 350, bottom: 900 };
const head = { left: 310, top: 40, right: 460, bottom: 205 };
const feet = { left: 200, top: 1060, right: 560, bottom: 1150 };
const wall = { left: 0, top: 0, right: 120, bottom: 1152 };

describe("try-on", () => {
  test.each([
    ["person-ada.jpg", "garment-tee.png", torso, thighs],
    ["person-ben.jpg", "garment-sweater.jpg", torso, thighs],
    ["person-ada.jpg", "garment-dress.png", torso, feet],
    ["person-ben.jpg", "garment-trousers.png", thighs, chest],
  ])("%s wears %s where it belongs, and the rest is untouched", async (person, garment, covered, bare) => {
    const [before, after] = await dressed(person, garment);
    expect([after.width, after.height]).toEqual([before.width, before.height]);
    expect(changed(before, after, covered)).toBeGreaterThan(0.97);
    for (const region of [bare, head, feet, wall]) expect(changed(before, after, region)).toBe(0);
  });

  test("samples of one request differ in their light only", async () => {
    const [, first] = await dressed("person-ada.jpg", "garment-tee.png", 1);
    const [, second] = await dressed("person-ada.jpg", "garment-tee.png", 2);
    expect(changed(first, second, torso)).toBeGreaterThan(0.5);
    expect(changed(first, second, head)).toBe(0);
  });

  test("a large picture is brought to 864 x 1296 at most", async () => {
    const person = await sharp(await sample("person-ben.jpg"))
      .resize({ width: 1400 })
      .toBuffer();
    const result = await tryOn({
      person,
      garment: await sample("garment-tee.png"),
      category: "tops",
      seed: 1,
    });
    expect(await sharp(result).metadata()).toMatchObject({ width: 864, height: 1296, format: "png" });
  });

  test("a picture without a clear silhouette is dressed by proportion", async () => {
    const { data, info } = await sharp({
      create: {
        width: 400,
        height: 600,
        channels: 3,
        background: "#777",
        noise: { type: "gaussian", mean: 120, sigma: 60 },
      },
    })
      .raw()
      .toBuffer({ resolveWithObject: true });
    const person = await sharp(data, { raw: info }).png().toBuffer();
    expect(measureBody(await decode(person)).measured).toBe(false);
    const result = await tryOn({
      person,
      garment: await sample("garment-tee.png"),
      category: "auto",
      seed: 1,
    });
    const middle = { left: 160, top: 220, right: 240, bottom: 300 };
    expect(changed(await decode(person), await decode(result), middle)).toBeGreaterThan(0.95);
  });

  test("an empty garment picture is an error", async () => {
    const garment = await sharp({ create: { width: 200, height: 200, channels: 3, background: "#fff" } })
      .png()
      .toBuffer();
    await expect(
      tryOn({ person: await sample("person-ada.jpg"), garment, category: "tops", seed: 1 }),
    ).rejects.toThrow("no garment");
  });
});

test.each([
  ["garment-tee.png", "tops", true],
  ["garment-sweater.jpg", "tops", true],
  ["garment-dress.png", "one-pieces", false],
  ["garment-trousers.png", "bottoms", false],
])("%s is recognised by its shape", async (name, category, sleeves) => {
  const garment = measureGarment(await decode(await sample(name)));
  expect(categoryOf(garment)).toBe(category);
  expect(garment.left.sleeve !== null).toBe(sleeves);
});

test("the samples are small", async () => {
  for (const name of await readdir(samples)) {
    expect((await stat(join(samples, name))).size, name).toBeLessThan(120 * 1024);
  }
});

test("the contact sheet shows person, garment and results", async () => {
  const dir = await mkdtemp(join(tmpdir(), "backlot-sheet-"));
  const person = join(samples, "person-ada.jpg");
  const garment = join(samples, "garment-tee.png");
  const out = join(dir, "sheet.png");
  await contactSheet({
    person,
    garment,
    results: [await sample("person-ben.jpg"), person],
    out,
    title: "A < B & C",
  });
  expect(await sharp(out).metadata()).toMatchObject({ format: "png", width: 1752, height: 768 });
  await rm(dir, { recursive: true });
});
