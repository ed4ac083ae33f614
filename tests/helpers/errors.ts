import pg from "pg";
import { expect } from "vitest";

export interface NamedError {
  name: string;
  sqlstate: string;
  message: string;
  hint: string | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: the facts of an error are whatever its raiser put in.
  facts: any;
}

/**
 * Expects the promise to fail with the named error of private.error_codes (and the sqlstate, when given),
 * or, for a name that is five capitals or digits, with that sqlstate of PostgreSQL's own.
 */
export async function expectError(
  promise: Promise<unknown>,
  name: string,
  sqlstate?: string,
): Promise<NamedError> {
  const error = await promise.then(
    (value) => expect.fail(`Expected the error ${name}, but got ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  if (!(error instanceof pg.DatabaseError)) throw error;
  const named: NamedError = {
    name: /^([a-z][a-z0-9_]+): /.exec(error.message)?.[1] ?? error.code ?? "",
    sqlstate: error.code ?? "",
    message: error.message,
    hint: error.hint,
    facts: parseFacts(error.detail),
  };
  const found = /^[0-9A-Z]{5}$/.test(name) ? named.sqlstate : named.name;
  expect(found, `${error.message} (${error.code})`).toBe(name);
  if (sqlstate !== undefined) expect(named.sqlstate, error.message).toBe(sqlstate);
  return named;
}

function parseFacts(detail: string | undefined): unknown {
  try {
    return detail === undefined ? undefined : JSON.parse(detail);
  } catch {
    return detail;
  }
}
