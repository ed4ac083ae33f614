// Where the stack's own lines go. Standard output stays free for what a caller parses.

export type Log = (line: string) => void;

export const logToStderr: Log = (line) => void process.stderr.write(`${line}\n`);

/** Says a line again only when it has changed, for work that repeats every second. */
export function logOnChange(log: Log): { say(line: string): void; clear(): void } {
  let last: string | undefined;
  return {
    say(line) {
      if (line !== last) log(line);
      last = line;
    },
    clear() {
      last = undefined;
    },
  };
}
