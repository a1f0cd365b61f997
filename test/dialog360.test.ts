import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it } from "vitest";
import { webhookSecret } from "../src/phone-numbers/service-webhook";
import { createRuntime, type Runtime } from "../src/platform/runtime";
import { dialog360Provider } from "../src/providers/dialog360";
import { parseMetaWebhook } from "../src/providers/meta-webhook";
import type { Connection, SendRequest } from "../src/providers/provider";
import { parseWebhook, splitWebhook } from "../src/providers/webhooks";
import { type Connected, connect, registrationOf } from "./support/connections";
import { newWorkspace } from "./support/identity";
import { inboxOf, says } from "./support/inbox";
import { freshProviderNumberId } from "./support/numbers";
import { eventually } from "./support/pipeline";
import { sandbox } from "./support/sandbox";

type Json = Record<string, unknown>;

const KEY = "d360-secret-key-0123456789";
const connection: Connection = {
  provider: "360dialog",
  providerNumberId: "106540352242922",
  businessId: "102290129340398",
  accessToken: KEY,
  phoneNumber: "+15550783881",
};
const text: SendRequest = {
  callbackId: "0197-message.1",
  recipient: { phone: "16505551234", userId: null },
  type: "text",
  content: { body: "Hello" },
  replyTo: null,
};

interface Call {
  method: string;
  url: string;
  headers: Headers;
  body: unknown;
}

function fake(answer: (call: Call) => Response) {
  const calls: Call[] = [];
  const fetch: Runtime["fetch"] = async (input, init) => {
    const body = typeof init?.body === "string" ? JSON.parse(init.body) : undefined;
    const call = { method: init?.method ?? "GET", url: String(input), headers: new Headers(init?.headers), body };
    calls.push(call);
    return answer(call);
  };
  return { provider: dialog360Provider(createRuntime(env, { fetch })), calls };
}

const json = (body: unknown, status = 200, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), { status, headers });
const legacyError = (developer_message: string, http_code: number) =>
  json({ meta: { success: false, http_code, developer_message, "360dialog_trace_id": "t" } }, http_code);

afterEach(() => sandbox.clearFaults());

describe("a send", () => {
  it("is Meta's body at 360dialog's host, with the key in its own header and no number in the path", async () => {
    const { provider, calls } = fake(() => json({ messages: [{ id: "wamid.OK" }] }));
    expect(await provider.send(connection, text)).toMatchObject({ kind: "sent", waMessageId: "wamid.OK" });
    expect(calls[0]?.url).toBe("https://waba-v2.360dialog.io/messages");
    expect(calls[0]?.headers.get("d360-api-key")).toBe(KEY);
    expect(calls[0]?.headers.get("authorization")).toBeNull();
    expect(calls[0]?.body).toMatchObject({ messaging_product: "whatsapp", to: "16505551234", text: { body: "Hello" } });
  });

  it.each<[string, () => Response, Json]>([
    ["a wrong key", () => legacyError("Invalid api_key", 401), { kind: "blocked", scope: "number" }],
    ["a blocked endpoint", () => legacyError("The endpoint is blocked", 403), { kind: "blocked", scope: "number" }],
    [
      "a rate, which is a 400 there",
      () => legacyError("You have exceeded the endpoint rate limit.", 400),
      { kind: "transient", throttled: true },
    ],
    ["a rate as others tell it", () => json({}, 429, { "Retry-After": "3" }), { kind: "transient", retryAfter: 3_000 }],
    [
      "a disabled account",
      () => json({ error: "Your WhatsApp for Business API has been disabled" }, 400),
      { kind: "blocked", scope: "account" },
    ],
    [
      "something else",
      () => json({ detail: "No such thing" }, 404),
      { kind: "permanent", error: { title: "No such thing" } },
    ],
    [
      "nobody behind it",
      () => new Response("WhatsApp for Business API not available", { status: 502 }),
      { kind: "ambiguous" },
    ],
    [
      "Meta's own refusal",
      () => json({ error: { code: 131026, message: "Undeliverable" } }, 400),
      { kind: "permanent", error: { code: 131026 } },
    ],
  ])("answered with %s is told apart", async (_what, answer, outcome) => {
    expect(await fake(answer).provider.send(connection, text)).toMatchObject(outcome);
  });

  it("never shows the key where an error repeats it", async () => {
    const { provider } = fake(() => legacyError(`Invalid api_key ${KEY}`, 401));
    expect(JSON.stringify(await provider.send(connection, text))).not.toContain(KEY);
    expect(JSON.stringify(await provider.setAbout(connection, "x"))).not.toContain(KEY);
  });
});

