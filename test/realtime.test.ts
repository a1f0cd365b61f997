import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { HubLog, MAX_REPLAY, RING } from "../durable-objects/hub-log";
import { isoMillis } from "../src/platform/clock";
import { newUuid } from "../src/platform/ids";
import type { Runtime } from "../src/platform/runtime";
import type { WorkspaceEvent } from "../src/realtime/events";
import {
  admitSend,
  closeKeySockets,
  closeMemberSockets,
  closeWorkspaceSockets,
  conversationObject,
  publishEvents,
} from "../src/realtime/publish";
import { realtimeRoutes } from "../src/realtime/routes";
import { call, memberWithRole, newWorkspace, testRuntime } from "./support/identity";
import { eventsOf, makeTicket, openConversation, openFeed, openSocket, upgrade } from "./support/sockets";

const rt = testRuntime();

afterEach(() => {
  vi.useRealTimers();
});

/** From here on, the Worker and its objects see this much later a time. */
function later(ms: number): void {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + ms });
}

interface TestThread {
  id: string;
  object: string;
}

async function newThread(workspaceId: string, mergedInto: string | null = null): Promise<TestThread> {
  const id = newUuid();
  const phoneNumberId = newUuid();
  const peer = `49151${Math.floor(Math.random() * 1e8)}`;
  const now = Date.now();
  await env.SHARD_0.prepare(
    `INSERT INTO conversations (workspace_id, id, phone_number_id, contact_id, peer, last_message_at, unread_count,
       message_count, status, merged_into, created_at, updated_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 'open', ?7, ?6, ?6)`,
  )
    .bind(workspaceId, id, phoneNumberId, newUuid(), peer, now, mergedInto)
    .run();
  return { id, object: conversationObject(workspaceId, phoneNumberId, peer) };
}

function message(
  type: "message.created" | "message.status",
  conversationId: string,
  over: { id?: string; status?: string; rank?: number } = {},
): WorkspaceEvent {
  const at = isoMillis(Date.now());
  return {
    type,
    at,
    message: {
      id: over.id ?? newUuid(),
      conversation_id: conversationId,
      contact_id: newUuid(),
      phone_number_id: newUuid(),
      direction: "inbound",
      type: "text",
      status: over.status ?? "delivered",
      rank: over.rank ?? 3,
      wa_message_id: "wamid.1",
      preview: "Hello",
      error: null,
      at,
    },
  };
}

function updated(conversationId: string, unread: number): WorkspaceEvent {
  return { type: "conversation.updated", conversation_id: conversationId, unread_count: unread, at: isoMillis(0) };
}

const webhookEvent = (): WorkspaceEvent => ({
  type: "webhook_event.created",
  webhook_event_id: newUuid(),
  kind: "unknown",
  at: isoMillis(0),
});

/** Publishes one event under its own key. */
function publish(workspaceId: string, event: WorkspaceEvent, key = newUuid()): Promise<void> {
  return publishEvents(rt, workspaceId, key, [event], "bookmark-1");
}

function seqsOf(frames: { type: string; seq?: unknown }[]): unknown[] {
  return frames.filter((frame) => frame.type === "events").map((frame) => frame.seq);
}

/** The same runtime, with another answer to a publish of conversation objects. */
function withConversations(getByName: (name: string) => { publish: () => Promise<void> }): Runtime {
  return { ...rt, env: { ...env, CONVERSATION: { getByName } as unknown as Env["CONVERSATION"] } };
}

