/** SQL of files: what the API lists, and what a page of messages shows. */
import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, jsonChunks, type Param, type Statement, statement } from "../platform/d1";
import { decodeCursor, EXACT_TOTAL, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import type { MediaType } from "./schema";
import { media } from "./tables";

export type Media = InferSelectModel<typeof media>;

export const MEDIA_COLUMNS = columnsOf(media, "m");

export function toMedia(row: Record<string, unknown>): Media {
  return fromRow(media, row);
}

/** A file by id among several workspaces of one shard; deleted ones are not found. */
export async function selectMedia(db: Db, workspaceIds: readonly string[], id: string): Promise<Media | null> {
  const row = await db.first(
    `SELECT ${MEDIA_COLUMNS} FROM media m WHERE (m.workspace_id, m.id) IN (SELECT j.value, ?2 FROM json_each(?1) j)
       AND m.deleted_at IS NULL`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && toMedia(row);
}

/** A file that may be served: fetched, not deleted, of a workspace that is not deleted either. */
export async function selectServed(db: Db, workspaceId: string, id: string): Promise<Media | null> {
  const row = await db.first(
    `SELECT ${MEDIA_COLUMNS} FROM media m JOIN workspace_states w ON w.workspace_id = m.workspace_id
     WHERE m.workspace_id = ?1 AND m.id = ?2 AND m.status = 'ready' AND m.deleted_at IS NULL AND w.status <> 'deleted'`,
    workspaceId,
    id,
  );
  return row && toMedia(row);
}

const idCursor = z.tuple([z.string()]);

/** Fetched files of a workspace, newest first, optionally of one type. */
export async function pageMedia(
  db: Db,
  workspaceId: string,
  type: MediaType | undefined,
  query: PageQuery,
): Promise<Page<Media>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, idCursor)[0];
  const listed = `m.workspace_id = ?1 ${type === undefined ? "" : "AND m.type = ?2"} AND m.status = 'ready' AND m.deleted_at IS NULL`;
  const params: Param[] = type === undefined ? [workspaceId] : [workspaceId, type];
  const [rows, total] = await db.batch([
    statement(
      `SELECT ${MEDIA_COLUMNS} FROM media m INDEXED BY ${type === undefined ? "media_listed" : "media_by_type"}
       WHERE ${listed} ${after === null ? "" : `AND m.id < ?${params.length + 1}`} ORDER BY m.id DESC
       LIMIT ${query.limit + 1} OFFSET ${after === null ? query.offset : 0}`,
      ...params,
      ...(after === null ? [] : [after]),
    ),
    type === undefined
      ? statement("SELECT n FROM list_totals WHERE workspace_id = ?1 AND list = 'media'", workspaceId)
      : statement(
          `SELECT count(*) AS n FROM (SELECT 1 FROM media m INDEXED BY media_by_type WHERE ${listed} LIMIT ${EXACT_TOTAL})`,
          ...params,
        ),
  ]);
  const found = (rows?.results ?? []).map(toMedia);
  const last = found[query.limit - 1];
  const n = z.number().parse(total?.results[0]?.n ?? 0);
  return {
    rows: found.slice(0, query.limit),
    total: n,
    totalIsLowerBound: type !== undefined && n >= EXACT_TOTAL,
    nextCursor: found.length > query.limit && last ? encodeCursor([last.id]) : null,
  };
}

/** Deletes a file for its users; its bytes go by the nightly job. False when it was deleted already. */
export async function updateDeleted(db: Db, workspaceId: string, id: string, now: number): Promise<boolean> {
  const results = await db.batch([
    statement(
      `UPDATE list_totals SET n = n - 1 WHERE workspace_id = ?1 AND list = 'media' AND EXISTS (SELECT 1 FROM media m
         WHERE m.workspace_id = ?1 AND m.id = ?2 AND m.status = 'ready' AND m.deleted_at IS NULL)`,
      workspaceId,
      id,
    ),
    statement(
      "UPDATE media SET deleted_at = ?3, updated_at = ?3 WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL",
      workspaceId,
      id,
      now,
    ),
  ]);
  return (results[1]?.meta.changes ?? 0) > 0;
}

/** How a message names its file: by our id, or by the number that received it and the provider's id. */
export type MediaKey =
  | { workspaceId: string; id: string }
  | { workspaceId: string; phoneNumberId: string; providerMediaId: string };

/** The files of a page of messages, deleted ones too, in one round trip. */
export async function selectByKeys(db: Db, keys: readonly MediaKey[]): Promise<Media[]> {
  const own = keys.flatMap((key) => ("id" in key ? [{ ws: key.workspaceId, id: key.id }] : []));
  const received = keys.flatMap((key) =>
    "id" in key ? [] : [{ ws: key.workspaceId, num: key.phoneNumberId, pid: key.providerMediaId }],
  );
  const statements: Statement[] = [
    ...jsonChunks(own).map((json) =>
      statement(
        `SELECT ${MEDIA_COLUMNS} FROM json_each(?1) j CROSS JOIN media m WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id'`,
        json,
      ),
    ),
    ...jsonChunks(received).map((json) =>
      statement(
        `SELECT ${MEDIA_COLUMNS} FROM json_each(?1) j CROSS JOIN media m INDEXED BY media_inbound WHERE m.workspace_id = j.value ->> 'ws'
           AND m.phone_number_id = j.value ->> 'num' AND m.provider_media_id = j.value ->> 'pid' AND m.provider_media_id IS NOT NULL`,
        json,
      ),
    ),
  ];
  const results = await db.batch(statements);
  return results.flatMap((result) => result.results.map(toMedia));
}
