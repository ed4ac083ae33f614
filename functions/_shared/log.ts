// Structured logs: one JSON line an entry, on the streams the platform collects.

export type Fields = Record<string, unknown>;

export interface Log {
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  /** A log whose entries all carry these fields. */
  with(fields: Fields): Log;
}

type Write = (level: "info" | "warn" | "error", line: string) => void;

const toConsole: Write = (level, line) => console[level](line);

/** A log whose lines carry these fields, such as the function's name. Keys and tokens are masked. */
export function createLog(fields: Fields, write: Write = toConsole): Log {
  const entry =
    (level: "info" | "warn" | "error") =>
    (message: string, more: Fields = {}) => {
      const line = { at: new Date().toISOString(), level, message, ...fields, ...more };
      write(
        level,
        mask(JSON.stringify(line, (_, value) => (value instanceof Error ? describe(value) : value))),
      );
    };
  return {
    info: entry("info"),
    warn: entry("warn"),
    error: entry("error"),
    with: (more) => createLog({ ...fields, ...more }, write),
  };
}

// Secret keys of Stripe and Supabase, tokens of Shopify and of VR shops, webhook secrets and addresses, JSON web
// tokens, passwords in addresses.
const secrets =
  /\b(sk|rk)_(test|live)_\w+|\bshp[a-z]{2}_\w+|\bwhsec_[\w+/=-]+|\bwhu_[\w-]+|\bvrt_\w+|\bsb_secret_[\w-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]+|(?<=:\/\/[^\s/:@]+:)[^\s/@]+(?=@)/g;

function mask(line: string): string {
  return line.replace(secrets, "***");
}

function describe(error: Error): Fields {
  const { code, status, cause } = error as Error & { code?: unknown; status?: unknown };
  const stack = error.stack
    ?.split("\n")
    .slice(1, 6)
    .map((frame) => frame.trim());
  return { name: error.name, message: error.message, code, status, stack, cause };
}
