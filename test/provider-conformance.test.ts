import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it } from "vitest";
import { openConnection } from "../src/phone-numbers/service";
import { selectNumberByAnyId } from "../src/phone-numbers/store";
import { createRuntime, shard } from "../src/platform/runtime";
import type { ProviderName } from "../src/providers/provider";
import { providerFor } from "../src/providers/registry";
import { type Connected, connect, PROVIDERS, registrationOf } from "./support/connections";
import { FORM_TYPE, fileOf, formBytes } from "./support/files";
import { call, newWorkspace, type TestWorkspace } from "./support/identity";
import { inboxOf } from "./support/inbox";
import { deliver, eventually, sendJob, untilStatus } from "./support/pipeline";
import { type AcceptedMessage, type FaultOrder, sandbox } from "./support/sandbox";

/**
 * One suite for every provider, through the API, the queues and the sandbox: what somebody who uses the product may
 * expect of a number, whoever serves it. What a provider lacks stands in `DIFFERS` and must be refused as such.
 */

type Json = Record<string, unknown>;

interface Differences {
  /** Faults by what they should come to. */
  faults: Record<"refused" | "busy" | "blocked" | "outage", FaultOrder>;
  /** How the sandbox calls what it accepted. */
  typeOf(kind: string): string;
  /** Kinds that the provider has no way to send. */
  lacks: readonly string[];
  /** What an accepted call whose answer was lost comes to, before any status. */
  lost: "sending" | "sent";
  /** A code that a status may fail with later. */
  failure: number;
}

const META: Differences = {
  faults: {
    refused: { kind: "error", code: 131026 },
    busy: { kind: "rate_limit", retry_after: 0 },
    blocked: { kind: "error", code: 190 },
    outage: { kind: "error", code: 131016 },
  },
  typeOf: (kind) => kind.replace(/^interactive\/.*/, "interactive"),
  lacks: [],
  lost: "sending",
  failure: 131026,
};

const INFOBIP_TYPES: Record<string, string> = {
  contacts: "contact",
  "interactive/button": "interactive/buttons",
  "interactive/cta_url": "interactive/url-button",
  "interactive/location_request_message": "interactive/location-request",
};

const DIFFERS: Record<ProviderName, Differences> = {
  meta: META,
  "360dialog": META,
  infobip: {
    faults: {
      // A 200 that carries a rejection is a rejection.
      refused: { kind: "error", rejection: 18 },
      busy: { kind: "rate_limit", retry_after: 0 },
      blocked: { kind: "error", http_status: 401 },
      outage: { kind: "error", rejection: 21 },
    },
    typeOf: (kind) => INFOBIP_TYPES[kind] ?? kind,
    lacks: ["reaction"],
    lost: "sent",
    failure: 7010,
  },
};

interface Subject extends Differences {
  workspace: TestWorkspace;
  number: Connected;
  send(kind: string, body: Json): Promise<Response>;
  accepted(): Promise<AcceptedMessage[]>;
  show(): Promise<Connected>;
}

let people = 0;
function newPerson(): string {
  people += 1;
  return `1202${String(Date.now()).slice(-6)}${String(people).padStart(3, "0")}`;
}

async function subjectOf(provider: ProviderName): Promise<Subject> {
  const { workspace, number } = await connect(provider);
  return {
    ...DIFFERS[provider],
    workspace,
    number,
    send: (kind, body) =>
      workspace.call("POST", `/api/messages/send/${kind}`, {
        workspace_id: workspace.workspaceId,
        phone_number_id: number.id,
        ...("conversation_id" in body ? {} : { to: "+12025550123" }),
        ...body,
      }),
    accepted: async () => (await sandbox.accepted({ phone_number_id: number.phone_number_id })).data,
    show: async () => bodyOf(await workspace.call("GET", `/api/phone-numbers/${number.id}`), 200),
  };
}

async function bodyOf<T = Json>(response: Response, status: number): Promise<T> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text);
}

async function sendText({ send }: Subject, to = newPerson(), text = "Hello"): Promise<string> {
  return String((await bodyOf(await send("text", { to: `+${to}`, text }), 201)).id);
}

