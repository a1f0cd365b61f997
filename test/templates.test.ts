import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { createRuntime, shard } from "../src/platform/runtime";
import { syncTemplates } from "../src/templates/service-sync";
import { pageTemplates } from "../src/templates/store";
import { graph } from "./support/graph";
import { memberWithRole, newWorkspace, testRuntime } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { fireCron } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import {
  type Account,
  approved,
  atProvider,
  type Body,
  bodyOf,
  make,
  refusedAt,
  welcome,
  withAccount,
} from "./support/templates";

const PATH = "/api/templates";
const MINUTE = 60_000;

beforeEach(async () => {
  await sandbox.reset();
});

const get = async (account: Account, id: unknown) => bodyOf(await account.workspace.call("GET", `${PATH}/${id}`), 200);

const list = async (account: Account, query: Record<string, string> = {}) => {
  const params = new URLSearchParams({ workspace_id: account.workspace.workspaceId, ...query });
  const page = await bodyOf(await account.workspace.call("GET", `${PATH}?${params}`), 200);
  return { ...page, data: page.data as Body[] };
};

const rowsOf = async ({ workspace }: Account) =>
  (await env.SHARD_0.prepare("SELECT * FROM templates WHERE workspace_id = ?1").bind(workspace.workspaceId).all())
    .results;

/** Fires the minute's cron after every back-off has passed. */
const later = (ms = 2 * MINUTE) => fireCron("* * * * *", Date.now() + ms);

describe("the document's examples", () => {
  it("make, list, show, change and delete a template", async () => {
    const account = await withAccount();
    const { workspace, number } = account;
    const made = await make(account);
    expect(made).toMatchObject({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      workspace_id: workspace.workspaceId,
      phone_number_id: number.id,
      name: "welcome_message",
      category: "MARKETING",
      language: "en",
      status: "PENDING",
      meta_template_id: expect.stringMatching(/^\d+$/),
      components: {
        body: { text: "Hello {{1}}, welcome to our service!" },
        footer: { text: "Reply STOP to unsubscribe" },
      },
      rejection_reason: null,
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      updated_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    });
    expect(await list(account)).toMatchObject({
      data: [{ id: made.id, name: "welcome_message", category: "MARKETING", language: "en", status: "PENDING" }],
      total: 1,
      limit: 20,
      offset: 0,
      next_cursor: null,
    });
    expect(await get(account, made.id)).toEqual(made);
    const changed = await bodyOf(
      await workspace.call("PATCH", `${PATH}/${made.id}`, {
        components: { body: { text: "Hello {{1}}, good to see you!" } },
        status: "APPROVED",
      }),
      200,
    );
    expect(changed).toMatchObject({
      id: made.id,
      status: "PENDING",
      components: { body: { text: "Hello {{1}}, good to see you!" } },
    });
    expect(changed.status_note).toBe("The provider says PENDING, not APPROVED");
    expect((await workspace.call("DELETE", `${PATH}/${made.id}`)).status).toBe(204);
    expect((await workspace.call("GET", `${PATH}/${made.id}`)).status).toBe(404);
    expect(await list(account)).toMatchObject({ data: [], total: 0 });
    expect(await atProvider(account)).toEqual([]);
  });

  it("runs for a number that was registered with the document's own account name", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace, {
      business_id: "business-account-id",
      access_token: `EAA${crypto.randomUUID()}`,
    });
    const made = await bodyOf(await workspace.call("POST", PATH, welcome({ workspace, number })), 201);
    const { data } = await sandbox.templates();
    expect(data).toMatchObject([{ id: made.meta_template_id, name: "welcome_message" }]);
    // The account that the token named is kept: its webhooks find the workspace.
    await sandbox.review(String(made.meta_template_id), "APPROVED");
    expect(await sandbox.flush()).toMatchObject({ statuses: { 200: 1 } });
    await expect
      .poll(async () => (await bodyOf(await workspace.call("GET", `${PATH}/${made.id}`), 200)).status)
      .toBe("APPROVED");
  });
});

