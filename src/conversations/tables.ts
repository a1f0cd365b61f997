import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

/** One thread: a number of ours and a contact. */
export const conversations = sqliteTable(
  "conversations",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    phoneNumberId: text("phone_number_id").notNull(),
    contactId: text("contact_id").notNull(),
    /** Names the thread's Conversation object: what its person was first called by. Never changes. */
    peer: text("peer").notNull(),
    lastMessageId: text("last_message_id"),
    /** Thread time of the newest message, or creation: the inbox is sorted by it. -1 for merged threads: no page meets them. */
    lastMessageAt: integer("last_message_at").notNull(),
    lastMessageDirection: text("last_message_direction", { enum: ["inbound", "outbound"] }),
    lastMessagePreview: text("last_message_preview"),
    unreadCount: integer("unread_count").notNull(),
    messageCount: integer("message_count").notNull(),
    /** Provider time of the person's newest live message; the service window is open for 24 h after it. */
    lastInboundAt: integer("last_inbound_at"),
    /** Everything up to this thread time was read by an agent. */
    readAt: integer("read_at"),
    status: text("status", { enum: ["open", "closed"] }).notNull(),
    /** The thread this one's messages were moved to when its contact was merged. */
    mergedInto: text("merged_into"),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: the thread of a number and a contact; the guard that there is one.
    uniqueIndex("conversations_pair").on(t.workspaceId, t.contactId, t.phoneNumberId),
    // Serves: the inbox, newest first.
    index("conversations_inbox").on(t.workspaceId, t.lastMessageAt, t.id),
    // Serves: keeping every merged thread one step from where its messages are. Holds merged threads only.
    index("conversations_merged").on(t.workspaceId, t.mergedInto).where(sql`merged_into IS NOT NULL`),
  ],
);
