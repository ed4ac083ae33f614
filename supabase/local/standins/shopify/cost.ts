// Calls are paid in points: an object costs one, a connection two and its page's objects, a mutation ten. What a page
// left empty is given back. Source: https://shopify.dev/docs/api/usage/limits.

import {
  type DocumentNode,
  type GraphQLOutputType,
  getNamedType,
  isCompositeType,
  isObjectType,
  Kind,
  type SelectionSetNode,
} from "graphql";
import { schema } from "./schema.ts";
import type { Shop } from "./state.ts";

export const mostPerQuery = 1000;
type Variables = Record<string, unknown>;

export function requestedCost(document: DocumentNode, variables: Variables): number {
  return document.definitions.reduce((sum, definition) => {
    if (definition.kind !== Kind.OPERATION_DEFINITION) return sum;
    const mutation = definition.operation === "mutation";
    const root = mutation ? schema.getMutationType()! : schema.getQueryType()!;
    return sum + (mutation ? 10 : 0) + costOf(definition.selectionSet, root, variables, null);
  }, 0);
}

function costOf(
  { selections }: SelectionSetNode,
  parent: GraphQLOutputType,
  variables: Variables,
  page: number | null,
): number {
  let sum = 0;
  for (const selection of selections) {
    if (selection.kind === Kind.INLINE_FRAGMENT) {
      const name = selection.typeCondition?.name.value;
      const type = name ? schema.getType(name) : parent;
      sum += costOf(selection.selectionSet, type as GraphQLOutputType, variables, page);
    }
    if (selection.kind !== Kind.FIELD || !isObjectType(parent)) continue;
    const field = parent.getFields()[selection.name.value];
    const type = field && getNamedType(field.type);
    if (!field || !isCompositeType(type) || !selection.selectionSet) continue;
    const first = selection.arguments?.find(({ name }) => name.value === "first")?.value;
    const size =
      first?.kind === Kind.INT
        ? Number(first.value)
        : first?.kind === Kind.VARIABLE
          ? Number(variables[first.name.value] ?? 0)
          : null;
    const inner = (next: number | null) =>
      costOf(selection.selectionSet!, type as GraphQLOutputType, variables, next);
    if (type.name.endsWith("Connection")) sum += 2 + inner(size ?? 0);
    else if (selection.name.value === "nodes") sum += (page ?? 1) * (1 + inner(null));
    else if (selection.name.value !== "pageInfo") sum += 1 + inner(null);
  }
  return sum;
}

/** What the answer came to: every object in it. */
export function actualCost(data: unknown): number {
  if (Array.isArray(data)) return data.reduce((sum: number, entry) => sum + actualCost(entry), 0);
  if (data === null || typeof data !== "object") return 0;
  return 1 + Object.values(data).reduce((sum: number, value) => sum + actualCost(value), 0);
}

export function refill({ bucket }: Shop, now = Date.now()): void {
  const gained = ((now - bucket.at) / 1000) * bucket.restoreRate;
  bucket.available = Math.min(bucket.maximum, bucket.available + gained);
  bucket.at = now;
}

export function throttleStatus({ bucket }: Shop) {
  return {
    maximumAvailable: bucket.maximum,
    currentlyAvailable: Math.floor(bucket.available),
    restoreRate: bucket.restoreRate,
  };
}
