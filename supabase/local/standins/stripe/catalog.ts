import type Stripe from "stripe";
import { invalid, missing } from "./errors.ts";
import type { PriceParams, SessionParams } from "./params.ts";
import { type Deps, type LineItem, newId, type Price, seconds } from "./state.ts";

type ProductData = NonNullable<PriceParams["product_data"]>;

export function createCustomer(deps: Deps, params: { [key: string]: unknown }): Stripe.Customer {
  const customer: Stripe.Customer = {
    id: newId("cus"),
    object: "customer",
    address: null,
    balance: 0,
    created: seconds(),
    currency: null,
    default_source: null,
    delinquent: false,
    description: null,
    email: null,
    invoice_prefix: newId("X").slice(2, 10).toUpperCase(),
    invoice_settings: {
      custom_fields: null,
      default_payment_method: null,
      footer: null,
      rendering_options: null,
    },
    livemode: false,
    metadata: {},
    name: null,
    next_invoice_sequence: 1,
    phone: null,
    preferred_locales: [],
    shipping: null,
    tax_exempt: "none",
    test_clock: null,
    ...params,
  };
  deps.data.customers[customer.id] = customer;
  return customer;
}

export function createProduct(
  deps: Deps,
  { id, name, description, images, metadata, tax_code }: ProductData & { id?: string | undefined },
): Stripe.Product {
  const product: Stripe.Product = {
    id: id ?? newId("prod"),
    object: "product",
    active: true,
    created: seconds(),
    default_price: null,
    description: description ?? null,
    images: images ?? [],
    livemode: false,
    marketing_features: [],
    metadata: metadata ?? {},
    name,
    package_dimensions: null,
    shippable: null,
    statement_descriptor: null,
    tax_code: tax_code ?? null,
    tax_details: null,
    type: "service",
    unit_label: null,
    updated: seconds(),
    url: null,
  };
  deps.data.products[product.id] = product;
  return product;
}

export function createPrice(deps: Deps, params: PriceParams, inline = false): Price {
  if (!params.product === !params.product_data) {
    throw invalid("Give either `product` or `product_data`.", "product", "parameter_missing");
  }
  if (params.product && !deps.data.products[params.product])
    throw missing("product", params.product, "product");
  const product = params.product ?? createProduct(deps, params.product_data as ProductData).id;
  const price: Price = {
    id: newId("price"),
    object: "price",
    active: !inline,
    billing_scheme: "per_unit",
    created: seconds(),
    currency: params.currency,
    custom_unit_amount: null,
    livemode: false,
    lookup_key: params.lookup_key ?? null,
    metadata: params.metadata ?? {},
    nickname: params.nickname ?? null,
    product,
    recurring: params.recurring
      ? {
          interval: params.recurring.interval,
          interval_count: params.recurring.interval_count ?? 1,
          meter: null,
          trial_period_days: null,
          usage_type: "licensed",
        }
      : null,
    tax_behavior: params.tax_behavior ?? "unspecified",
    tiers_mode: null,
    transform_quantity: null,
    type: params.recurring ? "recurring" : "one_time",
    unit_amount: params.unit_amount,
    unit_amount_decimal: String(params.unit_amount),
  };
  deps.data.prices[price.id] = price;
  return price;
}

/** The items of a session with their sums; all in one currency. */
export function createLineItems(deps: Deps, items: SessionParams["line_items"]): LineItem[] {
  const lines = items.map((item, index) => {
    const param = `line_items[${index}]`;
    if (!item.price === !item.price_data) {
      throw invalid(
        `Give either \`price\` or \`price_data\` for ${param}.`,
        `${param}[price]`,
        "parameter_missing",
      );
    }
    const price = item.price_data
      ? createPrice(deps, item.price_data, true)
      : deps.data.prices[item.price ?? ""];
    if (!price) throw missing("price", item.price ?? "", `${param}[price]`);
    if (!item.quantity)
      throw invalid(`Missing required param: ${param}[quantity].`, `${param}[quantity]`, "parameter_missing");
    const total = (price.unit_amount ?? 0) * item.quantity;
    const line: LineItem = {
      id: newId("li"),
      object: "item",
      adjustable_quantity: null,
      amount_discount: 0,
      amount_subtotal: total,
      amount_tax: 0,
      amount_total: total,
      currency: price.currency,
      description: deps.data.products[String(price.product)]?.name ?? null,
      metadata: item.metadata ?? {},
      price,
      quantity: item.quantity,
    };
    return line;
  });
  if (new Set(lines.map(({ currency }) => currency)).size > 1) {
    throw invalid("All prices of a session have the same currency.", "line_items");
  }
  return lines;
}
