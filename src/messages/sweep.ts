/** The cron's side of sending (pipeline 6): whatever a crash, a lost job or a blocked number left behind goes on. */
import { gateOf } from "../phone-numbers/service-pipeline";
import { log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { enqueueSends } from "./jobs";
import { announceStatuses } from "./sending";
import type { Message } from "./store";
import { type NextOpen, releaseLeases, selectScheduledDue, settleAmbiguous, sweepOpen } from "./store-sending";

/** Journal entries are kept at least this long (durable-objects/gate); older leases count as called. */
const JOURNAL_TRUSTED = 5 * 3_600_000;
/** Planned messages are enqueued this long before they are due, with their exact delay. */
const SCHEDULE_AHEAD = 120_000;

/** One shard's sweep at `now` (ms, the cron's own time). Every step is conditional: two sweeps at once do no harm. */
export async function sweepShard(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const db = shard(rt, shardNumber);
  const { overdue, expiredLeases, expired } = await sweepOpen(db, now, now - rt.config.PIPELINE.sweepAfter);
  const decided = await decideLeases(rt, expiredLeases, now);
  const { requeued, ambiguous } =
    decided.length === 0 ? { requeued: [], ambiguous: [] } : await releaseLeases(db, decided, now);
  const { failed, resent } = await settleAmbiguous(db, now, rt.config.PIPELINE.unknownAfter);
  const scheduled = await selectScheduledDue(db, now + SCHEDULE_AHEAD);
  const jobs = (rows: readonly NextOpen[], at: (row: NextOpen) => number) =>
    rows.map((row) => ({
      job: { workspaceId: row.workspaceId, shard: shardNumber, phoneNumberId: row.phoneNumberId, id: row.id },
      delayMs: Math.max(0, at(row) - now),
    }));
  await enqueueSends(
    rt,
    jobs([...overdue, ...requeued, ...resent], () => now),
  );
  await enqueueSends(
    rt,
    jobs(scheduled, (row) => row.notBefore),
  );
  await announceStatuses(rt, [...expired, ...failed], db.bookmark);
  const found = {
    overdue: overdue.length,
    requeued: requeued.length,
    ambiguous: ambiguous.length,
    expired: expired.length,
    given_up: failed.length,
  };
  if (Object.values(found).some((n) => n > 0)) log("info", "outbound.swept", { shard: shardNumber, ...found });
}

/** Asks each number's gate which of the orphaned claims may have been called. */
async function decideLeases(
  rt: Runtime,
  orphans: readonly Message[],
  now: number,
): Promise<{ message: Message; called: boolean }[]> {
  const decided: { message: Message; called: boolean }[] = [];
  for (const [phoneNumberId, messages] of Map.groupBy(orphans, (m) => m.phoneNumberId)) {
    const entries = messages.map((m) => `${m.id}.${m.attempts}`);
    const called = new Set(await gateOf(rt, messages[0]?.workspaceId ?? "", phoneNumberId).journaled(entries));
    decided.push(
      ...messages.map((message) => ({
        message,
        called: called.has(`${message.id}.${message.attempts}`) || (message.leaseUntil ?? 0) < now - JOURNAL_TRUSTED,
      })),
    );
  }
  return decided;
}