describe("the workspace's feed", () => {
  it("shows what happens, numbered, with the bookmark of the write", async () => {
    const workspace = await newWorkspace();
    const feed = await openFeed(workspace, workspace.workspaceId);
    expect(await feed.next((frame) => frame.type === "hello")).toEqual({ type: "hello", seq: 0 });
    const event = message("message.created", newUuid());
    await publish(workspace.workspaceId, event);
    expect(await feed.next((frame) => frame.type === "events")).toEqual({
      type: "events",
      seq: 1,
      bookmark: "bookmark-1",
      events: [event],
    });
    expect(feed.frames[0]?.type).toBe("hello");
  });

  it("shows nothing of another workspace", async () => {
    const [mine, other] = await Promise.all([newWorkspace(), newWorkspace()]);
    const feed = await openFeed(mine, mine.workspaceId);
    await publish(other.workspaceId, message("message.created", newUuid()));
    await publish(mine.workspaceId, updated("mine", 1));
    await feed.next((frame) => frame.type === "events");
    expect(eventsOf(feed)).toEqual([updated("mine", 1)]);
  });

  it("goes on after its object was evicted, with nothing missed or shown twice", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const feed = await openFeed(owner, workspaceId);
    await publish(workspaceId, updated("a", 1), "write-1");
    await evictDurableObject(env.WORKSPACE_HUB.getByName(workspaceId));
    await publish(workspaceId, updated("b", 1), "write-2");
    await publish(workspaceId, updated("a", 1), "write-1");
    await evictDurableObject(env.WORKSPACE_HUB.getByName(workspaceId));
    await publish(workspaceId, updated("c", 1), "write-3");
    await feed.next((frame) => frame.type === "events" && frame.seq === 3);
    expect(seqsOf(feed.frames)).toEqual([1, 2, 3]);
    feed.send({ type: "ping" });
    await feed.next((frame) => frame.type === "pong");
  });

  it("gives a client that was away what it missed, in order, before anything new", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    for (const n of [1, 2, 3]) await publish(workspaceId, updated("a", n));
    const feed = await openFeed(owner, workspaceId, 1);
    await publish(workspaceId, updated("a", 4));
    await feed.next((frame) => frame.type === "events" && frame.seq === 4);
    expect(feed.frames[0]).toEqual({ type: "hello", seq: 1 });
    expect(seqsOf(feed.frames)).toEqual([2, 3, 4]);
  });

  it("says resync to a client that missed more than 500, or that knows a number that never was", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const head = MAX_REPLAY + 10;
    await runInDurableObject(env.WORKSPACE_HUB.getByName(workspaceId), (_, state) => {
      const log = new HubLog(state.storage.sql);
      for (let n = 1; n <= head; n++) log.append(`key-${n}`, { type: "events", bookmark: null, events: [] });
    });
    await evictDurableObject(env.WORKSPACE_HUB.getByName(workspaceId));
    const [long, unknown, short] = await Promise.all([
      openFeed(owner, workspaceId, 9),
      openFeed(owner, workspaceId, head + 1),
      openFeed(owner, workspaceId, 10),
    ]);
    for (const feed of [long, unknown]) {
      expect(await feed.next((frame) => frame.type === "resync")).toEqual({ type: "resync", seq: head });
      expect(feed.frames[0]).toEqual({ type: "hello", seq: head });
    }
    await short.next((frame) => frame.type === "events" && frame.seq === head);
    expect(seqsOf(short.frames)).toHaveLength(MAX_REPLAY);
    await publish(workspaceId, updated("a", 1));
    await long.next((frame) => frame.type === "events" && frame.seq === head + 1);
  });

  it("shows a write once however often it is published", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const feed = await openFeed(owner, workspaceId);
    const event = message("message.created", newUuid());
    await Promise.all([1, 2, 3].map(() => publish(workspaceId, event, "batch-7")));
    await publish(workspaceId, updated("a", 1), "batch-8");
    await feed.next((frame) => frame.type === "events" && frame.seq === 2);
    expect(eventsOf(feed)).toEqual([event, updated("a", 1)]);
  });

  it("shows of each conversation and message only the last word of a write", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const feed = await openFeed(owner, workspaceId);
    const read = message("message.status", "a", { id: "m", status: "read", rank: 4 });
    await publishEvents(
      rt,
      workspaceId,
      newUuid(),
      [
        message("message.status", "a", { id: "m", status: "sent", rank: 2 }),
        updated("a", 1),
        read,
        updated("b", 7),
        message("message.status", "a", { id: "m", status: "delivered", rank: 3 }),
        updated("a", 2),
      ],
      null,
    );
    await feed.next((frame) => frame.type === "events");
    expect(eventsOf(feed)).toEqual([read, updated("b", 7), updated("a", 2)]);
  });

  it("shows each role what it may read, live and when it resumes, without holes in the numbers", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const agent = await memberWithRole({ workspaceId }, "AGENT");
    const feeds = { owner: await openFeed(owner, workspaceId), agent: await openFeed(agent, workspaceId) };
    const keyFeed = await openFeed({ call: owner.callWithKey }, workspaceId);
    const [secret, both] = [webhookEvent(), message("message.created", newUuid())];
    await publish(workspaceId, secret);
    await publish(workspaceId, both);
    for (const feed of [feeds.owner, feeds.agent, keyFeed]) {
      await feed.next((frame) => frame.type === "events" && frame.seq === 2);
      expect(seqsOf(feed.frames)).toEqual([1, 2]);
    }
    expect(eventsOf(feeds.owner)).toEqual([secret, both]);
    expect(eventsOf(keyFeed)).toEqual([secret, both]);
    expect(eventsOf(feeds.agent)).toEqual([both]);
    const resumed = await openFeed(agent, workspaceId, 0);
    await resumed.next((frame) => frame.type === "events" && frame.seq === 2);
    expect(eventsOf(resumed)).toEqual([both]);
  });

  it("closes a socket after 30 minutes, shows it nothing more, and the client resumes", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const feed = await openFeed(owner, workspaceId);
    later(31 * 60_000);
    await publish(workspaceId, updated("late", 1));
    await runDurableObjectAlarm(env.WORKSPACE_HUB.getByName(workspaceId));
    expect(await feed.ended()).toEqual({ code: 4001, reason: "renew" });
    expect(eventsOf(feed)).toEqual([]);
    const renewed = await openFeed(owner, workspaceId, 0);
    await renewed.next((frame) => frame.type === "events" && frame.seq === 1);
  });
});

