/** SQL of WordPress sources. */
import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, statement } from "../platform/d1";
import { decodeCursor, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { NO_COUNTS, type SourceConfig } from "./schema";
import { wordpressSources } from "./tables";

export type Source = InferSelectModel<typeof wordpressSources>;

export const SOURCE_COLUMNS = columnsOf(wordpressSources, "w");

/** Each is read every quarter of an hour. */
export const MAX_SOURCES = 20;

export function toSource(row: Record<string, unknown>): Source {
  return fromRow(wordpressSources, row);
}

/** Stores a source; null when the workspace has as many as it may. */
export async function insertSource(
  db: Db,
  row: Pick<
    Source,
    "workspaceId" | "id" | "name" | "kind" | "url" | "ownHost" | "credentialsSealed" | "config" | "enabled"
  >,
  now: number,
): Promise<Source | null> {
  const stored = await db.first(
    `INSERT INTO wordpress_sources (workspace_id, id, name, kind, url, own_host, credentials_sealed, config, enabled, status,
       not_before, failures, failed_syncs, counts, due_at, created_at, updated_at)
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'idle', 0, 0, 0, ?10, iif(?9, ?11, NULL), ?11, ?11
     WHERE (SELECT count(*) FROM wordpress_sources k WHERE k.workspace_id = ?1) < ${MAX_SOURCES} RETURNING *`,
    row.workspaceId,
    row.id,
    row.name,
    row.kind,
    row.url,
    row.ownHost,
    row.credentialsSealed,
    JSON.stringify(row.config),
    Number(row.enabled),
    JSON.stringify(NO_COUNTS),
    now,
  );
  return stored && toSource(stored);
}

export interface SourceChange {
  name?: string;
  address?: { url: string; ownHost: string };
  /** Sealed; null takes them away. */
  credentials?: string | null;
  config?: SourceConfig;
  enabled?: boolean;
}

/**
 * Changes a source; null when it is gone. A reading under way ends where what it reads changes, and what was read is
 * then forgotten: the list may be another one.
 */
export async function updateSource(
  db: Db,
  { workspaceId, id }: Source,
  change: SourceChange,
  now: number,
): Promise<Source | null> {
  const other = "(?4 IS NOT NULL OR ?8 IS NOT NULL)";
  const stops = `(${other} OR ?6 OR ?9 IS 0)`;
  const row = await db.first(
    `UPDATE wordpress_sources AS w SET name = COALESCE(?3, name), url = COALESCE(?4, url), own_host = COALESCE(?5, own_host),
       credentials_sealed = iif(?6, ?7, credentials_sealed), config = COALESCE(?8, config), enabled = COALESCE(?9, enabled),
       cursor = iif(${other}, NULL, cursor), watermark = iif(${other}, NULL, watermark),
       status = iif(${stops}, 'idle', status), sync_id = iif(${stops}, NULL, sync_id), lease = iif(${stops}, NULL, lease),
       failed_syncs = iif(${stops} OR ?9 IS 1, 0, failed_syncs),
       due_at = CASE WHEN COALESCE(?9, enabled) = 0 THEN NULL WHEN ${stops} OR due_at IS NULL THEN ?10 ELSE due_at END, updated_at = ?10
     WHERE workspace_id = ?1 AND id = ?2 RETURNING *`,
    workspaceId,
    id,
    change.name ?? null,
    change.address?.url ?? null,
    change.address?.ownHost ?? null,
    change.credentials === undefined ? 0 : 1,
    change.credentials ?? null,
    change.config === undefined ? null : JSON.stringify(change.config),
    change.enabled === undefined ? null : Number(change.enabled),
    now,
  );
  return row && toSource(row);
}

/** A source by id, in one of these workspaces. */
export async function selectSource(db: Db, workspaceIds: string[], id: string): Promise<Source | null> {
  const row = await db.first(
    `SELECT ${SOURCE_COLUMNS} FROM json_each(?1) j CROSS JOIN wordpress_sources w WHERE w.workspace_id = j.value AND w.id = ?2`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && toSource(row);
}

export async function deleteSource(db: Db, { workspaceId, id }: Source): Promise<void> {
  await db.run("DELETE FROM wordpress_sources WHERE workspace_id = ?1 AND id = ?2", workspaceId, id);
}

/** The sources of a workspace, newest first. They are few, so they are counted. */
export async function pageSources(db: Db, workspaceId: string, query: PageQuery): Promise<Page<Source>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, z.tuple([z.string()]))[0];
  const rows = await db.all(
    `SELECT ${SOURCE_COLUMNS} FROM wordpress_sources w WHERE w.workspace_id = ?1 ORDER BY w.id DESC LIMIT ${MAX_SOURCES}`,
    workspaceId,
  );
  const all = rows.map(toSource);
  const start = after === null ? query.offset : all.filter((source) => source.id >= after).length;
  const page = all.slice(start, start + query.limit);
  const last = page.at(-1);
  return {
    rows: page,
    total: all.length,
    totalIsLowerBound: false,
    nextCursor: last !== undefined && start + query.limit < all.length ? encodeCursor([last.id]) : null,
  };
}

/** The country with which a workspace reads national numbers. */
export async function selectCountry(db: Db, workspaceId: string): Promise<string | null> {
  const row = await db.first(
    "SELECT json_extract(s.settings, '$.default_country') AS country FROM workspace_states s WHERE s.workspace_id = ?1",
    workspaceId,
  );
  return z.object({ country: z.string().nullable().catch(null) }).parse(row ?? { country: null }).country;
}

/** Sources the cron has to look at, of all workspaces of a shard: `idle` ones to start, `running` ones that stand still. */
export async function selectDue(
  db: Db,
  status: Source["status"],
  now: number,
  limit: number,
): Promise<Pick<Source, "workspaceId" | "id" | "syncId">[]> {
  const rows = await db.all(
    `SELECT ${SOURCE_COLUMNS} FROM wordpress_sources w INDEXED BY wordpress_sources_due
     WHERE w.status = ?1 AND w.due_at <= ?2 ORDER BY w.due_at LIMIT ?3`,
    status,
    now,
    limit,
  );
  return rows.map(toSource);
}

/** Puts off the next look at sources. */
export async function postpone(
  db: Db,
  keys: readonly Pick<Source, "workspaceId" | "id">[],
  dueAt: number,
): Promise<void> {
  if (keys.length === 0) return;
  await db.batch([
    statement(
      `UPDATE wordpress_sources AS w SET due_at = ?2 FROM json_each(?1) j
       WHERE w.workspace_id = j.value ->> 'ws' AND w.id = j.value ->> 'id' AND w.due_at IS NOT NULL`,
      JSON.stringify(keys.map((key) => ({ ws: key.workspaceId, id: key.id }))),
      dueAt,
    ),
  ]);
}
