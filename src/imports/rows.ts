/** What the rows of a file of contacts mean. Pure: the same row means the same whenever it is read. */
import { isSupportedCountry, parsePhoneNumberFromString } from "libphonenumber-js/min/es6";
import { z } from "zod";
import { invalidField } from "../platform/errors";

/** The cells of one row that matter, cut: a longer one is refused just the same. */
export const rowSchema = z.tuple([z.string(), z.string(), z.string()]);
export type Row = z.infer<typeof rowSchema>;

/** Stands where the row of a person stood who was erased: the numbers of the others stay what they were. */
export const ERASED_ROW: Row = ["", "", "\u{0}erased"];

export function isErased(row: Row): boolean {
  return row[2] === ERASED_ROW[2];
}

const MAX_PHONE = 100;
const MAX_NAME = 200;
const MAX_TAGS = 50;
const MAX_TAG = 60;
const TAGS_CELL = MAX_TAGS * (MAX_TAG + 2);
/** Characters of a column's name that are looked at. */
const MAX_HEADER = 100;
/** What the export sets an apostrophe before, lest a spreadsheet runs it as a formula. */
const DEFUSED = /^'(?=[=@+-])/;

export type ReadRow =
  | { ok: true; digits: string; name: string | null; tags: string[] | null }
  | { ok: false; reason: string };

const PHONE_NAMES = ["phone", "phone_number"];
const TAG_NAMES = ["labels", "tags"];

/** Which columns hold what, by the header's names in any case. Throws 422 without a phone column. */
export class Columns {
  readonly #phone: number;
  readonly #name: number;
  readonly #tags: number[];

  constructor(header: readonly string[]) {
    const names = header.map((cell) =>
      cell
        .trim()
        .slice(0, MAX_HEADER)
        .toLowerCase()
        .replaceAll(/[\s-]+/g, "_"),
    );
    this.#phone = names.findIndex((name) => PHONE_NAMES.includes(name));
    if (this.#phone < 0) throw invalidField(["body", "file"], "The file has no column named phone");
    this.#name = names.indexOf("name");
    this.#tags = names.flatMap((name, at) => (TAG_NAMES.includes(name) ? [at] : []));
  }

  /** The row of a record, null for a record without data. */
  rowOf(record: readonly string[]): Row | null {
    if (record.every((cell) => cell.trim() === "")) return null;
    const cell = (at: number) => record[at]?.trim() ?? "";
    const text = (at: number) => cell(at).replace(DEFUSED, "").slice(0, TAGS_CELL);
    const tags = this.#tags.map(text).filter((tag) => tag !== "");
    return [
      cell(this.#phone).slice(0, MAX_PHONE + 1),
      text(this.#name).slice(0, MAX_NAME + 1),
      tags.join(";").slice(0, TAGS_CELL),
    ];
  }
}

/** Reads a row with the country of its workspace, if there is one. */
export function readRow([phone, name, tagCell]: Row, country: string | null): ReadRow {
  if (tagCell === ERASED_ROW[2]) return { ok: false, reason: "The contact was erased" };
  const digits = readPhone(phone, country);
  if (digits === null) return { ok: false, reason: "Invalid phone number format" };
  if (name.length > MAX_NAME) return { ok: false, reason: `Name has more than ${MAX_NAME} characters` };
  const tags = [...new Set(tagCell.split(/[,;]/).map((tag) => tag.trim()))].filter((tag) => tag !== "");
  if (tags.length > MAX_TAGS) return { ok: false, reason: `More than ${MAX_TAGS} tags` };
  if (tags.some((tag) => tag.length > MAX_TAG))
    return { ok: false, reason: `A tag has more than ${MAX_TAG} characters` };
  return { ok: true, digits, name: name === "" ? null : name, tags: tags.length === 0 ? null : tags };
}

/** The digits of a number in any common format, null for what is none (contract 19). */
function readPhone(cell: string, country: string | null): string | null {
  if (cell.length > MAX_PHONE) return null;
  const text = cell.normalize("NFKC");
  // "+44 (0)7700 …" says both ways to dial at once: after the country's code the zero is not dialled.
  const dialled = /^\s*(\+|00)/.test(text) ? text.replace("(0)", "") : text;
  const plain = dialled.replaceAll(/[\s().\-/\u2010-\u2015\u2212\p{Cf}]/gu, "");
  const match = /^(\+?)(\d{7,15})$/.exec(plain);
  if (match?.[1] === "+") return match[2] ?? null;
  if (country !== null && /^\d{4,17}$/.test(plain) && isSupportedCountry(country)) {
    const national = parsePhoneNumberFromString(plain, country);
    if (national?.isValid()) return national.number.slice(1);
  }
  // 00 is how most of the world dials the plus.
  const international = /^00(\d{7,15})$/.exec(plain);
  return international?.[1] ?? match?.[2] ?? null;
}
