import { createMessageBatch } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it } from "vitest";
import { consume } from "../src/consumer";
import { verifyWebhookSecret, webhookSecret } from "../src/phone-numbers/service-webhook";
import { selectNumberByAnyId } from "../src/phone-numbers/store";
import { createRuntime, type Runtime, shard } from "../src/platform/runtime";
import { infobipProvider } from "../src/providers/infobip";
import { infobipBase } from "../src/providers/infobip-http";
import { parseInfobipWebhook } from "../src/providers/infobip-webhook";
import type { Connection, SendRequest } from "../src/providers/provider";
import { splitWebhook } from "../src/providers/webhooks";
import index from "./fixtures/webhooks/index.json";
import stored from "./fixtures/webhooks/infobip-stored.json";
import { connect } from "./support/connections";
import { crashingRun } from "./support/crash";
import { newWorkspace } from "./support/identity";
import { expectExactCounts, inboxOf, request } from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, eventually, heldQueues, untilStatus } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { newPerson, World } from "./support/world";

type Json = Record<string, unknown>;

afterEach(() => sandbox.clearFaults());

const NOW = Date.UTC(2026, 5, 1, 12, 0, 0);
const KEY = "ib-secret-0123456789";
const connection: Connection = {
  provider: "infobip",
  providerNumberId: "441134960000",
  businessId: "441134960000",
  accessToken: KEY,
  apiBase: "https://abc12.api.infobip.com",
};
const text: SendRequest = {
  callbackId: "0197aaaa-bbbb-7ccc-8ddd-eeeeffff0001.1",
  recipient: { phone: "441134960001", userId: null },
  type: "text",
  content: { body: "Hello", preview_url: true },
  replyTo: "wamid.THEIRS",
};

interface Call {
  method: string;
  url: string;
  headers: Headers;
  body: unknown;
}

function fake(answer: (call: Call) => Response, settings: Json = {}) {
  const calls: Call[] = [];
  const fetch: Runtime["fetch"] = async (input, init) => {
    const body = typeof init?.body === "string" ? JSON.parse(init.body) : undefined;
    const call = { method: init?.method ?? "GET", url: String(input), headers: new Headers(init?.headers), body };
    calls.push(call);
    return answer(call);
  };
  const rt = createRuntime({ ...env, ...settings } as Env, { fetch, clock: () => NOW });
  return { provider: infobipProvider(rt), calls };
}

const json = (body: unknown, status = 200, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), { status, headers });
const answered = (id: number, groupId: number, name = "NAME") =>
  json({
    to: "441134960001",
    messageCount: 1,
    messageId: "the-id",
    status: { id, groupId, name, description: "Said" },
  });
const serviceException = (messageId: string, said: Json = {}) => ({
  requestError: { serviceException: { messageId, text: "Said", ...said } },
});

