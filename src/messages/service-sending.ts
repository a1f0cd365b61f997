/**
 * The sending pipeline (pipeline 2–5): gate, claim, journal, call, result. Every step may be the last one before a
 * crash; what a step leaves behind, a redelivery or the sweep takes up without a second call.
 */
import type { PhoneNumber } from "../phone-numbers/service";
import { gateOf, messagesPerSecond, noteBlocked, numbersById } from "../phone-numbers/service-pipeline";
import { errorFields, log } from "../platform/log";
import { callObject } from "../platform/objects";
import { type Runtime, shard } from "../platform/runtime";
import { enqueueSends, type SendJob } from "./jobs";
import { inParallel, SendBatch } from "./send-batch";
import { announceStatuses } from "./service-announce";
import { claimQueued } from "./store-sending";

/** Gates asked at a time. */
const GATES = 5;

/**
 * Handles a batch of send jobs. Each is settled then: sent, failed, handed back with a fresh job, or left to whoever
 * holds it. Answers those whose shard or gate did not answer, to be delivered again: they keep none of the others from
 * their turn.
 */
export async function handleSendJobs(
  rt: Runtime,
  jobs: readonly SendJob[],
  redelivered: boolean,
): Promise<readonly SendJob[]> {
  // In the order in which they were accepted (ids are UUIDv7), so that what is granted first may also go first.
  const distinct = [...new Map(jobs.map((job) => [`${job.workspaceId} ${job.id}`, job])).values()].sort((a, b) =>
    a.id < b.id ? -1 : 1,
  );
  const again: SendJob[] = [];
  for (const [number, ofShard] of Map.groupBy(distinct, (job) => job.shard)) {
    try {
      again.push(...(await sendShard(rt, number, ofShard, redelivered)));
    } catch (error) {
      again.push(...ofShard);
      log("error", "outbound.shard_failed", { shard: number, jobs: ofShard.length, ...errorFields(error) });
    }
  }
  return again;
}

async function sendShard(
  rt: Runtime,
  shardNumber: number,
  jobs: readonly SendJob[],
  redelivered: boolean,
): Promise<readonly SendJob[]> {
  const db = shard(rt, shardNumber);
  const byNumber = [...Map.groupBy(jobs, (job) => `${job.workspaceId} ${job.phoneNumberId}`).values()];
  const wanted = byNumber.flatMap(([job]) => (job ? [{ workspaceId: job.workspaceId, id: job.phoneNumberId }] : []));
  const numbers = await numbersById(db, wanted);
  const { granted, probing, again } = await passGates(rt, shardNumber, numbers, byNumber);
  if (granted.length === 0) return again;

  const claimedAt = rt.clock();
  const leaseUntil = claimedAt + rt.config.PIPELINE.lease;
  const claim = await claimQueued(db, granted, { now: claimedAt, leaseUntil, token: rt.newId() });
  await enqueueSends(
    rt,
    claim.later.map(({ dueAt, ...job }) => ({ job: { ...job, shard: shardNumber }, delayMs: dueAt - claimedAt })),
  );
  const claimedOf = new Set(claim.claimed.map((message) => message.phoneNumberId));
  for (const id of probing) {
    const number = numbers.get(id);
    if (number && !claimedOf.has(id)) await returnProbe(rt, number);
  }
  const batch = new SendBatch(rt, { shardNumber, numbers, probing, claimedAt });
  batch.wakeBehind(claim.refused);
  await announceStatuses(
    rt,
    redelivered ? [...claim.refused, ...claim.settled] : claim.refused,
    db.bookmark,
    shardNumber,
  );
  await batch.call(claim.claimed);
  return again;
}

interface Passed {
  granted: SendJob[];
  /** Numbers whose gate is closed and let one message through. */
  probing: Set<string>;
  /** Whose gate did not answer. */
  again: SendJob[];
}

/** Asks each number's gate once, for all of its jobs. */
async function passGates(
  rt: Runtime,
  shardNumber: number,
  numbers: ReadonlyMap<string, PhoneNumber>,
  byNumber: readonly SendJob[][],
): Promise<Passed> {
  const passed: Passed = { granted: [], probing: new Set(), again: [] };
  await inParallel(byNumber, GATES, async (jobs) => {
    const number = numbers.get(jobs[0]?.phoneNumberId ?? "");
    try {
      // Without its number a message is claimed all the same: the claim is what fails it.
      passed.granted.push(...(number ? await reserve(rt, shardNumber, number, jobs, passed.probing) : jobs));
    } catch (error) {
      passed.again.push(...jobs);
      log("error", "gate.unanswered", { phone_number_id: number?.id, jobs: jobs.length, ...errorFields(error) });
    }
  });
  return passed;
}

/** What the gate does not grant gets a fresh job with the exact delay; behind a closed gate it waits for the sweep. */
async function reserve(
  rt: Runtime,
  shardNumber: number,
  number: PhoneNumber,
  jobs: readonly SendJob[],
  probing: Set<string>,
): Promise<SendJob[]> {
  const gate = gateOf(rt, number.workspaceId, number.id);
  const perSecond = messagesPerSecond(number);
  const answer = await callObject(() =>
    gate.reserve(jobs.length, perSecond, rt.clock(), rt.config.PIPELINE.blockedProbe),
  );
  const rest = jobs.slice(answer.granted);
  if (answer.closed === null) {
    await enqueueSends(
      rt,
      rest.map((job) => ({ job, delayMs: answer.wait })),
    );
  } else {
    if (answer.granted > 0) probing.add(number.id);
    // Whoever closed the gate may have died before saying so.
    if (number.blockedReason === null) await noteBlocked(rt, shardNumber, number, answer.closed.reason);
  }
  return jobs.slice(0, answer.granted);
}

async function returnProbe(rt: Runtime, number: PhoneNumber): Promise<void> {
  try {
    await gateOf(rt, number.workspaceId, number.id).returnProbe(rt.clock());
  } catch (error) {
    // The next probe is a few minutes later then.
    log("warn", "gate.probe_lost", {
      workspace_id: number.workspaceId,
      phone_number_id: number.id,
      ...errorFields(error),
    });
  }
}
