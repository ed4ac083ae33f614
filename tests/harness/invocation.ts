// A worker in a process of its own, on Node or Deno: what the harness starts, measures and kills.
import process from "node:process";
import { createDatabase } from "../../functions/_shared/db.ts";
import { createLog } from "../../functions/_shared/log.ts";
import { platformLimits, Worker, type WorkerLimits } from "../../functions/worker/worker.ts";
import { catalogHandlers } from "./catalog-work.ts";
import { productHandlers } from "./products-work.ts";
import { studioHandlers } from "./studio-work.ts";

const works = { catalog: catalogHandlers, studio: studioHandlers, products: productHandlers };

export interface Order {
  dbUrl: string;
  standinUrl: string;
  work: keyof typeof works;
  limits: Partial<WorkerLimits>;
  /** One invocation, which asks whether it may run and ends; or one after the other until it is killed. */
  once: boolean;
}

const order: Order = JSON.parse(process.env.HARNESS_ORDER ?? "{}");
const db = createDatabase({ url: order.dbUrl, name: "harness" });
const handlers = works[order.work](order.standinUrl);
const log = createLog({ function: "harness" }, (level, line) => {
  if (level === "error") console.error(line);
});
const limits = { ...platformLimits, ...order.limits };
const worker = () => new Worker({ db, handlers, log, limits, handOn: () => console.log("hand on") });

console.log("ready");
if (order.once) {
  const only = worker();
  if (await only.begin()) console.log(JSON.stringify(await only.work()));
  await db.end();
} else {
  for (;;) await worker().work();
}
