import { connect, createServer } from "node:net";

/** `localhost` is the first on some machines and the second on others. */
const LOOPBACK = ["127.0.0.1", "::1"];

/** What a machine without that address family answers. */
const NO_SUCH_ADDRESS = new Set(["EADDRNOTAVAIL", "EAFNOSUPPORT", "EINVAL"]);

/**
 * @param {import("node:net").Server} server @param {number} port @param {string} host
 * @returns {Promise<void>}
 */
function listening(server, port, host) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, host, ipv6Only: true }, () => resolve());
  });
}

/** @param {unknown} error */
const codeOf = (error) => (error instanceof Error && "code" in error ? String(error.code) : "");

/**
 * Whether nobody listens on the port under either loopback address.
 * @param {number} port
 */
export async function isFree(port) {
  for (const host of LOOPBACK) {
    const server = createServer();
    try {
      await listening(server, port, host);
    } catch (error) {
      if (!NO_SUCH_ADDRESS.has(codeOf(error))) return false;
    }
    server.close();
  }
  return true;
}

/** A port that nobody listens on now. */
export async function freePort() {
  const server = createServer();
  await listening(server, 0, "127.0.0.1");
  const address = server.address();
  server.close();
  if (address === null || typeof address === "string") throw new Error("No free port");
  return address.port;
}

/**
 * Wrangler listens on one address; this passes the other loopback address on to it, so that `localhost` works whichever
 * of the two it names first. Does nothing on a machine without IPv6.
 * @param {number} port
 */
export async function alsoOnIpv6(port) {
  const server = createServer((incoming) => {
    const outgoing = connect(port, "127.0.0.1");
    incoming.pipe(outgoing).pipe(incoming);
    // Either side may hang up at any time; the other must not be left open.
    incoming.on("error", () => outgoing.destroy()).on("close", () => outgoing.destroy());
    outgoing.on("error", () => incoming.destroy()).on("close", () => incoming.destroy());
  });
  try {
    await listening(server, port, "::1");
  } catch (error) {
    if (!NO_SUCH_ADDRESS.has(codeOf(error))) throw error;
  }
}
