import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

/** A rowid table, because full-text search refers to rows by number (pipeline 18). */
export const contacts = sqliteTable(
  "contacts",
  {
    rowId: integer("row_id").primaryKey({ autoIncrement: false }),
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    /** A WhatsApp group one of our numbers is in has a thread of its own, never its senders' threads. */
    kind: text("kind", { enum: ["person", "group"] }).notNull(),
    /** `+` and digits; null for people who are known by user id only. */
    phoneNumber: text("phone_number"),
    waId: text("wa_id"),
    /** Business-scoped user id (Meta, 2026). */
    userId: text("user_id"),
    username: text("username"),
    name: text("name"),
    tags: text("tags", { mode: "json" }).$type<string[]>().notNull(),
    optedIn: integer("opted_in", { mode: "boolean" }).notNull(),
    /** When consent last changed at its source, and the proof; null when nobody ever said. */
    consentAt: integer("consent_at"),
    consentProof: text("consent_proof", { mode: "json" }).$type<ConsentProof>(),
    /** Set when an opt-out of marketing was recorded; cleared by an opt-in. */
    optedOutAt: integer("opted_out_at"),
    marketingBlockedUntil: integer("marketing_blocked_until"),
    source: text("source", { enum: ["api", "import", "wordpress", "message"] }).notNull(),
    /** The contact this one was merged into. */
    mergedInto: text("merged_into"),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
    deletedAt: integer("deleted_at"),
  },
  (t) => [
    // Serves: a contact by id; the list of a workspace by age.
    uniqueIndex("contacts_id").on(t.workspaceId, t.id),
    // Serves: keeping every merged contact one step from who it is now. Holds merged contacts only.
    index("contacts_merged").on(t.workspaceId, t.mergedInto).where(sql`merged_into IS NOT NULL`),
  ],
);

export interface ConsentProof {
  source: "keyword" | "preference" | "api" | "import" | "wordpress";
  /** The provider's message id for a keyword, the detail text for a preference. */
  reference: string | null;
  at: number;
}

/** Whatever a provider may call a person by. A known sender costs no write (pipeline 10). */
export const contactIdentities = sqliteTable(
  "contact_identities",
  {
    workspaceId: text("workspace_id").notNull(),
    /** `former`: a name the contact gave up, `<kind>:<value>@<until, ms, 15 digits>`; what was said before is theirs. */
    kind: text("kind", { enum: ["phone", "wa", "user", "parent", "group", "former"] }).notNull(),
    /** Digits for phone and wa. */
    value: text("value").notNull(),
    contactId: text("contact_id").notNull(),
    /** Provider time (ms) since when the contact is known by this name; null: since the contact exists. */
    since: integer("since"),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.kind, t.value] }),
    // Serves: moving a contact's identities when it is merged, changed or erased.
    index("contact_identities_contact").on(t.workspaceId, t.contactId),
  ],
);

/** The order in which an erasure looks for traces of a person. */
export const ERASURE_PHASES = [
  "live",
  "imports",
  "campaigns",
  "messages",
  "groups",
  "references",
  "events",
  "letters",
  "search",
] as const;

/**
 * People who are erased for good: what must go and how far that is. The row outlives the person as the proof that it
 * was done; `names` and `threads`, which say who it was, are emptied at the end.
 */
export const contactErasures = sqliteTable(
  "contact_erasures",
  {
    workspaceId: text("workspace_id").notNull(),
    /** The contact's. */
    id: text("id").notNull(),
    status: text("status", { enum: ["processing", "completed"] }).notNull(),
    /** The first look, or a later one at what was on its way meanwhile. */
    look: integer("look").notNull(),
    phase: text("phase", { enum: ERASURE_PHASES }).notNull(),
    /** Where the phase goes on, in its own terms; null at its beginning. */
    place: text("place", { mode: "json" }).$type<(string | number)[]>(),
    /** Messages of this look that were being sent: whoever sends them needs them whole. */
    unsettled: integer("unsettled").notNull(),
    /** The contact and those merged into it. */
    contacts: text("contacts", { mode: "json" }).$type<string[]>().notNull(),
    threads: text("threads", { mode: "json" }).$type<ErasedThread[]>().notNull(),
    names: text("names", { mode: "json" }).$type<string[]>().notNull(),
    messages: integer("messages").notNull(),
    files: integer("files").notNull(),
    events: integer("events").notNull(),
    /** The user; null for an API key. */
    requestedBy: text("requested_by"),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
    /** When the first look that left nothing ended. */
    completedAt: integer("completed_at"),
    /** When the cron goes on with one that stands still; null when nothing is left to do. */
    dueAt: integer("due_at"),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: the cron, over all workspaces of a shard.
    index("contact_erasures_due").on(t.dueAt).where(sql`due_at IS NOT NULL`),
  ],
);

/** A thread as it was: its object is named by number and peer. */
export interface ErasedThread {
  id: string;
  num: string;
  peer: string;
}
