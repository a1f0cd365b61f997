import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";
import type { Answer, Match } from "./schema";

/** What is answered to what, in order: the first rule that fits decides. */
export const autoReplies = sqliteTable(
  "auto_replies",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    name: text("name").notNull(),
    /** Null: every number. */
    phoneNumberId: text("phone_number_id"),
    position: integer("position").notNull(),
    enabled: integer("enabled", { mode: "boolean" }).notNull(),
    match: text("match", { mode: "json" }).$type<Match>().notNull(),
    answer: text("answer", { mode: "json" }).$type<Answer>().notNull(),
    /** ms between two answers of this rule to one person. */
    cooldown: integer("cooldown").notNull(),
    /** Answers a day (UTC); null for no limit. */
    dailyLimit: integer("daily_limit"),
    /** ms after an agent's message in which the rule keeps quiet. */
    quiet: integer("quiet").notNull(),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.id] })],
);

export const FIRING_STATUSES = ["pending", "sent", "failed", "skipped", "handed_over"] as const;

/** Each time a rule answered a message. The key is what makes it once. */
export const autoReplyFirings = sqliteTable(
  "auto_reply_firings",
  {
    workspaceId: text("workspace_id").notNull(),
    ruleId: text("rule_id").notNull(),
    inboundId: text("inbound_id").notNull(),
    contactId: text("contact_id").notNull(),
    conversationId: text("conversation_id").notNull(),
    status: text("status", { enum: FIRING_STATUSES }).notNull(),
    messageId: text("message_id"),
    error: text("error"),
    at: integer("at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.ruleId, t.inboundId] }),
    // Serves: cool-down, the brake against automatic senders, and what answered a message.
    index("auto_reply_firings_contact").on(t.workspaceId, t.contactId, t.at),
  ],
);

/** Conversations that people have taken over: nothing answers there by itself until then. */
export const autoReplyHandovers = sqliteTable(
  "auto_reply_handovers",
  {
    workspaceId: text("workspace_id").notNull(),
    conversationId: text("conversation_id").notNull(),
    reason: text("reason").notNull(),
    at: integer("at").notNull(),
    until: integer("until").notNull(),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.conversationId] })],
);

/** A workspace's OpenAI-compatible endpoint. */
export const autoReplyAssistants = sqliteTable("auto_reply_assistants", {
  workspaceId: text("workspace_id").primaryKey(),
  baseUrl: text("base_url").notNull(),
  model: text("model").notNull(),
  tokenParameter: text("token_parameter", { enum: ["max_tokens", "max_completion_tokens"] }).notNull(),
  apiKeySealed: text("api_key_sealed").notNull(),
  /** The name under which this deployment was reached: it never calls itself. */
  ownHost: text("own_host").notNull(),
  updatedAt: integer("updated_at").notNull(),
});
