import { setTimeout as sleep } from "node:timers/promises";
import { apiClient } from "../../scripts/support/api.mjs";
import { closedLoop, openLoop, percentile, rawRequest } from "../support/load.mjs";
import { APP_SECRET } from "../support/stack.mjs";
import { inboundText, signedPost } from "../support/webhooks.mjs";

/** @typedef {import("../support/stack.mjs").Running} Running */
/** @typedef {import("../support/account.mjs").Tenant} Tenant */

const DRAIN_MS = 60_000;

/**
 * Waits until `done` says so.
 * @param {() => Promise<boolean>} done @param {string} what
 */
async function until(done, what) {
  const started = performance.now();
  while (!(await done())) {
    if (performance.now() - started > DRAIN_MS) throw new Error(`${what} did not come to an end`);
    await sleep(50);
  }
}

/** @param {Running} app @param {string} sql @param {unknown[]} params */
async function column(app, sql, ...params) {
  const database = await app.miniflare.getD1Database("SHARD_0");
  const { results } = await database
    .prepare(sql)
    .bind(...params)
    .raw()
    .then((rows) => ({ results: rows }));
  return results.map((row) => row[0]);
}

const MESSAGES = 4_000;
const PEOPLE = 400;

/**
 * Messages taken and stored per second, from the first POST to the last row; then every single one is looked for.
 * @param {Running} app @param {Tenant} tenant
 */
export async function measureStoring(app, tenant) {
  const number = tenant.numbers[0];
  if (!number) throw new Error("The tenant has no number");
  const wamids = Array.from({ length: MESSAGES }, (_, n) => `wamid.store-${n}`);
  const posts = wamids.map((wamid, n) =>
    signedPost(inboundText(number, { from: `4915100${String(n % PEOPLE).padStart(5, "0")}`, wamid }), APP_SECRET),
  );
  let place = 0;
  const started = performance.now();
  const taken = await closedLoop({ port: app.port, connections: 16, next: () => posts[place++] ?? null });
  const count = "SELECT count(*) FROM messages WHERE phone_number_id = ?1 AND wa_message_id LIKE 'wamid.store-%'";
  await until(async () => Number((await column(app, count, number.id))[0]) >= MESSAGES, "Storing");
  const seconds = (performance.now() - started) / 1000;
  const stored = new Set(
    await column(
      app,
      "SELECT wa_message_id FROM messages WHERE phone_number_id = ?1 AND wa_message_id LIKE 'wamid.store-%'",
      number.id,
    ),
  );
  const missing = wamids.filter((wamid) => !stored.has(wamid)).length;
  if (missing > 0) throw new Error(`${missing} messages were answered with 200 and are not stored`);
  return {
    messages: MESSAGES,
    taken_per_second: taken.perSecond,
    stored_per_second: MESSAGES / seconds,
    taken_p99_ms: percentile(taken.latencies, 0.99),
    missing,
  };
}

const SENDS = 800;

/**
 * Sends per second: API calls answered, and from the first call to the last message accepted by the provider.
 * @param {Running} app @param {Running} sandbox @param {Tenant} tenant
 */
export async function measureSending(app, sandbox, tenant) {
  const provider = apiClient(`http://127.0.0.1:${sandbox.port}`);
  const accepted = async () => Number((await provider("GET", "/sandbox/stats")).accepted);
  const before = await accepted();
  const requests = Array.from({ length: SENDS }, (_, n) =>
    sendRequest(tenant, n, `4915200${String(n).padStart(5, "0")}`, `send-${n}`),
  );
  let place = 0;
  const started = performance.now();
  const calls = await closedLoop({ port: app.port, connections: 16, next: () => requests[place++] ?? null });
  if (calls.statuses[201] !== SENDS) throw new Error(`Sends were refused: ${JSON.stringify(calls.statuses)}`);
  await until(async () => (await accepted()) - before >= SENDS, "Sending");
  const seconds = (performance.now() - started) / 1000;
  const sent =
    "SELECT count(*) FROM messages WHERE workspace_id = ?1 AND status = 'sent' AND to_number LIKE '+4915200%'";
  await until(async () => Number((await column(app, sent, tenant.workspaceId))[0]) === SENDS, "Storing results");
  const twice = (await accepted()) - before - SENDS;
  if (twice !== 0) throw new Error(`${twice} messages were sent twice`);
  return {
    messages: SENDS,
    api_calls_per_second: calls.perSecond,
    api_p50_ms: percentile(calls.latencies, 0.5),
    api_p99_ms: percentile(calls.latencies, 0.99),
    accepted_per_second: SENDS / seconds,
  };
}

/**
 * One send as bytes, spread over the tenant's numbers.
 * @param {Tenant} tenant @param {number} n @param {string} to digits
 * @param {string} [key] idempotency key
 */
export function sendRequest(tenant, n, to, key) {
  const number = tenant.numbers[n % tenant.numbers.length];
  const headers = {
    Authorization: `Bearer ${tenant.apiKey}`,
    "Content-Type": "application/json",
    ...(key === undefined ? {} : { "Idempotency-Key": key }),
  };
  const body = {
    phone_number_id: number?.id,
    to: `+${to}`,
    text: "Your parcel will arrive tomorrow between 9 and 12.",
  };
  return rawRequest("POST", "/api/messages/send/text", headers, JSON.stringify(body));
}

const PER_SECOND = 50;
const LATENCY_SECONDS = 10;

/**
 * From the moment a webhook is due to the moment the browser's socket shows the message, at a fixed rate.
 * @param {Running} app @param {Tenant} tenant
 */
export async function measureLatency(app, tenant) {
  const number = tenant.numbers[0];
  if (!number) throw new Error("The tenant has no number");
  const { ticket } = await tenant.call("POST", "/api/realtime/tickets", {
    token: tenant.token,
    body: { workspace_id: tenant.workspaceId },
  });
  const socket = new WebSocket(`ws://127.0.0.1:${app.port}/api/workspaces/${tenant.workspaceId}/live?ticket=${ticket}`);
  /** @type {Map<string, number>} */
  const due = new Map();
  /** @type {number[]} */
  const latencies = [];
  await new Promise((resolve, reject) => {
    socket.addEventListener("error", () => reject(new Error("The live socket did not open")));
    socket.addEventListener("message", ({ data }) => {
      const frame = JSON.parse(String(data));
      if (frame.type === "hello") resolve(undefined);
      if (frame.type !== "events") return;
      for (const event of frame.events) {
        const at = event.type === "message.created" ? due.get(event.message.wa_message_id) : undefined;
        if (at !== undefined) latencies.push(performance.now() - at);
      }
    });
  });
  const count = PER_SECOND * LATENCY_SECONDS;
  const wamids = Array.from({ length: count }, (_, n) => `wamid.live-${n}`);
  const requests = wamids.map((wamid, n) =>
    signedPost(inboundText(number, { from: `4915100${String(n % PEOPLE).padStart(5, "0")}`, wamid }), APP_SECRET),
  );
  const statuses = await openLoop({
    port: app.port,
    perSecond: PER_SECOND,
    requests,
    onSend: (place, at) => due.set(String(wamids[place]), at),
  });
  if (statuses[200] !== count) throw new Error(`Webhooks were refused: ${JSON.stringify(statuses)}`);
  await until(async () => latencies.length >= count, "Showing");
  socket.close();
  return {
    per_second: PER_SECOND,
    messages: count,
    p50_ms: percentile(latencies, 0.5),
    p99_ms: percentile(latencies, 0.99),
  };
}
