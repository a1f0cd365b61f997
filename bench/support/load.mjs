import { connect } from "node:net";

/**
 * A client as cheap as can be, because it shares the machine with what it measures: whole requests are bytes made
 * before, one at a time per connection, and of an answer only the status and its end are looked for.
 */
class Connection {
  /** @type {Buffer} */
  #received = Buffer.alloc(0);
  /** @type {((answer: { status: number, body: string }) => void) | null} */
  #settle = null;
  /** @type {((error: Error) => void) | null} */
  #fail = null;

  /** @param {number} port */
  constructor(port) {
    this.socket = connect({ port, host: "127.0.0.1", noDelay: true });
    this.socket.on("data", (chunk) => this.#take(chunk));
    this.socket.on("error", (error) => this.#fail?.(error));
    this.socket.on("close", () => this.#fail?.(new Error("the server closed the connection")));
  }

  /** @param {Buffer} request @returns {Promise<{ status: number, body: string }>} */
  send(request) {
    return new Promise((resolve, reject) => {
      this.#settle = resolve;
      this.#fail = reject;
      this.socket.write(request);
    });
  }

  /** @param {Buffer} chunk */
  #take(chunk) {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    const end = this.#received.indexOf("\r\n\r\n");
    if (end < 0) return;
    const head = this.#received.toString("latin1", 0, end);
    const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
    const whole = length === undefined ? endOfChunks(this.#received, end + 4) : end + 4 + Number(length);
    if (whole === null || this.#received.length < whole) return;
    const body = this.#received.toString("utf8", end + 4, whole);
    this.#received = this.#received.subarray(whole);
    this.#settle?.({ status: Number(head.slice(9, 12)), body });
  }

  close() {
    this.#fail = null;
    this.socket.destroy();
  }
}

/** @param {Buffer} bytes @param {number} from @returns {number | null} */
function endOfChunks(bytes, from) {
  const end = bytes.indexOf("0\r\n\r\n", from);
  return end < 0 ? null : end + 5;
}

/**
 * A request as bytes.
 * @param {string} method @param {string} path @param {Record<string, string>} headers @param {string} body
 */
export function rawRequest(method, path, headers, body) {
  const bytes = Buffer.from(body);
  const lines = Object.entries({ Host: "127.0.0.1", ...headers, "Content-Length": String(bytes.length) });
  const head = [`${method} ${path} HTTP/1.1`, ...lines.map(([name, value]) => `${name}: ${value}`), "", ""].join(
    "\r\n",
  );
  return Buffer.concat([Buffer.from(head), bytes]);
}

/**
 * @typedef {object} LoadResult
 * @property {number} sent
 * @property {number} seconds
 * @property {number} perSecond
 * @property {Record<number, number>} statuses
 * @property {number[]} latencies ms, in no order
 */

/**
 * Closed loop: every connection sends its next request when the last was answered. For capacity, never for latency.
 * @param {{ port: number, connections: number, next: () => Buffer | null, seconds?: number, onAnswer?: (answer: { status: number, body: string }) => void }} options
 *   `next` answers null when there is nothing more to send
 * @returns {Promise<LoadResult>}
 */
export async function closedLoop({ port, connections, next, seconds = Number.POSITIVE_INFINITY, onAnswer }) {
  /** @type {Record<number, number>} */
  const statuses = {};
  /** @type {number[]} */
  const latencies = [];
  const started = performance.now();
  const until = started + seconds * 1000;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      let client = new Connection(port);
      while (performance.now() < until) {
        const request = next();
        if (!request) break;
        const before = performance.now();
        const answer = await client.send(request).catch(() => {
          // The server hangs up on who was silent for five seconds, as a stalled machine may have been.
          client.close();
          client = new Connection(port);
          return client.send(request);
        });
        latencies.push(performance.now() - before);
        statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
        onAnswer?.(answer);
      }
      client.close();
    }),
  );
  const elapsed = (performance.now() - started) / 1000;
  return { sent: latencies.length, seconds: elapsed, perSecond: latencies.length / elapsed, statuses, latencies };
}

/**
 * Open loop: requests leave at their times whatever became of the earlier ones, so that a slow answer is not hidden by
 * the pause it causes.
 * @param {{ port: number, perSecond: number, requests: readonly Buffer[], onSend: (place: number, at: number) => void }} options
 *   `onSend` is told when the request was due
 * @returns {Promise<Record<number, number>>} answers by status
 */
export async function openLoop({ port, perSecond, requests, onSend }) {
  /** @type {Record<number, number>} */
  const statuses = {};
  /** @type {Connection[]} */
  const idle = [];
  const started = performance.now() + 50;
  const pending = [];
  for (const [place, request] of requests.entries()) {
    const due = started + (place * 1000) / perSecond;
    const wait = due - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    onSend(place, due);
    const client = idle.pop() ?? new Connection(port);
    pending.push(
      client.send(request).then(({ status }) => {
        statuses[status] = (statuses[status] ?? 0) + 1;
        idle.push(client);
      }),
    );
  }
  await Promise.all(pending);
  for (const client of idle) client.close();
  return statuses;
}

/**
 * A request that a connection of the pool could not take, because the server had hung up on it meanwhile, once more.
 * @param {() => Promise<Response>} request
 */
export async function onFreshConnection(request) {
  try {
    return await request();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return request();
  }
}

/** @param {readonly number[]} values @param {number} share 0.5 is the median */
export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}