describe("a send", () => {
  it("goes to the account's own address, with the key in the header only, under an id of ours", async () => {
    const { provider, calls } = fake(() => answered(7, 1));
    expect(await provider.send(connection, text)).toEqual({
      kind: "sent",
      waMessageId: "the-id",
      waId: null,
      userId: null,
      held: false,
    });
    const [call] = calls;
    expect(call?.url).toBe("https://abc12.api.infobip.com/whatsapp/1/message/text");
    expect(call?.headers.get("authorization")).toBe(`App ${KEY}`);
    expect(call?.body).toEqual({
      from: "441134960000",
      to: "441134960001",
      messageId: text.callbackId,
      callbackData: text.callbackId,
      content: { text: "Hello", previewUrl: true },
      context: { replyToMessageId: "wamid.THEIRS" },
    });
  });

  it("never carries the key to another host than Infobip's", () => {
    for (const good of ["https://api.infobip.com", "https://abc12.api.infobip.com/", "abc12.api.infobip.com"]) {
      expect(infobipBase(good), good).toMatch(/^https:\/\/(abc12\.)?api\.infobip\.com$/);
    }
    for (const bad of [
      "http://abc12.api.infobip.com",
      "https://api.infobip.com.evil.example",
      "https://evil.example/api.infobip.com",
      "https://api.infobip.com:8443",
      "https://user@evil.example",
      "https://127.0.0.1",
    ]) {
      expect(infobipBase(bad), bad).toBeNull();
    }
  });

  it("to somebody known by a user id names that, and a contact card is in their words", async () => {
    const { provider, calls } = fake(() => answered(7, 1));
    const card = {
      name: { formatted_name: "Ana Silva" },
      phones: [{ phone: "+551199990000", type: "Cell", wa_id: "551199990000" }],
      addresses: [{ city: "Rio", country_code: "br", type: "home" }],
    };
    const recipient = { phone: null, userId: "US.1349120865530274191" };
    await provider.send(connection, {
      ...text,
      recipient,
      replyTo: null,
      type: "contacts",
      content: { contacts: [card] },
    });
    expect(calls[0]?.body).toMatchObject({
      to: "US.1349120865530274191",
      content: {
        contacts: [
          {
            name: { firstName: "Ana Silva", formattedName: "Ana Silva" },
            phones: [{ phone: "+551199990000", type: "CELL", waId: "551199990000" }],
            addresses: [{ city: "Rio", countryCode: "br", type: "HOME" }],
          },
        ],
      },
    });
  });

  it.each<[string, number, number, string]>([
    ["delivered at once", 5, 3, "sent"],
    ["pending", 26, 1, "sent"],
    ["a duplicate of ours", 23, 5, "sent"],
    ["not on WhatsApp", 18, 5, "permanent"],
    ["an unknown rejection", 4711, 5, "permanent"],
    ["undeliverable", 9, 2, "permanent"],
    ["no credits", 12, 5, "blocked"],
    ["the sender", 13, 5, "blocked"],
    ["flooding", 20, 5, "transient"],
    ["their system", 21, 5, "transient"],
  ])("answered 200 with %s is what the status says", async (_what, id, groupId, kind) => {
    const outcome = await fake(() => answered(id, groupId)).provider.send(connection, text);
    expect(outcome.kind).toBe(kind);
  });

  it.each<[number, unknown, Json]>([
    [
      400,
      serviceException("BAD_REQUEST", { validationErrors: { "content.text": ["too long"] } }),
      {
        kind: "permanent",
        error: { code: "BAD_REQUEST", title: "Said", details: "content.text: too long", retryable: false },
      },
    ],
    [
      400,
      { errorCode: "E400", description: "Bad", violations: [{ property: "to", violation: "missing" }] },
      {
        kind: "permanent",
        error: { code: "E400", title: "Bad", details: "to: missing" },
      },
    ],
    [401, serviceException("UNAUTHORIZED"), { kind: "blocked", scope: "number" }],
    [403, {}, { kind: "blocked", scope: "number" }],
    [429, serviceException("TOO_MANY_REQUESTS"), { kind: "transient", retryAfter: 7_000, throttled: true }],
    [500, serviceException("GENERAL_ERROR"), { kind: "repeat", providerMessageId: text.callbackId }],
    [502, {}, { kind: "repeat" }],
    [200, { unexpected: true }, { kind: "repeat" }],
  ])("answered %i is told apart", async (status, body, outcome) => {
    const { provider } = fake(() => json(body, status, { "Retry-After": "7" }));
    expect(await provider.send(connection, text)).toMatchObject(outcome);
  });

  it("that is repeated goes under the id of the first call", async () => {
    const { provider, calls } = fake(() => answered(23, 5));
    const outcome = await provider.send(connection, { ...text, callbackId: "x.4", repeats: "x.2" });
    expect(outcome.kind).toBe("sent");
    expect(calls[0]?.body).toMatchObject({ messageId: "x.2", callbackData: "x.2" });
  });

  it("has a limit for what Infobip lacks, and none for what it has", () => {
    const { provider } = fake(() => answered(7, 1));
    expect(provider.sendLimit({ type: "reaction", content: { message_id: "x", emoji: "👍" } })).toMatchObject({
      field: "emoji",
      reason: "Infobip cannot send reactions",
    });
    expect(provider.sendLimit({ type: "text", content: { body: "x", group_id: "g" } })?.field).toBe("to");
    const flow = { type: "flow", body: { text: "x" }, action: { parameters: { flow_name: "n", flow_cta: "Go" } } };
    expect(provider.sendLimit({ type: "interactive", content: flow })?.reason).toContain("flow_id");
    expect(provider.sendLimit({ type: "text", content: { body: "x" } })).toBeNull();
    const button = { reply: { id: "a", title: "A" } };
    const buttons = (image: Json) => ({
      type: "button",
      header: { type: "image", image },
      body: { text: "x" },
      action: { buttons: [button] },
    });
    const ofHeader = (image: Json) => provider.sendLimit({ type: "interactive", content: buttons(image) });
    expect(ofHeader({ link: "https://x.example/a.jpg" })).toBeNull();
    expect(ofHeader({ media_id: crypto.randomUUID() })).toBeNull();
    expect(ofHeader({ id: "1234" })?.reason).toContain("by address");
    const template = (type: string) => ({
      type: "template",
      content: { name: "n", language: { code: "en" }, components: [{ type, parameters: [] }] },
    });
    expect(provider.sendLimit(template("body"))).toBeNull();
    expect(provider.sendLimit(template("carousel"))).toMatchObject({ field: "components" });
    const file = { messageType: "image", mimeType: "image/jpeg", size: 10 };
    expect(provider.mediaLimit({ ...file, caption: "x".repeat(3000) })).toBeNull();
    expect(provider.mediaLimit({ ...file, caption: "x".repeat(3001) })).toMatchObject({
      field: "caption",
      limit: 3000,
    });
    expect(provider.mediaLimit({ ...file, mimeType: "image/gif", caption: null })?.reason).toContain("Infobip");
  });
});

