import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";
import type { Audience, Snapshot, TemplateParams } from "./schema";

export const CAMPAIGN_STATUSES = ["draft", "scheduled", "sending", "completed", "failed", "cancelled"] as const;

/** SHARD. Campaigns of a workspace: what is sent to whom, and how far it is. */
export const campaigns = sqliteTable(
  "campaigns",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    phoneNumberId: text("phone_number_id").notNull(),
    templateId: text("template_id"),
    name: text("name").notNull(),
    status: text("status", { enum: CAMPAIGN_STATUSES }).notNull(),
    /** Null: all contacts who opted in. */
    audience: text("audience", { mode: "json" }).$type<Audience>(),
    templateParams: text("template_params", { mode: "json" }).$type<TemplateParams>(),
    /** ms; the cron starts it then, if it is `scheduled` and not paused. */
    scheduledAt: integer("scheduled_at"),
    pausedAt: integer("paused_at"),
    /** Why it was paused by itself; null when somebody paused it. */
    pauseReason: text("pause_reason"),
    /** Grows with every change of what is sent: a start starts what it has checked, or nothing. */
    version: integer("version").notNull(),
    /** What is sent, frozen at the first start. */
    snapshot: text("snapshot", { mode: "json" }).$type<Snapshot>(),
    /** The call that started or retried it last. */
    runId: text("run_id"),
    /** Whether the number's quality was RED when somebody started it: then RED does not pause it. */
    redAccepted: integer("red_accepted", { mode: "boolean" }).notNull(),
    /** The walk that is under way before anything is sent: over the audience, or over the failed. */
    phase: text("phase", { enum: ["freezing", "retrying"] }),
    /** How far that walk is. */
    place: text("place").notNull(),
    /** The transaction that took its last step. */
    stepId: text("step_id"),
    /** Whether the walk over the failed takes those of which nobody knows, too. */
    retryUnknown: integer("retry_unknown", { mode: "boolean" }).notNull(),
    /** Where the feeder looks for the next recipients: everybody before it was taken. */
    feedPlace: text("feed_place").notNull(),
    /** ms; when the feeder last took some: the campaign that waited longest is first. */
    fedAt: integer("fed_at").notNull(),
    /** Recipients that are not skipped. The counts are of `counted_at`. */
    totalContacts: integer("total_contacts").notNull(),
    sentCount: integer("sent_count").notNull(),
    deliveredCount: integer("delivered_count").notNull(),
    readCount: integer("read_count").notNull(),
    failedCount: integer("failed_count").notNull(),
    skippedCount: integer("skipped_count").notNull(),
    /** Not sent yet, or nobody knows yet. */
    pendingCount: integer("pending_count").notNull(),
    countedAt: integer("counted_at").notNull(),
    startedAt: integer("started_at"),
    endedAt: integer("ended_at"),
    /** ms; when the cron has to look at it. */
    dueAt: integer("due_at"),
    createdBy: text("created_by"),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
    deletedAt: integer("deleted_at"),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: lists by status, and those of a number that are sending.
    index("campaigns_status").on(t.workspaceId, t.status, t.id).where(sql`deleted_at IS NULL`),
    // Serves: the cron, over all workspaces of a shard.
    index("campaigns_due").on(t.dueAt).where(sql`due_at IS NOT NULL`),
  ],
);

/**
 * Who a campaign goes to, frozen at its start; the key is what keeps anybody from being in it twice. What became of a
 * recipient is told by the message, so that a status costs no second write.
 */
export const campaignRecipients = sqliteTable(
  "campaign_recipients",
  {
    workspaceId: text("workspace_id").notNull(),
    campaignId: text("campaign_id").notNull(),
    contactId: text("contact_id").notNull(),
    /** `waiting` for the feeder, `taken`: `message_id` tells the rest; the others never became a message. */
    state: text("state", { enum: ["waiting", "taken", "skipped", "failed"] }).notNull(),
    /** Why it was skipped or failed. */
    reason: text("reason"),
    /** What the template's parameters say of the person, as it was when the campaign started. */
    fields: text("fields", { mode: "json" }).$type<Record<string, string | null>>(),
    /** The message, or, of one that waits again, the failed or cancelled one before. */
    messageId: text("message_id"),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.campaignId, t.contactId] })],
);
