import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { memberWithRole, newWorkspace, type TestWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { eventually, untilStatus } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { newPerson } from "./support/world";

// A second each, alone; several on a machine that runs other tests as well.
vi.setConfig({ testTimeout: 30_000 });

type Number_ = Awaited<ReturnType<typeof registerNumber>>;

let workspace: TestWorkspace;
let number: Number_;

beforeAll(async () => {
  workspace = await newWorkspace();
  number = await registerNumber(workspace);
});

function send(
  body: Record<string, unknown>,
  headers?: Record<string, string>,
  of: { call: TestWorkspace["call"] } = workspace,
) {
  return of.call("POST", "/api/messages/send/text", { workspace_id: workspace.workspaceId, ...body }, headers);
}

async function json<T = Record<string, unknown>>(response: Response, status: number): Promise<T> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text) as T;
}

async function sent(body: Record<string, unknown>): Promise<Record<string, unknown>> {
  const message = await json(await send(body), 201);
  await untilStatus(String(message.id), workspace.workspaceId, "sent");
  return json(await workspace.call("GET", `/api/messages/${String(message.id)}`), 200);
}

function field(response: Response, ...loc: string[]) {
  return expect(json(response, 422)).resolves.toMatchObject({
    code: "validation",
    detail: [{ loc: ["body", ...loc], msg: expect.any(String), type: "value_error" }],
  });
}

