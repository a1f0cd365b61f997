/** What the rows of a file of contacts mean. Pure: the same row means the same whenever it is read. */
import { isSupportedCountry, parsePhoneNumberFromString } from "libphonenumber-js";
import { z } from "zod";
import { invalidField } from "../platform/errors";

/** The cells of one row that matter, cut: a longer one is refused just the same. */
export const rowSchema = z.tuple([z.string(), z.string(), z.string()]);
export type Row = z.infer<typeof rowSchema>;

const MAX_PHONE = 100;
const MAX_NAME = 200;
const MAX_TAGS = 50;
const MAX_TAG = 60;
const TAGS_CELL = MAX_TAGS * (MAX_TAG + 2);

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
    const tags = this.#tags.map(cell).filter((text) => text !== "");
    return [
      cell(this.#phone).slice(0, MAX_PHONE + 1),
      cell(this.#name).slice(0, MAX_NAME + 1),
      tags.join(";").slice(0, TAGS_CELL),
    ];
  }
}

/** Reads a row with the country of its workspace, if there is one. */
export function readRow([phone, name, tagCell]: Row, country: string | null): ReadRow {
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
  const plain = cell.normalize("NFKC").replaceAll(/[\s().\-/\u2010-\u2015\u2212\p{Cf}]/gu, "");
  const match = /^(\+?)(\d{7,15})$/.exec(plain);
  if (match?.[1] === "+") return match[2] ?? null;
  if (country !== null && /^\d{4,17}$/.test(plain) && isSupportedCountry(country)) {
    const national = parsePhoneNumberFromString(plain, country);
    if (national?.isValid()) return national.number.slice(1);
  }
  return match?.[2] ?? null;
}
