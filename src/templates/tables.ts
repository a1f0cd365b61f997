import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

/**
 * SHARD. Templates of the business accounts a workspace has numbers of. Triggers keep their total in `list_totals`.
 * A deleted one stays as a mark, so that a sync tells it from a new one of the same name.
 */
export const templates = sqliteTable(
  "templates",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    /** The number it was made or found through; every number of its account can send it. */
    phoneNumberId: text("phone_number_id").notNull(),
    /** The provider's account that holds it (Meta: WhatsApp business account). */
    businessId: text("business_id").notNull(),
    name: text("name").notNull(),
    language: text("language").notNull(),
    category: text("category", { enum: ["MARKETING", "UTILITY", "AUTHENTICATION"] }).notNull(),
    parameterFormat: text("parameter_format", { enum: ["POSITIONAL", "NAMED"] }).notNull(),
    /** The documented form: by key `header`, `body`, `footer`, `buttons`. */
    components: text("components", { mode: "json" }).$type<Record<string, unknown>>().notNull(),
    status: text("status", { enum: ["PENDING", "APPROVED", "REJECTED"] }).notNull(),
    /** The provider's own word, null until it has said one. */
    providerStatus: text("provider_status"),
    metaTemplateId: text("meta_template_id"),
    /** Provider id of the deleted template whose name this one took over: what comes of it is not this one. */
    formerTemplateId: text("former_template_id"),
    rejectionReason: text("rejection_reason"),
    /** What else there is to know: why it waits, or what the provider announced. */
    note: text("note"),
    qualityScore: text("quality_score"),
    /** ms; provider time of the last word on the status: an older one changes nothing. */
    statusAt: integer("status_at"),
    /** ms; when the cron has something to do at the provider: hand it in, or ask for it again. Null: nothing. */
    dueAt: integer("due_at"),
    /** Who is talking to the provider about it until `due_at`. */
    claim: text("claim"),
    /** Tries of the cron in a row. */
    attempts: integer("attempts").notNull(),
    /** ms; when the provider last described it whole. */
    syncedAt: integer("synced_at"),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
    deletedAt: integer("deleted_at"),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: sends (by name and language), and one template of a name, language and account however it came.
    uniqueIndex("templates_name").on(t.workspaceId, t.businessId, t.name, t.language),
    // Serves: webhooks.
    index("templates_provider").on(t.workspaceId, t.metaTemplateId).where(sql`meta_template_id IS NOT NULL`),
    // Serves: the cron.
    index("templates_due").on(t.dueAt).where(sql`due_at IS NOT NULL`),
  ],
);
