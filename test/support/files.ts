/** Files for the tests of media: small ones of every kind we take, and large ones that are never whole in memory. */

function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

function padded(head: string, size = 100): Uint8Array {
  const bytes = new Uint8Array(Math.max(size, head.length));
  bytes.set(latin1(head));
  return bytes;
}

/** Beginnings of files, padded with zeros where the format allows it. */
export const FILES: Record<string, Uint8Array> = {
  jpeg: padded("\xff\xd8\xff\xe0\0\x10JFIF\0"),
  png: padded("\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
  gif: padded("GIF89a\x01\0\x01\0"),
  bmp: padded("BM\x64\0\0\0\0\0\0\0\x36\0\0\0"),
  webp: padded("RIFF\x22\0\0\0WEBPVP8 "),
  mp4: padded("\0\0\0\x18ftypisom\0\0\x02\0isomiso2mp41"),
  gpp: padded("\0\0\0\x14ftyp3gp5\0\0\x01\0"),
  mov: padded("\0\0\0\x14ftypqt  \0\0\x02\0"),
  m4a: padded("\0\0\0\x14ftypM4A \0\0\x02\0"),
  aac: padded("\xff\xf1\x50\x80\x02\x1f\xfc"),
  mp3: padded("\xff\xfb\x90\x64"),
  tagged: padded("ID3\x04\0\0\0\0\0\x0f"),
  amr: padded("#!AMR\n\x3c"),
  ogg: padded(`OggS\0\x02${"\0".repeat(20)}\x01\x13OpusHead`),
  pdf: padded("%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"),
  cfb: padded("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
  zip: padded("PK\x03\x04\x14\0\x06\0\x08\0"),
  text: latin1("Opening hours: 9 to 17. ".repeat(5)),
};

/** A distinct file of a kind: the number stands in its last bytes. */
export function fileOf(kind: keyof typeof FILES, n = 0): Uint8Array {
  const bytes = Uint8Array.from(FILES[kind] ?? []);
  bytes.set(kind === "text" ? latin1(String(n).padStart(4, "0")) : [n >> 24, n >> 16, n >> 8, n], bytes.length - 4);
  return bytes;
}

export interface FormPart {
  name: string;
  value?: string;
  file?: { name?: string; type?: string; bytes: Uint8Array };
}

export const BOUNDARY = "----test-boundary-1234";

/** A form as bytes, so that tests decide its pieces. */
export function formBytes(parts: readonly FormPart[]): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (const part of parts) {
    const name = part.file?.name === undefined ? "" : `; filename="${part.file.name}"`;
    const type = part.file?.type === undefined ? "" : `Content-Type: ${part.file.type}\r\n`;
    pieces.push(
      new TextEncoder().encode(
        `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${part.name}"${name}\r\n${type}\r\n`,
      ),
    );
    pieces.push(part.file?.bytes ?? new TextEncoder().encode(part.value ?? ""));
    pieces.push(latin1("\r\n"));
  }
  pieces.push(latin1(`--${BOUNDARY}--\r\n`));
  return join(pieces);
}

export function join(pieces: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

export const FORM_TYPE = { "Content-Type": `multipart/form-data; boundary=${BOUNDARY}` };

/** A body that arrives in pieces of this many bytes. */
export function inPieces(bytes: Uint8Array, size: number): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(at, at + size));
      at += size;
    },
  });
}

/**
 * A form with one file of `size` bytes that is made as it is read: `head`, then a pattern. `produced()` tells how much of it
 * was asked for so far.
 */
