// The entry page of the reference and the page of errors.

import { functionErrors } from "../../types/function-errors.ts";
import type { Schema } from "../catalog/types.ts";
import { anchor, code, notice, page, table } from "./markdown.ts";

export interface ErrorCode {
  name: string;
  sqlstate: string;
  hint: string;
}

export function indexPage(schemas: Schema[], exposed: string[]): string {
  return page([
    notice,
    "# Reference",
    "Made from the live catalog: what the migrations really build. Errors have [a page of their own](errors.md), and so has the [environment](environment.md) of the functions.",
    table(
      ["schema", "over the API", "tables", "functions", "about"],
      schemas.map((schema) => [
        `[${schema.name}](${schema.name}.md)`,
        exposed.includes(schema.name) ? "yes" : "",
        String(schema.relations.length),
        String(schema.routines.filter(({ isTrigger }) => !isTrigger).length),
        schema.comment ?? "",
      ]),
    ),
    ...schemas.filter(({ relations }) => relations.length > 0).map(tableList),
  ]);
}

function tableList(schema: Schema): string {
  const rows = schema.relations
    .filter(({ isPartition }) => !isPartition)
    .map(({ name, comment }) => [`[${name}](${schema.name}.md#${anchor(name)})`, comment ?? ""]);
  return page([`## ${schema.name}`, table(["table", "about"], rows)]).trimEnd();
}

export function errorsPage(errors: ErrorCode[]): string {
  return page([
    notice,
    "# Errors",
    [
      "SQL functions raise errors by name: the message starts with the name and a colon, the details are the facts",
      "as JSON, the hint says what to do. A code `PTxyz` answers with HTTP status xyz; codes that start with `BL` are",
      "for workers, which speak to the database directly.",
    ].join("\n"),
    table(
      ["name", "status", "code", "what to do"],
      errors.map(({ name, sqlstate, hint }) => [
        code(name),
        sqlstate.startsWith("PT") ? sqlstate.slice(2) : "",
        code(sqlstate),
        hint,
      ]),
    ),
    [
      "## Of edge functions",
      "",
      'They answer `{"error": {"code", "message", "details", "hint"}}` with the status: the names above, and these.',
      "Their `invalid_argument` has all that is wrong in `details.issues`, and the first of it in `details.argument`.",
    ].join("\n"),
    table(
      ["name", "status", "what to do"],
      Object.entries(functionErrors).map(([name, { status, hint }]) => [code(name), String(status), hint]),
    ),
  ]);
}
