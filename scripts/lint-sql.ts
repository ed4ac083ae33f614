// npm run lint:sql: the house style of SQL files that no parser checks. Whether they parse is shown by applying them.

import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { root } from "./generated.ts";

const folders = ["supabase", "scripts", "tests"];
const longest = 120;

const keywords = new Set(
  `add after all alter analyze and any array as asc before begin between bigint boolean by bytea cascade case cast
  check coalesce collate column comment commit conflict constraint create cross current_user cursor database declare
  default deferrable definer delete desc distinct do domain drop each else elsif end enum except exception execute
  exists extension false fetch first for foreign from full function generated grant group having identity if ilike
  immutable in index inherits inner inout insert instead integer intersect interval into invoker is isnull join jsonb
  key language lateral left like limit lock locked loop materialized natural no not nothing notnull null nulls of
  offset on only operator or order out outer over partition perform policy primary privileges procedure public raise
  range record references refresh rename replace restrict return returning returns revoke right role row rows
  savepoint schema security select sequence session set setof skip smallint some stable stored strict table temp
  temporary text then timestamptz to trigger true truncate type union unique unlogged update usage user using uuid
  values view volatile when where while window with without`.split(/\s+/),
);

export interface Fault {
  file: string;
  line: number;
  message: string;
}

export function lintSql(file: string, sql: string): Fault[] {
  const faults: Fault[] = [];
  const report = (index: number, message: string) => faults.push({ file, line: index + 1, message });
  sql.split("\n").forEach((line, index) => {
    if (line.length > longest) report(index, `longer than ${longest} characters (${line.length})`);
    if (line.includes("\t")) report(index, "has a tab");
    if (/\s$/.test(line)) report(index, "ends in white space");
  });
  codeOf(sql)
    .split("\n")
    .forEach((line, index) => {
      for (const [word] of line.matchAll(/[A-Za-z_]\w*/g)) {
        if (word !== word.toLowerCase() && keywords.has(word.toLowerCase()))
          report(index, `${word} in capitals`);
      }
    });
  if (!sql.startsWith("-- ")) report(0, "does not say first what it is for");
  if (!sql.endsWith("\n") || sql.endsWith("\n\n"))
    report(sql.split("\n").length - 1, "ends without exactly one line break");
  return faults;
}

/** The text with comments, strings and quoted names blanked; bodies of functions stay. */
function codeOf(sql: string): string {
  const blank = (text: string) => text.replaceAll(/[^\n]/g, " ");
  return sql.replaceAll(/--.*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'|"[^"]*"/g, blank);
}

function sqlFiles(): string[] {
  return folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith(".sql"))
      .map((entry) => relative(root, join(entry.parentPath, entry.name))),
  );
}

if (import.meta.main) {
  const files = sqlFiles();
  const faults = files.flatMap((file) => lintSql(file, readFileSync(join(root, file), "utf8")));
  for (const { file, line, message } of faults) console.error(`${file}:${line}: ${message}`);
  if (faults.length > 0) process.exitCode = 1;
  else console.log(`${files.length} SQL files are in style.`);
}
