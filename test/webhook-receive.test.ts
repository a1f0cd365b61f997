import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { sealAppSecret } from "../src/phone-numbers/service-pipeline";
import { createRuntime } from "../src/platform/runtime";
import { parseMetaWebhook } from "../src/providers/meta-webhook";
import { parseProviderJson } from "../src/providers/provider-json";
import { newWorkspace } from "./support/identity";
import {
  APP_SECRET,
  about,
  inboxOf,
  message,
  PREVIOUS_APP_SECRET,
  postSigned,
  receive,
  request,
  says,
  signature,
} from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, heldQueues } from "./support/pipeline";

const TOKEN = "echodesk_whatsapp_webhook_token_2024";
const NUMBER = { providerNumberId: "106540352242922", businessId: "102290129340398", phoneNumber: "+15550783881" };
const BODY = JSON.stringify(says(NUMBER, { wa: "16505551234", name: "Ana" }, "Hi"));

function challenge(path: string, query: Record<string, string>): Promise<Response> {
  return request("GET", `${path}?${new URLSearchParams(query)}`);
}

/** A deployment without these settings. */
function without(...settings: string[]): Env {
  const kept = Object.entries(heldQueues().env).filter(([name]) => !settings.includes(name));
  return Object.fromEntries(kept) as unknown as Env;
}

/** Queues that keep what they get, and databases and objects that nobody may touch. */
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
  const bindings = { DIRECTORY: forbidden, SHARD_0: forbidden, SHARD_1: forbidden, WORKSPACE_HUB: forbidden };
  const appEnv = { ...held, ...bindings, MEDIA: forbidden, CONVERSATION: forbidden, SENDER_GATE: forbidden };
  return { appEnv: { ...appEnv, API_QUOTA: forbidden } as unknown as Env, inbound: () => queues.get("INBOUND") ?? [] };
}

/** The events of all queued parts, in the order of their POST. */
async function eventsOf(jobs: readonly { body: unknown }[]) {
  const parts = jobs.map(({ body }) => body as { body?: string; r2Key?: string; firstPosition: number });
  const events = await Promise.all(
    parts.map(async ({ body, r2Key, firstPosition }) => {
      const text = body ?? (await (await env.MEDIA.get(r2Key ?? ""))?.text()) ?? "";
      return parseMetaWebhook(parseProviderJson(text), { firstPosition });
    }),
  );
  return events.flat().sort((a, b) => a.position - b.position);
}

describe.each(["/webhook", "/webhook/", "/webhooks/meta/0190a000-0000-7000-8000-000000000001"])(
  "the verification of %s",
  (path) => {
    it("echoes any challenge to who knows the token", async () => {
      for (const text of ["1158201444", "a challenge, not a number <b>&</b>"]) {
        const query = { "hub.mode": "subscribe", "hub.verify_token": TOKEN, "hub.challenge": text };
        const response = await challenge(path, query);
        expect(response.status).toBe(200);
        expect(await response.text()).toBe(text);
        expect(response.headers.get("content-type")).toMatch(/^text\/plain/);
        expect(response.headers.get("x-content-type-options")).toBe("nosniff");
      }
    });

    it("refuses another token, none, another mode, none, and a deployment without a token", async () => {
      const good = { "hub.mode": "subscribe", "hub.verify_token": TOKEN, "hub.challenge": "1" };
      const refused: Record<string, string>[] = [
        { ...good, "hub.verify_token": `${TOKEN}x` },
        { ...good, "hub.verify_token": "" },
        { "hub.mode": "subscribe", "hub.challenge": "1" },
        { ...good, "hub.mode": "unsubscribe" },
        { "hub.verify_token": TOKEN, "hub.challenge": "1" },
      ];
      for (const bad of refused) {
        const response = await challenge(path, bad);
        expect(response.status, JSON.stringify(bad)).toBe(403);
        expect(await response.text()).not.toContain(TOKEN);
      }
      const asked = `${path}?${new URLSearchParams(good)}`;
      expect((await request("GET", asked, {}, without("WHATSAPP_WEBHOOK_VERIFY_TOKEN"))).status).toBe(403);
    });
  },
);

