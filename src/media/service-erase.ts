/** Files of people who are erased. */

import { z } from "zod";
import { type Db, jsonChunks, statement } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { objectKey } from "./object-writer";
import { isMediaType, providerMediaIdOf } from "./references";
import { deleteObjects } from "./store-objects";

interface Carrier {
  id: string;
  workspaceId: string;
  phoneNumberId: string;
  type: string;
  content: Record<string, unknown>;
}

const letGo = z.object({ workspace_id: z.string(), object_id: z.string().nullable(), id: z.string() });

/**
 * Removes the files that came with these messages: bytes that no other file shares are gone from R2 now, or with the
 * next night where R2 does not answer. An empty row stays for each, also where none was fetched yet: a fetch that is
 * ordered finds that the file is not wanted any more. Answers how many files there were. May run twice. Files of the
 * workspace's own library that were sent to somebody are not theirs, and stay.
 */
export async function eraseReceivedFiles(rt: Runtime, db: Db, messages: readonly Carrier[]): Promise<number> {
  const rows = messages.flatMap((message) => {
    const providerMediaId = providerMediaIdOf(message);
    if (providerMediaId === null) return [];
    const type = isMediaType(message.type) ? message.type : "image";
    return [{ ws: message.workspaceId, num: message.phoneNumberId, pid: providerMediaId, id: rt.newId(), type }];
  });
  const now = rt.clock();
  const results = await db.batch(
    jsonChunks(rows).flatMap((json) => [
      statement(
        `UPDATE list_totals AS t SET n = t.n - g.n FROM (SELECT m.workspace_id AS ws, count(*) AS n FROM json_each(?1) j
           CROSS JOIN media m INDEXED BY media_inbound WHERE m.workspace_id = j.value ->> 'ws' AND m.phone_number_id = j.value ->> 'num'
             AND m.provider_media_id = j.value ->> 'pid' AND m.provider_media_id IS NOT NULL AND m.status = 'ready' AND m.deleted_at IS NULL GROUP BY 1) g
         WHERE t.workspace_id = g.ws AND t.list = 'media'`,
        json,
      ),
      statement(
        `INSERT INTO media (workspace_id, id, type, source, status, mime_type, phone_number_id, provider_media_id, created_at, updated_at, deleted_at)
         SELECT j.value ->> 'ws', j.value ->> 'id', j.value ->> 'type', 'inbound', 'failed', 'application/octet-stream', j.value ->> 'num', j.value ->> 'pid', ?2, ?2, ?2
         FROM json_each(?1) j WHERE true
         ON CONFLICT (workspace_id, phone_number_id, provider_media_id) WHERE provider_media_id IS NOT NULL DO UPDATE SET
           file_name = NULL, file_size = NULL, sha256 = NULL, original_url = NULL, message_id = NULL, error = NULL,
           updated_at = excluded.updated_at, deleted_at = COALESCE(media.deleted_at, excluded.deleted_at)
         RETURNING workspace_id, object_id, id`,
        json,
        now,
      ),
    ]),
  );
  const files = results.flatMap((result) => result.results.map((raw) => letGo.parse(raw)));
  const objects = new Map(
    files.flatMap((file) => (file.object_id === null ? [] : [[file.object_id, file.workspace_id]])),
  );
  await dropUnshared(rt, db, objects);
  return objects.size;
}

const doomed = z.object({ workspace_id: z.string(), id: z.string() });

/** Removes the objects (id -> workspace) that no file refers to any more. What fails is left to the nightly job. */
async function dropUnshared(rt: Runtime, db: Db, objects: ReadonlyMap<string, string>): Promise<void> {
  if (objects.size === 0) return;
  try {
    // Doomed first: nothing may find an object whose bytes are gone.
    const rows = await db.all(
      `UPDATE media_objects SET state = 'doomed', due_at = ?2 WHERE (workspace_id, id) IN (SELECT j.value ->> 'ws', j.value ->> 'id' FROM json_each(?1) j)
         AND NOT EXISTS (SELECT 1 FROM media m WHERE m.workspace_id = media_objects.workspace_id AND m.object_id = media_objects.id
           AND m.object_id IS NOT NULL AND m.deleted_at IS NULL)
       RETURNING workspace_id, id`,
      JSON.stringify([...objects].map(([id, ws]) => ({ ws, id }))),
      rt.clock(),
    );
    const loose = rows.map((raw) => doomed.parse(raw)).map((row) => ({ workspaceId: row.workspace_id, id: row.id }));
    if (loose.length === 0) return;
    await rt.env.MEDIA.delete(loose.map(({ id }) => objectKey(id)));
    await deleteObjects(db, loose);
  } catch (error) {
    log("warn", "media.drop_failed", { objects: objects.size, ...errorFields(error) });
  }
}
