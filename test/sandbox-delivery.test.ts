import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { createHmac } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Core } from "../sandbox/state/core";
import { type CapturedPost, captureWebhooks } from "./support/captured-webhooks";
import { graph, textMessage } from "./support/graph";
import { type FaultOrder, sandbox } from "./support/sandbox";

const PHONE = "106540352242922";
const SECRET = "test-app-secret-1234567890";

interface Value {
  metadata: { phone_number_id: string; display_phone_number: string };
  contacts?: { profile: { name: string; username?: string }; wa_id?: string; user_id?: string }[];
  messages?: Record<string, unknown>[];
  statuses?: Record<string, unknown>[];
}

interface Hook {
  object: string;
  entry: { id: string; time?: number; changes: { field: string; value: Value & Record<string, unknown> }[] }[];
}

const send = (extra: Record<string, unknown> = {}) => graph("POST", `/${PHONE}/messages`, textMessage(extra));

const parsed = ({ bytes }: CapturedPost): Hook => JSON.parse(new TextDecoder().decode(bytes));
const values = (posts: CapturedPost[]) =>
  posts.flatMap((post) => parsed(post).entry.flatMap(({ changes }) => changes.map(({ value }) => value)));
const statusesOf = (posts: CapturedPost[]) => values(posts).flatMap(({ statuses = [] }) => statuses);

let capture: ReturnType<typeof captureWebhooks>;

beforeEach(async () => {
  await sandbox.reset();
  capture = captureWebhooks();
});

afterEach(() => capture.restore());

