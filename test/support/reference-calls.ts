import { exports } from "cloudflare:workers";
import { expect } from "vitest";
import { type Block, differences, type Example, filled, jsonOf, type Known, partOf, textOf } from "./reference";

/** Makes the calls that the Reference API's document prints: its requests, and its curl commands as a shell would run them. */

/** Both forms in which the document shows a call; a curl command is not there for each. */
export const FORMS = ["request", "curl"] as const;
export type Form = (typeof FORMS)[number];

/** The files of a caller, by the path that a command names. */
export type Files = Record<string, Uint8Array>;

function bearer(token: string | null): Record<string, string> {
  return token === null ? {} : { Authorization: `Bearer ${token}` };
}

/** Redirects are answers: who wants to follow them says so. */
function request(path: string, init: RequestInit): Promise<Response> {
  return exports.default.fetch(`http://switchboard.test${path}`, { redirect: "manual", ...init });
}

/** An endpoint's path with its parameters, and a query where the test has one. */
function pathOf({ endpoint }: Example, known: Known, query: Record<string, string> = {}): string {
  const path = endpoint.path.replaceAll(/\{\w+\}/g, (name) => textOf(known, name));
  const search = new URLSearchParams(query).toString();
  return search === "" ? path : `${path}?${search}`;
}

/** The call an example's endpoint and request describe, with a query if the test has one. */
export function send(
  found: Example,
  known: Known,
  token: string | null,
  query?: Record<string, string>,
): Promise<Response> {
  const headers = bearer(token);
  const path = pathOf(found, known, query);
  if (!found.request) return request(path, { method: found.endpoint.method, headers });
  const body = JSON.stringify(filled(jsonOf(found.request), known));
  return request(path, {
    method: found.endpoint.method,
    headers: { ...headers, "Content-Type": "application/json" },
    body,
  });
}

/** The same with other members than the request prints, or none. */
export function sendBody(
  { request: _, ...found }: Example,
  known: Known,
  token: string | null,
  body: unknown,
): Promise<Response> {
  return send({ ...found, request: { line: 0, text: [JSON.stringify(body)] } }, known, token);
}

/** The upload an example's endpoint and table of form data describe. */
export function sendForm(
  found: Example,
  known: Known,
  token: string,
  fields: Record<string, string | File>,
  query?: Record<string, string>,
): Promise<Response> {
  expect(partOf(found, "content_type").text).toContain("multipart/form-data");
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return request(pathOf(found, known, query), { method: found.endpoint.method, headers: bearer(token), body: form });
}

export function fileNamed(path: string, bytes: Uint8Array | undefined): File {
  if (!bytes) throw new Error(`There is no file ${path}`);
  const name = path.split("/").at(-1) ?? "";
  // As curl and browsers guess from the extension; what they do not know is bytes.
  const type = /\.jpe?g$/.test(name) ? "image/jpeg" : "application/octet-stream";
  return new File([Uint8Array.from(bytes)], name, { type });
}

/** The commands of a block of shell, each on one line; comments are left out. */
export function commandsOf({ text }: Block): string[] {
  const lines = text.filter((row) => !row.startsWith("#") && row.trim() !== "");
  return lines
    .join("\n")
    .replaceAll(/\\\n/g, " ")
    .split(/\n(?=curl )/);
}

/** Runs an example's curl command, which is the only one there. */
export function runCurl(block: Block, known: Known, token: string | null, files: Files = {}): Promise<Response> {
  const commands = commandsOf(block);
  if (commands.length !== 1) throw new Error(`Line ${block.line} has ${commands.length} commands`);
  return runCommand(commands[0] ?? "", known, token, files);
}

/** Runs a curl command: its method, address, headers, data and form, as a shell would hand them over. */
export function runCommand(command: string, known: Known, token: string | null, files: Files = {}): Promise<Response> {
  const [program, ...words] = [...command.matchAll(/'([^']*)'|"([^"]*)"|([^\s'"]+)/g)].map(
    ([, single, double, bare]) => single ?? double ?? bare ?? "",
  );
  if (program !== "curl") throw new Error(`Not a curl command: ${program}`);
  let method: string | null = null;
  let url = "";
  let redirect: "manual" | "follow" = "manual";
  let data: string | null = null;
  const form = new FormData();
  const headers: Record<string, string> = {};
  while (words.length > 0) {
    const word = words.shift() ?? "";
    if (!word.startsWith("-")) url = word;
    else if (word === "-X") method = words.shift() ?? "";
    else if (word === "-d") data = JSON.stringify(filled(JSON.parse(words.shift() ?? ""), known));
    else if (word === "-L") redirect = "follow";
    else if (word === "-H") {
      const [name = "", value = ""] = (words.shift() ?? "").split(/:\s*(.*)/);
      headers[name] = value.replace("YOUR_ACCESS_TOKEN", token ?? "");
    } else if (word === "-F") {
      const [, name = "", value = ""] = /^([^=]+)=(.*)$/.exec(words.shift() ?? "") ?? [];
      if (value.startsWith("@")) form.append(name, fileNamed(value.slice(1), files[value.slice(1)]));
      else form.append(name, String(filled(value, known)));
    }
    // Where the answer goes is the caller's own business.
    else if (word !== "-O") throw new Error(`Nobody knows the option ${word}`);
  }
  const path = url
    .replace(/^https:\/\/[^/]+/, "")
    .replaceAll(/\{\w+\}|\b\w+-uuid\b/g, (placeholder) => textOf(known, placeholder));
  const body = [...form.keys()].length > 0 ? form : data;
  return request(path, { method: method ?? (body === null ? "GET" : "POST"), headers, body, redirect });
}

/** One of the two forms of an example's call. */
export function run(
  form: Form,
  found: Example,
  known: Known,
  token: string | null,
  files: Files = {},
): Promise<Response> {
  return form === "request" ? send(found, known, token) : runCurl(partOf(found, "curl"), known, token, files);
}

/**
 * The answer, which has the documented status and, where the document prints one, the documented body. `given` are
 * members in which the call differs from the printed request, as some of the document's own commands do.
 */
export async function answered(
  response: Response,
  { status, response: body }: Example,
  known: Known = {},
  given: Record<string, unknown> = {},
): Promise<unknown> {
  const text = await response.text();
  expect(response.status, text).toBe(status?.code);
  const actual: unknown = text === "" ? null : JSON.parse(text);
  if (!body) return actual;
  const documented = jsonOf(body);
  const wanted = Array.isArray(documented) ? documented : Object.assign({}, documented, given);
  expect(differences(wanted, actual, known)).toEqual([]);
  return actual;
}
