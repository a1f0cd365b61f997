import { ownerOf, type Seat, type SocketOwner, type Thread } from "../src/realtime/seat";

/** Somebody looks at a thread, until some time at most. */
export interface Watch extends Thread {
  /** Grows with every word of that object, so that a late "nobody looks" does not undo a newer "somebody does". */
  version: number;
  /** ms; when the newest socket ends at the latest. */
  until: number;
}

/** A closing is remembered a little longer than a ticket lives. */
const REMEMBERED = 120_000;

/** Which conversations somebody looks at, and whose access ended lately. Of one workspace. */
export class WatchList {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(
      `CREATE TABLE IF NOT EXISTS watched (
         conversation_id TEXT NOT NULL, object TEXT NOT NULL, version INTEGER NOT NULL, until INTEGER NOT NULL,
         PRIMARY KEY (conversation_id, object)
       ) WITHOUT ROWID;
       CREATE TABLE IF NOT EXISTS ended (owner TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID`,
    );
  }

  add(watch: Watch, now: number): void {
    this.#sql.exec("DELETE FROM watched WHERE until <= ?", now);
    this.#sql.exec(
      `INSERT INTO watched (conversation_id, object, version, until) VALUES (?, ?, ?, ?)
       ON CONFLICT (conversation_id, object) DO UPDATE SET version = excluded.version, until = excluded.until
       WHERE excluded.version > watched.version`,
      watch.conversation_id,
      watch.object,
      watch.version,
      watch.until,
    );
  }

  remove(watch: Omit<Watch, "until">): void {
    this.#sql.exec(
      "DELETE FROM watched WHERE conversation_id = ? AND object = ? AND version < ?",
      watch.conversation_id,
      watch.object,
      watch.version,
    );
  }

  /** Which of these conversations somebody looks at. */
  among(conversationIds: readonly string[], now: number): Omit<Thread, "workspace_id">[] {
    return this.#sql
      .exec(
        `SELECT conversation_id, object FROM watched
         WHERE conversation_id IN (SELECT value FROM json_each(?)) AND until > ?`,
        JSON.stringify(conversationIds),
        now,
      )
      .toArray()
      .map((row) => ({ object: String(row.object), conversation_id: String(row.conversation_id) }));
  }

  /** Nobody looks at these any more; their objects' names go with them. */
  forget(conversationIds: readonly string[]): void {
    this.#sql.exec(
      "DELETE FROM watched WHERE conversation_id IN (SELECT value FROM json_each(?))",
      JSON.stringify(conversationIds),
    );
  }

  /** The objects of all conversations somebody looks at. */
  objects(now: number): string[] {
    const rows = this.#sql.exec("SELECT DISTINCT object FROM watched WHERE until > ?", now).toArray();
    return rows.map((row) => String(row.object));
  }

  /** From now on, what was granted to `owner` before opens no socket. */
  end(owner: SocketOwner, now: number): void {
    this.#sql.exec("DELETE FROM ended WHERE at <= ?", now - REMEMBERED);
    this.#sql.exec(
      "INSERT INTO ended (owner, at) VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET at = excluded.at",
      owner,
      now,
    );
  }

  /** Whether access granted at `issuedAt` was ended since. */
  isEnded(seat: Seat, issuedAt: number): boolean {
    const rows = this.#sql
      .exec("SELECT 1 FROM ended WHERE owner IN ('all', ?) AND at >= ?", ownerOf(seat), issuedAt)
      .toArray();
    return rows.length > 0;
  }
}
