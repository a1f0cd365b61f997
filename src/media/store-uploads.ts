/** SQL of uploads in parts. */
import type { InferSelectModel } from "drizzle-orm";
import { columnsOf, type Db, fromRow, statement } from "../platform/d1";
import { insertObject } from "./store-objects";
import { mediaUploads } from "./tables";

export type MediaUpload = InferSelectModel<typeof mediaUploads>;

/** The upload and the object it will make. */
export async function insertUpload(db: Db, upload: MediaUpload): Promise<void> {
  await db.batch([
    insertObject(upload, upload.createdAt),
    statement(
      `INSERT INTO media_uploads (workspace_id, id, multipart_id, file_name, mime_type, file_size, parts, uploaded_by, created_at, expires_at)
       VALUES (?1, ?2, ?3, ?4, ?5, ?6, '{}', ?7, ?8, ?9)`,
      upload.workspaceId,
      upload.id,
      upload.multipartId,
      upload.fileName,
      upload.mimeType,
      upload.fileSize,
      upload.uploadedBy,
      upload.createdAt,
      upload.expiresAt,
    ),
  ]);
}

/** An upload by id among several workspaces of one shard. */
export async function selectUpload(db: Db, workspaceIds: readonly string[], id: string): Promise<MediaUpload | null> {
  const row = await db.first(
    `SELECT ${columnsOf(mediaUploads, "u")} FROM media_uploads u
     WHERE (u.workspace_id, u.id) IN (SELECT j.value, ?2 FROM json_each(?1) j)`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && fromRow(mediaUploads, row);
}

/** Notes a part; parts of one upload may arrive at the same time. Null when the upload is gone. */
export async function updatePart(
  db: Db,
  upload: MediaUpload,
  part: { number: number; etag: string },
): Promise<MediaUpload | null> {
  const row = await db.first(
    `UPDATE media_uploads SET parts = json_set(parts, '$."' || ?3 || '"', ?4) WHERE workspace_id = ?1 AND id = ?2
     RETURNING ${columnsOf(mediaUploads, "u").replaceAll("u.", "")}`,
    upload.workspaceId,
    upload.id,
    String(part.number),
    part.etag,
  );
  return row && fromRow(mediaUploads, row);
}

/** Ends an upload that made no file: its object is doomed at once. */
export async function deleteUpload(db: Db, upload: MediaUpload, now: number): Promise<void> {
  await db.batch([
    statement("DELETE FROM media_uploads WHERE workspace_id = ?1 AND id = ?2", upload.workspaceId, upload.id),
    statement(
      "UPDATE media_objects SET state = 'doomed', due_at = ?3 WHERE workspace_id = ?1 AND id = ?2 AND state = 'uploading'",
      upload.workspaceId,
      upload.id,
      now,
    ),
  ]);
}

/** Uploads that have ended one way or the other; a small table, walked. Returns how many went. */
export function deleteOldUploads(db: Db, before: number, limit: number): Promise<number> {
  return db.run(
    `DELETE FROM media_uploads WHERE (workspace_id, id) IN (SELECT workspace_id, id FROM media_uploads WHERE expires_at <= ?1 LIMIT ${limit})`,
    before,
  );
}
