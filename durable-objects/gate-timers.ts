/** What an object has to do later. It has one alarm; these share it. */
export class GateTimers {
  readonly #storage: DurableObjectStorage;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
    storage.sql.exec("CREATE TABLE IF NOT EXISTS timers (timer TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID");
  }

  /** ms; null when it is not set. */
  at(timer: string): number | null {
    const row = this.#storage.sql.exec<{ at: number }>("SELECT at FROM timers WHERE timer = ?", timer).toArray()[0];
    return row?.at ?? null;
  }

  async set(timer: string, at: number): Promise<void> {
    this.#storage.sql.exec(
      "INSERT INTO timers (timer, at) VALUES (?, ?) ON CONFLICT (timer) DO UPDATE SET at = excluded.at",
      timer,
      at,
    );
    await this.rearm();
  }

  /** The alarm may come all the same, and finds nothing to do. */
  clear(timer: string): void {
    this.#storage.sql.exec("DELETE FROM timers WHERE timer = ?", timer);
  }

  /** Those whose time has come, which are not set any more then. */
  take(now: number): string[] {
    return this.#storage.sql
      .exec<{ timer: string }>("DELETE FROM timers WHERE at <= ? RETURNING timer", now)
      .toArray()
      .map(({ timer }) => timer);
  }

  /** Sets the object's alarm to what is next; also after an alarm, which sets nothing by itself. */
  async rearm(): Promise<void> {
    const next = this.#storage.sql.exec<{ at: number | null }>("SELECT min(at) AS at FROM timers").one().at;
    if (next === null) return;
    const set = await this.#storage.getAlarm();
    if (set === null || set > next) await this.#storage.setAlarm(next);
  }
}