describe("a POST", () => {
  it("is queued as it came, with and without slash, and touches no database, object or bucket", async () => {
    for (const path of ["/webhook", "/webhook/"]) {
      const { appEnv, inbound } = queuesOnly();
      const response = await postSigned(BODY, { path, appEnv });
      expect(response.status, await response.clone().text()).toBe(200);
      expect(inbound()).toHaveLength(1);
      expect(inbound()[0]?.body).toMatchObject({
        kind: "webhook.part",
        connection: null,
        firstPosition: 0,
        body: BODY,
      });
    }
  });

  it("is refused without the right signature of exactly these bytes, and nothing is queued", async () => {
    const good = await signature(BODY);
    const sha1 = new Uint8Array(await crypto.subtle.digest("SHA-1", new TextEncoder().encode(BODY)));
    const headers: Record<string, string | undefined> = {
      "no header": undefined,
      "an empty header": "",
      "another secret": await signature(BODY, "some-other-secret"),
      "another body": await signature(`${BODY} `),
      "one digit off": good.replace(/.$/, (last) => (last === "0" ? "1" : "0")),
      "too short": good.slice(0, -2),
      "too long": `${good}00`,
      "no hex": good.replace(/.$/, "g"),
      "no prefix": good.slice("sha256=".length),
      "another algorithm": `sha1=${[...sha1].map((b) => b.toString(16).padStart(2, "0")).join("")}`,
      "another algorithm's name": good.replace("sha256", "sha512"),
      "two signatures": `${good}, ${good}`,
    };
    for (const [name, header] of Object.entries(headers)) {
      const { appEnv, inbound } = queuesOnly();
      const init = header === undefined ? {} : { headers: { "X-Hub-Signature-256": header } };
      const response = await request("POST", "/webhook", { ...init, body: BODY }, appEnv);
      expect(response.status, name).toBe(401);
      expect(inbound(), name).toEqual([]);
    }
  });

  it("is taken whether the digits of the signature are small or capital: the bytes are the same", async () => {
    const { appEnv, inbound } = queuesOnly();
    const header = (await signature(BODY)).replace(/[a-f]/g, (digit, place) =>
      place > 7 ? digit.toUpperCase() : digit,
    );
    const response = await request(
      "POST",
      "/webhook",
      { headers: { "X-Hub-Signature-256": header }, body: BODY },
      appEnv,
    );
    expect(response.status).toBe(200);
    expect(inbound()).toHaveLength(1);
  });

  it("is taken under the previous secret while one is rotated, and under none where none is configured", async () => {
    expect((await postSigned(BODY, { secret: PREVIOUS_APP_SECRET })).status).toBe(200);
    const appEnv = without("META_APP_SECRET", "META_APP_SECRET_PREVIOUS");
    for (const secret of [APP_SECRET, PREVIOUS_APP_SECRET, "undefined"]) {
      expect((await postSigned(BODY, { secret, appEnv })).status).toBe(401);
    }
  });

  it("signs the bytes, not what they mean: escaped unicode and odd white space are verified as sent", async () => {
    const escaped = BODY.replace("Hi", "Caf\\u00e9 \\ud83d\\ude00").replaceAll(",", " ,\n");
    const { appEnv, inbound } = queuesOnly();
    expect((await postSigned(escaped, { appEnv })).status).toBe(200);
    expect(inbound()[0]?.body).toMatchObject({ body: escaped });
    const meant = JSON.stringify(JSON.parse(escaped));
    const headers = { "X-Hub-Signature-256": await signature(escaped) };
    expect((await request("POST", "/webhook", { headers, body: meant }, appEnv)).status).toBe(401);
  });

  it("over 3 MB is refused, declared or streamed, signed or not", async () => {
    const size = 3 * 1024 * 1024 + 1;
    const big = new Uint8Array(size).fill(0x20);
    const headers = { "X-Hub-Signature-256": await signature(big) };
    const { appEnv, inbound } = queuesOnly();
    const declared = { headers: { ...headers, "Content-Length": String(size) }, body: big };
    expect((await request("POST", "/webhook", declared, appEnv)).status).toBe(413);
    const streamed = new ReadableStream({
      pull(controller) {
        controller.enqueue(new Uint8Array(65_536));
      },
    });
    expect((await request("POST", "/webhook", { headers, body: streamed }, appEnv)).status).toBe(413);
    expect(inbound()).toEqual([]);
    const largest = new Uint8Array(size - 1).fill(0x20);
    const good = { "X-Hub-Signature-256": await signature(largest) };
    expect((await request("POST", "/webhook", { headers: good, body: largest })).status).toBe(200);
  });

  it("that the queue does not take is answered 500, so that the provider sends it again", async () => {
    const { appEnv } = queuesOnly();
    const refusing = {
      send: () => Promise.reject(new Error("Too Many Requests")),
      sendBatch: () => Promise.reject(new Error("Too Many Requests")),
    };
    const response = await postSigned(BODY, { appEnv: { ...appEnv, INBOUND: refusing } as unknown as Env });
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain("Too Many");
  });

  it("that looks like Infobip's or a form is refused without a signature of Meta's", async () => {
    for (const body of ['{"results":[{"from":"1"}]}', '{"sender":"+1","message":"hi"}', "not json", ""]) {
      expect((await request("POST", "/webhook", { body })).status, body).toBe(401);
    }
  });
});