describe("webhooks", () => {
  it("follow an accepted message: sent, delivered and read, with its callback data and price", async () => {
    const { body } = await send({ biz_opaque_callback_data: "id.1" });
    expect(await sandbox.flush()).toMatchObject({ items: 3, posts: 3, delivered: 3, statuses: { 200: 3 }, pending: 0 });
    expect(capture.posts.map(({ url }) => url)).toEqual(Array(3).fill("https://switchboard.test/webhook"));
    const statuses = statusesOf(capture.posts);
    const id = /wamid\.[^"]+/.exec(JSON.stringify(body))?.[0];
    expect(statuses.map(({ status }) => status)).toEqual(["sent", "delivered", "read"]);
    for (const status of statuses) {
      expect(status).toMatchObject({
        id,
        recipient_id: "15550001111",
        biz_opaque_callback_data: "id.1",
        timestamp: expect.stringMatching(/^\d{10}$/),
      });
    }
    expect(statuses[0]).toHaveProperty("pricing", {
      billable: false,
      pricing_model: "PMP",
      type: "free_customer_service",
      category: "service",
    });
    expect(statuses[1]).toHaveProperty("pricing");
    expect(statuses[2]).not.toHaveProperty("pricing");
    expect(values(capture.posts)[0]?.metadata).toEqual({ display_phone_number: PHONE, phone_number_id: PHONE });
  });

  it("are signed over the exact bytes, which hold ASCII only, with the app's secret", async () => {
    await sandbox.customerSends("15550001111", { to: PHONE, text: { body: "გამარჯობა 👋 a/b" } });
    await sandbox.flush();
    const [post] = capture.posts;
    if (!post) throw new Error("nothing was posted");
    const expected = createHmac("sha256", SECRET).update(post.bytes).digest("hex");
    expect(post.headers.get("X-Hub-Signature-256")).toBe(`sha256=${expected}`);
    expect(post.bytes.every((byte) => byte < 0x80)).toBe(true);
    const text = new TextDecoder().decode(post.bytes);
    expect(text).toContain("\\u10d2\\u10d0\\u10db");
    expect(text).toContain("\\ud83d\\udc4b a\\/b");
    expect(values([post])[0]?.messages).toMatchObject([{ text: { body: "გამარჯობა 👋 a/b" } }]);
  });

  it("wait until they are answered with 200, and only the refused ones come again", async () => {
    capture.restore();
    capture = captureWebhooks((call) => (call === 2 ? 500 : 200));
    await send();
    expect(await sandbox.flush()).toMatchObject({ delivered: 2, statuses: { 200: 2, 500: 1 }, pending: 1 });
    expect(await sandbox.flush()).toMatchObject({ items: 1, delivered: 1, pending: 0 });
    expect(statusesOf(capture.posts).map(({ status }) => status)).toEqual(["sent", "delivered", "read", "delivered"]);
    expect(await sandbox.flush()).toMatchObject({ items: 0, posts: 0 });
    expect((await sandbox.redeliver()).items).toBe(3);
    expect(await sandbox.flush()).toMatchObject({ delivered: 3 });
  });

  it("come in the order, number of copies and size that a flush asks for", async () => {
    await sandbox.settings({ statuses: ["sent"] });
    for (let i = 0; i < 6; i++) await send({ biz_opaque_callback_data: `m.${i}` });
    const order = () =>
      statusesOf(capture.posts.splice(0)).map(({ biz_opaque_callback_data }) =>
        String(biz_opaque_callback_data).slice(2),
      );

    await sandbox.flush({ order: "reverse" });
    expect(order()).toEqual(["5", "4", "3", "2", "1", "0"]);

    await sandbox.redeliver();
    expect(await sandbox.flush({ duplicate: 3, batch: 4 })).toMatchObject({ items: 6, posts: 5, delivered: 6 });
    expect(capture.posts.map((post) => statusesOf([post]).length)).toEqual([4, 4, 4, 4, 2]);
    expect(order().join("")).toBe("012345".repeat(3));

    await sandbox.redeliver();
    await sandbox.flush({ order: "shuffle", duplicate: 2, seed: 7 });
    const shuffled = order();
    expect(shuffled).not.toEqual([..."012345012345"]);
    expect([...shuffled].sort()).toEqual([..."001122334455"]);

    await sandbox.redeliver();
    await sandbox.flush({ order: "shuffle", duplicate: 2, seed: 7 });
    expect(order()).toEqual(shuffled);

    await sandbox.redeliver();
    expect(await sandbox.flush({ limit: 2 })).toMatchObject({ items: 2, pending: 4 });
  });

  it("put messages and statuses of one number into one value, and other numbers and accounts into their own", async () => {
    await sandbox.settings({ statuses: ["sent"] });
    await send();
    await sandbox.customerSends("15550001111", { to: PHONE, text: { body: "one" } });
    await graph("POST", "/2222/messages", textMessage(), "EAAother");
    await sandbox.flush({ batch: 10 });
    expect(capture.posts).toHaveLength(1);
    const [post] = capture.posts;
    const entries = post ? parsed(post).entry : [];
    expect(entries).toHaveLength(2);
    expect(entries[0]?.changes).toMatchObject([
      { field: "messages", value: { statuses: [{}], messages: [{ text: { body: "one" } }] } },
    ]);
    expect(entries[1]?.changes[0]?.value.metadata.phone_number_id).toBe("2222");
  });

  it("tell of a failure later, for the recipients that are documented to fail", async () => {
    await send({ to: "+1555131026", biz_opaque_callback_data: "x.1" });
    await send({ text: undefined, type: "image", image: { link: "https://broken.invalid/a.jpg" } });
    await sandbox.flush();
    expect(statusesOf(capture.posts)).toMatchObject([
      {
        status: "failed",
        recipient_id: "1555131026",
        biz_opaque_callback_data: "x.1",
        errors: [{ code: 131026, title: "Message undeliverable" }],
      },
      { status: "failed", errors: [{ code: 131053 }] },
    ]);
    expect(values(capture.posts).every((value) => value.contacts === undefined)).toBe(true);
  });

  it("tell of a status that was ordered", async () => {
    await sandbox.settings({ statuses: [] });
    await send();
    const id = (await sandbox.accepted()).data[0]?.id ?? "";
    await sandbox.orderStatus(id, "failed", 131049);
    await sandbox.orderStatus(id, "played");
    await sandbox.flush();
    expect(statusesOf(capture.posts)).toMatchObject([
      { id, status: "failed", errors: [{ code: 131049 }] },
      { id, status: "played" },
    ]);
  });

  it("fail free-form messages outside the service window when the sandbox minds it", async () => {
    await sandbox.settings({ service_window: true, statuses: ["sent"] });
    await send();
    await sandbox.customerSends("15550001111", { to: PHONE, text: { body: "hi" } });
    await send();
    await sandbox.flush();
    expect(statusesOf(capture.posts)).toMatchObject([
      { status: "failed", errors: [{ code: 131047 }] },
      { status: "sent" },
    ]);
  });

  it("tell of a template's review, with the id as a number", async () => {
    const components = [{ type: "BODY", text: "Hello" }];
    const { body } = await graph("POST", "/102290129340398/message_templates", {
      name: "hi",
      language: "en",
      category: "MARKETING",
      components,
    });
    await sandbox.review(String(body.id), "REJECTED", "PROMOTIONAL");
    await sandbox.flush();
    const [post] = capture.posts;
    expect(post && parsed(post).entry).toMatchObject([
      {
        id: "102290129340398",
        time: expect.any(Number),
        changes: [
          {
            field: "message_template_status_update",
            value: {
              event: "REJECTED",
              reason: "PROMOTIONAL",
              message_template_id: Number(body.id),
              message_template_name: "hi",
              message_template_language: "en",
            },
          },
        ],
      },
    ]);
  });

  it("post any body, also one with another secret or none", async () => {
    const raw = '{"object":"whatsapp_business_account" , "entry":[]}';
    expect(await sandbox.sendWebhook({ raw, path: "/webhooks/meta/1", secret: "another" })).toEqual({
      status: 200,
      body: "seen",
    });
    await sandbox.sendWebhook({ body: { a: "é" }, sign: false });
    const [first, second] = capture.posts;
    expect(first?.url).toBe("https://switchboard.test/webhooks/meta/1");
    expect(new TextDecoder().decode(first?.bytes)).toBe(raw);
    expect(first?.headers.get("X-Hub-Signature-256")).toBe(
      `sha256=${createHmac("sha256", "another").update(raw).digest("hex")}`,
    );
    expect(second?.headers.has("X-Hub-Signature-256")).toBe(false);
    expect(new TextDecoder().decode(second?.bytes)).toBe('{"a":"\\u00e9"}');
  });
});

describe("customers", () => {
  it("write with a name, a user id and a quote; known by their user id alone, no phone number shows", async () => {
    await sandbox.customerSends("15550001111", {
      to: PHONE,
      text: { body: "hi" },
      profile_name: "Ana",
      context: { message_id: "wamid.Q" },
    });
    const second = await sandbox.customerSends("15550001111", {
      to: PHONE,
      text: { body: "ho" },
      only_user_id: true,
      user_id: "US.42",
      username: "ana",
    });
    expect(second.user_id).toBe("US.42");
    await sandbox.flush();
    const [first, hidden] = values(capture.posts);
    expect(first?.messages).toMatchObject([
      { from: "15550001111", type: "text", text: { body: "hi" }, context: { from: PHONE, id: "wamid.Q" } },
    ]);
    expect(first?.contacts).toEqual([{ profile: { name: "Ana" }, wa_id: "15550001111" }]);
    expect(hidden?.contacts).toEqual([{ profile: { name: "Ana", username: "ana" }, user_id: "US.42" }]);
    expect(hidden?.messages?.[0]).toMatchObject({ from_user_id: "US.42" });
    expect(hidden?.messages?.[0]).not.toHaveProperty("from");
  });

  it("are answered by user id, and the statuses then name it and no phone number", async () => {
    await send({ to: undefined, recipient: "US.42" });
    await sandbox.flush({ limit: 1 });
    const [value] = values(capture.posts);
    expect(value?.statuses).toMatchObject([{ recipient_user_id: "US.42" }]);
    expect(value?.statuses?.[0]).not.toHaveProperty("recipient_id");
    expect(value?.contacts?.[0]).not.toHaveProperty("wa_id");
  });

  it("send files that can be fetched, their own or a sample", async () => {
    const data = btoa("%PDF-1.4 mine");
    await sandbox.customerSends("15550001111", {
      to: PHONE,
      type: "document",
      document: { data, mime_type: "application/pdf", filename: "mine.pdf", caption: "Look" },
    });
    await sandbox.customerSends("15550001111", { to: PHONE, type: "image" });
    await sandbox.flush();
    const [document, image] = values(capture.posts).map(({ messages }) => messages?.[0]);
    expect(document).toMatchObject({
      document: { mime_type: "application/pdf", filename: "mine.pdf", caption: "Look" },
    });
    expect(document?.document).not.toHaveProperty("data");
    const { id, sha256 } = JSON.parse(JSON.stringify(document?.document));
    const described = (await graph("GET", `/${id}`)).body;
    const file = await fetch(String(described.url), { headers: { Authorization: "Bearer x" } });
    const bytes = await file.arrayBuffer();
    expect(new TextDecoder().decode(bytes)).toBe("%PDF-1.4 mine");
    expect(btoa(String.fromCharCode(...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))))).toBe(sha256);
    expect(image).toMatchObject({ image: { mime_type: "image/png", id: expect.stringMatching(/^\d+$/) } });
  });
});

