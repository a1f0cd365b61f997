/** SQL of the contacts API: single contacts and lists. */
import { z } from "zod";
import { columnsOf, type Db, fromRow, type Statement, statement } from "../platform/d1";
import { decodeCursor, EXACT_TOTAL, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { type ContactFilter, isFiltered, matchOf } from "./search";
import type { Contact } from "./store";
import { contacts } from "./tables";
import { numberVariants } from "./variants";

const COLUMNS = columnsOf(contacts, "c");
const LIVE = "c.deleted_at IS NULL AND c.merged_into IS NULL";

export interface NewApiContact {
  workspaceId: string;
  id: string;
  phoneNumber: string;
  digits: string;
  name: string | null;
  tags: string[];
  /** Null: nobody said. Then somebody new has, and somebody who had opted out has not. */
  optedIn: boolean | null;
  /** JSON */
  proof: string;
}

export type CreateResult = { kind: "created" | "revived"; contact: Contact } | { kind: "exists"; id: string };

/**
 * Creates a contact by its number, in one round trip. Somebody who has that number already is told by id; a deleted one
 * comes back with what is given now (contract 3), but stays out if they had opted out and nobody says otherwise.
 */
export async function insertContact(db: Db, row: NewApiContact, now: number): Promise<CreateResult> {
  // The number as it is given, or as WhatsApp spells it.
  const [variant = row.digits] = numberVariants(row.digits).filter((spelled) => spelled !== row.digits);
  const ownerOf = (
    digits: string,
    other: string,
  ) => `(SELECT i.contact_id FROM contact_identities i WHERE i.workspace_id = ?1
    AND i.kind IN ('phone', 'wa') AND i.value IN (${digits}, ${other}) ORDER BY i.value <> ${digits}, i.kind LIMIT 1)`;
  const owner = ownerOf("?2", "?10");
  const kept = "?11 = 0 AND opted_out_at IS NOT NULL";
  const consent = `opted_in = CASE WHEN ${kept} THEN opted_in ELSE ?6 END,
    opted_out_at = CASE WHEN ${kept} THEN opted_out_at WHEN ?6 = 1 THEN NULL ELSE ?7 END,
    consent_at = CASE WHEN ${kept} THEN consent_at ELSE ?7 END, consent_proof = CASE WHEN ${kept} THEN consent_proof ELSE ?8 END`;
  const optedIn = Number(row.optedIn ?? true);
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
      variant,
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
            AND c.id = ${ownerOf("?3", "?4")})
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + 1`,
      row.workspaceId,
      row.id,
      row.digits,
      variant,
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
      variant,
      Number(row.optedIn !== null),
    ),
    statement(
      `SELECT ${COLUMNS} FROM contacts c WHERE c.workspace_id = ?1 AND c.id = ${ownerOf("?2", "?3")}`,
      row.workspaceId,
      row.digits,
      variant,
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
const countRow = z.object({ n: z.number() });
const placeRow = z.object({ id: z.string() });

/** A page of the list by age stops after this many rows, deleted and merged ones among them (pipeline 19). */
const MAX_SCANNED = 2000;

/** Contacts, newest first: by age, or, with any filter, by the full-text index alone. */
export async function pageContacts(
  db: Db,
  workspaceId: string,
  filter: ContactFilter,
  query: PageQuery,
): Promise<Page<Contact>> {
  const filtered = isFiltered(filter);
  const total = filtered
    ? statement(
        `SELECT count(*) AS n FROM (SELECT 1 FROM contacts_fts f WHERE contacts_fts MATCH ?1 LIMIT ${EXACT_TOTAL})`,
        matchOf(workspaceId, filter),
      )
    : statement("SELECT n FROM list_totals WHERE workspace_id = ?1 AND list = 'contacts'", workspaceId);
  const [counted, page] = await db.batch([total, walk(workspaceId, filter, query)]);
  const { n } = countRow.parse(counted?.results[0] ?? { n: 0 });
  const found = foundIn(page, filter, query);
  const whole = query.cursor === undefined && query.offset === 0 && found.rows.length === n;
  return {
    rows: found.rows,
    total: n,
    totalIsLowerBound: filtered && n >= EXACT_TOTAL,
    nextCursor: found.nextCursor ?? (whole ? null : await endOfWalk(db, workspaceId, filter, query)),
  };
}

/** The next contacts of a walk over all that match, without counting them. */
export async function nextContacts(
  db: Db,
  workspaceId: string,
  filter: ContactFilter,
  query: { cursor: string | undefined; limit: number },
): Promise<{ rows: Contact[]; nextCursor: string | null }> {
  const all = { ...query, offset: 0 };
  const [page] = await db.batch([walk(workspaceId, filter, all)]);
  const found = foundIn(page, filter, all);
  return { rows: found.rows, nextCursor: found.nextCursor ?? (await endOfWalk(db, workspaceId, filter, all)) };
}

/** A page and one more. A condition that may be absent is no bound for an index: each has its statement. */
function walk(workspaceId: string, filter: ContactFilter, query: PageQuery): Statement {
  const take = query.limit + 1;
  const offset = query.cursor === undefined ? query.offset : 0;
  if (isFiltered(filter)) {
    const after = query.cursor === undefined ? [] : decodeCursor(query.cursor, rowCursor);
    // D1 binds numbers as REAL, which the full-text index takes for no bound: it would pass over every row before.
    return statement(
      `SELECT ${COLUMNS} FROM (SELECT f.rowid AS r FROM contacts_fts f WHERE contacts_fts MATCH ?1 ${after.length === 0 ? "" : "AND f.rowid < CAST(?3 AS INTEGER)"}
         ORDER BY f.rowid DESC LIMIT ${take} OFFSET ${offset}) m CROSS JOIN contacts c WHERE c.row_id = m.r AND c.workspace_id = ?2 ORDER BY m.r DESC`,
      matchOf(workspaceId, filter),
      workspaceId,
      ...after,
    );
  }
  const after = ageOf(query);
  return statement(
    `SELECT ${COLUMNS} FROM (SELECT c.* ${byAge(after)} LIMIT ${MAX_SCANNED + offset}) c WHERE ${LIVE} LIMIT ${take} OFFSET ${offset}`,
    workspaceId,
    ...after,
  );
}

function ageOf(query: PageQuery): string[] {
  return query.cursor === undefined ? [] : decodeCursor(query.cursor, ageCursor);
}

function byAge(after: readonly string[]): string {
  return `FROM contacts c INDEXED BY contacts_id WHERE c.workspace_id = ?1 ${after.length === 0 ? "" : "AND c.id < ?2"} ORDER BY c.id DESC`;
}

function foundIn(
  page: D1Result<Record<string, unknown>> | undefined,
  filter: ContactFilter,
  query: PageQuery,
): { rows: Contact[]; nextCursor: string | null } {
  const rows = (page?.results ?? []).map((row) => fromRow(contacts, row));
  const last = rows[query.limit - 1];
  if (rows.length <= query.limit || !last) return { rows, nextCursor: null };
  return {
    rows: rows.slice(0, query.limit),
    nextCursor: encodeCursor(isFiltered(filter) ? [last.rowId] : [last.id]),
  };
}

/**
 * Where a walk by age stopped that left its page short, even empty: contacts that were deleted may be all it met, and
 * there may be a next page all the same. Null when there was nothing more to walk over.
 */
async function endOfWalk(db: Db, workspaceId: string, filter: ContactFilter, query: PageQuery): Promise<string | null> {
  if (isFiltered(filter)) return null;
  const after = ageOf(query);
  const scanned = MAX_SCANNED + (query.cursor === undefined ? query.offset : 0);
  const row = await db.first(`SELECT c.id AS id ${byAge(after)} LIMIT 1 OFFSET ${scanned - 1}`, workspaceId, ...after);
  return row && encodeCursor([placeRow.parse(row).id]);
}
