/** Tickets that opened a socket of this object already, kept until they expire anyway: each works once. */
export class SpentTickets {
  readonly #sql: SqlStorage;
  #ready = false;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  /** False when the ticket was used before. */
  spend(ticket: { id: string; expires_at: number }, now: number): boolean {
    this.#prepare();
    this.#sql.exec("DELETE FROM spent_tickets WHERE expires_at <= ?", now);
    const written = this.#sql
      .exec(
        "INSERT INTO spent_tickets (id, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING id",
        ticket.id,
        ticket.expires_at,
      )
      .toArray();
    return written.length === 1;
  }

  /** All storage of the object is about to go. */
  forget(): void {
    this.#ready = false;
  }

  /** On first use, not at construction: a Conversation that only admits sends stores nothing. */
  #prepare(): void {
    if (this.#ready) return;
    this.#sql.exec(
      "CREATE TABLE IF NOT EXISTS spent_tickets (id TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) WITHOUT ROWID",
    );
    this.#ready = true;
  }
}
