import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { shard } from "../src/platform/runtime";
import { pausedOrRejected, templateContent, templateForSend } from "../src/templates/service";
import { graph } from "./support/graph";
import { memberWithRole, newWorkspace, testRuntime } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { messageRow, untilStatus } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { type Account, approved, type Body, bodyOf, make, refusedAt, withAccount } from "./support/templates";

beforeEach(async () => {
  await sandbox.reset();
});

const TO = "+12025550123";

const send = (account: Account, body: Body = {}, headers: Record<string, string> = {}) =>
  account.workspace.call(
    "POST",
    "/api/messages/send/template",
    {
      workspace_id: account.workspace.workspaceId,
      phone_number_id: account.number.id,
      to: TO,
      template_name: "welcome_message",
      template_language: "en",
      components: { body: [{ type: "text", text: "John" }] },
      ...body,
    },
    headers,
  );

const callsOf = async (kind: string) => (await sandbox.stats()).calls[kind] ?? 0;

describe("sending a template", () => {
  it("as documented: the provider gets its own form, the thread the text", async () => {
    const account = await withAccount();
    await approved(account);
    const sent = await bodyOf(await send(account), 201);
    expect(sent).toMatchObject({
      workspace_id: account.workspace.workspaceId,
      phone_number_id: account.number.id,
      to_number: TO,
      type: "template",
      status: "queued",
      content: { name: "welcome_message", language: { code: "en" }, text: "Hello John, welcome to our service!" },
    });
    const row = await untilStatus(String(sent.id), account.workspace.workspaceId, "sent", "failed");
    expect(row).toMatchObject({ status: "sent", category: "marketing", error: null });
    const { data } = await sandbox.accepted({ phone_number_id: account.number.providerNumberId });
    expect(data.map(({ body }) => body.template)).toEqual([
      {
        name: "welcome_message",
        language: { code: "en" },
        components: [{ type: "body", parameters: [{ type: "text", text: "John" }] }],
      },
    ]);
    const thread = await account.workspace.call("GET", `/api/conversations/${sent.conversation_id}`);
    expect(await thread.json()).toMatchObject({ last_message: { preview: "Hello John, welcome to our service!" } });
  });

  it("in every form the sandbox, which checks as Meta does, takes", async () => {
    const account = await withAccount();
    await approved(account, {
      name: "everything",
      components: {
        header: { format: "IMAGE", example: { header_handle: ["h"] } },
        body: { text: "Dear {{first_name}}, see {{order_id}} here." },
        footer: { text: "Bye" },
        buttons: [
          { type: "QUICK_REPLY", text: "Yes" },
          { type: "URL", text: "Track", url: "https://example.com/t/{{1}}" },
          { type: "COPY_CODE" },
        ],
      },
    });
    const image = { link: "https://example.com/a.png" };
    const forms: unknown[] = [
      {
        header: [{ type: "image", image }],
        body: [
          { type: "text", parameter_name: "order_id", text: "A-1" },
          { type: "text", parameter_name: "first_name", text: "Ana" },
        ],
        buttons: [
          { type: "payload", payload: "YES" },
          { type: "text", text: "abc" },
          { type: "coupon_code", coupon_code: "SALE10" },
        ],
      },
      [
        { type: "header", parameters: [{ type: "image", image }] },
        {
          type: "body",
          parameters: [
            { type: "text", parameter_name: "first_name", text: "Ana" },
            { type: "text", parameter_name: "order_id", text: "A-1" },
          ],
        },
        { type: "button", sub_type: "quick_reply", index: "0", parameters: [{ type: "payload", payload: "YES" }] },
        { type: "button", sub_type: "url", index: 1, parameters: [{ type: "text", text: "abc" }] },
        {
          type: "button",
          sub_type: "copy_code",
          index: "2",
          parameters: [{ type: "coupon_code", coupon_code: "SALE10" }],
        },
      ],
    ];
    for (const components of forms) {
      const sent = await bodyOf(await send(account, { template_name: "everything", components }), 201);
      const row = await untilStatus(String(sent.id), account.workspace.workspaceId, "sent", "failed");
      expect(row.status, String(row.error)).toBe("sent");
    }
    const { data } = await sandbox.accepted({ phone_number_id: account.number.providerNumberId });
    expect(data).toHaveLength(2);
    expect(data[0]?.body.template).toEqual(data[1]?.body.template);
  });

  it("of authentication carries the code twice and waits ten minutes at the most", async () => {
    const account = await withAccount();
    await approved(account, {
      name: "login_code",
      category: "AUTHENTICATION",
      components: { body: { add_security_recommendation: true }, buttons: [{ type: "OTP", otp_type: "COPY_CODE" }] },
    });
    const sent = await bodyOf(
      await send(account, { template_name: "login_code", components: { body: [{ type: "text", text: "4711" }] } }),
      201,
    );
    const row = await untilStatus(String(sent.id), account.workspace.workspaceId, "sent", "failed");
    expect(row).toMatchObject({ status: "sent", category: "authentication" });
    expect(Number(row.expires_at) - Number(row.created_at)).toBe(600_000);
    const { data } = await sandbox.accepted({ phone_number_id: account.number.providerNumberId });
    expect(data[0]?.body.template).toMatchObject({
      components: [
        { type: "body", parameters: [{ type: "text", text: "4711" }] },
        { type: "button", sub_type: "url", index: "0", parameters: [{ type: "text", text: "4711" }] },
      ],
    });
  });

  it("leaves a file of ours to be uploaded when it is sent", async () => {
    const account = await withAccount();
    const media_id = "01900000-0000-7000-8000-000000000001";
    const template = await approved(account, {
      name: "pictured",
      components: { header: { format: "IMAGE", example: { header_handle: ["h"] } }, body: { text: "Look" } },
    });
    const db = shard(testRuntime(), 0);
    const stored = await templateForSend(testRuntime(), db, account.number, "pictured", "en");
    expect(stored?.id).toBe(template.id);
    const filling = stored && templateContent(stored, { header: [{ type: "image", image: { media_id } }] });
    expect(filling).toMatchObject({
      ok: true,
      content: { components: [{ type: "header", parameters: [{ type: "image", image: { media_id } }] }] },
    });
  });

  it("takes a key, a date and a conversation as every send does", async () => {
    const account = await withAccount();
    const template = await approved(account);
    const key = { "Idempotency-Key": crypto.randomUUID() };
    const first = await bodyOf(await send(account, {}, key), 201);
    const again = await send(account, {}, key);
    expect(again.headers.get("Idempotency-Replayed")).toBe("true");
    expect(await bodyOf(again, 201)).toMatchObject({ id: first.id });
    expect((await send(account, { components: { body: ["Jane"] } }, key)).status).toBe(409);
    await sandbox.review(String(template.meta_template_id), "PAUSED");
    await account.workspace.call("PATCH", `/api/templates/${template.id}`, {});
    expect((await send(account)).status).toBe(422);
    expect(await bodyOf(await send(account, {}, key), 201)).toMatchObject({ id: first.id, content: first.content });
    await sandbox.review(String(template.meta_template_id), "APPROVED");
    await account.workspace.call("PATCH", `/api/templates/${template.id}`, {});
    const inThread = { to: undefined, phone_number_id: undefined, conversation_id: first.conversation_id };
    expect(await bodyOf(await send(account, inThread), 201)).toMatchObject({ conversation_id: first.conversation_id });
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
    expect(await bodyOf(await send(account, { scheduled_at: tomorrow }), 201)).toMatchObject({ status: "scheduled" });
    const agent = await memberWithRole(account.workspace, "AGENT");
    const byAgent = await agent.call("POST", "/api/messages/send/template", {
      to: TO,
      template_name: "welcome_message",
      template_language: "en",
      components: { body: ["Jo"] },
    });
    expect(byAgent.status).toBe(201);
  });
});

