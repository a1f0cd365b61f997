import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { FORM_TYPE, fileOf, formBytes } from "./support/files";
import { newWorkspace, type TestWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { deliver, heldQueues, messageRow, sendJob, untilStatus } from "./support/pipeline";
import { type AcceptedMessage, sandbox } from "./support/sandbox";

const MB = 1024 * 1024;

afterEach(() => sandbox.clearFaults());

interface Sent {
  id: string;
  workspace_id: string;
  phone_number_id: string;
}

async function ready() {
  const workspace = await newWorkspace();
  const number = await registerNumber(workspace);
  const send = (kind: string, body: Record<string, unknown>, headers?: Record<string, string>) =>
    workspace.call(
      "POST",
      `/api/messages/send/${kind}`,
      { workspace_id: workspace.workspaceId, phone_number_id: number.id, to: "+12025550123", ...body },
      headers,
    );
  return { workspace, number, send };
}

async function stored(workspace: TestWorkspace, kind: string, name: string, type: string, bytes = fileOf(kind)) {
  const body = formBytes([{ name: "file", file: { name, type, bytes } }]);
  const response = await workspace.call("POST", "/api/media", body, FORM_TYPE);
  expect(response.status).toBe(201);
  return response.json<{ id: string; sha256: string; file_name: string }>();
}

async function accepted(response: Response): Promise<Sent & Record<string, unknown>> {
  const text = await response.text();
  expect(response.status, text).toBe(201);
  return JSON.parse(text);
}

const fileSchema = z.object({ id: z.string(), filename: z.string().optional() });

function imageOf(message: AcceptedMessage | undefined) {
  return fileSchema.parse(message?.body.image);
}

function documentOf(message: AcceptedMessage | undefined) {
  return fileSchema.parse(message?.body.document);
}

async function uploads(): Promise<number> {
  return (await sandbox.stats()).calls["media.create"] ?? 0;
}

async function messageCount(workspace: TestWorkspace): Promise<number> {
  const row = await env.SHARD_0.prepare("SELECT count(*) AS n FROM messages WHERE workspace_id = ?1")
    .bind(workspace.workspaceId)
    .first<{ n: number }>();
  return row?.n ?? -1;
}

describe("sending a file", () => {
  it("answers the documented members, and reaches the provider", async () => {
    const { workspace, number, send } = await ready();
    const media = await stored(workspace, "jpeg", "photo.jpg", "image/jpeg");
    const caption = "Check out this image!";
    const message = await accepted(await send("media", { media_type: "image", media_id: media.id, caption }));
    expect(message).toMatchObject({
      workspace_id: workspace.workspaceId,
      phone_number_id: number.id,
      to_number: "+12025550123",
      type: "image",
      status: "queued",
      media_id: media.id,
      queued: true,
      media: { id: media.id, status: "ready", mime_type: "image/jpeg", file_size: 100, sha256: media.sha256 },
    });
    await untilStatus(message.id, workspace.workspaceId, "sent");
    const { data } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(data[0]?.body).toMatchObject({ type: "image", image: { caption, id: expect.stringMatching(/^\d+$/) } });
    expect(JSON.stringify(data[0]?.body)).not.toContain(media.id);
    const shown = await (await workspace.call("GET", `/api/messages/${message.id}`)).json();
    expect(shown).toMatchObject({ content: { media_id: media.id, caption }, media: { id: media.id, status: "ready" } });
  });

  it("gives the provider the bytes and type that were uploaded here", async () => {
    const { workspace, number, send } = await ready();
    const media = await stored(workspace, "pdf", 'the "report".pdf', "application/pdf");
    const message = await accepted(await send("media", { media_type: "document", media_id: media.id }));
    await untilStatus(message.id, workspace.workspaceId, "sent");
    const { data } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    const document = documentOf(data[0]);
    // Named as the file is, unless the send says otherwise.
    expect(document.filename).toBe(media.file_name);
    const info = await (
      await fetch(`https://graph.facebook.com/v25.0/${document.id}`, { headers: { Authorization: "Bearer x" } })
    ).json<{ sha256: string; mime_type: string; file_size: number }>();
    expect(info).toMatchObject({ sha256: media.sha256, mime_type: "application/pdf", file_size: 100 });
    const named = await accepted(
      await send("media", { media_type: "document", media_id: media.id, filename: "Q3.pdf", caption: "Q3" }),
    );
    await untilStatus(named.id, workspace.workspaceId, "sent");
    const second = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(second.data[1]?.body.document).toEqual({ id: document.id, filename: "Q3.pdf", caption: "Q3" });
  });

  it("carries every kind, stickers too, with reply, schedule and idempotency", async () => {
    const { workspace, number, send } = await ready();
    const kinds: [string, Record<string, unknown>, string, string, string][] = [
      ["media", { media_type: "image" }, "png", "a.png", "image/png"],
      ["media", { media_type: "video", caption: "v" }, "mp4", "a.mp4", "video/mp4"],
      ["media", { media_type: "audio" }, "ogg", "a.ogg", "audio/ogg"],
      ["media", { media_type: "document" }, "text", "a.txt", "text/plain"],
      // Anything the provider stores can go as a document.
      ["media", { media_type: "document" }, "jpeg", "a.jpg", "image/jpeg"],
      ["sticker", {}, "webp", "a.webp", "image/webp"],
    ];
    for (const [kind, body, file, name, type] of kinds) {
      const media = await stored(workspace, file, name, type);
      const message = await accepted(await send(kind, { ...body, media_id: media.id, reply_to: "wamid.QUOTED" }));
      const row = await untilStatus(message.id, workspace.workspaceId, "sent", "failed");
      expect(row.status, `${kind} ${type}: ${String(row.error)}`).toBe("sent");
    }
    const { data } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(data.map((message) => message.type)).toEqual(["image", "video", "audio", "document", "document", "sticker"]);
    expect(data.every((message) => JSON.stringify(message.body.context) === '{"message_id":"wamid.QUOTED"}')).toBe(
      true,
    );

    const media = await stored(workspace, "png", "later.png", "image/png");
    const scheduled_at = new Date(Date.now() + 3_600_000).toISOString();
    const body = { media_type: "image", media_id: media.id, scheduled_at };
    const key = { "Idempotency-Key": "one" };
    const planned = await accepted(await send("media", body, key));
    expect(planned).toMatchObject({ status: "scheduled", queued: false });
    const again = await send("media", body, key);
    expect(again.headers.get("Idempotency-Replayed")).toBe("true");
    expect(await again.json()).toEqual(planned);
    expect((await send("media", { ...body, caption: "other" }, key)).status).toBe(409);
  });

  it("names what is wrong with it", async () => {
    const [{ workspace, send }, other] = [await ready(), await newWorkspace()];
    const foreign = await stored(other, "jpeg", "a.jpg", "image/jpeg");
    const deleted = await stored(workspace, "jpeg", "a.jpg", "image/jpeg");
    await workspace.call("DELETE", `/api/media/${deleted.id}`);
    const refusals: [Record<string, unknown>, string][] = [
      [{ media_type: "image", media_id: foreign.id }, "media_id"],
      [{ media_type: "image", media_id: deleted.id }, "media_id"],
      [{ media_type: "image", media_id: crypto.randomUUID() }, "media_id"],
      [{ media_type: "image", media_id: "123" }, "media_id"],
      [{ media_type: "image" }, "media_id"],
      [{ media_type: "sticker", media_id: foreign.id }, "media_type"],
      [{ media_type: "image", media_id: foreign.id, caption: "x".repeat(3001) }, "caption"],
    ];
    for (const [body, field] of refusals) {
      const response = await send("media", body);
      expect(response.status).toBe(422);
      const { detail } = await response.json<{ detail: { loc: string[] }[] }>();
      expect(detail[0]?.loc, JSON.stringify(body)).toEqual(["body", field]);
    }
    expect(await messageCount(workspace)).toBe(0);
  });
});

describe("what the number's provider cannot carry", () => {
  it("is refused at once, naming provider, limit and field, with nothing queued", async () => {
    const { workspace, send } = await ready();
    const large = (kind: string, size: number) => {
      const bytes = new Uint8Array(size);
      bytes.set(fileOf(kind).slice(0, 96));
      return bytes;
    };
    const files = {
      jpeg: await stored(workspace, "jpeg", "a.jpg", "image/jpeg"),
      ogg: await stored(workspace, "ogg", "a.ogg", "audio/ogg"),
      gif: await stored(workspace, "gif", "a.gif", "image/gif"),
      webp: await stored(workspace, "webp", "a.webp", "image/webp"),
      mov: await stored(workspace, "mov", "a.mov", "video/quicktime"),
      largeJpeg: await stored(workspace, "jpeg", "a.jpg", "image/jpeg", large("jpeg", 5 * MB + 1)),
      largeMp4: await stored(workspace, "mp4", "a.mp4", "video/mp4", large("mp4", 16 * MB + 1)),
      largeWebp: await stored(workspace, "webp", "a.webp", "image/webp", large("webp", 500 * 1024 + 1)),
    };
    const refusals: [string, Record<string, unknown>, string, unknown][] = [
      ["media", { media_type: "image", media_id: files.jpeg.id, caption: "x".repeat(1025) }, "caption", 1024],
      ["media", { media_type: "audio", media_id: files.ogg.id, caption: "x" }, "caption", 0],
      ["media", { media_type: "image", media_id: files.largeJpeg.id }, "media_id", 5 * MB],
      ["media", { media_type: "document", media_id: files.largeJpeg.id }, "media_id", 5 * MB],
      ["media", { media_type: "video", media_id: files.largeMp4.id }, "media_id", 16 * MB],
      ["media", { media_type: "image", media_id: files.gif.id }, "media_id", expect.stringContaining("image/png")],
      ["media", { media_type: "image", media_id: files.webp.id }, "media_id", expect.anything()],
      ["media", { media_type: "video", media_id: files.mov.id }, "media_id", expect.anything()],
      ["media", { media_type: "video", media_id: files.jpeg.id }, "media_id", expect.anything()],
      ["sticker", { media_id: files.jpeg.id }, "media_id", "image/webp"],
      ["sticker", { media_id: files.largeWebp.id }, "media_id", 500 * 1024],
    ];
    for (const [kind, body, field, limit] of refusals) {
      const response = await send(kind, body);
      expect(response.status, JSON.stringify(body).slice(0, 100)).toBe(422);
      expect(await response.json()).toMatchObject({
        code: "provider_limit",
        provider: "meta",
        field,
        limit,
        detail: [{ loc: ["body", field], msg: expect.stringContaining("Meta") }],
      });
    }
    expect(await messageCount(workspace)).toBe(0);
    // The last that fits.
    const caption = "😀".repeat(1024);
    const fits = await accepted(await send("media", { media_type: "image", media_id: files.jpeg.id, caption }));
    await untilStatus(fits.id, workspace.workspaceId, "sent");
  }, 30_000);
});

describe("the provider gets a file", () => {
  it("once per number, whoever sends it how often", async () => {
    const { workspace, number, send } = await ready();
    const other = await registerNumber(workspace);
    const media = await stored(workspace, "jpeg", "a.jpg", "image/jpeg");
    const same = await stored(workspace, "jpeg", "copy.jpg", "image/jpeg");
    const before = await uploads();
    const ids: string[] = [];
    for (const to of ["+12025550101", "+12025550102", "+12025550103"]) {
      const message = await accepted(await send("media", { to, media_type: "image", media_id: media.id }));
      await untilStatus(message.id, workspace.workspaceId, "sent");
      ids.push(message.id);
    }
    const copy = await accepted(await send("media", { media_type: "image", media_id: same.id }));
    await untilStatus(copy.id, workspace.workspaceId, "sent");
    expect((await uploads()) - before).toBe(1);
    const { data } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(new Set(data.map((one) => imageOf(one).id)).size).toBe(1);
    const elsewhere = await accepted(
      await send("media", { phone_number_id: other.id, media_type: "image", media_id: media.id }),
    );
    await untilStatus(elsewhere.id, workspace.workspaceId, "sent");
    expect((await uploads()) - before).toBe(2);
  });

  it("once for a whole batch", async () => {
    const { workspace, number } = await ready();
    const media = await stored(workspace, "jpeg", "a.jpg", "image/jpeg");
    const { env: held } = heldQueues();
    const { api } = await import("../src/api");
    const messages: Sent[] = [];
    for (let n = 0; n < 20; n += 1) {
      const request = new Request("http://switchboard.test/api/messages/send/media", {
        method: "POST",
        headers: { Authorization: `Bearer ${workspace.token}`, "Content-Type": "application/json" },
        body: JSON.stringify({ to: `+1202555${1000 + n}`, media_type: "image", media_id: media.id }),
      });
      messages.push(await (await api.fetch(request, held)).json());
    }
    const before = await uploads();
    await deliver(
      "outbound",
      messages.map((message) => sendJob(message)),
    );
    const { total } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(total).toBe(20);
    expect((await uploads()) - before).toBe(1);
  });

  it("again once the provider has forgotten it", async () => {
    const { workspace, send } = await ready();
    const media = await stored(workspace, "jpeg", "a.jpg", "image/jpeg");
    const sendOne = async () => {
      const message = await accepted(await send("media", { media_type: "image", media_id: media.id }));
      await untilStatus(message.id, workspace.workspaceId, "sent");
    };
    const before = await uploads();
    await sendOne();
    const known = await env.SHARD_0.prepare("SELECT * FROM media_provider_ids WHERE workspace_id = ?1")
      .bind(workspace.workspaceId)
      .first<{ expires_at: number }>();
    const days = ((known?.expires_at ?? 0) - Date.now()) / 86_400_000;
    expect(days).toBeGreaterThan(28);
    expect(days).toBeLessThan(30);
    await sendOne();
    expect((await uploads()) - before).toBe(1);
    await env.SHARD_0.prepare("UPDATE media_provider_ids SET expires_at = ?2 WHERE workspace_id = ?1")
      .bind(workspace.workspaceId, Date.now())
      .run();
    await sendOne();
    expect((await uploads()) - before).toBe(2);
  });

  it("after an outage, without a second copy of the message", async () => {
    const { workspace, number, send } = await ready();
    const media = await stored(workspace, "jpeg", "a.jpg", "image/jpeg");
    await sandbox.faults(
      { kind: "error", code: 131000, on: "other", count: 1, phone_number_id: number.providerNumberId },
      { kind: "reset", on: "other", count: 1, phone_number_id: number.providerNumberId },
    );
    const message = await accepted(await send("media", { media_type: "image", media_id: media.id }));
    const row = await untilStatus(message.id, workspace.workspaceId, "sent", "failed");
    expect(row).toMatchObject({ status: "sent", failures: 2 });
    const { counts } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(counts.by_message[message.id]).toBe(1);
  });

  it("that it refuses for good fails the message with its reason, and the others go", async () => {
    const { workspace, number, send } = await ready();
    const media = await stored(workspace, "jpeg", "a.jpg", "image/jpeg");
    await sandbox.faults({ kind: "error", code: 100, on: "other", count: 1, phone_number_id: number.providerNumberId });
    const failed = await accepted(await send("media", { media_type: "image", media_id: media.id }));
    const row = await untilStatus(failed.id, workspace.workspaceId, "sent", "failed");
    expect(row.status).toBe("failed");
    expect(JSON.parse(String(row.error))).toMatchObject({ code: 100 });
    const text = await accepted(await send("text", { text: "still here" }));
    await untilStatus(text.id, workspace.workspaceId, "sent");
  });

  it("never, when it was deleted before the message left; the message says so", async () => {
    const { workspace, send } = await ready();
    const media = await stored(workspace, "jpeg", "a.jpg", "image/jpeg");
    const scheduled_at = new Date(Date.now() + 60_000).toISOString();
    const message = await accepted(await send("media", { media_type: "image", media_id: media.id, scheduled_at }));
    await workspace.call("DELETE", `/api/media/${media.id}`);
    await deliver("outbound", [sendJob(message)], { overrides: { clock: () => Date.now() + 120_000 } });
    const row = await messageRow(message.id, workspace.workspaceId);
    expect(row.status).toBe("failed");
    expect(JSON.parse(String(row.error))).toMatchObject({ code: "media_deleted" });
    const shown = await (await workspace.call("GET", `/api/messages/${message.id}`)).json<{ media: unknown }>();
    expect(shown.media).toMatchObject({ id: null, status: "deleted" });
  });

  it("later, while the bucket does not answer; messages without files do not wait for it", async () => {
    const { workspace, number } = await ready();
    const media = await stored(workspace, "jpeg", "a.jpg", "image/jpeg");
    const { env: held } = heldQueues();
    const { api } = await import("../src/api");
    const post = async (kind: string, body: Record<string, unknown>): Promise<Sent> => {
      const request = new Request(`http://switchboard.test/api/messages/send/${kind}`, {
        method: "POST",
        headers: { Authorization: `Bearer ${workspace.token}`, "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });
      return (await api.fetch(request, held)).json();
    };
    const picture = await post("media", { to: "+12025550171", media_type: "image", media_id: media.id });
    const text = await post("text", { to: "+12025550172", text: "Hello" });
    const down = new Proxy(env.MEDIA, {
      get: (target, name) =>
        name === "get"
          ? () => Promise.reject(new Error("We encountered an internal error"))
          : Reflect.get(target, name),
    });
    await deliver("outbound", [sendJob(picture), sendJob(text)], { env: { ...held, MEDIA: down } as Env });
    expect(await messageRow(text.id, workspace.workspaceId)).toMatchObject({ status: "sent" });
    expect(await messageRow(picture.id, workspace.workspaceId)).toMatchObject({ status: "queued", failures: 1 });
    const { total } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(total).toBe(1);
  });

  it("whole, however large it is", async () => {
    const { workspace, number, send } = await ready();
    const bytes = new Uint8Array(4 * MB);
    bytes.set(fileOf("jpeg").slice(0, 96));
    const media = await stored(workspace, "jpeg", "a.jpg", "image/jpeg", bytes);
    const message = await accepted(await send("media", { media_type: "image", media_id: media.id }));
    const row = await untilStatus(message.id, workspace.workspaceId, "sent", "failed");
    expect(row.status, String(row.error)).toBe("sent");
    const { data } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    const { id } = imageOf(data[0]);
    const info = await fetch(`https://graph.facebook.com/v25.0/${id}`, { headers: { Authorization: "Bearer x" } });
    expect(await info.json()).toMatchObject({ file_size: 4 * MB, sha256: media.sha256 });
  });
});

describe("files in headers", () => {
  it("of interactive messages go by our id", async () => {
    const { workspace, number, send } = await ready();
    const image = await stored(workspace, "png", "a.png", "image/png");
    const gif = await stored(workspace, "gif", "a.gif", "image/gif");
    const interactive = (media_id: string) => ({
      type: "button",
      header: { type: "image", image: { media_id } },
      body: { text: "Which day?" },
      action: { buttons: [{ type: "reply", reply: { id: "mon", title: "Monday" } }] },
    });
    const message = await accepted(await send("interactive", { interactive: interactive(image.id) }));
    const row = await untilStatus(message.id, workspace.workspaceId, "sent", "failed");
    expect(row.status, String(row.error)).toBe("sent");
    const { data } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(data).toMatchObject([
      { body: { interactive: { header: { image: { id: expect.stringMatching(/^\d+$/) } } } } },
    ]);
    expect(JSON.stringify(data)).not.toContain(image.id);
    const refused = await send("interactive", { interactive: interactive(gif.id) });
    expect(await refused.json()).toMatchObject({
      code: "provider_limit",
      detail: [{ loc: ["body", "interactive", "header", "image", "media_id"] }],
    });
    const missing = await send("interactive", { interactive: interactive(crypto.randomUUID()) });
    expect(missing.status).toBe(422);
  });

  it("are replaced only where a file stands", async () => {
    const { filesOf, mapFiles } = await import("../src/media/references");
    const id = crypto.randomUUID();
    const template = {
      type: "template",
      content: {
        name: "t",
        components: [
          { type: "header", parameters: [{ type: "image", image: { media_id: id } }] },
          { type: "body", parameters: [{ type: "text", text: id, media_id: id }] },
          {
            type: "carousel",
            cards: [
              {
                card_index: 0,
                components: [{ type: "header", parameters: [{ type: "video", video: { media_id: id } }] }],
              },
            ],
          },
        ],
      },
    };
    expect(filesOf(template)).toEqual([
      { mediaId: id, as: "image" },
      { mediaId: id, as: "video" },
    ]);
    const mapped = JSON.stringify(mapFiles(template, () => ({ id: "77" })));
    expect(mapped).toContain('"image":{"id":"77"}');
    expect(mapped).toContain('"video":{"id":"77"}');
    expect(mapped).toContain(`{"type":"text","text":"${id}","media_id":"${id}"}`);
    const flow = {
      type: "interactive",
      content: { type: "flow", action: { parameters: { flow_action_payload: { data: { media_id: id } } } } },
    };
    expect(filesOf(flow)).toEqual([]);
    expect(filesOf({ type: "text", content: { body: "x", media_id: id } })).toEqual([]);
  });
});
