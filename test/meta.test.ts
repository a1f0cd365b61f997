import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { createRuntime, type Runtime } from "../src/platform/runtime";
import { retryAfterOf } from "../src/providers/graph";
import { metaProvider } from "../src/providers/meta";
import type { Connection, SendOutcome, SendRequest } from "../src/providers/provider";
import { providerFor } from "../src/providers/registry";

const NOW = Date.UTC(2026, 5, 1, 12, 0, 0);
const TOKEN = "EAAsecret0123456789";

const connection: Connection = {
  provider: "meta",
  providerNumberId: "106540352242922",
  businessId: "102290129340398",
  accessToken: TOKEN,
};

/** Meta's webhooks come to the app's address: what a number's own would be changes nothing. */
const webhook = { url: "https://switchboard.test/webhooks/meta/x", user: "x", secret: "s" };

const text: SendRequest = {
  callbackId: "0197-message.1",
  recipient: { phone: "16505551234", userId: null },
  type: "text",
  content: { body: "Hello" },
  replyTo: null,
};

interface Call {
  method: string;
  url: URL;
  headers: Headers;
  body: unknown;
  redirect: string | undefined;
}

/** A provider whose calls are answered by `answer`, and the calls it made. */
function fakeMeta(answer: (call: Call) => Response | Promise<Response>, settings: Record<string, unknown> = {}) {
  const calls: Call[] = [];
  const fetch: Runtime["fetch"] = async (input, init) => {
    const call = {
      method: init?.method ?? "GET",
      url: new URL(String(input)),
      headers: new Headers(init?.headers),
      body: typeof init?.body === "string" ? JSON.parse(init.body) : undefined,
      redirect: init?.redirect,
    };
    calls.push(call);
    const response = await answer(call);
    init?.signal?.throwIfAborted();
    return response;
  };
  const rt = createRuntime({ ...env, ...settings }, { fetch, clock: () => NOW });
  return { provider: metaProvider(rt), calls };
}

function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json", ...headers } });
}

function refusal(
  code: number,
  status = 400,
  extra: Record<string, unknown> = {},
  headers: Record<string, string> = {},
) {
  const error = { message: `(#${code}) Some title`, type: "OAuthException", code, fbtrace_id: "A", ...extra };
  return json({ error }, status, headers);
}

const ACCEPTED = {
  messaging_product: "whatsapp",
  contacts: [{ input: "16505551234", wa_id: "16505551234" }],
  messages: [{ id: "wamid.OK" }],
};

async function sendTo(answer: () => Response | Promise<Response>, request = text, settings = {}): Promise<SendOutcome> {
  return fakeMeta(answer, settings).provider.send(connection, request);
}

async function bodyOf(request: Partial<SendRequest>): Promise<unknown> {
  const meta = fakeMeta(() => json(ACCEPTED));
  await meta.provider.send(connection, { ...text, ...request });
  return meta.calls[0]?.body;
}