describe("before anything is sent", () => {
  it("the field that does not fit the template is named", async () => {
    const account = await withAccount();
    await approved(account);
    const wrong: [Body, (string | number)[]][] = [
      [{ components: undefined }, ["components"]],
      [{ components: { body: [] } }, ["components", "body"]],
      [{ components: { body: ["a", "b"] } }, ["components", "body", 1]],
      [
        { components: { body: [{ type: "image", image: { link: "https://a.b/c.png" } }] } },
        ["components", "body", 0, "type"],
      ],
      [{ components: { body: ["a"], header: ["b"] } }, ["components", "header", 0]],
      [{ components: "John" }, ["components"]],
      [{ template_name: "" }, ["template_name"]],
      [{ template_language: undefined }, ["template_language"]],
      [{ phone_number_id: "01900000-0000-7000-8000-000000000000" }, ["phone_number_id"]],
      [{ to: "12025550123" }, ["to"]],
    ];
    for (const [body, loc] of wrong) {
      expect(await refusedAt(await send(account, body)), JSON.stringify(body)).toEqual(["body", ...loc]);
    }
    const strange = { to: undefined, conversation_id: "01900000-0000-7000-8000-000000000000" };
    expect((await send(account, strange)).status).toBe(404);
    const rows = env.SHARD_0.prepare("SELECT count(*) AS n FROM messages WHERE workspace_id = ?1");
    expect(await rows.bind(account.workspace.workspaceId).first("n")).toBe(0);
  });

  it("a template that is not approved is refused with the provider's word", async () => {
    const account = await withAccount();
    const made = await make(account);
    const refusal = async () => {
      const body = await bodyOf(await send(account), 422);
      return (body.detail as { loc: unknown[]; msg: string }[])[0];
    };
    expect(await refusal()).toMatchObject({
      loc: ["body", "template_name"],
      msg: "The template is not approved: PENDING",
    });
    for (const word of ["REJECTED", "PAUSED", "DISABLED"]) {
      await sandbox.review(String(made.meta_template_id), word);
      await account.workspace.call("PATCH", `/api/templates/${made.id}`, {});
      expect((await refusal())?.msg).toContain(word);
    }
    expect(await callsOf("message.post")).toBe(0);
  });

  it("marketing is refused to who opted out of it; other templates go", async () => {
    const account = await withAccount();
    await approved(account);
    await approved(account, { name: "receipt", category: "UTILITY" });
    const first = await bodyOf(await send(account), 201);
    await untilStatus(String(first.id), account.workspace.workspaceId, "sent");
    await env.SHARD_0.prepare("UPDATE contacts SET opted_in = 0, opted_out_at = ?2 WHERE workspace_id = ?1")
      .bind(account.workspace.workspaceId, Date.now())
      .run();
    expect(await bodyOf(await send(account), 409)).toMatchObject({ detail: "The contact opted out of marketing" });
    expect((await send(account, { template_name: "receipt" })).status).toBe(201);
  });
});

