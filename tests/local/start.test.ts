// `npm start -- --ephemeral --json` as a tool uses it: the whole stack in a process of its own.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { createClient } from "@supabase/supabase-js";
import { afterEach, describe, expect, test, vi } from "vitest";
import { readConfig } from "../../supabase/local/config.ts";
import { assertPortsFree, defaultPorts, ephemeralPorts, fixedPorts } from "../../supabase/local/ports.ts";
import { standInNames } from "../../supabase/local/standins/names.ts";

const root = path.join(import.meta.dirname, "../..");
const started: ChildProcess[] = [];

const start = (args: string[], env: Record<string, string> = {}) => run("supabase/local/start.ts", args, env);

function run(script: string, args: string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [script, ...args], {
    cwd: root,
    env: { ...process.env, npm_lifecycle_event: "", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  started.push(child);
  const output = { out: "", err: "" };
  child.stdout.on("data", (chunk) => (output.out += chunk));
  child.stderr.on("data", (chunk) => (output.err += chunk));
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  const firstLine = () =>
    vi.waitFor(
      () => {
        if (!output.out.includes("\n")) throw new Error(`not ready: ${output.err}`);
        return JSON.parse(output.out);
      },
      { timeout: 60_000, interval: 50 },
    );
  return { child, output, ended, firstLine };
}

/** The processes that the given one has started, and theirs. */
function descendants(pid: number): number[] {
  const rows = execFileSync("ps", ["-eo", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n");
  const pairs = rows.map((row) => row.trim().split(/\s+/).map(Number) as [number, number]);
  const below = (parent: number): number[] =>
    pairs.filter(([, ppid]) => ppid === parent).flatMap(([child]) => [child, ...below(child)]);
  return below(pid);
}

/** A process that has ended and only waits to be noticed does not count. */
function isRunning(pid: number): boolean {
  try {
    return !execFileSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" })
      .trim()
      .startsWith("Z");
  } catch {
    return false;
  }
}

/** The folder of the stack's data, from the command line of its PostgreSQL. */
function dataFolder(pids: number[]): string {
  const commands = execFileSync("ps", ["-o", "args=", "-p", pids.join(",")], { encoding: "utf8" });
  return path.dirname(/ -D (\S+)/.exec(commands)?.[1] ?? "");
}

afterEach(() => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
});

describe("npm start -- --ephemeral --json", () => {
  test("prints one line, serves, and leaves nothing behind when it is asked to stop", async () => {
    const { child, output, ended, firstLine } = start(["--ephemeral", "--json"]);
    const line = await firstLine();
    expect(line).toEqual({
      api_url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
      db_url: expect.stringMatching(/^postgresql:\/\//),
      publishable_key: expect.stringMatching(/^sb_publishable_/),
      secret_key: expect.stringMatching(/^sb_secret_/),
      functions_url: `${line.api_url}/functions/v1`,
      standins: Object.fromEntries(standInNames.map((name) => [name, expect.stringMatching(/^http/)])),
    });

    const client = createClient(line.api_url, line.publishable_key, { auth: { persistSession: false } });
    const email = "first@example.com";
    expect((await client.auth.signUp({ email, password: "a long password" })).error).toBeNull();
    expect((await client.auth.signInWithPassword({ email, password: "a long password" })).error).toBeNull();
    // Mails are shown on standard error.
    expect((await client.auth.updateUser({ email: "second@example.com" })).error).toBeNull();
    const made = await client.schema("identity").rpc("create_workspace", { name: "Studio" });
    expect(made.error).toBeNull();
    const file = `${made.data.id}/person.png`;
    const { storage } = client;
    const uploaded = await storage.from("studio-uploads").upload(file, Buffer.from("89504e47", "hex"), {
      contentType: "image/png",
    });
    expect(uploaded.error).toBeNull();
    expect((await storage.from("studio-uploads").download(file)).data?.size).toBe(4);
    expect((await fetch(`${line.functions_url}/billing/packages`)).status).toBe(401);

    const pids = descendants(child.pid ?? 0);
    const folder = dataFolder(pids);
    expect(existsSync(folder)).toBe(true);
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
    expect(output.out.trim().split("\n")).toHaveLength(1);
    await vi.waitFor(() => expect(pids.filter(isRunning)).toEqual([]), 10_000);
    expect(existsSync(folder)).toBe(false);
  });

  test("killed without warning takes its processes and its folder along", async () => {
    const { child, ended, firstLine } = start(["--ephemeral", "--json"]);
    await firstLine();
    const pids = descendants(child.pid ?? 0);
    const folder = dataFolder(pids);
    expect(pids.length).toBeGreaterThan(2);
    child.kill("SIGKILL");
    await ended;
    await vi.waitFor(() => expect(pids.filter(isRunning)).toEqual([]), { timeout: 15_000, interval: 100 });
    expect(existsSync(folder)).toBe(false);
  });
});

test("a taken port is named, with the variable that moves it", async () => {
  const server = createServer();
  const port = await new Promise<number>((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port));
  });
  vi.stubEnv("BACKLOT_PORT_API", String(port));
  const refused = assertPortsFree({ ...(await ephemeralPorts()), api: fixedPorts(readConfig()).api });
  await expect(refused).rejects.toThrow(
    `Port ${port} (api) is already in use. Stop what uses it, or set BACKLOT_PORT_API to another port.`,
  );
  vi.unstubAllEnvs();
  server.close();
});

test("an unknown option shows the help", async () => {
  const { output, ended } = start(["--fast"]);
  expect(await ended).toBe(2);
  expect(output.err).toContain("--ephemeral");
});

test("the help names the variable of each port and where it is without one", async () => {
  const { output, ended } = start(["--help"]);
  expect(await ended).toBe(0);
  for (const [name, port] of Object.entries(defaultPorts(readConfig()))) {
    expect(output.out).toMatch(new RegExp(`^ +BACKLOT_PORT_${name.toUpperCase()} +${port}$`, "m"));
  }
});

test.each([
  [["--fast"], "Unknown option '--fast'"],
  [["--person", "nobody.jpg"], "nobody.jpg"],
])("the demo refuses %j with its help, before anything starts", async (args, reason) => {
  const { output, ended } = run("scripts/demo.ts", args);
  expect(await ended).toBe(2);
  expect(output.err).toContain(reason);
  expect(output.err).toContain("--garment shirt.png");
  expect(output.out).toBe("");
});
