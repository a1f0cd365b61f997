/** SQL of a reading: every step is one transaction that moves the cursor and stores the people, or neither. */
import { type Db, type Param, type Statement, statement } from "../platform/d1";
import type { Person } from "./records";
import { NO_COUNTS, type SyncCounts, type SyncResult } from "./schema";
import { SOURCE_COLUMNS, type Source, toSource } from "./store";
import type { Cursor, Watermark } from "./tables";

type Key = Pick<Source, "workspaceId" | "id">;

/** A cursor of a reading that failed is gone on with for so long. ms */
const CURSOR_KEPT = 86_400_000;

/**
 * Starts a reading where none is under way; null when one is, or the source is gone or disabled. `full` forgets what was
 * read; `forced` does not ask whether it is enabled.
 */
export async function startSync(
  db: Db,
  { workspaceId, id }: Key,
  start: { syncId: string; full: boolean; forced: boolean; dueAt: number },
  now: number,
): Promise<Source | null> {
  const row = await db.first(
    `UPDATE wordpress_sources SET status = 'running', sync_id = ?3, counts = ?4, started_at = ?5, not_before = ?5, failures = 0,
       last_error = NULL, lease = NULL, lease_until = NULL, due_at = ?6, updated_at = ?5,
       cursor = iif(?7 OR json_extract(cursor, '$.begun') < ?5 - ${CURSOR_KEPT}, NULL, cursor), watermark = iif(?7, NULL, watermark)
     WHERE workspace_id = ?1 AND id = ?2 AND status = 'idle' AND (enabled OR ?8) RETURNING *`,
    workspaceId,
    id,
    start.syncId,
    JSON.stringify(NO_COUNTS),
    now,
    start.dueAt,
    Number(start.full),
    Number(start.forced),
  );
  return row && toSource(row);
}

/** Takes the reading for one run: null when it is over, another run has it, or it is not its time. */
export async function claimSync(
  db: Db,
  { workspaceId, id, syncId }: Key & { syncId: string },
  lease: { token: string; until: number; now: number },
): Promise<Source | null> {
  const row = await db.first(
    `UPDATE wordpress_sources SET lease = ?4, lease_until = ?5 WHERE workspace_id = ?1 AND id = ?2 AND sync_id = ?3
       AND status = 'running' AND not_before <= ?6 AND (lease IS NULL OR lease_until <= ?6) RETURNING *`,
    workspaceId,
    id,
    syncId,
    lease.token,
    lease.until,
    lease.now,
  );
  return row && toSource(row);
}

/** One person of a page, with the other spelling of the number. */
export interface NewPerson extends Person {
  /** The contact's, if nobody has the number. */
  id: string;
  variant: string;
}

interface PageStep {
  stepId: string;
  cursor: Cursor;
  read: number;
  /** Records whose number could not be read. */
  failed: number;
  people: readonly NewPerson[];
  tags: readonly string[];
  /** Until when this run goes on; null hands the reading on. */
  leaseUntil: number | null;
  dueAt: number;
  /** Set with the last page. */
  finished: { watermark: Watermark; dueAt: number | null } | null;
  /** What else is done with those who are new, in the same transaction: before they are stored. */
  withNew(contacts: { sql: string; params: readonly Param[] }): Statement[];
}

const OWNER = `(SELECT i.contact_id FROM contact_identities i WHERE i.workspace_id = j.value ->> 'ws' AND i.kind IN ('phone', 'wa')
  AND i.value IN (j.value ->> 'd', j.value ->> 'v') ORDER BY i.value <> j.value ->> 'd', i.kind LIMIT 1)`;

/** Whether this very transaction moved the cursor: a run that lost its lease does nothing. */
const OURS = "EXISTS (SELECT 1 FROM wordpress_sources m WHERE m.workspace_id = ?2 AND m.id = ?3 AND m.step_id = ?4)";

/** Whether a record's consent is news to a contact: an opt-out is not undone by a list. */
const AGREES = "j.value ->> 'o' = 1 AND c.opted_in = 0 AND c.opted_out_at IS NULL";

/**
 * Stores a page's people and moves the cursor, in one transaction and one round trip. Who is a contact already keeps
 * name, tags and a recorded opt-out; who was deleted stays deleted. Null when this run lost its lease.
 */
