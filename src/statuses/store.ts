/** SQL of statuses. Whatever changes one is conditional: jobs and crons may run twice, and at once. */
import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, statement } from "../platform/d1";
import { claimKey, type IdempotencyClaim } from "../platform/idempotency";
import { decodeCursor, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { aboutStatuses, type StatusError } from "./tables";

export type AboutStatus = InferSelectModel<typeof aboutStatuses>;
export type { StatusError } from "./tables";

const COLUMNS = columnsOf(aboutStatuses, "s");

function toStatus(row: Record<string, unknown>): AboutStatus {
  return fromRow(aboutStatuses, row);
}

export type NewStatus = Pick<
  AboutStatus,
  "workspaceId" | "id" | "phoneNumberId" | "text" | "at" | "scheduledAt" | "lookAt" | "createdBy"
>;

export type InsertResult =
  | { kind: "created" | "replayed"; status: AboutStatus }
  /** The key belongs to another call. */
  | { kind: "key_conflict" }
  | { kind: "gone" };

/** Stores a status, once per key. */
export async function insertStatus(
  db: Db,
  row: NewStatus,
  claim: IdempotencyClaim | null,
  now: number,
): Promise<InsertResult> {
  const mine = claim
    ? "EXISTS (SELECT 1 FROM idempotency i WHERE i.workspace_id = ?1 AND i.key = ?10 AND i.ref = ?2)"
    : "?10 IS NULL";
  const results = await db.batch([
    ...(claim ? [claimKey(claim, now)] : []),
    statement(
      `INSERT INTO about_statuses (workspace_id, id, phone_number_id, text, status, at, scheduled_at, not_before, attempts, look_at, created_by, created_at, updated_at)
       SELECT ?1, ?2, ?3, ?4, 'scheduled', ?5, ?6, ?5, 0, ?7, ?8, ?9, ?9 WHERE ${mine} RETURNING *`,
      row.workspaceId,
      row.id,
      row.phoneNumberId,
      row.text,
      row.at,
      row.scheduledAt,
      row.lookAt,
      row.createdBy,
      now,
      claim?.key ?? null,
    ),
    statement(
      `INSERT INTO list_totals (workspace_id, list, n) SELECT ?1, 'statuses', 1 WHERE changes() > 0
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + 1`,
      row.workspaceId,
    ),
  ]);
  const made = results[claim ? 1 : 0]?.results[0];
  if (made) return { kind: "created", status: toStatus(made) };
  return (claim && (await selectHeld(db, claim, now))) ?? { kind: "gone" };
}

/** What an earlier call with the key made; null when nobody holds the key. */
export async function selectHeld(db: Db, claim: IdempotencyClaim, now: number): Promise<InsertResult | null> {
  const row = await db.first(
    `SELECT i.hash AS held_hash, ${COLUMNS} FROM idempotency i LEFT JOIN about_statuses s ON s.workspace_id = i.workspace_id AND s.id = i.ref
     WHERE i.workspace_id = ?1 AND i.key = ?2 AND i.expires_at > ?3`,
    claim.workspaceId,
    claim.key,
    now,
  );
  if (!row) return null;
  if (row.held_hash !== claim.hash) return { kind: "key_conflict" };
  return row.id === null ? { kind: "gone" } : { kind: "replayed", status: toStatus(row) };
}

/** A status by id, in one of these workspaces. */
export async function selectStatus(db: Db, workspaceIds: string[], id: string): Promise<AboutStatus | null> {
  const row = await db.first(
    `SELECT ${COLUMNS} FROM json_each(?1) j CROSS JOIN about_statuses s WHERE s.workspace_id = j.value AND s.id = ?2`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && toStatus(row);
}

/** The statuses of a workspace, newest first. */
export async function pageStatuses(db: Db, workspaceId: string, query: PageQuery): Promise<Page<AboutStatus>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, z.tuple([z.string()]))[0];
  const [found, total] = await db.batch([
    statement(
      `SELECT ${COLUMNS} FROM about_statuses s WHERE s.workspace_id = ?1 AND (?2 IS NULL OR s.id < ?2)
       ORDER BY s.id DESC LIMIT ${query.limit + 1} OFFSET ${query.cursor === undefined ? query.offset : 0}`,
      workspaceId,
      after,
    ),
    statement("SELECT n FROM list_totals WHERE workspace_id = ?1 AND list = 'statuses'", workspaceId),
  ]);
  const all = (found?.results ?? []).map(toStatus);
  const rows = all.slice(0, query.limit);
  const last = rows.at(-1);
  return {
    rows,
    total: z.number().parse(total?.results[0]?.n ?? 0),
    totalIsLowerBound: false,
    nextCursor: all.length > query.limit && last ? encodeCursor([last.id]) : null,
  };
}

