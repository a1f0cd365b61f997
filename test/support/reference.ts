import { z } from "zod";

/**
 * Reads the examples of the Reference API's document as they are printed. The rules (contract, "Reading the examples"):
 * comments are stripped, placeholders replaced, credentials added; every other literal stays and must come true.
 */

const block = z.strictObject({ line: z.int(), text: z.array(z.string()) });
const line = z.strictObject({ line: z.int(), text: z.string() });

const exampleSchema = z.strictObject({
  endpoint: z.strictObject({ line: z.int(), method: z.string(), path: z.string() }),
  authentication: line,
  content_type: line.optional(),
  status: z.strictObject({ line: z.int(), code: z.int() }).optional(),
  /** Rows of the tables of parameters. */
  query: block.optional(),
  form: block.optional(),
  request: block.optional(),
  response: block.optional(),
  /** Bulleted lists, by their heading. */
  lists: z.record(z.string(), block).optional(),
  curl: block.optional(),
  javascript: block.optional(),
  csv: block.optional(),
  notes: z.array(line).optional(),
});

export type Example = z.infer<typeof exampleSchema>;
export type Block = z.infer<typeof block>;

/** What the placeholders of an example stand for: `workspace-uuid` -> an id, `{...}` -> an object. */
export type Known = Record<string, string | Record<string, unknown>>;

export function examplesOf(file: unknown): Record<string, Example> {
  return z.object({ examples: z.record(z.string(), exampleSchema) }).parse(file).examples;
}

export function example(examples: Record<string, Example>, title: string): Example {
  const found = examples[title];
  if (!found) throw new Error(`No example is called ${title}`);
  return found;
}

/** A part of an example that the test cannot do without. */
export function partOf<K extends keyof Example>(found: Example, name: K): NonNullable<Example[K]> {
  const part = found[name];
  if (part === undefined || part === null) throw new Error(`The example of line ${found.endpoint.line} has no ${name}`);
  return part;
}

export function listOf(found: Example, heading: string): Block {
  const list = partOf(found, "lists")[heading];
  if (!list) throw new Error(`The example of line ${found.endpoint.line} has no list ${heading}`);
  return list;
}

/** The cells of a table's rows, without the back-ticks around names. */
export function cellsOf({ text }: Block): string[][] {
  return text.map((row) =>
    row
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim().replace(/^`(.*)`$/, "$1")),
  );
}

/** What a list explains: the words in back-ticks at the beginning of its lines or rows. */
export function wordsOf({ text }: Block): string[] {
  return text.map((row) => /^[-|] `([^`]+)`/.exec(row)?.[1] ?? "");
}

/** An object that the document leaves out. */
const SOME_OBJECT = "{...}";

/** The JSON of a block, its `//` comments stripped: those outside of strings. An omitted object becomes a placeholder. */
export function jsonOf({ text }: Block): unknown {
  const stripped = text.map((row) => row.replace(/^((?:[^"/]|"(?:[^"\\]|\\.)*"|\/(?!\/))*)\/\/.*$/, "$1"));
  return JSON.parse(stripped.join("\n").replaceAll(/(": )\{\.\.\.\}/g, `$1"${SOME_OBJECT}"`));
}

/** A document's JSON with its placeholders replaced. One that is not known fails the test. */
export function filled(value: unknown, known: Known): unknown {
  if (Array.isArray(value)) return value.map((item) => filled(item, known));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, filled(member, known)]));
  }
  if (typeof value !== "string" || !isPlaceholder(value)) return value;
  const replacement = known[value];
  if (replacement === undefined) throw new Error(`Nobody said what ${value} stands for`);
  return replacement;
}

/** The text that a placeholder stands for. */
export function textOf(known: Known, name: string): string {
  const value = known[name];
  if (typeof value !== "string") throw new Error(`Nobody said what ${name} stands for`);
  return value;
}

function isPlaceholder(text: string): boolean {
  return /-uuid$|^wamid\.x+$|^YOUR_|\.\.\.|^new_.*_here$/.test(text);
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const SECONDS = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;
/** The host that files lay at; ours is another. */
const STORAGE = "https://storage.blob.core.windows.net/...";
/** Of the documented type, or null, as long as nobody can know them. */
const NOT_KNOWN_YET = new Set(["wa_message_id", "meta_template_id", "rejection_reason", "original_url"]);

/** Where an answer is not what its example shows; members beyond the documented ones are welcome. */
export function differences(documented: unknown, actual: unknown, known: Known, at = ""): string[] {
  const wrong = (expected: unknown) => [
    `${at} is ${JSON.stringify(actual)}, documented is ${JSON.stringify(expected)}`,
  ];
  if (documented === SOME_OBJECT) return differences(known[SOME_OBJECT] ?? {}, actual, known, at);
  if (Array.isArray(documented)) {
    if (!Array.isArray(actual) || actual.length !== documented.length) return wrong(documented);
    return documented.flatMap((item, n) => differences(item, actual[n], known, `${at}/${n}`));
  }
  if (typeof documented === "object" && documented !== null) {
    const members = z.record(z.string(), z.unknown()).safeParse(actual);
    if (!members.success) return wrong(documented);
    return Object.entries(documented).flatMap(([key, member]) =>
      key in members.data ? differences(member, members.data[key], known, `${at}/${key}`) : [`${at}/${key} is missing`],
    );
  }
  const name = at.split("/").at(-1) ?? "";
  // What cannot be known yet is of the documented type, or null.
  if (/_at$/.test(name)) return actual === null || SECONDS.test(String(actual)) ? [] : wrong(documented);
  if (NOT_KNOWN_YET.has(name)) return actual === null || typeof actual === "string" ? [] : wrong(documented);
  if (typeof documented !== "string") return actual === documented ? [] : wrong(documented);
  if (typeof actual !== "string") return wrong(documented);
  if (documented in known) return actual === known[documented] ? [] : wrong(known[documented]);
  if (documented.endsWith("-uuid") || UUID.test(documented)) return UUID.test(actual) ? [] : wrong(documented);
  if (documented.startsWith(STORAGE)) return isAddress(actual, documented !== STORAGE) ? [] : wrong(documented);
  if (documented.includes("...")) return actual.startsWith(documented.split("...")[0] ?? "") ? [] : wrong(documented);
  if (isPlaceholder(documented)) return actual.length > 0 ? [] : wrong(documented);
  return actual === documented ? [] : wrong(documented);
}

/** Whether a text is a whole address of something, signed in its query or not. */
function isAddress(text: string, signed: boolean): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, pathname, search } = new URL(text);
  return /^https?:$/.test(protocol) && pathname.length > 1 && (search !== "") === signed;
}
