/** SQL of the bytes behind files. The row comes before the object in R2 and goes after it. */
import { z } from "zod";
import { type Db, type Statement, statement } from "../platform/d1";
import { MEDIA_COLUMNS, type Media, toMedia } from "./store";

/** An upload whose object stands in R2 without a file after this long has failed. */
export const UPLOAD_TTL = 24 * 3_600_000;

/**
 * Says that an object is about to appear in R2, or the parts of one: whatever happens next, somebody knows of it. Said
 * twice it is said once.
 */
export function insertObject(
  object: { workspaceId: string; id: string; multipartId: string | null },
  now: number,
): Statement {
  return statement(
    `INSERT INTO media_objects (workspace_id, id, state, multipart_id, due_at, created_at) VALUES (?1, ?2, 'uploading', ?3, ?4, ?5)
     ON CONFLICT DO NOTHING`,
    object.workspaceId,
    object.id,
    object.multipartId,
    now + UPLOAD_TTL,
    now,
  );
}

/** Takes back what `insertObject` said: of this object there is nothing in R2, or another row knows of it. */
export async function deleteUploading(db: Db, object: { workspaceId: string; id: string }): Promise<void> {
  await db.run(
    "DELETE FROM media_objects WHERE workspace_id = ?1 AND id = ?2 AND state = 'uploading'",
    object.workspaceId,
    object.id,
  );
}

/** The bytes of a file that is about to be stored. */
export interface NewObject {
  id: string;
  sha256: string;
  size: number;
}

/** The object is the workspace's only one of its content, or doomed because there is one already. */
function settleObject(workspaceId: string, object: NewObject, now: number): Statement[] {
  return [
    statement(
      `UPDATE media_objects SET state = 'ready', sha256 = ?3, size = ?4, due_at = NULL, multipart_id = NULL
       WHERE workspace_id = ?1 AND id = ?2 AND state = 'uploading' AND NOT EXISTS (SELECT 1 FROM media_objects o
         WHERE o.workspace_id = ?1 AND o.sha256 = ?3 AND o.state = 'ready')`,
      workspaceId,
      object.id,
      object.sha256,
      object.size,
    ),
    statement(
      `UPDATE media_objects SET state = 'doomed', due_at = ?3, multipart_id = NULL
       WHERE workspace_id = ?1 AND id = ?2 AND state = 'uploading'`,
      workspaceId,
      object.id,
      now,
    ),
  ];
}

const READY = "media_objects o WHERE o.workspace_id = ?1 AND o.sha256 = ?3 AND o.state = 'ready'";

type NewMedia = Pick<Media, "workspaceId" | "id" | "type" | "fileName" | "mimeType" | "uploadedBy">;

/**
 * Stores an uploaded file: its object becomes the content's only one or is given up for the one there is, and the file
 * refers to that. In one transaction, so that no nightly job finds an object without its file. Answers null when the
 * upload had expired meanwhile.
 */
export async function insertUploaded(db: Db, file: NewMedia, object: NewObject, now: number): Promise<Media | null> {
  const results = await db.batch([
    ...settleObject(file.workspaceId, object, now),
    // Before the file, so that storing it twice counts it once.
    statement(
      `INSERT INTO list_totals (workspace_id, list, n) SELECT ?1, 'media', 1 FROM ${READY}
         AND NOT EXISTS (SELECT 1 FROM media m WHERE m.workspace_id = ?1 AND m.id = ?2)
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + 1`,
      file.workspaceId,
      file.id,
      object.sha256,
    ),
    statement(
      `INSERT INTO media (workspace_id, id, type, source, status, object_id, file_name, file_size, mime_type, sha256, uploaded_by, created_at, updated_at)
       SELECT ?1, ?2, ?4, 'upload', 'ready', o.id, ?5, ?6, ?7, ?3, ?8, ?9, ?9 FROM ${READY} ON CONFLICT DO NOTHING`,
      file.workspaceId,
      file.id,
      object.sha256,
      file.type,
      file.fileName,
      object.size,
      file.mimeType,
      file.uploadedBy,
      now,
    ),
    statement(
      `SELECT ${MEDIA_COLUMNS} FROM media m WHERE m.workspace_id = ?1 AND m.id = ?2`,
      file.workspaceId,
      file.id,
    ),
  ]);
  const row = results.at(-1)?.results[0];
  return row ? toMedia(row) : null;
}