describe("a send", () => {
  it("posts to the number's messages, with the token in the header only", async () => {
    const meta = fakeMeta(() => json(ACCEPTED));
    const outcome = await meta.provider.send(connection, text);
    expect(outcome).toEqual({ kind: "sent", waMessageId: "wamid.OK", waId: "16505551234", userId: null, held: false });
    const [call] = meta.calls;
    expect(call?.method).toBe("POST");
    expect(call?.url.href).toBe("https://graph.facebook.com/v25.0/106540352242922/messages");
    expect(call?.headers.get("authorization")).toBe(`Bearer ${TOKEN}`);
    expect(call?.redirect).toBe("manual");
    expect(call?.body).toEqual({
      messaging_product: "whatsapp",
      recipient_type: "individual",
      to: "16505551234",
      type: "text",
      biz_opaque_callback_data: "0197-message.1",
      text: { body: "Hello" },
    });
  });

  it("follows the configured version and base address", async () => {
    const meta = fakeMeta(() => json(ACCEPTED), {
      META_GRAPH_URL: "http://127.0.0.1:8001/graph/",
      WHATSAPP_API_VERSION: "v26.0",
    });
    await meta.provider.send(connection, text);
    expect(meta.calls[0]?.url.href).toBe("http://127.0.0.1:8001/graph/v26.0/106540352242922/messages");
  });

  it.each<[string, Record<string, unknown>, unknown]>([
    ["text", { body: "Hi", preview_url: true, stray: 1 }, { body: "Hi", preview_url: true }],
    ["image", { id: "1", caption: "C", filename: "no" }, { id: "1", caption: "C" }],
    ["video", { link: "https://x.example/v.mp4", caption: "C" }, { link: "https://x.example/v.mp4", caption: "C" }],
    ["document", { id: "1", caption: "C", filename: "a.pdf" }, { id: "1", caption: "C", filename: "a.pdf" }],
    ["audio", { id: "1", voice: true, caption: "no" }, { id: "1", voice: true }],
    ["sticker", { id: "1" }, { id: "1" }],
    [
      "location",
      { latitude: 1.5, longitude: -2, name: "N", address: "A" },
      { latitude: 1.5, longitude: -2, name: "N", address: "A" },
    ],
    ["contacts", { contacts: [{ name: { formatted_name: "A" } }] }, [{ name: { formatted_name: "A" } }]],
    ["reaction", { message_id: "wamid.X", emoji: "" }, { message_id: "wamid.X", emoji: "" }],
    [
      "interactive",
      { type: "button", body: { text: "?" }, action: { buttons: [] } },
      { type: "button", body: { text: "?" }, action: { buttons: [] } },
    ],
    [
      "template",
      { name: "hello", language: { code: "en_US" }, components: [] },
      { name: "hello", language: { code: "en_US" }, components: [] },
    ],
  ])("of type %s sends its payload under its own name", async (type, content, payload) => {
    expect(await bodyOf({ type, content })).toMatchObject({ type, [type]: payload });
  });

  it("quotes the message it answers", async () => {
    expect(await bodyOf({ replyTo: "wamid.X" })).toMatchObject({ context: { message_id: "wamid.X" } });
  });

  it("names a person without a number by user id, and a group by its id", async () => {
    const person = await bodyOf({ recipient: { phone: null, userId: "US.1349" } });
    expect(person).toMatchObject({ recipient_type: "individual", recipient: "US.1349" });
    expect(person).not.toHaveProperty("to");
    expect(await bodyOf({ recipient: { phone: "16505551234", userId: "US.1349" } })).toMatchObject({
      to: "16505551234",
    });
    const group = await bodyOf({ recipient: { phone: null, userId: null, groupId: "Y2Fw" } });
    expect(group).toMatchObject({ recipient_type: "group", to: "Y2Fw" });
  });

  it.each<[string, Partial<SendRequest>]>([
    ["a type nobody can send", { type: "poll", content: {} }],
    ["a prototype's name", { type: "constructor", content: {} }],
    ["media without id or link", { type: "image", content: { caption: "C" } }],
    ["an empty text", { content: { body: "" } }],
    ["no recipient", { recipient: { phone: null, userId: null } }],
  ])("of %s fails for good without a call", async (_, request) => {
    const meta = fakeMeta(() => json(ACCEPTED));
    expect(await meta.provider.send(connection, { ...text, ...request })).toMatchObject({
      kind: "permanent",
      error: { code: "invalid_content", retryable: false },
    });
    expect(meta.calls).toEqual([]);
  });

  it("learns the person's number and user id from the answer", async () => {
    const body = {
      messages: [{ id: "wamid.1", message_status: "accepted" }],
      contacts: [{ input: "US.1", user_id: "US.1" }],
    };
    expect(await sendTo(() => json(body))).toMatchObject({ kind: "sent", waId: null, userId: "US.1", held: false });
  });

  it.each(["held_for_quality_assessment", "paused"])("that Meta holds back (%s) says so", async (message_status) => {
    expect(await sendTo(() => json({ messages: [{ id: "w", message_status }] }))).toMatchObject({
      kind: "sent",
      held: true,
    });
  });
});