/** Cancels a status that the provider was not told yet; null when it is too late. */
export async function updateCancelled(
  db: Db,
  { workspaceId, id }: Pick<AboutStatus, "workspaceId" | "id">,
  now: number,
): Promise<AboutStatus | null> {
  const row = await db.first(
    `UPDATE about_statuses SET status = 'cancelled', look_at = NULL, error = NULL, updated_at = ?3
     WHERE workspace_id = ?1 AND id = ?2 AND status = 'scheduled' RETURNING *`,
    workspaceId,
    id,
    now,
  );
  return row && toStatus(row);
}

const MINE = "workspace_id = ?1 AND phone_number_id = ?2 AND look_at IS NOT NULL";

/**
 * Takes the next status of a number that is due, unless one of the number is being applied: they are set one after the
 * other, in the order of their times. A lease that ran out counts as lost: setting a line twice does no harm.
 */
export async function claimNext(
  db: Db,
  key: { workspaceId: string; phoneNumberId: string },
  claim: { token: string; until: number; now: number },
): Promise<AboutStatus | null> {
  const row = await db.first(
    `UPDATE about_statuses SET status = 'applying', lease = ?3, lease_until = ?4, look_at = ?4, attempts = attempts + 1, updated_at = ?5
     WHERE workspace_id = ?1 AND id = (
         SELECT s.id FROM about_statuses s INDEXED BY about_statuses_open WHERE s.${MINE.replaceAll(" AND ", " AND s.")}
           AND s.not_before <= ?5 AND (s.status = 'scheduled' OR s.lease_until <= ?5) ORDER BY s.at, s.id LIMIT 1)
       AND NOT EXISTS (SELECT 1 FROM about_statuses o INDEXED BY about_statuses_open WHERE o.${MINE.replaceAll(" AND ", " AND o.")}
         AND o.status = 'applying' AND o.lease_until > ?5)
     RETURNING *`,
    key.workspaceId,
    key.phoneNumberId,
    claim.token,
    claim.until,
    claim.now,
  );
  return row && toStatus(row);
}

/** What came of telling the provider. */
export type Outcome =
  | { kind: "applied" }
  | { kind: "failed"; error: StatusError }
  | { kind: "again"; at: number; error: StatusError };

/** When the cron looks at what should have been done by then. */
const LOST_AFTER = 60_000;

/**
 * Stores the outcome of a claim that still holds. Once a line is set, earlier ones of the number that wait for another
 * try are overtaken: set now, they would put the older text over the newer.
 */
export async function storeOutcome(db: Db, claimed: AboutStatus, outcome: Outcome, now: number): Promise<void> {
  const { workspaceId, id, lease } = claimed;
  const status = outcome.kind === "again" ? "scheduled" : outcome.kind;
  const statements = [
    statement(
      `UPDATE about_statuses SET status = ?4, lease = NULL, lease_until = NULL, updated_at = ?5,
         applied_at = iif(?4 = 'applied', ?5, NULL), error = ?6, not_before = COALESCE(?7, not_before),
         look_at = iif(?7 IS NULL, NULL, ?7 + ${LOST_AFTER})
       WHERE workspace_id = ?1 AND id = ?2 AND lease = ?3`,
      workspaceId,
      id,
      lease,
      status,
      now,
      outcome.kind === "applied" ? null : JSON.stringify(outcome.error),
      outcome.kind === "again" ? outcome.at : null,
    ),
  ];
  if (outcome.kind === "applied") {
    statements.push(
      statement(
        `UPDATE about_statuses SET status = 'failed', look_at = NULL, updated_at = ?5, error = ?6
         WHERE ${MINE} AND status = 'scheduled' AND (at, id) < (?3, ?4)`,
        workspaceId,
        claimed.phoneNumberId,
        claimed.at,
        id,
        now,
        JSON.stringify({ code: "superseded", message: "A later status was set first" } satisfies StatusError),
      ),
    );
  }
  await db.batch(statements);
}

const wakeRow = z
  .object({ workspace_id: z.string(), phone_number_id: z.string(), not_before: z.number() })
  .transform((row) => ({
    workspaceId: row.workspace_id,
    phoneNumberId: row.phone_number_id,
    notBefore: row.not_before,
  }));
export type Wake = z.output<typeof wakeRow>;

/** Takes up what the cron has to look at, oldest first, and puts off the next look at it. */
export async function takeLooks(db: Db, now: number, limit: number): Promise<Wake[]> {
  const rows = await db.all(
    `UPDATE about_statuses AS s SET look_at = max(s.not_before, ?1) + ${LOST_AFTER}
     FROM (SELECT l.workspace_id, l.id FROM about_statuses l INDEXED BY about_statuses_look WHERE l.look_at <= ?1 ORDER BY l.look_at LIMIT ?2) d
     WHERE s.workspace_id = d.workspace_id AND s.id = d.id RETURNING workspace_id, phone_number_id, not_before`,
    now,
    limit,
  );
  return rows.map((raw) => wakeRow.parse(raw));
}

const stateRow = z.object({ status: z.string() });

/** Whether the workspace may act now. */
export async function isActive(db: Db, workspaceId: string): Promise<boolean> {
  const row = await db.first("SELECT status FROM workspace_states WHERE workspace_id = ?1", workspaceId);
  return row !== null && stateRow.parse(row).status === "active";
}
