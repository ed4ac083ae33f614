/** The tables of the queue: what is live, what has ended and what limits have counted. */
export const queueTables = `ops.live_jobs, ops.finished_jobs, ops.claims, ops.arrivals, ops.ready,
  ops.held_back, ops.held_flows, ops.parked_slots, ops.openings, ops.starts, ops.limit_keys, ops.ended_attempts`;

/** Empties the queue. */
export const clearJobs = `truncate ${queueTables}`;