describe("an error of Meta's", () => {
  it.each<[number, number, SendOutcome["kind"], string?]>([
    // The HTTP status is what was captured or mocked somewhere; it must not matter.
    [0, 401, "blocked", "number"],
    [3, 500, "blocked", "number"],
    [10, 403, "blocked", "number"],
    [190, 401, "blocked", "number"],
    [200, 403, "blocked", "number"],
    [299, 403, "blocked", "number"],
    [2500, 400, "blocked", "number"],
    [131005, 403, "blocked", "number"],
    [131037, 400, "blocked", "number"],
    [131045, 500, "blocked", "number"],
    [133005, 400, "blocked", "number"],
    [133006, 400, "blocked", "number"],
    [133010, 400, "blocked", "number"],
    [368, 403, "blocked", "account"],
    [131031, 403, "blocked", "account"],
    [131042, 400, "blocked", "account"],
    [131044, 400, "blocked", "account"],
    [2, 500, "transient"],
    [4, 429, "transient"],
    [613, 429, "transient"],
    [80007, 400, "transient"],
    [130429, 403, "transient"],
    [131000, 500, "transient"],
    [131016, 500, "transient"],
    [131048, 429, "transient"],
    [131053, 400, "transient"],
    [131056, 403, "transient"],
    [131057, 400, "transient"],
    [131064, 400, "transient"],
    [132069, 400, "transient"],
    [133000, 500, "transient"],
    [133004, 503, "transient"],
    [133016, 429, "transient"],
    [2494100, 400, "transient"],
    [33, 400, "permanent"],
    [100, 400, "permanent"],
    [470, 400, "permanent"],
    [803, 404, "permanent"],
    [130403, 400, "permanent"],
    [130472, 500, "permanent"],
    [130497, 403, "permanent"],
    [131008, 400, "permanent"],
    [131009, 400, "permanent"],
    [131021, 400, "permanent"],
    [131026, 400, "permanent"],
    [131030, 400, "permanent"],
    [131047, 400, "permanent"],
    [131049, 429, "permanent"],
    [131050, 400, "permanent"],
    [131051, 400, "permanent"],
    [131052, 500, "permanent"],
    [131062, 400, "permanent"],
    [132000, 400, "permanent"],
    [132001, 404, "permanent"],
    [132007, 500, "permanent"],
    [132015, 400, "permanent"],
    [132016, 400, "permanent"],
    [132068, 400, "permanent"],
    [134011, 400, "permanent"],
    [137000, 400, "permanent"],
  ])("%i (with HTTP %i) is %s %s", async (code, status, kind, scope) => {
    const outcome = await sendTo(() => refusal(code, status));
    expect(outcome).toMatchObject({
      kind,
      ...(scope ? { scope } : {}),
      error: { code, title: "Some title", retryable: kind !== "permanent" },
    });
  });

  it("131049 is never retryable, even when Meta calls it transient", async () => {
    const outcome = await sendTo(() => refusal(131049, 500, { is_transient: true }, { "Retry-After": "5" }));
    expect(outcome).toMatchObject({ kind: "permanent", error: { code: 131049, retryable: false } });
  });

  it.each([1, 135000])("%i is worth one more try", async (code) => {
    const attempt = (n: number) => sendTo(() => refusal(code, 400), { ...text, callbackId: `m.${n}` });
    expect(await attempt(1)).toMatchObject({ kind: "transient", error: { retryable: true } });
    expect(await attempt(2)).toMatchObject({ kind: "permanent", error: { code, retryable: false } });
  });

  it("of an unknown code is judged by what Meta says of it, then by whose fault it was", async () => {
    expect(await sendTo(() => refusal(999_999, 400))).toMatchObject({ kind: "permanent", error: { retryable: false } });
    expect(await sendTo(() => refusal(999_999, 500, { is_transient: true }))).toMatchObject({ kind: "transient" });
    expect(await sendTo(() => refusal(999_999, 400, { is_transient: true }))).toMatchObject({ kind: "transient" });
    expect(await sendTo(() => refusal(999_999, 500))).toMatchObject({ kind: "ambiguous" });
  });

  it("in a 200 is one all the same", async () => {
    expect(await sendTo(() => refusal(131026, 200))).toMatchObject({ kind: "permanent", error: { code: 131026 } });
  });

  it("keeps Meta's details, and never a token that Meta repeats", async () => {
    const outcome = await sendTo(() =>
      refusal(190, 401, {
        message: `Malformed access token ${TOKEN}`,
        error_data: { messaging_product: "whatsapp", details: `About ${TOKEN}.` },
      }),
    );
    expect(outcome).toMatchObject({
      error: { code: 190, title: "Malformed access token [secret]", details: "About [secret]." },
    });
  });

  it("is shown in Meta's words for people where there are some", async () => {
    const said = { error_user_title: "Title", error_user_msg: "What to do", code: "100" };
    expect(await sendTo(() => refusal(100, 400, said))).toMatchObject({
      kind: "permanent",
      error: { code: 100, title: "Title", details: "What to do" },
    });
  });
});

