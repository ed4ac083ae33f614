// How long a person waits before the provider is at work: from the call of request_creation to the worker's
// first request at the provider, through the gateway, the listener and Deno, with an idle stack.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@supabase/supabase-js";
import { startStack } from "../../supabase/local/stack.ts";
import { median, report } from "./bench.ts";

const rounds = Number(process.env.BENCH_ROUNDS ?? 15);
const samples = join(import.meta.dirname, "../../samples");
const stack = await startStack({ ephemeral: true, log: () => {} });
try {
  const client = createClient(stack.apiUrl, stack.publishableKey, { auth: { persistSession: false } });
  const service = createClient(stack.apiUrl, stack.secretKey, { auth: { persistSession: false } });
  await client.auth.signUp({ email: "bench@example.com", password: "a long password" });
  const { data: workspace } = await client.schema("identity").from("workspaces").select("id").single();
  const workspace_id = workspace!.id;
  await service
    .schema("billing")
    .rpc("grant_credits", { workspace_id, amount_micro: 10_000_000, kind: "prepaid", key: "bench" });
  const upload = async (file: string, contentType: string) => {
    const path = `${workspace_id}/${file}`;
    await client.storage
      .from("studio-uploads")
      .upload(path, await readFile(join(samples, file)), { contentType });
    return path;
  };
  const input_path = await upload("person-ada.jpg", "image/jpeg");
  const storage_path = await upload("garment-tee.png", "image/png");
  const { data: garment } = await client
    .schema("studio")
    .from("wardrobe_garments")
    .insert({ workspace_id, storage_path, filename: "garment" })
    .select("id")
    .single();

  const waits: number[] = [];
  const asks: number[] = [];
  for (let round = 0; round < rounds + 1; round++) {
    const began = Date.now();
    const { data: creation, error } = await client.schema("studio").rpc("request_creation", {
      workspace_id,
      creation_type: "tryon",
      garment_id: garment!.id,
      input_path,
    });
    if (error) throw error;
    const answered = Date.now();
    for (;;) {
      const { data } = await client
        .schema("studio")
        .from("creations")
        .select("completed_at")
        .eq("id", creation.id)
        .single();
      if (data?.completed_at) break;
      await sleep(100);
    }
    const answer = await fetch(`${stack.standins.fal}/_requests?method=POST`);
    const { requests } = (await answer.json()) as { requests: { at: string }[] };
    const first = requests.map((request) => Date.parse(request.at)).find((at) => at >= began);
    if (first === undefined) throw new Error("The provider was not asked.");
    // the first round starts Deno's code and the database's plans
    if (round > 0) {
      waits.push(first - began);
      asks.push(answered - began);
    }
    // long enough for the worker to go idle, so that each round wakes a new one
    await sleep(3000);
  }
  report(`From request_creation to the provider, ${rounds} rounds on an idle stack`, [
    { what: "provider asked, median", ours: median(waits), unit: "ms" },
    { what: "provider asked, slowest", ours: Math.max(...waits), unit: "ms" },
    { what: "of which the client's own call, median", ours: median(asks), unit: "ms" },
  ]);
} finally {
  await stack.stop();
}