describe("addresses", () => {
  it("are proven by the challenge; a number's own wins over its account's, and template news stays with the app", async () => {
    capture.restore();
    capture = captureWebhooks();
    const refused = await graph("POST", `/${PHONE}`, {
      webhook_configuration: { override_callback_uri: "https://switchboard.test/own", verify_token: "t" },
    });
    expect(refused.body).toMatchObject({ error: { code: 2200 } });
    expect(capture.posts[0]?.url).toMatch(
      /^https:\/\/switchboard\.test\/own\?hub\.mode=subscribe&hub\.challenge=\d+&hub\.verify_token=t$/,
    );
    capture.restore();

    const echo = captureWebhooks(
      () => 200,
      (url) => new URL(url).searchParams.get("hub.challenge"),
    );
    capture = echo;
    const own = { override_callback_uri: "https://switchboard.test/own", verify_token: "t" };
    expect((await graph("POST", `/${PHONE}`, { webhook_configuration: own })).body).toEqual({ success: true });
    expect((await graph("GET", `/${PHONE}?fields=webhook_configuration`)).body).toMatchObject({
      webhook_configuration: { phone_number: own.override_callback_uri },
    });
    const account = /"target_ids":\["(\d+)"\]/.exec(
      JSON.stringify((await graph("GET", "/debug_token?input_token=EAAtest")).body),
    )?.[1];
    const accounts = { override_callback_uri: "https://switchboard.test/account", verify_token: "t" };
    expect((await graph("POST", `/${account}/subscribed_apps`, accounts)).body).toEqual({ success: true });
    expect((await graph("GET", `/${account}/subscribed_apps`)).body).toMatchObject({
      data: [{ override_callback_uri: accounts.override_callback_uri }],
    });
    echo.posts.length = 0;

    await sandbox.settings({ statuses: ["sent"] });
    await send();
    await graph("POST", "/33/messages", textMessage());
    const components = [{ type: "BODY", text: "Hello" }];
    const { body } = await graph("POST", `/${account}/message_templates`, {
      name: "hi",
      language: "en",
      category: "MARKETING",
      components,
    });
    await sandbox.review(String(body.id), "APPROVED");
    await sandbox.flush();
    expect(echo.posts.map(({ url }) => new URL(url).pathname)).toEqual(["/own", "/account", "/webhook"]);
  });

  it("stay silent once the account's subscription was taken back", async () => {
    const account = /"target_ids":\["(\d+)"\]/.exec(
      JSON.stringify((await graph("GET", "/debug_token?input_token=EAAtest")).body),
    )?.[1];
    await graph("DELETE", `/${account}/subscribed_apps`);
    expect((await graph("GET", `/${account}/subscribed_apps`)).body).toEqual({ data: [] });
    await send();
    expect(await sandbox.flush()).toMatchObject({ items: 0 });
    await graph("POST", `/${account}/subscribed_apps`);
    await send();
    expect(await sandbox.flush()).toMatchObject({ items: 3 });
  });
});

