/** Uploads in parts, for bodies larger than the zone's plan lets through in one request (contract 16). */
import type { WorkspaceScope } from "../auth/guard";
import { toHex } from "../platform/crypto";
import { AppError, invalidField } from "../platform/errors";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { chunksOf } from "./chunks";
import { cleanFileName } from "./file-name";
import { tooLarge } from "./incoming-file";
import { type FileKind, LARGEST, MAX_BYTES } from "./kinds";
import { objectKey, PART_BYTES } from "./object-writer";
import { dropObject, keepUploaded } from "./service";
import { checkText, decideKind, declaredKind, HEAD_BYTES } from "./sniff";
import { type Media, selectMedia } from "./store";
import { UPLOAD_TTL } from "./store-objects";
import { deleteUpload, insertUpload, type MediaUpload, updatePart } from "./store-uploads";

export function partCount(fileSize: number): number {
  return Math.ceil(fileSize / PART_BYTES);
}

/** Bytes that part `number` (from 1) must have. */
function partSize(upload: MediaUpload, number: number): number {
  return Math.min(PART_BYTES, upload.fileSize - (number - 1) * PART_BYTES);
}

/** Starts an upload. Throws 422 for a type that is not taken, 413 for a size over its limit: before a byte is sent. */
export async function startUpload(
  rt: Runtime,
  scope: WorkspaceScope,
  file: { fileName: string | null; mimeType: string | null; fileSize: number },
): Promise<MediaUpload> {
  const fileName = cleanFileName(file.fileName);
  const expected = declaredKind(file.mimeType, fileName);
  if (file.fileSize > (expected === null ? LARGEST : MAX_BYTES[expected.type])) throw tooLarge(expected?.type ?? null);
  const now = rt.clock();
  const id = rt.newId();
  const multipart = await rt.env.MEDIA.createMultipartUpload(objectKey(id));
  const upload: MediaUpload = {
    workspaceId: scope.workspaceId,
    id,
    multipartId: multipart.uploadId,
    fileName,
    mimeType: file.mimeType,
    fileSize: file.fileSize,
    parts: {},
    uploadedBy: scope.caller.kind === "user" ? scope.caller.userId : null,
    createdAt: now,
    expiresAt: now + UPLOAD_TTL,
  };
  await insertUpload(scope.db, upload);
  return upload;
}

function checkOpen(rt: Runtime, upload: MediaUpload): void {
  if (upload.expiresAt <= rt.clock()) throw new AppError("conflict", "The upload has expired: start again");
}

/** Takes one part; sent again, it replaces what it was. Throws 422 for a number or size the upload does not have. */
export async function receivePart(
  rt: Runtime,
  scope: WorkspaceScope,
  upload: MediaUpload,
  number: number,
  body: ReadableStream<Uint8Array> | null,
): Promise<MediaUpload> {
  checkOpen(rt, upload);
  const count = partCount(upload.fileSize);
  if (number > count) throw invalidField(["path", "part_number"], `This upload has ${count} parts`);
  const bytes = await readExactly(body, partSize(upload, number), number);
  const multipart = rt.env.MEDIA.resumeMultipartUpload(objectKey(upload.id), upload.multipartId);
  const part = await multipart.uploadPart(number, bytes).catch((error: unknown) => {
    throw hasEnded(error) ? ended(error) : error;
  });
  const updated = await updatePart(scope.db, upload, { number, etag: part.etag });
  if (!updated) throw new AppError("not_found", "Resource not found");
  return updated;
}

async function readExactly(
  body: ReadableStream<Uint8Array> | null,
  size: number,
  number: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(size);
  let filled = 0;
  const wrong = () => invalidField(["body"], `Part ${number} of this upload must have ${size} bytes`);
  if (!body) throw wrong();
  for await (const chunk of chunksOf(body, wrong)) {
    if (filled + chunk.length > size) throw wrong();
    bytes.set(chunk, filled);
    filled += chunk.length;
  }
  if (filled !== size) throw wrong();
  return bytes;
}

