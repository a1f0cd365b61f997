/** Records of a CSV file, read piece by piece. */
import Papa from "papaparse";
import { invalidField } from "../platform/errors";
import type { Encoding } from "./encoding";

/** Characters of one record. More means a quote that is never closed. */
const MAX_RECORD = 64 * 1024;

const DELIMITERS = [",", ";", "\t"] as const;

/** Yields records in groups, never more than a piece of the file in memory. Throws 422 for a record without end. */
export async function* csvRecords(body: ReadableStream<Uint8Array>, encoding: Encoding): AsyncGenerator<string[][]> {
  const decoder = new TextDecoder(encoding);
  let parser: Papa.Parser | null = null;
  let rest = "";
  let held = "";
  for await (const bytes of body) {
    const text = held + decoder.decode(bytes, { stream: true });
    // A carriage return at the end may be half of a line break.
    held = text.endsWith("\r") ? "\r" : "";
    rest += unified(text.slice(0, text.length - held.length));
    // The delimiter shows in the header, so that must be there whole.
    if (parser === null && !rest.includes("\n") && rest.length <= MAX_RECORD) continue;
    parser ??= parserFor(rest);
    const { records, cursor } = parsed(parser, rest, true);
    yield records;
    rest = rest.slice(cursor);
    if (rest.length > MAX_RECORD) throw invalidField(["body", "file"], "A row is too long: is a quote not closed?");
  }
  rest += unified(held + decoder.decode());
  yield parsed(parser ?? parserFor(rest), rest, false).records;
}

/** Line breaks of all systems as one. */
function unified(text: string): string {
  return text.replaceAll(/\r\n?/g, "\n");
}

function parsed(parser: Papa.Parser, text: string, more: boolean): { records: string[][]; cursor: number } {
  const result: Papa.ParseResult<string[]> = parser.parse(text, 0, more);
  return { records: result.data, cursor: result.meta.cursor };
}

/** The delimiter is the one that the first line has most of, outside quotes. */
function parserFor(text: string): Papa.Parser {
  const line = (/^[^\n]*/.exec(text)?.[0] ?? "").replaceAll(/"[^"]*"/g, "");
  const count = (delimiter: string) => line.split(delimiter).length;
  const delimiter = DELIMITERS.reduce((best, next) => (count(next) > count(best) ? next : best));
  return new Papa.Parser({ delimiter, newline: "\n" });
}
