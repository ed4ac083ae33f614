import { randomUUID } from "node:crypto";
import { Runs } from "../runs.ts";
import { FalError, type ModelName } from "./models.ts";
import { makePictures } from "./pictures.ts";
import type { Deps, Ending, FalRequest } from "./state.ts";

/** Accepts requests, runs them one picture at a time, ends each with a webhook. */
export class Queue {
  #deps: Deps;
  #runs = new Runs();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Requests that an earlier run of the stack left unfinished start again. */
  resume(): void {
    for (const request of Object.values(this.#deps.data.requests)) {
      if (request.state !== "COMPLETED") this.#start(request);
    }
  }

  submit(model: ModelName, input: Record<string, unknown>, webhook: string | null): FalRequest {
    const request: FalRequest = {
      id: randomUUID(),
      gateway_id: randomUUID(),
      model,
      input,
      webhook,
      state: "IN_QUEUE",
      submitted_at: Date.now(),
      cancel_asked: false,
      logs: [],
      rule: this.#deps.control.take("run"),
      ending: null,
    };
    this.#deps.data.requests[request.id] = request;
    this.#deps.changed();
    this.#start(request);
    return request;
  }

  /** Taken out of the queue at once; a run in progress only gets a signal. */
  cancel(request: FalRequest): "OK" | "CANCELLATION_REQUESTED" | "ALREADY_COMPLETED" {
    if (request.state === "COMPLETED") return "ALREADY_COMPLETED";
    const waiting = request.state === "IN_QUEUE";
    if (waiting || !request.rule.ignore_cancel) {
      request.cancel_asked = true;
      this.#runs.wake(request.id);
    }
    this.#deps.changed();
    return waiting ? "OK" : "CANCELLATION_REQUESTED";
  }

  position(request: FalRequest): number {
    const ahead = Object.values(this.#deps.data.requests).filter(
      ({ state, submitted_at }) => state === "IN_QUEUE" && submitted_at < request.submitted_at,
    );
    return ahead.length;
  }

  /** Stops running; what is unfinished starts again with the next stack. */
  close(): Promise<void> {
    return this.#runs.close();
  }

  #start(request: FalRequest): void {
    this.#runs.begin(() => this.#run(request));
  }

  async #run(request: FalRequest): Promise<void> {
    const { rule } = request;
    await this.#runs.wait(request, rule.queue_ms ?? 0);
    if (this.#runs.closed) return;
    if (request.cancel_asked) return this.#end(request, cancelled, false);
    request.state = "IN_PROGRESS";
    log(request, `Running ${request.model}`);
    if (request.model === "fal-ai/flux-lora-fast-training") log(request, " 40%|████      | 400/1000");
    const started = Date.now();
    await this.#runs.wait(request, rule.delay_ms ?? 0);
    if (this.#runs.closed) return;
    const ending = request.cancel_asked ? cancelled : await this.#outcome(request, started);
    if (!this.#runs.closed) this.#end(request, ending, true);
  }

  async #outcome(request: FalRequest, started: number): Promise<Ending> {
    const { rule } = request;
    const seconds = () => (Date.now() - started) / 1000;
    if (rule.fail === "run") {
      return {
        ok: false,
        status: rule.http_status ?? 500,
        detail: "The stand-in was told to fail.",
        seconds: seconds(),
      };
    }
    try {
      const files = await this.#runs.inTurn(() => makePictures(this.#deps, request));
      return { ok: true, files, seconds: seconds() };
    } catch (error) {
      if (error instanceof FalError)
        return { ok: false, status: error.status, detail: error.detail, seconds: seconds() };
      console.error("fal stand-in:", error);
      return { ok: false, status: 500, detail: "Internal Server Error", seconds: seconds() };
    }
  }

  #end(request: FalRequest, ending: Ending, tell: boolean): void {
    request.state = "COMPLETED";
    request.ending = ending;
    log(request, ending.ok ? "Finished" : `Failed with ${ending.status}`);
    this.#deps.changed();
    if (!tell || !request.webhook) return;
    const body = JSON.stringify(webhookBody(this.#deps, request, ending));
    void this.#deps.delivery.send([
      { id: request.id, type: ending.ok ? "OK" : "ERROR", url: request.webhook, body },
    ]);
  }
}

const cancelled: Ending = { ok: false, status: 499, detail: "Request was cancelled", seconds: 0 };

function log(request: FalRequest, message: string): void {
  request.logs.push({ message, level: "INFO", source: "USER", timestamp: new Date().toISOString() });
}

/** What the result call answers, and the webhook carries. */
export function resultOf(deps: Deps, request: FalRequest, ending: Ending): Record<string, unknown> {
  if (!ending.ok) return { detail: ending.detail };
  const files = ending.files.map(({ name, content_type, size, ...more }) => ({
    url: `${deps.baseUrl()}/files/${request.id}/${name}`,
    content_type,
    file_name: name,
    file_size: size,
    ...more,
  }));
  if (request.model.endsWith("/image-to-video")) return { video: files[0] };
  if (request.model === "fal-ai/flux-lora-fast-training") {
    return { diffusers_lora_file: files[0], config_file: files[1] };
  }
  return single.has(request.model) ? { image: files[0] } : { images: files };
}

const single = new Set<string>(["fal-ai/birefnet/v2", "fal-ai/esrgan"]);

function webhookBody(deps: Deps, request: FalRequest, ending: Ending) {
  const common = { request_id: request.id, gateway_request_id: request.gateway_id };
  const payload = resultOf(deps, request, ending);
  if (ending.ok) return { ...common, status: "OK", payload };
  return { ...common, status: "ERROR", error: `Invalid status code: ${ending.status}`, payload };
}
