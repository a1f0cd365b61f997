import { type LiveFrame, liveFrame, type WorkspaceEvent } from "../src/realtime/events";

/** Frames the ring holds. */
export const RING = 2048;
/** A client that missed more is told to fetch afresh. */
export const MAX_REPLAY = 500;
/** Publish keys that are known after waking up. Redeliveries of a queue come much sooner than that many writes. */
const KEYS_AFTER_WAKE = 256;
/** A frame or replay larger than this is not worth its memory: fetching afresh is cheaper. Characters of JSON. */
const MAX_FRAME = 1_000_000;
const MAX_REPLAY_SIZE = 8_000_000;

/**
 * What a workspace's hub has shown, newest 2048 writes: one row written per publish (pipeline 21). The number of a
 * write is its place; the row also keeps its publish key, so that a redelivered write is recognised.
 */
export class HubLog {
  readonly #sql: SqlStorage;
  /** Caches of the rows, made again after hibernation. */
  #head: number | undefined;
  #keys: Map<string, number> | undefined;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(
      "CREATE TABLE IF NOT EXISTS ring (slot INTEGER PRIMARY KEY, seq INTEGER NOT NULL, publish_key TEXT NOT NULL, frame TEXT)",
    );
  }

  /** Number of the newest write, 0 before the first. */
  head(): number {
    this.#head ??= this.#findHead();
    return this.#head;
  }

  /** The number a write got when it was published before, else null. */
  published(key: string): number | null {
    return this.#known().get(key) ?? null;
  }

  /** Gives the write the next number. A frame too large to keep leaves a gap, which clients see as `resync`. */
  append(key: string, body: Omit<LiveFrame, "seq">): LiveFrame {
    const keys = this.#known();
    const frame: LiveFrame = { ...body, seq: this.head() + 1 };
    const text = JSON.stringify(frame);
    this.#sql.exec(
      `INSERT INTO ring (slot, seq, publish_key, frame) VALUES (?, ?, ?, ?)
       ON CONFLICT (slot) DO UPDATE SET seq = excluded.seq, publish_key = excluded.publish_key, frame = excluded.frame`,
      frame.seq % RING,
      frame.seq,
      key,
      text.length > MAX_FRAME ? null : text,
    );
    this.#head = frame.seq;
    keys.set(key, frame.seq);
    if (keys.size > RING) keys.delete(keys.keys().next().value ?? key);
    return frame;
  }

  /** The writes after `since`, oldest first; null when they are too many or not all there any more. */
  after(since: number): LiveFrame[] | null {
    const missed = this.head() - since;
    if (missed < 0 || missed > MAX_REPLAY) return null;
    const frames: LiveFrame[] = [];
    let size = 0;
    for (const row of this.#rows(since, "frame")) {
      if (typeof row.frame !== "string") return null;
      size += row.frame.length;
      if (size > MAX_REPLAY_SIZE) return null;
      frames.push(liveFrame.parse(JSON.parse(row.frame)));
    }
    return frames.length === missed ? frames : null;
  }

  /**
   * Takes events out of what was shown. Frames stay, where nothing is left empty: numbers have no holes. `marks` are
   * texts of which one stands in every frame that matters.
   */
  forget(marks: readonly string[], isForgotten: (event: WorkspaceEvent) => boolean): void {
    const slots = this.#sql
      .exec(
        "SELECT slot FROM ring WHERE EXISTS (SELECT 1 FROM json_each(?) k WHERE instr(frame, k.value) > 0)",
        JSON.stringify(marks),
      )
      .toArray();
    for (const { slot } of slots) {
      const [row] = this.#sql.exec("SELECT frame FROM ring WHERE slot = ?", slot ?? null).toArray();
      if (typeof row?.frame !== "string") continue;
      const frame = liveFrame.parse(JSON.parse(row.frame));
      const events = frame.events.filter((event) => !isForgotten(event));
      if (events.length === frame.events.length) continue;
      this.#sql.exec("UPDATE ring SET frame = ? WHERE slot = ?", JSON.stringify({ ...frame, events }), slot ?? null);
    }
  }

  /** Rows numbered above `since`, in order. They are one range of slots, or two when the ring wraps between them. */
  *#rows(since: number, column: "frame" | "publish_key"): Generator<Record<string, SqlStorageValue>> {
    const head = this.head();
    if (since >= head) return;
    const first = (since + 1) % RING;
    const last = head % RING;
    const ranges =
      first <= last
        ? [[first, last]]
        : [
            [first, RING - 1],
            [0, last],
          ];
    for (const [from, to] of ranges) {
      const query = `SELECT seq, ${column} FROM ring WHERE slot BETWEEN ? AND ? ORDER BY slot`;
      for (const row of this.#sql.exec(query, from, to)) if (Number(row.seq) > since) yield row;
    }
  }

  #known(): Map<string, number> {
    if (!this.#keys) {
      this.#keys = new Map();
      const since = Math.max(0, this.head() - KEYS_AFTER_WAKE);
      for (const row of this.#rows(since, "publish_key")) this.#keys.set(String(row.publish_key), Number(row.seq));
    }
    return this.#keys;
  }

  /**
   * The newest row, by bisection: from slot 0 the numbers grow by one per slot up to the newest write, and after it
   * stand the writes of the round before. Eleven rows read, where a maximum would read all of them at every wake.
   */
  #findHead(): number {
    const base = this.#seqAt(0) ?? 0;
    let low = 0;
    let high = RING - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.#seqAt(middle) === base + middle) low = middle;
      else high = middle - 1;
    }
    return base + low;
  }

  #seqAt(slot: number): number | null {
    const [row] = this.#sql.exec("SELECT seq FROM ring WHERE slot = ?", slot).toArray();
    return row ? Number(row.seq) : null;
  }
}
