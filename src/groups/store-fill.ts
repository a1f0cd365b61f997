/**
 * SQL of automatic filling (contract 28): who is new goes to the oldest automatic group with room, and when none has
 * room another one is made. Statements of the transaction that makes the contacts, so that of two batches at once the
 * later one sees what the earlier one filled: no group over its capacity, nobody in two automatic groups, no gap.
 */
import { type Param, type Statement, statement } from "../platform/d1";
import type { NewId } from "../platform/ids";

/** The new contacts of a transaction, before it has made them. */
export interface NewContacts {
  workspaceId: string;
  /** A SELECT of `id` and `at`, by which they are ordered. Uses each of `?1` to `?n`. */
  sql: string;
  /** Its n parameters. */
  params: readonly Param[];
  /** How many they are at most: a group may have room for one. */
  most: number;
}

const DIGITS = "'0123456789'";
/** The number at the end of a group's name, as text: `Group 7` is followed by `Group 8`. */
const TAIL = `substr(t.name, length(rtrim(t.name, ${DIGITS})) + 1)`;
const NUMBERED = `length(${TAIL}) BETWEEN 1 AND 9`;
const BASE = `COALESCE(NULLIF(substr(CASE WHEN ${NUMBERED} THEN rtrim(rtrim(t.name, ${DIGITS})) ELSE t.name END, 1, 88), ''), 'Group')`;
const NEXT_NAME = `${BASE} || ' ' || (CASE WHEN ${NUMBERED} THEN CAST(${TAIL} AS INTEGER) ELSE 1 END + k.key + 1)`;

/**
 * Puts new contacts into automatic groups: none where the workspace has no automatic group. Must stand before the
 * statements that store the contacts. Two rows written per contact, one or two per group.
 */
export function fillGroups(people: NewContacts, newId: NewId, now: number): Statement[] {
  const { workspaceId, params } = people;
  const ws = `?${params.length + 1}`;
  const at = `?${params.length + 2}`;
  const ids = `?${params.length + 3}`;
  // Whether there is an automatic group at all: the outer loop of whatever follows it.
  const some = `(SELECT 1 FROM contact_groups g INDEXED BY contact_groups_auto WHERE g.workspace_id = ${ws} AND g.auto_fill = 1 LIMIT 1) a`;
  // Two rows of a batch may name one contact.
  const fresh = `SELECT f.id AS id, min(f.at) AS at FROM ${some} CROSS JOIN (${people.sql}) f
    WHERE NOT EXISTS (SELECT 1 FROM contact_group_members h WHERE h.workspace_id = ${ws} AND h.contact_id = f.id AND h.slot = '') GROUP BY f.id`;
  const open = `contact_groups g INDEXED BY contact_groups_open WHERE g.workspace_id = ${ws} AND g.auto_fill = 1 AND g.size < g.capacity`;
  return [
    statement(
      `INSERT INTO contact_groups (workspace_id, id, name, capacity, auto_fill, size, created_at, updated_at)
       SELECT ${ws}, k.value, ${NEXT_NAME}, t.capacity, 1, 0, ${at}, ${at}
       FROM (SELECT g.name AS name, g.capacity AS capacity FROM contact_groups g INDEXED BY contact_groups_auto
           WHERE g.workspace_id = ${ws} AND g.auto_fill = 1 ORDER BY g.id DESC LIMIT 1) t
         CROSS JOIN (SELECT count(*) AS n FROM (${fresh})) p
         CROSS JOIN (SELECT COALESCE(sum(g.capacity - g.size), 0) AS n FROM ${open}) r
         CROSS JOIN json_each(${ids}) k
       WHERE k.key < (max(0, p.n - r.n) + t.capacity - 1) / t.capacity`,
      ...params,
      workspaceId,
      now,
      JSON.stringify(Array.from({ length: people.most }, newId)),
    ),
    statement(
      `INSERT INTO list_totals (workspace_id, list, n) SELECT ?1, 'groups', changes() WHERE changes() > 0
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + excluded.n`,
      workspaceId,
    ),
    statement(
      `INSERT INTO contact_group_members (workspace_id, group_id, contact_id, slot, added_at)
       SELECT ${ws}, g.id, p.id, '', ${at}
       FROM (SELECT g.id AS id, g.capacity - g.size AS room, sum(g.capacity - g.size) OVER (ORDER BY g.id) AS upto FROM ${open}) g
         CROSS JOIN (SELECT f.id AS id, row_number() OVER (ORDER BY f.at) AS place FROM (${fresh}) f) p
       WHERE p.place > g.upto - g.room AND p.place <= g.upto`,
      ...params,
      workspaceId,
      now,
    ),
    statement(
      `UPDATE contact_groups AS t SET updated_at = ${at},
         size = (SELECT count(*) FROM contact_group_members m WHERE m.workspace_id = t.workspace_id AND m.group_id = t.id)
       WHERE t.workspace_id = ${ws} AND t.id IN (SELECT m.group_id FROM ${some} CROSS JOIN (${people.sql}) f
         CROSS JOIN contact_group_members m INDEXED BY contact_group_members_slot
         WHERE m.workspace_id = ${ws} AND m.contact_id = f.id AND m.slot = '')`,
      ...params,
      workspaceId,
      now,
    ),
  ];
}
