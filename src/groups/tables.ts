import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

/** SHARD. Lists of contacts (product 3.3). */
export const contactGroups = sqliteTable(
  "contact_groups",
  {
    workspaceId: text("workspace_id").notNull(),
    id: text("id").notNull(),
    name: text("name").notNull(),
    capacity: integer("capacity").notNull(),
    /** Whether new contacts of imports and WordPress are put into it (contract 28). */
    autoFill: integer("auto_fill", { mode: "boolean" }).notNull(),
    /** How many members it has: never counted when it is read. */
    size: integer("size").notNull(),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.id] }),
    // Serves: whether a workspace has automatic groups at all, and which is the newest.
    index("contact_groups_auto").on(t.workspaceId, t.id).where(sql`auto_fill = 1`),
    // Serves: the automatic groups with room, oldest first.
    index("contact_groups_open").on(t.workspaceId, t.id).where(sql`auto_fill = 1 AND size < capacity`),
  ],
);

export const contactGroupMembers = sqliteTable(
  "contact_group_members",
  {
    workspaceId: text("workspace_id").notNull(),
    groupId: text("group_id").notNull(),
    contactId: text("contact_id").notNull(),
    /** Empty in an automatic group, of which a contact has at most one; elsewhere the group's id. */
    slot: text("slot").notNull(),
    addedAt: integer("added_at").notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.workspaceId, t.groupId, t.contactId] }),
    // Serves: the groups of a contact. Keeps anybody from being in two automatic groups.
    uniqueIndex("contact_group_members_slot").on(t.workspaceId, t.contactId, t.slot),
  ],
);
