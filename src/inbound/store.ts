/** SQL of what a workspace sees of its webhooks: stored events and dead letters. */
import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, type Statement, statement } from "../platform/d1";
import { decodeCursor, EXACT_TOTAL, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { deadLetters, webhookEvents } from "./tables";

export type WebhookEvent = InferSelectModel<typeof webhookEvents>;
export type DeadLetter = InferSelectModel<typeof deadLetters>;

/** A filtered page stops after this many rows read, with a cursor to go on from (pipeline 19). */
const MAX_SCANNED = 2000;

const eventCursor = z.tuple([z.number(), z.string()]);
const eventPlace = z.object({ received_at: z.number(), id: z.string() });
const countRow = z.object({ n: z.number(), scanned: z.number() });

/** Stored webhook events of a workspace, newest first, optionally of one kind. */
export async function pageWebhookEvents(
  db: Db,
  workspaceId: string,
  filter: { kind?: string },
  query: PageQuery,
): Promise<Page<WebhookEvent>> {
  const { kind } = filter;
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, eventCursor);
  const offset = after === null ? query.offset : 0;
  // A condition that may be absent is no bound for an index: the page after a cursor has a statement of its own.
  const walk = `SELECT received_at, id, kind FROM webhook_events WHERE workspace_id = ?1
    ${after === null ? "" : "AND (received_at, id) < (?2, ?3)"} ORDER BY received_at DESC, id DESC`;
  const place = [workspaceId, ...(after ?? [])];
  const [rows, total, end] = await db.batch([
    statement(
      `SELECT ${columnsOf(webhookEvents, "e")} FROM (${walk} LIMIT ${kind === undefined ? query.limit + 1 + offset : MAX_SCANNED}) s
       CROSS JOIN webhook_events e
       WHERE e.workspace_id = ?1 AND e.id = s.id ${kind === undefined ? "" : `AND s.kind = ?${place.length + 1}`}
       ORDER BY s.received_at DESC, s.id DESC LIMIT ${query.limit + 1} OFFSET ${offset}`,
      ...place,
      ...(kind === undefined ? [] : [kind]),
    ),
    kind === undefined
      ? storedTotal(workspaceId, "webhook_events")
      : statement(
          `SELECT count(CASE WHEN s.kind = ?2 THEN 1 END) AS n, count(*) AS scanned FROM (SELECT kind FROM webhook_events
             WHERE workspace_id = ?1 ORDER BY received_at DESC, id DESC LIMIT ${EXACT_TOTAL}) s`,
          workspaceId,
          kind,
        ),
    // Where a full walk ended: a page that the filter left short, even empty, may still have a next one.
    ...(kind === undefined ? [] : [statement(`${walk} LIMIT 1 OFFSET ${MAX_SCANNED - 1}`, ...place)]),
  ]);
  const found = (rows?.results ?? []).map((row) => fromRow(webhookEvents, row));
  const walked = end?.results[0];
  const last = walked && eventPlace.parse(walked);
  return pageOf(found, total, query, (row) => [row.receivedAt, row.id], last ? [last.received_at, last.id] : null);
}

/** Dead letters of a workspace, newest first: their ids begin with their time. */
export async function pageDeadLetters(db: Db, workspaceId: string, query: PageQuery): Promise<Page<DeadLetter>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, z.tuple([z.string()]))[0];
  const [rows, total] = await db.batch([
    statement(
      `SELECT ${columnsOf(deadLetters, "d")} FROM dead_letters d WHERE d.workspace_id = ?1 ${after === null ? "" : "AND d.id < ?2"}
       ORDER BY d.id DESC LIMIT ${query.limit + 1} OFFSET ${after === null ? query.offset : 0}`,
      workspaceId,
      ...(after === null ? [] : [after]),
    ),
    storedTotal(workspaceId, "dead_letters"),
  ]);
  const found = (rows?.results ?? []).map((row) => fromRow(deadLetters, row));
  return pageOf(found, total, query, (row) => [row.id], null);
}

/** The unfiltered total of a list, kept by the statement that adds rows (pipeline 17). */
function storedTotal(workspaceId: string, list: "webhook_events" | "dead_letters"): Statement {
  return statement("SELECT n, 0 AS scanned FROM list_totals WHERE workspace_id = ?1 AND list = ?2", workspaceId, list);
}

function pageOf<T>(
  found: T[],
  total: D1Result<Record<string, unknown>> | undefined,
  query: PageQuery,
  keyOf: (row: T) => (string | number)[],
  end: (string | number)[] | null,
): Page<T> {
  const last = found[query.limit - 1];
  const more = found.length > query.limit && last ? keyOf(last) : end;
  const { n, scanned } = countRow.parse(total?.results[0] ?? { n: 0, scanned: 0 });
  return {
    rows: found.slice(0, query.limit),
    total: n,
    totalIsLowerBound: scanned >= EXACT_TOTAL,
    nextCursor: more && encodeCursor(more),
  };
}

/** Makes a dead letter visible; one that came before is waiting again. */
export async function insertDeadLetter(db: Db, row: DeadLetter): Promise<void> {
  await db.batch([
    statement(
      `INSERT INTO list_totals (workspace_id, list, n) SELECT ?1, 'dead_letters', 1
       WHERE NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.workspace_id = ?1 AND d.id = ?2)
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + 1`,
      row.workspaceId,
      row.id,
    ),
    statement(
      `INSERT INTO dead_letters (workspace_id, id, queue, reason, r2_key, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
       ON CONFLICT (workspace_id, id) DO UPDATE SET replayed_at = NULL WHERE dead_letters.replayed_at IS NOT NULL`,
      row.workspaceId,
      row.id,
      row.queue,
      row.reason,
      row.r2Key,
      row.createdAt,
    ),
  ]);
}

export async function selectDeadLetter(db: Db, workspaceIds: string[], id: string): Promise<DeadLetter | null> {
  const row = await db.first(
    `SELECT ${columnsOf(deadLetters, "d")} FROM dead_letters d WHERE (d.workspace_id, d.id) IN (SELECT j.value, ?2 FROM json_each(?1) j)`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && fromRow(deadLetters, row);
}

export async function updateReplayed(db: Db, workspaceId: string, id: string, now: number): Promise<void> {
  await db.run("UPDATE dead_letters SET replayed_at = ?3 WHERE workspace_id = ?1 AND id = ?2", workspaceId, id, now);
}