describe("the ring", () => {
  it("finds its newest write after waking, holds 2048, and knows the newest keys", async () => {
    await runInDurableObject(env.WORKSPACE_HUB.getByName(newUuid()), (_, state) => {
      const { sql } = state.storage;
      const log = new HubLog(sql);
      let n = 0;
      for (const head of [0, 1, 2, 500, RING - 1, RING, RING + 1, 2 * RING - 1, 2 * RING, 2 * RING + 700]) {
        for (; n < head; n++) log.append(`key-${n + 1}`, { type: "events", bookmark: null, events: [] });
        const woken = new HubLog(sql);
        expect(woken.head()).toBe(head);
        const since = Math.max(0, head - MAX_REPLAY);
        expect(woken.after(since)?.map((frame) => frame.seq)).toEqual(
          Array.from({ length: head - since }, (_unused, i) => since + 1 + i),
        );
        if (head > 0) expect(woken.published(`key-${head}`)).toBe(head);
        expect(woken.published("key-never")).toBeNull();
      }
      expect(sql.exec("SELECT count(*) AS n FROM ring").one().n).toBe(RING);
      expect(log.published(`key-${n - 1000}`)).toBe(n - 1000);
    });
  });

  it("costs one row per write, and few rows to wake", async () => {
    await runInDurableObject(env.WORKSPACE_HUB.getByName(newUuid()), (_, { storage: { sql } }) => {
      const cursors: { rowsRead: number; rowsWritten: number }[] = [];
      const exec = (query: string, ...bindings: unknown[]) => {
        const cursor = sql.exec(query, ...bindings);
        cursors.push(cursor);
        return cursor;
      };
      const counting = { exec } as unknown as SqlStorage;
      const log = new HubLog(counting);
      const rounds = RING + 100;
      for (let n = 1; n <= rounds; n++) log.append(`key-${n}`, { type: "events", bookmark: null, events: [] });
      expect(cursors.reduce((sum, cursor) => sum + cursor.rowsWritten, 0)).toBe(rounds);
      cursors.length = 0;
      expect(new HubLog(counting).published("key-1")).toBeNull();
      const read = cursors.reduce((sum, cursor) => sum + cursor.rowsRead, 0);
      expect(read).toBeGreaterThan(0);
      expect(read).toBeLessThan(300);
    });
  });

  it("tells a gap from an end", async () => {
    await runInDurableObject(env.WORKSPACE_HUB.getByName(newUuid()), (_, state) => {
      const log = new HubLog(state.storage.sql);
      const huge = { ...updated("a", 1), at: "x".repeat(1_100_000) };
      log.append("1", { type: "events", bookmark: null, events: [] });
      log.append("2", { type: "events", bookmark: null, events: [huge] });
      log.append("3", { type: "events", bookmark: null, events: [] });
      expect(log.after(3)).toEqual([]);
      expect(log.after(2)?.map((frame) => frame.seq)).toEqual([3]);
      expect(log.after(1)).toBeNull();
      state.storage.sql.exec("DELETE FROM ring WHERE seq = 3");
      expect(log.after(2)).toBeNull();
    });
  });
});

