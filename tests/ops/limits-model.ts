// What limits allow, in the plainest words: lists of starts, counts of who is at work, closings and circuits. It knows
// nothing of lines, tags and openings, nor in which order jobs are taken: it says whether a job may start now.

export interface Rule {
  scope: "kind" | "workspace" | "provider" | "key";
  subject: string;
  /** At work at once; null for a rule of starts. */
  running: number | null;
  starts: number | null;
  /** Seconds. */
  per: number | null;
  active: boolean;
}

export interface ModelJob {
  id: number;
  kind: string;
  workspace: string | null;
  provider: string | null;
  limitKey: string | null;
  /** waiting: for a provider's answer or a time; scheduled and waiting jobs are ready from `readyAt` on. */
  state: "queued" | "scheduled" | "waiting" | "paused" | "running";
  readyAt: number;
  waitKey: string | null;
  answered: boolean;
  /** Keys under which it counts: while it is at work, and while a provider works on it. */
  slots: Set<string>;
  leaseEnds: number;
}

interface Circuit {
  state: "closed" | "open" | "half_open";
  failures: number;
  probeAt: number;
}

export const coolDown = 30;
export const failureThreshold = 2;

export class ModelLimits {
  now = 0;
  jobs = new Map<number, ModelJob>();
  /** Times of the starts that counted, by key. */
  starts = new Map<string, number[]>();
  closed = new Map<string, number>();
  circuits = new Map<string, Circuit>();

  readonly rules: Rule[];

  constructor(rules: Rule[]) {
    this.rules = rules;
  }

  add(id: number, job: Pick<ModelJob, "kind" | "workspace" | "provider" | "limitKey">): void {
    const rest = {
      readyAt: this.now,
      waitKey: null,
      answered: false,
      slots: new Set<string>(),
      leaseEnds: 0,
    };
    this.jobs.set(id, { id, ...job, state: "queued", ...rest });
  }

  /** The names of all keys that concern a job, each with the rules in force. */
  keysOf(job: ModelJob): [name: string, rules: Rule[]][] {
    const rules = (scope: Rule["scope"], subject: string) =>
      this.rules.filter((rule) => rule.active && rule.scope === scope && rule.subject === subject);
    const keys: [string, Rule[]][] = [[`kind:${job.kind}`, rules("kind", job.kind)]];
    if (job.workspace) keys.push([`workspace:${job.workspace}:${job.kind}`, rules("workspace", job.kind)]);
    if (job.provider) keys.push([`provider:${job.provider}`, rules("provider", job.provider)]);
    if (job.limitKey) {
      keys.push([`key:${job.limitKey}`, rules("key", job.limitKey.slice(0, job.limitKey.indexOf(":")))]);
    }
    return keys;
  }

  running(key: string): number {
    return [...this.jobs.values()].filter((job) => job.slots.has(key)).length;
  }

  /** Why a ready job may not start now; null when it may. A job that holds its slots goes on. */
  obstacle(job: ModelJob): string | null {
    if (job.slots.size > 0) return null;
    for (const [key, rules] of this.keysOf(job)) {
      for (const { running, starts, per } of rules) {
        if (running !== null && this.running(key) >= running) return `${key} has ${running} at work`;
        if (starts !== null) {
          const recent = (this.starts.get(key) ?? []).filter((at) => at > this.now - per!);
          if (recent.length >= starts) return `${key} had ${recent.length} starts in ${per} s`;
        }
      }
      if ((this.closed.get(key) ?? 0) > this.now) return `${key} is closed until ${this.closed.get(key)}`;
      const circuit = this.circuits.get(key);
      if (circuit && circuit.state !== "closed" && circuit.probeAt > this.now) return `${key} is broken`;
    }
    return null;
  }

  start(job: ModelJob, lease: number): void {
    if (job.slots.size === 0) {
      for (const [key, rules] of this.keysOf(job)) {
        const circuit = this.circuits.get(key);
        const isProbe = circuit !== undefined && circuit.state !== "closed";
        if (isProbe) Object.assign(circuit, { state: "half_open", probeAt: this.now + coolDown });
        if (isProbe || rules.some(({ running }) => running !== null)) job.slots.add(key);
        if (rules.some(({ starts }) => starts !== null)) {
          this.starts.set(key, [...(this.starts.get(key) ?? []), this.now]);
        }
      }
    }
    Object.assign(job, { state: "running", leaseEnds: this.now + lease });
  }

  /** Jobs that may be taken up now, but for limits. */
  ready(): ModelJob[] {
    return [...this.jobs.values()].filter(
      ({ state, readyAt }) =>
        state === "queued" || ((state === "scheduled" || state === "waiting") && readyAt <= this.now),
    );
  }

  end(id: number): void {
    this.jobs.delete(id);
  }

  /** For a provider's answer the slots are kept: it is at work. */
  wait(job: ModelJob, waitKey: string | null, seconds: number): void {
    if (!waitKey) job.slots.clear();
    Object.assign(job, { state: "waiting", waitKey, answered: false, readyAt: this.now + seconds });
  }

  tryAgain(job: ModelJob, seconds: number): void {
    job.slots.clear();
    Object.assign(job, { state: "scheduled", waitKey: null, answered: false, readyAt: this.now + seconds });
  }

  answer(job: ModelJob): void {
    job.answered = true;
    if (job.state === "waiting") job.state = "queued";
  }

  close(key: string, seconds: number): void {
    this.closed.set(key, Math.max(this.closed.get(key) ?? 0, this.now + seconds));
  }

  called(provider: string | null, well: boolean): void {
    if (!provider) return;
    const key = `provider:${provider}`;
    const circuit: Circuit = this.circuits.get(key) ?? { state: "closed", failures: 0, probeAt: 0 };
    if (well) {
      if (circuit.state !== "open") Object.assign(circuit, { state: "closed", failures: 0 });
      return;
    }
    this.circuits.set(key, circuit);
    circuit.failures++;
    if (
      circuit.state === "half_open" ||
      (circuit.state === "closed" && circuit.failures >= failureThreshold)
    ) {
      Object.assign(circuit, { state: "open", probeAt: this.now + coolDown });
    }
  }

  /** Leases run out, and their jobs are ready again without their slots; what is due is ready. */
  pass(seconds: number): void {
    this.now += seconds;
    for (const job of this.jobs.values()) {
      if (job.state === "running" && job.leaseEnds <= this.now) this.tryAgain(job, 0);
      if ((job.state === "scheduled" || job.state === "waiting") && job.readyAt <= this.now)
        job.state = "queued";
    }
  }

  /** A changed rule counts what is at work or waits for an answer already. */
  ruleChanged(): void {
    for (const job of this.jobs.values()) {
      const atWork = job.state === "running" || (job.state === "waiting" && job.waitKey && !job.answered);
      if (!atWork) continue;
      for (const [key, rules] of this.keysOf(job)) {
        if (rules.some(({ running }) => running !== null)) job.slots.add(key);
      }
    }
  }
}