describe("waiting", () => {
  it("honours Retry-After in seconds and as a date", async () => {
    expect(await sendTo(() => refusal(130429, 429, {}, { "Retry-After": "7" }))).toMatchObject({ retryAfter: 7000 });
    const date = new Date(NOW + 90_000).toUTCString();
    expect(await sendTo(() => refusal(80007, 400, {}, { "Retry-After": date }))).toMatchObject({ retryAfter: 90_000 });
    expect(retryAfterOf(new Date(NOW - 5000).toUTCString(), NOW)).toBe(0);
    expect(retryAfterOf("soon", NOW)).toBeNull();
    expect(retryAfterOf("-1", NOW)).not.toBeLessThan(0);
  });

  it("leaves it to the sender where nobody named a time", async () => {
    expect(await sendTo(() => refusal(130429, 429))).toMatchObject({ kind: "transient", retryAfter: null });
  });

  it.each([
    [1, 4_000],
    [2, 16_000],
    [3, 64_000],
    [20, 3_600_000],
  ])("after a pair limit at attempt %i is 4^attempt seconds: %i ms", async (attempt, retryAfter) => {
    const outcome = await sendTo(() => refusal(131056, 400), { ...text, callbackId: `a.b.${attempt}` });
    expect(outcome).toMatchObject({ kind: "transient", retryAfter });
  });

  it("is longer after a spam limit than after a busy second", async () => {
    expect(await sendTo(() => refusal(131048, 400))).toMatchObject({ retryAfter: 600_000 });
  });
});

describe("an answer that is none", () => {
  it.each<[string, () => Response | Promise<Response>]>([
    ["a connection that breaks", () => Promise.reject(new TypeError("Network connection lost"))],
    ["a 200 that is no JSON", () => new Response("<html>")],
    ["an empty 200", () => new Response(null)],
    ["a 200 without a message id", () => json({ messaging_product: "whatsapp", messages: [] })],
    ["a 500 of a proxy", () => new Response("Bad gateway", { status: 502 })],
    ["a 500 with a body of no error", () => json({ status: "error" }, 500)],
    ["a 408", () => new Response("", { status: 408 })],
    ["an answer too large to be Meta's", () => new Response(JSON.stringify(ACCEPTED) + " ".repeat(300_000))],
    ["an error without a code", () => json({ error: { message: "?", code: null } }, 500)],
  ])("%s leaves open whether the message arrived", async (_, answer) => {
    expect(await sendTo(answer)).toMatchObject({ kind: "ambiguous", error: { code: "outcome_unknown" } });
  });

  it("a time-out leaves it open too", async () => {
    const rt = createRuntime(
      { ...env, PIPELINE: JSON.stringify({ providerTimeout: 20 }) },
      {
        fetch: (_, init) =>
          new Promise((_resolve, reject) => {
            init?.signal?.addEventListener("abort", () => reject(init.signal?.reason));
          }),
      },
    );
    expect(await metaProvider(rt).send(connection, text)).toMatchObject({
      kind: "ambiguous",
      error: { details: "The provider did not answer in time" },
    });
  });

  it("an answer whose body stops coming is cut off by the time-out", async () => {
    const rt = createRuntime(
      { ...env, PIPELINE: JSON.stringify({ providerTimeout: 50 }) },
      {
        fetch: async (_, init) =>
          new Response(
            new ReadableStream({
              start(controller) {
                controller.enqueue(new TextEncoder().encode('{"messages":'));
                init?.signal?.addEventListener("abort", () => controller.error(init.signal?.reason));
              },
            }),
          ),
      },
    );
    expect(await metaProvider(rt).send(connection, text)).toMatchObject({ kind: "ambiguous" });
  });

  it.each([301, 307, 401, 403, 404, 413, 429])(
    "HTTP %i from something on the way did not arrive, so it is tried again",
    async (status) => {
      const outcome = await sendTo(() => new Response("no", { status, headers: { "Retry-After": "3" } }));
      expect(outcome).toMatchObject({ kind: "transient", error: { code: "provider_unavailable" }, retryAfter: 3000 });
    },
  );
});

describe("a read receipt", () => {
  it("marks the message read, and shows typing when asked to", async () => {
    const meta = fakeMeta(() => json({ success: true }));
    expect(await meta.provider.markRead(connection, "wamid.X", false)).toEqual({ ok: true, value: null });
    await meta.provider.markRead(connection, "wamid.X", true);
    const read = { messaging_product: "whatsapp", status: "read", message_id: "wamid.X" };
    expect(meta.calls.map((call) => call.body)).toEqual([read, { ...read, typing_indicator: { type: "text" } }]);
  });

  it("of a message that is not there is refused", async () => {
    const meta = fakeMeta(() => refusal(131009, 400));
    expect(await meta.provider.markRead(connection, "wamid.X", false)).toMatchObject({
      ok: false,
      refused: true,
      error: { code: 131009 },
    });
  });
});