describe("what may have arrived", () => {
  it("is called again under the same id until it is answered, and sent once", async () => {
    const { workspace, number } = await connect("infobip");
    const scope = { phone_number_id: number.phone_number_id };
    await sandbox.faults(
      { kind: "drop_after_accept", count: 1, ...scope },
      { kind: "error", http_status: 503, count: 2, ...scope },
      { kind: "reset", count: 1, ...scope },
    );
    const response = await workspace.call("POST", "/api/messages/send/text", {
      workspace_id: workspace.workspaceId,
      to: "+12025550142",
      text: "Once",
    });
    const { id } = await response.json<{ id: string }>();
    const row = await untilStatus(id, workspace.workspaceId, "sent");
    const { data, counts } = await sandbox.accepted(scope);
    expect(counts.by_message).toEqual({ [id]: 1 });
    expect(row.wa_message_id).toBe(data[0]?.id);
    expect(row.failures).toBe(1);
  });

  it("fails when its report says so, though later claims were counted", async () => {
    const { workspace, number } = await connect("infobip");
    await sandbox.settings({ statuses: [] });
    await sandbox.faults({ kind: "drop_after_accept", count: 1, phone_number_id: number.phone_number_id });
    const response = await workspace.call("POST", "/api/messages/send/text", {
      workspace_id: workspace.workspaceId,
      to: "+12025550143",
      text: "Twice asked",
    });
    const { id } = await response.json<{ id: string }>();
    const row = await untilStatus(id, workspace.workspaceId, "sent");
    expect(row.attempts).toBe(2);
    await sandbox.orderStatus(String(row.wa_message_id), "failed", 7010);
    await sandbox.flush();
    await sandbox.settings({ statuses: ["sent", "delivered", "read"] });
    const failed = await untilStatus(id, workspace.workspaceId, "failed");
    expect(JSON.parse(String(failed.error))).toMatchObject({ code: 7010 });
  });

  it("gets an id of its own after a refusal: an id that was refused is used up", async () => {
    const { workspace, number } = await connect("infobip");
    const scope = { phone_number_id: number.phone_number_id, count: 1 };
    await sandbox.faults({ kind: "error", http_status: 503, ...scope }, { kind: "error", rejection: 21, ...scope });
    const response = await workspace.call("POST", "/api/messages/send/text", {
      workspace_id: workspace.workspaceId,
      to: "+12025550144",
      text: "Third time",
    });
    const { id } = await response.json<{ id: string }>();
    const row = await untilStatus(id, workspace.workspaceId, "sent");
    const { data } = await sandbox.accepted({ phone_number_id: number.phone_number_id });
    expect(data.map((message) => message.id)).toEqual([`${id}.3`]);
    expect(row.wa_message_id).toBe(`${id}.3`);
  });

  it("is made again by the sweep after a crash, and not left for ten minutes", async () => {
    const { workspace, number } = await connect("infobip");
    const row = await selectNumberByAnyId(shard(createRuntime(env), 0), workspace.workspaceId, number.id);
    if (!row) throw new Error("No such number");
    const world = new World(workspace, row, { providerTimeout: 250 });
    const message = await world.accept(newPerson(), "Crashed");
    // The call is made, and the Worker ends before it hears of it.
    const run = crashingRun(world.env, { at: "fetch", when: "after" });
    const batch = world
      .take()
      .map(({ body: job }) => ({ id: "c", timestamp: new Date(world.now), attempts: 1, body: job }));
    await consume(createMessageBatch("outbound", batch), run.env, { clock: world.clock, fetch: run.fetch });
    expect(run.crashed()).toBe(true);
    expect(await world.message(message.id)).toMatchObject({ status: "sending" });
    expect((await world.accepted()).data).toHaveLength(1);
    world.now += 120_000;
    await world.sweep();
    await world.drain();
    expect(await world.message(message.id)).toMatchObject({ status: "sent", wa_message_id: `${message.id}.1` });
    await world.expectNoneTwice();
    await world.retire();
  });
});

