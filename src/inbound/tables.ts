import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

/**
 * Webhook events that are no message and no status: template, phone and account updates, handovers, calls, and what
 * nobody recognised. Nothing a provider sent is dropped (pipeline 9). The id is made of a hash of what the event
 * says, so a redelivery is the same row.
 */
export const webhookEvents = sqliteTable(
  "webhook_events",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    phoneNumberId: text("phone_number_id"),
    provider: text("provider").notNull(),
    kind: text("kind").notNull(),
    /** The provider's own name of it, such as Meta's `field`. */
    field: text("field"),
    /** The raw JSON text, or null when it lies in R2 under `r2_key`. */
    raw: text("raw"),
    r2Key: text("r2_key"),
    /** Why it is unknown or what was wrong with it. */
    reason: text("reason"),
    receivedAt: integer("received_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: the list, newest first.
    index("webhook_events_recent").on(t.workspaceId, t.receivedAt, t.id),
  ],
);

/** What a queue gave up on. The body lies in R2 first; this row makes it visible and replayable (pipeline 15). */
export const deadLetters = sqliteTable(
  "dead_letters",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    queue: text("queue").notNull(),
    reason: text("reason").notNull(),
    r2Key: text("r2_key").notNull(),
    createdAt: integer("created_at").notNull(),
    replayedAt: integer("replayed_at"),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.id] })],
);