describe("making a template", () => {
  it("stores nothing when the provider refuses, and says why", async () => {
    const account = await withAccount();
    const components = { body: { text: "{{1}} first, which no template may" } };
    const refused = await bodyOf(await account.workspace.call("POST", PATH, welcome(account, { components })), 400);
    expect(refused).toMatchObject({
      code: "provider_refused",
      detail: "Variables cannot stand there: The body cannot begin or end with a variable.",
    });
    expect(await rowsOf(account)).toEqual([]);
    expect(await list(account)).toMatchObject({ total: 0 });
    // The name is free for the corrected one.
    await make(account);
  });

  it("names the field that is wrong", async () => {
    const account = await withAccount();
    const text = "Hello there";
    const wrong: [Body, (string | number)[]][] = [
      [{ name: "Welcome Message" }, ["name"]],
      [{ name: "" }, ["name"]],
      [{ category: "PROMOTION" }, ["category"]],
      [{ language: "english!" }, ["language"]],
      [{ phone_number_id: "01900000-0000-7000-8000-000000000000" }, ["phone_number_id"]],
      [{ components: {} }, ["components", "body"]],
      [{ components: { body: {} } }, ["components", "body", "text"]],
      [{ components: { body: { text: "x".repeat(1025) } } }, ["components", "body", "text"]],
      [{ components: { body: { text }, footer: { text: "x".repeat(61) } } }, ["components", "footer", "text"]],
      [{ components: { body: { text }, header: { text: "x".repeat(61) } } }, ["components", "header", "text"]],
      [{ components: { body: { text }, header: { format: "TEXT" } } }, ["components", "header", "text"]],
      [{ components: { body: { text }, header: { format: "HOLOGRAM" } } }, ["components", "header", "format"]],
      [{ components: { body: { text }, buttons: [] } }, ["components", "buttons"]],
      [{ components: { body: { text }, buttons: [{ type: "URL", text: "Go" }] } }, ["components", "buttons", 0, "url"]],
      [
        { components: { body: { text }, buttons: [{ type: "URL", text: "Go", url: "javascript:alert(1)" }] } },
        ["components", "buttons", 0, "url"],
      ],
      [
        { components: { body: { text }, buttons: [{ type: "QUICK_REPLY", text: "x".repeat(26) }] } },
        ["components", "buttons", 0, "text"],
      ],
      [{ components: { body: { text }, sidebar: {} } }, ["components"]],
      [
        {
          components: [
            { type: "BODY", text },
            { type: "body", text },
          ],
        },
        ["components", 1],
      ],
    ];
    for (const [extra, loc] of wrong) {
      const response = await account.workspace.call("POST", PATH, welcome(account, extra));
      expect(await refusedAt(response), JSON.stringify(extra)).toEqual(["body", ...loc]);
    }
    expect(await atProvider(account)).toEqual([]);
  });

  it("takes a name and language once, and says which template has it", async () => {
    const account = await withAccount();
    const made = await make(account);
    const again = await bodyOf(await account.workspace.call("POST", PATH, welcome(account)), 409);
    expect(again).toMatchObject({ code: "already_exists", id: made.id });
    await make(account, { language: "de" });
    // The provider knows it, this workspace does not.
    const other = await withAccount();
    await graph("POST", `/${other.businessId}/message_templates`, providerDraft("known_there"), other.token);
    const refused = await bodyOf(
      await other.workspace.call("POST", PATH, welcome(other, { name: "known_there" })),
      400,
    );
    expect(refused).toMatchObject({ code: "provider_refused", detail: expect.stringContaining("already") });
    expect(await list(other)).toMatchObject({ total: 0 });
  });

  it("makes one of eight identical calls at once", async () => {
    const account = await withAccount();
    const responses = await Promise.all(
      Array.from({ length: 8 }, () => account.workspace.call("POST", PATH, welcome(account))),
    );
    const statuses = responses.map(({ status }) => status).sort();
    expect(statuses).toEqual([201, 409, 409, 409, 409, 409, 409, 409]);
    expect(await atProvider(account)).toHaveLength(1);
    expect(await list(account)).toMatchObject({ total: 1 });
    const ids = await Promise.all(responses.map(async (r) => (await r.json<Body>()).id));
    expect(new Set(ids).size).toBe(1);
  });

  it("comes back under its old id after it was deleted", async () => {
    const account = await withAccount();
    const first = await make(account);
    await account.workspace.call("DELETE", `${PATH}/${first.id}`);
    const second = await make(account);
    expect(second.id).toBe(first.id);
    expect(second.meta_template_id).not.toBe(first.meta_template_id);
    expect(await list(account)).toMatchObject({ total: 1 });
  });

  it("goes again, with its mark, when the provider refuses to take it back", async () => {
    const account = await withAccount();
    const first = await approved(account);
    await account.workspace.call("DELETE", `${PATH}/${first.id}`);
    // The provider keeps the name of an approved template for 30 days.
    await bodyOf(await account.workspace.call("POST", PATH, welcome(account)), 400);
    expect((await account.workspace.call("GET", `${PATH}/${first.id}`)).status).toBe(404);
    expect(await rowsOf(account)).toMatchObject([{ id: first.id, meta_template_id: first.meta_template_id }]);
    expect(await list(account)).toMatchObject({ total: 0 });
  });

  it("gives every variable without an example one, and keeps the given ones", async () => {
    const account = await withAccount();
    await make(account, {
      name: "positional",
      components: {
        header: { text: "Order {{1}}" },
        body: { text: "Dear {{1}}, parcel {{2}} is on its way.", example: { body_text: ["Ana"] } },
        buttons: [{ type: "URL", text: "Track", url: "https://example.com/t/{{1}}" }, { type: "COPY_CODE" }],
      },
    });
    await make(account, {
      name: "named",
      components: {
        header: { format: "text", text: "For {{who}}" },
        body: { text: "Dear {{first_name}}, see {{order_id}} here." },
      },
    });
    const [positional, named] = await atProvider(account);
    expect(positional).toMatchObject({
      parameter_format: "POSITIONAL",
      components: [
        { type: "HEADER", format: "TEXT", example: { header_text: ["Sample 1"] } },
        { type: "BODY", example: { body_text: [["Ana", "Sample 2"]] } },
        {
          type: "BUTTONS",
          buttons: [
            { type: "URL", example: ["https://example.com/t/sample"] },
            { type: "COPY_CODE", example: expect.any(String) },
          ],
        },
      ],
    });
    expect(named).toMatchObject({
      parameter_format: "NAMED",
      components: [
        { type: "HEADER", example: { header_text_named_params: [{ param_name: "who", example: "who" }] } },
        {
          type: "BODY",
          example: {
            body_text_named_params: [
              { param_name: "first_name", example: "first name" },
              { param_name: "order_id", example: "order id" },
            ],
          },
        },
      ],
    });
  });

  it("takes headers of every format and buttons of every kind, in both forms, and shows the documented one", async () => {
    const account = await withAccount();
    const body = { text: "Something to look at" };
    for (const format of ["IMAGE", "VIDEO", "DOCUMENT"]) {
      const header = { format, example: { header_handle: ["4::aW1hZ2U="] } };
      const made = await make(account, { name: `with_${format.toLowerCase()}`, components: { header, body } });
      expect(made.components).toEqual({ header, body });
    }
    const located = await make(account, { name: "with_place", components: { header: { format: "LOCATION" }, body } });
    expect(located.components).toEqual({ header: { format: "LOCATION" }, body });
    const buttons = [
      { type: "QUICK_REPLY", text: "Yes" },
      { type: "PHONE_NUMBER", text: "Call", phone_number: "+12025550123" },
      { type: "URL", text: "Site", url: "https://example.com" },
      { type: "FLOW", text: "Form", flow_id: "77", flow_action: "navigate", navigate_screen: "ONE" },
    ];
    const keyed = await make(account, { name: "with_buttons", components: { body, buttons } });
    expect(keyed.components).toEqual({ body, buttons });
    const array = await make(account, {
      name: "as_array",
      components: [
        { type: "BODY", ...body },
        { type: "BUTTONS", buttons: buttons.map((button) => ({ ...button, type: button.type.toLowerCase() })) },
      ],
    });
    expect(array.components).toEqual({ body, buttons });
    const held = (await atProvider(account)).find(({ name }) => name === "with_buttons");
    expect(held?.components).toEqual([
      { type: "BODY", ...body },
      { type: "BUTTONS", buttons },
    ]);
  });

  it("makes authentication templates, whose text is the provider's", async () => {
    const account = await withAccount();
    const components = {
      body: { add_security_recommendation: true },
      footer: { code_expiration_minutes: 5 },
      buttons: [{ type: "OTP", otp_type: "COPY_CODE", text: "Copy code" }],
    };
    const made = await make(account, { name: "login_code", category: "AUTHENTICATION", components });
    expect(made).toMatchObject({ category: "AUTHENTICATION", components });
    const preview = await bodyOf(await account.workspace.call("POST", `${PATH}/${made.id}/preview`), 200);
    expect(preview).toMatchObject({
      body: "Sample 1 is your verification code. For your security, do not share this code.",
      footer: "This code expires in 5 minutes.",
      buttons: [{ type: "OTP", text: "Copy code" }],
    });
  });
});

