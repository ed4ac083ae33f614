import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { createRequire } from "node:module";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  AddressRefused,
  checkUrl,
  createSafeFetch,
  isPublicAddress,
  type SafeRequest,
} from "../../functions/_shared/safe-fetch.ts";
import { permissions } from "../../supabase/local/function-process.ts";

const request = (more: Partial<SafeRequest> = {}): SafeRequest => ({
  method: "POST",
  headers: {},
  body: "{}",
  signal: AbortSignal.timeout(5_000),
  mostBytes: 1024,
  ...more,
});

describe("addresses of the public internet", () => {
  test.each([
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "198.17.255.255",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:82a::200e",
    "2001:200::1",
    "2003::1",
  ])("%s is one", (address) => {
    expect(isPublicAddress(address)).toBe(true);
  });

  test.each([
    ["this network", "0.0.0.0"],
    ["loopback", "127.0.0.1"],
    ["loopback, its far end", "127.255.255.254"],
    ["private 10", "10.1.2.3"],
    ["private 172", "172.16.0.1"],
    ["private 172, its far end", "172.31.255.255"],
    ["private 192", "192.168.1.1"],
    ["carrier-grade NAT", "100.64.0.1"],
    ["carrier-grade NAT, its far end", "100.127.255.255"],
    ["link-local", "169.254.1.1"],
    ["cloud metadata", "169.254.169.254"],
    ["Alibaba's metadata", "100.100.100.200"],
    ["Oracle's metadata", "192.0.0.192"],
    ["documentation", "203.0.113.7"],
    ["benchmarks", "198.19.0.1"],
    ["multicast", "224.0.0.1"],
    ["reserved", "240.0.0.1"],
    ["broadcast", "255.255.255.255"],
    ["IPv6 unspecified", "::"],
    ["IPv6 loopback", "::1"],
    ["IPv6 loopback in full", "0:0:0:0:0:0:0:1"],
    ["mapped loopback", "::ffff:127.0.0.1"],
    ["mapped loopback in hexadecimal", "::ffff:7f00:1"],
    ["mapped public", "::ffff:8.8.8.8"],
    ["compatible", "::127.0.0.1"],
    ["translated", "64:ff9b::7f00:1"],
    ["locally translated", "64:ff9b:1::1"],
    ["6to4 of loopback", "2002:7f00:1::"],
    ["Teredo", "2001::1"],
    ["IPv6 documentation", "2001:db8::1"],
    ["unique local", "fd00::1"],
    ["Amazon's metadata over IPv6", "fd00:ec2::254"],
    ["link-local over IPv6", "fe80::1"],
    ["link-local with a zone", "fe80::1%eth0"],
    ["public with a zone", "2606:4700::1%eth0"],
    ["site-local", "fec0::1"],
    ["IPv6 multicast", "ff02::1"],
    ["no address", "example.com"],
    ["nothing", ""],
  ])("%s is none", (_, address) => {
    expect(isPublicAddress(address)).toBe(false);
  });
});

describe("an address by its looks", () => {
  test.each([
    "https://hooks.example.com/in?a=b",
    "https://hooks.example.com:8443/",
    "https://hooks.example.com./",
    "https://bücher.example/",
  ])("%s may be tried", (url) => {
    expect(checkUrl(url).protocol).toBe("https:");
  });

  test.each([
    ["http", "http://hooks.example.com/"],
    ["a file", "file:///etc/passwd"],
    ["no URL", "hooks.example.com"],
    ["a user", "https://user@hooks.example.com/"],
    ["a password", "https://user:pass@hooks.example.com/"],
    ["a user that looks like a host", "https://hooks.example.com@127.0.0.1/"],
    ["the port of mail", "https://hooks.example.com:25/"],
    ["the port of SSH", "https://hooks.example.com:22/"],
    ["the port of plain http", "https://hooks.example.com:80/"],
    ["a name without a dot", "https://intranet/"],
    ["localhost", "https://localhost/"],
    ["localhost with a dot at its end", "https://localhost./"],
    ["below localhost", "https://a.localhost/"],
    ["the metadata service by name", "https://metadata.google.internal/"],
    ["a name of the local network", "https://printer.local/"],
    ["a name of the home", "https://nas.home.arpa/"],
  ])("%s is refused", (_, url) => {
    expect(() => checkUrl(url)).toThrow(AddressRefused);
  });
});

