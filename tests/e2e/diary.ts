import type pg from "pg";

const linesKept = 150;

/** What a stack said last, and what its queue is at: written when a test fails. */
export class Diary {
  readonly #lines: string[] = [];

  readonly log = (line: string) => {
    this.#lines.push(`${new Date().toISOString()} ${line}`);
    if (this.#lines.length > linesKept) this.#lines.shift();
  };

  async write(pool: pg.Pool): Promise<void> {
    const looks = {
      jobs: `select id, kind, state, stage, attempt, failed_attempts, created_at, run_at, wait_key, error
        from ops.live_jobs order by id limit 40`,
      claims: "select * from ops.claims order by id limit 20",
      circuits: "select * from ops.circuit_breakers where failures > 0 or state <> 'closed'",
      "dead jobs":
        "select id, kind, error from ops.finished_jobs where state = 'dead' order by id desc limit 20",
      webhooks:
        "select id, provider, event_type, status, error from ops.webhook_events where status <> 'processed' limit 20",
      connections: `select pid, application_name, state, wait_event_type, wait_event, query_start, left(query, 120) as query
        from pg_stat_activity where datname = current_database() and state <> 'idle'`,
    };
    console.error(this.#lines.join("\n"));
    for (const [name, sql] of Object.entries(looks)) {
      const rows = await pool.query(sql).then(
        (answer) => answer.rows,
        (error: Error) => error.message,
      );
      console.error(`${name}: ${JSON.stringify(rows, null, 1)}`);
    }
  }
}