export async function applyPage(db: Db, source: Source, step: PageStep, now: number): Promise<Source | null> {
  const people = JSON.stringify(
    step.people.map((p) => ({
      ws: source.workspaceId,
      id: p.id,
      d: p.digits,
      v: p.variant,
      n: p.name,
      o: Number(p.optedIn),
    })),
  );
  const ours = [people, source.workspaceId, source.id, step.stepId] as const;
  const proof = JSON.stringify({ source: "wordpress", reference: source.id, at: now });
  const counts = source.counts;
  const base: SyncCounts = {
    ...counts,
    pages: counts.pages + 1,
    read: counts.read + step.read,
    failed: counts.failed + step.failed,
  };
  const done = step.finished;
  const results = await db.batch([
    statement(
      `UPDATE wordpress_sources SET step_id = ?4, cursor = ?5, failures = 0, last_error = NULL, updated_at = ?7, lease_until = ?8, due_at = ?9,
         lease = iif(?8 IS NULL, NULL, lease), watermark = COALESCE(?11, watermark), failed_syncs = iif(?11 IS NULL, failed_syncs, 0),
         status = iif(?11 IS NULL, status, 'idle'), sync_id = iif(?11 IS NULL, sync_id, NULL),
         counts = json_set(?6, '$.created', f.n + ?12, '$.known', ?13 - f.n),
         last_result = CASE WHEN ?11 IS NULL THEN last_result ELSE json_set(?6, '$.created', f.n + ?12, '$.known', ?13 - f.n,
           '$.status', 'completed', '$.error', NULL, '$.started_at', started_at, '$.finished_at', ?7) END
       FROM (SELECT count(*) AS n FROM json_each(?1) j WHERE ${OWNER} IS NULL) f
       WHERE workspace_id = ?2 AND id = ?3 AND lease = ?10 AND status = 'running' RETURNING ${SOURCE_COLUMNS.replaceAll("w.", "")}`,
      ...ours,
      done ? null : JSON.stringify(step.cursor),
      JSON.stringify(base),
      now,
      done ? null : step.leaseUntil,
      done ? done.dueAt : step.dueAt,
      source.lease,
      done && JSON.stringify(done.watermark),
      counts.created,
      counts.known + step.read - step.failed,
    ),
    statement(
      `INSERT INTO list_totals (workspace_id, list, n) SELECT ?2, 'contacts', count(*) FROM json_each(?1) j WHERE ${OWNER} IS NULL AND ${OURS}
       HAVING count(*) > 0 ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + excluded.n`,
      ...ours,
    ),
    ...step.withNew({
      sql: `SELECT j.value ->> 'id' AS id, j.key AS at FROM json_each(?1) j WHERE ${OWNER} IS NULL AND ${OURS}`,
      params: ours,
    }),
    statement(
      `UPDATE contacts AS c SET updated_at = ?5, name = COALESCE(c.name, j.value ->> 'n'),
         consent_at = iif(${AGREES}, ?5, c.consent_at), consent_proof = iif(${AGREES}, ?6, c.consent_proof), opted_in = iif(${AGREES}, 1, c.opted_in)
       FROM json_each(?1) j WHERE c.workspace_id = j.value ->> 'ws' AND c.id = ${OWNER} AND c.merged_into IS NULL AND c.deleted_at IS NULL
         AND ((c.name IS NULL AND j.value ->> 'n' IS NOT NULL) OR (${AGREES})) AND ${OURS}`,
      ...ours,
      now,
      proof,
    ),
    statement(
      `INSERT INTO contacts (workspace_id, id, kind, phone_number, wa_id, name, tags, opted_in, consent_at, consent_proof, source, created_at, updated_at)
       SELECT j.value ->> 'ws', j.value ->> 'id', 'person', '+' || (j.value ->> 'd'), j.value ->> 'd', j.value ->> 'n', ?7, j.value ->> 'o',
         iif(j.value ->> 'o', ?5, NULL), iif(j.value ->> 'o', ?6, NULL), 'wordpress', ?5, ?5
       FROM json_each(?1) j WHERE ${OWNER} IS NULL AND ${OURS}`,
      ...ours,
      now,
      proof,
      JSON.stringify(step.tags),
    ),
    statement(
      `INSERT INTO contact_identities (workspace_id, kind, value, contact_id)
       SELECT j.value ->> 'ws', k.value, j.value ->> 'd', c.id FROM json_each(?1) j CROSS JOIN contacts c CROSS JOIN json_each('["phone","wa"]') k
       WHERE c.workspace_id = j.value ->> 'ws' AND c.id = j.value ->> 'id' AND ${OURS} ON CONFLICT DO NOTHING`,
      ...ours,
    ),
  ]);
  const row = results[0]?.results[0];
  return row ? toSource(row) : null;
}

/** Notes that the site has to be asked again later, and hands the reading on. */
export async function storeFailure(
  db: Db,
  { workspaceId, id, lease }: Source,
  failure: { error: string; notBefore: number; dueAt: number },
  now: number,
): Promise<void> {
  await db.run(
    `UPDATE wordpress_sources SET failures = failures + 1, last_error = ?4, not_before = ?5, due_at = ?6, updated_at = ?7, lease = NULL, lease_until = NULL
     WHERE workspace_id = ?1 AND id = ?2 AND lease = ?3`,
    workspaceId,
    id,
    lease,
    failure.error,
    failure.notBefore,
    failure.dueAt,
    now,
  );
}

/** Ends a reading that failed. Its cursor stays: the next reading goes on there. */
export async function endFailed(
  db: Db,
  source: Source,
  end: { result: SyncResult; dueAt: number | null },
  now: number,
): Promise<void> {
  await db.run(
    `UPDATE wordpress_sources SET status = 'idle', sync_id = NULL, last_result = ?4, last_error = NULL, failed_syncs = failed_syncs + 1,
       due_at = iif(enabled, ?5, NULL), updated_at = ?6, lease = NULL, lease_until = NULL
     WHERE workspace_id = ?1 AND id = ?2 AND lease = ?3`,
    source.workspaceId,
    source.id,
    source.lease,
    JSON.stringify(end.result),
    end.dueAt,
    now,
  );
}

/** Moves the cursor without a page: the list ended earlier than it did. */
export async function storeCursor(
  db: Db,
  source: Source,
  step: { cursor: Cursor; leaseUntil: number | null; dueAt: number },
): Promise<Source | null> {
  const row = await db.first(
    `UPDATE wordpress_sources SET cursor = ?4, lease_until = ?5, lease = iif(?5 IS NULL, NULL, lease), due_at = ?6
     WHERE workspace_id = ?1 AND id = ?2 AND lease = ?3 AND status = 'running' RETURNING *`,
    source.workspaceId,
    source.id,
    source.lease,
    JSON.stringify(step.cursor),
    step.leaseUntil,
    step.dueAt,
  );
  return row && toSource(row);
}
