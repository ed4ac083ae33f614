// One row of a file as a product, or what is wrong with it, column by column.

import { z } from "zod";
import type { Columns, Field } from "./columns.ts";

/** A row in the form of commerce.store_import_rows. */
export interface ProductRow {
  /** From 1, after the line of names. */
  row: number;
  external_id: string;
  sku: string | null;
  title: string;
  description: string | null;
  images: string[];
  price_cents: number | null;
  compare_at_price_cents: number | null;
  currency: string;
  product_type: string | null;
  vendor: string | null;
  tags: string[];
  variants: unknown[];
  /** What can be sold; null: not known. */
  inventory_quantity?: number | null;
  /** Who sends it to the buyer; null: not known. */
  fulfilled_by?: "merchant" | "amazon" | null;
  garment_type: string | null;
  garment_category: string | null;
  garment_color: string | null;
  garment_material: string | null;
  garment_fit: string | null;
}

export interface RowError {
  row: number;
  /** The file's own name of the column. */
  column: string;
  code: string;
  message: string;
  value: string | null;
}

const longest: Partial<Record<Field, number>> = {
  external_id: 255,
  sku: 255,
  title: 500,
  description: 100_000,
  product_type: 255,
  vendor: 255,
  tags: 5_000,
  variants: 100_000,
};
const address = z.url({ protocol: /^https?$/ }).max(2000);
const mostImages = 20;
const mostTags = 100;
const variantList = z.array(z.looseObject({}));
/** Escapes of what a text of JSON may hold and the database does not keep. */
const unstorable = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/;

/** What the database keeps of no text: NUL, and half of a character that was cut in two. */
export const clean = (text: string) => text.replaceAll("\0", "\uFFFD").toWellFormed();

class Reader {
  readonly errors: RowError[] = [];
  #cells: readonly string[];
  #columns: Columns;
  #header: readonly string[];
  #row: number;

  constructor(cells: readonly string[], columns: Columns, header: readonly string[], row: number) {
    this.#cells = cells;
    this.#columns = columns;
    this.#header = header;
    this.#row = row;
  }

  fail(field: Field, code: string, message: string, value: string | null = null): null {
    const index = this.#columns[field]?.[0];
    const column = index === undefined ? field : (this.#header[index] ?? field);
    if (this.errors.every((error) => error.column !== column)) {
      const shown = value === null ? null : clean(value.slice(0, 200));
      this.errors.push({ row: this.#row, column, code, message, value: shown });
    }
    return null;
  }

  text(field: Field): string | null {
    const index = this.#columns[field]?.[0];
    const value = index === undefined ? "" : (this.#cells[index] ?? "").trim();
    if (value === "") return null;
    const most = longest[field] ?? 255;
    if (value.length > most) return this.fail(field, "too_long", `has more than ${most} characters`, value);
    if (value.includes("\uFFFD") || value.includes("\0")) {
      return this.fail(field, "not_utf8", "has characters that are not UTF-8", value);
    }
    return value;
  }

  /** Hundredths: "1,299.90", "19,90", "$ 5". */
  cents(field: Field): number | null {
    const value = this.text(field);
    if (value === null) return null;
    const bare = value.replaceAll(/^[\s\p{Sc}]+|[\s\p{Sc}]+$/gu, "");
    const decimal = /^\d+,\d{1,2}$/.test(bare)
      ? bare.replace(",", ".")
      : bare.replaceAll(/,(?=\d{3}(\D|$))/g, "");
    if (!/^\d{1,12}(\.\d+)?$/.test(decimal)) {
      return this.fail(field, "not_a_price", "is not a price such as 19.90", value);
    }
    return Math.round(Number(decimal) * 100);
  }

  images(): string[] {
    const cells = (this.#columns.images ?? []).map((index) => this.#cells[index] ?? "");
    const urls = [
      ...new Set(cells.flatMap((cell) => cell.split(/[\s|;]+|,(?=https?:)/)).filter((url) => url !== "")),
    ];
    const bad = urls.find((url) => url.includes("\0") || !address.safeParse(url).success);
    if (bad !== undefined) this.fail("images", "not_an_address", "is not the http address of a picture", bad);
    if (urls.length > mostImages) {
      this.fail("images", "too_many", `names more than ${mostImages} pictures`, String(urls.length));
    }
    return urls;
  }

  tags(): string[] {
    const tags = (this.text("tags") ?? "").split(/[,;|]/).map((tag) => tag.trim());
    const kept = [...new Set(tags.filter((tag) => tag !== ""))];
    if (kept.length > mostTags)
      this.fail("tags", "too_many", `has more than ${mostTags} tags`, String(kept.length));
    return kept;
  }

  currency(): string {
    const value = this.text("currency");
    if (value === null) return "USD";
    if (/^[A-Za-z]{3}$/.test(value)) return value.toUpperCase();
    this.fail("currency", "not_a_currency", "is not a currency such as USD", value);
    return "";
  }

  variants(): unknown[] {
    const value = this.text("variants");
    if (value === null) return [];
    const parsed = variantList.safeParse(parseJson(value));
    if (parsed.success && !unstorable.test(JSON.stringify(parsed.data))) return parsed.data;
    this.fail("variants", "not_a_list", "is not a JSON list of objects", value);
    return [];
  }
}

/** The product of a row, or its errors. */
export function readRow(
  cells: readonly string[],
  columns: Columns,
  header: readonly string[],
  row: number,
): { product: ProductRow } | { errors: RowError[] } {
  const reader = new Reader(cells, columns, header, row);
  if (cells.length > header.length) {
    const extra = { row, column: "row", code: "too_many_columns", value: String(cells.length) };
    reader.errors.push({ ...extra, message: `has ${cells.length} columns, not ${header.length}` });
  }
  const sku = reader.text("sku");
  const externalId = reader.text("external_id") ?? sku;
  const title = reader.text("title");
  if (title === null) reader.fail("title", "missing", "is missing");
  if (externalId === null) reader.fail("external_id", "missing", "is missing, and there is no SKU either");
  const product = {
    row,
    external_id: externalId ?? "",
    sku,
    title: title ?? "",
    description: reader.text("description"),
    images: reader.images(),
    price_cents: reader.cents("price"),
    compare_at_price_cents: reader.cents("compare_at_price"),
    currency: reader.currency(),
    product_type: reader.text("product_type"),
    vendor: reader.text("vendor"),
    tags: reader.tags(),
    variants: reader.variants(),
    garment_type: reader.text("garment_type"),
    garment_category: reader.text("garment_category"),
    garment_color: reader.text("garment_color"),
    garment_material: reader.text("garment_material"),
    garment_fit: reader.text("garment_fit"),
  };
  return reader.errors.length > 0 ? { errors: reader.errors } : { product };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