async function uploaded(workspace: TestWorkspace, kind: string, name: string, type: string): Promise<string> {
  const body = formBytes([{ name: "file", file: { name, type, bytes: fileOf(kind) } }]);
  return String((await bodyOf(await workspace.call("POST", "/api/media", body, FORM_TYPE), 201)).id);
}

/** The adapter of a number with its opened credentials. */
async function adapterOf({ workspace, number }: Subject) {
  const rt = createRuntime(env);
  const row = await selectNumberByAnyId(shard(rt, 0), workspace.workspaceId, number.id);
  if (!row) throw new Error("No such number");
  return { provider: providerFor(rt, number.provider), connection: await openConnection(rt, row) };
}

const BUTTONS = {
  type: "button",
  body: { text: "Which day?" },
  footer: { text: "Or write to us" },
  action: { buttons: [{ type: "reply", reply: { id: "mon", title: "Monday" } }] },
};
const LIST = {
  type: "list",
  body: { text: "Choose" },
  action: { button: "Open", sections: [{ title: "A", rows: [{ id: "1", title: "One", description: "first" }] }] },
};
const LINK = {
  type: "cta_url",
  body: { text: "See" },
  action: { parameters: { display_text: "Open", url: "https://example.com/a" } },
};
const FLOW = { type: "flow", body: { text: "Form" }, action: { parameters: { flow_id: "77", flow_cta: "Start" } } };
const WHERE = { type: "location_request_message", body: { text: "Where are you?" } };
const CARD = {
  name: { formatted_name: "Ana Silva", first_name: "Ana" },
  phones: [{ phone: "+5511999990000", type: "CELL" }],
};

const FILES: [string, string, string, string][] = [
  ["image", "jpeg", "photo.jpg", "image/jpeg"],
  ["video", "mp4", "clip.mp4", "video/mp4"],
  ["audio", "mp3", "note.mp3", "audio/mpeg"],
  ["document", "pdf", "offer.pdf", "application/pdf"],
];

afterEach(async () => {
  await sandbox.clearFaults();
});

