/** A code block of a page: the heading above it, its language, its code, and the names that its code declares. */
export interface Block {
  heading: string;
  language: string;
  code: string;
  names: string[];
}

/** The code blocks of a page in order, of one language or of all. */
export function blocks(page: string, language?: string): Block[] {
  let heading = "";
  const found: Block[] = [];
  for (const [, title, lang, code = ""] of page.matchAll(/^#{1,3} ([^\n]*)$|^```(\w+)\n(.*?)^```$/gms)) {
    if (title) heading = title;
    else if (!language || lang === language) {
      found.push({ heading, language: lang!, code, names: declared(code) });
    }
  }
  return found;
}

/** Names of the constants that a block declares at its outermost level. */
function declared(code: string): string[] {
  const names = [...code.matchAll(/^const (\w+)/gm)].map(([, name]) => name!);
  for (const [, list] of code.matchAll(/^const [{[]([^}\]]*)[}\]] =/gm)) {
    names.push(...list!.split(",").map((part) => part.split(":").at(-1)!.trim()));
  }
  return names;
}

// biome-ignore lint/suspicious/noExplicitAny: the values of a page's program.
export type Values = Record<string, any>;

/** Runs blocks as one program; after each, `after` hears which it was and what has been declared so far. */
export async function runBlocks(
  program: Block[],
  given: Values,
  after: (index: number, values: Values) => unknown,
): Promise<void> {
  const names = new Set<string>();
  const source = program.map(({ code, names: mine }, index) => {
    for (const name of mine) {
      if (names.has(name)) throw new Error(`${name} is declared twice: a page is one program.`);
      names.add(name);
    }
    return `${code.replace(/^import .*$/gm, "")}\nawait after(${index}, { ${[...names].join(", ")} });`;
  });
  const values = { ...given, after };
  const AsyncFunction = (async () => {}).constructor as FunctionConstructor;
  await new AsyncFunction(...Object.keys(values), source.join("\n"))(...Object.values(values));
}
