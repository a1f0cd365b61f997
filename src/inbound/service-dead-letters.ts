/** What a queue or a statement gave up on: in R2 first, then indexed in the workspace's shard, shown and replayable. */
import { z } from "zod";
import { AppError } from "../platform/errors";
import { log } from "../platform/log";
import { directory, type Runtime, shard } from "../platform/runtime";
import { letterId } from "./event-id";
import { webhookJobSchema } from "./jobs";
import { BodyGone, parseJob } from "./parse";
import { routeEvents } from "./routing";
import { type DeadLetter, insertDeadLetter, updateReplayed } from "./store";

/** Whose lost work is, and where they are. */
interface LetterOwner {
  workspaceId: string;
  shard: number;
}

/** Which queue does which work. Whoever takes it there checks the rest of it. */
const QUEUES = {
  "webhook.part": "INBOUND",
  "message.send": "OUTBOUND",
  "contact.merge": "BULK",
  "contact.import": "BULK",
  "wordpress.sync": "BULK",
  "status.apply": "OUTBOUND",
  "media.fetch": "MEDIA_JOBS",
  "webhook.wake": "DELIVERIES",
  "auto_reply.run": "DELIVERIES",
  "auto_reply.ask": "DELIVERIES",
} as const;

const anyJob = z.looseObject({
  kind: z.enum([
    "webhook.part",
    "message.send",
    "contact.merge",
    "contact.import",
    "wordpress.sync",
    "status.apply",
    "media.fetch",
    "webhook.wake",
    "auto_reply.run",
    "auto_reply.ask",
  ]),
});
const ownedJob = z.looseObject({ workspaceId: z.string(), shard: z.int() });

/** Work that was given up, and when (ms). */
interface LostWork {
  queue: string;
  job: unknown;
  reason: string;
  at: number;
}

/**
 * Keeps lost work in R2 and as a dead letter of each of its owners; without owners an operator finds it in R2. The
 * same work lost twice is one letter. Throws when R2 or a shard did not take it: then it must be tried again.
 */
export async function buryJob(rt: Runtime, lost: LostWork, owners: readonly LetterOwner[]): Promise<void> {
  await indexLetters(rt, lost, await keepBody(rt, lost), owners);
}

/** Takes what a queue gave up on after its last retry: a dead letter for each workspace it concerns. */
export async function handleDeadJob(rt: Runtime, queue: string, job: unknown, at: number): Promise<void> {
  const known = anyJob.safeParse(job);
  // The queue of dead letters says nothing of where they come from.
  const from = known.success ? QUEUES[known.data.kind].toLowerCase().replace("_", "-") : queue;
  const lost = { queue: from, job, reason: "The queue gave up after its last retry", at };
  // Kept before anybody is asked whose it is: the databases may be what does not answer.
  const kept = await keepBody(rt, lost);
  await indexLetters(rt, lost, kept, await ownersOf(rt, job));
}

interface Kept {
  id: string;
  r2Key: string;
}

async function keepBody(rt: Runtime, { queue, job, at }: LostWork): Promise<Kept> {
  const text = JSON.stringify(job);
  const id = await letterId(at, `${queue}\n${text}`);
  const r2Key = `dead-letters/${id}.json`;
  await rt.env.MEDIA.put(r2Key, text);
  return { id, r2Key };
}

async function indexLetters(
  rt: Runtime,
  { queue, reason, at }: LostWork,
  { id, r2Key }: Kept,
  owners: readonly LetterOwner[],
): Promise<void> {
  for (const { workspaceId, shard: number } of owners) {
    const letter = { workspaceId, id, queue, reason, r2Key, createdAt: at, replayedAt: null };
    await insertDeadLetter(shard(rt, number), letter);
  }
  log("error", "dead_letter", { queue, reason, owners: owners.length, r2_key: r2Key });
}

async function ownersOf(rt: Runtime, body: unknown): Promise<LetterOwner[]> {
  const owned = ownedJob.safeParse(body);
  if (owned.success) return [owned.data];
  const job = webhookJobSchema.safeParse(body);
  if (!job.success) return [];
  try {
    const { routed } = await routeEvents(rt, directory(rt), await parseJob(rt, job.data));
    return [...new Map(routed.map(({ workspaceId, shard }) => [workspaceId, { workspaceId, shard }])).values()];
  } catch (error) {
    if (error instanceof BodyGone) return [];
    throw error;
  }
}

/** Gives a dead letter's work back to its queue. Doing it twice does no harm: every job may run twice. */
export async function replayDeadLetter(rt: Runtime, letter: DeadLetter, shardNumber: number): Promise<void> {
  const object = await rt.env.MEDIA.get(letter.r2Key);
  if (!object) throw new AppError("not_found", "The body of this dead letter has expired");
  const job = anyJob.safeParse(await object.json());
  if (!job.success) throw new AppError("conflict", "This version does not know this kind of work");
  await rt.env[QUEUES[job.data.kind]].send(job.data);
  await updateReplayed(shard(rt, shardNumber), letter.workspaceId, letter.id, rt.clock());
}