/**
 * Makes a file of the parts; repeated, it answers the same file. Its bytes are looked at here, as a single upload's are
 * on the way. Throws 409 while parts are missing, and 422 or 413 for what is not taken, of which nothing stays.
 */
export async function completeUpload(rt: Runtime, scope: WorkspaceScope, upload: MediaUpload): Promise<Media> {
  const made = await selectMedia(scope.db, [upload.workspaceId], upload.id);
  if (made) return made;
  checkOpen(rt, upload);
  const count = partCount(upload.fileSize);
  const missing = Array.from({ length: count }, (_, n) => n + 1).filter((n) => upload.parts[n] === undefined);
  if (missing.length > 0) throw new AppError("conflict", `Parts are missing: ${missing.join(", ")}`);
  await joinParts(rt, upload);
  let object: { kind: FileKind; sha256: string; size: number };
  try {
    object = await examine(rt, upload);
  } catch (error) {
    if (error instanceof AppError) await giveUp(rt, scope, upload);
    throw error;
  }
  const file = { id: upload.id, kind: object.kind, fileName: upload.fileName };
  return keepUploaded(rt, scope, file, { id: upload.id, ...object });
}

async function joinParts(rt: Runtime, upload: MediaUpload): Promise<void> {
  const key = objectKey(upload.id);
  const parts = Object.entries(upload.parts)
    .map(([number, etag]) => ({ partNumber: Number(number), etag }))
    .sort((a, b) => a.partNumber - b.partNumber);
  try {
    await rt.env.MEDIA.resumeMultipartUpload(key, upload.multipartId).complete(parts);
  } catch (error) {
    // The call before this one may have joined them and not come to its end.
    if (await rt.env.MEDIA.head(key)) return;
    throw hasEnded(error) ? ended(error) : error;
  }
}

/** R2's code of a multipart upload that was completed, aborted or given up. */
function hasEnded(error: unknown): boolean {
  return error instanceof Error && error.message.includes("(10024)");
}

function ended(cause?: unknown): AppError {
  return new AppError("conflict", "The upload has ended: start again", { cause });
}

/** Reads the joined object once, piece by piece: its hash, its kind, its size. */
async function examine(rt: Runtime, upload: MediaUpload): Promise<{ kind: FileKind; sha256: string; size: number }> {
  const key = objectKey(upload.id);
  const head = await rt.env.MEDIA.get(key, { range: { offset: 0, length: Math.min(HEAD_BYTES, upload.fileSize) } });
  const object = await rt.env.MEDIA.get(key);
  if (!head || !object) throw ended();
  const kind = decideKind(new Uint8Array(await head.arrayBuffer()), upload.mimeType, upload.fileName);
  if (object.size > MAX_BYTES[kind.type]) {
    await object.body.cancel();
    throw tooLarge(kind.type);
  }
  const digest = new crypto.DigestStream("SHA-256");
  const hash = digest.getWriter();
  digest.digest.catch(() => undefined);
  try {
    for await (const chunk of object.body) {
      checkText(kind, chunk);
      await hash.write(chunk);
    }
  } catch (error) {
    await hash.abort().catch(() => undefined);
    throw error;
  }
  await hash.close();
  return { kind, sha256: toHex(await digest.digest), size: object.size };
}

/** Ends an upload without a file. 409 when there is one already. */
export async function abortUpload(rt: Runtime, scope: WorkspaceScope, upload: MediaUpload): Promise<void> {
  if (await selectMedia(scope.db, [upload.workspaceId], upload.id)) {
    throw new AppError("conflict", "The upload is complete: delete the file");
  }
  await giveUp(rt, scope, upload);
}

async function giveUp(rt: Runtime, scope: WorkspaceScope, upload: MediaUpload): Promise<void> {
  try {
    await rt.env.MEDIA.resumeMultipartUpload(objectKey(upload.id), upload.multipartId).abort();
  } catch (error) {
    // Its parts are one object by now.
    log("info", "media.abort_failed", { workspace_id: upload.workspaceId, ...errorFields(error) });
  }
  await deleteUpload(scope.db, upload, rt.clock());
  await dropObject(rt, scope.db, upload);
}
