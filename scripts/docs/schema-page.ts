// One page a schema: its tables with all that belongs to them, its views and its functions.

import type { Column, Grant, Relation, Routine, Schema } from "../catalog/types.ts";
import { code, notice, page, table } from "./markdown.ts";

export function schemaPage(schema: Schema, exposed: boolean): string {
  const tables = schema.relations.filter(({ kind }) => kind.endsWith("table"));
  const views = schema.relations.filter(({ kind }) => kind.endsWith("view"));
  const routines = schema.routines.filter(({ isTrigger }) => !isTrigger);
  return page([
    notice,
    `# ${schema.name}`,
    schema.comment,
    exposed
      ? `Over the API: ${code(`supabase.schema("${schema.name}")`)}.`
      : "Not exposed: PostgREST does not show this schema.",
    tables.length > 0 && "## Tables",
    ...tables.filter(({ isPartition }) => !isPartition).map(relationSection),
    views.length > 0 && "## Views",
    ...views.map(relationSection),
    routines.length > 0 && "## Functions",
    ...routines.map(routineSection),
  ]);
}

function relationSection(relation: Relation): string {
  return page([
    `### ${relation.name}`,
    relation.comment,
    table(["column", "type", "null", "default", "about"], relation.columns.map(columnRow)),
    list(
      "Constraints",
      relation.constraints.map(({ name, definition }) => `${code(name)}: ${code(oneLine(definition))}`),
    ),
    list(
      "Indexes",
      relation.indexes
        .filter(({ ofConstraint }) => !ofConstraint)
        .map(({ definition }) =>
          code(definition.replace(/^CREATE (UNIQUE )?INDEX (\S+) ON (ONLY )?\S+ USING /, "$1$2 ")),
        ),
    ),
    list(
      "Triggers",
      relation.triggers.map(({ name, definition }) => `${code(name)}: ${code(triggerOf(definition))}`),
    ),
    list("Policies", relation.policies.map(policyLine)),
    `Rights: ${rights(relation.grants)}`,
  ]).trimEnd();
}

function columnRow(column: Column): string[] {
  const generated = { always: "identity", "by default": "identity", stored: "computed" };
  const value = column.generated ? generated[column.generated] : column.default;
  return [
    code(column.name),
    shortType(column.type),
    column.nullable ? "yes" : "",
    value ? code(oneLine(value)) : "",
    column.comment ?? "",
  ];
}

function policyLine(policy: Relation["policies"][number]): string {
  const parts = [
    `**${policy.name}**: ${policy.command} for ${policy.roles.join(", ")}`,
    policy.using && `where ${code(oneLine(policy.using))}`,
    policy.check && policy.check !== policy.using && `if then ${code(oneLine(policy.check))}`,
  ];
  return parts.filter(Boolean).join(", ");
}

function routineSection(routine: Routine): string {
  return page([
    `### ${routine.name}`,
    code(
      `${routine.schema}.${routine.name}(${shortType(routine.arguments)}) returns ${shortType(routine.returns)}`,
    ),
    routine.comment,
    `${routine.definer ? "Runs with its owner's rights" : "Runs with the caller's rights"}. Called by: ${callers(routine.grants)}`,
  ]).trimEnd();
}

function callers(grants: Grant[]): string {
  return grants.length === 0 ? "other functions alone." : `${grants.map(({ role }) => role).join(", ")}.`;
}

function rights(grants: Grant[]): string {
  if (grants.length === 0) return "none; functions write and read it.";
  const byRole = Map.groupBy(grants, ({ role }) => role);
  const lines = [...byRole].map(([role, own]) => {
    const words = own.map(({ privilege, columns }) =>
      columns ? `${privilege} (${columns.map(code).join(", ")})` : privilege,
    );
    return `${role}: ${words.join(", ")}`;
  });
  return `${lines.join("; ")}.`;
}

function list(title: string, items: string[]): string | false {
  return items.length > 0 && `${title}:\n\n${items.map((item) => `- ${item}`).join("\n")}`;
}

function triggerOf(definition: string): string {
  return definition
    .replace(/^CREATE (CONSTRAINT )?TRIGGER \S+ /, "")
    .replace(/ ON \S+/, "")
    .replace(/EXECUTE FUNCTION /, "");
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim();
}

function shortType(text: string): string {
  return text
    .replaceAll("timestamp with time zone", "timestamptz")
    .replaceAll("character varying", "varchar")
    .replaceAll("double precision", "float8");
}
