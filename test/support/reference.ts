import { z } from "zod";
import { call } from "./identity";

/**
 * Reads the examples of the Reference API's document as they are printed. The rules (contract, "Reading the examples"):
 * comments are stripped, placeholders replaced, credentials added; every other literal stays and must come true.
 */

const block = z.strictObject({ line: z.int(), text: z.array(z.string()) });

const exampleSchema = z.strictObject({
  endpoint: z.strictObject({ line: z.int(), method: z.string(), path: z.string() }),
  authentication: z.strictObject({ line: z.int(), text: z.string() }),
  status: z.strictObject({ line: z.int(), code: z.int() }).optional(),
  request: block.optional(),
  response: block.optional(),
  curl: block.optional(),
});

export type Example = z.infer<typeof exampleSchema>;
export type Block = z.infer<typeof block>;

/** What the placeholders of an example stand for: `workspace-uuid` -> an id. */
export type Known = Record<string, string>;

export function examplesOf(file: unknown): Record<string, Example> {
  return z.object({ examples: z.record(z.string(), exampleSchema) }).parse(file).examples;
}

/** The JSON of a block, its `//` comments stripped: those outside of strings. */
export function jsonOf({ text }: Block): unknown {
  const stripped = text.map((line) => line.replace(/^((?:[^"/]|"(?:[^"\\]|\\.)*"|\/(?!\/))*)\/\/.*$/, "$1"));
  return JSON.parse(stripped.join("\n"));
}

/** A document's JSON with its placeholders replaced. One that is not known fails the test. */
function filled(value: unknown, known: Known): unknown {
  if (Array.isArray(value)) return value.map((item) => filled(item, known));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, filled(member, known)]));
  }
  if (typeof value !== "string" || !isPlaceholder(value)) return value;
  const replacement = known[value];
  if (replacement === undefined) throw new Error(`Nobody said what ${value} stands for`);
  return replacement;
}

function isPlaceholder(text: string): boolean {
  return /-uuid$|^wamid\.x+$|^YOUR_|\.\.\.|^new_.*_here$/.test(text);
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const SECONDS = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;

/** Where an answer is not what its example shows; members beyond the documented ones are welcome. */
export function differences(documented: unknown, actual: unknown, known: Known, at = ""): string[] {
  const wrong = (expected: unknown) => [
    `${at} is ${JSON.stringify(actual)}, documented is ${JSON.stringify(expected)}`,
  ];
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
  if (name === "wa_message_id") return actual === null || typeof actual === "string" ? [] : wrong(documented);
  if (typeof documented !== "string") return actual === documented ? [] : wrong(documented);
  if (typeof actual !== "string") return wrong(documented);
  if (documented in known) return actual === known[documented] ? [] : wrong(known[documented]);
  if (documented.endsWith("-uuid") || UUID.test(documented)) return UUID.test(actual) ? [] : wrong(documented);
  if (documented.includes("...")) return actual.startsWith(documented.split("...")[0] ?? "") ? [] : wrong(documented);
  if (isPlaceholder(documented)) return actual.length > 0 ? [] : wrong(documented);
  return actual === documented ? [] : wrong(documented);
}

/** The call an example's endpoint and request describe. */
export function send({ endpoint, request }: Example, known: Known, token: string | null): Promise<Response> {
  const path = endpoint.path.replaceAll(/\{(\w+)\}/g, (name) => {
    const value = known[name];
    if (value === undefined) throw new Error(`Nobody said what ${name} stands for`);
    return value;
  });
  const body = request && filled(jsonOf(request), known);
  return call(endpoint.method, path, body, token === null ? {} : { Authorization: `Bearer ${token}` });
}

/** Runs an example's curl command: its method, address, headers and data, as a shell would hand them over. */
export function runCurl({ text }: Block, known: Known, token: string | null): Promise<Response> {
  const command = text.join("\n").replaceAll(/\\\n/g, " ");
  const [program, ...words] = [...command.matchAll(/'([^']*)'|"([^"]*)"|([^\s'"]+)/g)].map(
    ([, single, double, bare]) => single ?? double ?? bare ?? "",
  );
  if (program !== "curl") throw new Error(`Not a curl command: ${program}`);
  let method: string | null = null;
  let url = "";
  let data: string | undefined;
  const headers: Record<string, string> = {};
  while (words.length > 0) {
    const word = words.shift() ?? "";
    if (word === "-X") method = words.shift() ?? "";
    else if (word === "-d") data = words.shift();
    else if (word === "-H") {
      const [name = "", value = ""] = (words.shift() ?? "").split(/:\s*(.*)/);
      headers[name] = value.replace("YOUR_ACCESS_TOKEN", token ?? "");
    } else url = word;
  }
  const path = url.replace(/^https:\/\/[^/]+/, "").replaceAll(/\{\w+\}/g, (name) => known[name] ?? name);
  const body = data === undefined ? undefined : JSON.stringify(filled(JSON.parse(data), known));
  return call(method ?? (data === undefined ? "GET" : "POST"), path, body, headers);
}