const NUMBER = {
  id: "106540352242922",
  display_phone_number: "+1 631-555-8151",
  verified_name: "Lucky Shrub",
  quality_rating: "GREEN",
  status: "CONNECTED",
  throughput: { level: "STANDARD" },
  whatsapp_business_manager_messaging_limit: "TIER_2K",
};

function debugToken(data: Record<string, unknown>): Response {
  return json({ data: { is_valid: true, ...data } });
}

describe("describing a number", () => {
  /** Answers the number, with the token's facts beside it. */
  function describeWith(number: Record<string, unknown>, data: Record<string, unknown> = {}, settings = {}) {
    const meta = fakeMeta(
      (call) => (call.url.pathname.endsWith("/debug_token") ? debugToken(data) : json({ ...NUMBER, ...number })),
      settings,
    );
    return { meta, result: meta.provider.describeNumber({ ...connection, businessId: null }) };
  }

  it("tells what is kept of it", async () => {
    const { meta, result } = describeWith(
      {},
      { expires_at: 1_800_000_000, granular_scopes: [{ scope: "whatsapp_business_management", target_ids: ["77"] }] },
    );
    expect(await result).toEqual({
      ok: true,
      value: {
        phoneNumber: "+16315558151",
        verifiedName: "Lucky Shrub",
        qualityRating: "GREEN",
        messageLimit: 2000,
        tier: "STANDARD",
        status: "active",
        providerStatus: "CONNECTED",
        businessId: "77",
        tokenExpiresAt: 1_800_000_000_000,
      },
    });
    const asked = meta.calls.find((call) => call.url.pathname.endsWith("/106540352242922"));
    expect(asked?.url.searchParams.get("fields")).toContain("whatsapp_business_manager_messaging_limit");
    const debugged = meta.calls.find((call) => call.url.pathname.endsWith("/debug_token"));
    expect(debugged?.headers.get("authorization")).toBe("Bearer 1000000000000001|test-app-secret-1234567890");
  });

  it.each([
    ["TIER_250", 250],
    ["TIER_1K", 1000],
    ["TIER_100K", 100_000],
    ["TIER_UNLIMITED", null],
    ["TIER_NOT_SET", null],
    [undefined, null],
  ])("%s is a limit of %s", async (tier, messageLimit) => {
    const { result } = describeWith({ whatsapp_business_manager_messaging_limit: tier });
    expect(await result).toMatchObject({ value: { messageLimit } });
  });

  it.each([
    ["CONNECTED", "active"],
    ["PENDING", "pending"],
    ["UNVERIFIED", "pending"],
    ["BANNED", "disabled"],
    ["A_NEW_WORD", "disabled"],
  ])("%s is %s", async (providerStatus, status) => {
    const { meta, result } = describeWith({ status: providerStatus });
    expect(await result).toMatchObject({ value: { status, providerStatus } });
    expect(meta.provider.statusOf(providerStatus)).toBe(status);
  });

  it("knows other quality words as UNKNOWN, and takes what is missing", async () => {
    const { result } = describeWith({ quality_rating: "NA", throughput: undefined, verified_name: null });
    expect(await result).toMatchObject({ value: { qualityRating: "UNKNOWN", tier: "STANDARD", verifiedName: null } });
  });

  it("asks versions before v24.0 by the field they have", async () => {
    const { meta, result } = describeWith(
      { messaging_limit_tier: "TIER_10K", whatsapp_business_manager_messaging_limit: undefined },
      {},
      { WHATSAPP_API_VERSION: "v23.0" },
    );
    expect(await result).toMatchObject({ value: { messageLimit: 10_000 } });
    const fields = meta.calls.map((call) => call.url.searchParams.get("fields")).join(",");
    expect(fields).toContain("messaging_limit_tier");
    expect(fields).not.toContain("whatsapp_business_manager_messaging_limit");
  });

  it("without the app's settings leaves the account and the token's end open", async () => {
    const { meta, result } = describeWith({}, {}, { META_APP_ID: "", META_APP_SECRET: "" });
    expect(await result).toMatchObject({ ok: true, value: { businessId: null, tokenExpiresAt: undefined } });
    expect(meta.calls).toHaveLength(1);
  });

  it("says of a token that never ends that it does not", async () => {
    const { result } = describeWith({}, { expires_at: 0 });
    expect(await result).toMatchObject({ value: { tokenExpiresAt: null } });
  });

  it("finds the account of the number among the token's many", async () => {
    const meta = fakeMeta((call) => {
      if (call.url.pathname.endsWith("/debug_token")) {
        return debugToken({ granular_scopes: [{ scope: "whatsapp_business_messaging", target_ids: ["1", "2", "3"] }] });
      }
      if (call.url.pathname.endsWith("/2/phone_numbers")) return json({ data: [{ id: "5" }, { id: NUMBER.id }] });
      if (call.url.pathname.endsWith("/phone_numbers")) return json({ data: [] });
      return json(NUMBER);
    });
    const result = await meta.provider.describeNumber({ ...connection, businessId: null });
    expect(result).toMatchObject({ value: { businessId: "2" } });
  });

  it("is refused with a bad token, and unanswered by a provider that is down", async () => {
    expect(await fakeMeta(() => refusal(190, 401)).provider.describeNumber(connection)).toMatchObject({
      ok: false,
      refused: true,
      error: { code: 190, title: "Some title" },
    });
    for (const answer of [() => refusal(2, 500), () => refusal(4, 429), () => new Response("", { status: 502 })]) {
      expect(await fakeMeta(answer).provider.describeNumber(connection)).toMatchObject({ ok: false, refused: false });
    }
    const nonsense = fakeMeta(() => json({ id: "1" }));
    expect(await nonsense.provider.describeNumber(connection)).toMatchObject({ ok: false, refused: false });
  });
});

