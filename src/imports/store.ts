import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, type Param, type Statement, statement } from "../platform/d1";
import { imports } from "./tables";

export type ContactImport = InferSelectModel<typeof imports>;

const COLUMNS = columnsOf(imports, "m");

/** A file that is being read. `dueAt`: when what is left of it, should the request end, is removed. */
export async function insertImport(
  db: Db,
  row: { workspaceId: string; id: string; createdBy: string | null; dueAt: number },
  now: number,
): Promise<void> {
  await db.run(
    `INSERT INTO imports (workspace_id, id, status, country, total_rows, cursor, imported, updated, failed, step_new, created_by, created_at, updated_at, due_at)
     VALUES (?1, ?2, 'receiving', (SELECT json_extract(s.settings, '$.default_country') FROM workspace_states s WHERE s.workspace_id = ?1),
       0, 0, 0, 0, 0, 0, ?3, ?4, ?4, ?5)`,
    row.workspaceId,
    row.id,
    row.createdBy,
    now,
    row.dueAt,
  );
}

/** All its rows are stored: from here on it is carried through, whatever happens. */
export async function startImport(
  db: Db,
  row: { workspaceId: string; id: string; fileName: string | null; totalRows: number; dueAt: number },
  now: number,
): Promise<ContactImport> {
  const raw = await db.first(
    `UPDATE imports AS m SET status = CASE WHEN ?4 = 0 THEN 'completed' ELSE 'processing' END, completed_at = CASE WHEN ?4 = 0 THEN ?6 END,
       file_name = ?3, total_rows = ?4, due_at = ?5, updated_at = ?6
     WHERE workspace_id = ?1 AND id = ?2 AND status = 'receiving' RETURNING ${COLUMNS.replaceAll("m.", "")}`,
    row.workspaceId,
    row.id,
    row.fileName,
    row.totalRows,
    row.dueAt,
    now,
  );
  if (!raw) throw new Error("An import was gone before it began");
  return fromRow(imports, raw);
}

export async function deleteImport(db: Db, workspaceId: string, id: string): Promise<void> {
  await db.run("DELETE FROM imports WHERE workspace_id = ?1 AND id = ?2", workspaceId, id);
}

/** An import by id, in one of these workspaces. */
export async function selectImport(db: Db, workspaceIds: string[], id: string): Promise<ContactImport | null> {
  const raw = await db.first(
    `SELECT ${COLUMNS} FROM json_each(?1) j CROSS JOIN imports m WHERE m.workspace_id = j.value AND m.id = ?2 AND m.status <> 'receiving'`,
    JSON.stringify(workspaceIds),
    id,
  );
  return raw && fromRow(imports, raw);
}

/** What the cron has to look at, of all workspaces of a shard. */
export async function selectDue(db: Db, now: number, limit: number): Promise<ContactImport[]> {
  const rows = await db.all(
    `SELECT ${COLUMNS} FROM imports m WHERE m.due_at <= ?1 ORDER BY m.due_at LIMIT ?2`,
    now,
    limit,
  );
  return rows.map((raw) => fromRow(imports, raw));
}

export async function postpone(db: Db, workspaceId: string, id: string, dueAt: number): Promise<void> {
  await db.run("UPDATE imports SET due_at = ?3 WHERE workspace_id = ?1 AND id = ?2", workspaceId, id, dueAt);
}

/** One person of a step: the rows of the file that name the same number, as one. */
export interface Person {
  /** The new contact's, if nobody has the number. */
  id: string;
  digits: string;
  /** The same digits, or the other spelling of the number. */
  variant: string;
  name: string | null;
  tags: string[] | null;
}

interface Step {
  workspaceId: string;
  importId: string;
  stepId: string;
  from: number;
  to: number;
  /** Good rows, of which several may name one person. */
  good: number;
  failed: number;
  people: readonly Person[];
  /** What else is done with those who are new, in the same transaction: before they are stored. */
  withNew(contacts: { sql: string; params: readonly Param[] }): Statement[];
  /** When the cron looks again: soon where rows are left, late when it is done. */
  dueAt: number;
  doneDueAt: number;
}

const OWNER = `(SELECT i.contact_id FROM contact_identities i WHERE i.workspace_id = j.value ->> 'ws' AND i.kind IN ('phone', 'wa')
  AND i.value IN (j.value ->> 'd', j.value ->> 'v') ORDER BY i.value <> j.value ->> 'd', i.kind LIMIT 1)`;

const FOUND = `FROM json_each(?1) j LEFT JOIN contacts c ON c.workspace_id = j.value ->> 'ws' AND c.id = ${OWNER}`;

/** Who is not on the list yet: nobody's number, or that of a deleted contact that once came this way. In file order. */
const NEW = `SELECT COALESCE(c.id, j.value ->> 'id') AS id, j.key AS at ${FOUND}
  WHERE (c.id IS NULL OR (c.deleted_at IS NOT NULL AND c.merged_into IS NULL AND c.source IN ('import', 'wordpress')))`;

