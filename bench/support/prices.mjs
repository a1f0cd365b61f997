/**
 * Workers Paid, list prices in dollars per million of the unit, allowances used up (Cloudflare's pricing pages as of
 * November 2026).
 */
const PRICES = {
  requests: 0.3,
  cpu_ms: 0.02,
  queue_operations: 0.4,
  rows_read: 0.001,
  rows_written: 1,
  object_requests: 0.15,
  object_gb_seconds: 12.5,
  bucket_writes: 4.5,
  bucket_reads: 0.36,
  logs: 0.6,
};

/**
 * Not metered locally, so charged at more than it takes: CPU (a webhook takes half a millisecond of the local runtime,
 * its queue simulator included) and the time an object is awake for a call, at the 128 MB it is billed with.
 */
export const ASSUMED = {
  cpu_ms: { webhook: 1, api_call: 5, batch: 2, message_in_batch: 1 },
  object_ms_per_request: 10,
};

/** @typedef {Record<string, number>} Operations per message */

/**
 * Dollars for a million messages, by what they are for.
 * @param {Operations} each
 */
export function billPerMillion(each) {
  const of = (/** @type {string} */ name) => each[name] ?? 0;
  const { cpu_ms: cpu } = ASSUMED;
  const cpuMs =
    of("webhooks") * cpu.webhook +
    of("api_calls") * cpu.api_call +
    of("batches") * cpu.batch +
    of("messages") * cpu.message_in_batch;
  const lines = {
    requests: (of("webhooks") + of("api_calls") + of("batches")) * PRICES.requests,
    cpu: cpuMs * PRICES.cpu_ms,
    queues: of("queue_operations") * PRICES.queue_operations,
    d1_writes: of("d1_rows_written") * PRICES.rows_written,
    d1_reads: of("d1_rows_read") * PRICES.rows_read,
    object_requests: of("object_requests") * PRICES.object_requests,
    object_time: of("object_requests") * (ASSUMED.object_ms_per_request / 1000) * 0.128 * PRICES.object_gb_seconds,
    object_writes: of("object_rows_written") * PRICES.rows_written,
    object_reads: of("object_rows_read") * PRICES.rows_read,
    r2: of("bucket_writes") * PRICES.bucket_writes + of("bucket_reads") * PRICES.bucket_reads,
    logs: of("logs") * PRICES.logs,
  };
  const total = Object.values(lines).reduce((sum, value) => sum + value, 0);
  return { total, lines };
}