const providerDraft = (name: string, language = "en") => ({
  name,
  language,
  category: "UTILITY",
  components: [{ type: "BODY", text: "Made at the provider" }],
});

describe("when the provider is down", () => {
  it("a template waits and the cron hands it in", async () => {
    const account = await withAccount();
    await sandbox.faults({ kind: "reset", on: "other", count: 2 });
    const made = await make(account);
    expect(made).toMatchObject({
      status: "PENDING",
      meta_template_id: null,
      provider_status: null,
      status_note: "Not handed in yet: The connection to the provider failed",
    });
    await later();
    expect(await get(account, made.id)).toMatchObject({ meta_template_id: null, status: "PENDING" });
    await later(4 * MINUTE);
    const handedIn = await get(account, made.id);
    expect(handedIn).toMatchObject({ status: "PENDING", provider_status: "PENDING", status_note: null });
    expect(await atProvider(account)).toMatchObject([{ id: handedIn.meta_template_id }]);
  });

  it("one whose answer was lost is found there, not made twice", async () => {
    const account = await withAccount();
    await sandbox.faults({ kind: "drop_after_accept", on: "other", count: 1 });
    const made = await make(account);
    expect(made.meta_template_id).toBeNull();
    await later();
    const [held, ...others] = await atProvider(account);
    expect(others).toEqual([]);
    expect(await get(account, made.id)).toMatchObject({ meta_template_id: held?.id, provider_status: "PENDING" });
  });

  it("one that the provider refuses later is rejected with the reason, and can be corrected", async () => {
    const account = await withAccount();
    await sandbox.faults({ kind: "error", code: 2, on: "other", count: 1 });
    const made = await make(account, { components: { body: { text: "Ends with {{1}}" } } });
    expect(made.meta_template_id).toBeNull();
    await later();
    expect(await get(account, made.id)).toMatchObject({
      status: "REJECTED",
      meta_template_id: null,
      rejection_reason: "Variables cannot stand there: The body cannot begin or end with a variable.",
    });
    const corrected = await bodyOf(
      await account.workspace.call("PATCH", `${PATH}/${made.id}`, {
        components: { body: { text: "Ends with {{1}}, and a word" } },
      }),
      200,
    );
    expect(corrected).toMatchObject({
      status: "PENDING",
      meta_template_id: expect.any(String),
      rejection_reason: null,
    });
  });

  it("two crons at once hand it in once, and a crash in between leaves it to the next", async () => {
    const account = await withAccount();
    await sandbox.faults({ kind: "reset", on: "other", count: 1 });
    const made = await make(account);
    await Promise.all([later(), later(), later()]);
    const creations = (await sandbox.stats()).calls["templates.post"];
    expect(creations).toBe(2);
    expect(await atProvider(account)).toHaveLength(1);
    // As after a crash between the provider's answer and the row.
    await env.SHARD_0.prepare(
      "UPDATE templates SET meta_template_id = NULL, claim = 'crashed', due_at = ?2 WHERE workspace_id = ?1",
    )
      .bind(account.workspace.workspaceId, Date.now() + MINUTE)
      .run();
    await later();
    expect(await get(account, made.id)).toMatchObject({ meta_template_id: (await atProvider(account))[0]?.id });
  });

  it("a change or a deletion is refused, and nothing is different", async () => {
    const account = await withAccount();
    const made = await make(account);
    await sandbox.faults({ kind: "reset", on: "other" });
    const path = `${PATH}/${made.id}`;
    expect((await account.workspace.call("PATCH", path, { components: { body: { text: "New" } } })).status).toBe(502);
    expect((await account.workspace.call("PATCH", path, { status: "APPROVED" })).status).toBe(502);
    expect((await account.workspace.call("DELETE", path)).status).toBe(502);
    await sandbox.clearFaults();
    expect(await get(account, made.id)).toEqual(made);
    expect(await atProvider(account)).toHaveLength(1);
  });
});

