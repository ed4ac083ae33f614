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

// What is secret by its looks, wherever it stands: the error of a call that fails says its whole address.
const secrets = new RegExp(
  [
    // secret keys of Stripe and Supabase, tokens of Shopify and of VR shops, webhook secrets and addresses
    /\b(?:sk|rk)_(?:test|live)_\w+|\bshp[a-z]{2}_\w+|\bwhsec_[\w+/=-]+|\bwhu_[\w-]+|\bvrt_\w+|\bsb_secret_[\w-]+/,
    // keys of Resend, Replicate, fal and Google; tokens of Meta, Amazon and Google
    /\bre_[A-Za-z0-9]{6,}_\w{10,}|\br8_\w{20,}|\b[0-9a-f-]{36}:[0-9a-f]{32}\b|\bAIza[\w-]{30,}/,
    /\b(?:EAA|IGAA|IGQV)\w{20,}|\bAtz[ar]\|[\w+/=-]+|\bya29\.[\w.-]+/,
    // JSON web tokens, bearer tokens, passwords in addresses
    /\beyJ[\w-]+\.[\w-]+\.[\w-]+|(?<=\b(?:[Bb]earer|[Bb]asic) )[\w+/=.~|-]{8,}|(?<=:\/\/[^\s/:@]+:)[^\s/@]+(?=@)/,
    // parameters of addresses and forms
    /(?<=\b(?:\w*_token|client_secret|appsecret_proof|token|code|key|X-Amz-Signature)=)[^&\s"'\\)]+/,
  ]
    .map(({ source }) => source)
    .join("|"),
  "g",
);

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
