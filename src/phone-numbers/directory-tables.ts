import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

/** DIRECTORY. Which workspace a provider's number belongs to: one live registration per provider id (contract 12). */
export const providerNumbers = sqliteTable(
  "provider_numbers",
  {
    provider: text("provider", { enum: ["meta", "360dialog", "infobip"] }).notNull(),
    providerNumberId: text("provider_number_id").notNull(),
    workspaceId: text("workspace_id").notNull(),
    shard: integer("shard").notNull(),
    phoneNumberId: text("phone_number_id").notNull(),
    businessId: text("business_id"),
    /** Digits of the number, for webhooks that name only it. */
    phoneDigits: text("phone_digits"),
    /** The number's own app secret, sealed; signs what arrives at its own webhook address. */
    appSecretSealed: text("app_secret_sealed"),
    createdAt: integer("created_at").notNull(),
    /** Version of the secret that the provider proves its webhooks with (contract 24). */
    webhookVersion: integer("webhook_version").notNull().default(1),
    /** ms; since when that version counts. The one before counts for a day more. */
    webhookRotatedAt: integer("webhook_rotated_at"),
  },
  (t) => [
    primaryKey({ columns: [t.provider, t.providerNumberId] }),
    // Serves: account and template webhooks, which name only the business account.
    index("provider_numbers_business").on(t.provider, t.businessId),
    // Serves: a connection's own webhook address.
    uniqueIndex("provider_numbers_phone").on(t.phoneNumberId),
  ],
);

/** DIRECTORY. Signed webhooks that name a number nobody registered. Kept 30 days, shown to nobody's tenant. */
export const unroutedEvents = sqliteTable("unrouted_events", {
  id: text("id").primaryKey(),
  provider: text("provider").notNull(),
  providerNumberId: text("provider_number_id"),
  /** The raw JSON text, or null when it lies in R2 under `r2_key`. */
  raw: text("raw"),
  r2Key: text("r2_key"),
  receivedAt: integer("received_at").notNull(),
});
