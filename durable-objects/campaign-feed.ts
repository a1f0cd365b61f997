import { z } from "zod";
import { errorFields, log } from "../src/platform/log";
import type { GateTimers } from "./gate-timers";

const TIMER = "feed";

/** A job whose consumer was not heard of is given out again after this time (ms). */
const UNHEARD = 30_000;

/** The job that feeds this number's campaigns, as the Worker words it; kept and given out, never read. */
const feedOrder = z.record(z.string(), z.union([z.string(), z.number()]));
export type FeedOrder = z.infer<typeof feedOrder>;

/**
 * The pace of a number's campaigns: campaigns are pulled, not pushed. By alarm it gives out one job, "make messages of
 * those who are next"; the consumer asks the gate how many, does the work in one transaction, and says when the next job is wanted.
 *
 * Why a job and not the work itself: the job carries no state. It may be lost (the next one is given out after 30 s
 * unless somebody reported, and the minute's cron begins anew), doubled (the second finds nobody waiting whom the first
 * took, and no share left), or late (nothing piles up, because one is out at a time). Who was taken is known to the
 * database alone, in the transaction that makes the messages.
 */
export class CampaignFeed {
  readonly #storage: DurableObjectStorage;
  readonly #timers: GateTimers;
  readonly #give: (order: FeedOrder) => Promise<void>;

  constructor(storage: DurableObjectStorage, timers: GateTimers, give: (order: FeedOrder) => Promise<void>) {
    this.#storage = storage;
    this.#timers = timers;
    this.#give = give;
    storage.sql.exec("CREATE TABLE IF NOT EXISTS feed (one INTEGER PRIMARY KEY, job TEXT NOT NULL)");
  }

  /** There is something to send: the next job goes out at `now` (ms), unless one is about to. */
  async begin(order: FeedOrder, now: number): Promise<void> {
    const job = JSON.stringify(order);
    if (this.#job() !== job) {
      this.#storage.sql.exec(
        "INSERT INTO feed (one, job) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET job = excluded.job",
        job,
      );
    }
    await this.resume(now);
  }

  /** As `begin`, for a number that had something to send before; nothing for one that never had. */
  async resume(now: number): Promise<void> {
    if (this.#job() !== null) await this.#timers.set(TIMER, now);
  }

  /** The consumer of a job is done: the next one is wanted after so many ms, or, with null, when somebody begins. */
  async reported(wanted: number | null, now: number): Promise<void> {
    if (wanted === null) this.#timers.clear(TIMER);
    else await this.#timers.set(TIMER, now + wanted);
  }

  /** Gives out a job, if it is this timer's time. */
  async onTimer(timer: string, now: number): Promise<void> {
    const job = this.#job();
    if (timer !== TIMER || job === null) return;
    await this.#timers.set(TIMER, now + UNHEARD);
    try {
      await this.#give(feedOrder.parse(JSON.parse(job)));
    } catch (error) {
      // The next time is set already.
      log("warn", "campaign.feed_lost", errorFields(error));
    }
  }

  #job(): string | null {
    const row = this.#storage.sql.exec<{ job: string }>("SELECT job FROM feed").toArray()[0];
    return row?.job ?? null;
  }
}
