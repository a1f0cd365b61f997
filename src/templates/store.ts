import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { phoneNumbers } from "../phone-numbers/tables";
import { columnsOf, type Db, fromRow, type Statement, statement } from "../platform/d1";
import { decodeCursor, EXACT_TOTAL, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { templates } from "./tables";

export type Template = InferSelectModel<typeof templates>;

const COLUMNS = columnsOf(templates, "t");
/** Of the table itself, for RETURNING. */
export const OWN_COLUMNS = COLUMNS.replaceAll("t.", "");

export function toTemplate(row: Record<string, unknown>): Template {
  return fromRow(templates, row);
}

/** A live template among the caller's workspaces (contract 5). */
export async function findTemplate(db: Db, workspaceIds: readonly string[], id: string): Promise<Template | null> {
  const row = await db.first(
    `SELECT ${COLUMNS} FROM json_each(?1) w CROSS JOIN templates t
     WHERE t.workspace_id = w.value AND t.id = ?2 AND t.deleted_at IS NULL`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && toTemplate(row);
}

/** A live template by what a send names. */
export async function selectTemplate(
  db: Db,
  key: { workspaceId: string; businessId: string; name: string; language: string },
): Promise<Template | null> {
  const row = await db.first(
    `SELECT ${COLUMNS} FROM templates t
     WHERE t.workspace_id = ?1 AND t.business_id = ?2 AND t.name = ?3 AND t.language = ?4 AND t.deleted_at IS NULL`,
    key.workspaceId,
    key.businessId,
    key.name,
    key.language,
  );
  return row && toTemplate(row);
}

/** Templates by id; deleted ones too: what was planned with them must learn of it. */
export async function selectTemplatesById(
  db: Db,
  keys: readonly { workspaceId: string; id: string }[],
): Promise<Template[]> {
  const rows = await db.all(
    `SELECT ${COLUMNS} FROM json_each(?1) j CROSS JOIN templates t
     WHERE t.workspace_id = j.value ->> 'ws' AND t.id = j.value ->> 'id'`,
    JSON.stringify(keys.map(({ workspaceId, id }) => ({ ws: workspaceId, id }))),
  );
  return rows.map(toTemplate);
}

/** A live number of the template's account that has a token: the one it was made through, else any. */
export async function selectNumberOfAccount(
  db: Db,
  template: Template,
): Promise<InferSelectModel<typeof phoneNumbers> | null> {
  const row = await db.first(
    `SELECT ${columnsOf(phoneNumbers, "p")} FROM phone_numbers p
     WHERE p.workspace_id = ?1 AND p.business_id = ?2 AND p.deleted_at IS NULL AND p.access_token_sealed IS NOT NULL
     ORDER BY (p.id = ?3) DESC, (p.status = 'active') DESC, p.id LIMIT 1`,
    template.workspaceId,
    template.businessId,
    template.phoneNumberId,
  );
  return row && fromRow(phoneNumbers, row);
}

export interface TemplateFilter {
  businessId?: string | null;
  status?: Template["status"];
  category?: Template["category"];
  name?: string;
  language?: string;
}

const idCursor = z.tuple([z.string()]);
const countRow = z.object({ n: z.number() });

/** Newest first. An account holds a few hundred templates, so filters look at the workspace's rows. */
export async function pageTemplates(
  db: Db,
  workspaceId: string,
  filter: TemplateFilter,
  query: PageQuery,
): Promise<Page<Template>> {
  const filters = [
    ["t.business_id = ?", filter.businessId],
    ["t.status = ?", filter.status],
    ["t.category = ?", filter.category],
    ["t.name = ?", filter.name],
    ["t.language = ?", filter.language],
  ] as const;
  const given = filters.flatMap(([sql, value]) => (value === undefined ? [] : [{ sql, value }]));
  const where = ["t.workspace_id = ?", "t.deleted_at IS NULL", ...given.map(({ sql }) => sql)].join(" AND ");
  const params = [workspaceId, ...given.map(({ value }) => value)];
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, idCursor)[0];
  const [page, count] = await db.batch([
    statement(
      `SELECT ${COLUMNS} FROM templates t WHERE ${where} ${after === null ? "" : "AND t.id < ?"}
       ORDER BY t.id DESC LIMIT ? OFFSET ?`,
      ...params,
      ...(after === null ? [] : [after]),
      query.limit + 1,
      after === null ? query.offset : 0,
    ),
    given.length === 0
      ? statement("SELECT n FROM list_totals WHERE workspace_id = ?1 AND list = 'templates'", workspaceId)
      : statement(
          `SELECT count(*) AS n FROM (SELECT 1 FROM templates t WHERE ${where} LIMIT ${EXACT_TOTAL})`,
          ...params,
        ),
  ]);
  const rows = (page?.results ?? []).map(toTemplate);
  const total = countRow.safeParse(count?.results[0]).data?.n ?? 0;
  const last = rows.length > query.limit ? rows[query.limit - 1] : undefined;
  return {
    rows: rows.slice(0, query.limit),
    total,
    totalIsLowerBound: given.length > 0 && total >= EXACT_TOTAL,
    nextCursor: last ? encodeCursor([last.id]) : null,
  };
}

/** A template about to be handed in: the row that keeps its name for us meanwhile. */
export type NewTemplate = Pick<
  Template,
  | "workspaceId"
  | "id"
  | "phoneNumberId"
  | "businessId"
  | "name"
  | "language"
  | "category"
  | "parameterFormat"
  | "components"
> & { claim: string; dueAt: number };

/**
 * Takes a name and language in an account. A deleted row of that name comes back under its old id, and remembers which
 * template of the provider's it was. Answers the row, or the live one that has the name.
 */
export async function reserveTemplate(
  db: Db,
  row: NewTemplate,
  now: number,
): Promise<{ kind: "reserved"; template: Template } | { kind: "exists"; id: string }> {
  const results = await db.batch([
    statement(
      `INSERT INTO templates (workspace_id, id, phone_number_id, business_id, name, language, category, parameter_format,
         components, status, due_at, claim, attempts, created_at, updated_at)
       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'PENDING', ?10, ?11, 0, ?12, ?12)
       ON CONFLICT (workspace_id, business_id, name, language) DO UPDATE SET phone_number_id = excluded.phone_number_id,
         category = excluded.category, parameter_format = excluded.parameter_format, components = excluded.components,
         status = 'PENDING', provider_status = NULL, meta_template_id = NULL,
         former_template_id = COALESCE(templates.meta_template_id, templates.former_template_id),
         rejection_reason = NULL, note = NULL, quality_score = NULL, status_at = NULL, due_at = excluded.due_at,
         claim = excluded.claim, attempts = 0, synced_at = NULL, created_at = excluded.created_at,
         updated_at = excluded.updated_at, deleted_at = NULL
       WHERE templates.deleted_at IS NOT NULL OR templates.provider_status = 'DELETED'`,
      row.workspaceId,
      row.id,
      row.phoneNumberId,
      row.businessId,
      row.name,
      row.language,
      row.category,
      row.parameterFormat,
      JSON.stringify(row.components),
      row.dueAt,
      row.claim,
      now,
    ),
    statement(
      `SELECT ${COLUMNS} FROM templates t WHERE t.workspace_id = ?1 AND t.business_id = ?2 AND t.name = ?3 AND t.language = ?4`,
      row.workspaceId,
      row.businessId,
      row.name,
      row.language,
    ),
  ]);
  const stored = results[1]?.results[0];
  if (!stored) throw new Error("A template that was reserved is not there");
  const template = toTemplate(stored);
  return template.claim === row.claim ? { kind: "reserved", template } : { kind: "exists", id: template.id };
}

/** Gives a reserved name back: the provider refused. A row that had come back goes again, with its mark. */
export async function unreserveTemplate(db: Db, { workspaceId, id }: Template, claim: string, now: number) {
  const mine = "workspace_id = ?1 AND id = ?2 AND claim = ?3 AND meta_template_id IS NULL";
  await db.batch([
    statement(`DELETE FROM templates WHERE ${mine} AND former_template_id IS NULL`, workspaceId, id, claim),
    statement(
      `UPDATE templates SET deleted_at = ?4, meta_template_id = former_template_id, due_at = NULL, claim = NULL WHERE ${mine}`,
      workspaceId,
      id,
      claim,
      now,
    ),
  ]);
}

/** What is known after talking to the provider. */
export interface Settlement {
  metaTemplateId: string;
  status: Template["status"];
  providerStatus: string;
  category: Template["category"];
}

/**
 * Ends a submission: the provider has the template. Its webhook may have been faster; then its word on the status stands.
 * Answers the row as it is, null when it is gone.
 */
export async function settleSubmitted(
  db: Db,
  { workspaceId, id }: Template,
  claim: string,
  settled: Settlement,
  now: number,
): Promise<Template | null> {
  const results = await db.batch([
    statement(
      `UPDATE templates SET status = CASE WHEN meta_template_id IS NULL THEN ?5 ELSE status END,
         provider_status = CASE WHEN meta_template_id IS NULL THEN ?6 ELSE provider_status END,
         category = ?7, meta_template_id = COALESCE(meta_template_id, ?4), note = NULL, due_at = NULL, claim = NULL,
         attempts = 0, synced_at = ?8, updated_at = ?8
       WHERE workspace_id = ?1 AND id = ?2 AND claim = ?3`,
      workspaceId,
      id,
      claim,
      settled.metaTemplateId,
      settled.status,
      settled.providerStatus,
      settled.category,
      now,
    ),
    selectLive(workspaceId, id),
  ]);
  const row = results[1]?.results[0];
  return row ? toTemplate(row) : null;
}

function selectLive(workspaceId: string, id: string): Statement {
  return statement(
    `SELECT ${COLUMNS} FROM templates t WHERE t.workspace_id = ?1 AND t.id = ?2 AND t.deleted_at IS NULL`,
    workspaceId,
    id,
  );
}

/** Ends a try without a result: the next one, or (`dueAt` null) none, with the reason. */
export async function settlePostponed(
  db: Db,
  { workspaceId, id }: Template,
  claim: string,
  next: { dueAt: number | null; note: string | null; rejection: string | null },
  now: number,
): Promise<Template | null> {
  const results = await db.batch([
    statement(
      `UPDATE templates SET due_at = ?4, note = ?5, claim = NULL, updated_at = ?7,
         rejection_reason = COALESCE(?6, rejection_reason), status = CASE WHEN ?6 IS NULL THEN status ELSE 'REJECTED' END
       WHERE workspace_id = ?1 AND id = ?2 AND claim = ?3`,
      workspaceId,
      id,
      claim,
      next.dueAt,
      next.note,
      next.rejection,
      now,
    ),
    selectLive(workspaceId, id),
  ]);
  const row = results[1]?.results[0];
  return row ? toTemplate(row) : null;
}

/** The templates something is due for, oldest first, each claimed by one sweep only. */
export async function claimDue(
  db: Db,
  claim: { token: string; now: number; leaseUntil: number; limit: number },
): Promise<Template[]> {
  const rows = await db.all(
    `UPDATE templates SET claim = ?1, due_at = ?3, attempts = attempts + 1
     WHERE (workspace_id, id) IN (SELECT workspace_id, id FROM templates WHERE due_at <= ?2 ORDER BY due_at LIMIT ?4)
       AND due_at <= ?2 AND deleted_at IS NULL
     RETURNING ${OWN_COLUMNS}`,
    claim.token,
    claim.now,
    claim.leaseUntil,
    claim.limit,
  );
  return rows.map(toTemplate);
}

/**
 * Claims one template, with changes to what is about to be handed in. Null while somebody else is handing it in, and
 * once the provider has it.
 */
export async function claimUnsubmitted(
  db: Db,
  { workspaceId, id }: Template,
  claim: { token: string; now: number; leaseUntil: number },
  change: { components: Template["components"] | null; category: Template["category"] | null },
): Promise<Template | null> {
  const row = await db.first(
    `UPDATE templates SET claim = ?3, due_at = ?5, attempts = 0, status = 'PENDING', rejection_reason = NULL,
       components = COALESCE(?6, components), category = COALESCE(?7, category), updated_at = ?4
     WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL AND meta_template_id IS NULL
       AND (claim IS NULL OR due_at IS NULL OR due_at <= ?4)
     RETURNING ${OWN_COLUMNS}`,
    workspaceId,
    id,
    claim.token,
    claim.now,
    claim.leaseUntil,
    change.components === null ? null : JSON.stringify(change.components),
    change.category,
  );
  return row && toTemplate(row);
}

/** Sets what the provider was just told, until it is asked again at `dueAt`. */
export async function updateEdited(
  db: Db,
  { workspaceId, id }: Template,
  edit: { components: Template["components"] | null; dueAt: number },
  now: number,
): Promise<Template | null> {
  const row = await db.first(
    `UPDATE templates SET components = COALESCE(?3, components), due_at = ?4, attempts = 0, updated_at = ?5
     WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL RETURNING ${OWN_COLUMNS}`,
    workspaceId,
    id,
    edit.components === null ? null : JSON.stringify(edit.components),
    edit.dueAt,
    now,
  );
  return row && toTemplate(row);
}

/** Deletes softly, keeping the provider's id as the mark. False when it was gone already. */
export async function softDeleteTemplate(
  db: Db,
  { workspaceId, id }: Template,
  metaTemplateId: string | null,
  now: number,
): Promise<boolean> {
  const changed = await db.run(
    `UPDATE templates SET deleted_at = ?4, updated_at = ?4, due_at = NULL, claim = NULL,
       meta_template_id = COALESCE(meta_template_id, ?3)
     WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL`,
    workspaceId,
    id,
    metaTemplateId,
    now,
  );
  return changed > 0;
}
