import { describe, expect, it } from "vitest";
import { z } from "zod";
import { ROLES } from "../src/auth/access";
import campaignsFile from "./fixtures/reference/campaigns.json";
import contactsFile from "./fixtures/reference/contacts.json";
import errorsFile from "./fixtures/reference/errors.json";
import mediaFile from "./fixtures/reference/media.json";
import messagesFile from "./fixtures/reference/messages.json";
import phoneNumbersFile from "./fixtures/reference/phone-numbers.json";
import tablesFile from "./fixtures/reference/tables.json";
import templatesFile from "./fixtures/reference/templates.json";
import { fileOf } from "./support/files";
import { newWorkspace } from "./support/identity";
import { loadDocument, operationsOf } from "./support/openapi";
import {
  type Block,
  cellsOf,
  type Example,
  example,
  examplesOf,
  type Known,
  listOf,
  partOf,
  wordsOf,
} from "./support/reference";
import { fileNamed, send, sendForm } from "./support/reference-calls";
import { operationOf } from "./support/reference-endpoints";

const document = await loadDocument();
const operations = operationsOf(document);
const { tables } = tablesFile;

const templates = examplesOf(templatesFile);
const campaigns = examplesOf(campaignsFile);

/** Words that a parameter of the table takes, where the table leaves them to a list elsewhere. */
const ELSEWHERE: Record<string, Block> = {
  "/api/templates category": listOf(example(templates, "Create Template"), "Template Categories"),
  "/api/campaigns status": listOf(example(campaigns, "Create Campaign"), "Campaign Statuses"),
};

interface Parameter {
  found: Example;
  name: string;
  type: string;
  range: [number, number] | null;
  default: number | null;
  words: string[];
}

