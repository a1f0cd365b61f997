import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { Meter, meteredEnv } from "../bench/meter";
import { pageConversations, updateRead } from "../src/conversations/store";
import { pageWebhookEvents } from "../src/inbound/store";
import { newUuid } from "../src/platform/ids";
import { createRuntime, shard } from "../src/platform/runtime";
import { memberWithRole, newWorkspace, type TestWorkspace } from "./support/identity";
import {
  about,
  ago,
  contact,
  digits,
  eventually,
  expectExactCounts,
  inboxOf,
  jobOf,
  message,
  receive,
  runMerges,
  says,
  wamid,
} from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, heldQueues, untilStatus } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { seedMessages } from "./support/seed";
import { eventsOf, openFeed } from "./support/sockets";

interface Thread {
  id: string;
  contact: Record<string, unknown>;
  unread_count: number;
  message_count: number;
  last_message: { id: string; direction: string; preview: string; at: string } | null;
  service_window_expires_at: string | null;
  read_at: string | null;
}
interface Page<T> {
  data: T[];
  total: number;
  total_is_lower_bound?: boolean;
  next_cursor: string | null;
}

async function ready() {
  const workspace = await newWorkspace();
  const number = await registerNumber(workspace);
  return { workspace, number, inbox: inboxOf(workspace.workspaceId) };
}

async function list(workspace: TestWorkspace, query = ""): Promise<Page<Thread>> {
  const response = await workspace.call("GET", `/api/conversations?workspace_id=${workspace.workspaceId}${query}`);
  expect(response.status, await response.clone().text()).toBe(200);
  return response.json<Page<Thread>>();
}

async function everyPage(workspace: TestWorkspace, query: string): Promise<Thread[]> {
  const all: Thread[] = [];
  for (let cursor: string | null = ""; cursor !== null; ) {
    const page = await list(workspace, `${query}${cursor === "" ? "" : `&cursor=${cursor}`}`);
    all.push(...page.data);
    cursor = page.next_cursor;
  }
  return all;
}

async function messagesOf(workspace: TestWorkspace, id: string, query = "") {
  const response = await workspace.call("GET", `/api/conversations/${id}/messages?${query}`);
  expect(response.status).toBe(200);
  return response.json<Page<{ id: string; wa_message_id: string; status: string }>>();
}

