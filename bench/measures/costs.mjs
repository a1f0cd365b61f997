import { setTimeout as sleep } from "node:timers/promises";
import { closedLoop } from "../support/load.mjs";
import { billPerMillion } from "../support/prices.mjs";
import { APP_SECRET } from "../support/stack.mjs";
import { inboundText, signedPost, statusUpdate } from "../support/webhooks.mjs";
import { sendRequest } from "./flow.mjs";

/** @typedef {import("../support/stack.mjs").Running} Running */
/** @typedef {import("../support/account.mjs").Tenant} Tenant */

const DRAIN_MS = 60_000;

/**
 * Counts of the metered app since the last call.
 * @param {Running} app
 * @returns {Promise<Record<string, number>>}
 */
async function take(app) {
  const response = await fetch(`http://127.0.0.1:${app.port}/bench/counts`);
  const counts = /** @type {Record<string, number | object>} */ (await response.json());
  return Object.fromEntries(
    Object.entries(counts).flatMap(([name, value]) => (typeof value === "number" ? [[name, value]] : [])),
  );
}

/**
 * Sends the requests, waits until so many queue messages were handled, and answers what all of it took.
 * @param {Running} app
 * @param {readonly Buffer[]} requests @param {number} status of every answer
 */
async function counted(app, requests, status) {
  await take(app);
  /** @type {string[]} */
  const answers = [];
  let place = 0;
  const load = await closedLoop({
    port: app.port,
    connections: 16,
    next: () => requests[place++] ?? null,
    onAnswer: ({ body }) => answers.push(body),
  });
  if (load.statuses[status] !== requests.length) throw new Error(`Refused: ${JSON.stringify(load.statuses)}`);
  /** @type {Record<string, number>} */
  const sum = {};
  const started = performance.now();
  while ((sum.messages ?? 0) < requests.length) {
    if (performance.now() - started > DRAIN_MS) throw new Error("A queue was not drained");
    await sleep(100);
    for (const [name, value] of Object.entries(await take(app))) sum[name] = (sum[name] ?? 0) + value;
  }
  return { sum, answers };
}

/** @param {Record<string, number>} sum @param {number} count */
function perMessage(sum, count) {
  return Object.fromEntries(Object.entries(sum).map(([name, value]) => [name, value / count]));
}

/** @param {Record<string, number>} total @param {Record<string, number>} part */
function plus(total, part) {
  const names = new Set([...Object.keys(total), ...Object.keys(part)]);
  return Object.fromEntries([...names].map((name) => [name, (total[name] ?? 0) + (part[name] ?? 0)]));
}

/**
 * Operations of one inbound text of a known contact, and of one outbound text with its three statuses, each in a POST of
 * its own; `count` messages of `count` people, so that nothing is saved by two being about one.
 * @param {Running} app @param {Tenant} tenant @param {number} count
 */
export async function measureCosts(app, tenant, count) {
  const number = tenant.numbers[0];
  if (!number) throw new Error("The tenant has no number");
  const person = (/** @type {number} */ n) => `4915300${String(n).padStart(5, "0")}`;
  const receive = (/** @type {string} */ round) =>
    counted(
      app,
      Array.from({ length: count }, (_, n) =>
        signedPost(inboundText(number, { from: person(n), wamid: `wamid.${round}-${n}` }), APP_SECRET),
      ),
      200,
    );
  const send = (/** @type {string | undefined} */ key) =>
    counted(
      app,
      Array.from({ length: count }, (_, n) =>
        sendRequest({ ...tenant, numbers: [number] }, n, person(n), key && `${key}-${n}`),
      ),
      201,
    );
  await receive("known");
  const inbound = await receive("counted");
  const sends = await send(undefined);
  const ids = sends.answers.map((body) => String(JSON.parse(body).id));
  const wamids = await providerIds(app, tenant.workspaceId, ids);
  /** @type {Record<string, number>} */
  let outbound = sends.sum;
  /** @type {Record<string, Record<string, number>>} */
  const statuses = {};
  for (const status of /** @type {const} */ (["sent", "delivered", "read"])) {
    const posts = ids.map((id, n) => {
      const update = { to: person(n), wamid: String(wamids.get(id)), callback: `${id}.1`, status };
      return signedPost(statusUpdate(number, update), APP_SECRET);
    });
    const { sum } = await counted(app, posts, 200);
    statuses[status] = perMessage(sum, count);
    outbound = plus(outbound, sum);
  }
  const keyed = await send("key");
  const operations = {
    inbound: { ...perMessage(inbound.sum, count), webhooks: 1 },
    accept_and_send: perMessage(sends.sum, count),
    ...statuses,
    outbound: { ...perMessage(outbound, count), webhooks: 3, api_calls: 1 },
    accept_and_send_with_key: perMessage(keyed.sum, count),
  };
  return {
    messages: count,
    messages_per_batch: (inbound.sum.messages ?? 0) / (inbound.sum.batches ?? 1),
    operations,
    bill: { inbound: billPerMillion(operations.inbound), outbound: billPerMillion(operations.outbound) },
  };
}

/** @param {Running} app @param {string} workspaceId @param {string[]} ids */
async function providerIds(app, workspaceId, ids) {
  const database = await app.miniflare.getD1Database("SHARD_0");
  const { results } = await database
    .prepare(
      "SELECT id, wa_message_id, status FROM messages WHERE workspace_id = ?1 AND id IN (SELECT value FROM json_each(?2))",
    )
    .bind(workspaceId, JSON.stringify(ids))
    .all();
  const unsent = results.filter(({ status }) => status !== "sent").length;
  if (unsent > 0 || results.length !== ids.length) throw new Error(`${unsent} of ${ids.length} messages were not sent`);
  return new Map(results.map((row) => [String(row.id), String(row.wa_message_id)]));
}
