import type { Database, Statement } from "../db.ts";

/** One figure of ops.metrics. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const read: Statement = {
  name: "metrics",
  text: "select name, labels, value from ops.metrics order by name, labels::text",
  repeatable: true,
};

/** ops.metrics: all figures of the queue at this moment, those of one name together. */
export function readMetrics(db: Database): Promise<Sample[]> {
  return db.rows<Sample>(read);
}