describe("a number's own address", () => {
  it("takes its own app's secret there and nowhere else; the app's secret works there too", async () => {
    const workspace = await newWorkspace();
    const [own, other] = [await registerNumber(workspace), await registerNumber(workspace)];
    const secret = "the-secret-of-another-app-0123456789";
    const sealed = await sealAppSecret(createRuntime(env), workspace.workspaceId, own.id, secret);
    await env.DIRECTORY.prepare("UPDATE provider_numbers SET app_secret_sealed = ?2 WHERE phone_number_id = ?1")
      .bind(own.id, sealed)
      .run();
    const { env: appEnv, held } = heldQueues();
    expect((await postSigned(BODY, { path: `/webhooks/meta/${own.id}`, secret, appEnv })).status).toBe(200);
    expect(held.get("INBOUND")?.[0]?.body).toMatchObject({ connection: own.id });
    expect((await postSigned(BODY, { path: `/webhooks/meta/${own.id}/`, appEnv })).status).toBe(200);
    expect((await postSigned(BODY, { path: `/webhooks/meta/${other.id}`, secret, appEnv })).status).toBe(401);
    expect((await postSigned(BODY, { path: "/webhook", secret, appEnv })).status).toBe(401);
    expect((await postSigned(BODY, { path: `/webhooks/meta/${crypto.randomUUID()}`, secret, appEnv })).status).toBe(
      401,
    );
    expect((await request("POST", `/webhooks/meta/${own.id}`, { body: BODY }, appEnv)).status).toBe(401);
    expect(held.get("INBOUND")).toHaveLength(2);
  });
});