describe("webhooks of a connection", () => {
  const body = JSON.stringify({
    results: [
      {
        from: "385919998888",
        to: "41793026731",
        integrationType: "WHATSAPP",
        receivedAt: "2025-01-01T10:10:00.000+0000",
        messageId: "wamid.ONE",
        message: { type: "TEXT", text: "Hi" },
      },
    ],
  });
  const basic = (user: string, password: string) => ({ Authorization: `Basic ${btoa(`${user}:${password}`)}` });

  /** Queues that keep what they get, and databases that nobody may touch. */
  function queuesOnly() {
    const { env: held, held: queues } = heldQueues();
    const forbidden = new Proxy(
      {},
      {
        get: (_target, name) => {
          throw new Error(`Nobody may touch this: ${String(name)}`);
        },
      },
    );
    const appEnv = { ...held, DIRECTORY: forbidden, SHARD_0: forbidden, SHARD_1: forbidden } as unknown as Env;
    return { appEnv, inbound: () => queues.get("INBOUND") ?? [] };
  }

  it("are taken with the secret in a header or by basic authentication, without a read", async () => {
    const id = crypto.randomUUID();
    const secret = await webhookSecret(createRuntime(env), id, 1);
    for (const provider of ["infobip", "360dialog"]) {
      const path = `/webhooks/${provider}/${id}`;
      for (const headers of [{ "X-Webhook-Secret": secret }, basic(id, secret)]) {
        const { appEnv, inbound } = queuesOnly();
        expect((await request("POST", path, { body, headers }, appEnv)).status).toBe(200);
        expect(inbound().map((job) => job.body)).toMatchObject([{ provider, connection: id, secretVersion: 1, body }]);
      }
    }
  });

  it("are refused without it, with a wrong one, with another connection's, or with a guessed version", async () => {
    const rt = createRuntime(env);
    const id = crypto.randomUUID();
    const other = crypto.randomUUID();
    const secret = await webhookSecret(rt, id, 1);
    const others = await webhookSecret(rt, other, 1);
    const refused: Record<string, string>[] = [
      {},
      { "X-Webhook-Secret": "" },
      { "X-Webhook-Secret": `${secret}x` },
      { "X-Webhook-Secret": secret.replace("whs_1_", "whs_2_") },
      { "X-Webhook-Secret": others },
      basic(other, others),
      basic(other, secret),
      basic("", secret),
      { Authorization: `Bearer ${secret}` },
      { Authorization: "Basic %%%" },
    ];
    for (const headers of refused) {
      const { appEnv, inbound } = queuesOnly();
      const response = await request("POST", `/webhooks/infobip/${id}`, { body, headers }, appEnv);
      expect(response.status, JSON.stringify(headers)).toBe(401);
      expect(inbound()).toEqual([]);
    }
    expect((await request("POST", "/webhooks/infobip/not-an-id", { body })).status).toBe(422);
  });

  it("come to the app's address too, by the connection that proves itself", async () => {
    const id = crypto.randomUUID();
    const secret = await webhookSecret(createRuntime(env), id, 1);
    const { appEnv, inbound } = queuesOnly();
    expect((await request("POST", "/webhook", { body, headers: basic(id, secret) }, appEnv)).status).toBe(200);
    expect(inbound().map((job) => job.body)).toMatchObject([{ provider: "infobip", connection: id }]);
    for (const [headers, given] of [
      [basic(id, "guessed"), body],
      [{}, body],
      [basic(id, secret), '{"entry":[]}'],
      [basic(id, secret), "nothing"],
    ] as const) {
      const { appEnv: again, inbound: none } = queuesOnly();
      expect((await request("POST", "/webhook", { body: given, headers }, again)).status).toBe(401);
      expect(none()).toEqual([]);
    }
  });

  it("that name another number than the connection's are kept as unknown, for nobody else", async () => {
    const [ours, theirs] = [await newWorkspace(), await newWorkspace()];
    const own = await registerNumber(ours, { provider: "infobip", provider_number_id: "4179302600001" });
    const foreign = await registerNumber(theirs, { provider: "infobip", provider_number_id: "41793026731" });
    const job = {
      v: 1,
      kind: "webhook.part",
      provider: "infobip",
      connection: own.id,
      secretVersion: 1,
      receivedAt: Date.now(),
      firstPosition: 0,
      body,
    };
    await deliver("inbound", [job]);
    expect(await inboxOf(ours.workspaceId).messages()).toEqual([]);
    expect(await inboxOf(ours.workspaceId).events()).toMatchObject([{ kind: "unknown" }]);
    expect(await inboxOf(theirs.workspaceId).messages()).toEqual([]);
    await deliver("inbound", [{ ...job, connection: foreign.id }]);
    expect(await inboxOf(theirs.workspaceId).messages()).toHaveLength(1);
    await free(ours.workspaceId, theirs.workspaceId);
  });

  it("have a secret that can be rotated: the one before counts for a day, older ones never", async () => {
    const { workspace, number } = await connect("infobip");
    const rt = createRuntime(env);
    const path = `/api/phone-numbers/${number.id}/webhook`;
    const rotate = async (rotate_secret: boolean) => {
      const response = await workspace.call("POST", path, { rotate_secret });
      expect(response.status).toBe(200);
      expect(await response.json()).toMatchObject({ id: number.id, subscription: { subscribed: true } });
    };
    await rotate(true);
    // The provider was told at once: what it posts from now on carries the new one.
    await sandbox.customerSends("12025550177", { to: number.phone_number_id, text: { body: "After" } });
    expect((await sandbox.flush()).pending).toBe(0);
    await eventually(async () => expect(await inboxOf(workspace.workspaceId).messages()).toHaveLength(1));
    const old = await webhookSecret(rt, number.id, 1);
    expect(await verifyWebhookSecret(rt, number.id, old)).toBe(1);
    const said = (secretVersion: number, at: number, id: string) => ({
      v: 1,
      kind: "webhook.part",
      provider: "infobip",
      connection: number.id,
      secretVersion,
      receivedAt: at,
      firstPosition: 0,
      body: body.replace("41793026731", number.phone_number_id).replace("wamid.ONE", id),
    });
    await deliver("inbound", [said(1, Date.now(), "wamid.GRACE")]);
    expect(await inboxOf(workspace.workspaceId).messages()).toHaveLength(2);
    await deliver("inbound", [said(1, Date.now() + 2 * 86_400_000, "wamid.LATE"), said(3, Date.now(), "wamid.EARLY")]);
    await rotate(true);
    await deliver("inbound", [said(1, Date.now(), "wamid.TWICE")]);
    expect(await inboxOf(workspace.workspaceId).messages()).toHaveLength(2);
    // Subscribing again as it is changes no secret.
    await rotate(false);
    await deliver("inbound", [said(3, Date.now(), "wamid.NOW")]);
    expect(await inboxOf(workspace.workspaceId).messages()).toHaveLength(3);
  });

  it("of thousands of results are cut into parts that say the same", () => {
    const results = Array.from({ length: 500 }, (_, n) => ({
      messageId: `id-${n}`,
      to: "441134960001",
      doneAt: "2024-01-01T12:00:01.000+0000",
      status: { groupId: 3, id: 5 },
      note: "é".repeat(n % 50),
    }));
    const whole = JSON.stringify({ results });
    const parts = splitWebhook("infobip", whole, 4_000);
    expect(parts.length).toBeGreaterThan(10);
    for (const part of parts) expect(new TextEncoder().encode(part.text).length).toBeLessThanOrEqual(4_000);
    const events = parts.flatMap(({ text: part, firstPosition }) =>
      parseInfobipWebhook(JSON.parse(part), { firstPosition }),
    );
    expect(events).toEqual(parseInfobipWebhook(JSON.parse(whole)));
    expect(splitWebhook("infobip", JSON.stringify({ note: "x".repeat(5_000) }), 4_000)).toMatchObject([
      { oversized: true },
    ]);
  });
});