describe("a template that is not known here", () => {
  const draft = {
    name: "made_there",
    category: "UTILITY",
    components: [{ type: "BODY", text: "Made at the provider" }],
  };
  const ask = { template_name: "made_there", components: undefined };

  it("is asked for once, kept, and sent", async () => {
    const account = await withAccount();
    for (const language of ["en", "de"]) {
      const { body } = await graph(
        "POST",
        `/${account.businessId}/message_templates`,
        { ...draft, language },
        account.token,
      );
      await sandbox.review(String(body.id), "APPROVED");
    }
    const sent = await bodyOf(await send(account, ask), 201);
    expect((await untilStatus(String(sent.id), account.workspace.workspaceId, "sent", "failed")).status).toBe("sent");
    expect(await messageRow(String(sent.id), account.workspace.workspaceId)).toMatchObject({ category: "utility" });
    expect((await send(account, { ...ask, template_language: "de" })).status).toBe(201);
    expect(await callsOf("templates.get")).toBe(1);
    const page = await bodyOf(await account.workspace.call("GET", "/api/templates"), 200);
    expect(page).toMatchObject({ total: 2 });
  });

  it("and not at the provider either is refused; one deleted here stays deleted", async () => {
    const account = await withAccount();
    expect(await refusedAt(await send(account, { template_name: "nobodys" }))).toEqual(["body", "template_name"]);
    expect(await callsOf("templates.get")).toBe(1);
    const made = await approved(account);
    await account.workspace.call("DELETE", `/api/phone-numbers/${account.number.id}`);
    await account.workspace.call("DELETE", `/api/templates/${made.id}`);
    const number = await registerNumber(account.workspace, {
      business_id: account.businessId,
      access_token: account.token,
    });
    expect(await refusedAt(await send({ ...account, number }))).toEqual(["body", "template_name"]);
  });

  it("cannot be said when the provider does not answer", async () => {
    const account = await withAccount();
    await sandbox.faults({ kind: "reset", on: "other" });
    const response = await send(account, { template_name: "nobodys" });
    expect(response.status).toBe(503);
    expect(response.headers.get("Retry-After")).toBe("10");
  });

  it("is no other workspace's", async () => {
    const account = await withAccount();
    await approved(account);
    const stranger = await withAccount();
    expect(await refusedAt(await send(stranger))).toEqual(["body", "template_name"]);
    const visitor = await newWorkspace();
    const response = await visitor.call("POST", "/api/messages/send/template", {
      workspace_id: account.workspace.workspaceId,
      to: TO,
      template_name: "welcome_message",
      template_language: "en",
    });
    expect(response.status).toBe(404);
  });
});

it("campaigns learn which templates cannot be sent any more, and why", async () => {
  const account = await withAccount();
  const good = await approved(account);
  const paused = await approved(account, { name: "paused" });
  const deleted = await approved(account, { name: "deleted" });
  await sandbox.review(String(paused.meta_template_id), "PAUSED", "FIRST_PAUSE");
  await account.workspace.call("PATCH", `/api/templates/${paused.id}`, {});
  await account.workspace.call("DELETE", `/api/templates/${deleted.id}`);
  const { workspaceId } = account.workspace;
  const ids = [good.id, paused.id, deleted.id, crypto.randomUUID()].map((id) => ({ workspaceId, id: String(id) }));
  const found = await pausedOrRejected(shard(testRuntime(), 0), ids);
  expect(Object.fromEntries(found)).toEqual({
    [String(paused.id)]: "The template is not approved: PAUSED",
    [String(deleted.id)]: "The template was deleted",
    [String(ids[3]?.id)]: "The template was deleted",
  });
  const other = await newWorkspace();
  const foreign = await pausedOrRejected(shard(testRuntime(), 0), [
    { workspaceId: other.workspaceId, id: String(good.id) },
  ]);
  expect(foreign.get(String(good.id))).toBe("The template was deleted");
});