describe("the inbox", () => {
  it("is newest first, whatever the order in which things came, and walks by cursor and by offset", async () => {
    const { workspace, number } = await ready();
    const people = Array.from({ length: 9 }, digits);
    const order = [4, 0, 8, 2, 6, 1, 7, 3, 5];
    for (const n of order)
      await receive([
        says(number, { wa: people[n], name: `P${n}` }, { at: ago(100 - n * 10), text: { body: `from ${n}` } }),
      ]);
    const newest = people.map((_, n) => `from ${8 - n}`);
    const page = await list(workspace, "&limit=4");
    expect(page).toMatchObject({
      total: 9,
      data: [{ last_message: { preview: "from 8", direction: "inbound" } }, {}, {}, {}],
    });
    expect((await everyPage(workspace, "&limit=4")).map((v) => v.last_message?.preview)).toEqual(newest);
    expect((await everyPage(workspace, "&limit=1")).map((v) => v.last_message?.preview)).toEqual(newest);
    expect((await list(workspace, "&limit=3&offset=6")).data.map((v) => v.last_message?.preview)).toEqual(
      newest.slice(6),
    );
    // A late message of long ago does not bring its thread to the top; a new one does.
    await receive([says(number, { wa: people[0] }, { at: ago(500), text: { body: "late" } })]);
    expect((await list(workspace)).data.at(-1)).toMatchObject({ unread_count: 2, last_message: { preview: "from 0" } });
    await receive([says(number, { wa: people[0] }, { at: ago(1), text: { body: "new" } })]);
    expect((await list(workspace)).data[0]).toMatchObject({ unread_count: 3, last_message: { preview: "new" } });
  });

  it("filters by number and by unread, with right totals and cursors", async () => {
    const { workspace, number } = await ready();
    const second = await registerNumber(workspace);
    const people = Array.from({ length: 12 }, digits);
    for (const [n, wa] of people.entries())
      await receive([says(n % 3 === 0 ? second : number, { wa }, { at: ago(50 - n) })]);
    const all = await list(workspace);
    for (const thread of all.data.slice(0, 5)) {
      expect((await workspace.call("POST", `/api/conversations/${thread.id}/read`, {})).status).toBe(200);
    }
    expect(await list(workspace, "&unread=true")).toMatchObject({ total: 7 });
    expect(await everyPage(workspace, "&unread=true&limit=3")).toHaveLength(7);
    expect((await everyPage(workspace, "&unread=false&limit=2")).map((v) => v.unread_count)).toEqual(Array(5).fill(0));
    for (const id of [second.id, second.providerNumberId]) {
      expect(await list(workspace, `&phone_number_id=${id}`)).toMatchObject({ total: 4 });
    }
    expect(await everyPage(workspace, `&phone_number_id=${second.id}&limit=1&unread=true`)).toHaveLength(3);
    expect(await list(workspace, `&phone_number_id=${newUuid()}`)).toMatchObject({
      total: 0,
      data: [],
      next_cursor: null,
    });
    const refused = await workspace.call(
      "GET",
      `/api/conversations?workspace_id=${workspace.workspaceId}&unread=maybe`,
    );
    expect(refused.status).toBe(422);
  });

  it("does not show threads that were merged, however many: nothing after them is out of reach", async () => {
    const { workspace, number, inbox } = await ready();
    const people = Array.from({ length: 60 }, digits);
    await receive(people.map((wa, n) => says(number, { wa }, { at: ago(200 - n) })));
    // The 45 in the middle turn out to be one person, whose thread is the oldest of them.
    const { env: held, held: queues } = heldQueues();
    const names = people.slice(8, 53);
    for (const wa of names) await receive([says(number, { wa, user: "US.one" }, { at: ago(300) })], { env: held });
    await runMerges(queues);
    expect(await inbox.contacts()).toHaveLength(16);
    const page = await list(workspace, "&limit=10");
    expect(page).toMatchObject({ total: 16 });
    expect(page.data).toHaveLength(10);
    expect(await everyPage(workspace, "&limit=10")).toHaveLength(16);
    expect(await everyPage(workspace, "&limit=10&unread=true")).toHaveLength(16);
    await expectExactCounts(workspace.workspaceId);
  });

  it("shows the window in which free words reach the person, by their last message, not by what is told of older times", async () => {
    const { workspace, number } = await ready();
    const wa = digits();
    await receive([says(number, { wa }, { at: ago(10) })]);
    await receive([says(number, { wa }, { at: ago(500) })]);
    const [thread] = (await list(workspace)).data;
    expect(thread?.service_window_expires_at).toBe(new Date(ago(10) + 86_400_000).toISOString().replace(".000", ""));
  });

  it("is the workspace's alone: a foreign thread is 404 to read, list and mark", async () => {
    const [mine, theirs] = [await ready(), await ready()];
    await receive([says(theirs.number, { wa: digits() })]);
    const [thread] = (await list(theirs.workspace)).data;
    for (const [method, path, body] of [
      ["GET", `/api/conversations/${thread?.id}`, undefined],
      ["GET", `/api/conversations/${thread?.id}/messages`, undefined],
      ["POST", `/api/conversations/${thread?.id}/read`, {}],
    ] as const) {
      expect((await mine.workspace.call(method, path, body)).status, `${method} ${path}`).toBe(404);
    }
    expect((await list(theirs.workspace)).data[0]?.unread_count).toBe(1);
    const agent = await memberWithRole(theirs.workspace, "AGENT");
    expect((await agent.call("POST", `/api/conversations/${thread?.id}/read`, {})).status).toBe(200);
  });
});

