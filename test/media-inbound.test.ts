import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type MediaJob, mediaJobSchema } from "../src/media/jobs";
import { newUuid } from "../src/platform/ids";
import { hashOf } from "./support/files";
import { newWorkspace, type TestWorkspace, testRuntime } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { deliver, heldQueues } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { inboundText, webhookBody, webhookJob } from "./support/webhooks";

beforeEach(() => sandbox.settings({ media_url_ttl: 300 }));
afterEach(() => sandbox.clearFaults());

interface MessageBody {
  id: string;
  type: string;
  conversation_id: string;
  wa_message_id: string;
  media: {
    id: string | null;
    status: string;
    type: string;
    mime_type: string | null;
    file_name: string | null;
    file_size: number | null;
    error: { code: string | number; title: string } | null;
  } | null;
}

let customers = 0;

async function ready() {
  const workspace = await newWorkspace();
  const number = await registerNumber(workspace);
  customers += 1;
  const customer = `4915550${String(customers).padStart(5, "0")}`;
  const writes = (message: Record<string, unknown>) =>
    sandbox.customerSends(customer, { to: number.providerNumberId, ...message });
  return { workspace, number, customer, writes };
}

async function messages(workspace: TestWorkspace): Promise<MessageBody[]> {
  const response = await workspace.call("GET", `/api/messages?workspace_id=${workspace.workspaceId}`);
  return (await response.json<{ data: MessageBody[] }>()).data;
}

/** The newest message of the workspace, once its file has come this far. */
function untilMedia(workspace: TestWorkspace, ...statuses: string[]): Promise<MessageBody> {
  return vi.waitFor(
    async () => {
      const [message] = await messages(workspace);
      if (!message?.media || !statuses.includes(message.media.status)) {
        throw new Error(`The file is ${message?.media?.status}`);
      }
      return message;
    },
    { timeout: 10_000, interval: 20 },
  );
}

/** An environment that keeps the fetches that are ordered, and gives them out. */
function heldFetches(base: Env = env) {
  const held: { body: MediaJob; delaySeconds: number }[] = [];
  const keep = (body: unknown, delaySeconds = 0) => {
    held.push({ body: mediaJobSchema.parse(body), delaySeconds });
  };
  const queue = {
    send: async (body: unknown, options?: { delaySeconds?: number }) => keep(body, options?.delaySeconds),
    sendBatch: async (batch: Iterable<{ body: unknown; delaySeconds?: number }>) => {
      for (const { body, delaySeconds } of batch) keep(body, delaySeconds);
    },
  };
  return { held, env: { ...base, MEDIA_JOBS: queue } as unknown as Env };
}

/** Stores the sandbox's waiting webhooks without fetching any file; answers the fetches that were ordered. */
async function receiveHeld(body: object) {
  const fetches = heldFetches();
  const { retryMessages } = await deliver("inbound", [webhookJob(body)], { env: fetches.env });
  expect(retryMessages).toEqual([]);
  return fetches;
}

/** A webhook with a picture; the file is one that the sandbox holds, unless an id is given. */
async function picture(number: Awaited<ReturnType<typeof registerNumber>>, customer: string, image: object) {
  return webhookBody(number, {
    contacts: [{ profile: { name: "Ana" }, wa_id: customer }],
    messages: [
      {
        from: customer,
        id: `wamid.${newUuid()}`,
        timestamp: String(Math.floor(Date.now() / 1000)),
        type: "image",
        image,
      },
    ],
  });
}

/** A file at the provider, by its id. */
async function fileAtProvider(number: { providerNumberId: string }, bytes: Uint8Array, type = "image/png") {
  const form = new FormData();
  form.append("messaging_product", "whatsapp");
  form.append("file", new File([bytes as Uint8Array<ArrayBuffer>], "a.png", { type }));
  const response = await fetch(`https://graph.facebook.com/v25.0/${number.providerNumberId}/media`, {
    method: "POST",
    headers: { Authorization: "Bearer sandbox-token" },
    body: form,
  });
  return (await response.json<{ id: string }>()).id;
}