/** Which inbound file a row is about. */
export interface InboundKey {
  workspaceId: string;
  phoneNumberId: string;
  providerMediaId: string;
}

type Received = Pick<Media, "id" | "type" | "fileName" | "mimeType" | "originalUrl" | "messageId">;

const CONFLICT = "ON CONFLICT (workspace_id, phone_number_id, provider_media_id) WHERE provider_media_id IS NOT NULL";
const OF_KEY = "m.workspace_id = ?1 AND m.phone_number_id = ?2 AND m.provider_media_id = ?3";

/** Stores a fetched file, once per provider id whatever ran at the same time. Answers the file as it is now. */
export async function upsertFetched(
  db: Db,
  key: InboundKey,
  file: Received,
  object: NewObject,
  now: number,
): Promise<Media | null> {
  const of = [key.workspaceId, key.phoneNumberId, key.providerMediaId] as const;
  const ready = "media_objects o WHERE o.workspace_id = ?1 AND o.sha256 = ?4 AND o.state = 'ready'";
  const results = await db.batch([
    ...settleObject(key.workspaceId, object, now),
    statement(
      `INSERT INTO list_totals (workspace_id, list, n) SELECT ?1, 'media', 1 FROM ${ready}
         AND NOT EXISTS (SELECT 1 FROM media m WHERE ${OF_KEY} AND (m.status = 'ready' OR m.deleted_at IS NOT NULL))
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + 1`,
      ...of,
      object.sha256,
    ),
    statement(
      `INSERT INTO media (workspace_id, phone_number_id, provider_media_id, sha256, id, type, source, status, object_id, file_name, file_size,
         mime_type, original_url, message_id, created_at, updated_at)
       SELECT ?1, ?2, ?3, ?4, ?5, ?6, 'inbound', 'ready', o.id, ?7, ?8, ?9, ?10, ?11, ?12, ?12 FROM ${ready}
       ${CONFLICT} DO UPDATE SET status = 'ready', object_id = excluded.object_id, file_size = excluded.file_size, mime_type = excluded.mime_type,
         sha256 = excluded.sha256, original_url = excluded.original_url, error = NULL, updated_at = excluded.updated_at
       WHERE media.status <> 'ready' AND media.deleted_at IS NULL`,
      ...of,
      object.sha256,
      file.id,
      file.type,
      file.fileName,
      object.size,
      file.mimeType,
      file.originalUrl,
      file.messageId,
      now,
    ),
    statement(`SELECT ${MEDIA_COLUMNS} FROM media m WHERE ${OF_KEY}`, ...of),
  ]);
  const row = results.at(-1)?.results[0];
  return row ? toMedia(row) : null;
}

/** Notes that an inbound file could not be fetched, unless it was after all. */
export async function upsertUnfetched(
  db: Db,
  key: InboundKey,
  file: Received,
  outcome: { status: "pending" | "failed"; error: Media["error"] },
  now: number,
): Promise<void> {
  await db.run(
    `INSERT INTO media (workspace_id, phone_number_id, provider_media_id, id, type, source, status, file_name, mime_type, original_url, message_id,
       error, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, 'inbound', ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)
     ${CONFLICT} DO UPDATE SET status = excluded.status, error = excluded.error, updated_at = excluded.updated_at
     WHERE media.status <> 'ready' AND media.deleted_at IS NULL`,
    key.workspaceId,
    key.phoneNumberId,
    key.providerMediaId,
    file.id,
    file.type,
    outcome.status,
    file.fileName,
    file.mimeType,
    file.originalUrl,
    file.messageId,
    outcome.error && JSON.stringify(outcome.error),
    now,
  );
}