describe("tickets", () => {
  it("opens one socket, once", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const ticket = await makeTicket(owner.call, workspaceId);
    const path = `/api/workspaces/${workspaceId}/live?ticket=${ticket}`;
    const first = await openSocket(path);
    first.close();
    await evictDurableObject(env.WORKSPACE_HUB.getByName(workspaceId));
    const second = await upgrade(path);
    expect(second.status).toBe(403);
    expect(await second.json()).toMatchObject({ code: "forbidden" });
  });

  it("opens a conversation's socket once", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const thread = await newThread(workspaceId);
    const ticket = await makeTicket(owner.call, workspaceId, thread.id);
    const path = `/api/conversations/${thread.id}/live?ticket=${ticket}`;
    (await openSocket(path)).close();
    await evictDurableObject(env.CONVERSATION.getByName(thread.object));
    expect((await upgrade(path)).status).toBe(403);
  });

  it("is good for 30 seconds", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const answer = await owner.call("POST", "/api/realtime/tickets", { workspace_id: workspaceId });
    const { ticket, expires_at } = z
      .object({ ticket: z.string(), expires_at: z.iso.datetime() })
      .parse(await answer.json());
    expect(Date.parse(expires_at) - Date.now()).toBeGreaterThan(25_000);
    expect(Date.parse(expires_at) - Date.now()).toBeLessThanOrEqual(30_000);
    later(30_001);
    expect((await upgrade(`/api/workspaces/${workspaceId}/live?ticket=${ticket}`)).status).toBe(403);
  });

  it("opens nothing but what it was made for", async () => {
    const [mine, other] = await Promise.all([newWorkspace(), newWorkspace()]);
    const [thread, second] = [await newThread(mine.workspaceId), await newThread(mine.workspaceId)];
    const feed = await makeTicket(mine.call, mine.workspaceId);
    const conversation = await makeTicket(mine.call, mine.workspaceId, thread.id);
    const stream = await mine.call("POST", "/api/realtime/stream-tokens", { workspace_id: mine.workspaceId });
    const { stream_token } = z.object({ stream_token: z.string() }).parse(await stream.json());
    for (const path of [
      `/api/workspaces/${other.workspaceId}/live?ticket=${feed}`,
      `/api/conversations/${thread.id}/live?ticket=${feed}`,
      `/api/conversations/${second.id}/live?ticket=${conversation}`,
      `/api/workspaces/${mine.workspaceId}/live?ticket=${conversation}`,
      `/api/workspaces/${mine.workspaceId}/live?ticket=${stream_token}`,
      `/api/workspaces/${mine.workspaceId}/events?stream_token=${feed}`,
    ]) {
      expect((await upgrade(path)).status, path).toBe(403);
    }
    await openSocket(`/api/workspaces/${mine.workspaceId}/live?ticket=${feed}`);
    await openSocket(`/api/conversations/${thread.id}/live?ticket=${conversation}`);
  });

  it("is refused when altered", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const ticket = await makeTicket(owner.call, workspaceId);
    const [payload = "", signature = ""] = ticket.split(".");
    const raised = btoa(atob(payload.replaceAll("-", "+").replaceAll("_", "/")).replace('"OWNER"', '"ADMIN"'));
    for (const forged of [
      `${raised.replaceAll("=", "").replaceAll("+", "-").replaceAll("/", "_")}.${signature}`,
      `${payload}.${signature.slice(0, -4)}AAAA`,
      `${payload}.`,
      payload,
      `${ticket}.${signature}`,
      "",
      "%00",
    ]) {
      const status = (await upgrade(`/api/workspaces/${workspaceId}/live?ticket=${forged}`)).status;
      expect(status, forged).toBe(403);
    }
  });

  it("is made only in one's own workspace, for its own conversations, by whoever has a credential", async () => {
    const [mine, other] = await Promise.all([newWorkspace(), newWorkspace()]);
    const thread = await newThread(other.workspaceId);
    const ask = (body: unknown) => mine.call("POST", "/api/realtime/tickets", body);
    expect((await call("POST", "/api/realtime/tickets", { workspace_id: mine.workspaceId })).status).toBe(401);
    expect((await ask({ workspace_id: other.workspaceId })).status).toBe(404);
    expect((await ask({ workspace_id: mine.workspaceId, conversation_id: thread.id })).status).toBe(404);
    expect((await ask({ workspace_id: "no-uuid" })).status).toBe(422);
  });

  it("is asked for, and the address only answers an upgrade", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const path = `/api/workspaces/${workspaceId}/live`;
    expect((await upgrade(path)).status).toBe(401);
    const ticket = await makeTicket(owner.call, workspaceId);
    expect((await call("GET", `${path}?ticket=${ticket}`)).status).toBe(400);
    expect((await upgrade(`${path}?ticket=${ticket}&since=-1`)).status).toBe(422);
    await openSocket(`${path}?ticket=${ticket}`);
  });

  it("opens sockets for our own pages and those of the deployment's list only", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const path = async () => `/api/workspaces/${workspaceId}/live?ticket=${await makeTicket(owner.call, workspaceId)}`;
    for (const origin of ["https://evil.example", "null", "https://switchboard.test.evil.example"]) {
      expect((await upgrade(await path(), { Origin: origin })).status, origin).toBe(403);
    }
    await openSocket(await path(), { Origin: "http://switchboard.test" });
    await openSocket(await path(), { Origin: "https://inbox.example.com" });
  });
});

