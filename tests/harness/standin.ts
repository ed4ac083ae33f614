// What the workers of the harness call: a provider of pictures that honours idempotency keys, storage, a shop.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface Standin {
  url: string;
  /** The runs that were begun, by the key they were asked with. */
  runs: Map<string, string>;
  /** Submissions, those with a known key included. */
  submissions: number;
  stop(): Promise<void>;
}

const png = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64",
);

/** onRun hears of each run once, when it begins. */
export async function startStandin(onRun: (requestId: string) => void = () => {}): Promise<Standin> {
  const runs = new Map<string, string>();
  const standin = { runs, submissions: 0 };
  const server = createServer((request, response) => {
    const json = (body: unknown) =>
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
    const path = request.url ?? "/";
    request.resume();
    request.on("end", async () => {
      await sleep(Math.random() * 20);
      if (path === "/runs") {
        standin.submissions++;
        const key = String(request.headers["idempotency-key"]);
        let id = runs.get(key);
        if (!id) {
          id = randomUUID();
          runs.set(key, id);
          onRun(id);
        }
        // begun, and the answer still on its way: the worst moment to die
        await sleep(Math.random() * 60);
        json({ request_id: id });
      } else if (path.startsWith("/runs/")) json({ state: "ended", status: "ALREADY_COMPLETED" });
      else if (path.startsWith("/pictures/"))
        response.writeHead(200, { "content-type": "image/png" }).end(png);
      else if (path.startsWith("/products/")) {
        const id = Number(path.split("/").at(-1));
        json({ id, title: `Product ${id}`, description: "cotton ".repeat(50 + (id % 50)) });
      } else json({});
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return Object.assign(standin, {
    url: `http://127.0.0.1:${port}`,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}
