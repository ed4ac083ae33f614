// docs/reference/environment.md, from functions/_shared/env.ts: what each variable is for stands there as its comment.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { variables } from "../../functions/_shared/env.ts";
import { table } from "./markdown.ts";

const source = join(import.meta.dirname, "../../functions/_shared/env.ts");

/** The comment above a variable, on one line. */
function commentOf(text: string, name: string): string {
  const declared = text.indexOf(`\n  ${name}: `);
  const comment = /\/\*\* ((?:(?!\*\/)[\s\S])*?) ?\*\/$/.exec(text.slice(0, declared))?.[1];
  return (comment ?? "").replace(/\s*\n\s*\*?\s*/g, " ");
}

function usualOf(name: keyof typeof variables): string {
  const read = variables[name].safeParse(undefined);
  if (!read.success) return "**needed**";
  const shown = Array.isArray(read.data) ? read.data.map(String).join(", ") : read.data;
  return shown === undefined
    ? ""
    : `\`${typeof shown === "object" ? JSON.stringify(shown) : String(shown)}\``;
}

export async function environmentPage(): Promise<string> {
  const text = await readFile(source, "utf8");
  const rows = (Object.keys(variables) as (keyof typeof variables)[]).map((name) => [
    `\`${name}\``,
    usualOf(name),
    commentOf(text, name),
  ]);
  return `# Environment of the edge functions

Made by \`npm run docs\` from \`functions/_shared/env.ts\`, where each is read and checked. A variable without a usual
value that is not needed may be missing; what needs it is then not there. The platform provides those of \`SUPABASE_\`.
\`functions/.env.example\` is a file to fill in. A function asks only for those it uses.

${table(["variable", "usual", "what for"], rows)}
`;
}
