import { GateTimers } from "./gate-timers";

/** Why nothing is sent, and when one message may try again. */
export interface GateClosed {
  reason: string;
  probeAt: number;
}

export interface Reservation {
  /** How many may be sent now. */
  granted: number;
  /** Ms to wait before asking again for the rest; 0 when all were granted. */
  wait: number;
  /** Set when the provider blocks the number; `granted` is then 0, or 1 for a probe. */
  closed: GateClosed | null;
}

export interface Share {
  /** How many messages campaigns may make now. */
  count: number;
  closed: GateClosed | null;
}

/** Of the throughput, what campaigns may use; the rest is kept for replies. Less for a while after "too fast". */
const BULK_SHARE = 0.8;
const SLOW_BULK_SHARE = 0.6;

/** Campaigns get what the number can send in the time since they last got some, at most this (ms), at first a second. */
const LONGEST_SHARE_MS = 5_000;
const FIRST_SHARE_MS = 1_000;

const PRUNE = "prune";

/** How long journal entries are kept. A lease is decided on within minutes; the sweep treats older ones as ambiguous. */
const JOURNAL_KEPT_MS = 6 * 3_600_000;

/** After the provider said "too fast", the number runs at half its rate for this long. */
const SLOW_MS = 60_000;

/** Clocks of several machines differ by less; one that is further behind was set back, and what it says counts. */
const SKEW_MS = 5_000;

/**
 * The gate of one phone number. A token bucket in memory (the provider allows n messages a second, in and out
 * together), and in SQLite what must survive: the journal of calls about to be made, and whether the gate is closed.
 */
export class Gate {
  readonly #storage: DurableObjectStorage;
  #tokens: number | null = null;
  #filledAt = 0;
  /** Until when the tokens to come were told to somebody as their waiting time. */
  #bookedUntil = 0;
  #pausedUntil = 0;
  #slowUntil = 0;
  #closed: GateClosed | null = null;
  #pruneSet = false;
  #sharedAt: number | null = null;
  readonly #timers: GateTimers;

  constructor(storage: DurableObjectStorage, timers = new GateTimers(storage)) {
    this.#storage = storage;
    this.#timers = timers;
    storage.sql.exec(
      "CREATE TABLE IF NOT EXISTS journal (wave INTEGER PRIMARY KEY, at INTEGER NOT NULL, entries TEXT NOT NULL)",
    );
    storage.sql.exec(
      "CREATE TABLE IF NOT EXISTS closed (one INTEGER PRIMARY KEY, reason TEXT NOT NULL, probe_at INTEGER NOT NULL)",
    );
    const row = storage.sql
      .exec<{ reason: string; probe_at: number }>("SELECT reason, probe_at FROM closed")
      .toArray()[0];
    this.#closed = row ? { reason: row.reason, probeAt: row.probe_at } : null;
  }