describe("faults", () => {
  const order = (...faults: FaultOrder[]) => sandbox.faults(...faults);

  it("error: answers Meta's body for the code, and accepts nothing", async () => {
    await order({ kind: "error", code: 131016, count: 1 });
    expect(await send()).toMatchObject({
      status: 500,
      body: { error: { code: 131016, message: "(#131016) Service unavailable" } },
    });
    expect((await send()).status).toBe(200);
    expect((await sandbox.accepted()).total).toBe(1);
  });

  it("rate_limit: 429 with Retry-After", async () => {
    await order({ kind: "rate_limit", retry_after: 3 });
    const reply = await send();
    expect(reply).toMatchObject({ status: 429, body: { error: { code: 130429 } } });
    expect(reply.headers.get("Retry-After")).toBe("3");
  });

  it("reset: the connection fails, and nothing was accepted", async () => {
    await order({ kind: "reset" });
    await expect(send()).rejects.toThrow("Network connection lost");
    expect((await sandbox.accepted()).total).toBe(0);
    expect(await sandbox.flush()).toMatchObject({ items: 0 });
  });

  it("drop_after_accept: the connection fails, and the message was accepted and has its statuses", async () => {
    await order({ kind: "drop_after_accept" });
    await expect(send({ biz_opaque_callback_data: "a.1" })).rejects.toThrow("Network connection lost");
    expect((await sandbox.accepted()).counts.by_callback).toEqual({ "a.1": 1 });
    expect(await sandbox.flush()).toMatchObject({ items: 3 });
  });

  it("timeout: the caller gives up first, and nothing was accepted", async () => {
    await order({ kind: "timeout", ms: 5_000 });
    const call = fetch(`https://graph.facebook.com/v25.0/${PHONE}/messages`, {
      method: "POST",
      headers: { Authorization: "Bearer x", "Content-Type": "application/json" },
      body: JSON.stringify(textMessage()),
      signal: AbortSignal.timeout(30),
    });
    await expect(call).rejects.toMatchObject({ name: "TimeoutError" });
    expect((await sandbox.accepted()).total).toBe(0);
  });

  it("slow: the right answer, later", async () => {
    await order({ kind: "slow", ms: 40 });
    const before = Date.now();
    expect((await send()).status).toBe(200);
    expect(Date.now() - before).toBeGreaterThanOrEqual(39);
  });

  it("hit the share of calls they are told to, the same ones for the same seed, and only calls that would succeed", async () => {
    const pattern = async () => {
      await sandbox.clearFaults();
      await order({ kind: "error", rate: 0.3, seed: 11 });
      let hits = "";
      for (let i = 0; i < 40; i++) hits += (await send()).status === 500 ? "x" : ".";
      return hits;
    };
    const first = await pattern();
    const share = first.split("x").length - 1;
    expect(share).toBeGreaterThan(4);
    expect(share).toBeLessThan(22);
    expect(await pattern()).toBe(first);

    await sandbox.clearFaults();
    await order({ kind: "error", count: 1 });
    expect((await send({ text: {} })).body).toMatchObject({ error: { code: 131008 } });
    expect((await send()).status).toBe(500);
  });

  it("skip the first calls, and keep to one number or recipient", async () => {
    await order({ kind: "error", skip: 2, count: 1, to: "15550001111" }, { kind: "rate_limit", phone_number_id: "77" });
    const statuses = [];
    for (let i = 0; i < 4; i++) statuses.push((await send()).status);
    expect(statuses).toEqual([200, 200, 500, 200]);
    expect((await send({ to: "+15550002222" })).status).toBe(200);
    expect((await graph("POST", "/77/messages", textMessage())).status).toBe(429);
    expect((await sandbox.stats()).faults).toEqual({ error: 1, rate_limit: 1 });
  });

  it("hit other calls than sends when told so", async () => {
    await order({ kind: "error", code: 2, on: "other", count: 1 });
    expect((await send()).status).toBe(200);
    expect(await graph("GET", `/${PHONE}`)).toMatchObject({
      status: 500,
      body: { error: { code: 2, is_transient: true } },
    });
    expect((await graph("GET", `/${PHONE}`)).status).toBe(200);
  });

  it("are refused when they make no sense", async () => {
    await expect(order({ kind: "error", code: 42 })).rejects.toThrow("is not a code the sandbox knows");
    await expect(order({ kind: "error", rate: 2 })).rejects.toThrow("rate");
  });
});