/** Dooms one object unless a file refers to it; true when it is doomed. */
export async function doomObject(db: Db, object: { workspaceId: string; id: string }, now: number): Promise<boolean> {
  const changed = await db.run(
    `UPDATE media_objects SET state = 'doomed', due_at = ?3 WHERE workspace_id = ?1 AND id = ?2 AND NOT EXISTS (SELECT 1 FROM media m
       WHERE m.workspace_id = ?1 AND m.object_id = ?2 AND m.object_id IS NOT NULL AND m.deleted_at IS NULL)`,
    object.workspaceId,
    object.id,
    now,
  );
  return changed > 0;
}

/** An object of R2 that may be removed, and the multipart upload it is of, if it never became one. */
export interface LooseObject {
  workspaceId: string;
  id: string;
  multipartId: string | null;
}

const looseRow = z.object({ workspace_id: z.string(), id: z.string(), multipart_id: z.string().nullable() });

/**
 * First step: nobody refers to them any more, so no upload finds them from here on. What was deleted lets go of its
 * object, and what is not referred to by any file that is left is doomed; uploads that never ended are, too. Returns
 * how many deleted files were looked at.
 */
export async function doomObjects(db: Db, now: number, dueAt: number, limit: number): Promise<number> {
  const deleted = `SELECT d.workspace_id, d.object_id, d.id FROM media d INDEXED BY media_deleted
    WHERE d.deleted_at IS NOT NULL AND d.object_id IS NOT NULL ORDER BY d.deleted_at, d.workspace_id, d.id LIMIT ${limit}`;
  const results = await db.batch([
    statement(
      `UPDATE media_objects AS o SET state = 'doomed', due_at = ?1 FROM (${deleted}) d
       WHERE o.workspace_id = d.workspace_id AND o.id = d.object_id AND o.state = 'ready' AND NOT EXISTS (SELECT 1 FROM media m INDEXED BY media_object
         WHERE m.workspace_id = d.workspace_id AND m.object_id = d.object_id AND m.object_id IS NOT NULL AND m.deleted_at IS NULL)`,
      dueAt,
    ),
    statement(
      `UPDATE media AS m SET object_id = NULL FROM (${deleted}) d WHERE m.workspace_id = d.workspace_id AND m.id = d.id`,
    ),
    statement(
      "UPDATE media_objects SET state = 'doomed' WHERE state = 'uploading' AND due_at IS NOT NULL AND due_at <= ?1",
      now,
    ),
  ]);
  return results[1]?.meta.changes ?? 0;
}

/** Second step: doomed objects whose time has come. */
export async function selectDoomed(db: Db, now: number, limit: number): Promise<LooseObject[]> {
  const rows = await db.all(
    `SELECT o.workspace_id, o.id, o.multipart_id FROM media_objects o INDEXED BY media_objects_due
     WHERE o.due_at IS NOT NULL AND o.due_at <= ?1 AND o.state = 'doomed' ORDER BY o.due_at LIMIT ${limit}`,
    now,
  );
  return rows.map((raw) => {
    const row = looseRow.parse(raw);
    return { workspaceId: row.workspace_id, id: row.id, multipartId: row.multipart_id };
  });
}

/** After R2 has let go of them. */
export async function deleteObjects(db: Db, objects: readonly { workspaceId: string; id: string }[]): Promise<void> {
  await db.run(
    `DELETE FROM media_objects WHERE state = 'doomed' AND (workspace_id, id) IN
       (SELECT j.value ->> 'ws', j.value ->> 'id' FROM json_each(?1) j)`,
    JSON.stringify(objects.map(({ workspaceId, id }) => ({ ws: workspaceId, id }))),
  );
}
