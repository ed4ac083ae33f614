// The pictures of one product as runs at a provider: what is still to be asked, what runs, what has been made. Plain
// data that a checkpoint keeps.

import { z } from "zod";
import type { CatalogProduct } from "../../_shared/sql/catalog.ts";
import type { Creation } from "../../_shared/sql/creations.ts";
import { submission } from "../providers/provider.ts";

export const lookKind = z.enum(["tryon", "bg_remove"]);
export type LookKind = z.infer<typeof lookKind>;

export const state = z.object({
  /** Addresses at the provider, by kind, of runs that have ended. */
  made: z.array(z.object({ kind: lookKind, urls: z.array(z.string()) })).default([]),
  /** The run that is under way. */
  run: submission.extend({ kind: lookKind, polls: z.number().int() }).nullish(),
});
export type State = z.infer<typeof state>;

/** The kinds of pictures that a product gets, with how many of each. */
export function looksOf(product: CatalogProduct): { kind: LookKind; outputs: number }[] {
  return [
    ...(product.tryon_count > 0 ? [{ kind: "tryon" as const, outputs: product.tryon_count }] : []),
    ...(product.studio_pictures ? [{ kind: "bg_remove" as const, outputs: 1 }] : []),
  ];
}

/** The next kind that has not been made; undefined when all have. */
export function nextLook(product: CatalogProduct, { made }: State) {
  return looksOf(product).find(({ kind }) => made.every((look) => look.kind !== kind));
}

/** What a provider is asked to make, in the form in which it knows creations. */
export function creationOf(product: CatalogProduct, kind: LookKind, outputs: number): Creation {
  return {
    id: product.id,
    workspace_id: product.workspace_id,
    creation_type: kind,
    garment_path: null,
    model_storage_path: product.model_path,
    prompt: product.custom_instructions,
    quality: product.quality,
    category: product.category,
    num_outputs: outputs,
    settings: {},
    status: "processing",
    result_paths: [],
    error_code: null,
    error_message: null,
  };
}