describe("sending a text", () => {
  it("answers the documented fields and reaches the provider", async () => {
    const to = newPerson();
    const message = await json(
      await send({ phone_number_id: number.id, to, text: "Hello! Thanks for contacting us." }),
      201,
    );
    expect(message).toMatchObject({
      workspace_id: workspace.workspaceId,
      phone_number_id: number.id,
      wa_message_id: null,
      direction: "outbound",
      from_number: number.phoneNumber,
      to_number: to,
      type: "text",
      status: "queued",
      content: { body: "Hello! Thanks for contacting us." },
      conversation_id: expect.any(String),
      contact_id: expect.any(String),
      error: null,
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      sent_at: null,
      delivered_at: null,
      read_at: null,
      failed_at: null,
    });
    const row = await untilStatus(String(message.id), workspace.workspaceId, "sent");
    expect(row.wa_message_id).toMatch(/^wamid\./);
    expect(row.open).toBeNull();
    const [accepted] = (await sandbox.accepted({ to: to.slice(1) })).data;
    expect(accepted?.body).toMatchObject({
      messaging_product: "whatsapp",
      to: to.slice(1),
      text: { body: "Hello! Thanks for contacting us." },
      biz_opaque_callback_data: `${String(message.id)}.1`,
    });
    expect(accepted?.body).not.toHaveProperty("context");
  });

  it("takes the provider's id of the number, and the default one when none is named", async () => {
    const byProvider = await json(
      await send({ phone_number_id: number.providerNumberId, to: newPerson(), text: "x" }),
      201,
    );
    expect(byProvider.phone_number_id).toBe(number.id);
    const byDefault = await json(await send({ to: newPerson(), text: "x" }), 201);
    expect(byDefault.phone_number_id).toBe(number.id);
  });

  it("uses one conversation and contact for one person", async () => {
    const to = newPerson();
    const first = await json(await send({ to, text: "1" }), 201);
    const second = await json(await send({ to, text: "2" }), 201);
    expect(second).toMatchObject({ conversation_id: first.conversation_id, contact_id: first.contact_id });
    const byContact = await json(await send({ contact_id: first.contact_id, text: "3" }), 201);
    const byConversation = await json(await send({ conversation_id: first.conversation_id, text: "4" }), 201);
    for (const message of [byContact, byConversation]) {
      expect(message).toMatchObject({
        conversation_id: first.conversation_id,
        contact_id: first.contact_id,
        to_number: to,
      });
    }
    await untilStatus(String(byConversation.id), workspace.workspaceId, "sent");
    await eventually(async () => {
      const { data } = await sandbox.accepted({ to: to.slice(1) });
      expect(data.map((m) => (m.body.text as { body: string }).body)).toEqual(["1", "2", "3", "4"]);
    });
  });

  it("sends a preview only when asked to", async () => {
    const to = newPerson();
    await sent({ to, text: "https://example.com", preview_url: true });
    const [accepted] = (await sandbox.accepted({ to: to.slice(1) })).data;
    expect(accepted?.body.text).toEqual({ body: "https://example.com", preview_url: true });
  });

  it("answers with a bookmark, and reads with it what was just written", async () => {
    const response = await send({ to: newPerson(), text: "x" });
    const bookmark = response.headers.get("X-D1-Bookmark");
    expect(bookmark).toMatch(/^0~/);
    const { id } = await json<{ id: string }>(response, 201);
    const read = await workspace.call("GET", `/api/messages/${id}`, undefined, { "X-D1-Bookmark": bookmark ?? "" });
    expect(read.status).toBe(200);
    expect(read.headers.get("X-D1-Bookmark")).toMatch(/^0~/);
  });

  it("refuses what is no E.164 number, no text, or too long, and names the field", async () => {
    for (const to of ["1234567890", "(123) 456-7890", "+1 234-567-8900", "+0123", ""]) {
      const response = await send({ to, text: "x" });
      expect(await json(response, 422)).toMatchObject({
        detail: [{ loc: ["body", "to"], msg: "Phone number must be in E.164 format", type: "value_error" }],
      });
    }
    await field(await send({ to: newPerson(), text: "" }), "text");
    await field(await send({ to: newPerson(), text: "x".repeat(4097) }), "text");
    await field(await send({ to: newPerson() }), "text");
    await field(await send({ to: newPerson(), text: "x", preview_url: "yes" }), "preview_url");
    expect((await send({ to: newPerson(), text: "x".repeat(4096) })).status).toBe(201);
  });

  it("wants exactly one of to, contact_id and conversation_id", async () => {
    const { contact_id, conversation_id } = await json(await send({ to: newPerson(), text: "x" }), 201);
    await field(await send({ text: "x" }), "to");
    await field(await send({ to: newPerson(), contact_id, text: "x" }), "to");
    await field(await send({ conversation_id, contact_id, text: "x" }), "to");
    await field(await send({ contact_id: "not-a-uuid", text: "x" }), "contact_id");
  });

  it("is a 404 for a contact or conversation that is not there, or is another tenant's", async () => {
    const other = await newWorkspace();
    const otherNumber = await registerNumber(other);
    const theirs = await json(
      await other.call("POST", "/api/messages/send/text", {
        workspace_id: other.workspaceId,
        phone_number_id: otherNumber.id,
        to: newPerson(),
        text: "x",
      }),
      201,
    );
    const nobody = crypto.randomUUID();
    expect(await json(await send({ contact_id: nobody, text: "x" }), 404)).toMatchObject({
      detail: "Contact not found",
    });
    expect(await json(await send({ conversation_id: nobody, text: "x" }), 404)).toMatchObject({
      detail: "Conversation not found",
    });
    expect((await send({ contact_id: theirs.contact_id, text: "x" })).status).toBe(404);
    expect((await send({ conversation_id: theirs.conversation_id, text: "x" })).status).toBe(404);
    await field(await send({ phone_number_id: otherNumber.id, to: newPerson(), text: "x" }), "phone_number_id");
    await field(await send({ reply_to: theirs.id, to: newPerson(), text: "x" }), "reply_to");
    expect((await workspace.call("GET", `/api/messages/${String(theirs.id)}`)).status).toBe(404);
    expect((await workspace.call("GET", `/api/messages/${String(theirs.id)}/status`)).status).toBe(404);
  });

  it("refuses a number that is off, is another conversation's, and a workspace that is suspended", async () => {
    const off = await registerNumber(workspace, { status: "disabled" });
    await field(await send({ phone_number_id: off.id, to: newPerson(), text: "x" }), "phone_number_id");
    const second = await registerNumber(workspace);
    const { conversation_id } = await json(await send({ phone_number_id: number.id, to: newPerson(), text: "x" }), 201);
    await field(await send({ phone_number_id: second.id, conversation_id, text: "x" }), "phone_number_id");
    expect((await send({ phone_number_id: number.providerNumberId, conversation_id, text: "x" })).status).toBe(201);
    const suspended = await newWorkspace();
    await registerNumber(suspended);
    await env.SHARD_0.prepare("UPDATE workspace_states SET status = 'suspended' WHERE workspace_id = ?1")
      .bind(suspended.workspaceId)
      .run();
    const refused = await suspended.call("POST", "/api/messages/send/text", {
      workspace_id: suspended.workspaceId,
      to: newPerson(),
      text: "x",
    });
    expect(await json(refused, 409)).toMatchObject({ code: "conflict", detail: expect.stringContaining("suspended") });
  });

  it("is for every role, and for nobody without credentials", async () => {
    for (const role of ["OWNER", "ADMIN", "MEMBER", "AGENT"] as const) {
      const member = await memberWithRole(workspace, role);
      expect((await send({ to: newPerson(), text: role }, {}, member)).status).toBe(201);
    }
    expect((await send({ to: newPerson(), text: "key" }, {}, { call: workspace.callWithKey })).status).toBe(201);
    expect((await send({ to: newPerson(), text: "x" }, { Authorization: "Bearer wsk_nobody" })).status).toBe(401);
    const stranger = await newWorkspace();
    expect(await json(await send({ to: newPerson(), text: "x" }, {}, stranger), 404)).toMatchObject({
      detail: "Workspace not found",
    });
  });

  it("can be held to the service window", async () => {
    const strict = await newWorkspace({ settings: { enforce_service_window: true } });
    const ours = await registerNumber(strict);
    const to = newPerson();
    const post = () =>
      strict.call("POST", "/api/messages/send/text", { workspace_id: strict.workspaceId, to, text: "x" });
    expect(await json(await post(), 409)).toMatchObject({ detail: expect.stringContaining("service window") });
    await sandbox.customerSends(to, { to: ours.providerNumberId, type: "text", text: { body: "hi" } });
    await sandbox.flush();
    await eventually(async () => expect((await post()).status).toBe(201));
  });
});

