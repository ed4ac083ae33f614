import { Hono } from "hono";
import { z } from "zod";

const count = z.number().int().min(0);

/** What a stand-in can be told to do wrong. README.md explains each field. */
export const ruleSchema = z.strictObject({
  fail: z.enum(["submit", "answer", "run", "status"]).optional(),
  http_status: z.number().int().min(400).max(599).optional(),
  error_code: count.optional(),
  error_subcode: count.optional(),
  retry_after: count.optional(),
  answer_ms: count.optional(),
  delay_ms: count.optional(),
  queue_ms: count.optional(),
  ignore_cancel: z.boolean().optional(),
  plain: z.boolean().optional(),
  expire_ms: count.optional(),
  text: z.string().optional(),
  finish: z.string().optional(),
  block: z.string().optional(),
  duplicate: count.optional(),
  late_ms: count.optional(),
  reorder: z.boolean().optional(),
  lose_webhook: z.boolean().optional(),
  types: z.array(z.string()).optional(),
  times: z.number().int().min(1).optional(),
  every: z.number().int().min(1).optional(),
});
export type Rule = z.infer<typeof ruleSchema>;

/** A rule acts in up to three phases; `times` and `every` count in each phase by themselves. */
const phases = {
  api: ["answer_ms"],
  run: ["delay_ms", "queue_ms", "ignore_cancel", "plain", "expire_ms", "text", "finish", "block"],
  webhook: ["duplicate", "late_ms", "reorder", "lose_webhook"],
} as const;
export type Phase = keyof typeof phases;
const failurePhase = { submit: "api", answer: "api", status: "api", run: "run" } as const;

export type RecordedRequest = {
  at: string;
  method: string;
  path: string;
  query: Record<string, string>;
  headers: Record<string, string>;
  body: unknown;
  status: number;
};

type ActiveRule = { rule: Rule; met: Record<Phase, number>; used: Record<Phase, number> };
export type Counts = Record<string, number | Record<string, number>>;

/** The orders given to a stand-in, and the record of what it received. Never persisted. */
export class Control {
  #rules: ActiveRule[] = [];
  #requests: RecordedRequest[] = [];
  #counts = new Map<string, number>();
  #slow: "run" | "answer";

  /** What `delay_ms` means here: a longer run, or a later answer where nothing runs. */
  constructor(slow: "run" | "answer" = "run") {
    this.#slow = slow;
  }

  add({ delay_ms, ...rest }: Rule): void {
    const rule: Rule = { ...rest };
    if (delay_ms !== undefined) rule[this.#slow === "run" ? "delay_ms" : "answer_ms"] = delay_ms;
    const none = { api: 0, run: 0, webhook: 0 };
    this.#rules.push({ rule, met: { ...none }, used: { ...none } });
  }

  reset(): void {
    this.#rules = [];
    this.#requests = [];
    this.#counts.clear();
  }

  /** All rules that act now, merged (a later rule wins); each is used up by one. */
  take(phase: Phase, subject: { type?: string; failures?: Rule["fail"][] } = {}): Rule {
    const merged: Rule = {};
    for (const active of this.#rules) {
      if (!actsIn(active, phase, subject)) continue;
      if (++active.met[phase] % (active.rule.every ?? 1) !== 0) continue;
      active.used[phase]++;
      Object.assign(merged, active.rule);
    }
    return merged;
  }

  record(request: RecordedRequest): void {
    this.#requests.push(request);
    if (this.#requests.length > 5000) this.#requests.shift();
  }

  /** Counts under `name`, or under `name.key`. */
  count(name: string, key?: string): void {
    const full = key === undefined ? name : `${name}.${key}`;
    this.#counts.set(full, (this.#counts.get(full) ?? 0) + 1);
  }

  get requests(): RecordedRequest[] {
    return this.#requests;
  }

  counts(): Counts {
    const result: Counts = {};
    for (const [full, value] of this.#counts) {
      const dot = full.indexOf(".");
      const name = full.slice(0, dot < 0 ? undefined : dot);
      if (dot < 0) result[name] = value;
      else result[name] = { ...(result[name] as object), [full.slice(dot + 1)]: value };
    }
    return result;
  }

  rules(): (Rule & { used: Record<Phase, number> })[] {
    return this.#rules.map(({ rule, used }) => ({ ...rule, used }));
  }
}

function actsIn(
  active: ActiveRule,
  phase: Phase,
  subject: { type?: string; failures?: Rule["fail"][] },
): boolean {
  const { rule, used } = active;
  if (used[phase] >= (rule.times ?? Number.POSITIVE_INFINITY)) return false;
  if (phase === "webhook" && rule.types && !rule.types.includes(subject.type ?? "")) return false;
  const fails = rule.fail !== undefined && failurePhase[rule.fail] === phase;
  if (fails && subject.failures && !subject.failures.includes(rule.fail)) return false;
  return fails || phases[phase].some((field) => rule[field] !== undefined);
}

/** The routes under /_control and /_requests; they ask for no key. */
export function controlRoutes(control: Control): Hono {
  const app = new Hono();
  app.post("/_control/reset", (c) => {
    control.reset();
    return c.json({ reset: true });
  });
  app.post("/_control", async (c) => {
    const parsed = ruleSchema.safeParse(await c.req.json());
    if (!parsed.success) return c.json({ error: z.prettifyError(parsed.error) }, 400);
    control.add(parsed.data);
    return c.json({ rules: control.rules() });
  });
  app.get("/_control", (c) => c.json({ rules: control.rules(), counts: control.counts() }));
  app.get("/_requests", (c) => {
    const path = c.req.query("path");
    const method = c.req.query("method");
    const requests = control.requests.filter(
      (request) => (!path || request.path.includes(path)) && (!method || request.method === method),
    );
    return c.json({ count: requests.length, requests });
  });
  return app;
}

const hidden = new Set(["authorization", "cookie"]);

export function visibleHeaders(headers: Headers): Record<string, string> {
  return Object.fromEntries([...headers].filter(([name]) => !hidden.has(name)));
}
