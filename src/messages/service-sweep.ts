/** The cron's side of sending (pipeline 6): whatever a crash, a lost job or a blocked number left behind goes on. */
import { gateOf, numbersById } from "../phone-numbers/service-pipeline";
import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { callObject } from "../platform/objects";
import { type Runtime, shard } from "../platform/runtime";
import { providerFor } from "../providers/registry";
import { enqueueSends, MAX_DELAY_MS } from "./jobs";
import { announceStatuses } from "./service-announce";
import type { Message } from "./store";
import type { NextOpen } from "./store-sending";
import {
  expireOpen,
  releaseLeases,
  selectWalk,
  settleAmbiguous,
  takeOverdue,
  takeScheduled,
  type Walk,
} from "./store-sweep";

/** Journal entries are kept at least this long (durable-objects/gate); older leases count as called. */
const JOURNAL_TRUSTED = 5 * 3_600_000;
/** Planned messages are enqueued this long before they are due, with their exact delay. */
const SCHEDULE_AHEAD = 120_000;

/**
 * One shard's sweep at `now` (ms, the cron's own time). Every step is conditional: two sweeps at once do no harm. The
 * steps stand for themselves, so that one that fails keeps none of the others from its turn; then it throws.
 */
export async function sweepShard(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const sweep = new Sweep(rt, shardNumber, now);
  const walk = await selectWalk(sweep.db);
  const failures: unknown[] = [];
  const steps = [
    () => sweep.endLeases(walk),
    () => sweep.takeScheduled(),
    () => sweep.takeOverdue(walk),
    () => sweep.settleAmbiguous(),
  ];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
      log("error", "outbound.sweep_failed", { shard: shardNumber, ...errorFields(error) });
    }
  }
  if (Object.values(sweep.found).some((n) => n > 0))
    log("info", "outbound.swept", { shard: shardNumber, ...sweep.found });
  if (failures.length > 0) throw new AggregateError(failures, `${failures.length} steps of the sweep failed`);
}

/** An orphaned claim, and what its number's gate and provider make of it. */
interface Decided {
  message: Message;
  /** It may have been called. */
  called: boolean;
  /** Calling again under the same id does no harm. */
  repeatable: boolean;
}

class Sweep {
  readonly db: Db;
  readonly found = { overdue: 0, planned: 0, requeued: 0, ambiguous: 0, expired: 0, given_up: 0, resent: 0 };

  constructor(
    readonly rt: Runtime,
    readonly shardNumber: number,
    readonly now: number,
  ) {
    this.db = shard(rt, shardNumber);
  }

  async endLeases(walk: Walk): Promise<void> {
    const { expired, expiredLeases } = await expireOpen(this.db, walk, this.now);
    this.found.expired = expired.length;
    await announceStatuses(this.rt, expired, this.db.bookmark, this.shardNumber);
    const decided = await this.#decide(expiredLeases);
    if (decided.length === 0) return;
    const { requeued, ambiguous, next } = await releaseLeases(this.db, decided, this.now);
    this.found.requeued = requeued.length;
    this.found.ambiguous = ambiguous.length;
    await this.#enqueue([...requeued, ...next]);
  }

  async takeScheduled(): Promise<void> {
    const { overdue, soon } = await takeScheduled(this.db, {
      now: this.now,
      overdue: this.now - this.rt.config.PIPELINE.sweepAfter,
      until: this.now + SCHEDULE_AHEAD,
      ahead: MAX_DELAY_MS,
    });
    this.found.planned = overdue.length;
    await this.#enqueue([...overdue, ...soon]);
  }

  async takeOverdue(walk: Walk): Promise<void> {
    const overdue = await takeOverdue(this.db, walk, this.now, this.now - this.rt.config.PIPELINE.sweepAfter);
    this.found.overdue = overdue.length;
    await this.#enqueue(overdue);
  }

  async settleAmbiguous(): Promise<void> {
    const { failed, resent } = await settleAmbiguous(this.db, this.now, this.rt.config.PIPELINE.unknownAfter);
    this.found.given_up = failed.length;
    this.found.resent = resent.length;
    await this.#enqueue(resent);
    await announceStatuses(this.rt, failed, this.db.bookmark, this.shardNumber);
  }

  async #enqueue(rows: readonly NextOpen[]): Promise<void> {
    await enqueueSends(
      this.rt,
      rows.map(({ workspaceId, phoneNumberId, id, notBefore }) => ({
        job: { workspaceId, shard: this.shardNumber, phoneNumberId, id },
        delayMs: Math.max(0, notBefore - this.now),
      })),
    );
  }

  /**
   * Asks each number's gate which of the orphaned claims may have been called. Claims of a gate that does not answer
   * wait for the next sweep; its silence is no reason to leave those of the others.
   */
  async #decide(orphans: readonly Message[]): Promise<Decided[]> {
    if (orphans.length === 0) return [];
    const decided: Decided[] = [];
    const numbers = await numbersById(
      this.db,
      orphans.map((m) => ({ workspaceId: m.workspaceId, id: m.phoneNumberId })),
    );
    for (const [phoneNumberId, messages] of Map.groupBy(orphans, (m) => m.phoneNumberId)) {
      const called = await this.#journaled(messages[0]?.workspaceId ?? "", phoneNumberId, messages);
      const number = numbers.get(phoneNumberId);
      const repeatable = number !== undefined && providerFor(this.rt, number.provider).repeatable;
      for (const message of messages) {
        const forgotten = (message.leaseUntil ?? 0) < this.now - JOURNAL_TRUSTED;
        if (forgotten) decided.push({ message, called: true, repeatable });
        else if (called) decided.push({ message, called: called.has(`${message.id}.${message.attempts}`), repeatable });
      }
    }
    return decided;
  }

  async #journaled(
    workspaceId: string,
    phoneNumberId: string,
    messages: readonly Message[],
  ): Promise<Set<string> | null> {
    try {
      const gate = gateOf(this.rt, workspaceId, phoneNumberId);
      return new Set(await callObject(() => gate.journaled(messages.map((m) => `${m.id}.${m.attempts}`))));
    } catch (error) {
      log("error", "gate.journal_unread", {
        workspace_id: workspaceId,
        phone_number_id: phoneNumberId,
        ...errorFields(error),
      });
      return null;
    }
  }
}