describe("reply_to", () => {
  it("quotes a message by our id or the provider's", async () => {
    const to = newPerson();
    const first = await sent({ to, text: "question" });
    const byOurs = await sent({ to, text: "answer", reply_to: first.id });
    expect(byOurs.reply_to).toBe(first.wa_message_id);
    const byTheirs = await sent({ to, text: "answer", reply_to: first.wa_message_id });
    expect(byTheirs.reply_to).toBe(first.wa_message_id);
    const { data } = await sandbox.accepted({ to: to.slice(1) });
    expect(data.slice(1).map((message) => message.body.context)).toEqual([
      { message_id: first.wa_message_id },
      { message_id: first.wa_message_id },
    ]);
  });

  it("refuses an id nobody has, a message that was not sent yet, and one of another conversation", async () => {
    const to = newPerson();
    await field(await send({ to, text: "x", reply_to: crypto.randomUUID() }), "reply_to");
    for (const reply_to of ["", "two words", "wamid.<b>", "x".repeat(201)]) {
      await field(await send({ to, text: "x", reply_to }), "reply_to");
    }
    const planned = await json(
      await send({ to, text: "later", scheduled_at: new Date(Date.now() + 3_600_000).toISOString() }),
      201,
    );
    await field(await send({ to, text: "x", reply_to: planned.id }), "reply_to");
    const elsewhere = await sent({ to: newPerson(), text: "elsewhere" });
    await field(await send({ to, text: "x", reply_to: elsewhere.id }), "reply_to");
  });
});

