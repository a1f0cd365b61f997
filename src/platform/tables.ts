import { integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

/** Idempotency keys of a shard's workspaces. Purged nightly by a walk: an index would cost a row per key. */
export const idempotency = sqliteTable(
  "idempotency",
  {
    workspaceId: text("workspace_id").notNull(),
    key: text("key").notNull(),
    hash: text("hash").notNull(),
    ref: text("ref").notNull(),
    expiresAt: integer("expires_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.key] })],
);

/** Unfiltered totals of lists, kept by the statement that adds the rows, once per batch (pipeline 17). */
export const listTotals = sqliteTable(
  "list_totals",
  {
    workspaceId: text("workspace_id").notNull(),
    list: text("list", {
      enum: ["messages", "conversations", "contacts", "webhook_events", "dead_letters", "media", "templates"],
    }).notNull(),
    n: integer("n").notNull(),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.list] })],
);
