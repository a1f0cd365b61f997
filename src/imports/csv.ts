/** Records of a CSV file (RFC 4180, read leniently), piece by piece. */
import { invalidField } from "../platform/errors";
import type { Encoding } from "./encoding";

/** Characters of one record. More means a quote that is never closed. */
const MAX_RECORD = 64 * 1024;
/** Bytes of the file whose records are in memory at once, however large its pieces come. */
const PIECE = 64 * 1024;

const DELIMITERS = [",", ";", "\t", "|"] as const;
/** A line with something on it, and its end. */
const WHOLE_LINE = /[^\r\n][\r\n]/;

/** Yields records in groups, never more than a piece of the file in memory. Throws 422 for a record without end. */
export async function* csvRecords(body: ReadableStream<Uint8Array>, encoding: Encoding): AsyncGenerator<string[][]> {
  const decoder = new TextDecoder(encoding);
  let head = "";
  let reader: CsvReader | null = null;
  for await (const bytes of piecesOf(body)) {
    const text = decoder.decode(bytes, { stream: true });
    if (reader) {
      yield reader.read(text);
      continue;
    }
    // The delimiter shows in the header, so that must be there whole.
    head += text;
    if (!WHOLE_LINE.test(head) && head.length <= MAX_RECORD) continue;
    reader = new CsvReader(delimiterOf(head));
    yield reader.read(head);
  }
  const rest = decoder.decode();
  reader ??= new CsvReader(delimiterOf(head));
  yield reader.read(reader.begun ? rest : head + rest);
  yield reader.end();
}

async function* piecesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    for (let at = 0; at < chunk.length; at += PIECE) yield chunk.subarray(at, at + PIECE);
  }
}

/** The delimiter is the one that the first line has most of, outside quotes. */
function delimiterOf(text: string): string {
  const line = (/[^\r\n]+/.exec(text)?.[0] ?? "").replaceAll(/"[^"]*"/g, "");
  const count = (delimiter: string) => line.split(delimiter).length;
  return DELIMITERS.reduce<string>((best, next) => (count(next) > count(best) ? next : best), DELIMITERS[0]);
}

/**
 * Takes text in pieces cut anywhere and gives the records that are whole. A quote opens a field only where it begins
 * it; what follows a closed one belongs to it, as spreadsheets read it. Lines end as on any system.
 */
class CsvReader {
  begun = false;
  readonly #delimiter: string;
  #record: string[] = [];
  #field = "";
  /** Within a field: not begun, plain, quoted, or right after a quote that closed it or is the first of two. */
  #state: "start" | "plain" | "quoted" | "closed" = "start";
  /** Characters of the record so far. */
  #size = 0;
  /** The line ended with a carriage return: a line feed right after it belongs to it. */
  #afterReturn = false;

  constructor(delimiter: string) {
    this.#delimiter = delimiter;
  }

  read(text: string): string[][] {
    this.begun = true;
    const records: string[][] = [];
    for (let at = 0; at < text.length; ) at = this.#step(text, at, records);
    return records;
  }

  /** The last record, where the file does not end with a line end. */
  end(): string[][] {
    const records: string[][] = [];
    if (this.#size > 0 || this.#record.length > 0) this.#endRecord(records);
    return records;
  }

  /** Takes one character, or a run of those that mean nothing; answers where to go on. */
  #step(text: string, at: number, records: string[][]): number {
    const char = text[at] ?? "";
    const returned = this.#afterReturn;
    this.#afterReturn = false;
    if (returned && char === "\n") return at + 1;
    if (this.#state === "quoted") {
      const quote = text.indexOf('"', at);
      const to = quote < 0 ? text.length : quote;
      this.#take(text.slice(at, to));
      if (quote < 0) return to;
      this.#state = "closed";
      return to + 1;
    }
    if (char === '"' && this.#state !== "plain") {
      // The second of two quotes is one of the text; the first of a field opens it.
      if (this.#state === "closed") this.#take('"');
      else this.#grow(1);
      this.#state = "quoted";
      return at + 1;
    }
    if (char === this.#delimiter) {
      this.#grow(1);
      this.#endField();
      return at + 1;
    }
    if (char === "\n" || char === "\r") {
      this.#endRecord(records);
      this.#afterReturn = char === "\r";
      return at + 1;
    }
    this.#state = "plain";
    let to = at + 1;
    while (to < text.length && text[to] !== this.#delimiter && text[to] !== "\n" && text[to] !== "\r") to += 1;
    this.#take(text.slice(at, to));
    return to;
  }

  #take(text: string): void {
    this.#grow(text.length);
    this.#field += text;
  }

  /** Counts the characters of a record, its delimiters and quotes too: empty cells cost memory as well. */
  #grow(characters: number): void {
    this.#size += characters;
    if (this.#size > MAX_RECORD) throw invalidField(["body", "file"], "A row is too long: is a quote not closed?");
  }

  #endField(): void {
    this.#record.push(this.#field);
    this.#field = "";
    this.#state = "start";
  }

  #endRecord(records: string[][]): void {
    this.#endField();
    records.push(this.#record);
    this.#record = [];
    this.#size = 0;
  }
}
