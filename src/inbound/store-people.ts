/** SQL of who is who in a batch: what is read before it, and contacts and names as part of its one transaction. */
import { z } from "zod";
import { type Db, jsonChunks, type Statement, statement } from "../platform/d1";
import { type Key, readFormer } from "./names";
import type { Lookups } from "./people";

/** What a contact row says of a person. */
export interface KnownFacts {
  name: string | null;
  username: string | null;
  waId: string | null;
  userId: string | null;
  phoneNumber: string | null;
}

/** A stored name and the contact it belongs to (of a merged one, the one it became). */
export interface Owner {
  ws: string;
  key: Key;
  contactId: string;
  /** Provider time, ms. */
  since: number;
  /** Somebody took the contact off the list. */
  deleted: boolean;
  facts: KnownFacts;
}

/** A name somebody gave up at `until`. */
export interface FormerName {
  ws: string;
  key: Key;
  until: number;
  contactId: string;
}

/** A contact nobody knew, with all its names. Made only if still nobody knows any of them. */
export interface NewContact {
  ws: string;
  id: string;
  kind: "person" | "group";
  phone: string | null;
  wa: string | null;
  user: string | null;
  username: string | null;
  name: string | null;
  keys: { k: string; v: string }[];
}

/** A name that a contact does not have yet; `c` owns it unless one of `keys` has an owner. */
export interface NewIdentity {
  ws: string;
  k: string;
  v: string;
  c: string;
  since: number | null;
  keys: { k: string; v: string }[];
}

/** Facts a contact lacks. `newWa` and `newUser`: the person has that one now, whatever it was before. */
export interface ContactFacts {
  ws: string;
  id: string;
  name: string | null;
  username: string | null;
  wa: string | null;
  user: string | null;
  phone: string | null;
  newWa: boolean;
  newUser: boolean;
}

/** A name that contact `c` has no longer. */
export interface ReleasedName {
  ws: string;
  k: string;
  v: string;
  c: string;
}

const ownerRow = z.object({
  ws: z.string(),
  kind: z.enum(["phone", "wa", "user", "parent", "group", "former"]),
  value: z.string(),
  since: z.number(),
  contact_id: z.string(),
  deleted: z.number(),
  name: z.string().nullable(),
  username: z.string().nullable(),
  wa_id: z.string().nullable(),
  user_id: z.string().nullable(),
  phone_number: z.string().nullable(),
});
const formerRow = z.object({ ws: z.string(), value: z.string(), contact_id: z.string() });
const stateRow = z.object({ ws: z.string(), settings: z.string() });

export interface Before {
  owners: Owner[];
  formers: FormerName[];
  settings: Map<string, string>;
  /** What `marks` answered. */
  marks: Record<string, unknown>[];
}

/** Where a batch's people and workspaces stand before it, and the marks of erased people among them: one round trip. */
export async function selectBefore(
  db: Db,
  lookups: Lookups,
  workspaceIds: readonly string[],
  marks: readonly Statement[],
): Promise<Before> {
  const owners = jsonChunks(lookups.names).map((json) =>
    statement(
      `SELECT i.workspace_id AS ws, i.kind AS kind, i.value AS value, COALESCE(i.since, c.created_at) AS since,
         COALESCE(c.merged_into, c.id) AS contact_id, c.deleted_at IS NOT NULL AS deleted, c.name AS name, c.username AS username, c.wa_id AS wa_id, c.user_id AS user_id,
         c.phone_number AS phone_number
       FROM json_each(?1) j CROSS JOIN contact_identities i CROSS JOIN contacts c
       WHERE ${KEY_OWNER} AND c.workspace_id = i.workspace_id AND c.id = i.contact_id`,
      json,
    ),
  );
  const formers = jsonChunks(lookups.formers).map((json) =>
    statement(
      `SELECT i.workspace_id AS ws, i.value AS value, COALESCE(c.merged_into, c.id) AS contact_id
       FROM json_each(?1) j CROSS JOIN contact_identities i CROSS JOIN contacts c
       WHERE i.workspace_id = j.value ->> 'ws' AND i.kind = 'former' AND i.value >= j.value ->> 'from' AND i.value < j.value ->> 'to'
         AND c.workspace_id = i.workspace_id AND c.id = i.contact_id`,
      json,
    ),
  );
  const results = await db.batch([
    ...owners,
    ...formers,
    ...marks,
    statement(
      "SELECT w.workspace_id AS ws, w.settings AS settings FROM json_each(?1) j CROSS JOIN workspace_states w WHERE w.workspace_id = j.value",
      JSON.stringify(workspaceIds),
    ),
  ]);
  const rows = (from: number, to: number) => results.slice(from, to).flatMap((result) => result.results);
  const marked = owners.length + formers.length;
  return {
    owners: rows(0, owners.length).map(toOwner),
    formers: rows(owners.length, marked).flatMap(toFormer),
    marks: rows(marked, marked + marks.length),
    settings: new Map(
      rows(-1, results.length)
        .map((raw) => stateRow.parse(raw))
        .map((row) => [row.ws, row.settings]),
    ),
  };
}

