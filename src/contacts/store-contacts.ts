/** SQL of the contacts API: single contacts and lists. */
import { z } from "zod";
import { columnsOf, type Db, fromRow, statement } from "../platform/d1";
import { decodeCursor, EXACT_TOTAL, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { type ContactFilter, isFiltered, matchOf } from "./search";
import type { Contact } from "./store";
import { contacts } from "./tables";

const COLUMNS = columnsOf(contacts, "c");
const LIVE = "c.deleted_at IS NULL AND c.merged_into IS NULL";

export interface NewApiContact {
  workspaceId: string;
  id: string;
  phoneNumber: string;
  digits: string;
  name: string | null;
  tags: string[];
  optedIn: boolean;
  /** JSON */
  proof: string;
}

export type CreateResult = { kind: "created" | "revived"; contact: Contact } | { kind: "exists"; id: string };

/**
 * Creates a contact by its number, in one round trip. Somebody who has that number already is told by id; a deleted one
 * comes back with what is given now (contract 3).
 */
export async function insertContact(db: Db, row: NewApiContact, now: number): Promise<CreateResult> {
  const owner = `(SELECT i.contact_id FROM contact_identities i WHERE i.workspace_id = ?1 AND i.kind IN ('phone', 'wa') AND i.value = ?2
    ORDER BY i.kind LIMIT 1)`;
  const consent =
    "opted_in = ?6, opted_out_at = CASE WHEN ?6 = 1 THEN NULL ELSE ?7 END, consent_at = ?7, consent_proof = ?8";
  const optedIn = Number(row.optedIn);
  const tags = JSON.stringify(row.tags);
  const [inserted, , , revived, found] = await db.batch([
    statement(
      `INSERT INTO contacts (workspace_id, id, kind, phone_number, wa_id, name, tags, opted_in, opted_out_at, consent_at, consent_proof, source, created_at, updated_at)
       SELECT ?1, ?3, 'person', ?4, ?2, ?5, ?9, ?6, CASE WHEN ?6 = 1 THEN NULL ELSE ?7 END, ?7, ?8, 'api', ?7, ?7 WHERE ${owner} IS NULL RETURNING id`,
      row.workspaceId,
      row.digits,
      row.id,
      row.phoneNumber,
      row.name,
      optedIn,
      now,
      row.proof,
      tags,
    ),
    statement(
      `INSERT INTO contact_identities (workspace_id, kind, value, contact_id)
       SELECT ?1, k.value, ?2, ?3 FROM json_each('["phone","wa"]') k WHERE EXISTS (SELECT 1 FROM contacts c WHERE c.workspace_id = ?1 AND c.id = ?3)
       ON CONFLICT DO NOTHING`,
      row.workspaceId,
      row.digits,
      row.id,
    ),
    statement(
      `INSERT INTO list_totals (workspace_id, list, n) SELECT ?1, 'contacts', 1
       WHERE EXISTS (SELECT 1 FROM contacts c WHERE c.workspace_id = ?1 AND c.id = ?2)
          OR EXISTS (SELECT 1 FROM contacts c WHERE c.workspace_id = ?1 AND c.deleted_at IS NOT NULL AND c.merged_into IS NULL
            AND c.id = (SELECT i.contact_id FROM contact_identities i WHERE i.workspace_id = ?1 AND i.kind IN ('phone', 'wa') AND i.value = ?3 ORDER BY i.kind LIMIT 1))
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + 1`,
      row.workspaceId,
      row.id,
      row.digits,
    ),
    statement(
      `UPDATE contacts SET deleted_at = NULL, name = COALESCE(?5, name), tags = ?9, phone_number = ?4, wa_id = COALESCE(wa_id, ?2), updated_at = ?7, ${consent}
       WHERE workspace_id = ?1 AND id = ${owner} AND deleted_at IS NOT NULL AND merged_into IS NULL AND id <> ?3 RETURNING id`,
      row.workspaceId,
      row.digits,
      row.id,
      row.phoneNumber,
      row.name,
      optedIn,
      now,
      row.proof,
      tags,
    ),
    statement(
      `SELECT ${COLUMNS} FROM contacts c WHERE c.workspace_id = ?1 AND c.id = ${owner}`,
      row.workspaceId,
      row.digits,
    ),
  ]);
  const raw = found?.results[0];
  if (!raw) throw new Error("A contact was neither created nor found");
  const contact = fromRow(contacts, raw);
  if (inserted?.results.length) return { kind: "created", contact };
  if (revived?.results.length) return { kind: "revived", contact };
  return { kind: "exists", id: contact.id };
}

/** A live contact by id; of one that was merged, who it is now. */
export async function selectContact(db: Db, workspaceIds: string[], id: string): Promise<Contact | null> {
  const row = await db.first(
    `SELECT ${COLUMNS} FROM json_each(?1) j CROSS JOIN contacts o CROSS JOIN contacts c
     WHERE o.workspace_id = j.value AND o.id = ?2 AND c.workspace_id = o.workspace_id AND c.id = COALESCE(o.merged_into, o.id) AND ${LIVE}`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && fromRow(contacts, row);
}

export interface ContactChange {
  name?: string | null;
  tags?: string[];
  /** With its proof (JSON). */
  consent?: { optedIn: boolean; proof: string };
}

/** Changes only what is named; null when the contact is gone meanwhile. */
export async function updateContact(
  db: Db,
  workspaceId: string,
  id: string,
  change: ContactChange,
  now: number,
): Promise<Contact | null> {
  const row = await db.first(
    `UPDATE contacts AS c SET updated_at = ?3, name = CASE WHEN ?4 THEN ?5 ELSE name END, tags = COALESCE(?6, tags),
       opted_in = COALESCE(?7, opted_in), opted_out_at = CASE ?7 WHEN 1 THEN NULL WHEN 0 THEN ?3 ELSE opted_out_at END,
       consent_at = CASE WHEN ?7 IS NULL THEN consent_at ELSE ?3 END, consent_proof = CASE WHEN ?7 IS NULL THEN consent_proof ELSE ?8 END
     WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL AND merged_into IS NULL RETURNING ${COLUMNS.replaceAll("c.", "")}`,
    workspaceId,
    id,
    now,
    Number(change.name !== undefined),
    change.name ?? null,
    change.tags === undefined ? null : JSON.stringify(change.tags),
    change.consent === undefined ? null : Number(change.consent.optedIn),
    change.consent?.proof ?? null,
  );
  return row && fromRow(contacts, row);
}

/** Soft: the row goes from every list, its threads and names stay. True when it was there. */
export async function deleteContact(db: Db, workspaceId: string, id: string, now: number): Promise<boolean> {
  const [deleted] = await db.batch([
    statement(
      "UPDATE contacts SET deleted_at = ?3, updated_at = ?3 WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL AND merged_into IS NULL",
      workspaceId,
      id,
      now,
    ),
    statement(
      "UPDATE list_totals SET n = n - 1 WHERE workspace_id = ?1 AND list = 'contacts' AND changes() > 0",
      workspaceId,
    ),
  ]);
  return (deleted?.meta.changes ?? 0) > 0;
}

const ageCursor = z.tuple([z.string()]);
const rowCursor = z.tuple([z.number()]);

/** Contacts, newest first: by age, or, with any filter, by the full-text index alone. */
export async function pageContacts(
  db: Db,
  workspaceId: string,
  filter: ContactFilter,
  query: PageQuery,
): Promise<Page<Contact>> {
  const take = query.limit + 1;
  const offset = query.cursor === undefined ? query.offset : 0;
  if (!isFiltered(filter)) {
    const after = query.cursor === undefined ? null : decodeCursor(query.cursor, ageCursor)[0];
    const [rows, total] = await db.batch([
      statement(
        `SELECT ${COLUMNS} FROM contacts c WHERE c.workspace_id = ?1 AND (?2 IS NULL OR c.id < ?2) AND ${LIVE}
         ORDER BY c.id DESC LIMIT ${take} OFFSET ${offset}`,
        workspaceId,
        after,
      ),
      statement("SELECT n FROM list_totals WHERE workspace_id = ?1 AND list = 'contacts'", workspaceId),
    ]);
    return pageOfRows(rows?.results ?? [], total?.results[0]?.n, false, query, (contact) => [contact.id]);
  }
  const match = matchOf(workspaceId, filter);
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, rowCursor)[0];
  const [rows, total] = await db.batch([
    statement(
      `SELECT ${COLUMNS} FROM (SELECT f.rowid AS r FROM contacts_fts f WHERE contacts_fts MATCH ?1 AND (?2 IS NULL OR f.rowid < ?2)
         ORDER BY f.rowid DESC LIMIT ${take} OFFSET ${offset}) m CROSS JOIN contacts c WHERE c.row_id = m.r AND c.workspace_id = ?3 ORDER BY m.r DESC`,
      match,
      after,
      workspaceId,
    ),
    statement(
      `SELECT count(*) AS n FROM (SELECT 1 FROM contacts_fts f WHERE contacts_fts MATCH ?1 LIMIT ${EXACT_TOTAL})`,
      match,
    ),
  ]);
  return pageOfRows(rows?.results ?? [], total?.results[0]?.n, true, query, (contact) => [contact.rowId]);
}

function pageOfRows(
  raw: readonly Record<string, unknown>[],
  total: unknown,
  counted: boolean,
  query: PageQuery,
  keyOf: (contact: Contact) => (string | number)[],
): Page<Contact> {
  const rows = raw.map((row) => fromRow(contacts, row));
  const last = rows[query.limit - 1];
  const n = z.number().parse(total ?? 0);
  return {
    rows: rows.slice(0, query.limit),
    total: n,
    totalIsLowerBound: counted && n >= EXACT_TOTAL,
    nextCursor: rows.length > query.limit && last ? encodeCursor(keyOf(last)) : null,
  };
}
