// What connecting accounts at a provider takes. One provider is one file, or one entry of standard.ts.

import { z } from "zod";
import { ApiError } from "../../_shared/errors.ts";

/** What a provider grants. Times in seconds from now. */
export interface Tokens {
  accessToken: string;
  refreshToken?: string | undefined;
  expiresIn?: number | undefined;
  refreshExpiresIn?: number | undefined;
  scopes: string[];
}

/** Whose account it is. */
export interface Identity {
  external_account_id: string;
  username?: string | undefined;
  display_name?: string | undefined;
  email?: string | undefined;
  avatar_url?: string | undefined;
  marketplace_id?: string | undefined;
  region?: string | undefined;
  selling_status?: string | undefined;
  provider_data?: Record<string, unknown> | undefined;
}

export interface AuthorizeRequest {
  state: string;
  redirectUri: string;
  /** What is to be connected, where that is named before. */
  account: string | null;
  /** Of PKCE; sent as it is at the exchange, as its hash before. */
  verifier: string;
}
export interface Callback extends AuthorizeRequest {
  code: string;
  query: URLSearchParams;
}

export interface OAuthProvider {
  name: string;
  /** The name of the code in the callback, where it is not "code". */
  codeName?: string;
  /** What is to be connected in its one spelling. Errors: invalid_argument. */
  account?(named: string | undefined): string | null;
  authorizeUrl(request: AuthorizeRequest): Promise<string> | string;
  /** Proves that the query comes from the provider, and tells of which account it speaks. Errors: invalid_signature. */
  verify?(query: URLSearchParams, nowMs: number): string | null;
  /** Errors: ProviderRefused. */
  exchange(callback: Callback): Promise<Tokens>;
  identify(tokens: Tokens, callback: Pick<Callback, "account" | "query">): Promise<Identity>;
  /** Absent where tokens do not end. Errors: ProviderRefused. */
  refresh?(refreshToken: string, account: string): Promise<Tokens>;
  /** Ends the grant at the provider. */
  revoke?(accessToken: string, account: string): Promise<void>;
}

export interface OAuthClient {
  client_id: string;
  client_secret: string;
}

/** The provider said no. `final`: asking again cannot help, the person has to connect anew. */
export class ProviderRefused extends Error {
  override readonly name = "ProviderRefused";
  readonly final: boolean;

  constructor(message: string, final: boolean, cause?: unknown) {
    super(message, { cause });
    this.final = final;
  }
}

export function unverified(message: string): ApiError {
  return new ApiError(401, "invalid_signature", message);
}

const timeoutMs = 15_000;

export interface TokenCall {
  fetch: typeof fetch;
  url: string;
  method?: "GET" | "POST" | "DELETE";
  form?: Record<string, string>;
  json?: Record<string, unknown>;
  headers?: Record<string, string>;
}

/** Calls a provider and reads its JSON. Errors: ProviderRefused, final for what is our or the person's fault. */
export async function call<S extends z.ZodType>(request: TokenCall, shape: S): Promise<z.output<S>> {
  const { form, json, headers = {} } = request;
  const body = form ? new URLSearchParams(form).toString() : json ? JSON.stringify(json) : undefined;
  const type = form ? "application/x-www-form-urlencoded" : "application/json";
  let response: Response;
  let text: string;
  try {
    response = await request.fetch(request.url, {
      method: request.method ?? (body === undefined ? "GET" : "POST"),
      headers: {
        accept: "application/json",
        ...(body !== undefined && { "content-type": type }),
        ...headers,
      },
      ...(body !== undefined && { body }),
      signal: AbortSignal.timeout(timeoutMs),
    });
    text = await response.text();
  } catch (error) {
    throw new ProviderRefused("The provider cannot be reached.", false, error);
  }
  if (!response.ok) {
    const final = response.status >= 400 && response.status < 500 && response.status !== 429;
    throw new ProviderRefused(`The provider answered with status ${response.status}.`, final, faultOf(text));
  }
  const parsed = shape.safeParse(parseJson(text));
  if (!parsed.success) throw new ProviderRefused("The provider's answer is not of the shape we know.", false);
  return parsed.data;
}

/** The provider's own word for what is wrong; never the whole answer, which may hold tokens. */
function faultOf(text: string): string {
  const parsed = z
    .looseObject({ error: z.unknown().optional(), error_description: z.unknown().optional() })
    .safeParse(parseJson(text));
  if (!parsed.success) return "";
  return JSON.stringify([parsed.data.error, parsed.data.error_description]).slice(0, 300);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text || "{}");
  } catch {
    return null;
  }
}