describe("subscribing", () => {
  it("posts to the account's subscribed apps", async () => {
    const meta = fakeMeta(() => json({ success: true }));
    expect(await meta.provider.subscribe(connection, webhook)).toEqual({ ok: true, value: null });
    expect(meta.calls[0]?.url.pathname).toBe("/v25.0/102290129340398/subscribed_apps");
    expect(meta.calls[0]?.method).toBe("POST");
  });

  it("without a known account does not try", async () => {
    const meta = fakeMeta(() => json({ success: true }));
    expect(await meta.provider.subscribe({ ...connection, businessId: null }, webhook)).toMatchObject({ ok: false });
    expect(meta.calls).toEqual([]);
  });
});

describe("exchanging a token", () => {
  it("asks with the app's credentials and tells when the new one ends", async () => {
    const meta = fakeMeta((call) =>
      call.url.pathname.endsWith("/debug_token")
        ? debugToken({ expires_at: 1_780_000_000 })
        : json({ access_token: "EAAlong", token_type: "bearer", expires_in: 5_184_000 }),
    );
    const result = await meta.provider.exchangeToken(connection);
    expect(result).toEqual({ ok: true, value: { accessToken: "EAAlong", expiresAt: NOW + 5_184_000_000 } });
    const call = meta.calls.find((c) => c.url.pathname.endsWith("/oauth/access_token"));
    expect(Object.fromEntries(call?.url.searchParams ?? [])).toEqual({
      grant_type: "fb_exchange_token",
      client_id: "1000000000000001",
      client_secret: "test-app-secret-1234567890",
      fb_exchange_token: TOKEN,
    });
    expect(call?.headers.has("authorization")).toBe(false);
  });

  it("leaves a token that never ends as it is", async () => {
    const meta = fakeMeta(() => debugToken({ expires_at: 0 }));
    expect(await meta.provider.exchangeToken(connection)).toEqual({
      ok: true,
      value: { accessToken: TOKEN, expiresAt: null },
    });
    expect(meta.calls).toHaveLength(1);
  });

  it("names the setting that is missing", async () => {
    const meta = fakeMeta(() => json({}), { META_APP_SECRET: "" });
    await expect(meta.provider.exchangeToken(connection)).rejects.toMatchObject({
      code: "not_configured",
      message: expect.stringContaining("META_APP_SECRET"),
    });
  });

  it("shows neither token nor app secret in Meta's refusal", async () => {
    const meta = fakeMeta((call) =>
      call.url.pathname.endsWith("/debug_token")
        ? debugToken({})
        : refusal(1, 400, { message: `Bad ${TOKEN} with test-app-secret-1234567890` }),
    );
    expect(await meta.provider.exchangeToken(connection)).toMatchObject({
      ok: false,
      refused: true,
      error: { title: "Bad [secret] with [secret]" },
    });
  });
});

it("every provider can be spoken to", () => {
  const rt = createRuntime(env);
  for (const name of ["meta", "360dialog", "infobip"] as const) expect(providerFor(rt, name).name).toBe(name);
});
