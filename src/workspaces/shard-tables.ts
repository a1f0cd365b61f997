import { integer, sqliteTable, text } from "drizzle-orm/sqlite-core";

/**
 * SHARD. What the pipelines must know of a workspace without asking the directory. Written with the directory's row,
 * reconciled nightly.
 */
export const workspaceStates = sqliteTable("workspace_states", {
  workspaceId: text("workspace_id").primaryKey(),
  status: text("status", { enum: ["active", "suspended", "deleted"] }).notNull(),
  settings: text("settings", { mode: "json" }).$type<Record<string, unknown>>().notNull(),
  updatedAt: integer("updated_at").notNull(),
});
