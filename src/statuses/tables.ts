import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

/** Why a status was not applied: the provider's code, or one of ours. */
export interface StatusError {
  code: number | string;
  message: string;
}

/** SHARD. The line "About" of a number's profile, with its time (product 3.2). */
export const aboutStatuses = sqliteTable(
  "about_statuses",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    phoneNumberId: text("phone_number_id").notNull(),
    text: text("text").notNull(),
    /** `applying`: the provider is being told, or was when a process ended. */
    status: text("status", { enum: ["scheduled", "applying", "applied", "failed", "cancelled"] }).notNull(),
    /** When it is meant to be set (ms): its place among the statuses of its number. */
    at: integer("at").notNull(),
    scheduledAt: integer("scheduled_at"),
    /** `at`, or later after the provider could not take it. */
    notBefore: integer("not_before").notNull(),
    attempts: integer("attempts").notNull(),
    lease: text("lease"),
    leaseUntil: integer("lease_until"),
    /** When the cron looks at it; null once nothing is left to do. */
    lookAt: integer("look_at"),
    appliedAt: integer("applied_at"),
    error: text("error", { mode: "json" }).$type<StatusError>(),
    createdBy: text("created_by"),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: the next one of a number, and those that a later one overtakes.
    index("about_statuses_open").on(t.workspaceId, t.phoneNumberId, t.at, t.id).where(sql`look_at IS NOT NULL`),
    // Serves: the cron, over all workspaces of a shard.
    index("about_statuses_look").on(t.lookAt).where(sql`look_at IS NOT NULL`),
  ],
);
