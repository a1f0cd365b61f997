/**
 * The one way to call an address that a tenant named. A name is judged before anything is sent, and again at every
 * redirect: an address of the operator's own network must not be reachable through the product (server-side request
 * forgery). What a public name resolves to is the platform's: Workers reach the public internet only.
 */
import type { Runtime } from "./runtime";

/** Names that no public certificate is issued for, or that mean a machine or network nearby (RFC 6761, 6762, 8375). */
const LOCAL_SUFFIXES = [
  "localhost",
  "local",
  "localdomain",
  "internal",
  "intranet",
  "private",
  "corp",
  "home",
  "lan",
  "arpa",
  "onion",
  "test",
  "example",
  "invalid",
];

/** Public services whose names spell an IP address, private ones too. */
const SPELLING_SUFFIXES = ["nip.io", "sslip.io", "xip.io", "localtest.me", "lvh.me", "vcap.me"];

const MAX_ADDRESS = 2000;
const MAX_REDIRECTS = 3;

/** An address that may not be called; the message says why, and may be shown to whoever named it. */
export class UnsafeAddress extends Error {
  constructor(message: string) {
    super(message);
    this.name = "UnsafeAddress";
  }
}

/** What decides over an address besides its form. */
export interface AddressRules {
  /** `PRIVATE_FETCH_HOSTS`: `host` or `host:port` that are called whatever they are. Development only. */
  privateHosts: readonly string[];
  /** Names under which this deployment is reached: it never calls itself. */
  ownHosts: readonly string[];
}

/** The address as it may be called. Throws `UnsafeAddress` for everything that is no public https address. */
export function checkAddress(address: string, { privateHosts, ownHosts }: AddressRules): URL {
  if (address.length > MAX_ADDRESS) throw new UnsafeAddress(`Must have at most ${MAX_ADDRESS} characters`);
  // Spellings of IPv4 addresses (hexadecimal, octal, one number) come out of this as four decimal ones.
  const url = URL.canParse(address) ? new URL(address) : null;
  if (!url) throw new UnsafeAddress("Must be an https address");
  if (url.username !== "" || url.password !== "") throw new UnsafeAddress("Must not hold a user name or password");
  if (privateHosts.includes(url.host) && (url.protocol === "https:" || url.protocol === "http:")) return url;
  if (url.protocol !== "https:") throw new UnsafeAddress("Must be an https address");
  if (url.port !== "") throw new UnsafeAddress("Must be at port 443");
  const name = url.hostname.toLowerCase().replace(/\.+$/, "");
  if (name.startsWith("[") || /^[\d.]+$/.test(name)) throw new UnsafeAddress("Must name a host, not an IP address");
  if (!name.includes(".")) throw new UnsafeAddress("Must be a public host name");
  const within = (suffix: string) => name === suffix || name.endsWith(`.${suffix}`);
  if (LOCAL_SUFFIXES.some(within) || SPELLING_SUFFIXES.some(within)) {
    throw new UnsafeAddress("Must be a public host name");
  }
  if (ownHosts.some((own) => own.toLowerCase().replace(/\.+$/, "") === name)) {
    throw new UnsafeAddress("Must not be this deployment itself");
  }
  return url;
}

export interface SafeRequest {
  method?: "GET" | "HEAD" | "POST" | "PUT";
  headers?: Record<string, string>;
  /** Left out once a redirect leads to another host. */
  secretHeaders?: Record<string, string>;
  body?: string;
  /** ms for everything, the answer's body included. */
  timeout: number;
  /** Bytes of the answer's body that are read; what is longer is cut, and said to be. */
  maxBytes: number;
  /** `refuse`: a redirect is the answer. */
  redirects?: "follow" | "refuse";
  /** Names under which this deployment is reached. */
  ownHosts?: readonly string[];
}

export interface SafeAnswer {
  status: number;
  headers: Headers;
  body: Uint8Array<ArrayBuffer>;
  /** The body was longer. */
  cut: boolean;
  /** Where it came from, after redirects. */
  url: string;
}

/**
 * Calls a public https address. Throws `UnsafeAddress` when it, or where it redirects to, may not be called, and what
 * `fetch` throws when it does not answer in time.
 */
export async function safeFetch(rt: Runtime, address: string, request: SafeRequest): Promise<SafeAnswer> {
  const rules = { privateHosts: rt.config.PRIVATE_FETCH_HOSTS, ownHosts: request.ownHosts ?? [] };
  const signal = AbortSignal.timeout(request.timeout);
  const first = checkAddress(address, rules);
  let url = first;
  let method = request.method ?? "GET";
  for (let redirects = 0; ; redirects += 1) {
    const sent = url.origin === first.origin ? request.secretHeaders : {};
    const response = await rt.fetch(url.href, {
      method,
      headers: { ...request.headers, ...sent },
      ...(request.body === undefined || method === "GET" || method === "HEAD" ? {} : { body: request.body }),
      redirect: "manual",
      signal,
    });
    const target = redirectTarget(response, url);
    if (target === null || request.redirects === "refuse") return read(response, url, request.maxBytes);
    await response.body?.cancel();
    if (redirects === MAX_REDIRECTS) throw new UnsafeAddress(`It redirects more than ${MAX_REDIRECTS} times`);
    url = checkRedirect(target, rules);
    if (response.status !== 307 && response.status !== 308 && method !== "HEAD") method = "GET";
  }
}

function redirectTarget(response: Response, from: URL): string | null {
  const location = response.headers.get("Location");
  if (![301, 302, 303, 307, 308].includes(response.status) || location === null) return null;
  return URL.canParse(location, from) ? new URL(location, from).href : location;
}

function checkRedirect(target: string, rules: AddressRules): URL {
  try {
    return checkAddress(target, rules);
  } catch (error) {
    if (error instanceof UnsafeAddress) {
      throw new UnsafeAddress(`It redirects to an address that is not called: ${error.message}`);
    }
    throw error;
  }
}

async function read(response: Response, url: URL, maxBytes: number): Promise<SafeAnswer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  let cut = false;
  if (response.body) {
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      const room = maxBytes - size;
      chunks.push(chunk.byteLength > room ? chunk.subarray(0, room) : chunk);
      size += Math.min(chunk.byteLength, room);
      // Leaving the loop cancels the rest.
      cut = chunk.byteLength > room;
      if (cut) break;
    }
  }
  const body = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return { status: response.status, headers: response.headers, body, cut, url: url.href };
}
