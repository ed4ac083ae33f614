import type { Hono } from "hono";
import { Control } from "./control.ts";
import { Delivery, type PendingWebhook } from "./delivery.ts";
import { Store } from "./store.ts";

/** What each stand-in's `start` returns. */
export type Started<T = unknown> = {
  app: Hono;
  data: T;
  env(url: string): Record<string, string>;
  /** To be called once the servers listen: their URLs are part of the answers. */
  resume?(): void;
  close(): Promise<void>;
};

type Options<T> = {
  /** The file of its memory. */
  path: string;
  empty(): T;
  /** What `delay_ms` slows down. */
  slow: "run" | "answer";
  sign(webhook: PendingWebhook, data: T): Record<string, string>;
  delivered?(id: string, data: T): void;
  /** The first pause before a webhook is sent again; 500 ms when not given. */
  retryMs?: number | undefined;
};

/** What a stand-in that sends webhooks works with: its memory, the orders given to it, and its delivery. */
export function openStandIn<T extends { pending: PendingWebhook[] }>(options: Options<T>) {
  const { path, empty, slow, sign, delivered, retryMs } = options;
  const store = new Store(path, empty);
  const { data } = store;
  const control = new Control(slow);
  const changed = () => store.changed();
  const delivery = new Delivery({
    control,
    pending: data.pending,
    changed,
    sign: (webhook) => sign(webhook, data),
    ...(delivered && { delivered: (id: string) => delivered(id, data) }),
    ...(retryMs && { retryMs }),
  });
  const close = async () => {
    await delivery.close();
    store.flush();
  };
  return { data, changed, control, delivery, close };
}
