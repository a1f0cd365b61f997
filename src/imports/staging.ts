/** A file of contacts on its way from the request to rows in R2. */
import { z } from "zod";
import { fileMissing, ObjectWriter, readForm } from "../media/service-form";
import { AppError, invalidField } from "../platform/errors";
import { csvRecords } from "./csv";
import { type Encoding, EncodingGuess } from "./encoding";
import { Columns, type Row, rowSchema } from "./rows";
import { CFB_HEAD, xlsxRecords, ZIP_HEAD } from "./xlsx";

const MAX_FILE = 25 * 1024 * 1024;
/** Bytes of a form besides its file. */
const FORM_BYTES = 64 * 1024;
const MAX_ROWS = 100_000;

/** Rows of one part: what one run of the job applies, and what is answered at once. */
export const PART_ROWS = 5000;

/** Everything of one import, in the workspace's own corner of the bucket. */
export function prefixOf(workspaceId: string, id: string): string {
  return `imports/${workspaceId}/${id}/`;
}

function fileKey(prefix: string): string {
  return `${prefix}file`;
}

interface StoredFile {
  fileName: string | null;
  format: { kind: "csv"; encoding: Encoding } | { kind: "xlsx" };
}

/** Streams the form's `file` to R2. Throws 413 at the first byte too many, 422 without a file or for `.xls`. */
export async function storeFile(
  bucket: R2Bucket,
  prefix: string,
  request: { body: ReadableStream<Uint8Array> | null; contentType: string },
): Promise<StoredFile> {
  if (!request.body) throw fileMissing();
  const writer = new ObjectWriter(bucket, fileKey(prefix));
  const guess = new EncodingGuess();
  let state: "before" | "inside" | "other" | "after" = "before";
  let fileName: string | null = null;
  try {
    for await (const event of readForm(request.body, request.contentType, MAX_FILE + FORM_BYTES)) {
      switch (event.kind) {
        case "field":
          break;
        case "file":
          if (event.name !== "file") break;
          if (state !== "before") throw invalidField(["body", "file"], "Takes one file at a time");
          state = "inside";
          fileName = event.fileName?.slice(0, 200) ?? null;
          break;
        case "data":
          if (state !== "inside") break;
          if (writer.size + event.bytes.length > MAX_FILE) {
            throw new AppError("too_large", "A file of contacts may have at most 25 MB");
          }
          guess.take(event.bytes);
          await writer.write(event.bytes);
          break;
        case "file_end":
          if (state === "inside") state = "after";
          break;
      }
    }
    if (state === "before") throw fileMissing();
    const begins = (head: readonly number[]) => head.every((byte, at) => guess.head[at] === byte);
    if (begins(CFB_HEAD)) {
      throw invalidField(["body", "file"], "Old Excel files (.xls) and locked ones cannot be read: save as .xlsx");
    }
    await writer.seal();
    await writer.store();
    return { fileName, format: begins(ZIP_HEAD) ? { kind: "xlsx" } : { kind: "csv", encoding: guess.end() } };
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

/** Reads the stored file once and stores its rows in parts. Answers how many there are. Throws 422 for bad files. */
export async function storeRows(bucket: R2Bucket, prefix: string, format: StoredFile["format"]): Promise<number> {
  const open = async () => {
    const object = await bucket.get(fileKey(prefix));
    if (!object) throw new Error("The file of an import is gone");
    return object.body as ReadableStream<Uint8Array>;
  };
  const groups = format.kind === "xlsx" ? xlsxRecords(open) : csvRecords(await open(), format.encoding);
  let columns: Columns | null = null;
  let part: Row[] = [];
  let total = 0;
  for await (const records of groups) {
    for (const record of records) {
      if (columns === null) {
        // Excel's own first line that names the delimiter.
        if (/^sep=/i.test(record[0] ?? "")) continue;
        if (record.some((cell) => cell.trim() !== "")) columns = new Columns(record);
        continue;
      }
      const row = columns.rowOf(record);
      if (row === null) continue;
      total += 1;
      if (total > MAX_ROWS) throw invalidField(["body", "file"], `A file may have at most ${MAX_ROWS} rows`);
      part.push(row);
      if (part.length < PART_ROWS) continue;
      await bucket.put(partKey(prefix, total - 1), JSON.stringify(part));
      part = [];
    }
  }
  if (columns === null) throw invalidField(["body", "file"], "The file is empty");
  if (part.length > 0) await bucket.put(partKey(prefix, total - 1), JSON.stringify(part));
  await bucket.delete(fileKey(prefix));
  return total;
}

/** The key of the part that row `index` (from 0) lies in. */
function partKey(prefix: string, index: number): string {
  return `${prefix}rows/${Math.floor(index / PART_ROWS)}`;
}

/** The rows from `index` to the end of their part. */
export async function loadRows(bucket: R2Bucket, prefix: string, index: number): Promise<Row[]> {
  const object = await bucket.get(partKey(prefix, index));
  if (!object) throw new Error("A part of an import is gone");
  return z
    .array(rowSchema)
    .parse(await object.json())
    .slice(index % PART_ROWS);
}

export async function removeStored(bucket: R2Bucket, prefix: string): Promise<void> {
  // At most 21 objects: one page.
  const { objects } = await bucket.list({ prefix });
  if (objects.length > 0) await bucket.delete(objects.map((object) => object.key));
}