describe("the close contract", () => {
  async function closeAfter(send: (feed: Awaited<ReturnType<typeof openFeed>>) => void) {
    const { workspaceId, ...owner } = await newWorkspace();
    const feed = await openFeed(owner, workspaceId);
    send(feed);
    const close = await feed.ended();
    expect(new TextEncoder().encode(close.reason).length).toBeLessThan(123);
    expect(close.reason).not.toBe("");
    return close.code;
  }

  it.each([
    ["oversized", "x".repeat(5000), 1009],
    ["oversized in bytes, not in characters", `"${"ä".repeat(2100)}"`, 1009],
    ["binary", new ArrayBuffer(8), 1003],
    ["no JSON", "{", 1007],
    ["an unknown type", '{"type":"shout"}', 1007],
    ["a frame of the other socket", '{"type":"typing","on":true}', 1007],
    ["no object", "null", 1007],
    ["more than it may hold", '{"type":"ping","x":1}', 1007],
  ])("%s", async (_name, data, code) => {
    expect(await closeAfter((feed) => feed.sendRaw(data))).toBe(code);
  });

  it("too many frames", async () => {
    const code = await closeAfter((feed) => {
      for (let n = 0; n < 45; n++) feed.sendRaw('{ "type": "ping" }');
    });
    expect(code).toBe(1008);
  });

  it("answers a ping however it is spelled and whether or not the object sleeps", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const feed = await openFeed(owner, workspaceId);
    feed.sendRaw('{ "type" : "ping" }');
    await vi.waitUntil(() => feed.frames.filter((frame) => frame.type === "pong").length === 1);
    await evictDurableObject(env.WORKSPACE_HUB.getByName(workspaceId));
    feed.sendRaw('{"type":"ping"}');
    await vi.waitUntil(() => feed.frames.filter((frame) => frame.type === "pong").length === 2);
  });

  it("refuses a member's 51st socket", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    for (let n = 0; n < 50; n++) await openFeed(owner, workspaceId);
    const ticket = await makeTicket(owner.call, workspaceId);
    const refused = await upgrade(`/api/workspaces/${workspaceId}/live?ticket=${ticket}`);
    expect(refused.status).toBe(429);
    await openFeed(await memberWithRole({ workspaceId }, "AGENT"), workspaceId);
  });
});