describe("changing a template", () => {
  it("asks the provider, never believes the caller", async () => {
    const account = await withAccount();
    const made = await make(account);
    const path = `${PATH}/${made.id}`;
    const asked = await bodyOf(await account.workspace.call("PATCH", path, { status: "APPROVED" }), 200);
    expect(asked).toMatchObject({ status: "PENDING", status_note: expect.stringContaining("not APPROVED") });
    await sandbox.review(String(made.meta_template_id), "REJECTED", "SCAM");
    const after = await bodyOf(await account.workspace.call("PATCH", path, { status: "APPROVED" }), 200);
    expect(after).toMatchObject({ status: "REJECTED", provider_status: "REJECTED", rejection_reason: "SCAM" });
    await sandbox.review(String(made.meta_template_id), "APPROVED");
    const right = await bodyOf(await account.workspace.call("PATCH", path, { status: "APPROVED" }), 200);
    expect(right).toMatchObject({ status: "APPROVED", rejection_reason: null, status_note: null });
    expect(await bodyOf(await account.workspace.call("PATCH", path, {}), 200)).toMatchObject({ status: "APPROVED" });
  });

  it("hands an edit to the provider, which reviews it again; a refused one changes nothing", async () => {
    const account = await withAccount();
    const made = await approved(account);
    const path = `${PATH}/${made.id}`;
    const edited = await bodyOf(
      await account.workspace.call("PATCH", path, {
        components: { header: { text: "News" }, body: { text: "Hi {{1}}, there is news." } },
        category: "UTILITY",
      }),
      200,
    );
    expect(edited).toMatchObject({
      status: "PENDING",
      category: "UTILITY",
      components: { header: { format: "TEXT", text: "News" }, body: { text: "Hi {{1}}, there is news." } },
    });
    expect(edited.components).not.toHaveProperty("footer");
    expect(await atProvider(account)).toMatchObject([
      { status: "PENDING", components: [{ type: "HEADER" }, { type: "BODY", text: "Hi {{1}}, there is news." }] },
    ]);
    const refused = await bodyOf(
      await account.workspace.call("PATCH", path, { components: { body: { text: "{{1}}" } } }),
      400,
    );
    expect(refused).toMatchObject({ code: "provider_refused" });
    expect(await get(account, made.id)).toMatchObject({ components: edited.components, status: "PENDING" });
  });

  it("shows an edit whose check failed, and checks again by itself", async () => {
    const account = await withAccount();
    const made = await approved(account);
    await sandbox.faults({ kind: "reset", on: "other", skip: 1, count: 1 });
    const components = { body: { text: "Hi {{1}}, once more." } };
    const edited = await bodyOf(await account.workspace.call("PATCH", `${PATH}/${made.id}`, { components }), 200);
    expect(edited).toMatchObject({ components, status: "APPROVED" });
    await later();
    expect(await get(account, made.id)).toMatchObject({ components, status: "PENDING" });
  });

  it("says so when the provider does not have it any more; its name can be taken again", async () => {
    const account = await withAccount();
    const made = await make(account);
    await graph("DELETE", `/${account.businessId}/message_templates?name=welcome_message`, undefined, account.token);
    const gone = await bodyOf(await account.workspace.call("PATCH", `${PATH}/${made.id}`, { status: "PENDING" }), 200);
    expect(gone).toMatchObject({ status: "REJECTED", provider_status: "DELETED" });
    expect((await make(account)).id).toBe(made.id);
  });
});

