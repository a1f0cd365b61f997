import { DurableObject } from "cloudflare:workers";
import { type QuotaCount, QuotaWindows, type Taken, type WindowLimit } from "./quota-windows";

/** A count that was not flushed is lost with a crash: at most this much, in ms. */
const FLUSH_EVERY = 10_000;
const SAVED = "windows";

/**
 * The call counts of one workspace, user or sign-in subject. Lives in memory; an alarm writes it down at most every
 * 10 s (one row), and removes it when its last window has ended, so that an address seen once costs no storage.
 */
export class ApiQuota extends DurableObject<Env> {
  readonly #windows: QuotaWindows;
  #flushArmed = false;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#windows = new QuotaWindows(ctx.storage.kv.get<[number, QuotaCount][]>(SAVED));
  }

  /** Counts one call at `now` (ms) against every window, or answers that one of them is full. */
  async take(windows: WindowLimit[], now: number): Promise<Taken> {
    const taken = this.#windows.take(windows, now);
    if (taken.allowed && !this.#flushArmed) await this.#armFlush();
    return taken;
  }

  async #armFlush(): Promise<void> {
    this.#flushArmed = true;
    try {
      await this.ctx.storage.setAlarm(Date.now() + FLUSH_EVERY);
    } catch (error) {
      this.#flushArmed = false;
      throw error;
    }
  }

  override async alarm(): Promise<void> {
    this.#flushArmed = false;
    const now = Date.now();
    const open = this.#windows.snapshot(now);
    if (open.length === 0) {
      await this.ctx.storage.deleteAll();
      return;
    }
    this.ctx.storage.kv.put(SAVED, open);
    await this.ctx.storage.setAlarm(Math.max(...open.map(([seconds, { start }]) => start + seconds * 1000)));
  }
}