describe("a conversation's sockets", () => {
  it("get what happens there, once, and only while somebody looks is the object called", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const [thread, other] = [await newThread(workspaceId), await newThread(workspaceId)];
    const called: string[] = [];
    const counting = withConversations((name) => {
      called.push(name);
      return env.CONVERSATION.getByName(name) as unknown as { publish: () => Promise<void> };
    });
    await publishEvents(counting, workspaceId, "1", [message("message.created", thread.id)], null);
    expect(called).toEqual([]);

    const socket = await openConversation(owner, workspaceId, thread.id);
    expect(await socket.next((frame) => frame.type === "hello")).toEqual({ type: "hello", seq: 1 });
    const mine = message("message.created", thread.id);
    const events = [mine, message("message.created", other.id), webhookEvent(), updated(thread.id, 2)];
    await publishEvents(counting, workspaceId, "2", events, "b");
    await publishEvents(counting, workspaceId, "2", events, "b");
    expect(called).toEqual([thread.object, thread.object]);
    await evictDurableObject(env.CONVERSATION.getByName(thread.object));
    await publishEvents(counting, workspaceId, "2", events, "b");
    await publishEvents(counting, workspaceId, "3", [updated(thread.id, 0)], "c");
    await socket.next((frame) => frame.type === "events" && frame.seq === 3);
    expect(socket.frames.filter((frame) => frame.type === "events")).toEqual([
      { type: "events", seq: 2, bookmark: "b", events: [mine, updated(thread.id, 2)] },
      { type: "events", seq: 3, bookmark: "c", events: [updated(thread.id, 0)] },
    ]);

    // Asked at the hub itself: a publish to an empty conversation would have it forgotten too.
    socket.close();
    await vi.waitFor(async () => {
      const write = { key: newUuid(), events: [updated(thread.id, 1)], bookmark: null };
      expect((await env.WORKSPACE_HUB.getByName(workspaceId).publish(write)).viewed).toEqual([]);
    });
  });

  it("get a write whose first publish ended between the hub and them", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const thread = await newThread(workspaceId);
    const feed = await openFeed(owner, workspaceId);
    const socket = await openConversation(owner, workspaceId, thread.id);
    const crash = withConversations(() => ({ publish: () => Promise.reject(new Error("crash")) }));
    const event = message("message.created", thread.id);
    await expect(publishEvents(crash, workspaceId, "k", [event], null)).rejects.toThrow("crash");
    await publishEvents(rt, workspaceId, "k", [event], null);
    await socket.next((frame) => frame.type === "events");
    await publishEvents(rt, workspaceId, "l", [updated(thread.id, 1)], null);
    await feed.next((frame) => frame.type === "events" && frame.seq === 2);
    expect(eventsOf(feed)).toEqual([event, updated(thread.id, 1)]);
    await socket.next((frame) => frame.type === "events" && frame.seq === 2);
    expect(eventsOf(socket)).toEqual([event, updated(thread.id, 1)]);
  });

  it("stop being asked for when their object lost them without a word", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const thread = await newThread(workspaceId);
    await openConversation(owner, workspaceId, thread.id);
    const hub = env.WORKSPACE_HUB.getByName(workspaceId);
    const look = { workspace_id: workspaceId, conversation_id: thread.id };
    const abandoned = conversationObject(workspaceId, newUuid(), "4915100000000");
    const seat = { workspace_id: workspaceId, user_id: owner.userId, role: "OWNER" as const };
    await hub.watch({ ...look, object: abandoned, version: 1, until: Date.now() + 60_000 }, seat, Date.now());
    const viewed = async () => {
      const { viewed: found } = await hub.publish({ key: newUuid(), events: [updated(thread.id, 1)], bookmark: null });
      return found.map(({ object }) => object).sort();
    };
    expect(await viewed()).toEqual([abandoned, thread.object].sort());
    await publish(workspaceId, updated(thread.id, 2));
    expect(await viewed()).toEqual([thread.object]);
  });

  it("of a merged thread show the thread that took it over", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const winner = await newThread(workspaceId);
    const loser = await newThread(workspaceId, winner.id);
    const socket = await openConversation(owner, workspaceId, loser.id);
    await publish(workspaceId, updated(winner.id, 5));
    await socket.next((frame) => frame.type === "events");
    expect(eventsOf(socket)).toEqual([updated(winner.id, 5)]);
  });

  it("show who is there and who types", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const agent = await memberWithRole({ workspaceId }, "AGENT");
    const thread = await newThread(workspaceId);
    const mine = await openConversation(owner, workspaceId, thread.id);
    await openConversation({ call: owner.callWithKey }, workspaceId, thread.id);
    const theirs = await openConversation(agent, workspaceId, thread.id);
    const agents = (typing: boolean) =>
      [
        { user_id: owner.userId, typing: false },
        { user_id: agent.userId, typing },
      ].sort((a, b) => (a.user_id < b.user_id ? -1 : 1));
    const last = () => mine.frames.findLast((frame) => frame.type === "presence")?.agents;
    await vi.waitFor(() => expect(last()).toEqual(agents(false)));
    theirs.send({ type: "typing", on: true });
    await vi.waitFor(() => expect(last()).toEqual(agents(true)));
    await evictDurableObject(env.CONVERSATION.getByName(thread.object));
    theirs.send({ type: "typing", on: false });
    await vi.waitFor(() => expect(last()).toEqual(agents(false)));
    theirs.send({ type: "typing", on: true });
    await vi.waitFor(() => expect(last()).toEqual(agents(true)));
    later(10_001);
    const third = await openConversation(await memberWithRole({ workspaceId }, "MEMBER"), workspaceId, thread.id);
    await vi.waitFor(() => expect(last()).toHaveLength(3));
    expect(last()).toContainEqual({ user_id: agent.userId, typing: false });
    third.close();
    theirs.close();
    await vi.waitFor(() => expect(last()).toEqual([{ user_id: owner.userId, typing: false }]));
  });

  it("close for what is not a frame of theirs", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const thread = await newThread(workspaceId);
    const socket = await openConversation(owner, workspaceId, thread.id);
    socket.send({ type: "typing", on: "yes" });
    expect((await socket.ended()).code).toBe(1007);
  });
});

