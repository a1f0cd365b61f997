/**
 * The only place where queue messages are acknowledged or retried.
 *
 * - A message that does not parse can never be handled: it goes to the dead letters and is acknowledged.
 * - A handler that returns has settled every job it got (stored, sent, handed on, or kept as a dead letter): ack.
 * - A handler that throws met something that may pass (database, object or bucket not answering): the whole batch is
 *   retried with a capped, jittered delay. Handlers may run twice, so what they had done already does no harm.
 * - What a queue gives up on arrives in `dead-letters`, whose own batch is retried until R2 and D1 took it.
 */
import { z } from "zod";
import { handleMergeJob, mergeJobSchema } from "./contacts/jobs";
import { handleImportJob, importJobSchema } from "./imports/jobs";
import { handleWebhookJobs } from "./inbound/consume";
import { handleDeadJob } from "./inbound/dead-jobs";
import { webhookJobSchema } from "./inbound/jobs";
import { handleMediaJobs, mediaJobSchema } from "./media/jobs";
import { sendJobSchema } from "./messages/jobs";
import { handleSendJobs } from "./messages/sending";
import { unreachable } from "./platform/errors";
import { errorFields, log } from "./platform/log";
import { createRuntime, type Runtime } from "./platform/runtime";

/** Seconds. 100 retries at up to 20 minutes span more than a day: a long outage of D1 loses no webhook (pipeline 15). */
const RETRY_BASE = 2;
const RETRY_CAP = 1200;

const bulkJobSchema = z.discriminatedUnion("kind", [mergeJobSchema, importJobSchema]);

type Handler<T> = (rt: Runtime, jobs: T[], redelivered: boolean) => Promise<void>;

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
        await settle(rt, batch, sendJobSchema, handleSendJobs);
        break;
      case "bulk":
        await settle(rt, batch, bulkJobSchema, async (runtime, jobs) => {
          for (const job of jobs) await handleBulkJob(runtime, job);
        });
        break;
      case "media-jobs":
        await settle(rt, batch, mediaJobSchema, handleMediaJobs);
        break;
      case "dead-letters":
        for (const message of batch.messages) await handleDeadJob(rt, "dead-letters", message.body);
        break;
      default:
        // No job of these queues exists in this version; whatever lies there is kept, not dropped.
        for (const message of batch.messages) await handleDeadJob(rt, batch.queue, message.body);
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

async function handleBulkJob(rt: Runtime, job: z.infer<typeof bulkJobSchema>): Promise<void> {
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
  const jobs: T[] = [];
  for (const message of batch.messages) {
    const job = schema.safeParse(message.body);
    if (job.success) jobs.push(job.data);
    else await handleDeadJob(rt, batch.queue, message.body);
  }
  const redelivered = batch.messages.some((message) => message.attempts > 1);
  if (jobs.length > 0) await handler(rt, jobs, redelivered);
}

/** Full jitter over an exponential curve with a floor of a second. */
function retryDelay(attempts: number): number {
  const ceiling = Math.min(RETRY_CAP, RETRY_BASE * 2 ** Math.min(attempts, 20));
  return Math.max(1, Math.round(Math.random() * ceiling));
}