/** What a table says of each parameter of an endpoint. */
function parametersOf(found: Example, table: Block): Parameter[] {
  return cellsOf(table).map(([name = "", type = "", third = "", description = ""]) => {
    const [, min, max] = /\((\d+)-(\d+)/.exec(description) ?? [];
    const initial = /default: (\d+)/.exec(description)?.[1] ?? /^\d+$/.exec(third)?.[0];
    const list = ELSEWHERE[`${found.endpoint.path} ${name}`];
    const words = list ? wordsOf(list) : (/\((\w+(?:, \w+)+)\)/.exec(description)?.[1]?.split(", ") ?? []);
    return {
      found,
      name,
      type,
      range: min === undefined || max === undefined ? null : [Number(min), Number(max)],
      default: initial === undefined ? null : Number(initial),
      words,
    };
  });
}

function ownTable(found: Example): Parameter[] {
  return parametersOf(found, partOf(found, "query"));
}

// This one was copied with its head.
const { line, text } = errorsFile.list_defaults;
const lists = [
  ...parametersOf(example(examplesOf(phoneNumbersFile), "List Phone Numbers"), { line: line + 2, text: text.slice(2) }),
  ...ownTable(example(examplesOf(mediaFile), "List Media")),
  ...ownTable(example(examplesOf(templatesFile), "List Templates")),
  ...ownTable(example(examplesOf(contactsFile), "List Contacts")),
  ...ownTable(example(campaigns, "List Campaigns")),
];
const link = ownTable(example(examplesOf(mediaFile), "Get Media URL"));
const parameters = [...lists, ...link, ...ownTable(example(examplesOf(contactsFile), "Import Contacts"))].map(
  (parameter) => [`${parameter.found.endpoint.path} ${parameter.name}`, parameter] as const,
);

describe("a table of parameters", () => {
  it.each(parameters)("%s is declared as printed", (_, { found, name, type, range, words, ...printed }) => {
    const declared = operationOf(found, operations).parameters.find((one) => one.name === name && one.in === "query");
    if (!declared) throw new Error("The operation does not take it");
    const { schema } = declared;
    // A number may be named by the provider's id as well (contract 12).
    const uuid = name === "phone_number_id" ? { type: "string" } : { type: "string", format: "uuid" };
    expect(schema).toMatchObject(type === "UUID" ? uuid : { type });
    if (range) expect(schema).toMatchObject({ minimum: range[0], maximum: range[1] });
    if (printed.default !== null) expect(schema).toMatchObject({ default: printed.default });
    if (words.length > 0) expect(schema.enum).toEqual(expect.arrayContaining(words));
  });

  /** Values at the edges of what a parameter takes, and just outside. */
  function valuesOf({ name, type, range, words }: Parameter, workspaceId: string): { good: string[]; bad: string[] } {
    if (words.length > 0) return { good: words, bad: ["unheard_of", ""] };
    switch (type) {
      case "integer":
        return range
          ? { good: range.map(String), bad: [String(range[0] - 1), String(range[1] + 1), "1.5", "ten"] }
          : { good: ["0", "1000000"], bad: ["-1", "ten"] };
      case "boolean":
        return { good: ["true", "false"], bad: ["yes", "1"] };
      case "UUID":
        return name === "phone_number_id"
          ? { good: ["1234567890"], bad: [] }
          : { good: [workspaceId], bad: ["workspace-uuid"] };
      default:
        return { good: ["any"], bad: [] };
    }
  }

  it.each(lists.map((parameter) => [`${parameter.found.endpoint.path} ${parameter.name}`, parameter] as const))(
    "%s takes what is printed and refuses the rest",
    async (_, parameter) => {
      const { found, name } = parameter;
      const workspace = await newWorkspace();
      const ask = (value: string) =>
        send(found, {}, workspace.token, { workspace_id: workspace.workspaceId, [name]: value });
      const { good, bad } = valuesOf(parameter, workspace.workspaceId);
      // A number's id may be the provider's as well: one that nobody has finds nothing (contract 12).
      for (const value of name === "phone_number_id" ? [] : good) {
        const response = await ask(value);
        expect(response.status, value).toBe(200);
        const page = z.looseObject({}).parse(await response.json());
        if (parameter.type === "integer") expect(page[name]).toBe(Number(value));
      }
      for (const value of bad) {
        const response = await ask(value);
        expect(response.status, value).toBe(422);
        expect(await response.json()).toMatchObject({ detail: [{ loc: ["query", name], type: "value_error" }] });
      }
      const unasked = await send(found, {}, workspace.token, { workspace_id: workspace.workspaceId });
      const page = z.looseObject({}).parse(await unasked.json());
      if (parameter.default !== null) expect(page[name]).toBe(parameter.default);
    },
  );

  it.each(link)("of Get Media URL: $name takes its range, and its default", async (parameter) => {
    const workspace = await newWorkspace();
    const upload = example(examplesOf(mediaFile), "Upload Media");
    const file = fileNamed("a.jpg", fileOf("jpeg"));
    const stored = await sendForm(upload, {}, workspace.token, { file });
    const { id } = z.looseObject({ id: z.uuid() }).parse(await stored.json());
    const known: Known = { "{media_id}": id };
    const { good, bad } = valuesOf(parameter, workspace.workspaceId);
    for (const value of [undefined, ...good]) {
      const query = value === undefined ? {} : { [parameter.name]: value };
      const response = await send(parameter.found, known, workspace.token, query);
      expect(await response.json()).toMatchObject({ expires_in_minutes: Number(value ?? parameter.default) });
    }
    for (const value of bad) {
      const response = await send(parameter.found, known, workspace.token, { [parameter.name]: value });
      expect(response.status, value).toBe(422);
    }
  });
});

describe("a list of words", () => {
  const member = (schema: string, name: string): unknown =>
    z.record(z.string(), z.unknown()).parse(document.components.schemas[schema]?.properties)[name];
  const words: [string, Block, string, string, string[]][] = [
    [
      "Message Statuses",
      listOf(example(examplesOf(messagesFile), "Send Text Message"), "Message Statuses"),
      "Message",
      "status",
      // Only on messages that somebody planned, and called off (contract 9).
      ["scheduled", "cancelled"],
    ],
    [
      "Template Categories",
      listOf(example(templates, "Create Template"), "Template Categories"),
      "Template",
      "category",
      [],
    ],
    [
      "Campaign Statuses",
      listOf(example(campaigns, "Create Campaign"), "Campaign Statuses"),
      "Campaign",
      "status",
      ["cancelled"],
    ],
    ["Quality Ratings", tables["Quality Ratings"], "PhoneNumber", "quality_rating", []],
  ];

  it.each(words)("%s are the ones that are declared", (_, block, schema, name, beyond) => {
    const declared = z.looseObject({ enum: z.array(z.string()) }).parse(member(schema, name)).enum;
    expect([...declared].sort()).toEqual([...wordsOf(block), ...beyond].sort());
  });

  it("Roles", () => {
    expect(wordsOf(tables.Roles)).toEqual(ROLES);
  });

  it("Template statuses stand in a comment and in a table", () => {
    const comment = partOf(example(templates, "Create Template"), "response").text.find((row) => row.includes("// "));
    const statuses = comment?.split("// ")[1]?.split(", ");
    expect(statuses).toEqual(["PENDING", "APPROVED", "REJECTED"]);
    expect(member("Template", "status")).toMatchObject({ enum: statuses });
  });

  it("Common Response Codes are answered by something here", () => {
    const answered = new Set(operations.flatMap(({ responses }) => Object.keys(responses)));
    expect([...answered]).toEqual(expect.arrayContaining(wordsOf(tables["Common Response Codes"])));
  });
});
