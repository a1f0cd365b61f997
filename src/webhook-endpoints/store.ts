/** SQL of endpoints as a workspace sees them: what they ask for, and where they begin. */
import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, type Statement, statement } from "../platform/d1";
import { decodeCursor, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { webhookEndpoints } from "./tables";

export type Endpoint = InferSelectModel<typeof webhookEndpoints>;

const ENDPOINT_COLUMNS = columnsOf(webhookEndpoints, "e");

/** More would make every event's row a burden to read. */
export const MAX_ENDPOINTS = 20;

export function toEndpoint(row: Record<string, unknown>): Endpoint {
  return fromRow(webhookEndpoints, row);
}

/** The end of the outbox: an endpoint that begins now begins here. `?1` is the workspace. */
const END = "COALESCE((SELECT max(o.seq) FROM webhook_outbox o WHERE o.workspace_id = ?1), 0)";

/** What the enabled endpoints ask for together, made anew: what nobody asks for costs no row. */
export function rebuildFeed(workspaceId: string): Statement[] {
  return [
    statement("DELETE FROM webhook_feeds WHERE workspace_id = ?1", workspaceId),
    statement(
      `INSERT INTO webhook_feeds (workspace_id, types, endpoints)
       SELECT ?1, group_concat(e.types, ''), json_group_array(e.id) FROM webhook_endpoints e
       WHERE e.workspace_id = ?1 AND e.status = 'enabled' HAVING count(*) > 0`,
      workspaceId,
    ),
  ];
}

/** Stores an endpoint that begins with what happens next; null when the workspace has as many as it may. */
export async function insertEndpoint(
  db: Db,
  row: Pick<
    Endpoint,
    "workspaceId" | "id" | "url" | "description" | "events" | "types" | "ownHost" | "status" | "createdAt"
  >,
): Promise<Endpoint | null> {
  const [inserted] = await db.batch([
    statement(
      `INSERT INTO webhook_endpoints AS e (workspace_id, id, url, description, events, types, own_host, status, disabled_at, cursor,
         log_chunk, failures, replay_failures, created_at, updated_at)
       SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, iif(?8 = 'disabled', ?9, NULL), ${END}, 0, 0, 0, ?9, ?9
       WHERE (SELECT count(*) FROM webhook_endpoints k WHERE k.workspace_id = ?1) < ${MAX_ENDPOINTS} RETURNING *`,
      row.workspaceId,
      row.id,
      row.url,
      row.description,
      JSON.stringify(row.events),
      row.types,
      row.ownHost,
      row.status,
      row.createdAt,
    ),
    ...rebuildFeed(row.workspaceId),
  ]);
  const stored = inserted?.results[0];
  return stored ? toEndpoint(stored) : null;
}

export interface EndpointChange {
  url?: string;
  ownHost?: string;
  description?: string | null;
  events?: { asked: string[]; types: string };
  status?: Endpoint["status"];
}

/**
 * Changes an endpoint; null when it is gone. One that is enabled again begins with what happens next, and what held it
 * back is forgotten.
 */
export async function updateEndpoint(db: Db, endpoint: Endpoint, change: EndpointChange, now: number) {
  const { workspaceId, id } = endpoint;
  const enables = "(?8 = 'enabled' AND e.status <> 'enabled')";
  const results = await db.batch([
    statement(
      `DELETE FROM webhook_lags WHERE workspace_id = ?1 AND endpoint_id = ?2 AND ?3 = 'enabled'
         AND EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.workspace_id = ?1 AND e.id = ?2 AND e.status <> 'enabled')`,
      workspaceId,
      id,
      change.status ?? null,
    ),
    statement(
      `UPDATE webhook_endpoints AS e SET url = COALESCE(?3, e.url), own_host = COALESCE(?4, e.own_host),
         description = iif(?5, ?6, e.description), events = COALESCE(?7 ->> 'events', e.events), types = COALESCE(?7 ->> 'types', e.types),
         status = COALESCE(?8, e.status), disabled_reason = iif(?8 IS NULL, e.disabled_reason, NULL),
         disabled_at = CASE ?8 WHEN 'enabled' THEN NULL WHEN 'disabled' THEN COALESCE(e.disabled_at, ?9) ELSE e.disabled_at END,
         cursor = iif(${enables}, ${END}, e.cursor), failures = iif(${enables}, 0, e.failures),
         failing_since = iif(${enables}, NULL, e.failing_since), next_at = iif(${enables} OR ?3 IS NOT NULL, NULL, e.next_at),
         replay_next = iif(${enables}, NULL, e.replay_next), updated_at = ?9
       WHERE e.workspace_id = ?1 AND e.id = ?2 RETURNING *`,
      workspaceId,
      id,
      change.url ?? null,
      change.ownHost ?? null,
      change.description === undefined ? 0 : 1,
      change.description ?? null,
      change.events ? JSON.stringify({ events: change.events.asked, types: change.events.types }) : null,
      change.status ?? null,
      now,
    ),
    ...rebuildFeed(workspaceId),
  ]);
  const stored = results[1]?.results[0];
  return stored ? toEndpoint(stored) : null;
}

export async function deleteEndpoint(db: Db, { workspaceId, id }: Endpoint): Promise<void> {
  await db.batch([
    statement("DELETE FROM webhook_endpoints WHERE workspace_id = ?1 AND id = ?2", workspaceId, id),
    statement("DELETE FROM webhook_lags WHERE workspace_id = ?1 AND endpoint_id = ?2", workspaceId, id),
    statement("DELETE FROM webhook_deliveries WHERE workspace_id = ?1 AND endpoint_id = ?2", workspaceId, id),
    ...rebuildFeed(workspaceId),
  ]);
}

/** One endpoint by id among several workspaces of one shard. */
export async function selectEndpoint(db: Db, workspaceIds: string[], id: string): Promise<Endpoint | null> {
  const row = await db.first(
    `SELECT ${ENDPOINT_COLUMNS} FROM webhook_endpoints e WHERE (e.workspace_id, e.id) IN (SELECT j.value, ?2 FROM json_each(?1) j)`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && toEndpoint(row);
}

/** The endpoints of a workspace, newest first. They are few, so they are counted. */
export async function pageEndpoints(db: Db, workspaceId: string, query: PageQuery): Promise<Page<Endpoint>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, z.tuple([z.string()]))[0];
  const rows = await db.all(
    `SELECT ${ENDPOINT_COLUMNS} FROM webhook_endpoints e WHERE e.workspace_id = ?1 ORDER BY e.id DESC LIMIT ${MAX_ENDPOINTS}`,
    workspaceId,
  );
  const all = rows.map(toEndpoint);
  const start = after === null ? query.offset : all.filter((endpoint) => endpoint.id >= after).length;
  const page = all.slice(start, start + query.limit);
  const last = page.at(-1);
  const more = last !== undefined && start + query.limit < all.length;
  return {
    rows: page,
    total: all.length,
    totalIsLowerBound: false,
    nextCursor: more ? encodeCursor([last.id]) : null,
  };
}

const windowRow = z.object({ first: z.number().nullable(), last: z.number().nullable(), n: z.number() });

/**
 * Orders the events of a window of time (ms, `until` excluded) to be delivered again. Null when a replay is under way
 * or the endpoint is not enabled; otherwise how many events the window holds.
 */
export async function startReplay(
  db: Db,
  { workspaceId, id }: Endpoint,
  window: { since: number; until: number },
): Promise<number | null> {
  const found = windowRow.parse(
    await db.first(
      `SELECT min(o.seq) AS first, max(o.seq) AS last, count(*) AS n FROM webhook_outbox o
       WHERE o.workspace_id = ?1 AND o.at >= ?2 AND o.at < ?3`,
      workspaceId,
      window.since,
      window.until,
    ),
  );
  const started = await db.first(
    `UPDATE webhook_endpoints SET replay_next = ?3, replay_until = ?4, replay_at = NULL, replay_failures = 0
     WHERE workspace_id = ?1 AND id = ?2 AND status = 'enabled' AND replay_next IS NULL RETURNING id`,
    workspaceId,
    id,
    found.first,
    found.last,
  );
  return started ? found.n : null;
}