it("is alone with Meta's hosts: any other host cannot be reached", async () => {
  await expect(fetch("https://example.com/")).rejects.toThrow("No such host");
});

describe("in development", () => {
  it("delivers by itself when a webhook is due, and again, later each time, until it is answered with 200", async () => {
    const posted: number[] = [];
    let answerWith = 500;
    let now = 1_800_000_000_000;
    const wakes: number[] = [];
    // Any object with SQLite storage will do: the core is a plain class.
    await runInDurableObject(env.API_QUOTA.getByName("sandbox-core"), async (_instance, state) => {
      const core = new Core({
        storage: state.storage,
        clock: () => now,
        config: { MODE: "dev", APP_URL: "http://127.0.0.1:8000", META_APP_SECRET: SECRET },
        fetcher: async () => {
          posted.push(now);
          return new Response(null, { status: answerWith });
        },
        onDue: (due) => wakes.push(due),
      });
      core.settings.patch({ statuses: ["sent"], delays: { sent: 100 } });
      core.messages.post(PHONE, core.accounts.number(PHONE, "x"), textMessage());
      expect(wakes).toEqual([now + 100]);

      await core.run();
      expect(posted).toEqual([]);

      const waits: number[] = [];
      for (let attempt = 0; attempt < 4; attempt++) {
        const due = core.nextDue() ?? 0;
        waits.push(due - now);
        now = due;
        await core.run();
      }
      expect(posted).toHaveLength(4);
      expect(waits).toEqual([100, 250, 500, 1000]);

      // A new instance over the same storage, as after a restart, still knows it.
      const restarted = new Core({
        storage: state.storage,
        clock: () => now,
        config: core.config,
        fetcher: core.fetcher,
        onDue: () => undefined,
      });
      answerWith = 200;
      now = restarted.nextDue() ?? 0;
      await restarted.run();
      expect(posted).toHaveLength(5);
      expect(restarted.nextDue()).toBeNull();
    });
  });

  it("reviews templates by itself: approved, or rejected for the word in the name", async () => {
    let now = 1_800_000_000_000;
    await runInDurableObject(env.API_QUOTA.getByName("sandbox-review"), async (_instance, state) => {
      const core = new Core({
        storage: state.storage,
        clock: () => now,
        config: { MODE: "dev", APP_URL: "http://127.0.0.1:8000", META_APP_SECRET: SECRET },
        fetcher: async () => new Response(null, { status: 200 }),
        onDue: () => undefined,
      });
      const components = [{ type: "BODY", text: "Hello" }];
      core.templates.create("1", { name: "fine", language: "en", category: "UTILITY", components });
      core.templates.create("1", { name: "to_be_rejected", language: "en", category: "UTILITY", components });
      await core.run();
      expect(core.templates.find("1", "fine", "en")?.status).toBe("PENDING");
      now = core.nextDue() ?? 0;
      await core.run();
      expect(core.templates.find("1", "fine", "en")?.status).toBe("APPROVED");
      expect(core.templates.find("1", "to_be_rejected", "en")?.status).toBe("REJECTED");
    });
  });
});