/** Whether this very transaction moved the cursor: of two runs over the same rows only one does anything. */
const OURS = "EXISTS (SELECT 1 FROM imports m WHERE m.workspace_id = ?2 AND m.id = ?3 AND m.step_id = ?4)";

const liveRow = z.object({ d: z.string(), live: z.number() });

/**
 * Applies the rows `from` to `to` and moves the cursor, in one transaction and one round trip. A contact that was
 * deleted comes back; a recorded opt-out stays. Null when another run had these rows already, else the import as it is
 * now and the digits of those who were on the list before.
 */
export async function applyStep(
  db: Db,
  step: Step,
  now: number,
): Promise<{ import: ContactImport; known: Set<string> } | null> {
  const people = JSON.stringify(
    step.people.map((p) => ({ ws: step.workspaceId, id: p.id, d: p.digits, v: p.variant, n: p.name, t: p.tags })),
  );
  const proof = JSON.stringify({ source: "import", reference: step.importId, at: now });
  const ours = [people, step.workspaceId, step.importId, step.stepId] as const;
  const [before, claimed] = await db.batch([
    statement(`SELECT j.value ->> 'd' AS d, c.id IS NOT NULL AND c.deleted_at IS NULL AS live ${FOUND}`, people),
    statement(
      `UPDATE imports SET step_id = ?4, step_new = f.n, cursor = ?6, imported = imported + f.n, updated = updated + ?7 - f.n,
         failed = failed + ?8, updated_at = ?9, status = CASE WHEN ?6 >= total_rows THEN 'completed' ELSE status END,
         completed_at = CASE WHEN ?6 >= total_rows THEN ?9 END, due_at = CASE WHEN ?6 >= total_rows THEN ?11 ELSE ?10 END
       FROM (SELECT count(*) AS n ${FOUND} WHERE c.id IS NULL OR c.deleted_at IS NOT NULL) f
       WHERE workspace_id = ?2 AND id = ?3 AND cursor = ?5 AND status = 'processing' RETURNING ${COLUMNS.replaceAll("m.", "")}`,
      ...ours,
      step.from,
      step.to,
      step.good,
      step.failed,
      now,
      step.dueAt,
      step.doneDueAt,
    ),
    addToTotal(step),
    ...step.withNew({ sql: `${NEW} AND ${OURS}`, params: ours }),
    statement(
      `UPDATE contacts AS c SET updated_at = ?5, deleted_at = NULL, name = COALESCE(j.value ->> 'n', c.name), tags = COALESCE(j.value ->> 't', c.tags),
         phone_number = COALESCE(c.phone_number, '+' || (j.value ->> 'd')), wa_id = COALESCE(c.wa_id, j.value ->> 'd'),
         opted_in = c.opted_out_at IS NULL, consent_at = CASE WHEN c.opted_in = 0 AND c.opted_out_at IS NULL THEN ?5 ELSE c.consent_at END,
         consent_proof = CASE WHEN c.opted_in = 0 AND c.opted_out_at IS NULL THEN ?6 ELSE c.consent_proof END
       FROM json_each(?1) j WHERE c.workspace_id = j.value ->> 'ws' AND c.id = ${OWNER} AND c.merged_into IS NULL AND ${OURS}`,
      ...ours,
      now,
      proof,
    ),
    statement(
      `INSERT INTO contacts (workspace_id, id, kind, phone_number, wa_id, name, tags, opted_in, consent_at, consent_proof, source, created_at, updated_at)
       SELECT j.value ->> 'ws', j.value ->> 'id', 'person', '+' || (j.value ->> 'd'), j.value ->> 'd', j.value ->> 'n', COALESCE(j.value ->> 't', '[]'),
         1, ?5, ?6, 'import', ?5, ?5 FROM json_each(?1) j WHERE ${OWNER} IS NULL AND ${OURS}`,
      ...ours,
      now,
      proof,
    ),
    statement(
      `INSERT INTO contact_identities (workspace_id, kind, value, contact_id)
       SELECT j.value ->> 'ws', k.value, j.value ->> 'd', c.id FROM json_each(?1) j CROSS JOIN contacts c CROSS JOIN json_each('["phone","wa"]') k
       WHERE c.workspace_id = j.value ->> 'ws' AND c.id = j.value ->> 'id' AND ${OURS} ON CONFLICT DO NOTHING`,
      ...ours,
    ),
  ]);
  const row = claimed?.results[0];
  if (!row) return null;
  const known = (before?.results ?? []).map((raw) => liveRow.parse(raw)).filter((found) => found.live === 1);
  return { import: fromRow(imports, row), known: new Set(known.map((found) => found.d)) };
}

function addToTotal(step: Step): Statement {
  return statement(
    `INSERT INTO list_totals (workspace_id, list, n) SELECT m.workspace_id, 'contacts', m.step_new FROM imports m
     WHERE m.workspace_id = ?1 AND m.id = ?2 AND m.step_id = ?3 AND m.step_new > 0
     ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + excluded.n`,
    step.workspaceId,
    step.importId,
    step.stepId,
  );
}
