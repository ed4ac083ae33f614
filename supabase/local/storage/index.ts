import { Hono } from "hono";
import type { Keys } from "../keys.ts";

export async function startStorage(_options: { databaseUrl: string; folder: string; keys: Keys; sizeLimit: string }) {
  return { app: new Hono(), close: async () => undefined };
}