describe("subscribing", () => {
  it("sets address and secret anew where the subscription is there already, and tells a refusal", async () => {
    const { number, workspace } = await connect("infobip");
    const known = new Map<string, unknown>();
    const seen: string[] = [];
    const { provider } = fake(({ method, url, body }) => {
      const path = new URL(url).pathname;
      seen.push(`${method} ${path.replace(/switchboard-.*/, "ID")}`);
      if (method === "GET") return known.size > 0 ? json({}) : json(serviceException("NOT_FOUND"), 404);
      known.set(path, body);
      return json({}, method === "POST" ? 201 : 200);
    });
    const webhook = { url: "https://x.example/webhooks/infobip/n", user: number.id, secret: "s1" };
    expect(await provider.subscribe(connection, webhook)).toEqual({ ok: true, value: null });
    expect(await provider.subscribe(connection, { ...webhook, secret: "s2" })).toEqual({ ok: true, value: null });
    expect(seen).toEqual([
      "GET /subscriptions/1/subscription/WHATSAPP/ID",
      "POST /subscriptions/1/subscription/WHATSAPP",
      "GET /subscriptions/1/subscription/WHATSAPP/ID",
      "PUT /subscriptions/1/security/ID",
      "PUT /subscriptions/1/profiles/ID",
      "PUT /subscriptions/1/subscription/WHATSAPP/ID",
    ]);
    expect(JSON.stringify([...known.values()])).toContain('"password":"s2"');
    const denied = fake(() => json(serviceException("FORBIDDEN"), 403)).provider;
    expect(await denied.subscribe(connection, webhook)).toMatchObject({ ok: false, refused: true });
    expect(workspace.workspaceId).toBeTruthy();
  });
});