export function largeForm(
  size: number,
  file: { head: Uint8Array; name: string; type: string; field?: string },
  fields: readonly FormPart[],
  options: { piece?: number; breakAt?: number } = {},
): { body: ReadableStream<Uint8Array>; produced(): number } {
  const piece = options.piece ?? 64 * 1024;
  const { field = "file", name, type, head } = file;
  const form = formBytes([...fields, { name: field, file: { name, type, bytes: head } }]);
  const end = latin1(`\r\n--${BOUNDARY}--\r\n`);
  const start = form.slice(0, form.length - end.length);
  let left = size - file.head.length;
  let produced = 0;
  let begun = false;
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        if (options.breakAt !== undefined && produced >= options.breakAt) {
          return controller.error(new Error("The client went away"));
        }
        if (!begun) {
          begun = true;
          return controller.enqueue(start);
        }
        if (left <= 0) {
          controller.enqueue(end);
          return controller.close();
        }
        const bytes = new Uint8Array(Math.min(piece, left)).fill((left >> 16) & 0xff);
        left -= bytes.length;
        produced += bytes.length;
        controller.enqueue(bytes);
      },
    },
    { highWaterMark: 0 },
  );
  return { body, produced: () => produced };
}

export async function hashOf(bytes: Uint8Array): Promise<string> {
  return hex(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
}

function hex(digest: ArrayBuffer): string {
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** SHA-256 in hex of what `largeForm` makes. */
export async function largeHash(size: number, head: Uint8Array, piece = 64 * 1024): Promise<string> {
  const digest = new crypto.DigestStream("SHA-256");
  const writer = digest.getWriter();
  await writer.write(head);
  for (let left = size - head.length; left > 0; ) {
    const bytes = new Uint8Array(Math.min(piece, left)).fill((left >> 16) & 0xff);
    left -= bytes.length;
    await writer.write(bytes);
  }
  await writer.close();
  return hex(await digest.digest);
}

/** What a bucket was asked to do, while it does it. */
export interface BucketWatch {
  bucket: R2Bucket;
  /** Bytes of each part and put, in order. */
  sizes: number[];
  aborted(): number;
  /** Called with its bytes before each part is uploaded. */
  onPart: ((bytes: number) => void) | null;
}

/** A bucket that tells what passes through it. */
export function watchBucket(bucket: R2Bucket): BucketWatch {
  let aborted = 0;
  const watch: BucketWatch = { bucket, sizes: [], aborted: () => aborted, onPart: null };
  const multipart = (upload: R2MultipartUpload): R2MultipartUpload => ({
    key: upload.key,
    uploadId: upload.uploadId,
    uploadPart: (number, value, options) => {
      const { byteLength } = value as Uint8Array;
      watch.onPart?.(byteLength);
      watch.sizes.push(byteLength);
      return upload.uploadPart(number, value, options);
    },
    abort: () => {
      aborted += 1;
      return upload.abort();
    },
    complete: (parts) => upload.complete(parts),
  });
  watch.bucket = new Proxy(bucket, {
    get(target, name) {
      if (name === "createMultipartUpload") {
        return async (key: string) => multipart(await target.createMultipartUpload(key));
      }
      if (name === "put") {
        return (key: string, value: Uint8Array) => {
          watch.sizes.push(value.byteLength);
          return target.put(key, value);
        };
      }
      const member = Reflect.get(target, name);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
  return watch;
}

/** A database on which every batch that holds this text fails before it runs. */
export function failingOn(database: D1Database, text: string): D1Database {
  const sqlOf = new WeakMap<D1PreparedStatement, string>();
  const session = (real: D1DatabaseSession): D1DatabaseSession =>
    ({
      prepare: (sql: string) => {
        const wrap = (prepared: D1PreparedStatement): D1PreparedStatement => {
          sqlOf.set(prepared, sql);
          const bind = prepared.bind.bind(prepared);
          prepared.bind = (...values: unknown[]) => wrap(bind(...values));
          return prepared;
        };
        return wrap(real.prepare(sql));
      },
      batch: (statements: D1PreparedStatement[]) =>
        statements.some((statement) => sqlOf.get(statement)?.includes(text))
          ? Promise.reject(new Error("D1_ERROR: Network connection lost."))
          : real.batch(statements),
      getBookmark: () => real.getBookmark(),
    }) as unknown as D1DatabaseSession;
  return { withSession: (start?: string) => session(database.withSession(start)) } as unknown as D1Database;
}
