/** SQL of the members of groups. */
import { z } from "zod";
import { type Db, statement } from "../platform/d1";
import { decodeCursor, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { type Group, toGroup } from "./store";

/** Who the named contacts are now: `id` is null for those who are not there. `?1` the workspace, `?3` their ids. */
const WANTED = `SELECT j.key AS at, c.id AS id FROM json_each(?3) j
  LEFT JOIN contacts o ON o.workspace_id = ?1 AND o.id = j.value
  LEFT JOIN contacts c ON c.workspace_id = ?1 AND c.id = COALESCE(o.merged_into, o.id) AND c.deleted_at IS NULL AND c.kind = 'person'`;

const HERE =
  "EXISTS (SELECT 1 FROM contact_group_members h WHERE h.workspace_id = ?1 AND h.group_id = ?2 AND h.contact_id = w.id)";
const ELSEWHERE = `EXISTS (SELECT 1 FROM contact_group_members e WHERE e.workspace_id = ?1 AND e.contact_id = w.id AND e.slot = '' AND e.group_id <> ?2)`;

const wantedRow = z.object({ at: z.number(), id: z.string().nullable(), here: z.number(), elsewhere: z.number() });

export type AddResult =
  | { kind: "added"; group: Group }
  /** Places in the list that was given. */
  | { kind: "unknown"; places: number[] }
  | { kind: "elsewhere"; places: number[] }
  | { kind: "full"; room: number; wanted: number }
  | { kind: "gone" };

/**
 * Adds contacts to a group: all of them or none, in one round trip. Those who are in it already stay. None when one of
 * them is not there, is in another automatic group while this one is automatic, or when they are too many.
 */
export async function insertMembers(
  db: Db,
  { workspaceId, id }: Pick<Group, "workspaceId" | "id">,
  contactIds: readonly string[],
  now: number,
): Promise<AddResult> {
  const ids = JSON.stringify(contactIds);
  const [wanted, before, , after] = await db.batch([
    statement(`SELECT w.at, w.id, ${HERE} AS here, ${ELSEWHERE} AS elsewhere FROM (${WANTED}) w`, workspaceId, id, ids),
    statement("SELECT * FROM contact_groups WHERE workspace_id = ?1 AND id = ?2", workspaceId, id),
    statement(
      `WITH w AS MATERIALIZED (${WANTED}), n AS MATERIALIZED (SELECT DISTINCT w.id AS id FROM w WHERE w.id IS NOT NULL AND NOT ${HERE})
       INSERT INTO contact_group_members (workspace_id, group_id, contact_id, slot, added_at)
       SELECT g.workspace_id, g.id, n.id, iif(g.auto_fill, '', g.id), ?4 FROM contact_groups g CROSS JOIN n
       WHERE g.workspace_id = ?1 AND g.id = ?2 AND NOT EXISTS (SELECT 1 FROM w WHERE w.id IS NULL)
         AND (g.auto_fill = 0 OR NOT EXISTS (SELECT 1 FROM w WHERE ${ELSEWHERE}))
         AND g.size + (SELECT count(*) FROM n) <= g.capacity`,
      workspaceId,
      id,
      ids,
      now,
    ),
    statement(
      `UPDATE contact_groups SET size = (SELECT count(*) FROM contact_group_members m WHERE m.workspace_id = ?1 AND m.group_id = ?2),
         updated_at = iif(changes() > 0, ?3, updated_at)
       WHERE workspace_id = ?1 AND id = ?2 RETURNING *`,
      workspaceId,
      id,
      now,
    ),
  ]);
  const row = after?.results[0];
  const was = before?.results[0];
  if (!row || !was) return { kind: "gone" };
  const people = (wanted?.results ?? []).map((raw) => wantedRow.parse(raw));
  const unknown = people.filter((person) => person.id === null);
  if (unknown.length > 0) return { kind: "unknown", places: unknown.map((person) => person.at) };
  const group = toGroup(row);
  const elsewhere = people.filter((person) => person.elsewhere === 1);
  if (group.autoFill && elsewhere.length > 0)
    return { kind: "elsewhere", places: elsewhere.map((person) => person.at) };
  const fresh = new Set(people.flatMap((person) => (person.here === 0 ? [person.id] : []))).size;
  const room = toGroup(was).capacity - toGroup(was).size;
  return fresh > room ? { kind: "full", room, wanted: fresh } : { kind: "added", group };
}

/** Takes contacts out of a group; answers how many were in it. A trigger keeps its size. */
export async function deleteMembers(
  db: Db,
  { workspaceId, id }: Pick<Group, "workspaceId" | "id">,
  contactIds: readonly string[],
): Promise<number> {
  const rows = await db.all(
    `DELETE FROM contact_group_members WHERE (workspace_id, group_id, contact_id) IN (
       SELECT ?1, ?2, COALESCE(o.merged_into, j.value) FROM json_each(?3) j LEFT JOIN contacts o ON o.workspace_id = ?1 AND o.id = j.value)
     RETURNING contact_id`,
    workspaceId,
    id,
    JSON.stringify(contactIds),
  );
  return rows.length;
}

export interface GroupMember {
  contactId: string;
  phoneNumber: string | null;
  name: string | null;
  optedIn: boolean;
  addedAt: number;
}

const memberRow = z
  .object({
    contact_id: z.string(),
    phone_number: z.string().nullable(),
    name: z.string().nullable(),
    opted_in: z.number(),
    added_at: z.number(),
  })
  .transform(
    (row): GroupMember => ({
      contactId: row.contact_id,
      phoneNumber: row.phone_number,
      name: row.name,
      optedIn: row.opted_in === 1,
      addedAt: row.added_at,
    }),
  );

/** The members of a group, the newest contacts first. Their number is the group's size. */
export async function pageMembers(db: Db, group: Group, query: PageQuery): Promise<Page<GroupMember>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, z.tuple([z.string()]))[0];
  const rows = await db.all(
    `SELECT c.id AS contact_id, COALESCE(c.phone_number, '+' || c.wa_id) AS phone_number, c.name AS name, c.opted_in AS opted_in, m.added_at AS added_at
     FROM (SELECT * FROM contact_group_members WHERE workspace_id = ?1 AND group_id = ?2 AND (?3 IS NULL OR contact_id < ?3)
       ORDER BY contact_id DESC LIMIT ${query.limit + 1} OFFSET ${query.cursor === undefined ? query.offset : 0}) m
     CROSS JOIN contacts c WHERE c.workspace_id = m.workspace_id AND c.id = m.contact_id ORDER BY m.contact_id DESC`,
    group.workspaceId,
    group.id,
    after,
  );
  const found = rows.map((raw) => memberRow.parse(raw));
  const page = found.slice(0, query.limit);
  const last = page.at(-1);
  return {
    rows: page,
    total: group.size,
    totalIsLowerBound: false,
    nextCursor: found.length > query.limit && last ? encodeCursor([last.contactId]) : null,
  };
}