describe("a thread", () => {
  it("is in the order of the provider's time, then of arrival, then of place in the webhook", async () => {
    const { workspace, number } = await ready();
    const wa = digits();
    const at = (minutes: number) => ({ at: ago(minutes) });
    const clock = (offset: number) => ({ overrides: { clock: () => Date.now() + offset } });
    // Arrived later, said earlier; of one second the first arrival, and within one POST its place, decide.
    await receive([says(number, { wa }, { id: "wamid.t5", ...at(5) })], clock(0));
    await receive(
      [
        about(number, {
          contacts: [contact({ wa })],
          messages: ["wamid.t7a", "wamid.t7b", "wamid.t7c"].map((id) => message({ wa }, { id, ...at(7) })),
        }),
      ],
      clock(1000),
    );
    await receive([says(number, { wa }, { id: "wamid.t9", ...at(9) })], clock(2000));
    await receive([says(number, { wa }, { id: "wamid.t5-later", ...at(5) })], clock(3000));
    const [thread] = (await list(workspace)).data;
    const expected = ["wamid.t5-later", "wamid.t5", "wamid.t7c", "wamid.t7b", "wamid.t7a", "wamid.t9"];
    const page = await messagesOf(workspace, thread?.id ?? "");
    expect(page.total).toBe(6);
    expect(page.data.map((m) => m.wa_message_id)).toEqual(expected);
    const walked: string[] = [];
    for (let cursor: string | null = ""; cursor !== null; ) {
      const part = await messagesOf(workspace, thread?.id ?? "", `limit=1${cursor === "" ? "" : `&cursor=${cursor}`}`);
      walked.push(...part.data.map((m) => m.wa_message_id));
      cursor = part.next_cursor;
    }
    expect(walked).toEqual(expected);
    expect(thread?.last_message).toMatchObject({ id: page.data[0]?.id });
  });

  it("of one POST that was cut in parts keeps its order, whichever part is stored first", async () => {
    const { workspace, number } = await ready();
    const wa = digits();
    const items = Array.from({ length: 6 }, (_, n) => message({ wa }, { id: `wamid.part.${n}`, at: ago(3) }));
    const part = (from: number) => ({
      firstPosition: from,
      body: JSON.stringify(about(number, { messages: items.slice(from, from + 2) })),
    });
    const receivedAt = Date.now();
    for (const from of [4, 0, 2]) await deliver("inbound", [jobOf("", { ...part(from), receivedAt })]);
    const [thread] = (await list(workspace)).data;
    expect((await messagesOf(workspace, thread?.id ?? "")).data.map((m) => m.wa_message_id)).toEqual(
      items.map((item) => item.id).reverse(),
    );
  });
});

