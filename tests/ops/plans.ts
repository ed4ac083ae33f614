// What the statements of a call read, also those inside functions: by auto_explain.

import pg from "pg";
import { assume, type Claims } from "../helpers/session.ts";

export interface PlanNode {
  "Node Type": string;
  "Relation Name"?: string;
  "Index Name"?: string;
  /** On average of the loops. */
  "Actual Rows": number;
  "Actual Loops": number;
  "Rows Removed by Filter"?: number;
  Plans?: PlanNode[];
}

export interface Explained {
  /** Runs the statement often enough for its plans to be the lasting ones; gives all their nodes. */
  nodes(sql: string, values?: unknown[]): Promise<PlanNode[]>;
  /** The fastest of so many runs, in milliseconds. */
  time(sql: string, values?: unknown[], runs?: number): Promise<number>;
  end(): Promise<void>;
}

/** With claims, the statements whose plans are told run as who has them. */
export async function explained(url: string, claims?: Claims): Promise<Explained> {
  const client = new pg.Client({ connectionString: url });
  let plans: { Plan: PlanNode }[] = [];
  client.on("notice", ({ message }) => {
    const json = /plan:\s*(\{.*\})\s*$/s.exec(message ?? "")?.[1];
    if (json) plans.push(JSON.parse(json));
  });
  await client.connect();
  await client.query(`load 'auto_explain';
    set auto_explain.log_nested_statements = on;
    set auto_explain.log_analyze = on;
    set auto_explain.log_timing = off;
    set auto_explain.log_format = 'json';
    set auto_explain.log_level = 'notice'`);
  const flatten = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(flatten)];
  // Only the superuser may have plans told.
  const run = async (sql: string, values?: unknown[]) => {
    if (claims) await assume(client, claims, false);
    await client.query(sql, values);
    if (claims) await client.query("reset role");
  };
  return {
    nodes: async (sql, values) => {
      await client.query("set auto_explain.log_min_duration = -1");
      for (let n = 0; n < 6; n++) await run(sql, values);
      await client.query("set auto_explain.log_min_duration = 0");
      plans = [];
      await run(sql, values);
      await client.query("set auto_explain.log_min_duration = -1");
      return plans.flatMap(({ Plan }) => flatten(Plan));
    },
    time: async (sql, values, runs = 5) => {
      let fastest = Number.POSITIVE_INFINITY;
      for (let n = 0; n < runs; n++) {
        const began = performance.now();
        await client.query(sql, values);
        fastest = Math.min(fastest, performance.now() - began);
      }
      return fastest;
    },
    end: () => client.end(),
  };
}

/** How a node read a table. */
export const describeNode = (node: PlanNode) =>
  `${node["Node Type"]} on ${node["Relation Name"]}: ${node["Actual Rows"]} rows, ${node["Rows Removed by Filter"] ?? 0} removed`;
