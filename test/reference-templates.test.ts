import { describe, expect, it } from "vitest";
import { z } from "zod";
import templatesFile from "./fixtures/reference/templates.json";
import { eventually } from "./support/pipeline";
import {
  differences,
  example,
  examplesOf,
  jsonOf,
  type Known,
  listOf,
  partOf,
  textOf,
  wordsOf,
} from "./support/reference";
import { answered, send, sendBody } from "./support/reference-calls";
import { describeEndpoints } from "./support/reference-endpoints";
import { sandbox } from "./support/sandbox";
import { withAccount } from "./support/templates";

const templates = examplesOf(templatesFile);
const create = example(templates, "Create Template");
const get = example(templates, "Get Template");
const list = example(templates, "List Templates");
const update = example(templates, "Update Template");

describeEndpoints(templates, ["Create Template", "Update Template", "Delete Template"]);

const documented = z
  .looseObject({ components: z.record(z.string(), z.unknown()) })
  .parse(jsonOf(partOf(create, "request")));
const identified = z.looseObject({ id: z.uuid(), meta_template_id: z.string() });

async function ready() {
  const { workspace, number } = await withAccount();
  const known: Known = { "workspace-uuid": workspace.workspaceId, "phone-uuid": number.id };
  return { workspace, known };
}

/** The printed template, handed in. */
async function created() {
  const { workspace, known } = await ready();
  // What the document leaves out of its answer is what the request holds.
  const all: Known = { ...known, "{...}": documented.components };
  const answer = identified.parse(await answered(await send(create, all, workspace.token), create, all));
  const own: Known = { ...known, "template-uuid": answer.id, "{template_id}": answer.id };
  return { workspace, known: own, answer };
}

type Created = Awaited<ReturnType<typeof created>>;

/** The provider reviews it, and tells by webhook. */
async function reviewed({ workspace, known, answer }: Created, status: string, reason?: string): Promise<unknown> {
  await sandbox.review(answer.meta_template_id, status, reason);
  await sandbox.flush();
  return eventually(async () => {
    const shown = await answered(await send(get, known, workspace.token), get);
    expect(shown).toMatchObject({ status });
    return shown;
  });
}

describe("a template", () => {
  it("Create Template answers as printed; Get Template the same", async () => {
    const { workspace, known, answer } = await created();
    expect(await answered(await send(get, known, workspace.token), get)).toEqual(answer);
  });

  it("Create Template: each printed category, and names as the comment says", async () => {
    const { workspace, known } = await ready();
    const categories = wordsOf(listOf(create, "Template Categories"));
    expect(categories).toEqual(["MARKETING", "UTILITY", "AUTHENTICATION"]);
    const post = (members: Record<string, unknown>) =>
      sendBody(create, known, workspace.token, { ...documented, ...members });
    // The text of an authentication template is the provider's own.
    const code = { body: {}, buttons: [{ type: "OTP", otp_type: "COPY_CODE" }] };
    for (const category of categories) {
      const name = `welcome_${category.toLowerCase()}`;
      const components = category === "AUTHENTICATION" ? code : documented.components;
      const response = await post({ name, category, components });
      expect(await answered(response, { ...create, response: undefined })).toMatchObject({ category });
    }
    for (const name of ["Welcome_message", "welcome message"]) {
      const response = await post({ name });
      expect(response.status, name).toBe(422);
      expect(await response.json()).toMatchObject({ detail: [{ loc: ["body", "name"] }] });
    }
  });

  it("List Templates: an approved one, with its workspace alone and with every parameter", async () => {
    const made = await created();
    const { workspace, known } = made;
    await reviewed(made, "APPROVED");
    const query = { workspace_id: workspace.workspaceId };
    await answered(await send(list, known, workspace.token, query), list, known);
    const phone_number_id = textOf(known, "phone-uuid");
    const all = { ...query, phone_number_id, status: "APPROVED", category: "MARKETING", limit: "20", offset: "0" };
    await answered(await send(list, known, workspace.token, all), list, known);
    const others: Record<string, string>[] = [{ status: "REJECTED" }, { category: "UTILITY" }];
    for (const other of others) {
      const page = await send(list, known, workspace.token, { ...query, ...other });
      expect(await page.json()).toMatchObject({ data: [], total: 0 });
    }
  });

  it("Get Template shows why it was rejected", async () => {
    const shown = await reviewed(await created(), "REJECTED", "INVALID_FORMAT");
    expect(shown).toMatchObject({ status: "REJECTED", rejection_reason: "INVALID_FORMAT" });
  });

  it("Update Template changes its components at the provider, which reviews them again", async () => {
    const made = await created();
    const { workspace } = made;
    await reviewed(made, "APPROVED");
    const components = { body: { text: "Hello {{1}}, good to see you again!" } };
    const known: Known = { ...made.known, "{...}": components };
    const changed = await answered(await send(update, known, workspace.token), update);
    expect(differences({ components: "{...}" }, changed, known)).toEqual([]);
    // The printed status is a question, and this is its answer (contract 17).
    expect(changed).toMatchObject({ status: "PENDING", status_note: "The provider says PENDING, not APPROVED" });
    await reviewed(made, "APPROVED");
    const { status } = z.looseObject({ status: z.string() }).parse(jsonOf(partOf(update, "request")));
    const asked = await answered(await sendBody(update, known, workspace.token, { status }), update);
    expect(asked).toMatchObject({ components, status, status_note: null });
  });

  it("Update Template: all fields are optional", async () => {
    const { workspace, known, answer } = await created();
    const same = await answered(await sendBody(update, known, workspace.token, {}), update);
    expect(same).toMatchObject({ id: answer.id, components: answer.components, status: "PENDING" });
  });

  it("Delete Template", async () => {
    const { workspace, known } = await created();
    const remove = example(templates, "Delete Template");
    expect(await answered(await send(remove, known, workspace.token), remove)).toBeNull();
    expect((await send(get, known, workspace.token)).status).toBe(404);
    const page = await send(list, known, workspace.token, { workspace_id: workspace.workspaceId });
    expect(await page.json()).toMatchObject({ data: [], total: 0 });
  });
});
