// `npm start`: the stack until Ctrl-C.

import { parseArgs } from "node:util";
import { readConfig } from "./config.ts";
import { defaultPorts, variableOf } from "./ports.ts";
import { isAlive, processField } from "./processes.ts";
import { type Stack, startStack } from "./stack.ts";

const ports = Object.entries(defaultPorts(readConfig()))
  .map(([name, port]) => `  ${variableOf(name).padEnd(24)}${port}`)
  .join("\n");

const help = `Starts Backlot's local stack and keeps it up until Ctrl-C.

  npm start                          on fixed ports, data kept in .backlot/data
  npm start -- --reset               throws the data away first
  npm start -- --ephemeral           free ports, a temporary folder, nothing kept
  npm start -- --ephemeral --json    prints one line of JSON when everything answers

  --no-watch                         does not start functions anew when their files change
  --help                             this text

Variables that move a port, and the port without them:

${ports}

Variables of the edge functions: functions/.env`;

function options() {
  try {
    return parseArgs({
      options: {
        reset: { type: "boolean", default: false },
        ephemeral: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        watch: { type: "boolean" },
        help: { type: "boolean", default: false },
      },
      allowNegative: true,
    }).values;
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${help}\n`);
    process.exit(2);
  }
}

function status(stack: Stack): string {
  const rows = {
    "API URL": stack.apiUrl,
    "DB URL": stack.dbUrl,
    "Publishable key": stack.publishableKey,
    "Secret key": stack.secretKey,
    "Functions URL": stack.functionsUrl,
    ...Object.fromEntries(Object.entries(stack.standins).map(([name, url]) => [`Stand-in ${name}`, url])),
  };
  const width = Math.max(...Object.keys(rows).map(({ length }) => length));
  return Object.entries(rows)
    .map(([name, value]) => `${name.padStart(width)}: ${value}`)
    .join("\n");
}

function json(stack: Stack): string {
  return JSON.stringify({
    api_url: stack.apiUrl,
    db_url: stack.dbUrl,
    publishable_key: stack.publishableKey,
    secret_key: stack.secretKey,
    functions_url: stack.functionsUrl,
    standins: stack.standins,
  });
}

/** npm does not tell its child when it is killed; without it nobody could reach this process by Ctrl-C. */
function watchNpm(whenGone: () => void) {
  if (!process.env.npm_lifecycle_event) return;
  const above = Number(processField(process.ppid, "ppid"));
  const watched = [process.ppid, ...(above > 1 ? [above] : [])];
  setInterval(() => watched.every(isAlive) || whenGone(), 1000).unref();
}

async function main() {
  const chosen = options();
  if (chosen.help) return void process.stdout.write(`${help}\n`);
  const { reset, ephemeral } = chosen;
  const began = performance.now();
  let stack: Stack | undefined;
  let ending = false;
  const end = async (code: number) => {
    // A second Ctrl-C does not wait; the lifeline cleans up.
    if (ending) process.exit(code);
    ending = true;
    // Whatever hangs, the lifeline ends it.
    setTimeout(() => process.exit(1), 15_000).unref();
    await stack?.stop();
    process.exit(code);
  };
  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    // Asked to end is what ends a stack well: only a kill before it was up is a failure.
    process.on(signal, () => void end(stack ? 0 : code));
  }
  watchNpm(() => void end(1));
  // Standard output is what a caller parses; @supabase/lite prints mails it does not send, codes included.
  console.log = console.info = console.error;
  stack = await startStack({ reset, ephemeral, watch: chosen.watch ?? !ephemeral });
  const took = ((performance.now() - began) / 1000).toFixed(1);
  if (chosen.json) process.stdout.write(`${json(stack)}\n`);
  else process.stdout.write(`\n${status(stack)}\n\nReady in ${took} s. Ctrl-C stops it.\n`);
}

main().catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
