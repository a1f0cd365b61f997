/** A multipart/form-data body as it comes in, never more than one piece of it in memory. */
import { decodeField, make, type PartInfo } from "multipasta";
import { AppError, invalidField } from "../platform/errors";
import { chunksOf } from "./chunks";

/** Parts and bytes of a field that a form of ours may have. */
const MAX_PARTS = 20;
const MAX_FIELD_BYTES = 4096;

export type FormEvent =
  | { kind: "field"; name: string; value: string }
  | { kind: "file"; name: string; fileName: string | null; mimeType: string | null }
  | { kind: "data"; bytes: Uint8Array }
  | { kind: "file_end" };

/**
 * What a form holds, in order. The next piece of the body is read only after everything of the one before was taken,
 * so that a slow reader slows the sender down instead of filling memory. Throws 400 for what is no form, and 413 once
 * more than `maxBytes` came.
 */
export async function* readForm(
  body: ReadableStream<Uint8Array>,
  contentType: string,
  maxBytes: number,
): AsyncGenerator<FormEvent> {
  let events: FormEvent[] = [];
  let failure: AppError | null = null;
  let complete = false;
  const parser = make({
    headers: { "content-type": contentType },
    maxParts: MAX_PARTS,
    maxFieldSize: MAX_FIELD_BYTES,
    isFile: (info) => {
      const { name, fileName } = namesOf(info);
      return name === "file" || fileName !== null;
    },
    onField: (info, value) => {
      events.push({ kind: "field", name: namesOf(info).name, value: decodeField(info, value) });
    },
    onFile: (info) => {
      events.push(fileEvent(info));
      return (bytes) => events.push(bytes === null ? { kind: "file_end" } : { kind: "data", bytes });
    },
    onError: (error) => {
      failure ??= malformed(error._tag === "ReachedLimit" ? `it exceeds ${error.limit}` : error._tag);
    },
    onDone: () => {
      complete = true;
    },
  });
  const feed = (bytes: Uint8Array): void => {
    try {
      parser.write(bytes);
    } catch (error) {
      // A file name that is percent-encoded wrongly.
      failure ??= malformed(error instanceof URIError ? "a name is not encoded as it should be" : "it breaks off");
    }
  };
  let size = 0;
  let held: Uint8Array = new Uint8Array(0);
  for await (const chunk of chunksOf(body, () => malformed("it breaks off"))) {
    size += chunk.byteLength;
    if (size > maxBytes) throw new AppError("too_large", `The body is larger than ${maxBytes} bytes`);
    const { now, later } = withoutDashes(joined(held, chunk));
    held = later;
    feed(now);
    if (failure) throw failure;
    const ready = events;
    events = [];
    yield* ready;
  }
  feed(held);
  parser.end();
  if (failure) throw failure;
  yield* events;
  if (!complete) throw malformed("its end is missing");
}

/**
 * The parser takes the last boundary for another part when a piece of the body ends between the two dashes that mark
 * the end. So up to two dashes at a piece's end wait for the next one.
 */
function withoutDashes(bytes: Uint8Array): { now: Uint8Array; later: Uint8Array } {
  const DASH = 45;
  let end = bytes.length;
  while (end > 0 && bytes.length - end < 2 && bytes[end - 1] === DASH) end -= 1;
  return { now: bytes.subarray(0, end), later: bytes.slice(end) };
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second;
  const all = new Uint8Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}

function fileEvent(info: PartInfo): FormEvent {
  const declared = info.headers["content-type"];
  return { kind: "file", ...namesOf(info), mimeType: typeof declared === "string" ? declared : null };
}

const PARAMETER = /;\s*(name|filename|filename\*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))/gi;

/**
 * The names of a part, from its header as it came: the parser's own reading gives up on names beyond Latin-1. Browsers
 * write a quote as %22, curl as \".
 */
function namesOf(info: PartInfo): { name: string; fileName: string | null } {
  const header = info.headers["content-disposition"];
  const found = new Map<string, string>();
  for (const [, key = "", quoted, token] of (typeof header === "string" ? header : "").matchAll(PARAMETER)) {
    const value = quoted?.replace(/\\(["\\])/g, "$1").replaceAll("%22", '"') ?? token ?? "";
    found.set(key.toLowerCase(), value);
  }
  const encoded = /^UTF-8'[^']*'(.*)$/i.exec(found.get("filename*") ?? "")?.[1];
  return {
    name: found.get("name") ?? "",
    fileName: encoded === undefined ? (found.get("filename") ?? null) : decodeURIComponent(encoded),
  };
}

function malformed(why: string): AppError {
  return new AppError("malformed", `The multipart body could not be read: ${why}`);
}

/** A 422 for a form without its file. */
export function fileMissing(): AppError {
  return invalidField(["body", "file"], "Field required");
}
