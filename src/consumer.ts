/**
 * The only place where queue messages are acknowledged or retried.
 *
 * - A message that does not parse can never be handled: it goes to the dead letters and is acknowledged.
 * - A handler that returns has settled every job it got (stored, sent, handed on, or kept as a dead letter): ack. The
 *   jobs it answers met something that may pass, such as a shard that does not answer: they alone are retried.
 * - A handler that throws met something that may pass and concerns them all: the whole batch is retried. Delays are
 *   capped and jittered. Handlers may run twice, so what they had done already does no harm.
 * - What a queue gives up on arrives in `dead-letters`, whose own batch is retried until R2 and D1 took it.
 */
import { z } from "zod";
import { ASSISTANTS_AT_ONCE, handleAsks, handleAutoReplies } from "./auto-replies/jobs";
import { askJobSchema, runJobSchema } from "./auto-replies/service-order";
import { handleMergeJob, mergeJobSchema } from "./contacts/jobs";
import { handleImportJob, importJobSchema } from "./imports/jobs";
import { webhookJobSchema } from "./inbound/jobs";
import { handleWebhookJobs } from "./inbound/service-consume";
import { handleDeadJob } from "./inbound/service-dead-letters";
import { handleMediaJobs, mediaJobSchema } from "./media/jobs";
import { sendJobSchema } from "./messages/jobs";
import { handleSendJobs } from "./messages/service-sending";
import { unreachable } from "./platform/errors";
import { errorFields, log } from "./platform/log";
import { createRuntime, type Runtime } from "./platform/runtime";
import { handleStatusJobs } from "./statuses/jobs";
import { statusJobSchema } from "./statuses/service-jobs";
import { handleWakes } from "./webhook-endpoints/jobs";
import { wakeJobSchema } from "./webhook-endpoints/service-wake";
import { handleSyncJobs } from "./wordpress/jobs";
import { syncJobSchema } from "./wordpress/service-jobs";

/**
 * Seconds. A delay is at least half of its ceiling, so 100 retries span more than a day: a long outage of D1 loses no
 * webhook (pipeline 15).
 */
const RETRY_BASE = 2;
const RETRY_CAP = 2000;

const outboundJobSchema = z.discriminatedUnion("kind", [sendJobSchema, statusJobSchema]);
const bulkJobSchema = z.discriminatedUnion("kind", [mergeJobSchema, importJobSchema, syncJobSchema]);
type OutboundJob = z.infer<typeof outboundJobSchema>;
type BulkJob = z.infer<typeof bulkJobSchema>;

const deliveryJobSchema = z.discriminatedUnion("kind", [wakeJobSchema, runJobSchema, askJobSchema]);
type DeliveryJob = z.infer<typeof deliveryJobSchema>;
/** Six are the platform's limit, and the database needs one. */
const DELIVERY_CONNECTIONS = 5;

/** Answers the jobs that must come again; nothing when all are settled. */
type Handler<T> = (rt: Runtime, jobs: T[], redelivered: boolean) => Promise<readonly T[] | undefined>;

/** Handles one batch of one queue. Never throws: what went wrong is retried with a delay. */
export async function consume(
  batch: MessageBatch<unknown>,
  env: Env,
  overrides?: Parameters<typeof createRuntime>[1],
): Promise<void> {
  const startedAt = Date.now();
  try {
    const rt = createRuntime(env, overrides);
    switch (batch.queue) {
      case "inbound":
        await settle(rt, batch, webhookJobSchema, handleWebhookJobs);
        break;
      case "outbound":
        await settle(rt, batch, outboundJobSchema, handleOutboundJobs);
        break;
      case "bulk":
        await settle(rt, batch, bulkJobSchema, handleBulkJobs);
        break;
      case "media-jobs":
        await settle(rt, batch, mediaJobSchema, handleMediaJobs);
        break;
      case "deliveries":
        await settle(rt, batch, deliveryJobSchema, handleDeliveries);
        break;
      default:
        // What the others gave up on; and of queues that have no jobs in this version whatever lies there.
        for (const message of batch.messages) await bury(rt, batch, message);
    }
    batch.ackAll();
    log("info", "queue.batch", { queue: batch.queue, messages: batch.messages.length, ms: Date.now() - startedAt });
  } catch (error) {
    const attempts = Math.max(...batch.messages.map((message) => message.attempts));
    const delaySeconds = retryDelay(attempts);
    log("error", "queue.batch_failed", {
      queue: batch.queue,
      messages: batch.messages.length,
      attempts,
      delay: delaySeconds,
      ...errorFields(error),
    });
    batch.retryAll({ delaySeconds });
  }
}

