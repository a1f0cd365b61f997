import { integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

/** SHARD. */
export const phoneNumbers = sqliteTable(
  "phone_numbers",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    provider: text("provider", { enum: ["meta", "360dialog", "infobip"] }).notNull(),
    providerNumberId: text("provider_number_id").notNull(),
    businessId: text("business_id"),
    /** Meta's business portfolio: messaging limits are counted per portfolio since 2025-10. */
    portfolioId: text("portfolio_id"),
    /** `+` and digits, as the provider shows it. */
    phoneNumber: text("phone_number").notNull(),
    displayName: text("display_name"),
    verifiedName: text("verified_name"),
    qualityRating: text("quality_rating", { enum: ["GREEN", "YELLOW", "RED", "UNKNOWN"] }).notNull(),
    /** Unique people per rolling day; null is unlimited or not known. */
    messageLimit: integer("message_limit"),
    /** The provider's throughput level: STANDARD is 80 messages/s, HIGH 1,000. */
    tier: text("tier").notNull(),
    status: text("status", { enum: ["pending", "active", "disabled"] }).notNull(),
    providerStatus: text("provider_status"),
    /** Set by PATCH `status: disabled`; survives syncs. */
    disabledByUs: integer("disabled_by_us", { mode: "boolean" }).notNull(),
    isDefault: integer("is_default", { mode: "boolean" }).notNull(),
    accessTokenSealed: text("access_token_sealed"),
    tokenExpiresAt: integer("token_expires_at"),
    /** Why sending waits: the provider's last `blocked` outcome; null when nothing is wrong. */
    blockedReason: text("blocked_reason"),
    blockedAt: integer("blocked_at"),
    /** When a status webhook last came, kept to the minute: the clock of ambiguous sends runs on it (pipeline 4). */
    lastStatusAt: integer("last_status_at"),
    lastWebhookAt: integer("last_webhook_at"),
    verifiedAt: integer("verified_at"),
    syncedAt: integer("synced_at"),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
    deletedAt: integer("deleted_at"),
    /** The account's own API address, of providers that give each account one. */
    apiBase: text("api_base"),
    /** Where the provider was told to find this deployment: scheme and host, without a path. */
    webhookOrigin: text("webhook_origin"),
  },
  (t) => [primaryKey({ columns: [t.workspaceId, t.id] })],
);
