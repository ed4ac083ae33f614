/**
 * The work that a stand-in has under way: each run waits by itself, what they make is made one after another, and
 * what a stop cuts short is begun again by the next start.
 */
export class Runs {
  #waits = new Map<string, () => void>();
  #running = new Set<Promise<void>>();
  #turn: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** A run that goes on after its stand-in was stopped must not end anything. */
  get closed(): boolean {
    return this.#closed;
  }

  begin(work: () => Promise<void>): void {
    const run = work().finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  /** Waits so long, or until woken or closed; what is to be cancelled does not wait. */
  wait({ id, cancel_asked }: { id: string; cancel_asked: boolean }, ms: number): Promise<void> {
    if (ms === 0 || cancel_asked || this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#waits.delete(id);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#waits.set(id, wake);
    });
  }

  wake(id: string): void {
    this.#waits.get(id)?.();
  }

  /** After all that asked before. */
  inTurn<T>(make: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(make);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const wake of this.#waits.values()) wake();
    await Promise.allSettled(this.#running);
  }
}