describe("templates", () => {
  const draft = {
    name: "visit",
    language: "en",
    category: "UTILITY",
    parameterFormat: "POSITIONAL" as const,
    components: [{ type: "BODY", text: "On {{1}}", example: { body_text: [["Monday"]] } }],
  };

  it("with variables by name, or parts that Infobip has no place for, are refused without a call", async () => {
    const { provider, calls } = fake(() => json({}));
    const named = await provider.createTemplate(connection, { ...draft, parameterFormat: "NAMED" });
    expect(named).toMatchObject({ ok: false, refused: true, error: { code: "provider_limit" } });
    const cards = { type: "CAROUSEL", cards: [] };
    const carousel = await provider.createTemplate(connection, { ...draft, components: [cards] });
    expect(carousel).toMatchObject({ ok: false, refused: true });
    expect(calls).toEqual([]);
  });

  it("of several languages are not deleted: Infobip would take them all", async () => {
    const template = { name: "visit", status: "APPROVED", category: "UTILITY", structure: { body: { text: "On" } } };
    const templates = [
      { ...template, id: "1", language: "en" },
      { ...template, id: "2", language: "de" },
    ];
    const { provider, calls } = fake(() => json({ templates }));
    const answer = await provider.deleteTemplate(connection, { id: "1", name: "visit" });
    expect(answer).toMatchObject({ ok: false, refused: true, error: { code: "provider_limit" } });
    expect(calls.map(({ method }) => method)).toEqual(["GET"]);
  });
});

