/**
 * Order and pace of the sends of one pair of number and person. Lives in memory only: a send must not cost a write.
 *
 * What eviction loses: the order continues, because `seq` starts again at the caller's clock and an object is evicted
 * only after idling for longer than a burst runs ahead of it (one per millisecond); the pace starts a fresh burst,
 * and the provider's own limit (131056, a transient error) catches what that lets through.
 */
export class PairRate {
  #lastSeq = 0;
  /** GCRA: when the next send would be due if all were spread evenly. */
  #due = 0;

  /**
   * Takes the caller's time and the limit (`interval` ms between sends, `burst` at once). A send that must wait is
   * admitted too, for the time it may leave; the next one waits longer.
   */
  admit(now: number, interval: number, burst: number): { seq: number; notBefore: number } {
    this.#lastSeq = Math.max(this.#lastSeq + 1, now);
    const notBefore = Math.max(now, this.#due - (burst - 1) * interval);
    this.#due = Math.max(this.#due, now) + interval;
    return { seq: this.#lastSeq, notBefore };
  }
}
