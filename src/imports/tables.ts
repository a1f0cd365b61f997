import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

/** Files of contacts. Their rows lie in R2 in parts, read out of the file once; `cursor` says how far they are applied. */
export const imports = sqliteTable(
  "imports",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    /** `receiving` is nobody's to see: the file is being read, and a refused one leaves nothing. */
    status: text("status", { enum: ["receiving", "processing", "completed"] }).notNull(),
    fileName: text("file_name"),
    /** ISO 3166 code with which national numbers of this file are read, as it was when the file came. */
    country: text("country"),
    totalRows: integer("total_rows").notNull(),
    /** Rows applied so far. */
    cursor: integer("cursor").notNull(),
    imported: integer("imported").notNull(),
    updated: integer("updated").notNull(),
    failed: integer("failed").notNull(),
    /** The transaction that moved the cursor last, and how many contacts it added to the list. */
    stepId: text("step_id"),
    stepNew: integer("step_new").notNull(),
    createdBy: text("created_by"),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
    completedAt: integer("completed_at"),
    /** When the cron looks at it: to go on with one that stands still, or to remove an old one. */
    dueAt: integer("due_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: the cron, over all workspaces of a shard.
    index("imports_due").on(t.dueAt),
  ],
);