describe("deleting a template", () => {
  it("takes one language away, at the provider too", async () => {
    const account = await withAccount();
    const english = await make(account);
    await make(account, { language: "de" });
    expect((await account.workspace.call("DELETE", `${PATH}/${english.id}`)).status).toBe(204);
    expect((await account.workspace.call("DELETE", `${PATH}/${english.id}`)).status).toBe(404);
    expect(await atProvider(account)).toMatchObject([{ language: "de" }]);
    expect(await list(account)).toMatchObject({ total: 1, data: [{ language: "de" }] });
  });

  it("works for one the provider has lost, and for one it took without our knowing", async () => {
    const account = await withAccount();
    const lost = await make(account);
    await graph("DELETE", `/${account.businessId}/message_templates?name=welcome_message`, undefined, account.token);
    expect((await account.workspace.call("DELETE", `${PATH}/${lost.id}`)).status).toBe(204);
    await sandbox.faults({ kind: "drop_after_accept", on: "other", count: 1 });
    const unheard = await make(account, { name: "unheard" });
    expect(unheard.meta_template_id).toBeNull();
    expect((await account.workspace.call("DELETE", `${PATH}/${unheard.id}`)).status).toBe(204);
    expect(await atProvider(account)).toEqual([]);
  });
});

describe("lists", () => {
  it("filter by number, status, category, name and language, newest first", async () => {
    const account = await withAccount();
    const second = await withAccount(account.workspace);
    const first = await approved(account, { name: "one", category: "UTILITY" });
    await make(account, { name: "two" });
    await make(account, { name: "two", language: "de" });
    await make(second, { name: "three" });
    const names = async (query: Record<string, string> = {}) => {
      const page = await list(account, query);
      expect(page).toMatchObject({ total: page.data.length });
      return page.data.map(({ name, language }) => `${name}/${language}`);
    };
    expect(await names()).toEqual(["three/en", "two/de", "two/en", "one/en"]);
    expect(await names({ phone_number_id: account.number.id })).toEqual(["two/de", "two/en", "one/en"]);
    expect(await names({ phone_number_id: second.number.providerNumberId })).toEqual(["three/en"]);
    expect(await names({ phone_number_id: "nobodys" })).toEqual([]);
    expect(await names({ status: "APPROVED" })).toEqual(["one/en"]);
    expect(await names({ category: "MARKETING", language: "de" })).toEqual(["two/de"]);
    expect(await names({ name: "two", status: "PENDING" })).toEqual(["two/de", "two/en"]);
    expect(first.status).toBe("APPROVED");
    for (const query of ["status=PAUSED", "category=marketing", "limit=0", "cursor=x"]) {
      const response = await account.workspace.call("GET", `${PATH}?${query}`);
      expect(response.status, query).toBe(422);
    }
  });

  it("page by cursor and by offset over the same rows", async () => {
    const account = await withAccount();
    for (const name of ["a1", "a2", "a3", "a4", "a5"]) await make(account, { name });
    const seen: unknown[] = [];
    let cursor: unknown = null;
    do {
      const page: Body = await list(account, { limit: "2", ...(typeof cursor === "string" ? { cursor } : {}) });
      expect(page.total).toBe(5);
      seen.push(...(page.data as Body[]).map(({ name }) => name));
      cursor = page.next_cursor;
    } while (cursor !== null);
    expect(seen).toEqual(["a5", "a4", "a3", "a2", "a1"]);
    expect((await list(account, { limit: "2", offset: "3" })).data.map(({ name }) => name)).toEqual(["a2", "a1"]);
  });
});