describe("when access ends", () => {
  it("a removed member's sockets close everywhere, tickets made before open nothing, others stay", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const agent = await memberWithRole({ workspaceId }, "AGENT");
    const [thread, unwatched] = [await newThread(workspaceId), await newThread(workspaceId)];
    const sockets = [await openFeed(agent, workspaceId), await openConversation(agent, workspaceId, thread.id)];
    const mine = await openFeed(owner, workspaceId);
    const early = await makeTicket(agent.call, workspaceId);
    const earlyThread = await makeTicket(agent.call, workspaceId, unwatched.id);
    await closeMemberSockets(rt, workspaceId, agent.userId);
    for (const socket of sockets) expect((await socket.ended()).code).toBe(4003);
    expect((await upgrade(`/api/workspaces/${workspaceId}/live?ticket=${early}`)).status).toBe(403);
    expect((await upgrade(`/api/conversations/${unwatched.id}/live?ticket=${earlyThread}`)).status).toBe(403);
    await publish(workspaceId, updated("a", 1));
    await mine.next((frame) => frame.type === "events");
    expect(mine.closed).toBeNull();
    // Somebody whose role changed comes back with a new ticket.
    later(5);
    await openFeed(agent, workspaceId);
  });

  it("a rotated key closes its own sockets, an ended workspace all", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    const [mine, key] = [await openFeed(owner, workspaceId), await openFeed({ call: owner.callWithKey }, workspaceId)];
    await closeKeySockets(rt, workspaceId);
    expect((await key.ended()).code).toBe(4003);
    expect(mine.closed).toBeNull();
    await closeWorkspaceSockets(rt, workspaceId);
    expect((await mine.ended()).code).toBe(4003);
  });
});

