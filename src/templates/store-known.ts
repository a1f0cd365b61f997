/** What the provider says of templates, stored. */
import { type Db, jsonChunks, type Statement, statement } from "../platform/d1";
import { OWN_COLUMNS, type Template, toTemplate } from "./store";

/** A template as the provider has it, for one workspace. */
export interface KnownTemplate {
  workspaceId: string;
  businessId: string;
  phoneNumberId: string;
  /** Used when there is no row of it yet. */
  id: string;
  metaTemplateId: string;
  name: string;
  language: string;
  category: Template["category"];
  parameterFormat: Template["parameterFormat"];
  components: Template["components"];
  status: Template["status"];
  providerStatus: string;
  rejectionReason: string | null;
  qualityScore: string | null;
}

/** A webhook may be dated up to this long before the answer that already told the same: clocks differ. */
const CLOCK_TOLERANCE = 60_000;

/**
 * What the provider answered, as SET: `value` names an answered column, `asked` the time it was asked at. A webhook that
 * was sent after that knows the status better.
 */
function facts(value: (column: string) => string, asked: string): string {
  const older = (column: string) =>
    `CASE WHEN COALESCE(templates.status_at, 0) > ${asked} THEN templates.${column} ELSE ${value(column)} END`;
  return `category = ${value("category")}, parameter_format = ${value("parameter_format")}, components = ${value("components")},
    status = ${older("status")}, provider_status = ${older("provider_status")},
    rejection_reason = ${older("rejection_reason")}, meta_template_id = ${value("meta_template_id")},
    quality_score = ${value("quality_score")}, note = NULL, due_at = NULL, claim = NULL, attempts = 0,
    status_at = MAX(COALESCE(templates.status_at, 0), ${asked} - ${CLOCK_TOLERANCE}), synced_at = ${asked}, updated_at = ${asked}`;
}

/**
 * Stores what the provider listed when it was asked at `askedAt` (ms). A template that was deleted here stays deleted, however long the provider goes on
 * listing it; another one of the same name (its id differs) is a new one. Each statement answers the ids it wrote.
 */
export function upsertKnown(rows: readonly KnownTemplate[], askedAt: number): Statement[] {
  const json = rows.map((row) => ({
    ws: row.workspaceId,
    id: row.id,
    num: row.phoneNumberId,
    biz: row.businessId,
    meta: row.metaTemplateId,
    name: row.name,
    lang: row.language,
    cat: row.category,
    format: row.parameterFormat,
    components: JSON.stringify(row.components),
    status: row.status,
    word: row.providerStatus,
    reason: row.rejectionReason,
    quality: row.qualityScore,
  }));
  return jsonChunks(json).map((chunk) =>
    statement(
      `INSERT INTO templates (workspace_id, id, phone_number_id, business_id, name, language, category, parameter_format,
         components, status, provider_status, meta_template_id, rejection_reason, quality_score, status_at, attempts,
         synced_at, created_at, updated_at)
       SELECT j.value ->> 'ws', j.value ->> 'id', j.value ->> 'num', j.value ->> 'biz', j.value ->> 'name', j.value ->> 'lang',
         j.value ->> 'cat', j.value ->> 'format', j.value ->> 'components', j.value ->> 'status', j.value ->> 'word',
         j.value ->> 'meta', j.value ->> 'reason', j.value ->> 'quality', ?2 - ${CLOCK_TOLERANCE}, 0, ?2, ?2, ?2
       FROM json_each(?1) j WHERE true
       ON CONFLICT (workspace_id, business_id, name, language) DO UPDATE SET ${facts((column) => `excluded.${column}`, "?2")},
         former_template_id = CASE WHEN templates.deleted_at IS NULL THEN templates.former_template_id
           ELSE COALESCE(templates.meta_template_id, templates.former_template_id) END, deleted_at = NULL
       WHERE templates.former_template_id IS NOT excluded.meta_template_id
         AND (templates.deleted_at IS NULL OR templates.meta_template_id IS NOT excluded.meta_template_id)
       RETURNING id`,
      chunk,
      askedAt,
    ),
  );
}

/** What the provider said at `askedAt` (ms) of one template that is stored. Answers the row, null when it is gone. */
export async function updateKnown(db: Db, known: KnownTemplate, askedAt: number): Promise<Template | null> {
  const answered = [
    ["category", known.category],
    ["parameter_format", known.parameterFormat],
    ["components", JSON.stringify(known.components)],
    ["status", known.status],
    ["provider_status", known.providerStatus],
    ["rejection_reason", known.rejectionReason],
    ["meta_template_id", known.metaTemplateId],
    ["quality_score", known.qualityScore],
  ] as const;
  const value = (column: string) => `?${answered.findIndex(([name]) => name === column) + 4}`;
  const row = await db.first(
    `UPDATE templates SET ${facts(value, "?3")}
     WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL RETURNING ${OWN_COLUMNS}`,
    known.workspaceId,
    known.id,
    askedAt,
    ...answered.map(([, given]) => given),
  );
  return row && toTemplate(row);
}

const GONE = `status = 'REJECTED', provider_status = 'DELETED', rejection_reason = 'The provider does not have it any more',
  due_at = NULL, claim = NULL, synced_at = ?3, updated_at = ?3`;

/** Marks a template that the provider does not have any more. */
export async function updateGone(db: Db, { workspaceId, id }: Template, now: number): Promise<Template | null> {
  const row = await db.first(
    `UPDATE templates SET ${GONE} WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL RETURNING ${OWN_COLUMNS}`,
    workspaceId,
    id,
    now,
  );
  return row && toTemplate(row);
}

/** Marks what a complete listing, begun at `startedAt`, did not hold. Answers how many. */
export async function updateUnlisted(db: Db, workspaceId: string, businessId: string, startedAt: number) {
  return db.run(
    `UPDATE templates SET ${GONE}
     WHERE workspace_id = ?1 AND business_id = ?2 AND deleted_at IS NULL AND meta_template_id IS NOT NULL
       AND provider_status IS NOT 'DELETED' AND COALESCE(synced_at, 0) < ?3 AND created_at < ?3`,
    workspaceId,
    businessId,
    startedAt,
  );
}