/** People wait for answers, so those come first. What waits for others' servers goes side by side, over five connections. */
async function handleDeliveries(rt: Runtime, jobs: readonly DeliveryJob[]): Promise<readonly DeliveryJob[]> {
  const runs = await handleAutoReplies(
    rt,
    jobs.filter((job) => job.kind === "auto_reply.run"),
  );
  const asks = jobs.filter((job) => job.kind === "auto_reply.ask");
  const wakes = jobs.filter((job) => job.kind === "webhook.wake");
  const again = await Promise.all([
    handleAsks(rt, asks),
    handleWakes(rt, wakes, asks.length > 0 ? DELIVERY_CONNECTIONS - ASSISTANTS_AT_ONCE : DELIVERY_CONNECTIONS),
  ]);
  return [...runs, ...again.flat()];
}

/** Of the six connections of an invocation sends take five. */
async function handleOutboundJobs(
  rt: Runtime,
  jobs: OutboundJob[],
  redelivered: boolean,
): Promise<readonly OutboundJob[]> {
  const sends = jobs.filter((job) => job.kind === "message.send");
  const statuses = jobs.filter((job) => job.kind === "status.apply");
  const [again, later] = await Promise.all([
    sends.length === 0 ? [] : handleSendJobs(rt, sends, redelivered),
    handleStatusJobs(rt, statuses, sends.length === 0 ? 5 : 1),
  ]);
  return [...again, ...later];
}

/** Sites answer when they like: whatever else is in the batch goes on beside them. */
async function handleBulkJobs(rt: Runtime, jobs: BulkJob[]): Promise<readonly BulkJob[]> {
  const syncs = handleSyncJobs(
    rt,
    jobs.filter((job) => job.kind === "wordpress.sync"),
  );
  try {
    for (const job of jobs) if (job.kind !== "wordpress.sync") await handleBulkJob(rt, job);
  } finally {
    await syncs;
  }
  return syncs;
}

async function handleBulkJob(rt: Runtime, job: Exclude<BulkJob, { kind: "wordpress.sync" }>): Promise<void> {
  switch (job.kind) {
    case "contact.merge":
      return handleMergeJob(rt, job);
    case "contact.import":
      return handleImportJob(rt, job);
    default:
      return unreachable(job);
  }
}

async function settle<T>(
  rt: Runtime,
  batch: MessageBatch<unknown>,
  schema: z.ZodType<T>,
  handler: Handler<T>,
): Promise<void> {
  const jobs = new Map<T, Message<unknown>>();
  for (const message of batch.messages) {
    const job = schema.safeParse(message.body);
    if (job.success) jobs.set(job.data, message);
    else await bury(rt, batch, message);
  }
  if (jobs.size === 0) return;
  const redelivered = batch.messages.some((message) => message.attempts > 1);
  const again = await handler(rt, [...jobs.keys()], redelivered);
  for (const job of again ?? []) {
    const message = jobs.get(job);
    message?.retry({ delaySeconds: retryDelay(message.attempts) });
  }
}

function bury(rt: Runtime, batch: MessageBatch<unknown>, message: Message<unknown>): Promise<void> {
  return handleDeadJob(rt, batch.queue, message.body, message.timestamp.getTime());
}

/** Seconds; jitter over the upper half of an exponential curve. */
function retryDelay(attempts: number): number {
  const ceiling = Math.min(RETRY_CAP, RETRY_BASE * 2 ** Math.min(attempts, 20));
  return Math.round(ceiling / 2 + (Math.random() * ceiling) / 2);
}