describe.each(PROVIDERS)("a number of %s", (provider) => {
  it("is registered with what its credentials tell, and its webhooks are asked for", async () => {
    const { workspace, number } = await connect(provider);
    expect(number).toMatchObject({
      provider,
      status: "active",
      phone_number: `+${number.phone_number_id}`,
      business_id: expect.any(String),
      subscription: { subscribed: true, reason: null },
      webhook_url: expect.stringMatching(new RegExp(`/webhooks/${provider}/${number.id}$`)),
      last_webhook_at: null,
    });
    const row = await env.SHARD_0.prepare("SELECT access_token_sealed FROM phone_numbers WHERE id = ?1")
      .bind(number.id)
      .first<{ access_token_sealed: string }>();
    expect(row?.access_token_sealed).toMatch(/^v1\./);
    const { access_token } = registrationOf(provider, number.phone_number_id);
    expect(JSON.stringify(number)).not.toContain(access_token);
    // The same number again, wherever it stands in the body.
    const again = { workspace_id: workspace.workspaceId, ...registrationOf(provider, number.phone_number_id) };
    expect(await bodyOf(await workspace.call("POST", "/api/phone-numbers", again), 409)).toMatchObject({
      id: number.id,
    });
  });

  it("is not registered with credentials that are wrong", async () => {
    const workspace = await newWorkspace();
    const body = { ...registrationOf(provider, "12025550188"), access_token: "INVALID-12025550188" };
    const refused = await workspace.call("POST", "/api/phone-numbers", {
      workspace_id: workspace.workspaceId,
      ...body,
    });
    const text = JSON.stringify(await bodyOf(refused, 400));
    expect(text).toContain("provider_refused");
    expect(text).not.toContain("INVALID-12025550188");
  });

  it("sends every kind that the provider has, and refuses the others with nothing queued", async () => {
    const subject = await subjectOf(provider);
    const kinds: [string, string, Json][] = [
      ["text", "text", { text: "Hello" }],
      ["location", "location", { latitude: 33.98, longitude: 35.61, name: "Jounieh", address: "Lebanon" }],
      ["contacts", "contacts", { contacts: [CARD] }],
      ["interactive/button", "interactive", { interactive: BUTTONS }],
      ["interactive/list", "interactive", { interactive: LIST }],
      ["interactive/cta_url", "interactive", { interactive: LINK }],
      ["interactive/flow", "interactive", { interactive: FLOW }],
      ["interactive/location_request_message", "interactive", { interactive: WHERE }],
      ["reaction", "reaction", { message_id: "wamid.THEIRS", emoji: "👍" }],
    ];
    for (const [media_type, file, name, type] of FILES) {
      const media_id = await uploaded(subject.workspace, file, name, type);
      kinds.push([media_type, "media", { media_type, media_id }]);
    }
    const sticker = await uploaded(subject.workspace, "webp", "wave.webp", "image/webp");
    kinds.push(["sticker", "sticker", { media_id: sticker }]);
    const sent: string[] = [];
    for (const [kind, path, body] of kinds) {
      const response = await subject.send(path, { to: `+${newPerson()}`, ...body });
      if (subject.lacks.includes(kind)) {
        expect(await bodyOf(response, 422)).toMatchObject({
          code: "provider_limit",
          provider,
          detail: [{ msg: expect.stringMatching(/Infobip|360dialog|Meta/) }],
        });
        continue;
      }
      const { id } = await bodyOf(response, 201);
      await untilStatus(String(id), subject.workspace.workspaceId, "sent");
      sent.push(kind);
    }
    const accepted = (await subject.accepted()).map(({ type }) => type);
    expect(accepted.toSorted()).toEqual(sent.map(subject.typeOf).toSorted());
    expect(await inboxOf(subject.workspace.workspaceId).messages()).toHaveLength(sent.length);
  });

  it("hands over a file so that the provider has its bytes, and keeps captions and names", async () => {
    const subject = await subjectOf(provider);
    const media_id = await uploaded(subject.workspace, "pdf", "offer.pdf", "application/pdf");
    const { id } = await bodyOf(
      await subject.send("media", { media_type: "document", media_id, caption: "Our offer" }),
      201,
    );
    await untilStatus(String(id), subject.workspace.workspaceId, "sent");
    const [message] = await subject.accepted();
    if (provider !== "infobip") {
      expect(message?.body.document).toMatchObject({ caption: "Our offer", filename: "offer.pdf" });
      return;
    }
    const content = message?.body.content as { mediaUrl: string; caption: string; filename: string };
    expect(content).toMatchObject({ caption: "Our offer", filename: "offer.pdf" });
    const { pathname, search } = new URL(content.mediaUrl);
    const fetched = await call("GET", `${pathname}${search}`);
    expect(fetched.status).toBe(200);
    expect(new Uint8Array(await fetched.arrayBuffer())).toEqual(fileOf("pdf"));
    // The address is for this file and no other.
    expect((await call("GET", `${pathname.slice(0, -1)}${pathname.endsWith("0") ? 1 : 0}${search}`)).status).toBe(403);
  });

  it("quotes the message that is answered", async () => {
    const subject = await subjectOf(provider);
    const person = newPerson();
    const { id: theirs } = await sandbox.customerSends(person, {
      to: subject.number.phone_number_id,
      text: { body: "Are you open?" },
    });
    await sandbox.flush();
    await eventually(async () => expect(await inboxOf(subject.workspace.workspaceId).messages()).toHaveLength(1));
    const { id } = await bodyOf(
      await subject.send("text", { to: `+${person}`, text: "Until six", reply_to: theirs }),
      201,
    );
    await untilStatus(String(id), subject.workspace.workspaceId, "sent");
    const [message] = await subject.accepted();
    expect(JSON.stringify(message?.body.context)).toContain(theirs);
  });

  describe("outcomes", () => {
    it("sent, delivered and read follow each other", async () => {
      const subject = await subjectOf(provider);
      const id = await sendText(subject);
      const { wa_message_id } = await untilStatus(id, subject.workspace.workspaceId, "sent");
      expect((await subject.accepted()).map((message) => message.id)).toEqual([wa_message_id]);
      expect((await sandbox.flush({ order: "reverse", duplicate: 2 })).pending).toBe(0);
      const row = await untilStatus(id, subject.workspace.workspaceId, "read");
      expect(row).toMatchObject({ delivered_at: expect.any(Number), read_at: expect.any(Number), error: null });
      expect(JSON.parse(String(row.pricing))).toMatchObject({ billable: expect.any(Boolean) });
      expect((await subject.show()).last_webhook_at).not.toBeNull();
    });

    it("a refusal of this message fails it, with the provider's reason", async () => {
      const subject = await subjectOf(provider);
      await sandbox.faults({ ...subject.faults.refused, phone_number_id: subject.number.phone_number_id });
      const row = await untilStatus(await sendText(subject), subject.workspace.workspaceId, "failed");
      expect(JSON.parse(String(row.error))).toMatchObject({ title: expect.any(String), retryable: false });
      expect(await subject.accepted()).toEqual([]);
    });

    it("a failure that is told later fails it too", async () => {
      const subject = await subjectOf(provider);
      await sandbox.settings({ statuses: [] });
      const id = await sendText(subject);
      await untilStatus(id, subject.workspace.workspaceId, "sent");
      const [message] = await subject.accepted();
      await sandbox.orderStatus(String(message?.id), "failed", subject.failure);
      await sandbox.flush();
      await sandbox.settings({ statuses: ["sent", "delivered", "read"] });
      const row = await untilStatus(id, subject.workspace.workspaceId, "failed");
      expect(JSON.parse(String(row.error))).toMatchObject({ code: subject.failure });
    });

    it("too fast, or a provider that is not there for a moment: it goes later, once", async () => {
      const subject = await subjectOf(provider);
      const scope = { phone_number_id: subject.number.phone_number_id, count: 1 };
      await sandbox.faults({ ...subject.faults.busy, ...scope }, { ...subject.faults.outage, ...scope });
      const id = await sendText(subject);
      await untilStatus(id, subject.workspace.workspaceId, "sent");
      const { counts } = await sandbox.accepted({ phone_number_id: subject.number.phone_number_id });
      expect(counts.by_message).toEqual({ [id]: 1 });
      expect((await sandbox.stats()).faults).toMatchObject({ rate_limit: expect.any(Number) });
    });

    it("credentials that are refused stop the number, tell its owner, and lose nothing", async () => {
      const subject = await subjectOf(provider);
      const scope = { phone_number_id: subject.number.phone_number_id };
      await sandbox.faults({ ...subject.faults.blocked, ...scope });
      const id = await sendText(subject);
      await eventually(async () => expect((await subject.show()).blocked_reason).not.toBeNull());
      expect(await untilStatus(id, subject.workspace.workspaceId, "queued")).toMatchObject({ failed_at: null });
      await sandbox.clearFaults();
      const synced = await subject.workspace.call("POST", `/api/phone-numbers/${subject.number.id}/sync`);
      expect(await bodyOf(synced, 200)).toMatchObject({ blocked_reason: null });
      // What the minute's sweep would bring.
      await deliver("outbound", [
        sendJob({ workspace_id: subject.workspace.workspaceId, phone_number_id: subject.number.id, id }),
      ]);
      await untilStatus(id, subject.workspace.workspaceId, "sent");
      expect(await subject.accepted()).toHaveLength(1);
    });

    it("an answer that is lost never sends twice", async () => {
      const subject = await subjectOf(provider);
      const scope = { phone_number_id: subject.number.phone_number_id, count: 1 };
      await sandbox.faults({ kind: "drop_after_accept", ...scope });
      const id = await sendText(subject);
      await eventually(async () => expect(await subject.accepted()).toHaveLength(1));
      await untilStatus(id, subject.workspace.workspaceId, subject.lost);
      await sandbox.flush();
      await untilStatus(id, subject.workspace.workspaceId, "read");
      const { counts } = await sandbox.accepted({ phone_number_id: subject.number.phone_number_id });
      expect(counts.by_message).toEqual({ [id]: 1 });
    });
  });

  describe("what people write", () => {
    it("comes in with sender, kind and words", async () => {
      const subject = await subjectOf(provider);
      const to = subject.number.phone_number_id;
      const person = newPerson();
      const writes = (message: Json) => sandbox.customerSends(person, { to, profile_name: "Ana", ...message });
      const { id: first } = await writes({ text: { body: "Hello" } });
      await writes({ type: "location", location: { latitude: 1.5, longitude: 2.5, name: "Here" } });
      await writes({
        type: "interactive",
        interactive: { type: "button_reply", button_reply: { id: "mon", title: "Monday" } },
      });
      await writes({
        type: "interactive",
        interactive: { type: "list_reply", list_reply: { id: "1", title: "One", description: "first" } },
      });
      await writes({ type: "button", button: { text: "Stop", payload: "STOP" } });
      await writes({ type: "reaction", reaction: { message_id: first, emoji: "❤️" } });
      await sandbox.flush({ batch: 3, duplicate: 2 });
      const inbox = inboxOf(subject.workspace.workspaceId);
      await eventually(async () => {
        expect(await inbox.messages()).toHaveLength(5);
        expect(await inbox.references()).toHaveLength(1);
      });
      const messages = (await inbox.messages()).map(({ type, content, from_number }) => ({
        ...JSON.parse(String(content)),
        kind: type,
        from_number,
      }));
      const from_number = `+${person}`;
      expect(messages).toEqual(
        expect.arrayContaining([
          expect.objectContaining({ kind: "text", body: "Hello", from_number }),
          expect.objectContaining({ kind: "location", latitude: 1.5, name: "Here" }),
          expect.objectContaining({ kind: "interactive", button_reply: { id: "mon", title: "Monday" } }),
          expect.objectContaining({ list_reply: { id: "1", title: "One", description: "first" } }),
          expect.objectContaining({ kind: "button", text: "Stop", payload: "STOP" }),
        ]),
      );
      expect(await inbox.references()).toMatchObject([{ kind: "reaction", target: first }]);
      expect(await inbox.contacts()).toMatchObject([{ name: "Ana" }]);
      expect(await inbox.conversations()).toMatchObject([{ unread_count: 5 }]);
    });

    it("files are fetched and kept as our own", async () => {
      const subject = await subjectOf(provider);
      const bytes = fileOf("png", 7);
      await sandbox.customerSends(newPerson(), {
        to: subject.number.phone_number_id,
        type: "image",
        image: { caption: "Look", data: btoa(String.fromCharCode(...bytes)), mime_type: "image/png" },
      });
      await sandbox.flush();
      const media = await eventually(async () => {
        const { results } = await env.SHARD_0.prepare("SELECT * FROM media WHERE workspace_id = ?1")
          .bind(subject.workspace.workspaceId)
          .all<Json>();
        expect(results).toMatchObject([{ status: "ready", mime_type: "image/png", file_size: bytes.length }]);
        return results[0];
      });
      const { url } = await bodyOf<{ url: string }>(
        await subject.workspace.call("GET", `/api/media/${media?.id}/url`),
        200,
      );
      const { pathname, search } = new URL(url);
      expect(new Uint8Array(await (await call("GET", pathname + search)).arrayBuffer())).toEqual(bytes);
      // What the provider says of it without its bytes.
      const { provider: adapter, connection } = await adapterOf(subject);
      const info = await adapter.mediaInfo(connection, String(media?.provider_media_id));
      expect(info).toMatchObject({ ok: true, value: { mimeType: "image/png", size: bytes.length } });
      expect(await adapter.mediaInfo(connection, "404404404404404404")).toMatchObject({ ok: false });
    });

    it("is marked read at the provider, with typing shown", async () => {
      const subject = await subjectOf(provider);
      const person = newPerson();
      const { id } = await sandbox.customerSends(person, {
        to: subject.number.phone_number_id,
        text: { body: "Anyone?" },
      });
      await sandbox.flush();
      const inbox = inboxOf(subject.workspace.workspaceId);
      await eventually(async () => expect(await inbox.conversations()).toHaveLength(1));
      const [conversation] = await inbox.conversations();
      const answer = await subject.workspace.call("POST", `/api/conversations/${conversation?.id}/read`, {
        typing: true,
      });
      expect(await bodyOf(answer, 200)).toMatchObject({ receipt: "sent" });
      const { data } = await sandbox.reads();
      const own = data.filter((read) => read.phone_number_id === subject.number.phone_number_id);
      expect(own.map((read) => read.message_id)).toContain(id);
      expect(own.some((read) => read.typing)).toBe(true);
    });
  });

  it("makes, lists, sends and deletes templates", async () => {
    const subject = await subjectOf(provider);
    const { workspace, number } = subject;
    const name = `visit_${Date.now()}`;
    const made = await bodyOf(
      await workspace.call("POST", "/api/templates", {
        workspace_id: workspace.workspaceId,
        phone_number_id: number.id,
        name,
        category: "UTILITY",
        language: "en",
        components: {
          header: { format: "TEXT", text: "Hello {{1}}" },
          body: { text: "Your visit is on {{1}} at {{2}}." },
          footer: { text: "See you" },
          buttons: [{ type: "QUICK_REPLY", text: "Fine" }],
        },
      }),
      201,
    );
    expect(made).toMatchObject({ status: "PENDING", meta_template_id: expect.any(String) });
    await sandbox.review(String(made.meta_template_id), "APPROVED");
    await sandbox.flush();
    await eventually(async () => {
      const shown = await bodyOf(await workspace.call("GET", `/api/templates/${made.id}`), 200);
      expect(shown.status).toBe("APPROVED");
    });
    const { provider: adapter, connection } = await adapterOf(subject);
    const listed = await adapter.listTemplates(connection, { name, after: null });
    expect(listed).toMatchObject({
      ok: true,
      value: { templates: [{ id: made.meta_template_id, name, language: "en", status: "APPROVED" }], unreadable: 0 },
    });
    const { id } = await bodyOf(
      await subject.send("template", {
        template_name: name,
        template_language: "en",
        components: {
          header: { parameters: [{ type: "text", text: "Ana" }] },
          body: {
            parameters: [
              { type: "text", text: "Monday" },
              { type: "text", text: "nine" },
            ],
          },
        },
      }),
      201,
    );
    await untilStatus(String(id), workspace.workspaceId, "sent");
    const [message] = await subject.accepted();
    for (const word of ["Ana", "Monday", "nine", name]) expect(JSON.stringify(message?.body)).toContain(word);
    expect((await workspace.call("DELETE", `/api/templates/${made.id}`)).status).toBe(204);
    expect(await adapter.listTemplates(connection, { name, after: null })).toMatchObject({
      ok: true,
      value: { templates: [] },
    });
  });

  it("has its webhooks asked for again, and a secret of its own where the provider signs nothing", async () => {
    const { workspace, number, show } = await subjectOf(provider);
    const path = `/api/phone-numbers/${number.id}/webhook`;
    const answer = await bodyOf<{ webhook: Json | null }>(
      await workspace.call("POST", path, { rotate_secret: true }),
      200,
    );
    expect(answer).toMatchObject({ subscription: { subscribed: true }, webhook_url: number.webhook_url });
    expect(answer.webhook === null).toBe(provider === "meta");
    await sandbox.customerSends(newPerson(), { to: number.phone_number_id, text: { body: "Still there?" } });
    await sandbox.flush();
    await eventually(async () => expect(await inboxOf(workspace.workspaceId).messages()).toHaveLength(1));
    expect(JSON.stringify(await show())).not.toContain(String(answer.webhook?.secret ?? "whs_"));
  });

  it("has its About line read and set", async () => {
    const { provider: adapter, connection } = await adapterOf(await subjectOf(provider));
    expect(await adapter.readAbout(connection)).toEqual({ ok: true, value: null });
    expect(await adapter.setAbout(connection, "Open 9 to 17")).toEqual({ ok: true, value: null });
    expect(await adapter.readAbout(connection)).toEqual({ ok: true, value: "Open 9 to 17" });
    expect(await adapter.setAbout(connection, "x".repeat(140))).toMatchObject({ ok: false });
  });
});
