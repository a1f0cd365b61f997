/** Files of a workspace: taking them in, finding them, letting go of them. */
import type { WorkspaceScope } from "../auth/guard";
import type { Db } from "../platform/d1";
import { AppError, invalidField } from "../platform/errors";
import { isUuid } from "../platform/ids";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { cleanFileName } from "./file-name";
import { IncomingFile } from "./incoming-file";
import { type FileKind, LARGEST } from "./kinds";
import { fileMissing, readForm } from "./multipart";
import { type ObjectWriter, objectKey } from "./object-writer";
import { PendingObject, type Place } from "./pending-object";
import { type Media, updateDeleted } from "./store";
import { deleteObjects, doomObject, insertUploaded } from "./store-objects";

export type { Media } from "./store";

/** Bytes of a form besides its file: boundaries, headers, other fields. */
const FORM_BYTES = 64 * 1024;

/** Enters the workspace that a form names, or the caller's own: membership, role and quota. */
export type Enter = (workspaceId: string | undefined) => Promise<WorkspaceScope>;

/**
 * Takes one file of a form: `file`, and `workspace_id` before or after it. The file goes to R2 as it comes, one part of
 * it in memory. Throws 413 at the first byte over the limit of its type, 422 for what is not taken or not what it was
 * declared as, 400 for what is no form; nothing of a refused file stays. `home` is a workspace of the caller's, where a
 * large file is noted whose own workspace stands behind it in the form.
 */
export async function receiveFile(
  rt: Runtime,
  request: { body: ReadableStream<Uint8Array> | null; contentType: string; declaredLength: number | null },
  home: Place,
  enter: Enter,
): Promise<{ scope: WorkspaceScope; media: Media }> {
  const limit = LARGEST + FORM_BYTES;
  if ((request.declaredLength ?? 0) > limit) throw new AppError("too_large", `The body is larger than ${limit} bytes`);
  if (!request.body) throw fileMissing();
  const form: Form = { scope: null };
  const pending = new PendingObject(rt, () => form.scope ?? home);
  try {
    const file = await takeForm(readForm(request.body, request.contentType, limit), pending.writer, form, enter);
    const scope = form.scope ?? (await enter(undefined));
    const object = await pending.store(scope);
    const media = await keepUploaded(rt, scope, { ...file, id: rt.newId() }, object);
    return { scope, media };
  } catch (error) {
    await pending.abandon();
    throw error;
  }
}

/** What is known of a form so far. */
interface Form {
  scope: WorkspaceScope | null;
}

interface TakenFile {
  kind: FileKind;
  fileName: string | null;
}

async function takeForm(
  events: ReturnType<typeof readForm>,
  writer: ObjectWriter,
  form: Form,
  enter: Enter,
): Promise<TakenFile> {
  let current: IncomingFile | null = null;
  let taken: TakenFile | null = null;
  for await (const event of events) {
    switch (event.kind) {
      case "field":
        if (event.name !== "workspace_id") break;
        if (!isUuid(event.value)) throw invalidField(["body", "workspace_id"], "Must be a UUID");
        if (form.scope) throw invalidField(["body", "workspace_id"], "Must be given once");
        // Before the file where the form says it first: who may not upload here sends nothing in vain.
        form.scope = await enter(event.value.toLowerCase());
        break;
      case "file":
        current = null;
        if (event.name !== "file") break;
        if (taken) throw invalidField(["body", "file"], "Takes one file at a time");
        current = new IncomingFile(writer, event.mimeType, cleanFileName(event.fileName));
        break;
      case "data":
        await current?.take(event.bytes);
        break;
      case "file_end":
        if (current) taken = { kind: await current.end(), fileName: current.fileName };
        current = null;
        break;
    }
  }
  if (!taken) throw fileMissing();
  return taken;
}

/**
 * Makes a file of an object that stands in R2. Where the workspace has the same content already the file refers to
 * that, and the new object goes at once. Throws 409 when the upload took longer than it is waited for.
 */
export async function keepUploaded(
  rt: Runtime,
  scope: WorkspaceScope,
  file: { id: string; kind: FileKind; fileName: string | null },
  object: { id: string; sha256: string; size: number },
): Promise<Media> {
  const media = await insertUploaded(
    scope.db,
    {
      workspaceId: scope.workspaceId,
      id: file.id,
      type: file.kind.type,
      fileName: file.fileName,
      mimeType: file.kind.mimeType,
      uploadedBy: scope.caller.kind === "user" ? scope.caller.userId : null,
    },
    object,
    rt.clock(),
  );
  if (media?.objectId !== object.id) await dropObject(rt, scope.db, { workspaceId: scope.workspaceId, id: object.id });
  if (!media) throw new AppError("conflict", "The upload took too long: start again");
  if (media.deletedAt !== null) throw new AppError("conflict", "The file was deleted");
  return media;
}

/** Removes an object that no file refers to, now. What fails is left to the nightly job. */
export async function dropObject(rt: Runtime, db: Db, object: { workspaceId: string; id: string }): Promise<void> {
  try {
    // Doomed first: nothing may find an object whose bytes are gone.
    if (!(await doomObject(db, object, rt.clock()))) return;
    await rt.env.MEDIA.delete(objectKey(object.id));
    await deleteObjects(db, [object]);
  } catch (error) {
    log("warn", "media.drop_failed", { workspace_id: object.workspaceId, ...errorFields(error) });
  }
}

/** Deletes a file for its users at once; its bytes go by the nightly job, once nothing refers to them. */
export async function deleteMedia(rt: Runtime, db: Db, media: Media): Promise<void> {
  if (await updateDeleted(db, media.workspaceId, media.id, rt.clock())) return;
  throw new AppError("not_found", "Resource not found");
}
