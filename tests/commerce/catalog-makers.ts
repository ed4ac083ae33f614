// The providers of a catalog job's tests: fal, and Replicate which is off until a test enables it, both told what to do.

import { randomUUID } from "node:crypto";
import {
  type CreationProvider,
  providerRejected,
  providerUnavailable,
  type RunResult,
} from "../../functions/worker/providers/provider.ts";
import type { TestDatabase } from "../helpers/database.ts";

interface MadeRun {
  provider: string;
  input: Record<string, unknown>;
  ended: boolean;
  cancelled: boolean;
}

/** Whether Replicate makes what fal does not. */
export const enableReplicate = (testDb: TestDatabase, on: boolean) =>
  testDb.query("update studio.providers set is_enabled = $1 where provider = 'replicate'", [on]);

export function catalogMakers(testDb: TestDatabase) {
  const runs = new Map<string, MadeRun>();
  const results = new Map<string, RunResult>();
  const will = {
    /** Of garments at these addresses nothing comes. */
    reject: new Set<string>(),
    /** So many runs break at the provider. */
    breaks: 0,
    /** Kinds of pictures whose runs break, by provider: "fal tryon". */
    breaksAll: new Set<string>(),
    /** Providers that take nothing, or nothing of a kind: "fal", "fal tryon". */
    down: new Set<string>(),
    /** Runs wait until they are answered. */
    hold: false,
    /** Webhooks are lost. */
    mute: false,
    /** Pictures that come of a run, when fewer than asked for. */
    most: 4,
  };

  function end(id: string): RunResult {
    const run = runs.get(id)!;
    const pictures = Array.from({ length: Math.min(will.most, Number(run.input.outputs)) }, (_, n) => ({
      url: `https://files.test/${id}/${n + 1}.png`,
    }));
    const breaks = will.breaksAll.has(`${run.provider} ${run.input.kind}`);
    const broken = breaks || will.breaks > 0;
    if (broken && !breaks) will.breaks -= 1;
    return broken ? { ok: false, reason: "out of memory", fault: "provider" } : { ok: true, pictures };
  }

  async function answer(id: string): Promise<void> {
    const run = runs.get(id)!;
    run.ended = true;
    results.set(id, end(id));
    if (will.mute) return;
    await testDb.service.rpc("ops.receive_webhook", {
      provider: run.provider,
      event_id: id,
      event_type: "ok",
      payload: { id, result: results.get(id) },
    });
  }

  const maker = (name: string): CreationProvider => ({
    name,
    filesUrls: [new URL("https://files.test/")],
    submit: async ({ creation, model, personUrl, garmentUrl }) => {
      if (will.down.has(name) || will.down.has(`${name} ${creation.creation_type}`)) {
        throw providerUnavailable(`${name} answered 503.`);
      }
      const garment = garmentUrl ?? personUrl;
      if (will.reject.has(String(garment))) throw providerRejected("no garment in the picture");
      const id = randomUUID();
      const { num_outputs: outputs, creation_type: kind, category, quality, settings } = creation;
      runs.set(id, {
        provider: name,
        input: { kind, outputs, personUrl, garmentUrl, category, quality, ...settings },
        ended: false,
        cancelled: false,
      });
      if (!will.hold) await answer(id);
      return {
        provider: name,
        request_id: id,
        model: model ?? "fake",
        submitted_at: new Date().toISOString(),
      };
    },
    status: async ({ request_id }) => ({ state: runs.get(request_id)?.ended ? "ended" : "running" }),
    result: async ({ request_id }) => results.get(request_id)!,
    cancel: async ({ request_id }) => {
      runs.get(request_id)!.cancelled = true;
      return "CANCELLATION_REQUESTED";
    },
    parseCallback: (body, { request_id }) => {
      const { id, result } = body as { id: string; result: RunResult };
      return id === request_id ? result : null;
    },
  });
  return { runs, will, answer, providers: { fal: maker("fal"), replicate: maker("replicate") } };
}
