// Orders of a shop and what its webhooks say of them: JSON of the REST API, amounts as decimal text.
// Source: @shopify/shopify-api 15, rest/admin/2026-07 (order, refund).

import type { Shop } from "./state.ts";

export interface OrderInput {
  items: { variant: string; quantity?: number }[];
  discount_code?: string;
  /** Off each order, as decimal text. */
  discount?: string;
  landing_site?: string;
  /** Attributes of the cart by name. */
  attributes?: Record<string, string>;
  customer?: { id: number; email: string };
  test?: boolean;
}

export interface RefundRecord {
  id: string;
  created_at: string;
  amount: number;
  lines: { line: string; quantity: number; subtotal: number }[];
}

export interface OrderRecord {
  id: string;
  number: number;
  input: OrderInput;
  lines: { id: string; product: string; variant: string; title: string; price: number; quantity: number }[];
  /** In cents. */
  total: number;
  discount: number;
  financial_status: "pending" | "paid" | "partially_refunded" | "refunded";
  refunds: RefundRecord[];
  cancelled_at: string | null;
  created_at: string;
  updated_at: string;
}

const money = (cents: number) => (cents / 100).toFixed(2);
const cents = (text: string) => Math.round(Number(text) * 100);

export function makeOrder(shop: Shop, input: OrderInput, nextId: () => string, at: string): OrderRecord {
  const lines = input.items.map(({ variant: id, quantity = 1 }) => {
    const product = Object.values(shop.products).find(({ variants }) =>
      variants.some((one) => one.id === id),
    );
    if (!product) throw new Error(`There is no variant ${id}.`);
    const { price } = product.variants.find((one) => one.id === id)!;
    return {
      id: nextId(),
      product: product.id,
      variant: id,
      title: product.title,
      price: cents(price),
      quantity,
    };
  });
  const discount = cents(input.discount ?? "0");
  const full = lines.reduce((sum, { price, quantity }) => sum + price * quantity, 0);
  const number = 1001 + Object.keys(shop.orders).length;
  const dates = { created_at: at, updated_at: at };
  return {
    id: nextId(),
    number,
    input,
    lines,
    total: full - discount,
    discount,
    financial_status: "pending",
    refunds: [],
    cancelled_at: null,
    ...dates,
  };
}

/** Gives back so many cents, or all that is left with every line. */
export function addRefund(order: OrderRecord, id: string, at: string, amount?: number): RefundRecord {
  const given = order.refunds.reduce((sum, refund) => sum + refund.amount, 0);
  const whole = amount === undefined;
  const refund: RefundRecord = {
    id,
    created_at: at,
    amount: amount ?? order.total - given,
    lines: whole
      ? order.lines.map(({ id: line, price, quantity }) => ({ line, quantity, subtotal: price * quantity }))
      : [],
  };
  order.refunds.push(refund);
  order.financial_status = given + refund.amount >= order.total ? "refunded" : "partially_refunded";
  order.updated_at = at;
  return refund;
}

export function refundPayload(shop: Shop, order: OrderRecord, refund: RefundRecord) {
  return {
    id: Number(refund.id),
    order_id: Number(order.id),
    created_at: refund.created_at,
    processed_at: refund.created_at,
    note: null,
    refund_line_items: refund.lines.map(({ line, quantity, subtotal }) => ({
      line_item_id: Number(line),
      quantity,
      restock_type: "no_restock",
      subtotal: money(subtotal),
      total_tax: "0.00",
    })),
    transactions: [
      {
        id: Number(refund.id) + 1,
        order_id: Number(order.id),
        kind: "refund",
        status: "success",
        amount: money(refund.amount),
        currency: shop.currency,
      },
    ],
  };
}

export function orderPayload(shop: Shop, order: OrderRecord) {
  const { input, id } = order;
  const { discount_code: code, customer } = input;
  return {
    id: Number(id),
    admin_graphql_api_id: `gid://shopify/Order/${id}`,
    name: `#${order.number}`,
    order_number: order.number,
    email: customer?.email ?? "",
    customer: customer ? { ...customer, first_name: "Ida", last_name: "Vries" } : null,
    currency: shop.currency,
    presentment_currency: shop.currency,
    subtotal_price: money(order.total),
    total_discounts: money(order.discount),
    total_tax: "0.00",
    total_price: money(order.total),
    financial_status: order.financial_status,
    fulfillment_status: null,
    test: input.test ?? false,
    landing_site: input.landing_site ?? "/",
    referring_site: null,
    note_attributes: Object.entries(input.attributes ?? {}).map(([name, value]) => ({ name, value })),
    discount_codes: code ? [{ code, amount: money(order.discount), type: "fixed_amount" }] : [],
    line_items: order.lines.map((line, index) => ({
      id: Number(line.id),
      product_id: Number(line.product),
      variant_id: Number(line.variant),
      title: line.title,
      quantity: line.quantity,
      current_quantity: line.quantity,
      price: money(line.price),
      total_discount: "0.00",
      // The whole discount is on the first line here.
      discount_allocations:
        index === 0 && order.discount > 0
          ? [{ amount: money(order.discount), discount_application_index: 0 }]
          : [],
      properties: [],
    })),
    refunds: order.refunds.map((refund) => refundPayload(shop, order, refund)),
    cancelled_at: order.cancelled_at,
    created_at: order.created_at,
    processed_at: order.created_at,
    updated_at: order.updated_at,
  };
}