describe("a file", () => {
  const link = "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1&ext=2&hash=3";

  it("is read at 360dialog's host instead of Meta's, path and query as they are", async () => {
    const { provider, calls } = fake(() => new Response("bytes"));
    expect(await provider.downloadMedia(connection, link, 1_000)).toMatchObject({ kind: "ok" });
    expect(calls[0]?.url).toBe("https://waba-v2.360dialog.io/whatsapp_business/attachments/?mid=1&ext=2&hash=3");
    expect(calls[0]?.headers.get("d360-api-key")).toBe(KEY);
  });

  it("is not read anywhere else", async () => {
    const { provider, calls } = fake(() => new Response("bytes"));
    for (const foreign of [
      "https://evil.example/whatsapp_business/attachments/",
      "http://lookaside.fbsbx.com/x",
      "nothing",
    ]) {
      expect(await provider.downloadMedia(connection, foreign, 1_000)).toMatchObject({ kind: "failed" });
    }
    expect(calls).toEqual([]);
  });
});

describe("registering", () => {
  const register = async (body: Json) => {
    const workspace = await newWorkspace();
    return workspace.call("POST", "/api/phone-numbers", { workspace_id: workspace.workspaceId, ...body });
  };

  it("needs the number, which 360dialog does not tell, and learns the rest of the key", async () => {
    const digits = freshProviderNumberId();
    const { phone_number: _left, ...without } = registrationOf("360dialog", digits);
    const refused = await register(without);
    expect(refused.status).toBe(422);
    expect(await refused.json()).toMatchObject({ detail: [{ loc: ["body", "phone_number"] }] });
    const { number } = await connect("360dialog");
    expect(number).toMatchObject({
      provider: "360dialog",
      business_id: expect.stringMatching(/^\d+$/),
      status: "active",
    });
  });

  it("refuses an id that is not the one of the key, and what belongs to other providers", async () => {
    const body = registrationOf("360dialog", freshProviderNumberId());
    const refusals: [Json, string][] = [
      [{ ...body, phone_number_id: "999999999" }, "phone_number_id"],
      [{ ...body, base_url: "https://abc12.api.infobip.com" }, "base_url"],
      [{ ...body, app_secret: "secret" }, "app_secret"],
      [{ ...registrationOf("infobip", "12025550100"), base_url: "https://evil.example" }, "base_url"],
      [{ ...registrationOf("infobip", "12025550100"), phone_number_id: "12025550101" }, "phone_number_id"],
      [{ provider: "infobip", access_token: "k" }, "phone_number"],
      [{ provider: "meta", access_token: "k" }, "phone_number_id"],
    ];
    for (const [given, field] of refusals) {
      const response = await register(given);
      expect(response.status, field).toBe(422);
      expect(await response.json(), field).toMatchObject({ detail: [{ loc: ["body", field] }] });
    }
  });

  it("keeps at a sync what webhooks told of quality and limits: 360dialog tells only the state", async () => {
    const { workspace, number } = await connect("360dialog");
    await env.SHARD_0.prepare(
      "UPDATE phone_numbers SET quality_rating = 'YELLOW', message_limit = 10000, tier = 'HIGH', verified_name = 'Shop' WHERE id = ?1",
    )
      .bind(number.id)
      .run();
    await sandbox.number(number.phone_number_id, { status: "BANNED" });
    const synced = await workspace.call("POST", `/api/phone-numbers/${number.id}/sync`);
    expect(await synced.json()).toMatchObject({
      quality_rating: "YELLOW",
      message_limit: 10_000,
      tier: "HIGH",
      verified_name: "Shop",
      provider_status: "BLOCKED",
      status: "disabled",
    });
  });

  it("takes a new key only for the same number", async () => {
    const { workspace, number } = await connect("360dialog");
    const path = `/api/phone-numbers/${number.id}`;
    const other = await workspace.call("PATCH", path, { access_token: `d360-${freshProviderNumberId()}` });
    expect(other.status).toBe(422);
    const same = await workspace.call("PATCH", path, { access_token: `new-d360-${number.phone_number_id}` });
    expect(same.status).toBe(200);
  });

  it("tells where the provider refuses the webhook, and asks again when it is told to", async () => {
    const workspace = await newWorkspace();
    const digits = freshProviderNumberId();
    // The number is described; the webhook is not configured.
    await sandbox.faults({ kind: "error", code: 131009, on: "other", phone_number_id: digits, skip: 1, count: 1 });
    const response = await workspace.call("POST", "/api/phone-numbers", {
      workspace_id: workspace.workspaceId,
      ...registrationOf("360dialog", digits),
    });
    expect(response.status).toBe(201);
    const number = await response.json<Connected>();
    expect(number.subscription).toMatchObject({ subscribed: false, reason: expect.any(String) });
    const again = await workspace.call("POST", `/api/phone-numbers/${number.id}/webhook`);
    expect(again.status).toBe(200);
    // With what it takes to enter it by hand: that very secret is the one that is taken.
    const secret = await webhookSecret(createRuntime(env), number.id, 1);
    expect(await again.json()).toMatchObject({
      id: number.id,
      subscription: { subscribed: true, reason: null },
      webhook: { url: number.webhook_url, header: "X-Webhook-Secret", username: number.id, secret },
    });
    expect(JSON.stringify(number)).not.toContain(secret);
  });
});

