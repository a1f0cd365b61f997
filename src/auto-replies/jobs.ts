import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { answerByAssistant } from "./service-ask";
import type { AskJob, RunJob } from "./service-order";
import { purgeFirings } from "./service-retention";
import { answerMessages } from "./service-run";

/** Jobs done at a time. */
const ANSWERS_AT_ONCE = 3;
/** An assistant holds a connection for as long as it thinks. */
export const ASSISTANTS_AT_ONCE = 2;

/** ms after which the rest of a batch goes back to the queue: an invocation has 15 minutes in all. */
const BATCH_TIME = 480_000;

/** Answers messages. Answers the jobs whose database or queue did not answer. */
export function handleAutoReplies(rt: Runtime, jobs: readonly RunJob[]): Promise<readonly RunJob[]> {
  return each(rt, jobs, ANSWERS_AT_ONCE, (job) => answerMessages(rt, job));
}

/** Asks assistants for answers. Answers the jobs whose database or queue did not answer. */
export function handleAsks(rt: Runtime, jobs: readonly AskJob[]): Promise<readonly AskJob[]> {
  return each(rt, jobs, ASSISTANTS_AT_ONCE, (job) => answerByAssistant(rt, job));
}

async function each<T extends RunJob | AskJob>(
  rt: Runtime,
  jobs: readonly T[],
  width: number,
  run: (job: T) => Promise<void>,
): Promise<readonly T[]> {
  const startedAt = rt.clock();
  const queue = [...jobs];
  const again: T[] = [];
  const work = async () => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      try {
        if (rt.clock() - startedAt > BATCH_TIME) await rt.env.DELIVERIES.send(job);
        else await run(job);
      } catch (error) {
        again.push(job);
        log("error", "auto_replies.failed", { workspace_id: job.workspaceId, kind: job.kind, ...errorFields(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: width }, work));
  return again;
}

/** Cron, each night, per shard: firings and hand-overs that are over. */
export function purgeAutoReplies(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  return purgeFirings(shard(rt, shardNumber), now);
}
