import type { Context, MiddlewareHandler } from "hono";
import { type Control, type Rule, visibleHeaders } from "./control.ts";

type Recording = {
  /** Which orders to fail mean this call; writes are submitted, all else asks, when not given. */
  failures?(c: Context): Rule["fail"][];
  /** The provider's own words for a call that was told to fail. */
  refuse(c: Context, rule: Rule): Response;
  /** What the call is counted as. */
  name(c: Context): string;
  /** What is kept of a body; JSON where it is that, when not given. */
  body?(text: string): unknown;
  query?(c: Context): Record<string, string>;
};

/**
 * Keeps every call on record and does what the control rules say: `submit` and `status` refuse before anything is
 * done, `answer` loses the answer of what was done.
 */
export function recorder(control: Control, recording: Recording): MiddlewareHandler {
  const { failures = failuresOf, refuse, name, body = parsed, query = (c) => c.req.query() } = recording;
  return async (c, next) => {
    const possible = failures(c);
    const rule = control.take("api", { failures: possible });
    if (rule.answer_ms) await new Promise((resolve) => setTimeout(resolve, rule.answer_ms));
    const text = await c.req.raw.clone().text();
    const fails = rule.fail !== undefined && possible.includes(rule.fail);
    if (!fails || rule.fail === "answer") await next();
    if (fails) c.res = refuse(c, rule);
    control.count("requests", name(c));
    control.record({
      at: new Date().toISOString(),
      method: c.req.method,
      path: c.req.path,
      query: query(c),
      headers: visibleHeaders(c.req.raw.headers),
      body: body(text),
      status: c.res.status,
    });
  };
}

/** The answer to a call that was told to fail, with the status and the pause that were ordered. */
export function ordered(c: Context, rule: Rule, body: object): Response {
  if (rule.retry_after !== undefined) c.header("retry-after", String(rule.retry_after));
  return c.json(body, (rule.http_status ?? 500) as 500);
}

/** Names a submission by what was asked for, so that a repeated one shows: signatures of URLs are left out. */
export function inputName(model: string, input: Record<string, unknown>): string {
  const pictures = Object.values(input).filter((value) => /^https?:/.test(String(value)));
  return [model, ...pictures.map((url) => new URL(String(url)).pathname)].join(" ");
}

function failuresOf(c: Context): Rule["fail"][] {
  return c.req.method === "GET" ? ["status"] : ["submit", "answer"];
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