describe("webhooks", () => {
  const legacy = (from: string) => ({
    contacts: [{ profile: { name: "Sojan Jose" }, wa_id: from }],
    messages: [
      { from, id: `wamid.legacy-${from}`, text: { body: "Test message" }, timestamp: "1633034394", type: "text" },
    ],
  });

  it("of the legacy API, which have no envelope, say what modern ones say", async () => {
    const { workspace, number } = await connect("360dialog");
    const secret = await webhookSecret(createRuntime(env), number.id, 1);
    const path = `/webhooks/360dialog/${number.id}`;
    const headers = { "X-Webhook-Secret": secret };
    const modern = says(
      { providerNumberId: number.phone_number_id, businessId: number.business_id, phoneNumber: number.phone_number },
      { wa: "12025550161", name: "Ana" },
      "Modern",
    );
    for (const body of [legacy("12025550160"), modern]) {
      expect(await sandbox.sendWebhook({ path, headers, body, sign: false })).toMatchObject({ status: 200 });
    }
    const inbox = inboxOf(workspace.workspaceId);
    await eventually(async () => expect(await inbox.messages()).toHaveLength(2));
    expect((await inbox.contacts()).map((contact) => contact.name).sort()).toEqual(["Ana", "Sojan Jose"]);
    const statuses = {
      statuses: [{ id: "wamid.elsewhere", status: "read", timestamp: "1633034400", recipient_id: "1" }],
    };
    await sandbox.sendWebhook({ path, headers, body: statuses, sign: false });
    await eventually(async () => expect(await inbox.references()).toMatchObject([{ kind: "status" }]));
    // Meta's signature proves nothing here, and nor does nothing.
    expect(await sandbox.sendWebhook({ path, body: modern })).toMatchObject({ status: 401 });
  });

  it("that name another number than the connection's are unknown", async () => {
    const { workspace, number } = await connect("360dialog");
    const secret = await webhookSecret(createRuntime(env), number.id, 1);
    const body = says(
      { providerNumberId: "999", businessId: "1", phoneNumber: "+999" },
      { wa: "12025550162" },
      "Not yours",
    );
    const path = `/webhooks/360dialog/${number.id}`;
    await sandbox.sendWebhook({ path, headers: { "X-Webhook-Secret": secret }, body, sign: false });
    const inbox = inboxOf(workspace.workspaceId);
    await eventually(async () => expect(await inbox.events()).toMatchObject([{ kind: "unknown" }]));
    expect(await inbox.messages()).toEqual([]);
  });

  it("that are large are cut into parts, legacy ones too", () => {
    const messages = Array.from({ length: 60 }, (_, n) => ({
      from: `1202555${String(n).padStart(4, "0")}`,
      id: `wamid.${n}`,
      timestamp: "1633034394",
      type: "text",
      text: { body: "x".repeat(100) },
    }));
    const parts = splitWebhook("360dialog", JSON.stringify({ messages }), 3_000);
    expect(parts.length).toBeGreaterThan(2);
    const events = parts.flatMap(({ text: part, firstPosition }) =>
      parseWebhook("360dialog", JSON.parse(part), { receivedAt: 0, firstPosition }),
    );
    const value = { messages };
    expect(events).toEqual(parseMetaWebhook({ entry: [{ changes: [{ field: "messages", value }] }] }));
    expect(events).toHaveLength(60);
  });
});

describe("templates", () => {
  it("are not edited, and not deleted where that would take other languages", async () => {
    const template = { name: "visit", status: "approved", category: "UTILITY", components: [] };
    const waba_templates = [
      { ...template, id: "a", external_id: "11", language: "en" },
      { ...template, id: "b", external_id: "12", language: "de" },
    ];
    const { provider, calls } = fake(() => json({ waba_templates, total: 2 }));
    expect(await provider.editTemplate(connection, "11", {})).toMatchObject({ ok: false, refused: true });
    expect(await provider.deleteTemplate(connection, { id: "11", name: "visit" })).toMatchObject({
      ok: false,
      refused: true,
      error: { code: "provider_limit" },
    });
    expect(calls.map(({ method }) => method)).toEqual(["GET"]);
    // Named by Meta's id, as webhooks name them, and in Meta's words.
    expect(await provider.getTemplate(connection, "12")).toMatchObject({
      ok: true,
      value: { id: "12", language: "de", status: "APPROVED" },
    });
    expect(await provider.getTemplate(connection, "13")).toMatchObject({ ok: false, refused: true });
  });
});