async function linkOf(id: string): Promise<string> {
  const response = await fetch(`https://graph.facebook.com/v25.0/${id}`, {
    headers: { Authorization: "Bearer sandbox-token" },
  });
  return (await response.json<{ url: string }>()).url;
}

async function bytesOf(workspace: TestWorkspace, id: string): Promise<Uint8Array> {
  const { url } = await (await workspace.call("GET", `/api/media/${id}/url`)).json<{ url: string }>();
  const { api } = await import("../src/api");
  return new Uint8Array(await (await api.fetch(new Request(url), env)).arrayBuffer());
}

describe("a file that a customer sends", () => {
  it("is fetched, stored as ours and shown on its message", async () => {
    const { workspace, writes } = await ready();
    const bytes = Uint8Array.from({ length: 5000 }, (_, n) => n % 251);
    const data = btoa(String.fromCharCode(...bytes));
    await writes({
      type: "document",
      document: { data, mime_type: "application/zip", filename: "../all files.zip", caption: "Here" },
    });
    await sandbox.flush();
    const message = await untilMedia(workspace, "ready");
    expect(message).toMatchObject({
      type: "document",
      media: {
        status: "ready",
        type: "document",
        mime_type: "application/zip",
        file_name: "all files.zip",
        file_size: 5000,
        error: null,
      },
    });
    const id = String(message.media?.id);
    expect(await bytesOf(workspace, id)).toEqual(bytes);
    const media = await (await workspace.call("GET", `/api/media/${id}`)).json();
    expect(media).toMatchObject({
      source: "inbound",
      status: "ready",
      message_id: message.id,
      sha256: await hashOf(bytes),
      original_url: expect.stringMatching(/^https:\/\/lookaside\.fbsbx\.com\//),
      uploaded_by: null,
    });
    const thread = await workspace.call("GET", `/api/conversations/${message.conversation_id}/messages`);
    expect(await thread.json()).toMatchObject({ data: [{ media: { id, status: "ready" } }] });
    const list = await (await workspace.call("GET", "/api/media?type=document")).json();
    expect(list).toMatchObject({ total: 1, data: [{ id }] });
  });

  it("comes in every kind", async () => {
    const { workspace, writes } = await ready();
    const kinds: [string, string, string][] = [
      ["image", "image", "image/png"],
      ["video", "video", "video/mp4"],
      ["audio", "audio", "audio/ogg; codecs=opus"],
      ["document", "document", "application/pdf"],
      ["sticker", "image", "image/webp"],
    ];
    for (const [type] of kinds) await writes({ type });
    await writes({ type: "text", text: { body: "Hi" } });
    await sandbox.flush();
    const byType = await vi.waitFor(async () => {
      const found = new Map((await messages(workspace)).map((message) => [message.type, message]));
      for (const [type] of kinds) expect(found.get(type)?.media?.status, type).toBe("ready");
      return found;
    }, 10_000);
    for (const [type, shown, mime] of kinds) {
      expect(byType.get(type)?.media).toMatchObject({ type: shown, mime_type: mime });
    }
    expect(byType.get("text")).toMatchObject({ media: null });
  }, 15_000);

  it("can be sent on, uploaded anew for the number", async () => {
    const { workspace, number, writes } = await ready();
    await writes({ type: "image" });
    await sandbox.flush();
    const message = await untilMedia(workspace, "ready");
    const answer = await workspace.call("POST", "/api/messages/send/media", {
      phone_number_id: number.id,
      to: "+12025550188",
      media_type: "image",
      media_id: message.media?.id,
    });
    expect(answer.status).toBe(201);
    await vi.waitFor(async () => {
      const { total } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
      expect(total).toBe(1);
    });
  });

  it("is on its way until somebody fetched it, and is stored once however often that is ordered", async () => {
    const { workspace, number, customer } = await ready();
    const id = await fileAtProvider(number, Uint8Array.of(137, 80, 78, 71, 1, 2, 3));
    const body = await picture(number, customer, { id, mime_type: "image/png" });
    const { held } = await receiveHeld(body);
    expect(held).toHaveLength(1);
    expect((await messages(workspace))[0]?.media).toMatchObject({
      id: null,
      status: "pending",
      mime_type: "image/png",
    });
    const before = (await env.MEDIA.list({ prefix: "media/" })).objects.length;
    const job = held[0]?.body;
    await Promise.all(Array.from({ length: 8 }, () => deliver("media-jobs", [job, job])));
    // The webhook comes again after a crash: everything is ordered anew and changes nothing.
    const again = heldFetches();
    await deliver("inbound", [webhookJob(body)], { env: again.env, attempts: 2 });
    expect(again.held).toHaveLength(1);
    await deliver("media-jobs", [again.held[0]?.body]);
    expect((await messages(workspace))[0]?.media).toMatchObject({ status: "ready", file_size: 7 });
    expect((await env.MEDIA.list({ prefix: "media/" })).objects.length - before).toBe(1);
    const list = await (await workspace.call("GET", "/api/media")).json<{ total: number; data: unknown[] }>();
    expect([list.total, list.data.length]).toEqual([1, 1]);
  });

  it("is one file when two messages carry it, and shares its bytes with the same file uploaded", async () => {
    const { workspace, number, customer } = await ready();
    const bytes = Uint8Array.of(137, 80, 78, 71, 9, 9);
    const id = await fileAtProvider(number, bytes);
    for (let n = 0; n < 2; n += 1) {
      const { held } = await receiveHeld(await picture(number, customer, { id, mime_type: "image/png" }));
      await deliver(
        "media-jobs",
        held.map((one) => one.body),
      );
    }
    const [second, first] = await messages(workspace);
    expect(first?.media?.id).toBe(second?.media?.id);
    const other = await fileAtProvider(number, bytes);
    const before = (await env.MEDIA.list({ prefix: "media/" })).objects.length;
    const { held } = await receiveHeld(await picture(number, customer, { id: other, mime_type: "image/png" }));
    await deliver(
      "media-jobs",
      held.map((one) => one.body),
    );
    expect((await messages(workspace))[0]?.media?.id).not.toBe(first?.media?.id);
    expect((await env.MEDIA.list({ prefix: "media/" })).objects.length).toBe(before);
  });

  it("is told to who looks at the conversation", async () => {
    const { workspace, number, customer } = await ready();
    const id = await fileAtProvider(number, Uint8Array.of(137, 80, 78, 71));
    const { held } = await receiveHeld(await picture(number, customer, { id, mime_type: "image/png" }));
    const published: unknown[] = [];
    const hub = env.WORKSPACE_HUB.getByName(workspace.workspaceId);
    const watching = {
      ...env,
      WORKSPACE_HUB: {
        getByName: () => ({
          publish: (write: { events: unknown[] }) => {
            published.push(...write.events);
            return hub.publish(write as never);
          },
        }),
      },
    } as unknown as Env;
    await deliver("media-jobs", [held[0]?.body], { env: watching });
    const [message] = await messages(workspace);
    expect(published).toMatchObject([
      {
        type: "message.event",
        kind: "media",
        conversation_id: message?.conversation_id,
        target: message?.wa_message_id,
      },
    ]);
  });
});

describe("a link", () => {
  it("that the webhook gives is used at once", async () => {
    const { workspace, number, customer } = await ready();
    const id = await fileAtProvider(number, Uint8Array.of(137, 80, 78, 71, 4));
    const url = await linkOf(id);
    const { held } = await receiveHeld(await picture(number, customer, { id, mime_type: "image/png", url }));
    const before = (await sandbox.stats()).calls;
    await deliver("media-jobs", [held[0]?.body]);
    const after = (await sandbox.stats()).calls;
    expect((after["media.open"] ?? 0) - (before["media.open"] ?? 0)).toBe(1);
    expect((after["node.get"] ?? 0) - (before["node.get"] ?? 0)).toBe(0);
    expect((await messages(workspace))[0]?.media).toMatchObject({ status: "ready" });
  });

  it("that leads nowhere any more is asked for afresh", async () => {
    const { workspace, number, customer } = await ready();
    const id = await fileAtProvider(number, Uint8Array.of(137, 80, 78, 71, 5));
    await sandbox.settings({ media_url_ttl: 0 });
    const url = await linkOf(id);
    await sandbox.settings({ media_url_ttl: 300 });
    const { held } = await receiveHeld(await picture(number, customer, { id, mime_type: "image/png", url }));
    await deliver("media-jobs", [held[0]?.body]);
    expect((await messages(workspace))[0]?.media).toMatchObject({ status: "ready", file_size: 5 });
  });

  it("that ends between being given and being used is asked for once more", async () => {
    const { workspace, number, customer } = await ready();
    const { held } = await receiveHeld(await picture(number, customer, { id: "99", mime_type: "image/png" }));
    let given = 0;
    const fetching = (async (input: string) => {
      if (!String(input).includes("lookaside")) {
        given += 1;
        return Response.json({ url: `https://lookaside.fbsbx.com/${given}` });
      }
      return String(input).endsWith("/2") ? new Response("bytes") : new Response(null, { status: 404 });
    }) as unknown as typeof fetch;
    await deliver("media-jobs", [held[0]?.body], { overrides: { fetch: fetching } });
    expect((await messages(workspace))[0]?.media).toMatchObject({ status: "ready", file_size: 5 });
  });

  it("that never works is tried again later", async () => {
    const { workspace, number, customer } = await ready();
    const id = await fileAtProvider(number, Uint8Array.of(137, 80, 78, 71, 6));
    const { held } = await receiveHeld(await picture(number, customer, { id, mime_type: "image/png" }));
    await sandbox.settings({ media_url_ttl: 0 });
    const later = heldFetches();
    await deliver("media-jobs", [held[0]?.body], { env: later.env });
    expect(later.held).toMatchObject([{ delaySeconds: 10, body: { attempt: 2 } }]);
    expect((await messages(workspace))[0]?.media).toMatchObject({
      status: "pending",
      error: { code: "download_failed" },
    });
    await sandbox.settings({ media_url_ttl: 300 });
    await deliver("media-jobs", [later.held[0]?.body]);
    expect((await messages(workspace))[0]?.media).toMatchObject({ status: "ready", error: null });
  });

  it("to anywhere but the provider gets neither a call nor the token", async () => {
    const { workspace, number, customer } = await ready();
    const called: string[] = [];
    const spying = testRuntime({
      fetch: ((input: string, init?: RequestInit) => {
        called.push(String(input));
        return fetch(input, init);
      }) as typeof fetch,
    });
    for (const url of [
      "https://evil.example/whatsapp_business/attachments/?mid=1",
      "http://lookaside.fbsbx.com/x",
      "https://lookaside.fbsbx.com:8443/x",
      "https://lookaside.fbsbx.com.evil.example/x",
      "https://user@evil.example/x",
      "file:///etc/passwd",
      "not a link",
    ]) {
      const id = await fileAtProvider(number, Uint8Array.of(137, 80, 78, 71, 7));
      const { held } = await receiveHeld(await picture(number, customer, { id, mime_type: "image/png", url }));
      await deliver("media-jobs", [held[0]?.body], { overrides: { fetch: spying.fetch } });
      // A fresh link from the provider itself did.
      expect((await messages(workspace))[0]?.media).toMatchObject({ status: "ready" });
    }
    expect(called.every((url) => /^https:\/\/(graph\.facebook\.com|lookaside\.fbsbx\.com)\//.test(url))).toBe(true);
    expect(called.length).toBeGreaterThan(0);
  });
});

describe("a fetch that fails", () => {
  it("because the provider is down is tried with growing delays, then shown, then can be ordered again", async () => {
    const { workspace, number, customer } = await ready();
    const id = await fileAtProvider(number, Uint8Array.of(137, 80, 78, 71, 8));
    const { held } = await receiveHeld(await picture(number, customer, { id, mime_type: "image/png" }));
    await sandbox.faults({ kind: "reset", on: "other" });
    const delays: number[] = [];
    let job = held[0]?.body;
    while (job !== undefined) {
      const next = heldFetches();
      await deliver("media-jobs", [job], { env: next.env });
      job = next.held[0]?.body;
      if (next.held[0]) delays.push(next.held[0].delaySeconds);
      const [message] = await messages(workspace);
      expect(message?.media?.status).toBe(job === undefined ? "failed" : "pending");
    }
    expect(delays).toEqual([...delays].sort((a, b) => a - b));
    const total = delays.reduce((sum, delay) => sum + delay, 0);
    // Longer than a night, shorter than the 7 days that a received file can be had.
    expect(total).toBeGreaterThan(12 * 3600);
    expect(total).toBeLessThan(6 * 86_400);
    const [failed] = await messages(workspace);
    expect(failed?.media).toMatchObject({ status: "failed", error: { code: "provider_unavailable" } });
    const path = `/api/media/${failed?.media?.id}`;
    expect(await (await workspace.call("GET", path)).json()).toMatchObject({ status: "failed", file_size: null });
    expect((await workspace.call("GET", `${path}/url`)).status).toBe(409);
    expect((await workspace.call("HEAD", path)).status).toBe(409);
    expect(await (await workspace.call("GET", "/api/media")).json()).toMatchObject({ total: 0, data: [] });

    await sandbox.clearFaults();
    const retried = await workspace.call("POST", `/api/messages/${failed?.id}/media/retry`);
    expect(retried.status).toBe(200);
    expect(await retried.json()).toMatchObject({ id: failed?.id, media: { status: "pending", error: null } });
    const message = await untilMedia(workspace, "ready");
    expect(message.media?.id).toBe(failed?.media?.id);
    expect(await (await workspace.call("GET", "/api/media")).json()).toMatchObject({ total: 1 });
    expect((await workspace.call("POST", `/api/messages/${failed?.id}/media/retry`)).status).toBe(409);
  });

  it("because the file is gone says so at once", async () => {
    const { workspace, number, customer } = await ready();
    const { held } = await receiveHeld(
      await picture(number, customer, { id: "file-that-is-gone", mime_type: "image/png" }),
    );
    const next = heldFetches();
    await deliver("media-jobs", [held[0]?.body], { env: next.env });
    expect(next.held).toEqual([]);
    expect((await messages(workspace))[0]?.media).toMatchObject({ status: "failed", error: { code: "expired" } });
  });

  it("because the token ended waits for a new one", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace, { access_token: "EXPIRED" });
    const { held } = await receiveHeld(await picture(number, "4915559990001", { id: "77", mime_type: "image/png" }));
    const next = heldFetches();
    await deliver("media-jobs", [held[0]?.body], { env: next.env });
    expect(next.held).toHaveLength(1);
    expect((await messages(workspace))[0]?.media).toMatchObject({ status: "pending", error: { code: 190 } });
  });

  it("in the middle of the file keeps none of it", async () => {
    const { workspace, number, customer } = await ready();
    const { held } = await receiveHeld(await picture(number, customer, { id: "88", mime_type: "image/png" }));
    const before = (await env.MEDIA.list({ prefix: "media/" })).objects.length;
    const breaking = (bytes: number) =>
      new Response(
        new ReadableStream({
          pull(controller) {
            if (bytes <= 0) return controller.error(new Error("Network connection lost"));
            controller.enqueue(new Uint8Array(1024 * 1024));
            bytes -= 1024 * 1024;
          },
        }),
      );
    const fetching = (answer: () => Response) =>
      (async (input: string) =>
        String(input).includes("lookaside")
          ? answer()
          : Response.json({ url: "https://lookaside.fbsbx.com/x", mime_type: "image/png" })) as unknown as typeof fetch;
    for (const answer of [
      () => breaking(20 * 1024 * 1024),
      () => breaking(0),
      () => new Response(null, { status: 500 }),
      () => new Response(null, { status: 302, headers: { Location: "https://evil.example/" } }),
      () => new Response(""),
    ]) {
      const next = heldFetches();
      await deliver("media-jobs", [held[0]?.body], { env: next.env, overrides: { fetch: fetching(answer) } });
      expect(next.held).toHaveLength(1);
    }
    expect((await env.MEDIA.list({ prefix: "media/" })).objects.length).toBe(before);
    // Larger than files may be: neither announced so nor only found out.
    let sent = 0;
    const endless = () =>
      new Response(
        new ReadableStream({
          pull(controller) {
            sent += 1;
            controller.enqueue(new Uint8Array(1024 * 1024));
          },
        }),
      );
    const next = heldFetches();
    await deliver("media-jobs", [held[0]?.body], { env: next.env, overrides: { fetch: fetching(endless) } });
    expect(next.held).toEqual([]);
    expect(sent).toBeLessThan(110);
    expect((await messages(workspace))[0]?.media).toMatchObject({ status: "failed", error: { code: "too_large" } });
    expect((await env.MEDIA.list({ prefix: "media/" })).objects.length).toBe(before);
  }, 30_000);

  it("because the bucket fails comes again as a whole, with nothing half done", async () => {
    const { workspace, number, customer } = await ready();
    const id = await fileAtProvider(number, Uint8Array.of(137, 80, 78, 71, 10));
    const { held } = await receiveHeld(await picture(number, customer, { id, mime_type: "image/png" }));
    const down = new Proxy(env.MEDIA, {
      get: (target, name) =>
        name === "put" ? () => Promise.reject(new Error("no bucket")) : Reflect.get(target, name),
    });
    const failed = await deliver("media-jobs", [held[0]?.body], { env: { ...env, MEDIA: down } as Env });
    expect(failed.retryBatch.retry).toBe(true);
    await deliver("media-jobs", [held[0]?.body], { attempts: 2 });
    expect((await messages(workspace))[0]?.media).toMatchObject({ status: "ready" });
  });

  it("for good is a dead letter of its workspace, and can be replayed", async () => {
    const { workspace, number, customer } = await ready();
    const id = await fileAtProvider(number, Uint8Array.of(137, 80, 78, 71, 11));
    const { held } = await receiveHeld(await picture(number, customer, { id, mime_type: "image/png" }));
    await deliver("dead-letters", [held[0]?.body]);
    const { data } = await (await workspace.call("GET", "/api/dead-letters")).json<{ data: { id: string }[] }>();
    expect(data).toHaveLength(1);
    expect((await workspace.call("POST", `/api/dead-letters/${data[0]?.id}/replay`)).status).toBe(200);
    await untilMedia(workspace, "ready");
  });
});

describe("ordering a file again", () => {
  it("is for messages that have one, of one's own workspace", async () => {
    const { workspace, number, customer } = await ready();
    const other = await newWorkspace();
    await deliver("inbound", [webhookJob(inboundText(number, { from: customer, wamid: `wamid.${newUuid()}` }))]);
    const [text] = await messages(workspace);
    expect((await workspace.call("POST", `/api/messages/${text?.id}/media/retry`)).status).toBe(409);
    expect((await other.call("POST", `/api/messages/${text?.id}/media/retry`)).status).toBe(404);
  });

  it("brings a deleted file not back", async () => {
    const { workspace, writes } = await ready();
    await writes({ type: "image" });
    await sandbox.flush();
    const message = await untilMedia(workspace, "ready");
    await workspace.call("DELETE", `/api/media/${message.media?.id}`);
    const [shown] = await messages(workspace);
    expect(shown?.media).toMatchObject({ id: null, status: "deleted" });
    expect((await workspace.call("POST", `/api/messages/${message.id}/media/retry`)).status).toBe(409);
  });
});

it("fetches nothing while the number's messages are only text", async () => {
  const { workspace, number, customer } = await ready();
  const { held } = heldQueues();
  const fetches = heldFetches();
  await deliver("inbound", [webhookJob(inboundText(number, { from: customer, wamid: `wamid.${newUuid()}` }))], {
    env: fetches.env,
  });
  expect(fetches.held).toEqual([]);
  expect(held.size).toBe(3);
  expect(await messages(workspace)).toHaveLength(1);
});
