/** Calls allowed per fixed window. */
export interface WindowLimit {
  seconds: number;
  limit: number;
}

export interface QuotaCount {
  /** Start of the window, ms. */
  start: number;
  used: number;
}

export interface Taken {
  allowed: boolean;
  /** Of the window that is closest to its end. */
  limit: number;
  remaining: number;
  /** Whole seconds until that window resets, at least 1. */
  reset: number;
}

/**
 * Fixed windows that begin at multiples of their length since the epoch (full hours, UTC days), counted in memory. The
 * limits come with each call, so a change of plan counts at once.
 */
export class QuotaWindows {
  readonly #counts: Map<number, QuotaCount>;

  /** `saved`: what `snapshot` answered before, by length of window in seconds. */
  constructor(saved: Iterable<[number, QuotaCount]> = []) {
    this.#counts = new Map([...saved].map(([seconds, count]) => [seconds, { ...count }]));
  }

  /**
   * Counts one call in every window, or in none: a refused call costs nothing. Answers the window with the least room
   * left; when several refuse, the one that resets last, because until then a call is refused.
   */
  take(windows: readonly WindowLimit[], now: number): Taken {
    const current = windows.map(({ seconds, limit }) => ({ seconds, limit, count: this.#current(seconds, now) }));
    const allowed = current.every(({ limit, count }) => count.used < limit);
    if (allowed) for (const { count } of current) count.used += 1;
    let closest: Taken | undefined;
    for (const { seconds, limit, count } of current) {
      const remaining = Math.max(0, limit - count.used);
      const reset = Math.max(1, Math.ceil((count.start + seconds * 1000 - now) / 1000));
      if (!closest || remaining < closest.remaining || (remaining === closest.remaining && reset > closest.reset)) {
        closest = { allowed, limit, remaining, reset };
      }
    }
    if (!closest) throw new Error("A quota needs at least one window");
    return closest;
  }

  /** Counts of windows that have not ended: what must survive an eviction. */
  snapshot(now: number): [number, QuotaCount][] {
    return [...this.#counts].filter(([seconds, { start }]) => start + seconds * 1000 > now);
  }

  /** The running count; a new one when its window has ended. A caller whose clock is behind counts in the newer window. */
  #current(seconds: number, now: number): QuotaCount {
    const length = seconds * 1000;
    const start = Math.floor(now / length) * length;
    const known = this.#counts.get(seconds);
    if (known && known.start >= start) return known;
    const fresh = { start, used: 0 };
    this.#counts.set(seconds, fresh);
    return fresh;
  }
}
