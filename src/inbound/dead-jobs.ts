import { z } from "zod";
import { mergeJobSchema } from "../contacts/jobs";
import { importJobSchema } from "../imports/jobs";
import { mediaJobSchema } from "../media/jobs";
import { sendJobSchema } from "../messages/jobs";
import { AppError, unreachable } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import { workspacesOf } from "./consume";
import { type DeadLetter, keepUnowned, markReplayed, writeDeadLetter } from "./dead-letters";
import { webhookJobSchema } from "./jobs";

const anyJob = z.union([webhookJobSchema, sendJobSchema, mergeJobSchema, importJobSchema, mediaJobSchema]);

/** Takes what the queues gave up on after their last retry: one dead letter per workspace it concerns. */
export async function handleDeadJob(rt: Runtime, queue: string, body: unknown): Promise<void> {
  const text = JSON.stringify(body);
  const reason = "The queue gave up after its last retry";
  const job = anyJob.safeParse(body);
  if (!job.success) return keepUnowned(rt, queue, text);
  const owners = job.data.kind === "webhook.part" ? await workspacesOf(rt, job.data) : [job.data];
  if (owners.length === 0) return keepUnowned(rt, queue, text);
  for (const { workspaceId, shard } of owners)
    await writeDeadLetter(rt, { workspaceId, shard, queue, reason, body: text });
}

/** Gives a dead letter's work back to its queue. Doing it twice does no harm: every job may run twice. */
export async function replayDeadLetter(rt: Runtime, letter: DeadLetter, shardNumber: number): Promise<void> {
  const object = await rt.env.MEDIA.get(letter.r2Key);
  if (!object) throw new AppError("not_found", "The body of this dead letter has expired");
  const job = anyJob.parse(await object.json());
  switch (job.kind) {
    case "webhook.part":
      await rt.env.INBOUND.send(job);
      break;
    case "message.send":
      await rt.env.OUTBOUND.send(job);
      break;
    case "contact.merge":
    case "contact.import":
      await rt.env.BULK.send(job);
      break;
    case "media.fetch":
      await rt.env.MEDIA_JOBS.send(job);
      break;
    default:
      unreachable(job);
  }
  await markReplayed(rt, letter, shardNumber);
}