describe("the event stream", () => {
  /** Reads until the text fits; answers all that came. */
  async function readUntil(response: Response, fits: (text: string) => boolean): Promise<string> {
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toMatch(/^text\/event-stream/);
    const reader = response.body?.getReader();
    const decoder = new TextDecoder();
    let text = "";
    while (reader && !fits(text)) {
      const { value, done } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
    await reader?.cancel();
    return text;
  }

  const ids = (text: string) => [...text.matchAll(/^id: (\d+)\nevent: events$/gm)].map((match) => Number(match[1]));

  it("carries the feed, and Last-Event-ID resumes it", async () => {
    const { workspaceId, ...owner } = await newWorkspace();
    await publish(workspaceId, updated("a", 1));
    const path = `/api/workspaces/${workspaceId}/events`;
    const live = await owner.call("GET", path);
    await publish(workspaceId, updated("a", 2));
    const text = await readUntil(live, (seen) => seen.includes("id: 2"));
    expect(text).toMatch(/^retry: \d+\n\n/);
    expect(text).toContain('id: 1\nevent: hello\ndata: {"type":"hello","seq":1}\n\n');
    expect(ids(text)).toEqual([2]);
    await publish(workspaceId, updated("a", 3));
    const resumed = await owner.callWithKey("GET", path, undefined, { "Last-Event-ID": "1" });
    expect(ids(await readUntil(resumed, (seen) => seen.includes("id: 3")))).toEqual([2, 3]);
    const ahead = await owner.call("GET", `${path}?since=77`);
    expect(await readUntil(ahead, (seen) => seen.includes("resync"))).toContain("event: resync");
  });

  it("keeps to the role of the reader and ends with its access", async () => {
    const { workspaceId } = await newWorkspace();
    const agent = await memberWithRole({ workspaceId }, "AGENT");
    const stream = await agent.call("GET", `/api/workspaces/${workspaceId}/events`);
    await publish(workspaceId, webhookEvent());
    await publish(workspaceId, updated("a", 2));
    await closeMemberSockets(rt, workspaceId, agent.userId);
    const text = await readUntil(stream, () => false);
    expect(ids(text)).toEqual([1, 2]);
    expect(text).not.toContain("webhook_event");
  });

  it("takes a stream token as often as it comes, for that one feed, as long as what it stands for", async () => {
    const [mine, other] = await Promise.all([newWorkspace(), newWorkspace()]);
    const token = async (ask: typeof mine.call) => {
      const answer = await ask("POST", "/api/realtime/stream-tokens", { workspace_id: mine.workspaceId });
      expect(answer.status).toBe(201);
      return z.object({ stream_token: z.string(), expires_at: z.iso.datetime() }).parse(await answer.json());
    };
    const { stream_token: user } = await token(mine.call);
    const { stream_token: key } = await token(mine.callWithKey);
    const feed = (of: string, text: string, headers = {}) =>
      call("GET", `/api/workspaces/${of}/events?stream_token=${text}`, undefined, headers);
    for (const text of [user, user, key]) {
      await readUntil(await feed(mine.workspaceId, text), (seen) => seen.includes("hello"));
    }
    expect((await feed(other.workspaceId, user)).status).toBe(403);
    expect((await feed(mine.workspaceId, `${user}x`)).status).toBe(403);
    expect((await feed(mine.workspaceId, user, { Origin: "https://evil.example" })).status).toBe(403);
    expect((await call("GET", `/api/workspaces/${mine.workspaceId}?stream_token=${user}`)).status).not.toBe(200);

    await env.DIRECTORY.prepare("UPDATE sessions SET revoked_at = 1 WHERE id = ?1").bind(mine.sessionId).run();
    expect((await feed(mine.workspaceId, user)).status).toBe(403);
    await env.DIRECTORY.prepare("UPDATE workspaces SET api_key_hash = ?2 WHERE id = ?1")
      .bind(mine.workspaceId, newUuid())
      .run();
    expect((await feed(mine.workspaceId, key)).status).toBe(403);

    const removed = await memberWithRole(mine, "AGENT");
    const { stream_token: gone } = await token(removed.call);
    await env.DIRECTORY.prepare("DELETE FROM members WHERE id = ?1").bind(removed.memberId).run();
    expect((await feed(mine.workspaceId, gone)).status).toBe(403);
    const { stream_token: old } = await token((await memberWithRole(mine, "AGENT")).call);
    later(3_600_001);
    expect((await feed(mine.workspaceId, old)).status).toBe(403);
  });

  it("asks who calls", async () => {
    const [mine, other] = await Promise.all([newWorkspace(), newWorkspace()]);
    expect((await call("GET", `/api/workspaces/${mine.workspaceId}/events`)).status).toBe(401);
    expect((await other.call("GET", `/api/workspaces/${mine.workspaceId}/events`)).status).toBe(404);
  });
});

describe("admission of sends", () => {
  const pair = () => conversationObject(newUuid(), newUuid(), "4915112345678");

  it("hands out growing places, under concurrency and across eviction, and stores nothing", async () => {
    const object = pair();
    const now = Date.now();
    const places = await Promise.all(Array.from({ length: 20 }, () => admitSend(rt, object, now)));
    expect(places.map(({ seq }) => seq)).toEqual(Array.from({ length: 20 }, (_, n) => now + n));
    await runInDurableObject(env.CONVERSATION.getByName(object), async (_, state) => {
      expect(
        state.storage.sql.exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_cf%' ESCAPE '\\'").toArray(),
      ).toEqual([]);
      expect(await state.storage.getAlarm()).toBeNull();
    });
    await evictDurableObject(env.CONVERSATION.getByName(object));
    const next = await admitSend(rt, object, now + 20_000);
    expect(next.seq).toBeGreaterThan(now + 19);
  });

  it("lets a burst of 45 leave at once and then one every 6 seconds", async () => {
    const object = pair();
    const now = Date.now();
    const admit = (at: number) => env.CONVERSATION.getByName(object).admit(at, 6000, 45);
    for (let n = 0; n < 45; n++) expect((await admit(now)).notBefore).toBe(now);
    expect((await admit(now)).notBefore).toBe(now + 6000);
    expect((await admit(now)).notBefore).toBe(now + 12_000);
    expect((await admit(now + 12_000)).notBefore).toBe(now + 18_000);
    expect((await admit(now + 60_000)).notBefore).toBe(now + 60_000);
  });

  it("never refuses a message because the object cannot answer", async () => {
    const broken = {
      ...rt,
      env: {
        ...env,
        CONVERSATION: {
          getByName: () => ({ admit: () => Promise.reject(new Error("overloaded")) }),
        } as unknown as Env["CONVERSATION"],
      },
    };
    expect(await admitSend(broken, pair(), 1234)).toEqual({ seq: 1234, notBefore: 1234 });
  });
});

it("documents its events and frames", () => {
  const { components, paths } = realtimeRoutes.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "Live", version: "1" },
  });
  expect(Object.keys(components?.schemas ?? {})).toEqual(
    expect.arrayContaining(["LiveEvent", "LiveEvents", "LiveHubFrame", "LiveConversationFrame", "LiveTyping"]),
  );
  expect(JSON.stringify(components?.schemas?.LiveEvent)).toContain("message.created");
  expect(Object.keys(paths ?? {})).toEqual(expect.arrayContaining(["/api/workspaces/{id}/live"]));
});
