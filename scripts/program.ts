import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const require = createRequire(import.meta.url);

/** The file of a package that is its program, to be run by this node. */
export function program(name: string, file: string): string {
  return join(dirname(require.resolve(`${name}/package.json`)), file);
}
