/** What a file is, by its first bytes and what was declared of it (contract 16). */
import { filetypename, register } from "magic-bytes.js";
import { type AppError, invalidField } from "../platform/errors";
import { type Family, type FileKind, isDeclared, kindOfMime, kindOfName } from "./kinds";

/** Bytes of a file's beginning that tell what it is. */
export const HEAD_BYTES = 64;

// Signatures the library does not have: AMR; MPEG audio and ADTS frames with a checksum; MPEG-2.5; brands of ISO media.
register("amr", ["0x23", "0x21", "0x41", "0x4D", "0x52"]);
register("mp3", ["0xFF", "0xFA"]);
register("mp3", ["0xFF", "0xE2"]);
register("mp3", ["0xFF", "0xE3"]);
register("aac", ["0xFF", "0xF0"]);
register("aac", ["0xFF", "0xF8"]);
register("m4a", ["0x66", "0x74", "0x79", "0x70", "0x4D", "0x34", "0x41"], undefined, 4);
register("3gpp", ["0x66", "0x74", "0x79", "0x70", "0x33", "0x67"], undefined, 4);

/** The library's names of what we take, and the type that is meant when nothing else tells; null: nothing can. */
const SIGNATURES: Readonly<Record<string, { family: Family; mimeType: string | null }>> = {
  jpg: { family: "jpeg", mimeType: "image/jpeg" },
  png: { family: "png", mimeType: "image/png" },
  gif: { family: "gif", mimeType: "image/gif" },
  bmp: { family: "bmp", mimeType: "image/bmp" },
  webp: { family: "webp", mimeType: "image/webp" },
  mp4: { family: "isom", mimeType: "video/mp4" },
  m4a: { family: "isom", mimeType: "audio/mp4" },
  "3gpp": { family: "isom", mimeType: "video/3gpp" },
  mov: { family: "isom", mimeType: "video/quicktime" },
  aac: { family: "adts", mimeType: "audio/aac" },
  mp3: { family: "mpeg", mimeType: "audio/mpeg" },
  amr: { family: "amr", mimeType: "audio/amr" },
  ogx: { family: "ogg", mimeType: "audio/ogg" },
  ogg: { family: "ogg", mimeType: "audio/ogg" },
  oga: { family: "ogg", mimeType: "audio/ogg" },
  spx: { family: "ogg", mimeType: "audio/ogg" },
  pdf: { family: "pdf", mimeType: "application/pdf" },
  doc: { family: "cfb", mimeType: null },
  zip: { family: "zip", mimeType: null },
};

const TEXT = { family: "text", mimeType: "text/plain" } as const;

/** The container a file's beginning shows; null when it is nothing we take. */
function sniff(head: Uint8Array): { family: Family; mimeType: string | null } | null {
  const names = filetypename([...head.subarray(0, HEAD_BYTES)]);
  for (const name of names) {
    const known = Object.hasOwn(SIGNATURES, name) ? SIGNATURES[name] : undefined;
    if (known && !onlyLetters(name, head)) return known;
  }
  return head.includes(0) ? null : TEXT;
}

/** "BM" and "ID3" begin words too: a bitmap has four reserved zeros there, a tag its version. */
function onlyLetters(name: string, head: Uint8Array): boolean {
  if (name === "bmp") return head.subarray(6, 10).some((byte) => byte !== 0);
  return name === "mp3" && head[0] === 0x49 && (head[3] ?? 0xff) > 0x0f;
}

function refused(msg: string): AppError {
  return invalidField(["body", "file"], msg);
}

/**
 * What was declared, before any byte is seen; null when only the bytes can tell. Throws a 422 for a declared type that
 * is not taken.
 */
export function declaredKind(declared: string | null, fileName: string | null): FileKind | null {
  if (!isDeclared(declared)) return kindOfName(fileName);
  const kind = kindOfMime(declared);
  if (!kind) throw refused(`Files of type ${declared.slice(0, 100)} are not taken`);
  return kind;
}

/**
 * What the file is. Its bytes decide the container, the declaration (else the file name) which type within it. Throws
 * a 422 that names the file when they disagree, or when it is nothing we take.
 */
export function decideKind(head: Uint8Array, declared: string | null, fileName: string | null): FileKind {
  if (head.length === 0) throw refused("The file is empty");
  const expected = declaredKind(declared, fileName);
  const seen = sniff(head);
  if (!seen) throw refused("Files of this type are not taken");
  if (expected?.family === seen.family) return expected;
  if (isDeclared(declared)) throw refused(`The file is declared as ${declared.slice(0, 100)}, but its bytes are not`);
  const kind = seen.mimeType === null ? null : kindOfMime(seen.mimeType);
  if (!kind) throw refused("The file's name does not tell its type: declare one");
  return kind;
}

/** Text is text as long as it has no NUL (contract 16); a call per piece of a file. */
export function checkText(kind: FileKind, bytes: Uint8Array): void {
  if (kind.family === "text" && bytes.includes(0)) throw refused("The file is declared as text, but its bytes are not");
}
