/** Records of the first sheet of an Excel workbook (ECMA-376), read piece by piece. Formulas are never evaluated. */
import { Unzip, UnzipInflate } from "fflate";
import { SaxesParser } from "saxes";
import { AppError, invalidField } from "../platform/errors";

/** Bytes that a workbook may become when it is unpacked, per reading: 100,000 rows need about 40 MB. */
const MAX_UNPACKED = 128 * 1024 * 1024;
/** Characters of all shared texts, which are in memory. */
const MAX_SHARED = 12_000_000;
/** Deflate makes at most about 1,000 bytes of one: this many packed bytes at a time bound what one step unpacks. */
const PIECE = 2048;
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
  const wanted = new Map<string, XmlReader>([
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

interface XmlReader {
  feed(text: string): void;
}

function notReadable(why: string): AppError {
  return invalidField(["body", "file"], `The Excel file could not be read: ${why}`);
}

/** Unpacks the entries somebody reads; yields after each piece, so that what came of it can be taken. */
async function* unpack(
  body: ReadableStream<Uint8Array>,
  readerOf: (name: string) => XmlReader | null,
): AsyncGenerator<void> {
  let unpacked = 0;
  let failure: AppError | null = null;
  const attempt = (step: () => void): void => {
    try {
      step();
    } catch (error) {
      failure ??= error instanceof AppError ? error : notReadable("it is damaged");
    }
  };
  const unzip = new Unzip((file) => {
    const reader = readerOf(file.name);
    if (reader === null) return;
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
      attempt(() => reader.feed(decoder.decode(bytes, { stream: !final })));
    };
    file.start();
  });
  unzip.register(UnzipInflate);
  for await (const chunk of body) {
    for (let at = 0; at < chunk.length; at += PIECE) {
      attempt(() => unzip.push(chunk.subarray(at, at + PIECE), false));
      if (failure) throw failure;
      yield;
    }
  }
  attempt(() => unzip.push(new Uint8Array(0), true));
  if (failure) throw failure;
}

function saxes(): SaxesParser {
  const parser = new SaxesParser();
  // Workbooks have no document type; with one, entities could multiply.
  parser.on("doctype", () => {
    throw notReadable("it declares a document type");
  });
  parser.on("error", () => {
    throw notReadable("its XML is damaged");
  });
  return parser;
}

/** Names may carry a prefix. */
function local(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}

class FirstSheet implements XmlReader {
  relation: string | null = null;
  readonly #parser = saxes();

  constructor() {
    this.#parser.on("opentag", ({ name, attributes }) => {
      if (local(name) !== "sheet" || this.relation !== null) return;
      const id = Object.entries(attributes).find(([key]) => key.includes(":") && local(key) === "id");
      this.relation = id?.[1] ?? null;
    });
  }

  feed(text: string): void {
    this.#parser.write(text);
  }
}

class Targets implements XmlReader {
  readonly #parser = saxes();
  readonly #targets = new Map<string, string>();

  constructor() {
    this.#parser.on("opentag", ({ name, attributes }) => {
      if (local(name) !== "Relationship" || this.#targets.size >= 10_000) return;
      this.#targets.set(attributes.Id ?? "", attributes.Target ?? "");
    });
  }

  feed(text: string): void {
    this.#parser.write(text);
  }

  pathOf(relation: string | null): string | null {
    const target = relation === null ? undefined : this.#targets.get(relation);
    if (!target) return null;
    return target.startsWith("/") ? target.slice(1) : `xl/${target}`;
  }
}

class SharedTexts implements XmlReader {
  readonly texts: string[] = [];
  readonly #parser = saxes();
  #text = "";
  #size = 0;

  constructor() {
    let inText = false;
    let phonetic = 0;
    this.#parser.on("opentag", ({ name }) => {
      const tag = local(name);
      if (tag === "si") this.#text = "";
      if (tag === "rPh") phonetic += 1;
      inText = tag === "t" && phonetic === 0;
    });
    this.#parser.on("text", (text) => {
      if (inText) this.#text += text;
    });
    this.#parser.on("closetag", ({ name }) => {
      const tag = local(name);
      if (tag === "rPh") phonetic -= 1;
      if (tag === "t") inText = false;
      if (tag !== "si") return;
      this.#size += this.#text.length + 1;
      if (this.#size > MAX_SHARED) throw new AppError("too_large", "The Excel file holds too much text");
      this.texts.push(this.#text);
    });
  }

  feed(text: string): void {
    this.#parser.write(text);
  }
}

class SheetRows implements XmlReader {
  readonly #parser = saxes();
  readonly #shared: readonly string[];
  #records: string[][] = [];
  #record: string[] = [];
  #column = -1;
  #type = "";
  #value = "";
  #reading = false;

  constructor(shared: readonly string[]) {
    this.#shared = shared;
    this.#parser.on("opentag", ({ name, attributes }) => this.#open(local(name), attributes));
    this.#parser.on("text", (text) => {
      if (this.#reading) this.#value += text;
    });
    this.#parser.on("closetag", ({ name }) => this.#close(local(name)));
  }

  feed(text: string): void {
    this.#parser.write(text);
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

  #close(tag: string): void {
    switch (tag) {
      case "v":
      case "t":
        this.#reading = false;
        break;
      case "c":
        if (this.#column >= MAX_COLUMNS) break;
        while (this.#record.length < this.#column) this.#record.push("");
        this.#record[this.#column] = this.#cell();
        break;
      case "row":
        this.#records.push(this.#record);
        break;
    }
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

/** `AB12` -> 27. */
function columnOf(reference: string | undefined): number | null {
  const letters = /^[A-Z]{1,3}/.exec(reference ?? "")?.[0];
  if (letters === undefined) return null;
  return [...letters].reduce((sum, letter) => sum * 26 + letter.charCodeAt(0) - 64, 0) - 1;
}
