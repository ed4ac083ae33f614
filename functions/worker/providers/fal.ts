// Creations at fal: which model makes them, and what its runs give.

import { z } from "zod";
import { falInput } from "./fal-models.ts";
import { type FalOptions, falQueue, queueState, readCallback } from "./fal-queue.ts";
import { type Answer, givesReason, listsFaults, readAnswer, reasonOf } from "./http.ts";
import { type CreationProvider, providerFailed, type RunResult, type RunState } from "./provider.ts";

const status = z.object({ status: queueState, queue_position: z.number().nullish() });
const file = z.object({ url: z.string().min(1) });
const files = z.union([
  z.object({ images: z.array(file).min(1) }).transform(({ images }) => images),
  z.object({ image: file }).transform(({ image }) => [image]),
  z.object({ video: file }).transform(({ video }) => [video]),
]);

export function falProvider(options: FalOptions): CreationProvider {
  const queue = falQueue(options);
  return {
    name: "fal",
    filesUrls: options.filesUrls,
    submit: async (request, webhookUrl, signal) => {
      const { model, input } = falInput(request);
      return queue.submit(model, input, webhookUrl, signal);
    },
    status: async (run, signal) => {
      const answer = await queue.status(run, signal);
      if (answer.status === 404) throw providerFailed("fal does not know the request any more.");
      return stateOf(readAnswer("fal", status, answer));
    },
    result: async (run, signal) => resultOf(await queue.result(run, signal)),
    cancel: queue.cancel,
    parseCallback: (body, run) => {
      const said = readCallback(body, run);
      if (!said) return null;
      const { status, payload, error } = said;
      if (status === "OK") {
        const made = files.safeParse(payload);
        return made.success ? { ok: true, pictures: made.data } : null;
      }
      const reason = givesReason(payload) ? reasonOf(payload) : String(error ?? "the run failed");
      // The status of the run is only in the text: "Invalid status code: 422".
      const code = Number(/status code: (\d{3})/i.exec(String(error))?.[1]);
      return { ok: false, reason, fault: faultOf(code, payload) };
    },
  };
}

function stateOf({ status: state, queue_position }: z.infer<typeof status>): RunState {
  if (state === "COMPLETED") return { state: "ended" };
  if (state === "IN_PROGRESS") return { state: "running" };
  return { state: "queued", ...(typeof queue_position === "number" && { position: queue_position }) };
}

function resultOf(answer: Answer): RunResult {
  if (answer.status < 400) return { ok: true, pictures: readAnswer("fal", files, answer) };
  return { ok: false, reason: reasonOf(answer.body), fault: faultOf(answer.status, answer.body) };
}

/** A list of faults is about the input, whatever the status; so is a refusal. What broke is fal's. */
function faultOf(status: number, body: unknown): "input" | "provider" {
  if (listsFaults(body)) return "input";
  return status >= 500 || (Number.isNaN(status) && !givesReason(body)) ? "provider" : "input";
}
