/** From what was received to jobs that answer it. */
import { z } from "zod";
import type { Message } from "../messages/service";
import type { Runtime } from "../platform/runtime";

export { selectAnswering } from "./store";

/** "Answer these messages, if a rule does": may run twice. */
export const runJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("auto_reply.run"),
  workspaceId: z.string(),
  shard: z.int(),
  messageIds: z.array(z.string()).min(1).max(100),
});

/** "Ask the assistant for an answer to this message": may run twice. */
export const askJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("auto_reply.ask"),
  workspaceId: z.string(),
  shard: z.int(),
  ruleId: z.string(),
  messageId: z.string(),
});

export type RunJob = z.infer<typeof runJobSchema>;
export type AskJob = z.infer<typeof askJobSchema>;

/** Older messages are nobody's surprise any more (pipeline 13). ms */
const ANSWERED_WITHIN = 900_000;

/** What no person says, or what says nothing. */
const NOT_ANSWERED = new Set(["system", "unsupported", "unknown", "reaction", "ephemeral"]);

/** One job's messages: a job that comes again does little twice. */
const PER_JOB = 20;

/**
 * Whether a message is one that rules look at: a person's own, live and fresh. What somebody only simulated causes no
 * real send (architecture 4).
 */
export function isAnswerable(message: Message, now: number): boolean {
  return (
    message.direction === "inbound" &&
    message.origin === "live" &&
    !NOT_ANSWERED.has(message.type) &&
    message.content.errors === undefined &&
    message.content.simulated !== true &&
    message.content.author === undefined &&
    now - message.at <= ANSWERED_WITHIN
  );
}

/**
 * Orders the answers to messages just stored, in workspaces that have rules. Throws when the queue does not take them:
 * then the batch comes again, and orders them again.
 */
export async function orderAutoReplies(
  rt: Runtime,
  shardNumber: number,
  answering: ReadonlySet<string>,
  messages: readonly Message[],
): Promise<void> {
  const now = rt.clock();
  const asked = messages.filter((message) => answering.has(message.workspaceId) && isAnswerable(message, now));
  const jobs: RunJob[] = [];
  for (const [workspaceId, own] of Map.groupBy(asked, (message) => message.workspaceId)) {
    for (let start = 0; start < own.length; start += PER_JOB) {
      const messageIds = own.slice(start, start + PER_JOB).map((message) => message.id);
      jobs.push({ v: 1, kind: "auto_reply.run", workspaceId, shard: shardNumber, messageIds });
    }
  }
  for (let start = 0; start < jobs.length; start += 100) {
    await rt.env.DELIVERIES.sendBatch(jobs.slice(start, start + 100).map((body) => ({ body })));
  }
}
