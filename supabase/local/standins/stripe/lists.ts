import { invalid } from "./errors.ts";
import type { Deps } from "./state.ts";

type Listed = { id: string; created?: number };
type Page = {
  limit?: number | undefined;
  starting_after?: string | undefined;
  ending_before?: string | undefined;
};

/** Newest first, as every list of Stripe's; a cursor names an object. */
export function page<T extends Listed>(
  all: T[],
  url: string,
  { limit = 10, starting_after, ending_before }: Page,
) {
  const newest = [...all].reverse();
  let rest = newest;
  if (starting_after) rest = newest.slice(position(newest, starting_after, "starting_after") + 1);
  if (ending_before) {
    const before = newest.slice(0, position(newest, ending_before, "ending_before"));
    return { object: "list", data: before.slice(-limit), has_more: before.length > limit, url };
  }
  return { object: "list", data: rest.slice(0, limit), has_more: rest.length > limit, url };
}

function position(list: Listed[], id: string, param: string): number {
  const index = list.findIndex((item) => item.id === id);
  if (index < 0) throw invalid(`No such object: '${id}'`, param, "resource_missing");
  return index;
}

type Json = { [key: string]: unknown };

/** Puts objects in the place of their ids where `expand[]` asks for it. */
export function expanded(deps: Deps, object: object, paths: string[] = []): Json {
  const copy = structuredClone(object) as Json;
  for (const path of paths) expandPath(deps, copy, path.split("."), path);
  return copy;
}

function expandPath(deps: Deps, node: Json, [field = "", ...rest]: string[], path: string): void {
  if (Array.isArray(node)) {
    for (const item of node) expandPath(deps, item as Json, [field, ...rest], path);
    return;
  }
  if (field === "line_items" && node.object === "checkout.session")
    node.line_items = lineItems(deps, String(node.id));
  const value = node[field];
  if (typeof value === "string") node[field] = structuredClone(lookUp(deps, value, path));
  else if (value === undefined) throw invalid(`This property cannot be expanded (${path}).`, "expand");
  const child = node[field];
  if (rest.length > 0 && typeof child === "object" && child !== null)
    expandPath(deps, child as Json, rest, path);
}

export function lineItems(deps: Deps, session: string) {
  const url = `/v1/checkout/sessions/${session}/line_items`;
  return { object: "list", data: deps.data.lineItems[session] ?? [], has_more: false, url };
}

function lookUp({ data }: Deps, id: string, path: string): object {
  const all = [
    data.customers,
    data.intents,
    data.charges,
    data.refunds,
    data.products,
    data.prices,
    data.sessions,
    data.subscriptions,
    data.schedules,
    data.invoices,
    data.methods,
  ];
  for (const table of all) if (table[id]) return table[id];
  throw invalid(`This property cannot be expanded (${path}).`, "expand");
}
