import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import type { ProviderError } from "../providers/provider";
import type { MessageContent } from "./schema";

export const MESSAGE_STATUSES = [
  "scheduled",
  "queued",
  "sending",
  "sent",
  "delivered",
  "read",
  "failed",
  "cancelled",
] as const;

/** Every message of a workspace, both ways. The hot table: 875 bytes and up to ten written rows per message. */
export const messages = sqliteTable(
  "messages",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    phoneNumberId: text("phone_number_id").notNull(),
    conversationId: text("conversation_id").notNull(),
    contactId: text("contact_id").notNull(),
    direction: text("direction", { enum: ["inbound", "outbound"] }).notNull(),
    /** `api` was sent through us, `echo` from the phone's own app, `history` came with an onboarding, `live` is inbound. */
    origin: text("origin", { enum: ["api", "live", "history", "echo"] }).notNull(),
    type: text("type").notNull(),
    content: text("content", { mode: "json" }).$type<MessageContent>().notNull(),
    status: text("status", { enum: MESSAGE_STATUSES }).notNull(),
    /** Provider's id, WhatsApp's `wamid`. */
    waMessageId: text("wa_message_id"),
    /** What the provider is told to send to; `to_user` for people without a phone. Null on inbound rows. */
    toNumber: text("to_number"),
    toUser: text("to_user"),
    fromNumber: text("from_number"),
    /** Provider id of the message this one answers. */
    replyTo: text("reply_to"),
    /** Null for conversations; `marketing` is held against recorded opt-outs when claimed. */
    category: text("category", { enum: ["marketing", "utility", "authentication"] }),

    // Sending. `open` is 1 while the message waits or is leased, else null: the two partial indexes hold open rows only.
    lane: text("lane", { enum: ["chat", "bulk"] }).notNull(),
    open: integer("open"),
    /** Order within conversation and lane; grows per recipient (pipeline 1). */
    seq: integer("seq").notNull(),
    notBefore: integer("not_before").notNull(),
    expiresAt: integer("expires_at"),
    scheduledAt: integer("scheduled_at"),
    leaseUntil: integer("lease_until"),
    claim: text("claim"),
    /** Claims so far; `<id>.<attempts>` is the callback id of the current one, so it only ever grows. */
    attempts: integer("attempts").notNull(),
    /** Transient refusals so far; the message fails at the configured number. */
    failures: integer("failures").notNull(),
    /** Set when a call may have arrived and nobody knows; a status webhook or time settles it (pipeline 4). */
    ambiguousAt: integer("ambiguous_at"),
    /** ms for which statuses of the number have been arriving since: the clock of `outcome_unknown` (pipeline 4). */
    unknownMs: integer("unknown_ms"),
    /** When it was queued a second time because nobody knew of the first (`resend_unknown`): at most once. */
    resentAt: integer("resent_at"),
    error: text("error", { mode: "json" }).$type<ProviderError>(),
    pricing: text("pricing", { mode: "json" }).$type<Record<string, unknown>>(),

    /** Thread time: the provider's for inbound, ours for outbound; then when it came; then its place in the webhook. */
    at: integer("at").notNull(),
    receivedAt: integer("received_at").notNull(),
    position: integer("position").notNull(),
    createdAt: integer("created_at").notNull(),
    sentAt: integer("sent_at"),
    deliveredAt: integer("delivered_at"),
    readAt: integer("read_at"),
    failedAt: integer("failed_at"),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: deduplication of inbound messages; statuses and references by provider id.
    uniqueIndex("messages_wa").on(t.phoneNumberId, t.waMessageId).where(sql`wa_message_id IS NOT NULL`),
    // Serves: a thread's pages, newest first.
    index("messages_thread").on(t.workspaceId, t.conversationId, t.at, t.receivedAt, t.position, t.id),
    // Serves: "nothing overtakes an earlier open message of its conversation and lane", the next one to wake, and the
    // sweep, which walks it in bounded pages: an index by due time would cost a row per message, and a row written
    // costs as much as 1,000 read (pipeline 17).
    index("messages_open_queue").on(t.workspaceId, t.conversationId, t.lane, t.seq).where(sql`open = 1`),
    // Serves: the cron that enqueues what is due soon.
    index("messages_scheduled").on(t.scheduledAt).where(sql`status = 'scheduled'`),
    // Serves: giving up on calls whose fate nobody ever told.
    index("messages_ambiguous").on(t.ambiguousAt).where(sql`ambiguous_at IS NOT NULL`),
  ],
);

/**
 * What refers to a message that may not be stored (yet, or ever): reactions, edits, revokes, group statuses. Joined
 * when a page is read (pipeline 14).
 */
export const messageEvents = sqliteTable(
  "message_events",
  {
    phoneNumberId: text("phone_number_id").notNull(),
    /** Provider id of the message it is about. */
    target: text("target").notNull(),
    kind: text("kind", { enum: ["reaction", "edit", "revoke", "group_status", "status"] }).notNull(),
    /** Who did it: digits or user id; the participant of a group status. */
    actor: text("actor").notNull(),
    workspaceId: text("workspace_id").notNull(),
    at: integer("at").notNull(),
    payload: text("payload", { mode: "json" }).$type<Record<string, unknown>>().notNull(),
  },
  (t) => [primaryKey({ columns: [t.phoneNumberId, t.target, t.kind, t.actor] })],
);

/** Where the sweep of open messages stopped, so that a backlog larger than a page is walked over several minutes. */
export const sweepCursors = sqliteTable("sweep_cursors", {
  name: text("name").primaryKey(),
  cursor: text("cursor", { mode: "json" }).$type<(string | number)[]>().notNull(),
});
