// The pages about Selify's screens: the frame's examples, then those of one page, are one program.

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { createClient } from "@supabase/supabase-js";
import { expect } from "vitest";
import { readError } from "../../types/errors.ts";
import { must, type TestStack } from "../e2e/stack.ts";
import { blocks, runBlocks, type Values } from "./blocks.ts";

const root = join(import.meta.dirname, "../..");
const pageOf = (name: string) => readFile(join(root, "docs/selify", name), "utf8");
export const sample = async (name: string, type: string) =>
  new File([await readFile(join(root, "samples", name))], name, { type });

/** What is to be seen or done after the block that declares a name. */
export type Checks = Record<string, (values: Values) => unknown>;

export interface Visitor {
  email: string;
  password: string;
  workspaceId: string;
}

/** A person with credits (micro-units), signed up as the page's reader will sign in. */
export async function signUp(s: TestStack, credits: number): Promise<Visitor> {
  const [email, password] = [`${crypto.randomUUID()}@example.com`, "a long password"];
  const client = createClient(s.stack.apiUrl, s.stack.publishableKey, { auth: { persistSession: false } });
  must(await client.auth.signUp({ email, password, options: { data: { full_name: "Ada" } } }));
  const [workspace] = must(await client.schema("identity").from("workspaces").select("id"));
  const workspaceId = workspace!.id as string;
  if (credits > 0) {
    const grant = { workspace_id: workspaceId, amount_micro: credits, kind: "prepaid", key: "start" };
    must(await s.service.schema("billing").rpc("grant_credits", grant));
  }
  return { email, password, workspaceId };
}

/** Hangs a garment into the person's wardrobe, as the studio's page does. */
export async function hangTee(s: TestStack, { email, password, workspaceId: workspace_id }: Visitor) {
  const client = createClient(s.stack.apiUrl, s.stack.publishableKey, { auth: { persistSession: false } });
  const { error } = await client.auth.signInWithPassword({ email, password });
  if (error) throw error;
  const storage_path = `${workspace_id}/tee.png`;
  const tee = await sample("garment-tee.png", "image/png");
  must(await client.storage.from("studio-uploads").upload(storage_path, tee));
  const garments = client.schema("studio").from("wardrobe_garments");
  const row = { workspace_id, storage_path, filename: "tee.png" };
  const { id } = must(await garments.insert(row).select("id").single());
  return { client, garmentId: id as string };
}

/** Runs a page's program as this person; each of its blocks declares a name that is checked, or a function. */
export async function runPage(
  s: TestStack,
  name: string,
  person: Visitor,
  checks: Checks,
  more: Values = {},
) {
  const frame = blocks(await pageOf("README.md"), "ts");
  const page = name === "README.md" ? [] : blocks(await pageOf(name), "ts");
  const program = [...frame, ...page];
  const seen = new Set<string>();
  const given: Values = {
    createClient,
    readError,
    API_URL: s.stack.apiUrl,
    PUBLISHABLE_KEY: s.stack.publishableKey,
    APP_URL: "http://127.0.0.1:3000",
    email: person.email,
    password: person.password,
    showProgress: () => {},
    showCard: () => {},
    showMessage: () => {},
    showCredits: () => {},
    ...more,
  };
  await runBlocks(program, given, async (index, values) => {
    const mine = program[index]!.names.filter((one) => checks[one]);
    if (name === "README.md" || index >= frame.length) {
      expect(mine, `a check of\n${program[index]!.code}`).not.toEqual([]);
    }
    for (const one of mine) {
      seen.add(one);
      await checks[one]!({ ...given, ...values });
    }
    await values.client?.removeAllChannels();
  });
  expect(Object.keys(checks).filter((one) => !seen.has(one))).toEqual([]);
  expect(await s.faults()).toEqual([]);
}

/** Follows one redirect, as a browser would. */
export const hop = async (url: string) =>
  (await fetch(url, { redirect: "manual" })).headers.get("location")!.replace(/#_$/, "");

/** The tables that the frame's page says changes of which are sent, in order of their names. */
export async function tablesThatCome(): Promise<string[]> {
  const rows = (await pageOf("README.md")).matchAll(/^\| `(\w+)` \| (.*) \|$/gm);
  const named = [...rows].flatMap(([, schema, tables]) =>
    [...tables!.matchAll(/`(\w+)`(?!\))/g)].map(([, table]) => `${schema}.${table}`),
  );
  return named.toSorted();
}

/** The tables whose rows the pages follow or listen to. */
export async function tablesAwaited(): Promise<string[]> {
  const pages = await Promise.all((await readdir(join(root, "docs/selify"))).map(pageOf));
  const calls = pages.join("\n").matchAll(/\b(?:follow|live)\(\s*"?(\w+)"?,\s*"(\w+)"/g);
  const channels = pages.join("\n").matchAll(/schema: "(\w+)", table: "(\w+)"/g);
  return [...new Set([...calls, ...channels].map(([, schema, table]) => `${schema}.${table}`))].toSorted();
}
