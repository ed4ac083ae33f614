// What the assistant can do besides talking. Everything is done in the caller's name and with the caller's rights.

import { z } from "zod";
import type { Tool } from "../_shared/ai/gemini.ts";
import { namedError } from "../_shared/errors.ts";
import type { Hit, TurnContext } from "../_shared/sql/assistant.ts";
import type { Backend } from "./backend.ts";
import { oneLine, type Sources } from "./prompt.ts";

export interface ToolDeps {
  backend: Backend;
  authorization: string;
  context: TurnContext;
  sources: Sources;
  search(query: string): Promise<Hit[]>;
  /** Names the call within its turn, so that one that is repeated is done once. */
  key: string;
}

interface Ability extends Tool {
  /** Only for people of the brand, not for its customers. */
  inside?: boolean;
  run(args: unknown, deps: ToolDeps): Promise<Record<string, unknown>>;
}

const text = (description: string) => ({ type: "STRING", description });
const creationTypes = [
  "tryon",
  "bg_remove",
  "color_change",
  "text_to_image",
  "image_to_image",
  "upscale",
  "video",
];

const queryArgs = z.object({ query: z.string().min(1).max(500), only_in_stock: z.boolean().default(false) });
const metricArgs = z.object({ days: z.number().int().min(1).max(365).default(30) });
const creationArgs = z.object({
  title: z.string().min(1).max(300),
  items: z.array(z.record(z.string(), z.unknown())).min(1).max(50),
});
const preferenceArgs = z.object({
  category: z.string(),
  key: z.string(),
  value: z.unknown(),
  confidence: z.number().min(0.01).max(0.99).default(0.5),
});

const abilities: Ability[] = [
  {
    name: "search_knowledge",
    description: "Looks for texts of the brand (pages, documents, products) that answer a question.",
    parameters: {
      type: "OBJECT",
      properties: { query: text("What to look for, in a few words.") },
      required: ["query"],
    },
    run: async (args, { search, sources }) => {
      const hits = await search(queryArgs.parse(args).query);
      return {
        chunks: sources
          .add(hits)
          .map(({ mark, hit }) => ({ mark, content: oneLine(hit), url: hit.source_url })),
      };
    },
  },
  {
    name: "search_products",
    description: "Looks for products of the brand's shop by words; without words the last changed ones.",
    parameters: {
      type: "OBJECT",
      properties: {
        query: text("Words of the product's title, type, vendor or tags."),
        only_in_stock: { type: "BOOLEAN", description: "Leaves out what is sold out." },
      },
      required: ["query"],
    },
    run: async (args, { backend, authorization, context }) => {
      const { query, only_in_stock } = queryArgs.parse(args);
      const found = await backend.rpc<Record<string, unknown>[]>(
        authorization,
        "commerce",
        "search_products",
        {
          workspace_id: context.workspace_id,
          query,
          only_in_stock,
          most: 8,
        },
      );
      // What the shop does not show is nothing for its customers.
      const shown = context.channel === "app" ? found : found.filter(({ status }) => status === "active");
      return { products: shown.map(productFacts) };
    },
  },
  {
    name: "read_metrics",
    description: "Figures of the last days: catalog, creations, spending, conversations, sales by currency.",
    inside: true,
    parameters: {
      type: "OBJECT",
      properties: {
        days: { type: "INTEGER", description: "How many days back, 1 to 365.", minimum: 1, maximum: 365 },
      },
    },
    run: async (args, { backend, authorization, context }) => {
      const { days } = metricArgs.parse(args);
      const rows = await backend.rpc<unknown>(authorization, "ai", "workspace_metrics", {
        workspace_id: context.workspace_id,
        days,
      });
      return { days, figures: Array.isArray(rows) ? rows[0] : rows };
    },
  },
  {
    name: "propose_creations",
    description:
      "Proposes pictures to be made (try-ons and other creations). It costs credits: within the workspace's limits it starts at once, else an admin is asked.",
    inside: true,
    parameters: {
      type: "OBJECT",
      properties: {
        title: text("What it is for, in a few words."),
        items: {
          type: "ARRAY",
          items: {
            type: "OBJECT",
            properties: {
              creation_type: { type: "STRING", enum: creationTypes },
              garment_id: text("Id of a garment of the wardrobe; try-ons need one."),
              model_id: text("Id of a model; the person who wears it."),
              input_path: text("Path of an uploaded picture, where there is no model."),
              prompt: text("What the picture shall show, for types that need words."),
              num_outputs: { type: "INTEGER", minimum: 1, maximum: 4 },
            },
            required: ["creation_type"],
          },
        },
      },
      required: ["title", "items"],
    },
    run: async (args, { backend, authorization, context, key }) => {
      const { title, items } = creationArgs.parse(args);
      const task = await backend.rpc<Record<string, unknown>>(authorization, "ai", "propose_task", {
        workspace_id: context.workspace_id,
        task_type: "creations",
        title,
        config: { items },
        session_id: context.session_id,
        key,
      });
      const { id, status, estimated_cost_micro, approval } = task;
      return { task_id: id, status, estimated_cost_micro, approval: approval ?? "an admin must approve it" };
    },
  },
  {
    name: "remember_preference",
    description: "Remembers a lasting preference that the customer has just told.",
    parameters: {
      type: "OBJECT",
      properties: {
        category: text("A short name such as style, size or budget."),
        key: text("A short name such as colour."),
        value: text("What they prefer."),
        confidence: { type: "NUMBER", minimum: 0.01, maximum: 0.99 },
      },
      required: ["category", "key", "value"],
    },
    run: async (args, { backend, authorization, context }) => {
      const { category, key, value, confidence } = preferenceArgs.parse(args);
      const { customer_id, anonymous_id } = context;
      if (!customer_id && !anonymous_id) return { error: "There is no customer in this conversation." };
      const noted = await backend.rpc<Record<string, unknown>>(authorization, "ai", "note_preference", {
        workspace_id: context.workspace_id,
        customer_id,
        anonymous_id,
        category,
        preference_key: key,
        preference_value: value,
        confidence,
        source: "conversation",
      });
      return { preference: `${category}.${key}`, confidence: noted.confidence };
    },
  },
];

function productFacts(product: Record<string, unknown>): Record<string, unknown> {
  const {
    id,
    title,
    price_min_cents,
    price_max_cents,
    currency,
    tags,
    total_inventory,
    has_variants_in_stock,
  } = product;
  return {
    id,
    title,
    price_min_cents,
    price_max_cents,
    currency,
    tags,
    total_inventory,
    has_variants_in_stock,
  };
}

/** What this conversation's model is told it can do. */
export function toolsFor({ channel }: TurnContext): Tool[] {
  return abilities
    .filter(({ inside }) => !inside || channel === "app")
    .map(({ name, description, parameters }) => ({ name, description, parameters }));
}

/** What a tool answers. Errors that people may read are answers: the model tells of them, or tries another way. */
export async function runTool(name: string, args: unknown, deps: ToolDeps): Promise<Record<string, unknown>> {
  const ability = abilities.find((each) => each.name === name);
  if (!ability || (ability.inside && deps.context.channel !== "app"))
    return { error: `There is no tool "${name}".` };
  try {
    return await ability.run(args, deps);
  } catch (error) {
    if (error instanceof z.ZodError) return { error: z.prettifyError(error) };
    const named = namedError(error);
    if (!named || named.status >= 500) throw error;
    return { error: `${named.code}: ${named.message}` };
  }
}
