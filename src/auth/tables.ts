import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

export const users = sqliteTable(
  "users",
  {
    id: text("id").primaryKey(),
    /** Lower-cased. */
    email: text("email").notNull(),
    name: text("name"),
    /** scrypt, `scrypt$N$r$p$salt$hash`; null for accounts that only sign in socially. */
    passwordHash: text("password_hash"),
    emailVerified: integer("email_verified", { mode: "boolean" }).notNull(),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
  },
  // Serves: sign-in and invitation by e-mail; one account per address.
  (t) => [uniqueIndex("users_email").on(t.email)],
);

/** Accounts at Google and GitHub that sign a user in. */
export const userIdentities = sqliteTable(
  "user_identities",
  {
    provider: text("provider", { enum: ["Google", "GitHub"] }).notNull(),
    subject: text("subject").notNull(),
    userId: text("user_id").notNull(),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.provider, t.subject] })],
);

/** A sign-in: the family of its refresh tokens, with an absolute end. */
export const sessions = sqliteTable(
  "sessions",
  {
    id: text("id").primaryKey(),
    userId: text("user_id").notNull(),
    /** The workspace the sign-in named; a JWT of this session carries it as a claim. */
    workspaceId: text("workspace_id"),
    expiresAt: integer("expires_at").notNull(),
    revokedAt: integer("revoked_at"),
    createdAt: integer("created_at").notNull(),
  },
  // Serves: end all sessions of a user.
  (t) => [index("sessions_user").on(t.userId)],
);

export const refreshTokens = sqliteTable(
  "refresh_tokens",
  {
    /** SHA-256 of the token. */
    hash: text("hash").primaryKey(),
    sessionId: text("session_id").notNull(),
    createdAt: integer("created_at").notNull(),
    usedAt: integer("used_at"),
    /** The token this one was exchanged for, sealed: two tabs that refresh at once get the same one for 30 s. */
    successorSealed: text("successor_sealed"),
  },
  // Serves: the nightly purge of ended sessions' tokens.
  (t) => [index("refresh_tokens_session").on(t.sessionId)],
);
