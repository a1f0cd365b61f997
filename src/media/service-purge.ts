/** Cron, nightly: the bytes that nothing refers to any more. */
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { objectKey } from "./object-writer";
import { deleteObjects, doomObjects, type LooseObject, selectDoomed } from "./store-objects";
import { deleteExpiredProviderIds } from "./store-provider";
import { deleteOldUploads } from "./store-uploads";

/**
 * Between the two steps: longer than any request or send that found the object before it was doomed, shorter than a
 * night.
 */
const DOOMED_FOR = 12 * 3_600_000;
/** Kept past their end, so that who comes late is told that the upload has expired. */
const UPLOADS_KEPT = 3 * 86_400_000;
/** R2 deletes up to 1,000 keys at once. */
const CHUNK = 1000;
const CHUNKS = 50;

/**
 * One shard's night. First what was doomed the night before is removed from R2, then from the database; then what
 * nothing refers to is doomed, from where no upload finds it: an upload of the same content stores its own object, one
 * that came a moment earlier is a reference. Bounded; the next night goes on. May run twice at once.
 */
export async function purgeMedia(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const db = shard(rt, shardNumber);
  let removed = 0;
  for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
    const objects = await selectDoomed(db, now, CHUNK);
    if (objects.length === 0) break;
    for (const object of objects) await abortMultipart(rt, object);
    await rt.env.MEDIA.delete(objects.map((object) => objectKey(object.id)));
    await deleteObjects(db, objects);
    removed += objects.length;
    if (objects.length < CHUNK) break;
  }
  await drain(() => doomObjects(db, now, now + DOOMED_FOR, CHUNK));
  await drain(() => deleteOldUploads(db, now - UPLOADS_KEPT, CHUNK));
  await drain(() => deleteExpiredProviderIds(db, now, CHUNK));
  if (removed > 0) log("info", "media.purged", { shard: shardNumber, objects: removed });
}

async function drain(step: () => Promise<number>): Promise<void> {
  for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
    if ((await step()) < CHUNK) return;
  }
}

async function abortMultipart(rt: Runtime, object: LooseObject): Promise<void> {
  if (object.multipartId === null) return;
  try {
    await rt.env.MEDIA.resumeMultipartUpload(objectKey(object.id), object.multipartId).abort();
  } catch (error) {
    // Completed or aborted before; one that R2 cannot abort now it drops by itself.
    log("info", "media.abort_failed", { workspace_id: object.workspaceId, ...errorFields(error) });
  }
}
