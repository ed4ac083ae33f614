import { expect, test } from "vitest";
import { add, asAda, ingestion, page, site, work } from "./knowledge-stage.ts";

const items = async ({ id }: Record<string, unknown>) =>
  Object.fromEntries(
    (
      await asAda().query(
        "select location, status, error from ai.knowledge_ingestion_items where ingestion_id = $1",
        [id],
      )
    ).map(({ location, status, error }) => [
      location.replace("https://shop.test", ""),
      error ? `${status}: ${error.split(":")[0]}` : status,
    ]),
  );

test("a website whose pages are gone, or must not be kept any more, is not known by them, though no link leads there", async () => {
  site["/"] = page(
    "Atelier",
    "<a href='/returns'>r</a><a href='/care'>c</a><a href='/sale'>s</a><p>Linen.</p>",
  );
  site["/sale"] = page("Sale", "<p>Half the price until Sunday.</p>");
  delete site["/deep"];
  const source = await add();
  await work();
  const titles = async () =>
    (
      await asAda().query(
        "select distinct title from ai.knowledge_documents where source_id = $1 order by 1",
        [source.id],
      )
    ).map(({ title }) => title);
  expect(await titles()).toEqual(["Atelier", "Care", "Returns", "Sale"]);
  site["/"] = page("Atelier", "<a href='/returns'>r</a><p>Linen.</p>");
  delete site["/sale"];
  site["/returns"] = {
    body: page("Returns", "<p>Not for robots.</p>"),
    headers: { "x-robots-tag": "noindex" },
  };
  await asAda().call("ai.ingest_knowledge", { source_id: source.id });
  await work();
  expect(await items(await ingestion(source))).toEqual({
    "/": "read",
    "/returns": "skipped: noindex",
    "/care": "unchanged",
    "/sale": "gone",
  });
  expect(await titles()).toEqual(["Atelier", "Care"]);
});