function toOwner(raw: unknown): Owner {
  const row = ownerRow.parse(raw);
  return {
    ws: row.ws,
    key: { kind: row.kind, value: row.value },
    contactId: row.contact_id,
    since: row.since,
    deleted: row.deleted === 1,
    facts: {
      name: row.name,
      username: row.username,
      waId: row.wa_id,
      userId: row.user_id,
      phoneNumber: row.phone_number,
    },
  };
}

function toFormer(raw: unknown): FormerName[] {
  const row = formerRow.parse(raw);
  const former = readFormer(row.value);
  return former ? [{ ws: row.ws, ...former, contactId: row.contact_id }] : [];
}

export const KEY_OWNER = "i.workspace_id = j.value ->> 'ws' AND i.kind = j.value ->> 'k' AND i.value = j.value ->> 'v'";
/** The owner of any of the row's keys; a batch that ran a moment earlier may have made it. */
const OWNER_OF_KEYS = `(SELECT i.contact_id FROM json_each(j.value -> 'keys') q CROSS JOIN contact_identities i
  WHERE i.workspace_id = j.value ->> 'ws' AND i.kind = q.value ->> 'k' AND i.value = q.value ->> 'v' ORDER BY i.contact_id LIMIT 1)`;
/** A contact may have been merged since it was read. */
const LIVE = (contact: string) =>
  `COALESCE((SELECT l.merged_into FROM contacts l WHERE l.workspace_id = j.value ->> 'ws' AND l.id = ${contact}), ${contact})`;

/** Names that were given up, before whoever has them next gets them. */
export function deleteReleased(rows: readonly ReleasedName[]): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `DELETE FROM contact_identities WHERE (workspace_id, kind, value) IN (SELECT i.workspace_id, i.kind, i.value
         FROM json_each(?1) j CROSS JOIN contact_identities i
         WHERE ${KEY_OWNER} AND i.contact_id IN (j.value ->> 'c', ${LIVE("j.value ->> 'c'")}))`,
      json,
    ),
  );
}

export function insertContacts(rows: readonly NewContact[], now: number): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `INSERT INTO contacts (workspace_id, id, kind, phone_number, wa_id, user_id, username, name, tags, opted_in, source, created_at, updated_at)
       SELECT j.value ->> 'ws', j.value ->> 'id', j.value ->> 'kind', j.value ->> 'phone', j.value ->> 'wa', j.value ->> 'user',
         j.value ->> 'username', j.value ->> 'name', '[]', 0, 'message', ?2, ?2
       FROM json_each(?1) j WHERE ${OWNER_OF_KEYS} IS NULL`,
      json,
      now,
    ),
  );
}

export function insertNewIdentities(rows: readonly NewIdentity[]): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      // A contact that was merged since it was read hands its name on; one that was erased gets none any more.
      `INSERT INTO contact_identities (workspace_id, kind, value, contact_id, since)
       SELECT n.ws, n.k, n.v, COALESCE(e.merged_into, e.id), n.since FROM (SELECT j.value ->> 'ws' AS ws, j.value ->> 'k' AS k, j.value ->> 'v' AS v,
           COALESCE(${OWNER_OF_KEYS}, j.value ->> 'c') AS owner, j.value ->> 'since' AS since FROM json_each(?1) j) n
       CROSS JOIN contacts e WHERE e.workspace_id = n.ws AND e.id = n.owner
       ON CONFLICT (workspace_id, kind, value) DO NOTHING`,
      json,
    ),
  );
}

/** Facts that contacts lack, and what changed. Changes nothing when it comes again. */
export function updateContactFacts(rows: readonly ContactFacts[], now: number): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `UPDATE contacts AS c SET updated_at = ?2, name = COALESCE(c.name, j.value ->> 'name'), username = COALESCE(j.value ->> 'username', c.username),
         wa_id = CASE WHEN j.value ->> 'newWa' THEN j.value ->> 'wa' ELSE COALESCE(c.wa_id, j.value ->> 'wa') END,
         phone_number = CASE WHEN j.value ->> 'newWa' THEN j.value ->> 'phone' ELSE COALESCE(c.phone_number, j.value ->> 'phone') END,
         user_id = CASE WHEN j.value ->> 'newUser' THEN j.value ->> 'user' ELSE COALESCE(c.user_id, j.value ->> 'user') END
       FROM json_each(?1) j WHERE c.workspace_id = j.value ->> 'ws' AND c.id = j.value ->> 'id'`,
      json,
      now,
    ),
  );
}
