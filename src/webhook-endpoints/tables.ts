import { integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

/** Where a workspace wants to be told of what happens, and how far that has come. One row is written per run, not per event. */
export const webhookEndpoints = sqliteTable(
  "webhook_endpoints",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    url: text("url").notNull(),
    description: text("description"),
    /** As asked for: event types, or `*`. */
    events: text("events", { mode: "json" }).$type<string[]>().notNull(),
    /** The types that means, each between spaces: what SQL looks in. */
    types: text("types").notNull(),
    /** The name under which this deployment was reached when the endpoint was made: it never calls itself. */
    ownHost: text("own_host").notNull(),
    status: text("status", { enum: ["enabled", "disabled"] }).notNull(),
    /** Why it was disabled by us; null when somebody did it. */
    disabledReason: text("disabled_reason"),
    disabledAt: integer("disabled_at"),
    /** Everything up to here was delivered, does not concern it, or belongs to a conversation in `webhook_lags`. */
    cursor: integer("cursor").notNull(),
    /** The chunk of the delivery log that is being filled. */
    logChunk: integer("log_chunk").notNull(),
    /** Calls that failed since the last that succeeded. */
    failures: integer("failures").notNull(),
    failingSince: integer("failing_since"),
    /** While it is down: not before. */
    nextAt: integer("next_at"),
    /** A replay under way: the next and the last event. */
    replayNext: integer("replay_next"),
    replayUntil: integer("replay_until"),
    /** When it goes on after a failure. */
    replayAt: integer("replay_at"),
    replayFailures: integer("replay_failures").notNull(),
    /** One run at a time. */
    lease: text("lease"),
    leaseUntil: integer("lease_until"),
    lastSuccessAt: integer("last_success_at"),
    lastError: text("last_error"),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.id] })],
);

/** What the enabled endpoints of a workspace ask for, together: read by the triggers that fill the outbox. */
export const webhookFeeds = sqliteTable("webhook_feeds", {
  workspaceId: text("workspace_id").primaryKey(),
  types: text("types").notNull(),
  endpoints: text("endpoints", { mode: "json" }).$type<string[]>().notNull(),
});

/** What happened, in the order of commits. Filled by triggers; names rows and holds nothing of anybody. */
export const webhookOutbox = sqliteTable(
  "webhook_outbox",
  {
    workspaceId: text("workspace_id").notNull(),
    seq: integer("seq").notNull(),
    /** Empty for what belongs to none. */
    conversationId: text("conversation_id").notNull(),
    type: text("type").notNull(),
    /** Id of the message or webhook event. */
    ref: text("ref").notNull(),
    at: integer("at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.seq] })],
);

/** A conversation whose events an endpoint did not take: the cursor of that pair. */
export const webhookLags = sqliteTable(
  "webhook_lags",
  {
    workspaceId: text("workspace_id").notNull(),
    endpointId: text("endpoint_id").notNull(),
    conversationId: text("conversation_id").notNull(),
    /** The first event that was not delivered. */
    seq: integer("seq").notNull(),
    attempts: integer("attempts").notNull(),
    firstFailedAt: integer("first_failed_at"),
    nextAt: integer("next_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.endpointId, t.conversationId] })],
);

/** The delivery log: a ring of chunks, each with many deliveries, so that logging costs one row per run. */
export const webhookDeliveries = sqliteTable(
  "webhook_deliveries",
  {
    workspaceId: text("workspace_id").notNull(),
    endpointId: text("endpoint_id").notNull(),
    slot: integer("slot").notNull(),
    chunk: integer("chunk").notNull(),
    n: integer("n").notNull(),
    failed: integer("failed").notNull(),
    entries: text("entries", { mode: "json" }).$type<unknown[]>().notNull(),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.endpointId, t.slot] })],
);