  /**
   * Takes up to `count` of the number's messages at `now` (ms). A closed gate grants one probe when its time has come.
   *
   * Whoever must wait is told a time of their own: told the same one, a thousand waiting messages would all come back
   * after a second, a hundred would pass, and the others would be written to the queue again and again.
   */
  reserve(count: number, perSecond: number, now: number, probeEvery: number): Reservation {
    if (this.#closed) {
      const closed = this.#closed;
      if (now < closed.probeAt) return { granted: 0, wait: closed.probeAt - now, closed };
      this.close({ reason: closed.reason, probeAt: now + probeEvery });
      return { granted: 1, wait: probeEvery, closed };
    }
    const rate = this.#rate(perSecond, now);
    const tokens = this.#refill(perSecond, now);
    const granted = now < this.#pausedUntil ? 0 : Math.max(0, Math.min(count, Math.floor(tokens)));
    this.#tokens = tokens - granted;
    const missing = count - granted;
    if (missing === 0) return { granted, wait: 0, closed: null };
    // What is left of the bucket (or owed to it, after a rush of inbound) counts only for those who wait first.
    const start = Math.max(now, this.#pausedUntil, this.#bookedUntil);
    const left = start === now ? this.#tokens : 0;
    this.#bookedUntil = start + Math.ceil(((missing - left) * 1000) / rate);
    return { granted, wait: this.#bookedUntil - now, closed: null };
  }

  /** A probe was granted that no message could use: the next one who asks has it. */
  returnProbe(now: number): void {
    if (this.#closed) this.close({ ...this.#closed, probeAt: now });
  }

  /** Inbound messages use the same throughput; they are never refused, they only leave less for sending. */
  count(count: number, perSecond: number, now: number): void {
    this.#tokens = Math.max(-perSecond, this.#refill(perSecond, now) - count);
  }

  /** Notes the calls of a wave, in one row, before the first of them starts: what is not in here was never called. */
  async begin(entries: string[], now: number): Promise<void> {
    this.#storage.sql.exec("INSERT INTO journal (at, entries) VALUES (?, ?)", now, JSON.stringify(entries));
    if (this.#pruneSet) return;
    this.#pruneSet = true;
    if (this.#timers.at(PRUNE) === null) await this.#timers.set(PRUNE, Date.now() + JOURNAL_KEPT_MS / 2);
  }

  /** Those of the entries whose call may have started. */
  journaled(entries: string[]): string[] {
    return this.#storage.sql
      .exec<{ value: string }>(
        `SELECT DISTINCT e.value AS value FROM journal, json_each(journal.entries) e
         WHERE e.value IN (SELECT value FROM json_each(?))`,
        JSON.stringify(entries),
      )
      .toArray()
      .map((row) => row.value);
  }

  /** The provider said "too fast": nothing until then, and half the rate for a minute. */
  throttled(until: number, now: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, until);
    this.#slowUntil = Math.max(this.#slowUntil, now + SLOW_MS);
    this.#tokens = Math.min(0, this.#tokens ?? 0);
    this.#filledAt = Math.max(this.#filledAt, now);
  }

  close(closed: GateClosed): void {
    this.#closed = closed;
    this.#storage.sql.exec(
      "INSERT INTO closed (one, reason, probe_at) VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE SET reason = excluded.reason, probe_at = excluded.probe_at",
      closed.reason,
      closed.probeAt,
    );
  }

  reopen(): boolean {
    if (!this.#closed) return false;
    this.#closed = null;
    this.#storage.sql.exec("DELETE FROM closed");
    return true;
  }

  /** Forgets what no lease can be decided by any more, if it is this timer's time. */
  async onTimer(timer: string, now: number): Promise<void> {
    if (timer === PRUNE) await this.prune(now);
  }

  async prune(now: number): Promise<void> {
    this.#storage.sql.exec("DELETE FROM journal WHERE at < ?", now - JOURNAL_KEPT_MS);
    const left = this.#storage.sql.exec<{ n: number }>("SELECT count(*) AS n FROM journal").one().n;
    this.#pruneSet = left > 0;
    if (left > 0) await this.#timers.set(PRUNE, now + JOURNAL_KEPT_MS / 2);
  }

  /**
   * How many messages campaigns may make at `now` (ms): their part of what the number sends in the time since they last
   * asked, without what is waiting for the number already. Nothing while the provider says "too fast", or while a rush
   * of inbound uses the throughput up.
   */
  share(perSecond: number, now: number): Share {
    if (this.#closed) return { count: 0, closed: this.#closed };
    const tokens = this.#refill(perSecond, now);
    if (now < this.#pausedUntil || tokens < 1) return { count: 0, closed: null };
    const part = now < this.#slowUntil ? SLOW_BULK_SHARE : BULK_SHARE;
    const rate = this.#rate(perSecond, now);
    const sharedAt = this.#sharedAt ?? now - FIRST_SHARE_MS;
    const since = Math.max(0, Math.min(LONGEST_SHARE_MS, now - sharedAt));
    const booked = (Math.max(0, this.#bookedUntil - now) * rate) / 1000;
    const exact = (since * rate * part) / 1000 - booked;
    const count = Math.max(0, Math.floor(exact));
    // What is too little for one more message is kept for the next time.
    this.#sharedAt = count === 0 ? sharedAt : now - ((exact - count) * 1000) / (rate * part);
    return { count, closed: null };
  }

  #rate(perSecond: number, now: number): number {
    return now < this.#slowUntil ? Math.max(1, perSecond / 2) : perSecond;
  }

  /** A bucket of 1.25 s: a full queue batch of 100 passes at once at 80/s, because its calls take longer than a second. */
  #refill(perSecond: number, now: number): number {
    this.#followClock(now);
    const rate = this.#rate(perSecond, now);
    const capacity = Math.max(1, rate * 1.25);
    const tokens = this.#tokens === null ? capacity : this.#tokens + (Math.max(0, now - this.#filledAt) * rate) / 1000;
    this.#filledAt = Math.max(this.#filledAt, now);
    this.#tokens = Math.min(capacity, tokens);
    return this.#tokens;
  }

  /**
   * Callers bring the time. One who was ahead must not stop the number until everybody else has caught up: times that
   * lie further in the future than any wait explains are forgotten.
   */
  #followClock(now: number): void {
    if (this.#filledAt <= now + SKEW_MS) return;
    this.#filledAt = now;
    this.#bookedUntil = Math.min(this.#bookedUntil, now);
    this.#sharedAt = this.#sharedAt === null ? null : Math.min(this.#sharedAt, now);
    this.#pausedUntil = Math.min(this.#pausedUntil, now);
  }
}