describe("where an address leads", () => {
  const never = { resolve: () => Promise.reject(new Error("Nothing is to be resolved.")) };

  test.each([
    ["decimal", "https://2130706433/"],
    ["octal", "https://0177.0.0.1/"],
    ["hexadecimal", "https://0x7f.0.0.1/"],
    ["hexadecimal in one", "https://0x7f000001/"],
    ["short", "https://127.1/"],
    ["with a dot at its end", "https://127.0.0.1./"],
    ["in wide digits", "https://１２７.0.0.1/"],
    ["with other dots", "https://127。0。0。1/"],
    ["percent-encoded", "https://%31%32%37.0.0.1/"],
    ["zero", "https://0/"],
    ["metadata as a number", "https://2852039166/"],
    ["IPv6", "https://[::1]/"],
    ["mapped IPv6", "https://[::ffff:127.0.0.1]/"],
    ["mapped IPv6 in hexadecimal", "https://[::ffff:a9fe:a9fe]/"],
  ])("an IP address written %s is refused without a lookup", async (_, url) => {
    await expect(createSafeFetch(never)(url, request())).rejects.toBeInstanceOf(AddressRefused);
  });

  test.each([
    ["one private address", ["10.0.0.1"]],
    ["a private address among public ones", ["8.8.8.8", "127.0.0.1"]],
    ["a mapped address", ["::ffff:10.0.0.1"]],
    ["no address", []],
  ])("a name with %s is refused", async (_, found) => {
    const resolve = async () => found.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
    await expect(
      createSafeFetch({ resolve })("https://hooks.example.com/", request()),
    ).rejects.toBeInstanceOf(AddressRefused);
  });

  test("is looked up anew at each request", async () => {
    let asked = 0;
    const resolve = async (host: string) => {
      expect(host).toBe("hooks.example.com");
      asked++;
      return [{ address: "127.0.0.1", family: 4 }];
    };
    const send = createSafeFetch({ resolve });
    for (let i = 0; i < 2; i++) {
      await expect(send("https://hooks.example.com./", request())).rejects.toBeInstanceOf(AddressRefused);
    }
    expect(asked).toBe(2);
  });

  test("a lookup that does not end is given up with the request", async () => {
    const send = createSafeFetch({ resolve: () => new Promise(() => {}) });
    await expect(
      send("https://hooks.example.com/", request({ signal: AbortSignal.timeout(20) })),
    ).rejects.toMatchObject({ name: "TimeoutError" });
  });
});

