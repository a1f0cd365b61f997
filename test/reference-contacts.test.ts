import { describe, expect, it } from "vitest";
import { z } from "zod";
import contactsFile from "./fixtures/reference/contacts.json";
import errorsFile from "./fixtures/reference/errors.json";
import { newWorkspace, type TestWorkspace } from "./support/identity";
import { differences, example, examplesOf, jsonOf, type Known, listOf, partOf, wordsOf } from "./support/reference";
import {
  answered,
  commandsOf,
  FORMS,
  fileNamed,
  run,
  runCommand,
  runCurl,
  send,
  sendBody,
  sendForm,
} from "./support/reference-calls";
import { describeEndpoints } from "./support/reference-endpoints";

const contacts = examplesOf(contactsFile);
const create = example(contacts, "Create Contact");
const list = example(contacts, "List Contacts");
const get = example(contacts, "Get Contact");
const update = example(contacts, "Update Contact");
const importing = example(contacts, "Import Contacts");

describeEndpoints(contacts, ["Create Contact", "Update Contact", "Delete Contact", "Import Contacts"]);

const identified = z.looseObject({ id: z.uuid() });

async function ready() {
  const workspace = await newWorkspace();
  const known: Known = { "workspace-uuid": workspace.workspaceId };
  return { workspace, known };
}

/** The printed contact. */
async function created() {
  const { workspace, known } = await ready();
  const answer = identified.parse(await answered(await send(create, known, workspace.token), create, known));
  return { workspace, known: { ...known, "contact-uuid": answer.id, "{contact_id}": answer.id }, answer };
}

