import { expect, test } from "vitest";
import { lintSql } from "../../scripts/lint-sql.ts";

const messages = (sql: string) => lintSql("x.sql", sql).map(({ line, message }) => `${line}: ${message}`);

test("SQL in style has no faults", () => {
  expect(messages("-- Why.\nselect 'SELECT' as \"FROM\" -- FROM here\nfrom x;\n")).toEqual([]);
});

test("capitals, tabs, long lines and white space at the end are faults", () => {
  expect(messages(`SELECT 1;\n\tselect 2; \nselect '${"x".repeat(120)}';`)).toEqual([
    "2: has a tab",
    "2: ends in white space",
    "3: longer than 120 characters (130)",
    "1: SELECT in capitals",
    "1: does not say first what it is for",
    "3: ends without exactly one line break",
  ]);
});
