// The main job, as a client app does it: sign up, buy credits, upload, ask for a try-on, get the picture.
// Starts the whole stack, speaks to it through supabase-js alone, prints a receipt and stops everything.

import { access, mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createClient } from "@supabase/supabase-js";
import sharp from "sharp";
import { startStack } from "../supabase/local/stack.ts";
import type { Database } from "../types/database.ts";
import { contactSheet } from "./contact-sheet.ts";
import { printReceipt } from "./demo-receipt.ts";

const root = resolve(import.meta.dirname, "..");
const help = `npm run demo -- [--person me.jpg] [--garment shirt.png]
  [--category upper_body|lower_body|dresses] [--out folder]

PNG, JPEG or WebP pictures of up to 20 MiB.`;

/** What was asked for, checked before anything starts. */
async function chosen() {
  try {
    const { values } = parseArgs({
      options: {
        person: { type: "string", default: join(root, "samples/person-ada.jpg") },
        garment: { type: "string", default: join(root, "samples/garment-tee.png") },
        category: { type: "string", default: "upper_body" },
        out: { type: "string", default: join(root, "demo-output") },
        help: { type: "boolean", default: false },
      },
    });
    if (values.help) {
      console.log(help);
      process.exit(0);
    }
    for (const picture of [values.person, values.garment]) await access(picture);
    return values;
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    process.exit(2);
  }
}

const options = await chosen();
const began = performance.now();
function step(text: string): void {
  console.log(`${((performance.now() - began) / 1000).toFixed(2).padStart(6)} s  ${text}`);
}

/** The data of an answer of supabase-js, or its error thrown. */
function must<T>(answer: { data: T; error: unknown }): NonNullable<T> {
  if (answer.error) throw answer.error;
  return answer.data as NonNullable<T>;
}

async function waitFor<T>(what: string, look: () => Promise<T | undefined>, seconds = 60): Promise<T> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const seen = await look();
    if (seen !== undefined) return seen;
    if (performance.now() > end) throw new Error(`${what} did not happen within ${seconds} s.`);
    await sleep(100);
  }
}

step("starting PostgreSQL, the gateway, the edge functions and the stand-ins for Stripe and fal");
const stack = await startStack({ ephemeral: true, log: () => {} });
try {
  step(`the stack answers at ${stack.apiUrl}`);
  await runMainJob();
} finally {
  await stack.stop();
}
step("everything is stopped");

async function runMainJob(): Promise<void> {
  const client = createClient<Database>(stack.apiUrl, stack.publishableKey, {
    auth: { persistSession: false },
  });

  const email = "ada@example.com";
  must(
    await client.auth.signUp({ email, password: "a long password", options: { data: { full_name: "Ada" } } }),
  );
  const [workspace] = must(await client.schema("identity").from("workspaces").select("id, name"));
  if (!workspace) throw new Error("The sign-up made no workspace.");
  step(`signed up ${email}; the workspace "${workspace.name}" is there`);

  const { packages } = must(await client.functions.invoke("billing/packages", { method: "GET" }));
  const [starter] = packages;
  const checkout = must(
    await client.functions.invoke("billing/top-up", {
      body: {
        workspace_id: workspace.id,
        package: starter.slug,
        success_url: "https://example.com/thanks",
        cancel_url: "https://example.com/credits",
      },
    }),
  );
  step(`checkout of the package "${starter.name}" is open at ${new URL(checkout.checkout_url).origin}`);
  const paid = await fetch(checkout.checkout_url, {
    method: "POST",
    body: new URLSearchParams({ outcome: "success" }),
    redirect: "manual",
  });
  if (paid.status >= 400) throw new Error(`The payment page answered ${paid.status}.`);
  const balance = () => client.schema("billing").rpc("balance", { workspace_id: workspace.id }).single();
  const bought = await waitFor("The purchase", async () => {
    const now = must(await balance());
    return now.available_micro > 0 ? now : undefined;
  });
  step(`paid; the signed webhook brought ${bought.available_micro.toLocaleString("en")} micro-units`);

  const [personPath, garmentPath] = await Promise.all([
    upload(client, workspace.id, options.person),
    upload(client, workspace.id, options.garment),
  ]);
  const garment = must(
    await client
      .schema("studio")
      .from("wardrobe_garments")
      .insert({ workspace_id: workspace.id, storage_path: garmentPath, filename: basename(options.garment) })
      .select("id")
      .single(),
  );
  step("uploaded the person and the garment");

  const quote = must(
    await client.schema("billing").rpc("quote", { workspace_id: workspace.id, meter: "generation" }).single(),
  );
  const requested = must(
    await client.schema("studio").rpc("request_creation", {
      workspace_id: workspace.id,
      creation_type: "tryon",
      garment_id: garment.id,
      input_path: personPath,
      category: options.category,
      key: "demo",
    }),
  );
  const held = must(await balance());
  step(`asked for a try-on; quoted ${quote.amount_micro}, held ${held.held_micro} micro-units`);

  let shown = "";
  const creation = await waitFor("The try-on", async () => {
    const row = must(
      await client.schema("studio").from("creations").select("*").eq("id", requested.id).single(),
    );
    const now = `${row.status} ${row.progress} % ${row.stage ?? ""}`.trim();
    if (now !== shown) step(`  ${now}`);
    shown = now;
    return row.completed_at ? row : undefined;
  });
  const [resultPath] = creation.result_paths;
  if (creation.status !== "completed" || !resultPath)
    throw new Error(`The try-on ${creation.status}: ${creation.error_message}`);

  const { signedUrl } = must(await client.storage.from("studio-results").createSignedUrl(resultPath, 60));
  const picture = Buffer.from(await (await fetch(signedUrl)).arrayBuffer());
  await mkdir(options.out, { recursive: true });
  const result = join(options.out, `result.${(await sharp(picture).metadata()).format}`);
  await writeFile(result, picture);
  const sheet = join(options.out, "contact-sheet.png");
  await contactSheet({
    person: options.person,
    garment: options.garment,
    results: [result],
    out: sheet,
    title: "Backlot demo",
  });
  const [news] = must(
    await client
      .schema("messaging")
      .from("notifications")
      .select("title")
      .order("created_at", { ascending: false })
      .limit(1),
  );
  step(`downloaded the result; the person was told: "${news?.title}"`);

  const service = createClient<Database>(stack.apiUrl, stack.secretKey, { auth: { persistSession: false } });
  await printReceipt(client, service, creation);
  console.log(`\nresult         ${result}\ncontact sheet  ${sheet}\n`);
}

async function upload(
  client: ReturnType<typeof createClient<Database>>,
  workspaceId: string,
  file: string,
): Promise<string> {
  const bytes = await readFile(file);
  const { format } = await sharp(bytes).metadata();
  const path = `${workspaceId}/${basename(file)}`;
  must(await client.storage.from("studio-uploads").upload(path, bytes, { contentType: `image/${format}` }));
  return path;
}