const groupOfRow = z.object({ contact_id: z.string(), group_id: z.string() });

/** The automatic group of each contact, else the oldest of its groups; contacts without one are left out. */
export async function selectGroupsOf(
  db: Db,
  workspaceId: string,
  contactIds: readonly string[],
): Promise<Map<string, string>> {
  const rows = await db.all(
    `SELECT m.contact_id, m.group_id FROM json_each(?1) j CROSS JOIN contact_group_members m
     WHERE m.workspace_id = j.value ->> 'ws' AND m.contact_id = j.value ->> 'id' ORDER BY m.contact_id, m.slot`,
    JSON.stringify(contactIds.map((contactId) => ({ ws: workspaceId, id: contactId }))),
  );
  const groups = new Map<string, string>();
  for (const row of rows.map((raw) => groupOfRow.parse(raw))) {
    if (!groups.has(row.contact_id)) groups.set(row.contact_id, row.group_id);
  }
  return groups;
}

const idRow = z.object({ id: z.string() });

/** Those of the groups that the workspace has. */
export async function selectKnownGroups(db: Db, workspaceId: string, ids: readonly string[]): Promise<Set<string>> {
  const rows = await db.all(
    `SELECT g.id AS id FROM json_each(?1) j CROSS JOIN contact_groups g WHERE g.workspace_id = j.value ->> 'ws' AND g.id = j.value ->> 'id'`,
    JSON.stringify(ids.map((id) => ({ ws: workspaceId, id }))),
  );
  return new Set(rows.map((raw) => idRow.parse(raw).id));
}

/**
 * SQL of one step over the members of groups, each person once: rows `asked` (the contact's id) and `at` (where the next
 * step begins). `?1` is the workspace, `?2` the place (empty at the beginning), `?3` a JSON array of group ids.
 */
export function membersStep(limit: number): string {
  return `SELECT DISTINCT m.contact_id AS asked, m.contact_id AS at FROM json_each(?3) k CROSS JOIN contact_group_members m
    WHERE m.workspace_id = ?1 AND m.group_id = k.value AND m.contact_id > ?2 ORDER BY m.contact_id LIMIT ${limit}`;
}
