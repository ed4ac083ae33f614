// Which column of a file is which field: by the names that shops' exports use, or as the file's owner says.

/** Fields of a product that a file may hold. */
export const fields = [
  "external_id",
  "sku",
  "title",
  "description",
  "images",
  "price",
  "compare_at_price",
  "currency",
  "product_type",
  "vendor",
  "tags",
  "variants",
  "garment_type",
  "garment_category",
  "garment_color",
  "garment_material",
  "garment_fit",
] as const;
export type Field = (typeof fields)[number];

/** Index of each field's column; images may stand in several. */
export type Columns = Partial<Record<Field, number[]>>;

const usual: Record<Field, string[]> = {
  external_id: ["external_id", "id", "product_id", "item_id", "handle", "asin"],
  sku: ["sku", "variant_sku", "article_number", "seller_sku"],
  title: ["title", "name", "product_name", "product_title", "item_name"],
  description: ["description", "body_html", "body", "product_description", "item_description"],
  images: ["images", "image", "image_url", "image_urls", "image_src", "primary_image_url", "main_image"],
  price: ["price", "variant_price", "price_amount", "standard_price"],
  compare_at_price: ["compare_at_price", "variant_compare_at_price", "list_price", "original_price"],
  currency: ["currency", "currency_code", "price_currency"],
  product_type: ["product_type", "type", "category", "product_category"],
  vendor: ["vendor", "brand", "manufacturer"],
  tags: ["tags", "keywords", "labels"],
  variants: ["variants"],
  garment_type: ["garment_type"],
  garment_category: ["garment_category"],
  garment_color: ["garment_color", "color", "colour"],
  garment_material: ["garment_material", "material", "fabric"],
  garment_fit: ["garment_fit", "fit"],
};

/** "Body (HTML)" is body_html. */
function plain(name: string): string {
  return name
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}]+/gu, "_")
    .replaceAll(/^_+|_+$/g, "");
}

export interface Mapped {
  columns: Columns;
  /** What the owner's mapping names and the file does not have, or no product has. */
  unknown: string[];
}

/** `mapping` names columns by field and goes before the usual names; of several usual names the first counts. */
export function mapColumns(header: readonly string[], mapping: Readonly<Record<string, unknown>>): Mapped {
  const columns: Columns = {};
  const unknown: string[] = [];
  const names = header.map(plain);
  for (const [field, wanted] of Object.entries(mapping)) {
    const index = typeof wanted === "string" ? names.indexOf(plain(wanted)) : -1;
    if (index < 0 || !fields.includes(field as Field)) unknown.push(field);
    else columns[field as Field] = [index];
  }
  for (const field of fields) {
    if (columns[field]) continue;
    const found = usual[field].map((name) => names.indexOf(name)).filter((index) => index >= 0);
    if (found.length > 0) columns[field] = field === "images" ? found : found.slice(0, 1);
  }
  return { columns, unknown };
}
