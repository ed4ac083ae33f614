// The figures of ops.metrics as Prometheus reads them.
// Format: https://prometheus.io/docs/instrumenting/exposition_formats (text, version 0.0.4).

import type { Sample } from "../_shared/sql/metrics.ts";

export const metricsContentType = "text/plain; version=0.0.4; charset=utf-8";

/** What each figure means. All are gauges: a sample is a look at the database, and no worker counts by itself. */
const help: Record<string, string> = {
  backlot_queue_jobs: "Open and dead jobs by queue, kind and state.",
  backlot_queue_oldest_ready_seconds: "For how long the oldest ready job has been ready.",
  backlot_attempts_per_minute: "Attempts that ended, by kind and outcome, averaged over five minutes.",
  backlot_attempt_mean_seconds: "How long attempts took that ended in the last five minutes.",
  backlot_failures_last_hour: "Attempts that failed in the last hour, by kind, provider and error code.",
  backlot_workers_alive: "Worker invocations that are running.",
  backlot_webhooks_pending: "Webhooks that have been stored and not been worked on.",
  backlot_webhooks_oldest_pending_seconds: "Age of the oldest webhook that has not been worked on.",
  backlot_schedules_failing: "Schedules whose last run could not be enqueued.",
  backlot_schedules_late_seconds: "By how much the most overdue schedule is late.",
  backlot_sweeps_failing: "Sweeps of the clock that failed at their last run.",
  backlot_circuits_open: "Circuit breakers that let no call or only a probe through.",
  backlot_meters_below_cost: "Meters, by provider and model, whose work cost more yesterday than it brought.",
};

/** Samples of one name must stand together. */
export function metricsText(samples: Sample[]): string {
  const lines: string[] = [];
  let current = "";
  for (const { name, labels, value } of samples) {
    if (name !== current) lines.push(`# HELP ${name} ${help[name] ?? name}`, `# TYPE ${name} gauge`);
    current = name;
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${quoted(text)}"`);
    lines.push(`${name}${pairs.length > 0 ? `{${pairs.join(",")}}` : ""} ${value}`);
  }
  return `${lines.join("\n")}\n`;
}

function quoted(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
