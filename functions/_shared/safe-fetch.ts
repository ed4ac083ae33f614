// Requests to addresses that customers choose, in a way that reaches nothing but the public internet: https only,
// no credentials in the address, and a name that leads to public addresses alone. The connection goes to the very
// address that was checked (the request's own lookup answers nothing else), so a name that changes between the
// check and the connection (DNS rebinding) gains nothing. Redirects are answers like any other; nothing follows them.
// Where a runtime ignored the lookup of node:https, the check before each request would still hold, and what remained
// open is the moment between the two; tests/functions/safe-fetch.test.ts shows that Node and Deno use it.

import { lookup as resolveName } from "node:dns/promises";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { isIP, type LookupFunction } from "node:net";

export interface SafeResponse {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  /** The beginning of the body, at most so many characters as it has bytes. */
  body: string;
  /** The same as it came, for what is no UTF-8. */
  bytes: Uint8Array<ArrayBuffer>;
}

export interface SafeRequest {
  method: "GET" | "POST";
  headers: Record<string, string>;
  body?: string;
  /** Ends the request, whatever it is at. */
  signal: AbortSignal;
  /** How much of the answer is read; the connection is closed then. */
  mostBytes: number;
}

export type SafeFetch = (url: string, request: SafeRequest) => Promise<SafeResponse>;

export interface Address {
  address: string;
  family: number;
}

export interface SafeFetchOptions {
  /** Local stack only: plain http, every port and private addresses are allowed. */
  allowLocal?: boolean;
  resolve?: (host: string) => Promise<Address[]>;
}

/** The address is not one that may be called; the message may be shown to whoever chose it. */
export class AddressRefused extends Error {
  override readonly name = "AddressRefused";
}

// Source: IANA IPv4 Special-Purpose Address Registry; multicast and reserved are 224.0.0.0/4 and 240.0.0.0/4.
const refusedIpv4 = [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
] as const;
// Source: IANA IPv6 Special-Purpose Address Registry. Only 2000::/3 is global unicast at all, which leaves out
// loopback, mapped and translated IPv4, unique local, link-local, multicast and the metadata address fd00:ec2::254.
const refusedIpv6 = [
  ["2001::", 23],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["3fff::", 20],
] as const;

/** Is this IP address (as text) one of the public internet? What is no IP address is not. */
export function isPublicAddress(address: string): boolean {
  const version = isIP(address);
  if (version === 4) {
    const value = ipv4Number(address);
    return !refusedIpv4.some(
      ([base, bits]) => value >> (32n - BigInt(bits)) === prefix(ipv4Number(base), 32, bits),
    );
  }
  if (version !== 6 || address.includes("%")) return false;
  const value = ipv6Number(address);
  if (value >> 125n !== 1n) return false;
  return !refusedIpv6.some(
    ([base, bits]) => value >> (128n - BigInt(bits)) === prefix(ipv6Number(base), 128, bits),
  );
}

function prefix(value: bigint, size: number, bits: number): bigint {
  return value >> BigInt(size - bits);
}

function ipv4Number(address: string): bigint {
  return address.split(".").reduce((value, part) => (value << 8n) | BigInt(part), 0n);
}

function ipv6Number(address: string): bigint {
  // The last 32 bits may be written as IPv4.
  const [, start = address, dotted] = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address) ?? [];
  const tail = dotted ? ipv4Number(dotted) : 0n;
  const text = dotted ? `${start}${(tail >> 16n).toString(16)}:${(tail & 0xffffn).toString(16)}` : address;
  const [before = "", after] = text.split("::");
  const groups = (part: string) => (part === "" ? [] : part.split(":"));
  const zeros = after === undefined ? 0 : 8 - groups(before).length - groups(after).length;
  const all = [...groups(before), ...Array<string>(zeros).fill("0"), ...groups(after ?? "")];
  return all.reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n);
}

// Names that lead inside whatever they resolve to: RFC 6761 (localhost), RFC 6762 (local), RFC 8375 (home.arpa),
// ICANN's reservation of internal, which cloud metadata services use.
const insideNames = /(^|\.)(localhost|local|internal|home\.arpa)$/;

/**
 * The address as a URL, if it may be called by its looks: https, port 443 or one from 1024 on (the ports below are
 * other services, mail and the like, that nobody receives webhooks on), no user or password, a name with a dot.
 * Numbers in every spelling (decimal, octal, hexadecimal) are read as the IP addresses they are.
 */