describe("a contact", () => {
  it.each(FORMS)("Create Contact (%s)", async (form) => {
    const { workspace, known } = await ready();
    // The curl command gives one tag, so the printed two cannot come back.
    const given = form === "curl" ? { tags: ["customer"] } : {};
    await answered(await run(form, create, known, workspace.token), create, known, given);
  });

  it("Create Contact: what the comments call optional is; the number has to be E.164", async () => {
    const { workspace, known } = await ready();
    const body = { workspace_id: workspace.workspaceId, phone_number: "+1234567890" };
    await answered(await sendBody(create, known, workspace.token, body), create, known, { name: null, tags: [] });
    const numbers = (text: string[]) => text.map((row) => /`([^`]+)`/.exec(row)?.[1] ?? "");
    for (const phone_number of numbers(errorsFile.incorrect.text)) {
      const response = await sendBody(create, known, workspace.token, { ...body, phone_number });
      expect(response.status, phone_number).toBe(422);
      const { code: _, request_id: __, ...refusal } = z.looseObject({}).parse(await response.json());
      expect(refusal).toEqual(jsonOf(errorsFile.examples["422"]));
    }
    const [, second = ""] = numbers(errorsFile.correct.text);
    expect((await sendBody(create, known, workspace.token, { ...body, phone_number: second })).status).toBe(201);
  });

  it("List Contacts: with its workspace alone, with every parameter, and by the printed commands", async () => {
    const { workspace, known } = await created();
    const query = { workspace_id: workspace.workspaceId };
    await answered(await send(list, known, workspace.token, query), list, known);
    const all = { ...query, tags: "vip,customer", opted_in: "true", search: "+1234", limit: "20", offset: "0" };
    await answered(await send(list, known, workspace.token, all), list, known);
    const commands = commandsOf(partOf(list, "curl"));
    expect(commands).toHaveLength(2);
    for (const command of commands) await answered(await runCommand(command, known, workspace.token), list, known);
    const others: Record<string, string>[] = [{ search: "Jane" }, { tags: "vip,prospect" }, { opted_in: "false" }];
    for (const other of others) {
      const page = await send(list, known, workspace.token, { ...query, ...other });
      expect(await page.json(), JSON.stringify(other)).toMatchObject({ data: [], total: 0 });
    }
  });

  it("Get Contact answers what the creation did", async () => {
    const { workspace, known, answer } = await created();
    expect(await answered(await send(get, known, workspace.token), get)).toEqual(answer);
  });

  it("Update Contact, all fields optional", async () => {
    const { workspace, known, answer } = await created();
    const changed = await answered(await send(update, known, workspace.token), update);
    expect(differences(jsonOf(partOf(update, "request")), changed, known)).toEqual([]);
    const one = await answered(await sendBody(update, known, workspace.token, { opted_in: false }), update);
    expect(one).toMatchObject({ id: answer.id, name: "Jane Doe", tags: ["customer", "premium"], opted_in: false });
    const same = await answered(await sendBody(update, known, workspace.token, {}), update);
    expect(same).toMatchObject({ name: "Jane Doe", tags: ["customer", "premium"], opted_in: false });
  });

  it("Delete Contact", async () => {
    const { workspace, known } = await created();
    const remove = example(contacts, "Delete Contact");
    expect(await answered(await send(remove, known, workspace.token), remove)).toBeNull();
    expect((await send(get, known, workspace.token)).status).toBe(404);
    const page = await send(list, known, workspace.token, { workspace_id: workspace.workspaceId });
    expect(await page.json()).toMatchObject({ data: [], total: 0 });
  });
});

const outcome = z.looseObject({
  total_rows: z.int(),
  imported: z.int(),
  updated: z.int(),
  failed: z.int(),
  results: z.array(
    z.strictObject({
      row_number: z.int(),
      phone_number: z.string(),
      status: z.enum(["imported", "updated", "failed"]),
      reason: z.string().nullable(),
    }),
  ),
});

function csv(text: string): File {
  return fileNamed("contacts.csv", new TextEncoder().encode(text));
}

function imported(workspace: TestWorkspace, file: File): Promise<Response> {
  return sendForm(importing, {}, workspace.token, { file }, { workspace_id: workspace.workspaceId });
}

describe("Import Contacts", () => {
  const printed = outcome.parse(jsonOf(partOf(importing, "response")));
  const file = `${partOf(importing, "csv").text.join("\n")}\n`;

  it.each(["request", "curl"])("answers the printed file with the printed totals (%s)", async (form) => {
    const { workspace, known } = await ready();
    const response =
      form === "curl"
        ? await runCurl(partOf(importing, "curl"), known, workspace.token, {
            "contacts.csv": new TextEncoder().encode(file),
          })
        : await imported(workspace, csv(file));
    // The printed rows contradict the printed totals, and are not what a server could answer (contract 19).
    const { results, ...totals } = printed;
    const documented = { ...importing, response: { line: 0, text: [JSON.stringify(totals)] } };
    const answer = outcome.parse(await answered(response, documented));
    const places = (rows: typeof results) => rows.map(({ row_number, phone_number }) => [row_number, phone_number]);
    expect(places(answer.results)).toEqual(places(results));
    for (const status of ["imported", "updated", "failed"] as const) {
      expect(answer.results.filter((row) => row.status === status)).toHaveLength(totals[status]);
    }
    const page = await send(list, known, workspace.token, { workspace_id: workspace.workspaceId, tags: "prospect" });
    expect(await page.json()).toMatchObject({ data: [{ phone_number: "+1234567890", name: "Bob Johnson" }], total: 1 });
  });

  it("says of a wrong number what is printed", async () => {
    const { workspace } = await ready();
    const failed = printed.results.find(({ status }) => status === "failed");
    const answer = outcome.parse(
      await answered(await imported(workspace, csv("phone\n12\n")), { ...importing, response: undefined }),
    );
    expect(answer.results).toEqual([{ row_number: 1, phone_number: "12", status: "failed", reason: failed?.reason }]);
  });

  it("reads the printed columns: labels or tags, by comma or semicolon; only the phone is required", async () => {
    const { workspace, known } = await ready();
    expect(wordsOf(listOf(importing, "Expected CSV Columns"))).toEqual(["phone", "name", "labels"]);
    const files = [
      'phone,labels\n+12025550101,"a,b"\n',
      "tags,phone\na;b,(202) 555-0102\n",
      "phone\n+1 202 555 0103\n",
    ];
    for (const text of files) {
      const answer = await answered(await imported(workspace, csv(text)), { ...importing, response: undefined });
      expect(answer, text).toMatchObject({ total_rows: 1, imported: 1, failed: 0 });
    }
    const page = await send(list, known, workspace.token, { workspace_id: workspace.workspaceId, tags: "a,b" });
    expect(await page.json()).toMatchObject({ total: 2 });
    const none = await imported(workspace, csv("name\nJohn Doe\n"));
    expect(none.status).toBe(422);
    expect(await none.json()).toMatchObject({ detail: [{ loc: ["body", "file"] }] });
  });
});

describe("Pagination", () => {
  it("the practice's loop sees each contact once, and ends", async () => {
    const { workspace } = await ready();
    const rows = Array.from({ length: 250 }, (_, n) => `+1202${String(5_550_000 + n)}`);
    expect((await imported(workspace, csv(`phone\n${rows.join("\n")}\n`))).status).toBe(200);
    const script = contactsFile.pagination_practice.text.join("\n");
    const limit = Number(/const limit = (\d+);/.exec(script)?.[1]);
    const path = /\$\{baseUrl\}([^`]+)`/.exec(script)?.[1] ?? "";
    let offset = Number(/let offset = (\d+);/.exec(script)?.[1]);
    const seen: string[] = [];
    for (;;) {
      const values: Record<string, string> = { id: workspace.workspaceId, limit: `${limit}`, offset: `${offset}` };
      const response = await workspace.call(
        "GET",
        path.replaceAll(/\$\{(\w+)\}/g, (_, name) => values[name] ?? ""),
      );
      const page = z
        .object({ data: z.array(z.looseObject({ phone_number: z.string() })) })
        .parse(await response.json());
      seen.push(...page.data.map(({ phone_number }) => phone_number));
      if (page.data.length < limit) break;
      offset += limit;
    }
    expect(seen.sort()).toEqual(rows);
  });
});
