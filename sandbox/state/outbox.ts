import type { Clock, Storage } from "./storage";

/** One item of a webhook: a message or status within `value`, or (without `list`) a whole value. */
export interface WebhookItem {
  wabaId: string;
  phoneId: string | null;
  field: string;
  list: "messages" | "statuses" | null;
  item: Record<string, unknown>;
  contacts: Record<string, unknown>[] | null;
}

export interface OutboxRow extends WebhookItem {
  seq: number;
  attempts: number;
}

interface StoredRow extends Record<string, SqlStorageValue> {
  seq: number;
  waba_id: string;
  phone_id: string | null;
  field: string;
  list: "messages" | "statuses" | null;
  item: string;
  contacts: string | null;
  created_at: number;
  due: number;
  attempts: number;
  last_status: number | null;
  settled_at: number | null;
}

/** Meta gives up after 7 days. */
const GIVE_UP_MS = 7 * 24 * 3_600_000;
const KEPT_SETTLED = 10_000;

/** The webhooks that wait for the app's 200. They survive a restart of the sandbox and of the app. */
export class Outbox {
  private readonly storage: Storage;
  private readonly clock: Clock;
  private readonly onDue: (due: number) => void;
  private readonly isSubscribed: (wabaId: string) => boolean;

  constructor(storage: Storage, clock: Clock, onDue: (due: number) => void, isSubscribed: (wabaId: string) => boolean) {
    this.storage = storage;
    this.clock = clock;
    this.onDue = onDue;
    this.isSubscribed = isSubscribed;
  }

  /** Nothing is kept for an account that took its subscription back. */
  add(event: WebhookItem, delay: number): void {
    if (!this.isSubscribed(event.wabaId)) return;
    const now = this.clock();
    this.storage.sql.exec(
      "INSERT INTO outbox (waba_id, phone_id, field, list, item, contacts, created_at, due) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
      event.wabaId,
      event.phoneId,
      event.field,
      event.list,
      JSON.stringify(event.item),
      event.contacts === null ? null : JSON.stringify(event.contacts),
      now,
      now + delay,
    );
    this.onDue(now + delay);
  }

  /** What is due at `now` (or everything that waits, with null), oldest first. */
  open(now: number | null, limit: number): OutboxRow[] {
    const rows = this.storage.sql.exec<StoredRow>(
      "SELECT * FROM outbox WHERE settled_at IS NULL AND (?1 IS NULL OR due <= ?1) ORDER BY due, seq LIMIT ?2",
      now,
      limit,
    );
    return [...rows].map(readRow);
  }

  nextDue(): number | null {
    return this.storage.sql
      .exec<{ due: number | null }>("SELECT min(due) AS due FROM outbox WHERE settled_at IS NULL")
      .one().due;
  }

  countOpen(): number {
    return this.storage.sql.exec<{ n: number }>("SELECT count(*) AS n FROM outbox WHERE settled_at IS NULL").one().n;
  }

  /** Notes one POST's answer for its items: settled with 200, otherwise due again after a growing pause. */
  settle(items: OutboxRow[], status: number): void {
    const now = this.clock();
    const seqs = JSON.stringify(items.map(({ seq }) => seq));
    if (status === 200) {
      this.storage.sql.exec(
        "UPDATE outbox SET settled_at = coalesce(settled_at, ?2), last_status = ?3, attempts = attempts + 1 WHERE seq IN (SELECT value FROM json_each(?1))",
        seqs,
        now,
        status,
      );
      return;
    }
    this.storage.sql.exec(
      `UPDATE outbox SET attempts = attempts + 1, last_status = ?3, due = ?2 + min(60000, 250 << min(attempts, 10)),
         settled_at = CASE WHEN settled_at IS NULL AND created_at < ?4 THEN ?2 ELSE settled_at END
       WHERE seq IN (SELECT value FROM json_each(?1))`,
      seqs,
      now,
      status,
      now - GIVE_UP_MS,
    );
  }

  /** Everything again that was created at or after `since`, as when Meta repeats itself. */
  redeliver(since: number): number {
    const now = this.clock();
    const again = this.storage.sql.exec(
      "UPDATE outbox SET settled_at = NULL, due = ? WHERE settled_at IS NOT NULL AND created_at >= ? RETURNING seq",
      now,
      since,
    );
    const items = again.toArray().length;
    if (items > 0) this.onDue(now);
    return items;
  }

  prune(): void {
    this.storage.sql.exec(
      "DELETE FROM outbox WHERE settled_at IS NOT NULL AND seq < (SELECT max(seq) FROM outbox) - ?",
      KEPT_SETTLED,
    );
  }

  list(state: "open" | "settled" | null, limit: number): Record<string, unknown>[] {
    const rows = this.storage.sql.exec<StoredRow>(
      `SELECT * FROM outbox WHERE (?1 IS NULL OR (settled_at IS NULL) = (?1 = 'open')) ORDER BY seq DESC LIMIT ?2`,
      state,
      limit,
    );
    return [...rows].map((row) => ({
      seq: row.seq,
      field: row.field,
      phone_number_id: row.phone_id,
      kind: row.list,
      item: JSON.parse(row.item) as unknown,
      attempts: row.attempts,
      last_status: row.last_status,
      due_at: new Date(row.due).toISOString(),
      settled_at: row.settled_at === null ? null : new Date(row.settled_at).toISOString(),
    }));
  }
}

function readRow(row: StoredRow): OutboxRow {
  return {
    seq: row.seq,
    wabaId: row.waba_id,
    phoneId: row.phone_id,
    field: row.field,
    list: row.list,
    item: JSON.parse(row.item) as Record<string, unknown>,
    contacts: row.contacts === null ? null : (JSON.parse(row.contacts) as Record<string, unknown>[]),
    attempts: row.attempts,
  };
}
