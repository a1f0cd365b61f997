import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";
import type { SourceConfig, SyncCounts, SyncResult } from "./schema";

/** Where the reading of a site stands. What a member means depends on the kind (reading.ts). */
export interface Cursor {
  /** ms of the site's clock when the reading began. */
  begun: number;
  /** Rows of the list that lie behind; or the page to read. */
  place: number;
  /** The id read last. */
  last: number | null;
  /** The newest id when the reading began. */
  top: number | null;
  /** Known from earlier: ids up to here are not read again. */
  floor: number | null;
  /** How long the list was when it was asked for last. */
  total: number | null;
  /** Only what changed since, as the site is asked. */
  since: string | null;
}

/** What completed readings have seen: an id, or ms of the site's clock. */
export interface Watermark {
  id: number | null;
  at: number | null;
}

/** SHARD. WordPress sites that contacts are pulled from (product 3.4). */
export const wordpressSources = sqliteTable(
  "wordpress_sources",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    name: text("name").notNull(),
    kind: text("kind", { enum: ["woocommerce", "wp_users", "gravity_forms", "custom"] }).notNull(),
    url: text("url").notNull(),
    /** The name by which this deployment was called when the address was set: it is not called itself. */
    ownHost: text("own_host").notNull(),
    /** Sealed `{user, secret}`; null for a site that asks for none. */
    credentialsSealed: text("credentials_sealed"),
    config: text("config", { mode: "json" }).$type<SourceConfig>().notNull(),
    enabled: integer("enabled", { mode: "boolean" }).notNull(),
    status: text("status", { enum: ["idle", "running"] }).notNull(),
    syncId: text("sync_id"),
    /** Of the reading under way, or of one that failed half way: the next goes on there. */
    cursor: text("cursor", { mode: "json" }).$type<Cursor>(),
    watermark: text("watermark", { mode: "json" }).$type<Watermark>(),
    /** The transaction that moved the cursor last. */
    stepId: text("step_id"),
    /** Whoever reads the site now. */
    lease: text("lease"),
    leaseUntil: integer("lease_until"),
    /** The site asked to be left alone until then, or failed. */
    notBefore: integer("not_before").notNull(),
    /** Calls in a row that failed. */
    failures: integer("failures").notNull(),
    /** Readings in a row that failed. */
    failedSyncs: integer("failed_syncs").notNull(),
    /** Of the reading under way. */
    counts: text("counts", { mode: "json" }).$type<SyncCounts>().notNull(),
    startedAt: integer("started_at"),
    /** What went wrong in the reading under way. */
    lastError: text("last_error"),
    lastResult: text("last_result", { mode: "json" }).$type<SyncResult>(),
    /** When the cron starts it, or takes up a reading that stands still; null while it is disabled. */
    dueAt: integer("due_at"),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: the crons, over all workspaces of a shard.
    index("wordpress_sources_due").on(t.status, t.dueAt).where(sql`due_at IS NOT NULL`),
  ],
);