describe("a large body", () => {
  const people = Array.from({ length: 300 }, (_, n) => ({
    wa: `1650555${String(n).padStart(4, "0")}`,
    name: `P ${n}`,
  }));

  it("of 2.9 MB is cut into queue messages, of which every item arrives once and in its place", async () => {
    const items = Array.from({ length: 1000 }, (_, n) =>
      message(people[n % people.length] ?? {}, { id: `wamid.${n}`, text: { body: `${n} "\\ ${"ä".repeat(1380)}` } }),
    );
    const contacts = people.map(({ wa, name }) => ({ profile: { name }, wa_id: wa }));
    const body = JSON.stringify(about(NUMBER, { contacts, messages: items }));
    expect(new TextEncoder().encode(body).byteLength).toBeGreaterThan(2_800_000);
    const { appEnv, inbound } = queuesOnly();
    const sizes: number[] = [];
    const queue = {
      sendBatch: async (messages: Iterable<{ body: unknown }>) => {
        const list = [...messages];
        const bytes = list.map(({ body }) => new TextEncoder().encode(JSON.stringify(body)).byteLength);
        expect(list.length).toBeLessThanOrEqual(100);
        expect(Math.max(...bytes)).toBeLessThan(128_000);
        expect(bytes.reduce((sum, n) => sum + n + 100, 0)).toBeLessThan(256_000);
        sizes.push(list.length);
        await appEnv.INBOUND.sendBatch(list as MessageSendRequest[]);
      },
    };
    expect((await postSigned(body, { appEnv: { ...appEnv, INBOUND: queue } as unknown as Env })).status).toBe(200);
    expect(sizes.length).toBeGreaterThan(1);
    const events = await eventsOf(inbound());
    expect(events.map((event) => event.position)).toEqual(items.map((_, n) => n));
    expect(events).toEqual(parseMetaWebhook(parseProviderJson(body)));
  });

  it("with one item too large for a queue message goes through the bucket, its neighbours do not", async () => {
    const items = [
      message({ wa: "16505550001" }, { id: "wamid.small-1" }),
      message({ wa: "16505550001" }, { id: "wamid.large", text: { body: "x".repeat(200_000) } }),
      message({ wa: "16505550001" }, { id: "wamid.small-2" }),
    ];
    const { env: appEnv, held } = heldQueues();
    expect((await postSigned(JSON.stringify(about(NUMBER, { messages: items })), { appEnv })).status).toBe(200);
    const jobs = (held.get("INBOUND") ?? []).map(({ body }) => body as Record<string, unknown>);
    expect(jobs.filter((job) => "r2Key" in job)).toHaveLength(1);
    const events = await eventsOf(held.get("INBOUND") ?? []);
    expect(events.map((event) => event.kind === "message" && event.message.waMessageId)).toEqual([
      "wamid.small-1",
      "wamid.large",
      "wamid.small-2",
    ]);
  });

  it("that the bucket does not take is answered 500", async () => {
    const { appEnv } = queuesOnly();
    const body = JSON.stringify(says(NUMBER, { wa: "16505550001" }, "x".repeat(200_000)));
    expect((await postSigned(body, { appEnv })).status).toBe(500);
  });

  it("arrives whole: a message of 200 KB is stored and shown", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const { env: appEnv, held } = heldQueues();
    const long = "y".repeat(200_000);
    await postSigned(JSON.stringify(says(number, { wa: "16505550002" }, long)), { appEnv });
    const jobs = (held.get("INBOUND") ?? []).map(({ body }) => body);
    expect((await deliver("inbound", jobs)).retryBatch.retry).toBe(false);
    const [stored] = await inboxOf(workspace.workspaceId).messages();
    expect(JSON.parse(String(stored?.content))).toEqual({ body: long });
  });
});

describe("a signed body that is no webhook", () => {
  it.each([
    ["small", "<html>not json</html>"],
    ["with control characters", "\u0001".repeat(50_000)],
    ["large", `{"broken": "${"z".repeat(2_500_000)}`],
    ["another object", '{"object":"page","entry":[]}'],
  ])("is kept for the operator and stops nobody: %s", async (_name, body) => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const { env: appEnv, held } = heldQueues();
    expect((await postSigned(body, { appEnv })).status).toBe(200);
    const jobs = (held.get("INBOUND") ?? []).map(({ body: job }) => job as object);
    for (const job of jobs) expect(JSON.stringify(job).length).toBeLessThan(128_000);
    const before = await unrouted();
    const result = await deliver("inbound", [
      ...jobs,
      { ...jobs[0], body: JSON.stringify(says(number, { wa: "16505550003" })), r2Key: undefined },
    ]);
    expect(result.retryBatch.retry).toBe(false);
    expect(result.retryMessages).toEqual([]);
    expect(await inboxOf(workspace.workspaceId).messages()).toHaveLength(1);
    const kept = (await unrouted()).filter((row) => !before.some((old) => old.id === row.id));
    expect(kept).toHaveLength(1);
    const text =
      kept[0]?.r2_key === null
        ? JSON.parse(String(kept[0]?.raw))
        : await (await env.MEDIA.get(String(kept[0]?.r2_key)))?.text();
    expect(typeof text === "string" ? text : JSON.stringify(text)).toBe(body);
    // Again: the same row.
    await deliver("inbound", jobs, { attempts: 2 });
    expect((await unrouted()).length).toBe(before.length + 1);
  });
});

async function unrouted() {
  return (await env.DIRECTORY.prepare("SELECT id, raw, r2_key FROM unrouted_events").all()).results;
}

describe("an empty envelope", () => {
  it("is nothing, and is settled", async () => {
    await receive([
      { object: "whatsapp_business_account", entry: [] },
      { object: "whatsapp_business_account", entry: [{ id: "1", changes: [] }] },
    ]);
  });
});
