import { z } from "zod";
import type { Statement } from "../../_shared/db.ts";
import { completed, type Handler, waiting } from "../job.ts";

const payload = z.object({ task_id: z.uuid() });

interface Task {
  status: string | null;
  items_total: number;
  items_processed: number;
}
const step: Statement = {
  name: "step_task",
  text: "select status, items_total, items_processed from ai.step_task($1)",
  repeatable: true,
};

/** Steps that ask for something new follow at once; what is being made is looked at every five seconds. */
const pauseSeconds = 5;

/** ai.task: lets the database do a task step by step, until all its items have ended. */
export const runTask: Handler = async (job, { db, checkpoint }) => {
  const { task_id } = payload.parse(job.payload);
  const task = await db.row<Task>(step, [task_id]);
  if (task.status !== "running") return completed({ status: task.status ?? "gone" });
  if (task.items_processed >= task.items_total) return completed({ items: task.items_processed });
  const progress = Math.floor((task.items_processed / Math.max(1, task.items_total)) * 100);
  if (!(await checkpoint({ progress, stage: "working" }))) return completed({ status: "ended" });
  return waiting({ poll_in: pauseSeconds });
};
