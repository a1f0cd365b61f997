/** Records of the first sheet of an Excel workbook (ECMA-376), read piece by piece. Formulas are never evaluated. */
import { Unzip, UnzipInflate } from "fflate";
import { z } from "zod";
import { AppError, invalidField } from "../platform/errors";
import { XmlError, XmlReader } from "./xml";

/** Bytes that a workbook may become when it is unpacked, per reading: 100,000 rows need about 40 MB. */
const MAX_UNPACKED = 128 * 1024 * 1024;
/** Characters of all shared texts, which are in memory, and what each of them takes besides. */
const MAX_SHARED = 16_000_000;
const SHARED_OVERHEAD = 16;
/** Characters of a cell: Excel's own limit. */
const MAX_CELL = 32_767;
/** Characters of a row's cells, shared texts apart. */
const MAX_ROW = 1_000_000;
/** Characters of all names and places of the workbook's parts. */
const MAX_TARGETS = 1_000_000;
/** Entries of the archive; a workbook has a few per sheet and picture. */
const MAX_ENTRIES = 10_000;
/** Deflate makes at most about 1,000 bytes of one: this many packed bytes at a time bound what one step unpacks. */
const PIECE = 2048;
/** Characters that are read at a time, and what came of them taken: a row of few characters may have many cells. */
const SLICE = 16 * 1024;
/** Columns that are looked at (Excel's own limit is 16,384). */
const MAX_COLUMNS = 1000;

export const ZIP_HEAD = [0x50, 0x4b, 0x03, 0x04] as const;
/** Compound File Binary: `.xls`, and workbooks with a password. */
export const CFB_HEAD = [0xd0, 0xcf, 0x11, 0xe0] as const;

type Open = () => Promise<ReadableStream<Uint8Array>>;

/** Yields records in groups. Reads the file twice: texts that cells refer to stand behind the sheets. Throws 422. */
export async function* xlsxRecords(open: Open): AsyncGenerator<string[][]> {
  const workbook = new FirstSheet();
  const targets = new Targets();
  const shared = new SharedTexts();
  const wanted = new Map<string, EntryReader>([
    ["xl/workbook.xml", workbook],
    ["xl/_rels/workbook.xml.rels", targets],
    ["xl/sharedStrings.xml", shared],
  ]);
  for await (const _ of unpack(await open(), (name) => wanted.get(name) ?? null));
  const path = targets.pathOf(workbook.relation);
  if (path === null) throw notReadable("it has no sheet");
  const sheet = new SheetRows(shared.texts);
  for await (const _ of unpack(await open(), (name) => (name === path ? sheet : null))) {
    const records = sheet.take();
    if (records.length > 0) yield records;
  }
  yield sheet.take();
}

/** Somebody who reads an entry of the workbook. */
interface EntryReader {
  feed(text: string): void;
}

function notReadable(why: string): AppError {
  return invalidField(["body", "file"], `The Excel file could not be read: ${why}`);
}

/** Unpacks the entries somebody reads; yields after each slice of them, so that what came of it can be taken. */
async function* unpack(
  body: ReadableStream<Uint8Array>,
  readerOf: (name: string) => EntryReader | null,
): AsyncGenerator<void> {
  let unpacked = 0;
  let entries = 0;
  let failure: AppError | null = null;
  let texts: { reader: EntryReader; text: string }[] = [];
  const unzip = new Unzip((file) => {
    entries += 1;
    if (entries > MAX_ENTRIES) failure ??= notReadable("it has too many parts");
    if (failure) return;
    const reader = readerOf(file.name);
    if (reader === null) {
      // Begun all the same: the packed bytes of one that is not are kept until the end, in case it will be.
      file.ondata = () => undefined;
      if (file.compression === UnzipInflate.compression) file.start();
      return;
    }
    const decoder = new TextDecoder();
    file.ondata = (error, bytes, final) => {
      if (failure) return;
      if (error) {
        failure = notReadable("it is damaged");
        return;
      }
      unpacked += bytes.length;
      if (unpacked > MAX_UNPACKED) {
        failure = new AppError("too_large", `The Excel file unpacks to more than ${MAX_UNPACKED} bytes`);
        return;
      }
      texts.push({ reader, text: decoder.decode(bytes, { stream: !final }) });
    };
    file.start();
  });
  unzip.register(
    class extends UnzipInflate {
      readonly #wanted: boolean;
      constructor(name: string) {
        super();
        this.#wanted = readerOf(name) !== null;
      }
      override push(chunk: Uint8Array, final: boolean): void {
        if (this.#wanted) super.push(chunk, final);
      }
    },
  );
  const push = (bytes: Uint8Array, final: boolean): typeof texts => {
    try {
      unzip.push(bytes, final);
    } catch {
      failure ??= notReadable("it is damaged");
    }
    if (failure) throw failure;
    const come = texts;
    texts = [];
    return come;
  };
  for await (const chunk of body) {
    for (let at = 0; at < chunk.length; at += PIECE) yield* feed(push(chunk.subarray(at, at + PIECE), false));
  }
  yield* feed(push(new Uint8Array(0), true));
}

function* feed(texts: readonly { reader: EntryReader; text: string }[]): Generator<void> {
  for (const { reader, text } of texts) {
    for (let at = 0; at < text.length; at += SLICE) {
      try {
        reader.feed(text.slice(at, at + SLICE));
      } catch (error) {
        throw error instanceof XmlError ? notReadable("it is damaged") : error;
      }
      yield;
    }
  }
}

/** The same text by itself: one that is cut out of a longer one holds all of that in memory. */
function copied(text: string): string {
  // Not by way of UTF-8: a slice may end within a pair of surrogates.
  return z.string().parse(JSON.parse(JSON.stringify(text)));
}

class FirstSheet implements EntryReader {
  relation: string | null = null;
  readonly #xml = new XmlReader({
    open: (name, attributes) => {
      if (name !== "sheet" || this.relation !== null) return;
      const id = Object.entries(attributes).find(([key]) => key.endsWith(":id"));
      this.relation = id?.[1] ?? null;
    },
  });

  feed(text: string): void {
    this.#xml.feed(text);
  }
}