export function checkUrl(text: string, allowLocal = false): URL {
  const url = URL.parse(text);
  if (!url) throw new AddressRefused("The address is not a URL.");
  if (url.protocol !== "https:" && !(allowLocal && url.protocol === "http:")) {
    throw new AddressRefused("The address must begin with https://.");
  }
  if (url.username || url.password)
    throw new AddressRefused("The address must not hold a user or a password.");
  if (allowLocal) return url;
  const port = Number(url.port || 443);
  if (port !== 443 && port < 1024) throw new AddressRefused("The port must be 443 or 1024 and above.");
  checkName(hostOf(url));
  return url;
}

/** Refuses names that lead inside, by their looks. Errors: AddressRefused. */
export function checkName(host: string): void {
  if (isIP(host) === 0 && (!host.includes(".") || insideNames.test(host))) {
    throw new AddressRefused("The host must be a name of the public internet.");
  }
}

/** Without the brackets of IPv6 and the dot at the end that stands for the root. */
function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[|\]$/g, "").replace(/\.+$/, "");
}

/** All addresses of the host; refused when there is none, or when a single one is not public. Errors: AddressRefused. */
export async function checkedAddresses(host: string, options: SafeFetchOptions): Promise<Address[]> {
  const family = isIP(host);
  const resolve = options.resolve ?? ((name: string) => resolveName(name, { all: true, verbatim: true }));
  const addresses = family ? [{ address: host, family }] : await resolve(host);
  if (addresses.length === 0) throw new AddressRefused("The host has no address.");
  if (!options.allowLocal && !addresses.every(({ address }) => isPublicAddress(address))) {
    throw new AddressRefused("The host leads to an address that is not of the public internet.");
  }
  return addresses;
}

/** What came is no answer of HTTP: a status that there is not, another protocol, nothing at all. */
class BrokenAnswer extends Error {
  override readonly name = "BrokenAnswer";
  readonly code = "BROKEN_ANSWER";
}

/** A fetch for addresses that customers choose. Errors: AddressRefused, the signal's reason, those of node:https. */
export function createSafeFetch(options: SafeFetchOptions = {}): SafeFetch {
  return async (text, request) => {
    const url = checkUrl(text, options.allowLocal);
    const addresses = await unlessAborted(checkedAddresses(hostOf(url), options), request.signal);
    return await send(url, addresses, request);
  };
}

function send(
  url: URL,
  addresses: Address[],
  { method, headers, body, signal, mostBytes }: SafeRequest,
): Promise<SafeResponse> {
  const [first] = addresses as [Address];
  const lookup: LookupFunction = (_host, { all }, answer) => {
    if (all) answer(null, addresses);
    else answer(null, first.address, first.family);
  };
  const open = url.protocol === "https:" ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    let answered: (() => void) | undefined;
    const length =
      body === undefined ? {} : { "content-length": String(new TextEncoder().encode(body).length) };
    // A connection of its own: one from a pool was made for an earlier check.
    const outgoing = open(
      url,
      {
        method,
        headers: { ...headers, ...length, connection: "close" },
        lookup,
        agent: false,
        signal,
      },
      (incoming) => {
        const { statusCode: status = 0 } = incoming;
        if (status < 100) {
          outgoing.destroy(new BrokenAnswer());
          return;
        }
        const chunks: Uint8Array[] = [];
        let bytes = 0;
        const finish = () => {
          incoming.destroy();
          outgoing.destroy();
          const read = bytesOf(chunks, mostBytes);
          resolve({
            status,
            headers: incoming.headers,
            body: new TextDecoder().decode(read),
            bytes: read,
          });
        };
        incoming.on("data", (chunk: Uint8Array) => {
          chunks.push(chunk);
          bytes += chunk.length;
          if (bytes >= mostBytes) finish();
        });
        // The status has been received: a body that breaks off or does not end in time changes nothing about it.
        incoming.on("end", finish).on("error", finish).on("close", finish);
        answered = finish;
      },
    );
    outgoing.on("error", (error) => {
      if (answered) answered();
      else reject(signal.aborted ? signal.reason : error);
    });
    // Nobody asked for another protocol; without a listener there would be no end at all.
    outgoing.on("upgrade", (_incoming, socket) => {
      socket.destroy();
      reject(new BrokenAnswer());
    });
    outgoing.on("close", () => {
      if (!answered) reject(signal.aborted ? signal.reason : new BrokenAnswer());
    });
    outgoing.end(body);
  });
}

function bytesOf(chunks: Uint8Array[], most: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes.subarray(0, most);
}

/** A lookup cannot be ended: it is left behind. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
