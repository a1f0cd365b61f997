/** SQL of groups. Sizes are read from the row: what changes members keeps them. */
import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, statement } from "../platform/d1";
import { decodeCursor, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { contactGroups } from "./tables";

export type Group = InferSelectModel<typeof contactGroups>;

const COLUMNS = columnsOf(contactGroups, "g");

export function toGroup(row: Record<string, unknown>): Group {
  return fromRow(contactGroups, row);
}

export async function insertGroup(
  db: Db,
  group: Pick<Group, "workspaceId" | "id" | "name" | "capacity" | "autoFill">,
  now: number,
): Promise<Group> {
  const [inserted] = await db.batch([
    statement(
      `INSERT INTO contact_groups (workspace_id, id, name, capacity, auto_fill, size, created_at, updated_at)
       VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6) RETURNING *`,
      group.workspaceId,
      group.id,
      group.name,
      group.capacity,
      Number(group.autoFill),
      now,
    ),
    statement(
      `INSERT INTO list_totals (workspace_id, list, n) VALUES (?1, 'groups', 1)
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + 1`,
      group.workspaceId,
    ),
  ]);
  const row = inserted?.results[0];
  if (!row) throw new Error("A group was not stored");
  return toGroup(row);
}

/** A group by id, in one of these workspaces. */
export async function selectGroup(db: Db, workspaceIds: string[], id: string): Promise<Group | null> {
  const row = await db.first(
    `SELECT ${COLUMNS} FROM json_each(?1) j CROSS JOIN contact_groups g WHERE g.workspace_id = j.value AND g.id = ?2`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && toGroup(row);
}

/** The groups of a workspace, newest first. */
export async function pageGroups(db: Db, workspaceId: string, query: PageQuery): Promise<Page<Group>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, z.tuple([z.string()]))[0];
  const [found, total] = await db.batch([
    statement(
      `SELECT ${COLUMNS} FROM contact_groups g WHERE g.workspace_id = ?1 AND (?2 IS NULL OR g.id < ?2)
       ORDER BY g.id DESC LIMIT ${query.limit + 1} OFFSET ${query.cursor === undefined ? query.offset : 0}`,
      workspaceId,
      after,
    ),
    statement("SELECT n FROM list_totals WHERE workspace_id = ?1 AND list = 'groups'", workspaceId),
  ]);
  const all = (found?.results ?? []).map(toGroup);
  const rows = all.slice(0, query.limit);
  const last = rows.at(-1);
  return {
    rows,
    total: z.number().parse(total?.results[0]?.n ?? 0),
    totalIsLowerBound: false,
    nextCursor: all.length > query.limit && last ? encodeCursor([last.id]) : null,
  };
}

export interface GroupChange {
  name?: string | undefined;
  capacity?: number | undefined;
  autoFill?: boolean | undefined;
}

/**
 * Changes what is named, unless the group has more members than the capacity, or would become automatic with a member
 * of another automatic group: then, and when it is gone, null.
 */
export async function updateGroup(
  db: Db,
  { workspaceId, id }: Group,
  change: GroupChange,
  now: number,
): Promise<Group | null> {
  const [, changed] = await db.batch([
    statement(
      `UPDATE contact_group_members AS m SET slot = iif(?3, '', ?2)
       WHERE m.workspace_id = ?1 AND m.group_id = ?2 AND m.slot <> iif(?3, '', ?2) AND ?3 IS NOT NULL AND ${CHANGEABLE}`,
      workspaceId,
      id,
      change.autoFill === undefined ? null : Number(change.autoFill),
      change.capacity ?? null,
    ),
    statement(
      `UPDATE contact_groups AS t SET auto_fill = COALESCE(?3, t.auto_fill), capacity = COALESCE(?4, t.capacity),
         name = COALESCE(?5, t.name), updated_at = ?6
       WHERE t.workspace_id = ?1 AND t.id = ?2 AND ${CHANGEABLE} RETURNING *`,
      workspaceId,
      id,
      change.autoFill === undefined ? null : Number(change.autoFill),
      change.capacity ?? null,
      change.name ?? null,
      now,
    ),
  ]);
  const row = changed?.results[0];
  return row ? toGroup(row) : null;
}

/** Members of a group who are in another automatic group. `?1` the workspace, `?2` the group. */
const TAKEN = `SELECT 1 FROM contact_group_members a CROSS JOIN contact_group_members o
  WHERE a.workspace_id = ?1 AND a.group_id = ?2 AND o.workspace_id = a.workspace_id AND o.contact_id = a.contact_id
    AND o.slot = '' AND o.group_id <> a.group_id`;

/** Whether a change to `auto_fill` ?3 and `capacity` ?4 (null: as it is) keeps what is promised of groups. */
const CHANGEABLE = `EXISTS (SELECT 1 FROM contact_groups g WHERE g.workspace_id = ?1 AND g.id = ?2 AND g.size <= COALESCE(?4, g.capacity))
  AND (?3 IS NOT 1 OR NOT EXISTS (${TAKEN}))`;

/** Whether a member of the group is in another automatic group. */
export async function hasTaken(db: Db, { workspaceId, id }: Group): Promise<boolean> {
  return (await db.first(`${TAKEN} LIMIT 1`, workspaceId, id)) !== null;
}

/** Deletes a group without members; false when it has some, or is gone. */
export async function deleteGroup(db: Db, { workspaceId, id }: Group): Promise<boolean> {
  const [deleted] = await db.batch([
    statement(
      `DELETE FROM contact_groups WHERE workspace_id = ?1 AND id = ?2
         AND NOT EXISTS (SELECT 1 FROM contact_group_members m WHERE m.workspace_id = ?1 AND m.group_id = ?2) RETURNING id`,
      workspaceId,
      id,
    ),
    statement(
      "UPDATE list_totals SET n = n - 1 WHERE workspace_id = ?1 AND list = 'groups' AND changes() > 0",
      workspaceId,
    ),
  ]);
  return (deleted?.results.length ?? 0) > 0;
}
