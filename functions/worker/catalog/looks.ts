// The pictures of one product as runs at a provider: what is still to be asked, what runs, what has been made. Plain
// data that a checkpoint keeps.

import { z } from "zod";
import type { CatalogProduct } from "../../_shared/sql/catalog.ts";
import type { Creation } from "../../_shared/sql/creations.ts";
import { run, runSet } from "../runs.ts";

export const lookKind = z.enum(["tryon", "bg_remove"]);
export type LookKind = z.infer<typeof lookKind>;

const made = z.object({ kind: lookKind, urls: z.array(z.string()) });
export const payload = z.object({
  item_id: z.uuid(),
  /** What another provider has made already. */
  made: z.array(made).default([]),
});

/** The SQL that ends a product's job reads it: private.catalog_runs, private.catalog_standing. */
export const state = z.object({
  /** Addresses at a provider, by kind, of pictures that have come. */
  made: z.array(made),
  /** The kind that is being made. */
  look: runSet.extend({ kind: lookKind, model: z.string().optional() }).nullish(),
  /** Runs of kinds before it, and those that broke: what they cost is recorded. */
  past: z.array(run),
});
export type State = z.infer<typeof state>;
export type Look = NonNullable<State["look"]>;

/** The kinds of pictures that a product gets, with how many of each. */
export function looksOf(product: CatalogProduct): { kind: LookKind; outputs: number }[] {
  return [
    ...(product.tryon_count > 0 ? [{ kind: "tryon" as const, outputs: product.tryon_count }] : []),
    ...(product.studio_pictures ? [{ kind: "bg_remove" as const, outputs: 1 }] : []),
  ];
}

/** The next kind that has not been made; undefined when all have. */
export function nextLook(product: CatalogProduct, { made }: Pick<State, "made">) {
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

/** A kind without the runs of which nothing came: as many outputs as they were to give are asked for again. */
export function withoutBroken(look: Look): { look: Look; broken: Look["runs"] } {
  const broken = look.runs.filter(({ result }) => result && !result.ok);
  const runs = look.runs.filter((one) => !broken.includes(one));
  const plan = [...[...runs, ...broken].map(({ outputs }) => outputs), ...look.plan.slice(look.runs.length)];
  return { look: { ...look, runs, plan, stopped: null }, broken };
}
