/** A table; cells may hold anything but line breaks, which become spaces. */
export function table(head: string[], rows: (string | null)[][]): string {
  const line = (cells: (string | null)[]) => `| ${cells.map((cell) => safe(cell ?? "")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function safe(cell: string): string {
  return cell.replaceAll(/\s*\n\s*/g, " ").replaceAll("|", "\\|");
}

export function code(text: string): string {
  return text.includes("`") ? `\`\` ${text} \`\`` : `\`${text}\``;
}

/** The anchor that GitHub gives a heading. */
export function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");
}

/** Blocks one below the other, without the empty ones. */
export function page(blocks: (string | null | undefined | false)[]): string {
  return `${blocks.filter((block) => block).join("\n\n")}\n`;
}

export const notice =
  "<!-- Generated from the live catalog by `npm run docs`. Changes belong into the migrations. -->";
