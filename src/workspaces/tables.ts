import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

/** DIRECTORY. */
export const workspaces = sqliteTable(
  "workspaces",
  {
    id: text("id").primaryKey(),
    name: text("name").notNull(),
    slug: text("slug").notNull(),
    /** Number of the `SHARD_n` binding that holds everything of this workspace. Never changes. */
    shard: integer("shard").notNull(),
    plan: text("plan", { enum: ["free", "pro", "enterprise"] }).notNull(),
    status: text("status", { enum: ["active", "suspended"] }).notNull(),
    settings: text("settings", { mode: "json" }).$type<Record<string, unknown>>().notNull(),
    apiKeyHash: text("api_key_hash").notNull(),
    apiKeySealed: text("api_key_sealed").notNull(),
    webhookSecretSealed: text("webhook_secret_sealed").notNull(),
    createdBy: text("created_by").notNull(),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
    deletedAt: integer("deleted_at"),
  },
  (t) => [
    uniqueIndex("workspaces_slug").on(t.slug),
    // Serves: authentication by API key.
    uniqueIndex("workspaces_api_key").on(t.apiKeyHash),
    // Serves: placing a new workspace on the emptiest shard.
    index("workspaces_shard").on(t.shard),
  ],
);

/** DIRECTORY. */
export const members = sqliteTable(
  "members",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    /** Null while invited. */
    userId: text("user_id"),
    email: text("email").notNull(),
    role: text("role", { enum: ["OWNER", "ADMIN", "MEMBER", "AGENT"] }).notNull(),
    status: text("status", { enum: ["active", "invited"] }).notNull(),
    /** SHA-256 of the invitation token; null once accepted. */
    invitationHash: text("invitation_hash"),
    invitationExpiresAt: integer("invitation_expires_at"),
    invitedBy: text("invited_by"),
    joinedAt: integer("joined_at"),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: one membership per address; the guard of "an existing member is a 409".
    uniqueIndex("members_email").on(t.workspaceId, t.email),
    // Serves: the memberships of a signed-in user, read at every call.
    index("members_user").on(t.userId, t.workspaceId),
    // Serves: accepting an invitation by its token.
    uniqueIndex("members_invitation").on(t.invitationHash),
  ],
);

/** DIRECTORY. How full each shard is, measured nightly; a new workspace goes to the emptiest. */
export const shards = sqliteTable("shards", {
  number: integer("number").primaryKey(),
  bytes: integer("bytes").notNull(),
  measuredAt: integer("measured_at").notNull(),
});
