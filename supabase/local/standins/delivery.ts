import type { Control } from "./control.ts";

/** A webhook that has not been answered with 2xx yet. Plain data, so that a restart can go on with it. */
export type PendingWebhook = {
  id: string;
  type: string;
  url: string;
  body: string;
  attempts: number;
  next_at: number;
};

export type DeliveryOptions = {
  control: Control;
  /** Kept by the owner's store. */
  pending: PendingWebhook[];
  changed(): void;
  /** Called for every attempt: a retry carries a fresh timestamp and signature. */
  sign(webhook: PendingWebhook): Record<string, string>;
  delivered?(id: string): void;
  retryMs?: number;
};

const maxAttempts = 10;
const longestPauseMs = 8_000;
const answerTimeoutMs = 15_000;
const reorderHoldMs = 1_500;

/** Sends webhooks as the provider does: at least once, retried with growing pauses, misbehaving when told to. */
export class Delivery {
  #options: DeliveryOptions;
  #timers = new Map<PendingWebhook, NodeJS.Timeout>();
  #running = new Set<Promise<void>>();
  #held: PendingWebhook[] = [];
  #holdTimer: NodeJS.Timeout | undefined;
  #stop = new AbortController();

  constructor(options: DeliveryOptions) {
    this.#options = options;
    for (const webhook of options.pending) this.#schedule(webhook);
  }

  /** Events that belong together, in the order in which they happened. */
  async send(webhooks: Omit<PendingWebhook, "attempts" | "next_at">[]): Promise<void> {
    const { control } = this.#options;
    let batch: { webhook: PendingWebhook; reorder: boolean; later: boolean }[] = [];
    for (const { id, type, url, body } of webhooks) {
      const rule = control.take("webhook", { type });
      control.count("webhooks", "created");
      if (rule.lose_webhook) {
        control.count("webhooks", "lost");
        continue;
      }
      const next_at = Date.now() + (rule.late_ms ?? 0);
      for (let copy = 0; copy <= (rule.duplicate ?? 0); copy++) {
        const webhook = { id, type, url, body, attempts: 0, next_at };
        batch.push({
          webhook,
          reorder: rule.reorder === true,
          later: rule.late_ms !== undefined || copy > 0,
        });
      }
    }
    this.#options.pending.push(...batch.map(({ webhook }) => webhook));
    this.#options.changed();
    if (batch.length > 1 && batch.some(({ reorder }) => reorder)) batch = batch.reverse();
    else if (batch[0]?.reorder) return this.#hold(batch[0].webhook);
    const inTime = batch.filter(({ later }) => !later);
    for (const { webhook, later } of batch) if (later) this.#schedule(webhook);
    for (const { webhook } of inTime) await this.#attempt(webhook);
    this.#releaseHeld();
  }

  /** Stops sending; what is pending stays in the store. */
  async close(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#holdTimer);
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    await Promise.allSettled(this.#running);
  }

  /** Out of order with a single webhook: it waits until the next one has been sent. */
  #hold(webhook: PendingWebhook): void {
    this.#held.push(webhook);
    this.#holdTimer ??= setTimeout(() => this.#releaseHeld(), reorderHoldMs);
  }

  #releaseHeld(): void {
    clearTimeout(this.#holdTimer);
    this.#holdTimer = undefined;
    for (const webhook of this.#held.splice(0)) this.#schedule(webhook);
  }

  #schedule(webhook: PendingWebhook): void {
    if (this.#stop.signal.aborted) return;
    const wait = Math.max(0, webhook.next_at - Date.now());
    const timer = setTimeout(() => {
      this.#timers.delete(webhook);
      void this.#attempt(webhook);
    }, wait);
    this.#timers.set(webhook, timer);
  }

  #attempt(webhook: PendingWebhook): Promise<void> {
    const attempt = this.#post(webhook).finally(() => this.#running.delete(attempt));
    this.#running.add(attempt);
    return attempt;
  }

  async #post(webhook: PendingWebhook): Promise<void> {
    const { control, delivered, sign, changed, retryMs = 500 } = this.#options;
    if (this.#stop.signal.aborted) return;
    webhook.attempts++;
    control.count("webhooks", "attempts");
    const answered = await this.#answered(webhook, sign(webhook));
    if (this.#stop.signal.aborted && !answered) return;
    if (answered) {
      control.count("webhooks", "delivered");
      delivered?.(webhook.id);
      this.#forget(webhook);
    } else if (webhook.attempts >= maxAttempts) {
      control.count("webhooks", "given_up");
      this.#forget(webhook);
    } else {
      webhook.next_at = Date.now() + Math.min(retryMs * 2 ** (webhook.attempts - 1), longestPauseMs);
      this.#schedule(webhook);
    }
    changed();
  }

  /** Only 2xx counts; a redirect, an error or no connection means a retry. */
  async #answered(webhook: PendingWebhook, headers: Record<string, string>): Promise<boolean> {
    const timeout = AbortSignal.timeout(answerTimeoutMs);
    try {
      const response = await fetch(webhook.url, {
        method: "POST",
        body: webhook.body,
        headers: { "content-type": "application/json; charset=utf-8", ...headers },
        redirect: "manual",
        signal: AbortSignal.any([timeout, this.#stop.signal]),
      });
      await response.arrayBuffer();
      this.#options.control.count("webhook_answers", String(response.status));
      return response.ok;
    } catch (error) {
      this.#options.control.count("webhook_answers", (error as Error).name);
      return false;
    }
  }

  #forget(webhook: PendingWebhook): void {
    const { pending } = this.#options;
    const index = pending.indexOf(webhook);
    if (index >= 0) pending.splice(index, 1);
  }
}
