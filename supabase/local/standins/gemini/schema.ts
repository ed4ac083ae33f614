// The subset of OpenAPI's schema that responseSchema takes. Source: npm @google/genai 3.1.0, Schema and Type.

import { z } from "zod";

export type Schema = {
  type: "STRING" | "NUMBER" | "INTEGER" | "BOOLEAN" | "ARRAY" | "OBJECT";
  format?: string | undefined;
  title?: string | undefined;
  description?: string | undefined;
  nullable?: boolean | undefined;
  enum?: string[] | undefined;
  minimum?: number | undefined;
  maximum?: number | undefined;
  minItems?: string | number | undefined;
  maxItems?: string | number | undefined;
  minLength?: string | number | undefined;
  maxLength?: string | number | undefined;
  pattern?: string | undefined;
  items?: Schema | undefined;
  properties?: Record<string, Schema> | undefined;
  propertyOrdering?: string[] | undefined;
  required?: string[] | undefined;
};

// 64-bit numbers travel as text in Google's JSON; plain ones are read too.
const int64 = z.union([z.string().regex(/^\d+$/), z.number().int()]).optional();

export const schemaOf: z.ZodType<Schema> = z.lazy(() =>
  z
    .strictObject({
      type: z.enum(["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"]),
      format: z.string().optional(),
      title: z.string().optional(),
      description: z.string().optional(),
      nullable: z.boolean().optional(),
      enum: z.array(z.string().min(1)).min(1).optional(),
      minimum: z.number().optional(),
      maximum: z.number().optional(),
      minItems: int64,
      maxItems: int64,
      minLength: int64,
      maxLength: int64,
      pattern: z.string().optional(),
      items: schemaOf.optional(),
      properties: z.record(z.string(), schemaOf).optional(),
      propertyOrdering: z.array(z.string()).optional(),
      required: z.array(z.string()).optional(),
    })
    .refine(({ type, items }) => type !== "ARRAY" || items !== undefined, "items: missing field.")
    .refine(
      ({ type, properties }) => type !== "OBJECT" || Object.keys(properties ?? {}).length > 0,
      "properties: should be non-empty for OBJECT type",
    )
    .refine(
      ({ required = [], properties = {} }) => required.every((name) => Object.hasOwn(properties, name)),
      "required: property is not defined",
    ),
);

/** Is the value of this shape? */
export function fits(value: unknown, schema: Schema): boolean {
  if (value === null) return schema.nullable === true;
  switch (schema.type) {
    case "STRING":
      return typeof value === "string" && (schema.enum?.includes(value) ?? true);
    case "BOOLEAN":
      return typeof value === "boolean";
    case "INTEGER":
    case "NUMBER":
      return (
        typeof value === "number" &&
        (schema.type === "NUMBER" || Number.isInteger(value)) &&
        value >= (schema.minimum ?? -Infinity) &&
        value <= (schema.maximum ?? Infinity)
      );
    case "ARRAY":
      return Array.isArray(value) && value.every((item) => fits(item, schema.items as Schema));
    case "OBJECT":
      return (
        typeof value === "object" &&
        (schema.required ?? []).every((name) => Object.hasOwn(value as object, name)) &&
        Object.entries(value as object).every(([name, item]) => {
          const inner = schema.properties?.[name];
          return inner !== undefined && fits(item, inner);
        })
      );
  }
}

/** The plainest value of this shape. */
export function plainest(schema: Schema): unknown {
  switch (schema.type) {
    case "STRING":
      return schema.enum?.[0] ?? "text";
    case "BOOLEAN":
      return false;
    case "INTEGER":
    case "NUMBER":
      return schema.minimum ?? 0;
    case "ARRAY":
      return Array.from({ length: Number(schema.minItems ?? 0) }, () => plainest(schema.items as Schema));
    case "OBJECT":
      return Object.fromEntries(
        (schema.required ?? []).map((name) => [name, plainest(schema.properties?.[name] as Schema)]),
      );
  }
}
