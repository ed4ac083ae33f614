import { randomBytes } from "node:crypto";
import type { PendingWebhook } from "../delivery.ts";
import type { PendingMedia } from "./media.ts";
import type { OrderRecord } from "./orders.ts";

export type Variant = {
  id: string;
  inventory_item_id: string;
  title: string;
  sku: string;
  barcode: string | null;
  options: string[];
  price: string;
  compare_at_price: string | null;
  inventory_policy: "deny" | "continue";
  taxable: boolean;
  image: string | null;
  created_at: string;
  updated_at: string;
};

export type Product = {
  id: string;
  title: string;
  body_html: string;
  vendor: string;
  product_type: string;
  handle: string;
  status: "active" | "draft" | "archived";
  tags: string[];
  published_at: string | null;
  seo: { title: string | null; description: string | null };
  options: { name: string; values: string[] }[];
  images: { id: string; src: string; alt: string | null; width: number; height: number }[];
  /** Media that is no image yet. */
  pending?: PendingMedia[];
  variants: Variant[];
  created_at: string;
  updated_at: string;
};

export type Item = {
  id: string;
  sku: string;
  tracked: boolean;
  cost: string | null;
  requires_shipping: boolean;
  /** Grams. */
  weight: number;
  created_at: string;
  updated_at: string;
};

export type Level = { item: string; location: string; available: number; updated_at: string };
export type Location = { id: string; name: string; active: boolean };

export type Collection = {
  id: string;
  title: string;
  body_html: string;
  handle: string;
  sort_order: string;
  smart: boolean;
  published_at: string | null;
  products: string[];
  updated_at: string;
};

export type Subscription = { id: string; topic: string; uri: string; created_at: string; updated_at: string };

/** A shop: its catalog by ids, and what an app that is installed in it has there. */
export type Shop = {
  domain: string;
  name: string;
  email: string;
  currency: string;
  products: Record<string, Product>;
  items: Record<string, Item>;
  levels: Record<string, Level>;
  locations: Record<string, Location>;
  collections: Record<string, Collection>;
  orders: Record<string, OrderRecord>;
  subscriptions: Record<string, Subscription>;
  /** Millisecond at which each access token ends; null: never. */
  tokens: Record<string, { scopes: string; until: number | null }>;
  refreshTokens: Record<string, { scopes: string; until: number }>;
  bucket: { maximum: number; restoreRate: number; available: number; at: number };
};

export type ShopifyData = {
  clientId: string;
  clientSecret: string;
  lastId: number;
  shops: Record<string, Shop>;
  /** Codes that can be exchanged once. */
  codes: Record<string, { shop: string; scopes: string }>;
  pending: PendingWebhook[];
};

export function emptyShopifyData(): ShopifyData {
  return {
    clientId: randomBytes(16).toString("hex"),
    clientSecret: `shpss_${randomBytes(16).toString("hex")}`,
    lastId: 8_000_000_000_000,
    shops: {},
    codes: {},
    pending: [],
  };
}

export function emptyShop(domain: string): Shop {
  return {
    domain,
    name: domain.replace(/\..*/, ""),
    email: `owner@${domain}`,
    currency: "USD",
    products: {},
    items: {},
    levels: {},
    locations: {},
    collections: {},
    orders: {},
    subscriptions: {},
    tokens: {},
    refreshTokens: {},
    bucket: { maximum: 2000, restoreRate: 100, available: 2000, at: Date.now() },
  };
}
