// How each step of a history of limits is taken in the model and in the database, and what must agree.
import { expect } from "vitest";
import { clearJobs } from "../helpers/jobs.ts";
import type { Connection, Row } from "../helpers/session.ts";
import { coolDown, failureThreshold, type ModelJob, ModelLimits, type Rule } from "./limits-model.ts";
import type { Step } from "./limits-steps.ts";
import { noon, type QueueDatabase } from "./queue.ts";

const lease = 60;
class History {
  readonly model: ModelLimits;
  /** What a worker knows of each job that it holds. */
  private readonly held = new Map<number, Row>();

  private readonly db: QueueDatabase;
  private readonly service: Connection;
  private readonly workspaces: readonly (string | null)[];

  constructor(
    db: QueueDatabase,
    service: Connection,
    workspaces: readonly (string | null)[],
    rules: readonly Rule[],
  ) {
    this.db = db;
    this.service = service;
    this.workspaces = workspaces;
    this.model = new ModelLimits(rules.map((rule) => ({ ...rule })));
  }

  private one(n: number, fits: (job: ModelJob) => boolean): ModelJob | undefined {
    const all = [...this.model.jobs.values()].filter(fits);
    return all[n % Math.max(1, all.length)];
  }

  async take(step: Step): Promise<void> {
    const { model, service } = this;
    switch (step.do) {
      case "enqueue":
        return this.enqueue(step);
      case "claim":
        return void (await this.claim(step.max));
      case "claim all":
        return this.claimAll();
      case "end": {
        const job = this.one(step.pick, ({ state }) => state === "running");
        return job && this.end(job, step.how, step.seconds);
      }
      case "pass":
        model.pass(step.seconds);
        for (const id of this.held.keys()) if (model.jobs.get(id)?.state !== "running") this.held.delete(id);
        await this.db.advanceClock(`${step.seconds} seconds`);
        await service.rpc("ops.tick");
        return;
      case "answer": {
        const job = this.one(step.pick, ({ waitKey, answered }) => waitKey !== null && !answered);
        if (!job || job.state === "running") return;
        model.answer(job);
        const event = {
          provider: "painter",
          event_id: job.waitKey!.slice(8),
          event_type: "done",
          payload: {},
        };
        await service.rpc("ops.receive_webhook", event);
        return;
      }
      case "cancel": {
        const job = this.one(step.pick, () => true);
        if (!job) return;
        model.end(job.id);
        await service.rpc("ops.cancel_job", { id: job.id });
        return;
      }
      case "pause": {
        const job = this.one(step.pick, ({ state }) => state === "queued");
        if (!job) return;
        // nobody works for it any more
        job.slots.clear();
        job.state = "paused";
        await service.rpc("ops.pause_job", { id: job.id });
        return;
      }
      case "resume": {
        const job = this.one(step.pick, ({ state }) => state === "paused");
        if (!job) return;
        job.state = "queued";
        await service.rpc("ops.resume_job", { id: job.id });
        return;
      }
      case "close": {
        const name = this.keyName(step.pick);
        model.close(name, step.seconds);
        await service.rpc("ops.close_limit_key", { name, seconds: step.seconds });
        return;
      }
      case "open": {
        const name = this.keyName(step.pick);
        model.closed.delete(name);
        await service.rpc("ops.open_limit_key", { name });
        return;
      }
      case "break":
        // calls that fail elsewhere
        for (let n = 0; n < failureThreshold; n++) {
          model.called("painter", false);
          await service.rpc("ops.record_circuit_call", { name: "provider:painter", succeeded: false });
        }
        return;
      default:
        return this.changeRule(step);
    }
  }

  private keyName(n: number): string {
    const names = ["provider:painter", "provider:writer", "key:shop:1", "key:shop:2", "key:mail:1"];
    return names[n % names.length]!;
  }

  private async enqueue(step: Extract<Step, { do: "enqueue" }>): Promise<void> {
    const job = {
      kind: step.kind,
      provider: step.provider,
      limitKey: step.limitKey,
      workspace: this.workspaces[step.workspace]!,
    };
    const added = await this.service.rpc("ops.enqueue_jobs", {
      kind: job.kind,
      payloads: Array.from({ length: step.count }, () => ({})),
      workspace_id: job.workspace,
      priority: step.priority,
      provider: job.provider,
      limit_key: job.limitKey,
      max_attempts: 100,
    });
    for (const { job_id } of added) this.model.add(job_id, job);
  }

  /** Whatever is claimed may be claimed. Returns how many were. */
  private async claim(max: number): Promise<number> {
    const claimed = await this.service.rpc("ops.claim_jobs", { worker: "w", max, lease: `${lease} seconds` });
    for (const row of claimed) {
      const job = this.model.jobs.get(row.id)!;
      expect(this.model.ready(), `job ${row.id} is not ready`).toContain(job);
      expect(this.model.obstacle(job), `job ${row.id} was started`).toBeNull();
      this.model.start(job, lease);
      this.held.set(row.id, row);
    }
    return claimed.length;
  }

  /**
   * Claims until all that may start has started. A claim may come back empty although something may start, because
   * jobs of one limit key are looked at in their order and another key may hold back those in front; but each such
   * claim brings the line on by one job at least.
   */
  async claimAll(): Promise<void> {
    const { model } = this;
    for (let empty = 0; empty < 3 + model.jobs.size; ) {
      empty = (await this.claim(50)) > 0 ? 0 : empty + 1;
      if (model.ready().every((job) => model.obstacle(job) !== null)) return;
    }
    const left = model.ready().find((job) => model.obstacle(job) === null);
    expect(left?.id, "a job that may start was left").toBeUndefined();
  }