/** What the first client says to a server of TLS that then hangs up; `call` gets its port. */
async function greeted(call: (port: number) => Promise<unknown>): Promise<string> {
  let said = "";
  const server = createTcpServer((socket) => {
    socket.once("data", (bytes) => {
      said = bytes.toString("latin1");
      socket.destroy();
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  await call((server.address() as AddressInfo).port);
  server.close();
  return said;
}

describe("a request", () => {
  let server: Server;
  let port = 0;
  const hits: string[] = [];
  beforeAll(async () => {
    server = createServer((incoming, answer) => {
      hits.push(`${incoming.method} ${incoming.headers.host}${incoming.url}`);
      if (incoming.url === "/redirect")
        answer.writeHead(302, { location: `http://127.0.0.1:${port}/secret` }).end();
      else if (incoming.url === "/huge") {
        const more = () => {
          while (!answer.destroyed && answer.write("x".repeat(65_536)));
        };
        answer.on("drain", more);
        more();
      } else if (incoming.url === "/drip") answer.write("begun");
      else if (incoming.url !== "/never") answer.end("fine");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    port = (server.address() as AddressInfo).port;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  // The name does not exist: a request arrives only at the address that was checked.
  const resolve = async () => [{ address: "127.0.0.1", family: 4 }];
  const send = createSafeFetch({ allowLocal: true, resolve });
  const at = (place: string) => `http://nowhere.invalid:${port}${place}`;

  test("goes to the address that was checked, with the name as its host", async () => {
    expect(await send(at("/in?a=b"), request())).toMatchObject({ status: 200, body: "fine" });
    expect(hits).toContain(`POST nowhere.invalid:${port}/in?a=b`);
  });

  test("goes there over TLS, too, with the name for the certificate, and not to where the name leads later", async () => {
    const asked = await greeted(async (tls) => {
      let first = true;
      // the second look leads elsewhere: whoever looked again at the connection would go there
      const changing = async () => {
        const address = first ? "127.0.0.1" : "127.0.0.2";
        first = false;
        return [{ address, family: 4 }];
      };
      const rebound = createSafeFetch({ allowLocal: true, resolve: changing });
      await expect(rebound(`https://nowhere.invalid:${tls}/`, request())).rejects.toThrow();
    });
    expect(asked).toContain("nowhere.invalid");
  });

  test("does not follow a redirect", async () => {
    expect((await send(at("/redirect"), request())).status).toBe(302);
    expect(hits.filter((hit) => hit.endsWith("/secret"))).toEqual([]);
  });

  test("reads no more of an endless body than asked", async () => {
    expect(await send(at("/huge"), request({ mostBytes: 100 }))).toMatchObject({
      status: 200,
      body: "x".repeat(100),
    });
  });

  test("ends in time where nothing answers, and keeps the status where only the body is late", async () => {
    const within = (ms: number) => request({ signal: AbortSignal.timeout(ms) });
    await expect(send(at("/never"), within(150))).rejects.toMatchObject({ name: "TimeoutError" });
    expect(await send(at("/drip"), within(1_000))).toMatchObject({ status: 200, body: "begun" });
  });

  test("goes to the address that was checked under Deno, too, plain and over TLS", async () => {
    let out = "";
    const asked = await greeted(async (tls) => {
      out = await runDeno(`
        import { createSafeFetch } from "./functions/_shared/safe-fetch.ts";
        const send = createSafeFetch({ allowLocal: true, resolve: async () => [{ address: "127.0.0.1", family: 4 }] });
        const signal = AbortSignal.timeout(4000);
        const post = { method: "POST", headers: {}, body: "{}", signal, mostBytes: 3 };
        const { status, body } = await send("${at("/deno")}", post);
        const refused = await createSafeFetch()("https://[::ffff:127.0.0.1]/", { ...post, method: "GET" })
          .catch((error) => error.name);
        const hungUp = await send("https://nowhere.invalid:${tls}/", post).catch(({ code }) => code);
        console.log(JSON.stringify({ status, body, refused, hungUp }));
        Deno.exit();`);
    });
    expect(out.trim()).toBe('{"status":200,"body":"fin","refused":"AddressRefused","hungUp":"ECONNRESET"}');
    expect(hits).toContain(`POST nowhere.invalid:${port}/deno`);
    expect(asked).toContain("nowhere.invalid");
  });
});

async function runDeno(script: string): Promise<string> {
  const deno = createRequire(import.meta.url)("deno/install_api.cjs").runInstall() as string;
  const root = path.join(import.meta.dirname, "../..");
  const args = ["run", ...permissions, "--config", "functions/deno.json", "-"];
  const child = spawn(deno, args, { cwd: root, stdio: ["pipe", "pipe", "pipe"] });
  let out = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (text) => {
      out += text;
    });
  }
  child.stdin.end(script);
  await once(child, "close");
  return out;
}