async function free(...workspaceIds: string[]): Promise<void> {
  for (const id of workspaceIds) {
    await env.DIRECTORY.prepare("DELETE FROM provider_numbers WHERE workspace_id = ?1").bind(id).run();
  }
}

const texts = import.meta.glob<string>("./fixtures/webhooks/infobip-*__*.json", {
  eager: true,
  query: "?raw",
  import: "default",
});
const bodies = new Map(Object.entries(texts).map(([path, body]) => [path.replace(/^.*\/|\.json$/g, ""), body]));
const names = index.files.filter((f) => f.provider === "infobip").map((f) => f.file.replace(/\.json$/, ""));

/** One line per row that a body left. */
async function becameOf(workspaceId: string): Promise<string[]> {
  const inbox = inboxOf(workspaceId);
  const identities = await inbox.identities();
  const contacts = (await inbox.contacts()).map((c) => {
    const own = identities.filter((i) => i.contact_id === c.id).map((i) => `${i.kind} ${i.value}`);
    const consent = c.consent_at === null ? "" : c.opted_in === 1 ? ", opted in" : ", opted out";
    return `contact ${c.name ?? "nameless"}${c.username ? ` @${c.username}` : ""} [${own.join("; ")}]${consent}`;
  });
  const messages = (await inbox.messages()).map(
    (m) => `message ${m.type} from ${m.from_number}${m.reply_to ? ` re ${m.reply_to}` : ""}: ${m.content}`,
  );
  const references = (await inbox.references()).map((e) => {
    const { status, emoji, failed, pricing } = JSON.parse(String(e.payload));
    const said = [status, emoji, failed && "failed", pricing && "priced"].filter(Boolean).join(" ");
    return `${e.kind} of ${e.target}: ${said}`;
  });
  const events = (await inbox.events()).map((e) => `event ${e.kind} ${e.field ?? ""} ${e.reason ?? ""}`.trim());
  return [...contacts, ...messages, ...references, ...events].sort();
}

describe("every body of Infobip's", () => {
  it("is in the table, and nothing else is", () => {
    expect(Object.keys(stored).sort()).toEqual(names.toSorted());
    expect(names).toHaveLength(37);
  });

  it.each(names)("%s", async (name) => {
    const body = bodies.get(name) ?? "";
    const events = parseInfobipWebhook(JSON.parse(body));
    const sender = events[0]?.number.providerNumberId ?? "41793026731";
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace, { provider: "infobip", provider_number_id: sender });
    const secret = await webhookSecret(createRuntime(env), number.id, 1);
    const { env: held, held: queues } = heldQueues();
    const headers = { Authorization: `Basic ${btoa(`${number.id}:${secret}`)}` };
    const response = await request("POST", `/webhooks/infobip/${number.id}`, { body, headers }, held);
    expect(response.status).toBe(200);
    const jobs = (queues.get("INBOUND") ?? []).map((job) => job.body);
    for (const attempts of [1, 2]) {
      const result = await deliver("inbound", jobs, { env: held, attempts });
      expect(result.retryMessages).toEqual([]);
    }
    await free(workspace.workspaceId);
    const table: Record<string, string[]> = stored;
    expect(await becameOf(workspace.workspaceId)).toEqual(table[name]);
    await expectExactCounts(workspace.workspaceId);
  });
});
