import { createHash } from "node:crypto";
import { type Body, measureBody } from "./body.ts";
import { compose } from "./compose.ts";
import { type Category, categoryOf, type Garment, measureGarment } from "./garment.ts";
import { decode, encode, type Image } from "./image.ts";

export type TryOn = { person: Buffer; garment: Buffer; category: Category | "auto"; seed: number };

const largestPerson = { width: 864, height: 1296 };
const largestGarment = { width: 620, height: 900 };

/** The last few pictures made and the last things measured: the same work is not done twice. */
const made = new Map<string, Promise<Buffer>>();
const persons = new Map<string, Promise<{ image: Image; body: Body }>>();
const garments = new Map<string, Promise<Garment>>();

/** Puts the garment on the person; answers a PNG of the person's size, at most 864 x 1296. */
export function tryOn({ person, garment, category, seed }: TryOn): Promise<Buffer> {
  const [personKey, garmentKey] = [keyOf(person), keyOf(garment)];
  return remembered(made, `${personKey} ${garmentKey} ${category} ${seed}`, async () => {
    const { image, body } = await remembered(persons, personKey, async () => {
      const decoded = await decode(person, largestPerson);
      return { image: decoded, body: measureBody(decoded) };
    });
    const measured = await remembered(garments, garmentKey, async () =>
      measureGarment(await decode(garment, largestGarment)),
    );
    const kind = category === "auto" ? categoryOf(measured) : category;
    return encode(compose(body, image, measured, kind, lookOf(seed)));
  });
}

/** Samples of one request differ a little in their light. */
function lookOf(seed: number) {
  const step = ((seed % 7) + 7) % 7;
  return { brightness: 1 + (step - 3) * 0.012, warmth: (((step * 3) % 7) - 3) * 0.006 };
}

function keyOf(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("base64");
}

function remembered<T>(store: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const known = store.get(key);
  if (known) return known;
  const value = make();
  store.set(key, value);
  value.catch(() => store.delete(key));
  const oldest = store.keys().next();
  if (store.size > 16 && !oldest.done) store.delete(oldest.value);
  return value;
}