  private async end(job: ModelJob, how: string, seconds: number): Promise<void> {
    const { model } = this;
    const row = this.held.get(job.id)!;
    this.held.delete(job.id);
    const result = (more: Row) =>
      this.service.rpc("ops.complete_jobs", {
        worker: "w",
        results: [{ id: job.id, attempt: row.attempt, claim: row.claim_id, ...more }],
      });
    if (how === "completed") {
      model.end(job.id);
      model.called(job.provider, true);
      expect(await result({})).toMatchObject([{ result: "completed" }]);
    } else if (how === "failed" || how === "provider failed") {
      model.tryAgain(job, seconds);
      if (how === "provider failed") model.called(job.provider, false);
      const more = { outcome: "failed", retry_in: seconds, provider_failed: how === "provider failed" };
      expect(await result(more)).toMatchObject([{ result: "retrying" }]);
    } else if (how === "busy") {
      const key = job.limitKey ? `key:${job.limitKey}` : job.provider && `provider:${job.provider}`;
      model.tryAgain(job, seconds);
      if (key) model.close(key, seconds);
      expect(await result({ outcome: "busy", retry_in: seconds })).toMatchObject([{ result: "busy" }]);
    } else {
      const waitKey = how === "park" ? `painter:${job.id}-${row.attempt}` : null;
      model.wait(job, waitKey, seconds);
      model.called(job.provider, true);
      const more = { outcome: "waiting", poll_in: seconds, ...(waitKey && { wait_key: waitKey }) };
      expect(await result(more)).toMatchObject([{ result: "waiting" }]);
    }
    model.pass(0);
  }

  private async changeRule(step: Extract<Step, { do: "change rule" | "switch rule" }>): Promise<void> {
    const { rules } = this.model;
    const rule = rules[step.pick % rules.length]!;
    if (step.do === "switch rule") rule.active = !rule.active;
    else if (rule.per) rule.starts = step.amount;
    else rule.running = step.amount;
    this.model.ruleChanged();
    await this.service.query(
      `update ops.limits set is_active = $4, max_running = $5, max_starts = $6
      where scope = $1 and subject = $2 and per is not distinct from make_interval(secs => $3)`,
      [rule.scope, rule.subject, rule.per, rule.active, rule.running, rule.starts],
    );
  }

  /** Without rules all that is left starts and ends, and nothing of it stays. */
  async finish(): Promise<void> {
    await this.service.query("delete from ops.limits where subject <> 'test.hasty'");
    this.model.rules.length = 0;
    for (let turn = 0; turn < 30 && this.model.jobs.size > 0; turn++) {
      await this.take({ do: "pass", seconds: 61 });
      for (const { id, state } of [...this.model.jobs.values()]) {
        if (state !== "paused") continue;
        this.model.jobs.get(id)!.state = "queued";
        await this.service.rpc("ops.resume_job", { id });
      }
      await this.claimAll();
      for (const job of [...this.model.jobs.values()]) {
        if (job.state === "running") await this.end(job, "completed", 0);
      }
    }
    expect([...this.model.jobs.values()]).toEqual([]);
    // places of jobs that were cancelled go when their line is looked at again
    await this.take({ do: "pass", seconds: 61 });
    for (let looks = 0; looks < 200; looks++) {
      if ((await this.service.call("ops.reopen_limit_keys")) === 0) break;
      await this.claim(50);
    }
    const [left] = await this.service.query(`select (select count(*) from ops.live_jobs)::integer as jobs,
      (select count(*) from ops.claims)::integer as claims, (select count(*) from ops.held_back)::integer as held,
      (select count(*) from ops.parked_slots)::integer as parked`);
    expect(left).toEqual({ jobs: 0, claims: 0, held: 0, parked: 0 });
  }
}

/** Lives through one history: in the end the database has started only what might start, and all that might. */
export async function live(
  db: QueueDatabase,
  service: Connection,
  workspaces: readonly (string | null)[],
  rules: readonly Rule[],
  steps: readonly Step[],
): Promise<void> {
  await db.query(clearJobs);
  await db.query("truncate ops.flows");
  await db.query("delete from ops.circuit_breakers");
  await db.query(
    `insert into ops.circuit_breakers (name, failure_threshold, cool_down)
    select 'provider:' || p, $1, make_interval(secs => $2) from unnest(array['painter', 'writer']) p`,
    [failureThreshold, coolDown],
  );
  await db.query("delete from ops.limits");
  await db.query("delete from ops.webhook_events");
  await db.setClock(noon);
  for (const { scope, subject, running, starts, per, active } of rules) {
    await service.query(
      `insert into ops.limits (scope, subject, max_running, max_starts, per, is_active, description)
      values ($1, $2, $3, $4, make_interval(secs => $5), $6, 'test')`,
      [scope, subject, running, starts, per, active],
    );
  }
  await service.query(
    "insert into ops.limits (scope, subject, max_running, description) values ('kind', 'test.hasty', 1, 'a preset')",
  );
  const history = new History(db, service, workspaces, rules);
  for (const step of steps) await history.take(step);
  await history.claimAll();
  await history.finish();
}

/** The queue's database, prepared, with a connection of the service and the workspaces whose jobs there are. */
export async function prepare(db: QueueDatabase) {
  await db.query("update ops.sweeps set next_run_at = 'infinity'");
  await db.query("insert into ops.webhook_providers (provider) values ('painter')");
  const users = await Promise.all([db.createUser(), db.createUser()]);
  return {
    service: await db.connect("service"),
    workspaces: [...users.map(({ workspaceId }) => workspaceId), null],
  };
}
