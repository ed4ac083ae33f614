import { randomBytes } from "node:crypto";
import { NoGarment } from "../picture/garment.ts";
import { PictureFault } from "../picture/load.ts";
import { Runs } from "../runs.ts";
import { type ModelName, versions } from "./models.ts";
import { makeFiles } from "./pictures.ts";
import { type Deps, type Event, type Prediction, type Status, shown } from "./state.ts";

export type Wanted = {
  model: ModelName;
  input: Record<string, unknown>;
  webhook: string | null;
  events: Event[];
};

/** Takes predictions, runs them one at a time, and says so in webhooks. */
export class Predictions {
  #deps: Deps;
  #runs = new Runs();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Predictions that an earlier run of the stack left unfinished start again. */
  resume(): void {
    for (const prediction of Object.values(this.#deps.data.predictions)) {
      if (prediction.completed_at === null) this.#start(prediction);
    }
  }

  create({ model, input, webhook, events }: Wanted): Prediction {
    const prediction: Prediction = {
      id: newId(),
      model,
      version: versions[model] ?? "hidden",
      input,
      webhook,
      events,
      status: "starting",
      files: [],
      error: null,
      logs: "",
      created_at: Date.now(),
      started_at: null,
      completed_at: null,
      cancel_asked: false,
      rule: this.#deps.control.take("run"),
    };
    this.#deps.data.predictions[prediction.id] = prediction;
    this.#deps.changed();
    this.#start(prediction);
    return prediction;
  }

  /** What has not begun ends at once, a run soon after; what has ended stays as it is. */
  cancel(prediction: Prediction): void {
    if (prediction.completed_at !== null) return;
    if (prediction.status === "processing" && prediction.rule.ignore_cancel) return;
    prediction.cancel_asked = true;
    if (prediction.status === "starting") this.#end(prediction, "canceled");
    this.#runs.wake(prediction.id);
  }

  /** Stops running; what is unfinished starts again with the next stack. */
  close(): Promise<void> {
    return this.#runs.close();
  }

  #start(prediction: Prediction): void {
    this.#runs.begin(() => this.#run(prediction));
  }

  async #run(prediction: Prediction): Promise<void> {
    const { rule } = prediction;
    await this.#runs.wait(prediction, rule.queue_ms ?? 0);
    if (this.#runs.closed || prediction.completed_at !== null) return;
    prediction.status = "processing";
    prediction.started_at = Date.now();
    prediction.logs = "Using seed: 1\n 50%|█████     | 15/30\n";
    this.#deps.changed();
    this.#tell(prediction, "start");
    await this.#runs.wait(prediction, rule.delay_ms ?? 0);
    if (this.#runs.closed) return;
    if (prediction.cancel_asked) return this.#end(prediction, "canceled");
    if (rule.fail === "run") return this.#end(prediction, "failed", "The stand-in was told to fail.");
    try {
      const files = await this.#runs.inTurn(() => makeFiles(this.#deps, prediction));
      if (this.#runs.closed || prediction.completed_at !== null) return;
      prediction.files = files;
      prediction.logs += "100%|██████████| 30/30\n";
      this.#end(prediction, prediction.cancel_asked ? "canceled" : "succeeded");
    } catch (error) {
      if (this.#runs.closed) return;
      const known = error instanceof PictureFault || error instanceof NoGarment;
      if (!known) console.error("Replicate stand-in:", error);
      this.#end(
        prediction,
        "failed",
        known ? (error as Error).message : "Prediction failed for an unknown reason",
      );
    }
  }

  #end(prediction: Prediction, status: Status, error: string | null = null): void {
    prediction.status = status;
    prediction.error = error;
    prediction.completed_at = Date.now();
    if (status !== "succeeded") prediction.files = [];
    this.#deps.changed();
    this.#tell(prediction, "completed");
  }

  #tell(prediction: Prediction, event: Event): void {
    if (!prediction.webhook || !prediction.events.includes(event)) return;
    const body = JSON.stringify(shown(this.#deps, prediction));
    const id = `msg_${randomBytes(12).toString("hex")}`;
    void this.#deps.delivery.send([{ id, type: prediction.status, url: prediction.webhook, body }]);
  }
}

const letters = "0123456789abcdefghjkmnpqrstvwxyz";

/** 26 characters, as theirs. */
function newId(): string {
  return Array.from(randomBytes(26), (byte) => letters[byte % 32]).join("");
}