describe("sync", () => {
  const sync = async (account: Account) =>
    bodyOf(
      await account.workspace.call("POST", `${PATH}/sync`, {
        workspace_id: account.workspace.workspaceId,
        phone_number_id: account.number.id,
      }),
      200,
    );

  it("brings in every page of what the provider has, and what changed", async () => {
    const account = await withAccount();
    for (let n = 0; n < 60; n += 1) {
      await graph("POST", `/${account.businessId}/message_templates`, providerDraft(`t${n}`), account.token);
    }
    const made = await make(account);
    await sandbox.review(String(made.meta_template_id), "APPROVED");
    expect(await sync(account)).toEqual({
      phone_number_id: account.number.id,
      business_id: account.businessId,
      fetched: 61,
      created: 60,
      updated: 1,
      gone: 0,
      complete: true,
    });
    expect(await get(account, made.id)).toMatchObject({ status: "APPROVED", synced_at: expect.any(String) });
    expect(await list(account, { limit: "100" })).toMatchObject({ total: 61 });
    expect(await sync(account)).toMatchObject({ created: 0, updated: 61 });
    await graph("DELETE", `/${account.businessId}/message_templates?name=t7`, undefined, account.token);
    expect(await sync(account)).toMatchObject({ fetched: 60, gone: 1 });
    expect((await list(account, { name: "t7" })).data).toMatchObject([
      { status: "REJECTED", provider_status: "DELETED" },
    ]);
  });

  it("never brings a deleted one back, but takes a new one of the same name", async () => {
    const account = await withAccount();
    const made = await make(account);
    // Without a number nobody tells the provider: it goes on listing the template.
    await account.workspace.call("DELETE", `/api/phone-numbers/${account.number.id}`);
    expect((await account.workspace.call("DELETE", `${PATH}/${made.id}`)).status).toBe(204);
    const number = await registerNumber(account.workspace, {
      business_id: account.businessId,
      access_token: account.token,
    });
    const back = { ...account, number };
    expect(await atProvider(account)).toHaveLength(1);
    expect(await sync(back)).toMatchObject({ fetched: 1, created: 0, updated: 0 });
    expect(await list(back)).toMatchObject({ total: 0 });
    expect((await account.workspace.call("GET", `${PATH}/${made.id}`)).status).toBe(404);
    await graph("DELETE", `/${account.businessId}/message_templates?name=welcome_message`, undefined, account.token);
    await graph("POST", `/${account.businessId}/message_templates`, providerDraft("welcome_message"), account.token);
    await sync(back);
    expect((await list(back)).data).toMatchObject([{ name: "welcome_message", category: "UTILITY" }]);
  });

  it("keeps what came before the provider stopped answering, and marks nothing as gone", async () => {
    const account = await withAccount();
    const made = await make(account);
    for (let n = 0; n < 60; n += 1) {
      await graph("POST", `/${account.businessId}/message_templates`, providerDraft(`t${n}`), account.token);
    }
    await sandbox.faults({ kind: "reset", on: "other", skip: 1, count: 1 });
    expect(await sync(account)).toMatchObject({ fetched: 50, complete: false, gone: 0 });
    expect(await get(account, made.id)).toMatchObject({ status: "PENDING" });
    await sandbox.faults({ kind: "reset", on: "other" });
    const down = await account.workspace.call("POST", `${PATH}/sync`, { phone_number_id: account.number.id });
    expect(down.status).toBe(502);
  });
});

