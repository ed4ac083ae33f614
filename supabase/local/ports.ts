// Ports: the fixed ones of a developer's stack, free ones for an ephemeral stack.

import { createServer } from "node:net";
import type { Config } from "./config.ts";

export type Ports = {
  api: number;
  db: number;
  stripe: number;
  fal: number;
  shopify: number;
  razorpay: number;
};

const environment = {
  api: "BACKLOT_PORT_API",
  db: "BACKLOT_PORT_DB",
  stripe: "BACKLOT_PORT_STRIPE",
  fal: "BACKLOT_PORT_FAL",
  shopify: "BACKLOT_PORT_SHOPIFY",
  razorpay: "BACKLOT_PORT_RAZORPAY",
} as const satisfies Record<keyof Ports, string>;

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
  const names = Object.keys(environment) as (keyof Ports)[];
  const ports = await freePorts(names.length);
  return Object.fromEntries(names.map((name, index) => [name, ports[index]])) as Ports;
}

export function fixedPorts(config: Config): Ports {
  const defaults: Ports = {
    api: config.api.port,
    db: config.db.port,
    stripe: 54331,
    fal: 54332,
    shopify: 54333,
    razorpay: 54334,
  };
  const ports = { ...defaults };
  for (const [name, variable] of Object.entries(environment) as [keyof Ports, string][]) {
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
        `Port ${port} (${name}) ${why}. Stop what uses it, or set ${environment[name]} to another port.`,
      );
    });
  }
  if (taken.length > 0) throw new Error(taken.join("\n"));
}