class Targets implements EntryReader {
  readonly #targets = new Map<string, string>();
  #size = 0;
  readonly #xml = new XmlReader({
    open: (name, attributes) => {
      if (name !== "Relationship") return;
      const [id, target] = [attributes.Id ?? "", attributes.Target ?? ""];
      this.#size += id.length + target.length + SHARED_OVERHEAD;
      if (this.#size > MAX_TARGETS) throw notReadable("it has too many parts");
      this.#targets.set(copied(id), copied(target));
    },
  });

  feed(text: string): void {
    this.#xml.feed(text);
  }

  pathOf(relation: string | null): string | null {
    const target = relation === null ? undefined : this.#targets.get(relation);
    if (!target) return null;
    return target.startsWith("/") ? target.slice(1) : `xl/${target}`;
  }
}

class SharedTexts implements EntryReader {
  readonly texts: string[] = [];
  #text = "";
  #size = 0;
  #inText = false;
  /** Depth within phonetic readings, which are not what the cell says. */
  #phonetic = 0;
  readonly #xml = new XmlReader({
    open: (tag) => {
      if (tag === "si") this.#text = "";
      if (tag === "rPh") this.#phonetic += 1;
      this.#inText = tag === "t" && this.#phonetic === 0;
    },
    text: (text) => {
      if (!this.#inText) return;
      if (this.#text.length + text.length > MAX_CELL) {
        throw notReadable(`its shared text ${this.texts.length + 1} has more than ${MAX_CELL} characters`);
      }
      this.#grow(text.length);
      this.#text += copied(text);
    },
    close: (tag) => {
      if (tag === "rPh") this.#phonetic -= 1;
      if (tag === "t") this.#inText = false;
      if (tag !== "si") return;
      this.#grow(SHARED_OVERHEAD);
      this.texts.push(this.#text);
    },
  });

  feed(text: string): void {
    this.#xml.feed(text);
  }

  #grow(characters: number): void {
    this.#size += characters;
    if (this.#size > MAX_SHARED) throw new AppError("too_large", "The Excel file holds too much text");
  }
}

class SheetRows implements EntryReader {
  readonly #xml = new XmlReader({
    open: (tag, attributes) => this.#open(tag, attributes),
    text: (text) => {
      if (this.#reading) this.#take(text);
    },
    close: (tag) => this.#close(tag),
  });
  readonly #shared: readonly string[];
  #records: string[][] = [];
  #record: string[] = [];
  /** As Excel counts them, from 1. */
  #row = 0;
  /** Characters of the row so far. */
  #size = 0;
  #column = -1;
  #type = "";
  #value = "";
  #reading = false;

  constructor(shared: readonly string[]) {
    this.#shared = shared;
  }

  feed(text: string): void {
    this.#xml.feed(text);
  }

  take(): string[][] {
    const records = this.#records;
    this.#records = [];
    return records;
  }

  #open(tag: string, attributes: Record<string, string>): void {
    switch (tag) {
      case "row":
        this.#record = [];
        this.#row = rowOf(attributes.r) ?? this.#row + 1;
        this.#size = 0;
        this.#column = -1;
        break;
      case "c":
        this.#column = columnOf(attributes.r) ?? this.#column + 1;
        this.#type = attributes.t ?? "n";
        this.#value = "";
        break;
      case "v":
      case "t":
        // `v` holds what the formula beside it gave when the file was saved.
        this.#reading = true;
        break;
    }
  }

  #take(text: string): void {
    this.#size += text.length;
    if (this.#value.length + text.length > MAX_CELL) {
      throw notReadable(
        `the cell in row ${this.#row}, column ${this.#column + 1} has more than ${MAX_CELL} characters`,
      );
    }
    if (this.#size > MAX_ROW) throw notReadable(`row ${this.#row} has more than ${MAX_ROW} characters`);
    this.#value += copied(text);
  }

  #close(tag: string): void {
    switch (tag) {
      case "v":
      case "t":
        this.#reading = false;
        break;
      case "c":
        this.#put(this.#cell());
        break;
      case "row":
        this.#records.push(this.#record);
        break;
    }
  }

  /** Only what is not empty makes the row longer: rows of nothing else are not counted, so they must cost nothing. */
  #put(value: string): void {
    if (value === "" || this.#column >= MAX_COLUMNS) return;
    while (this.#record.length < this.#column) this.#record.push("");
    this.#record[this.#column] = value;
  }

  #cell(): string {
    switch (this.#type) {
      case "s":
        return this.#shared[Number(this.#value)] ?? "";
      case "n": {
        // A long number may be stored as 4.47700900001E11.
        const number = Number(this.#value);
        return this.#value !== "" && Number.isSafeInteger(number) ? String(number) : this.#value;
      }
      case "e":
        return "";
      default:
        return this.#value;
    }
  }
}

/** The number of a row, null where it has none. */
function rowOf(reference: string | undefined): number | null {
  return /^\d{1,7}$/.test(reference ?? "") ? Number(reference) : null;
}

/** `AB12` -> 27. */
function columnOf(reference: string | undefined): number | null {
  const letters = /^[A-Z]{1,3}/.exec(reference ?? "")?.[0];
  if (letters === undefined) return null;
  return [...letters].reduce((sum, letter) => sum * 26 + letter.charCodeAt(0) - 64, 0) - 1;
}
