import { exports } from "cloudflare:workers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { anyJson, headerText, Values } from "./support/arbitraries";
import { breaches, loadDocument, type Operation, operationsOf } from "./support/openapi";
import { CASES, type Call, newWorld, type World } from "./support/operations";

/**
 * Every operation with valid, odd and broken input: no answer is a 5xx, and each fits what the document says of it. The
 * seed is fixed, so that a failure is the change's own; `fc.assert` prints what it shrank the input to.
 */
const SEED = 20_261_120;
const RUNS = 30;

const document = await loadDocument();
const operations = operationsOf(document);

interface Shot {
  path: string;
  headers: Record<string, string>;
  body: string | Uint8Array | undefined;
}

/** One arbitrary call of an operation around a valid one. */
function shots(operation: Operation, valid: Call, world: World): fc.Arbitrary<Shot> {
  const ids = [
    world.owner.workspaceId,
    world.member.memberId,
    world.phoneNumberId,
    world.contactId,
    world.conversationId,
    world.messageId,
    world.deadLetterId,
    world.templateId,
    world.importId,
    ...Object.values(world.campaigns),
    ...Object.values(world.media),
  ];
  const values = new Values(document, ids);
  return fc.record({
    path: fc.tuple(pathOf(operation, valid, values), queryOf(operation, valid, values)).map((parts) => parts.join("")),
    headers: headersOf(operation, valid),
    body: bodyOf(operation, valid, values),
  });
}

function pathOf(operation: Operation, valid: Call, values: Values): fc.Arbitrary<string> {
  const names = [...operation.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? "");
  const parts = names.map((name) => {
    const known = valid.params?.[name];
    const schema = operation.parameters.find((p) => p.in === "path" && p.name === name)?.schema ?? {};
    const odd = values.of(schema).map((value) => (typeof value === "string" && value !== "" ? value : "x"));
    return known === undefined ? odd : fc.oneof({ weight: 6, arbitrary: fc.constant(known) }, odd);
  });
  return fc
    .tuple(fc.boolean(), ...parts)
    .map(([slash, ...texts]) =>
      names
        .reduce((path, name, n) => path.replace(`{${name}}`, escaped(String(texts[n]))), operation.path)
        .concat(slash ? "/" : ""),
    );
}

function queryOf(operation: Operation, valid: Call, values: Values): fc.Arbitrary<string> {
  const declared = operation.parameters.filter((parameter) => parameter.in === "query");
  const record = fc.record(
    Object.fromEntries(declared.map(({ name, schema }) => [name, values.of(schema).map(String)])),
    { requiredKeys: [] },
  );
  return record.map((query) => {
    const given = Object.entries({ ...valid.query, ...query });
    return given.length === 0 ? "" : `?${given.map(([name, text]) => `${name}=${escaped(String(text))}`).join("&")}`;
  });
}

/** A URL holds no lone surrogate; what a client would send of one is the replacement character. */
function escaped(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

function headersOf(operation: Operation, valid: Call): fc.Arbitrary<Record<string, string>> {
  const odd = fc.record(
    {
      "idempotency-key": headerText,
      "x-d1-bookmark": headerText,
      "x-workspace-id": headerText,
      "last-event-id": headerText,
      range: headerText.map((text) => `bytes=${text}`),
      "if-none-match": headerText,
    },
    { requiredKeys: [] },
  );
  const types = Object.keys(operation.requestBody?.content ?? { "application/json": {} });
  const type = fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom(...types) },
    { weight: 1, arbitrary: fc.constantFrom("text/plain", "multipart/form-data; boundary=x", "application/xml") },
  );
  return fc.tuple(fc.oneof({ weight: 4, arbitrary: fc.constant({}) }, odd), type).map(([headers, contentType]) => ({
    ...headers,
    ...(operation.requestBody ? { "content-type": contentType } : {}),
    ...valid.headers,
  }));
}

function bodyOf(operation: Operation, valid: Call, values: Values): fc.Arbitrary<Shot["body"]> {
  if (!operation.requestBody) return fc.constant(typeof valid.body === "string" ? valid.body : undefined);
  const schema = operation.requestBody.content["application/json"]?.schema ?? {};
  const asked = values.of(schema);
  const base = typeof valid.body === "object" && valid.body !== null ? valid.body : {};
  const mixed = asked.map((value) => (typeof value === "object" ? { ...base, ...value } : value));
  const changed = fc
    .tuple(fc.constantFrom(...Object.keys(base), "x"), anyJson)
    .map(([name, value]) => ({ ...base, [name]: value }));
  return fc.oneof(
    { weight: 6, arbitrary: asked.map(written) },
    { weight: 6, arbitrary: mixed.map(written) },
    { weight: 4, arbitrary: changed.map(written) },
    { weight: 1, arbitrary: anyJson.map(written) },
    { weight: 1, arbitrary: fc.constantFrom("", "{", "[1,", '{"a":1}}', "nul", "\ufeff{}", '{"a":"\\ud800"}') },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 30 }) },
  );
}

function written(value: unknown): string {
  return JSON.stringify(value) ?? "";
}

async function fire(operation: Operation, { path, headers, body }: Shot, token: string): Promise<Response> {
  const all = new Headers(headers);
  all.set("Authorization", `Bearer ${token}`);
  const request = new Request(`http://switchboard.test${path}`, {
    method: operation.method,
    headers: all,
    redirect: "manual",
    ...(body === undefined || ["GET", "HEAD"].includes(operation.method) ? {} : { body }),
  });
  const response = await exports.default.fetch(request);
  response.webSocket?.accept();
  response.webSocket?.close(1000);
  return response;
}

describe("whatever is sent", () => {
  it.each(operations.map((operation) => [operation.key, operation] as const))(
    "%s answers as it says it would",
    async (_, operation) => {
      const world = await newWorld({ plan: "enterprise" });
      const found = CASES[operation.key];
      if (!found) throw new Error(`Nobody said how ${operation.key} is called`);
      const valid = await found.call(world);
      const token = (valid.as ?? world.owner).token;
      await fc.assert(
        fc.asyncProperty(shots(operation, valid, world), async (shot) => {
          const response = await fire(operation, shot, token);
          if (response.status >= 500) expect.fail(`${response.status}: ${await response.text()}`);
          expect(await breaches(document, operation, response)).toEqual([]);
        }),
        { seed: SEED, numRuns: RUNS },
      );
    },
    60_000,
  );
});
