import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { ObjectWriter, objectKey } from "./object-writer";
import { deleteUploading, insertObject, type NewObject } from "./store-objects";

/** Whose object it will be, as far as is known, and the database that knows of it. */
export interface Place {
  db: Db;
  workspaceId: string;
}

/**
 * Bytes on their way into R2, of which the database knows before the first part of them is there: an invocation may end
 * at any byte, because its caller went away, and R2 does not tell which uploads it never got the end of. The nightly job
 * finds what was neither stored nor abandoned.
 */
export class PendingObject {
  readonly id: string;
  readonly writer: ObjectWriter;
  readonly #rt: Runtime;
  /** Where a row stands. */
  #noted: Place | null = null;

  /** `place` is asked once there is more than one part of the object: a workspace of the caller's, the right one if known. */
  constructor(rt: Runtime, place: () => Place) {
    this.#rt = rt;
    this.id = rt.newId();
    this.writer = new ObjectWriter(rt.env.MEDIA, objectKey(this.id), (multipartId) => this.#note(place(), multipartId));
  }

  async #note(place: Place, multipartId: string | null): Promise<void> {
    this.#noted = place;
    const { db, workspaceId } = place;
    await db.batch([insertObject({ workspaceId, id: this.id, multipartId }, this.#rt.clock())]);
  }

  /**
   * Makes the object, in the workspace it belongs to. From here on it is a row in `uploading` and bytes in R2; the caller
   * makes a file of it or leaves it to the nightly job.
   */
  async store(place: Place): Promise<NewObject> {
    const object = { id: this.id, sha256: await this.writer.seal(), size: this.writer.size };
    const before = this.#noted;
    if (before === null || before.workspaceId !== place.workspaceId) {
      await this.#note(place, this.writer.multipartId);
      // Before the object is there: the nightly job would take it for the one that never came.
      if (before) await deleteUploading(before.db, { workspaceId: before.workspaceId, id: this.id });
    }
    await this.writer.store();
    return object;
  }

  /** Leaves nothing behind. What cannot be told to R2 or the database now is left to the nightly job. */
  async abandon(): Promise<void> {
    // Its bytes are an object by now, and the row is what knows of them.
    if (this.writer.stored) return;
    try {
      await this.writer.abort();
      if (this.#noted) await deleteUploading(this.#noted.db, { workspaceId: this.#noted.workspaceId, id: this.id });
    } catch (error) {
      log("warn", "media.abort_failed", { workspace_id: this.#noted?.workspaceId, ...errorFields(error) });
    }
  }
}