describe("people known by user id only", () => {
  it("can be answered by contact and by conversation, and are never given a number", async () => {
    const phone = newPerson();
    const { user_id } = await sandbox.customerSends(phone, {
      to: number.providerNumberId,
      type: "text",
      text: { body: "hi" },
      only_user_id: true,
    });
    await sandbox.flush();
    const contact = await eventually(async () => {
      const row = await env.SHARD_0.prepare(
        `SELECT c.id, v.id AS conversation_id FROM contacts c JOIN conversations v ON v.workspace_id = c.workspace_id AND v.contact_id = c.id
         WHERE c.workspace_id = ?1 AND c.user_id = ?2`,
      )
        .bind(workspace.workspaceId, user_id)
        .first<{ id: string; conversation_id: string }>();
      if (!row) throw new Error("Not there yet");
      return row;
    });
    const one = await sent({ contact_id: contact.id, text: "by contact" });
    const two = await sent({ conversation_id: contact.conversation_id, text: "by conversation" });
    for (const message of [one, two]) expect(message).toMatchObject({ to_number: null, contact_id: contact.id });
    const { data } = await sandbox.accepted({ to: user_id ?? "" });
    expect(data).toHaveLength(2);
    for (const { body } of data) {
      expect(body).toMatchObject({ recipient: user_id });
      expect(body).not.toHaveProperty("to");
    }
  });
});

describe("a message", () => {
  it("shows the time of each status, and its status alone", async () => {
    const to = newPerson();
    const message = await sent({ to, text: "x" });
    await sandbox.flush();
    await untilStatus(String(message.id), workspace.workspaceId, "read");
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    const status = await json(await workspace.call("GET", `/api/messages/${String(message.id)}/status`), 200);
    expect(status).toEqual({
      id: message.id,
      wa_message_id: message.wa_message_id,
      status: "read",
      sent_at: time,
      delivered_at: time,
      read_at: time,
      failed_at: null,
      error: null,
    });
    expect((await workspace.call("GET", "/api/messages/not-a-uuid")).status).toBe(422);
    expect((await workspace.call("GET", `/api/messages/${crypto.randomUUID()}`)).status).toBe(404);
  });

  it("that fails after it was accepted says why", async () => {
    const message = await json(await send({ to: "+1555131026", text: "x" }), 201);
    await untilStatus(String(message.id), workspace.workspaceId, "sent");
    await sandbox.flush();
    await untilStatus(String(message.id), workspace.workspaceId, "failed");
    expect(await json(await workspace.call("GET", `/api/messages/${String(message.id)}`), 200)).toMatchObject({
      status: "failed",
      error: { code: 131026, title: expect.any(String), details: expect.any(String), retryable: false },
      failed_at: expect.any(String),
    });
  });
});