describe("reading", () => {
  it("marks everything read for the team, sends one receipt, shows typing, and says so live", async () => {
    const { workspace, number, inbox } = await ready();
    const wa = digits();
    const ids = [wamid(), wamid(), wamid()];
    for (const [n, id] of ids.entries()) await receive([says(number, { wa }, { id, at: ago(9 - n) })]);
    const [thread] = (await list(workspace)).data;
    const sent = await workspace.call("POST", "/api/messages/send/text", {
      conversation_id: thread?.id,
      text: "Meanwhile",
    });
    await untilStatus((await sent.json<{ id: string }>()).id, workspace.workspaceId, "sent");
    const feed = await openFeed(workspace, workspace.workspaceId);
    const before = (await sandbox.reads()).data.length;
    const response = await workspace.call("POST", `/api/conversations/${thread?.id}/read`, { typing: true });
    expect(await response.json()).toMatchObject({ unread_count: 0, receipt: "sent", receipt_error: null });
    const receipts = (await sandbox.reads()).data.slice(before);
    // The newest covers the earlier ones.
    expect(receipts).toMatchObject([{ message_id: ids[2], typing: true, phone_number_id: number.providerNumberId }]);
    expect((await inbox.messages()).filter((m) => m.direction === "inbound").map((m) => m.status)).toEqual(
      Array(3).fill("read"),
    );
    expect((await inbox.messages()).find((m) => m.direction === "outbound")?.status).toBe("sent");
    await eventually(async () => {
      expect(eventsOf(feed)).toContainEqual(
        expect.objectContaining({ type: "conversation.updated", conversation_id: thread?.id, unread_count: 0 }),
      );
    });
    feed.close();
    // What comes after it is unread again, and only that is marked by the next call.
    await receive([says(number, { wa }, { at: ago(1) })]);
    expect((await list(workspace)).data[0]?.unread_count).toBe(1);
    await workspace.call("POST", `/api/conversations/${thread?.id}/read`, {});
    expect((await list(workspace)).data[0]?.unread_count).toBe(0);
    expect((await inbox.messages()).filter((m) => m.status === "delivered")).toEqual([]);
  });

  it("finds what is unread behind many answers", async () => {
    const { workspace, number, inbox } = await ready();
    const wa = digits();
    await receive([says(number, { wa }, { id: "wamid.behind", at: ago(100) })]);
    await receive([
      about(
        number,
        {
          message_echoes: Array.from({ length: 300 }, (_, n) => ({
            to: wa,
            ...message({ wa: number.providerNumberId }, { at: ago(90) + n * 1000 }),
          })),
        },
        "smb_message_echoes",
      ),
    ]);
    const [thread] = (await list(workspace)).data;
    expect(thread).toMatchObject({ unread_count: 1, message_count: 301 });
    const response = await workspace.call("POST", `/api/conversations/${thread?.id}/read`, {});
    expect(await response.json()).toMatchObject({ receipt: "sent" });
    expect((await inbox.messages()).find((m) => m.wa_message_id === "wamid.behind")?.status).toBe("read");
  });

  it("a thread without anything inbound sends no receipt; one the provider refuses says why and is read all the same", async () => {
    const { workspace, number } = await ready();
    const sent = await workspace.call("POST", "/api/messages/send/text", {
      phone_number_id: number.id,
      to: `+${digits()}`,
      text: "Hi",
    });
    const { conversation_id } = await sent.json<{ conversation_id: string }>();
    const none = await workspace.call("POST", `/api/conversations/${conversation_id}/read`, {});
    expect(await none.json()).toMatchObject({ receipt: "none", receipt_error: null });

    const expired = await registerNumber(workspace, { access_token: "an-EXPIRED-token" });
    await receive([says(expired, { wa: digits() })]);
    const [thread] = (await list(workspace, "&unread=true")).data;
    const failed = await workspace.call("POST", `/api/conversations/${thread?.id}/read`, {});
    const answer = await failed.json<{ receipt: string; receipt_error: string | null; unread_count: number }>();
    expect(answer).toMatchObject({ receipt: "failed", unread_count: 0 });
    expect(answer.receipt_error).not.toBeNull();
    expect((await list(workspace, "&unread=true")).total).toBe(0);
  });
});

