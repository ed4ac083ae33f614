import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/**
 * A stand-in's memory: one object, kept as JSON in a file so that a restart finds it again.
 * Writes are gathered for a moment and replace the file in one step.
 */
export class Store<T extends object> {
  readonly data: T;
  #path: string;
  #timer: NodeJS.Timeout | undefined;

  constructor(path: string, initial: () => T) {
    this.#path = path;
    this.data = { ...initial(), ...read<T>(path) };
    this.flush();
  }

  /** Call after every change. */
  changed(): void {
    this.#timer ??= setTimeout(() => this.flush(), 30);
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    mkdirSync(dirname(this.#path), { recursive: true });
    const draft = `${this.#path}.draft`;
    writeFileSync(draft, JSON.stringify(this.data));
    renameSync(draft, this.#path);
  }
}

function read<T>(path: string): Partial<T> {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Partial<T>;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new Error(`The stand-in's memory ${path} cannot be read; delete it to start afresh.`, {
      cause: error,
    });
  }
}