describe("the list", () => {
  interface Page {
    data: Record<string, unknown>[];
    total: number;
    total_is_lower_bound?: true;
    limit: number;
    offset: number;
    next_cursor: string | null;
  }

  let own: TestWorkspace;
  let first: Number_;
  let second: Number_;
  const ids: string[] = [];
  const [ana, ben] = ["+12025559001", "+12025559002"];

  beforeAll(async () => {
    own = await newWorkspace();
    [first, second] = [await registerNumber(own), await registerNumber(own)];
    const plan: [string, Number_][] = [
      [ana, first],
      [ben, first],
      [ana, second],
      [ana, first],
      [ana, first],
    ];
    for (const [to, from] of plan) {
      const message = await json(
        await own.call("POST", "/api/messages/send/text", {
          workspace_id: own.workspaceId,
          phone_number_id: from.id,
          to,
          text: `to ${to}`,
        }),
        201,
      );
      ids.push(String(message.id));
      await untilStatus(String(message.id), own.workspaceId, "sent");
    }
    const planned = await json(
      await own.call("POST", "/api/messages/send/text", {
        workspace_id: own.workspaceId,
        phone_number_id: first.id,
        to: ben,
        text: "later",
        scheduled_at: new Date(Date.now() + 3_600_000).toISOString(),
      }),
      201,
    );
    ids.push(String(planned.id));
    await sandbox.customerSends(ana, { to: first.providerNumberId, type: "text", text: { body: "hi" } });
    await sandbox.customerSends(ana, { to: first.providerNumberId, type: "image", image: {} });
    await sandbox.flush();
    await eventually(async () => {
      const { total } = await list({ direction: "inbound" });
      expect(total).toBe(2);
      for (const id of ids.slice(0, 5)) await untilStatus(id, own.workspaceId, "read");
    });
  });

  async function list(query: Record<string, string>, status = 200): Promise<Page> {
    const search = new URLSearchParams({ workspace_id: own.workspaceId, ...query });
    return json<Page>(await own.call("GET", `/api/messages?${search}`), status);
  }

  it("has every message, newest first, with its total", async () => {
    const page = await list({});
    expect(page).toMatchObject({ total: 8, limit: 20, offset: 0, next_cursor: null });
    expect(page.data).toHaveLength(8);
    expect(page.data.filter((m) => m.direction === "outbound").map((m) => m.id)).toEqual(ids.toReversed());
    expect(page.data.map((m) => m.id)).toEqual(
      page.data
        .map((m) => m.id)
        .toSorted()
        .toReversed(),
    );
    expect(page).not.toHaveProperty("total_is_lower_bound");
  });

  it("takes every filter, alone and together, with exact totals", async () => {
    const one = (await list({})).data.find((m) => m.id === ids[0]);
    const conversation = String(one?.conversation_id);
    const contact = String(one?.contact_id);
    const cases: [Record<string, string>, number][] = [
      [{ direction: "inbound" }, 2],
      [{ direction: "outbound" }, 6],
      [{ status: "read" }, 5],
      [{ status: "scheduled" }, 1],
      [{ status: "failed" }, 0],
      [{ type: "image" }, 1],
      [{ type: "text" }, 7],
      [{ phone_number_id: second.id }, 1],
      [{ phone_number_id: second.providerNumberId }, 1],
      [{ phone_number_id: first.id }, 7],
      [{ phone_number_id: "404404" }, 0],
      [{ conversation_id: conversation }, 5],
      [{ conversation_id: conversation, direction: "inbound" }, 2],
      [{ conversation_id: crypto.randomUUID() }, 0],
      [{ contact_id: contact }, 6],
      [{ contact_id: contact, type: "text" }, 5],
      [{ contact_id: contact, phone_number_id: second.id }, 1],
      [{ contact_id: contact, conversation_id: conversation }, 5],
      [{ contact_id: crypto.randomUUID(), conversation_id: conversation }, 0],
      [{ since: new Date(Date.now() + 60_000).toISOString() }, 0],
      [{ until: new Date(Date.now() + 60_000).toISOString() }, 8],
      [
        {
          since: "2020-01-01T00:00:00Z",
          until: new Date(Date.now() + 60_000).toISOString(),
          status: "read",
          type: "text",
        },
        5,
      ],
    ];
    for (const [query, total] of cases) {
      const page = await list(query);
      expect([query, page.total, page.data.length]).toEqual([query, total, total]);
      expect(page.next_cursor).toBeNull();
    }
  });

  it.each([
    ["the workspace", () => ({})],
    ["a filter", () => ({ direction: "outbound" })],
    [
      "a contact's threads",
      async () => ({ contact_id: String((await list({})).data.find((m) => m.id === ids[0])?.contact_id) }),
    ],
    [
      "a conversation",
      async () => ({ conversation_id: String((await list({})).data.find((m) => m.id === ids[0])?.conversation_id) }),
    ],
    [
      "a conversation and a filter",
      async () => ({
        conversation_id: String((await list({})).data.find((m) => m.id === ids[0])?.conversation_id),
        type: "text",
      }),
    ],
  ])("pages over %s by cursor and by offset, with the same total on every page", async (_name, queryOf) => {
    const query = await queryOf();
    const all = await list(query);
    const byCursor: unknown[] = [];
    let cursor: string | null = null;
    do {
      const page: Page = await list({ ...query, limit: "2", ...(cursor === null ? {} : { cursor }) });
      expect(page.data.length).toBeLessThanOrEqual(2);
      expect(page.total).toBe(all.total);
      byCursor.push(...page.data.map((m) => m.id));
      cursor = page.next_cursor;
    } while (cursor !== null);
    expect(byCursor).toEqual(all.data.map((m) => m.id));
    const byOffset: unknown[] = [];
    for (let offset = 0; offset < all.total; offset += 3) {
      const page = await list({ ...query, limit: "3", offset: String(offset) });
      expect(page).toMatchObject({ total: all.total, limit: 3, offset });
      byOffset.push(...page.data.map((m) => m.id));
    }
    expect(byOffset).toEqual(byCursor);
    expect((await list({ ...query, offset: "1000000" })).data).toEqual([]);
  });

  it("refuses limits, offsets, cursors, ids, times and words it does not know", async () => {
    const bad: Record<string, string>[] = [
      { limit: "0" },
      { limit: "101" },
      { limit: "ten" },
      { offset: "-1" },
      { cursor: "nonsense" },
      { cursor: btoa("[1]") },
      { status: "lost" },
      { direction: "sideways" },
      { conversation_id: "42" },
      { since: "yesterday" },
    ];
    for (const query of bad) {
      const search = new URLSearchParams({ workspace_id: own.workspaceId, ...query });
      const body = await json(await own.call("GET", `/api/messages?${search}`), 422);
      expect(body).toMatchObject({ code: "validation", detail: [{ loc: ["query", Object.keys(query)[0]] }] });
    }
  });

  it("answers with and without a slash, and is another tenant's 404", async () => {
    expect((await own.call("GET", `/api/messages/?workspace_id=${own.workspaceId}`)).status).toBe(200);
    const stranger = await newWorkspace();
    expect((await stranger.call("GET", `/api/messages?workspace_id=${own.workspaceId}`)).status).toBe(404);
    expect((await list({}, 200)).data.every((m) => m.workspace_id === own.workspaceId)).toBe(true);
  });

  it("says so when a filtered total stopped counting", async () => {
    const big = await newWorkspace();
    const from = await registerNumber(big);
    await env.SHARD_0.prepare(
      `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 10050)
       INSERT INTO messages (workspace_id, id, phone_number_id, conversation_id, contact_id, direction, origin, type, content, status, lane,
         seq, not_before, attempts, failures, at, received_at, position, created_at)
       SELECT ?1, printf('0190%08d', i), ?2, 'c', 'p', 'inbound', 'live', CASE WHEN i < 5 THEN 'sticker' ELSE 'text' END, '{}', 'delivered', 'chat',
         0, 0, 0, 0, i, i, 0, i FROM n`,
    )
      .bind(big.workspaceId, from.id)
      .run();
    const page = async (query: Record<string, string>) =>
      json<Page>(
        await big.call("GET", `/api/messages?${new URLSearchParams({ workspace_id: big.workspaceId, ...query })}`),
        200,
      );
    expect(await page({ type: "text" })).toMatchObject({ total: 10_000, total_is_lower_bound: true });
    // Nothing found among the newest 10,000 is no proof that there is nothing.
    expect(await page({ type: "sticker" })).toMatchObject({ total: 0, total_is_lower_bound: true });
    // The oldest five, far behind what one page looks at: the cursor leads there.
    let cursor: string | null = "";
    const found: unknown[] = [];
    for (let n = 0; n < 10 && cursor !== null; n += 1) {
      const got: Page = await page({ type: "sticker", ...(cursor === "" ? {} : { cursor }) });
      found.push(...got.data);
      cursor = got.next_cursor;
    }
    expect(found).toHaveLength(5);
    expect(cursor).toBeNull();
  });
});