describe("at 20,000 threads", () => {
  let workspace: TestWorkspace;
  let numberId: string;
  const meter = new Meter();
  const db = () => shard(createRuntime(meteredEnv(env, meter)), 0);
  const QUERY = { limit: 20, offset: 0, cursor: undefined };

  beforeAll(async () => {
    workspace = await newWorkspace();
    numberId = (await registerNumber(workspace)).id;
    await seedMessages(env.SHARD_0, {
      workspaceId: workspace.workspaceId,
      phoneNumberId: numberId,
      messages: 20_000,
      conversations: 20_000,
    });
  });

  it("a page reads as many rows as it shows, at the first cursor and the last", async () => {
    let cursor: string | undefined;
    for (let page = 0; page < 5; page += 1) {
      meter.reset();
      const found = await pageConversations(db(), workspace.workspaceId, {}, { ...QUERY, cursor });
      expect(found.rows).toHaveLength(20);
      expect(found.total).toBe(20_000);
      // Index, thread, contact by its index.
      expect(meter.rowsRead()).toBeLessThanOrEqual(5 * 20 + 10);
      cursor = found.nextCursor ?? undefined;
    }
  });

  it("a filter that fits nobody ends its page after 2,000 rows, with a cursor, and never claims a total it did not count", async () => {
    await env.SHARD_0.prepare("UPDATE conversations SET unread_count = 0 WHERE workspace_id = ?1")
      .bind(workspace.workspaceId)
      .run();
    meter.reset();
    const page = await pageConversations(db(), workspace.workspaceId, { unread: true }, QUERY);
    expect(page).toMatchObject({ rows: [], totalIsLowerBound: true });
    expect(page.nextCursor).not.toBeNull();
    expect(meter.rowsRead()).toBeLessThan(2_000 * 3 + 10_000 * 3);
    // The needle is found by following the cursors.
    const last = await env.SHARD_0.prepare(
      "SELECT id FROM conversations WHERE workspace_id = ?1 ORDER BY last_message_at, id LIMIT 1",
    )
      .bind(workspace.workspaceId)
      .first<string>("id");
    await env.SHARD_0.prepare("UPDATE conversations SET unread_count = 1 WHERE workspace_id = ?1 AND id = ?2")
      .bind(workspace.workspaceId, last)
      .run();
    let found: string[] = [];
    let cursor: string | undefined;
    for (let pages = 0; pages < 20 && found.length === 0; pages += 1) {
      const next = await pageConversations(db(), workspace.workspaceId, { unread: true }, { ...QUERY, cursor });
      found = next.rows.map((v) => v.id);
      if (next.nextCursor === null) break;
      cursor = next.nextCursor;
    }
    expect(found).toEqual([last]);
  });

  it("stored events are paged the same way", async () => {
    const rows = JSON.stringify(Array.from({ length: 5_000 }, (_, n) => n));
    await env.SHARD_0.batch([
      env.SHARD_0.prepare(
        `INSERT INTO webhook_events (workspace_id, id, provider, kind, raw, received_at)
         SELECT ?1, printf('00000000-0000-8000-8000-%012x', value), 'meta', iif(value = 0, 'rare', 'common'), '{}', value FROM json_each(?2)`,
      ).bind(workspace.workspaceId, rows),
      env.SHARD_0.prepare("INSERT INTO list_totals (workspace_id, list, n) VALUES (?1, 'webhook_events', 5000)").bind(
        workspace.workspaceId,
      ),
    ]);
    meter.reset();
    const page = await pageWebhookEvents(db(), workspace.workspaceId, {}, QUERY);
    expect(page).toMatchObject({ total: 5_000 });
    expect(meter.rowsRead()).toBeLessThanOrEqual(3 * 20 + 10);
    const rare = await pageWebhookEvents(db(), workspace.workspaceId, { kind: "rare" }, QUERY);
    expect(rare).toMatchObject({ rows: [], total: 1, totalIsLowerBound: false });
    const next = await pageWebhookEvents(
      db(),
      workspace.workspaceId,
      { kind: "rare" },
      { ...QUERY, cursor: rare.nextCursor ?? undefined },
    );
    const last = await pageWebhookEvents(
      db(),
      workspace.workspaceId,
      { kind: "rare" },
      { ...QUERY, cursor: next.nextCursor ?? undefined },
    );
    expect(last).toMatchObject({ rows: [{ kind: "rare" }], nextCursor: null });
  });

  it("reading a thread looks back no further than it must", async () => {
    const id = newUuid();
    const ws = workspace.workspaceId;
    await env.SHARD_0.prepare(
      `INSERT INTO conversations (workspace_id, id, phone_number_id, contact_id, peer, last_message_at, unread_count, message_count, status, created_at, updated_at)
       VALUES (?1, ?2, ?3, ?4, 'x', 5, 0, 3000, 'open', 1, 1)`,
    )
      .bind(ws, id, numberId, newUuid())
      .run();
    await env.SHARD_0.prepare(
      `INSERT INTO messages (workspace_id, id, phone_number_id, conversation_id, contact_id, direction, origin, type, content, status, lane, seq, not_before,
         attempts, failures, at, received_at, position, created_at)
       SELECT ?1, printf('%s-%d', ?2, value), ?3, ?2, 'x', 'outbound', 'api', 'text', '{}', 'read', 'chat', 0, 0, 0, 0, value, value, 0, value FROM json_each(?4)`,
    )
      .bind(ws, id, numberId, JSON.stringify(Array.from({ length: 3_000 }, (_, n) => n)))
      .run();
    meter.reset();
    expect(await updateRead(db(), ws, id, Date.now())).toBeNull();
    expect(meter.rowsRead()).toBeLessThan(20);
  });
});
