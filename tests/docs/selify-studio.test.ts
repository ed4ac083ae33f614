import { expect, test } from "vitest";
import { useStack } from "../e2e/stack.ts";
import { runPage, sample, signUp, tablesAwaited, tablesThatCome } from "./selify.ts";

const s = useStack();
const picture = async (url: string) => (await fetch(url)).headers.get("content-type");

test("the frame of the pages about Selify's screens does what it says", async () => {
  const person = await signUp(s, 0);
  const told: string[] = [];
  await runPage(
    s,
    "README.md",
    person,
    {
      workspace_id: ({ workspace_id }) => expect(workspace_id).toBe(person.workspaceId),
      follow: ({ follow }) => expect(follow).toBeTypeOf("function"),
      creationsChannel: ({ creationsChannel }) =>
        expect(creationsChannel.bindings.postgres_changes).toMatchObject([
          { filter: { schema: "studio", table: "creations" } },
        ]),
      newest: async ({ newest, studio }) => {
        const { data } = await newest(studio.from("projects").select()).throwOnError();
        expect(data).toEqual([]);
      },
      nothing: ({ nothing }) => {
        expect(nothing).toBeUndefined();
        expect(told).toEqual([expect.stringMatching(/creation/)]);
      },
    },
    { showMessage: (message: string) => told.push(message) },
  );
  const sent = await s.sql<{ name: string }>(
    `select schemaname || '.' || tablename as name from pg_publication_tables
     where pubname = 'supabase_realtime' order by 1`,
  );
  expect(await tablesThatCome()).toEqual(sent.map(({ name }) => name));
  const awaited = await tablesAwaited();
  expect(awaited.length).toBeGreaterThan(12);
  expect(awaited.filter((table) => sent.every(({ name }) => name !== table))).toEqual([]);
});

test("wardrobe, studio and gallery work as their page says", async () => {
  const person = await signUp(s, 1_000_000);
  await runPage(
    s,
    "studio.md",
    person,
    {
      shelves: ({ shelves }) =>
        expect(shelves).toMatchObject([
          { is_default: true, garments: [{ count: 0 }] },
          { name: "Summer", is_default: false },
        ]),
      garment: ({ garment, complaints }) => {
        expect(garment).toMatchObject({ image_status: "accepted", has_transparency: true });
        expect(complaints).toEqual([]);
      },
      cards: async ({ garments, older, cards, linen }) => {
        expect(garments).toMatchObject([{ name: "Linen dress" }]);
        expect(older).toEqual([]);
        expect(linen).toHaveLength(1);
        expect(await picture(cards[0])).toBe("image/webp");
      },
      described: ({ described, edited }) => {
        expect(described.status).toBe("completed");
        expect(edited).toMatchObject({ leffa_metadata: { leffa_category: "dresses" } });
      },
      model: ({ model }) => expect(model.image_status).toBe("accepted"),
      types: ({ types, settings }) => {
        expect(types.length).toBeGreaterThan(7);
        expect(settings.length).toBeGreaterThan(5);
      },
      tryon: async ({ estimate, label, tryon, pictures }) => {
        expect(label).toMatch(/USD/);
        expect(tryon).toMatchObject({ status: "completed", cost_micro: estimate.amount_micro });
        expect(pictures).toHaveLength(2);
        expect(await picture(pictures[1])).toBe("image/png");
      },
      made: ({ made }) => {
        const completed = made.map(({ status }: { status: string }) => status);
        expect(completed).toEqual(Array(6).fill("completed"));
      },
      again: ({ mistaken, cancelled, again }) => {
        expect(cancelled).toMatchObject({ id: mistaken.id, status: "cancelled" });
        expect(again).toMatchObject({ retry_of: mistaken.id, status: "pending" });
      },
      shown: ({ shown, totals, file }) => {
        expect(shown).toMatchObject([{ creation_type: "tryon", garment: { name: "Long linen dress" } }]);
        expect(totals).toMatchObject({ total_creations: 1 });
        expect(file.type).toBe("image/png");
      },
    },
    {
      dressFile: await sample("garment-dress.png", "image/png"),
      personFile: await sample("person-ada.jpg", "image/jpeg"),
    },
  );
}, 180_000);
