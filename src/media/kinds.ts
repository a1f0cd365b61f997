/** Which files are taken, and how large they may be. */
import type { MediaType } from "./schema";

const MB = 1024 * 1024;

/** Bytes (003 "File Size Limits"; contract 16: MB = 1024²). */
export const MAX_BYTES: Readonly<Record<MediaType, number>> = {
  image: 16 * MB,
  video: 100 * MB,
  audio: 16 * MB,
  document: 100 * MB,
};

export const LARGEST = Math.max(...Object.values(MAX_BYTES));

/** What the first bytes tell: formats that share a container cannot be told apart by it. */
export type Family =
  | "jpeg"
  | "png"
  | "gif"
  | "bmp"
  | "webp"
  | "isom"
  | "adts"
  | "mpeg"
  | "amr"
  | "ogg"
  | "pdf"
  | "cfb"
  | "zip"
  | "text";

export interface FileKind {
  mimeType: string;
  type: MediaType;
  family: Family;
  extensions: readonly string[];
}

function kind(mimeType: string, type: MediaType, family: Family, ...extensions: string[]): FileKind {
  return { mimeType, type, family, extensions };
}

const OOXML = "application/vnd.openxmlformats-officedocument";

/** The document's list (003 "Media Types"), WebP, and the OOXML types (contract 16). */
export const KINDS: readonly FileKind[] = [
  kind("image/jpeg", "image", "jpeg", "jpg", "jpeg"),
  kind("image/png", "image", "png", "png"),
  kind("image/gif", "image", "gif", "gif"),
  kind("image/bmp", "image", "bmp", "bmp"),
  kind("image/webp", "image", "webp", "webp"),
  kind("video/mp4", "video", "isom", "mp4", "m4v"),
  kind("video/3gpp", "video", "isom", "3gp", "3gpp"),
  kind("video/quicktime", "video", "isom", "mov", "qt"),
  kind("audio/aac", "audio", "adts", "aac"),
  kind("audio/mp4", "audio", "isom", "m4a", "mp4a"),
  kind("audio/mpeg", "audio", "mpeg", "mp3", "mpga"),
  kind("audio/amr", "audio", "amr", "amr"),
  kind("audio/ogg", "audio", "ogg", "ogg", "oga", "opus"),
  kind("application/pdf", "document", "pdf", "pdf"),
  kind("application/msword", "document", "cfb", "doc"),
  kind("application/vnd.ms-excel", "document", "cfb", "xls"),
  kind("application/vnd.ms-powerpoint", "document", "cfb", "ppt"),
  kind(`${OOXML}.wordprocessingml.document`, "document", "zip", "docx"),
  kind(`${OOXML}.spreadsheetml.sheet`, "document", "zip", "xlsx"),
  kind(`${OOXML}.presentationml.presentation`, "document", "zip", "pptx"),
  kind("text/plain", "document", "text", "txt", "text"),
];

/** Other names the same types are declared by. */
const ALIASES: Readonly<Record<string, string>> = {
  "image/jpg": "image/jpeg",
  "image/pjpeg": "image/jpeg",
  "image/x-ms-bmp": "image/bmp",
  "image/x-bmp": "image/bmp",
  "video/3gp": "video/3gpp",
  "audio/3gpp": "audio/mp4",
  "audio/m4a": "audio/mp4",
  "audio/x-m4a": "audio/mp4",
  "audio/mp3": "audio/mpeg",
  "audio/x-aac": "audio/aac",
  "audio/opus": "audio/ogg",
  "application/ogg": "audio/ogg",
};

/** A MIME type without parameters, in lower case, by its usual name. */
export function plainMime(mimeType: string): string {
  const plain = (mimeType.split(";")[0] ?? "").trim().toLowerCase();
  return ALIASES[plain] ?? plain;
}

/** `application/octet-stream`, or nothing, means "not declared" (contract 16). */
export function isDeclared(mimeType: string | null): mimeType is string {
  return mimeType !== null && plainMime(mimeType) !== "" && plainMime(mimeType) !== "application/octet-stream";
}

export function kindOfMime(mimeType: string): FileKind | null {
  const plain = plainMime(mimeType);
  return KINDS.find((known) => known.mimeType === plain) ?? null;
}

export function kindOfName(fileName: string | null): FileKind | null {
  const extension = /\.([A-Za-z0-9]{1,8})$/.exec(fileName ?? "")?.[1]?.toLowerCase();
  if (extension === undefined) return null;
  return KINDS.find((known) => known.extensions.includes(extension)) ?? null;
}

const WELL_FORMED = /^[\w.+-]{1,100}\/[\w.+-]{1,100}(\s*;\s*[\w-]{1,40}=("[\w.,+\- ]{0,100}"|[\w.+-]{1,100})){0,5}$/;

/** A MIME type that somebody else told, fit for a header; what is none is bytes. */
export function wellFormedMime(mimeType: string | null): string {
  return mimeType !== null && WELL_FORMED.test(mimeType) ? mimeType : "application/octet-stream";
}