describe("a list that cannot be read whole", () => {
  it("tells what is there, and not what is gone", async () => {
    const account = await withAccount();
    const made = await make(account);
    const answer = {
      id: "77",
      name: "readable",
      language: "en",
      status: "APPROVED",
      category: "UTILITY",
      components: [],
    };
    const fetch = async () => Response.json({ data: [answer, { id: "78", surprise: true }] });
    const { workspaceId } = account.workspace;
    const membership = { workspaceId, shard: 0, plan: "pro", status: "active", role: null } as const;
    const rt = testRuntime({ fetch, clock: () => Date.now() + MINUTE });
    const scope = {
      rt,
      caller: { kind: "key" as const, memberships: [membership] as [typeof membership] },
      workspaceId,
      membership,
      db: shard(rt, 0),
    };
    expect(await syncTemplates(scope, account.number.id)).toMatchObject({
      fetched: 1,
      created: 1,
      gone: 0,
      complete: false,
    });
    expect(await get(account, made.id)).toMatchObject({ provider_status: "PENDING" });
  });
});

describe("preview", () => {
  it("shows the message as the person will read it", async () => {
    const account = await withAccount();
    const made = await make(account, {
      components: {
        header: { text: "Order {{1}}" },
        body: { text: "Hello {{1}}, {{2}} is yours." },
        buttons: [{ type: "URL", text: "Track", url: "https://example.com/t/{{1}}" }],
      },
    });
    const path = `${PATH}/${made.id}/preview`;
    const shown = await bodyOf(
      await account.workspace.call("POST", path, {
        components: { header: ["A-1"], body: ["Ana", "a parcel"], buttons: [{ type: "text", text: "abc" }] },
      }),
      200,
    );
    expect(shown).toEqual({
      header: { format: "TEXT", text: "Order A-1", media: null },
      body: "Hello Ana, a parcel is yours.",
      footer: null,
      buttons: [{ type: "URL", text: "Track", url: "https://example.com/t/abc" }],
      components: [
        { type: "header", parameters: [{ type: "text", text: "A-1" }] },
        {
          type: "body",
          parameters: [
            { type: "text", text: "Ana" },
            { type: "text", text: "a parcel" },
          ],
        },
        { type: "button", sub_type: "url", index: "0", parameters: [{ type: "text", text: "abc" }] },
      ],
    });
    const missing = await account.workspace.call("POST", path, { components: { header: ["A-1"], body: ["Ana"] } });
    expect(await refusedAt(missing)).toEqual(["body", "components", "body"]);
    expect(await bodyOf(await account.workspace.call("POST", path), 200)).toMatchObject({
      body: "Hello Sample 1, Sample 2 is yours.",
    });
  });
});

