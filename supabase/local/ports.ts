// Ports: the fixed ones of a developer's stack, free ones for an ephemeral stack.

import { createServer } from "node:net";
import type { Config } from "./config.ts";
import { forStandIns, type StandInName, standInNames } from "./standins/names.ts";

export type Ports = Record<"api" | "db" | StandInName, number>;

export const variableOf = (name: string) => `BACKLOT_PORT_${name.toUpperCase()}`;

function listen(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : port));
    });
  });
}

export const freePort = () => listen(0);

/** Several at once, so that no two of them are the same. */
export const freePorts = (count: number) => Promise.all(Array.from({ length: count }, freePort));

export async function ephemeralPorts(): Promise<Ports> {
  const names = ["api", "db", ...standInNames] as const;
  const ports = await freePorts(names.length);
  return Object.fromEntries(names.map((name, index) => [name, ports[index]])) as Ports;
}

export const defaultPorts = (config: Config): Ports => ({
  api: config.api.port,
  db: config.db.port,
  ...forStandIns((_, index) => 54331 + index),
});

export function fixedPorts(config: Config): Ports {
  const ports = defaultPorts(config);
  for (const name of Object.keys(ports) as (keyof Ports)[]) {
    const variable = variableOf(name);
    const text = process.env[variable];
    if (!text) continue;
    const port = Number(text);
    if (!Number.isInteger(port) || port < 1 || port > 65535)
      throw new Error(`${variable}=${text} is not a port.`);
    ports[name] = port;
  }
  return ports;
}

/** Throws with the name of the variable that moves the port when something already listens there. */
export async function assertPortsFree(ports: Ports): Promise<void> {
  const taken: string[] = [];
  for (const [name, port] of Object.entries(ports) as [keyof Ports, number][]) {
    await listen(port).catch((error: NodeJS.ErrnoException) => {
      const why = error.code === "EADDRINUSE" ? "is already in use" : `cannot be used (${error.code})`;
      taken.push(
        `Port ${port} (${name}) ${why}. Stop what uses it, or set ${variableOf(name)} to another port.`,
      );
    });
  }
  if (taken.length > 0) throw new Error(taken.join("\n"));
}