describe("who may what", () => {
  it("agents read, members manage, keys act as an admin", async () => {
    const account = await withAccount();
    const agent = await memberWithRole(account.workspace, "AGENT");
    const member = await memberWithRole(account.workspace, "MEMBER");
    expect((await agent.call("POST", PATH, welcome(account))).status).toBe(403);
    const made = await bodyOf(await member.call("POST", PATH, welcome(account)), 201);
    for (const caller of [agent.call, member.call, account.workspace.callWithKey]) {
      expect((await caller("GET", `${PATH}/${made.id}`)).status).toBe(200);
      expect((await caller("POST", `${PATH}/${made.id}/preview`)).status).toBe(200);
    }
    expect((await agent.call("PATCH", `${PATH}/${made.id}`, {})).status).toBe(403);
    expect((await agent.call("DELETE", `${PATH}/${made.id}`)).status).toBe(403);
    expect((await agent.call("POST", `${PATH}/sync`, {})).status).toBe(403);
    expect((await account.workspace.callWithKey("DELETE", `${PATH}/${made.id}`)).status).toBe(204);
  });

  it("another workspace finds nothing, even with a number of the same account", async () => {
    const account = await withAccount();
    const made = await make(account);
    const stranger = await newWorkspace();
    await registerNumber(stranger, { business_id: account.businessId, access_token: account.token });
    for (const [method, path, body] of [
      ["GET", `${PATH}/${made.id}`],
      ["PATCH", `${PATH}/${made.id}`, { status: "APPROVED" }],
      ["DELETE", `${PATH}/${made.id}`],
      ["POST", `${PATH}/${made.id}/preview`, {}],
    ] as const) {
      expect((await stranger.call(method, path, body)).status, `${method} ${path}`).toBe(404);
    }
    const theirs = await bodyOf(await stranger.call("GET", `${PATH}?workspace_id=${stranger.workspaceId}`), 200);
    expect(theirs).toMatchObject({ data: [], total: 0 });
    expect((await stranger.call("GET", `${PATH}?workspace_id=${account.workspace.workspaceId}`)).status).toBe(404);
    expect((await stranger.call("POST", PATH, welcome(account))).status).toBe(404);
    const ours = { ...welcome(account), workspace_id: stranger.workspaceId };
    expect(await refusedAt(await stranger.call("POST", PATH, ours))).toEqual(["body", "phone_number_id"]);
  });
});

it("a page of a long list reads few rows", async () => {
  const account = await withAccount();
  await make(account, { name: "real" });
  await env.SHARD_0.prepare(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
     INSERT INTO templates (workspace_id, id, phone_number_id, business_id, name, language, category, parameter_format, components,
       status, attempts, created_at, updated_at)
     SELECT ?1, printf('01900000-0000-7000-8000-%012x', i), ?2, ?3, 'seed_' || i, 'en', 'UTILITY', 'POSITIONAL', '{}', 'APPROVED', 0, 0, 0 FROM n`,
  )
    .bind(account.workspace.workspaceId, account.number.id, account.businessId)
    .run();
  const db = shard(createRuntime(env), 0);
  const page = await pageTemplates(db, account.workspace.workspaceId, {}, { limit: 20, offset: 0 });
  expect(page).toMatchObject({ total: 1001, rows: { length: 20 } });
  expect(db.cost.rowsRead).toBeLessThanOrEqual(70);
});
