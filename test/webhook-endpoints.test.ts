import { env } from "cloudflare:workers";
import { Webhook } from "standardwebhooks";
import { describe, expect, it, vi } from "vitest";
import { Meter, meteredEnv } from "../bench/meter";
import { createRuntime, shard } from "../src/platform/runtime";
import { purgeEndpoints } from "../src/webhook-endpoints/jobs";
import { eraseLogged } from "../src/webhook-endpoints/service-erase";
import { DeliveryWorld, type Endpoint, textsAt } from "./support/endpoints";
import { memberWithRole, newWorkspace } from "./support/identity";
import { digits, receive, says } from "./support/inbox";
import { deliver, eventually, fireCron, untilStatus } from "./support/pipeline";
import { hooks } from "./support/receiver";
import { webhookJob } from "./support/webhooks";

vi.setConfig({ testTimeout: 60_000 });

const HOUR = 3_600_000;

describe("an event", () => {
  it("is posted with a signature that standardwebhooks verifies, and nobody else's secret does", async () => {
    const world = await DeliveryWorld.create();
    const { hook } = await world.listen();
    const person = world.person();
    world.now = Date.now();
    await world.write(person, "Hello");
    await world.run();
    const [call] = await hook.received();
    if (!call) throw new Error("Nothing came");
    const told = new Webhook(world.workspace.webhookSecret).verify(call.body, call.headers);
    expect(told).toMatchObject({
      type: "message.received",
      workspace_id: world.workspace.workspaceId,
      data: {
        direction: "inbound",
        from_number: `+${person}`,
        type: "text",
        status: "delivered",
        content: { body: "Hello" },
      },
    });
    expect(call.headers["content-type"]).toBe("application/json");
    const other = await newWorkspace();
    expect(() => new Webhook(other.webhookSecret).verify(call.body, call.headers)).toThrow();
    expect(() => new Webhook(world.workspace.webhookSecret).verify(`${call.body} `, call.headers)).toThrow();

    await world.call("POST", `/api/workspaces/${world.workspace.workspaceId}/rotate-webhook-secret`);
    await world.write(person, "Again");
    await world.run();
    const [, second] = await hook.received();
    expect(() =>
      new Webhook(world.workspace.webhookSecret).verify(second?.body ?? "", second?.headers ?? {}),
    ).toThrow();
  });

  it("comes once to each endpoint that asks for it, and only to those", async () => {
    const world = await DeliveryWorld.create();
    const received = await world.listen();
    const everything = await world.listen({ events: ["*"] });
    const failures = await world.listen({ events: ["message.failed", "message.failed"] });
    const stranger = await DeliveryWorld.create();
    const strange = await stranger.listen({ events: ["*"] });
    await world.write(world.person(), "One", "Two");
    await world.run();
    await world.minute();
    expect(await textsAt(received.hook)).toEqual(["One", "Two"]);
    expect(await textsAt(everything.hook)).toEqual(["One", "Two"]);
    expect(await failures.hook.received()).toEqual([]);
    expect(await strange.hook.received()).toEqual([]);
    const ids = (await everything.hook.received()).map((call) => call.headers["webhook-id"]);
    expect(new Set(ids).size).toBe(2);
    expect((await received.hook.received()).map((call) => call.headers["webhook-id"])).toEqual(ids);
  });

  it("tells of a message on its way as it was each time, in order", async () => {
    const world = await DeliveryWorld.create();
    const { hook, id } = await world.listen({
      events: ["message.sent", "message.delivered", "message.read", "message.failed"],
    });
    const response = await world.workspace.call("POST", "/api/messages/send/text", {
      workspace_id: world.workspace.workspaceId,
      phone_number_id: world.number.id,
      to: `+${digits()}`,
      text: "On its way",
    });
    const message = await response.json<{ id: string }>();
    await untilStatus(message.id, world.workspace.workspaceId, "sent");
    for (const status of ["delivered", "read"]) {
      await env.SHARD_0.prepare(`UPDATE messages SET status = ?2, ${status}_at = ?3 WHERE id = ?1`)
        .bind(message.id, status, Date.now())
        .run();
    }
    await world.minute();
    await vi.waitFor(async () => expect(await hook.received()).toHaveLength(3));
    const told = (await hook.received()).map((call) => JSON.parse(call.body));
    expect(
      told.map(({ type, data }) => [type, data.id, data.status, data.delivered_at === null, data.read_at === null]),
    ).toEqual([
      ["message.sent", message.id, "sent", true, true],
      ["message.delivered", message.id, "delivered", false, true],
      ["message.read", message.id, "read", false, false],
    ]);
    expect((await world.endpoint(id)).last_error).toBeNull();
  });

  it("of another kind is told as it stands in the list", async () => {
    const world = await DeliveryWorld.create();
    const { hook } = await world.listen({ events: ["webhook_event.created"] });
    const body = {
      object: "whatsapp_business_account",
      entry: [{ id: world.number.businessId, changes: [{ field: "flows", value: { a: 1 } }] }],
    };
    await deliver("inbound", [webhookJob(body)], { env: world.env, overrides: world.overrides });
    await world.run();
    const [call] = await hook.received();
    expect(JSON.parse(call?.body ?? "{}")).toMatchObject({ type: "webhook_event.created", data: { provider: "meta" } });
  });
});

describe("order and loss", () => {
  it("an event that is refused holds back its conversation and nobody else, and nothing overtakes", async () => {
    const world = await DeliveryWorld.create();
    const { hook } = await world.listen();
    const [ann, bob] = [world.person(), world.person()];
    await hook.answers({ status: 500, holding: "A2", count: 2 });
    await world.writeAll([
      [ann, "A1"],
      [bob, "B1"],
      [ann, "A2"],
      [ann, "A3"],
      [bob, "B2"],
    ]);
    await world.run();
    await world.writeAll([
      [ann, "A4"],
      [bob, "B3"],
    ]);
    await world.run(2 * 60_000);
    const texts = await textsAt(hook);
    expect(texts.filter((text) => text.startsWith("B"))).toEqual(["B1", "B2", "B3"]);
    expect(texts.filter((text) => text.startsWith("A"))).toEqual(["A1", "A2", "A2", "A2", "A3", "A4"]);
    expect(texts.indexOf("B3")).toBeLessThan(texts.indexOf("A3"));
    const tries = (await hook.received()).filter((call) => call.body.includes("A2"));
    expect(new Set(tries.map((call) => call.headers["webhook-id"])).size).toBe(1);
    expect(await world.rows("SELECT * FROM webhook_lags WHERE workspace_id = ?1")).toEqual([]);
  });

  it("an endpoint that is down holds only itself back, is not hammered, and gets everything in order when it is back", async () => {
    const world = await DeliveryWorld.create();
    const down = await world.listen();
    const up = await world.listen();
    await down.hook.answers({ status: 503 });
    const people = Array.from({ length: 30 }, () => world.person());
    for (const n of [1, 2, 3]) await world.writeAll(people.map((person, at) => [person, `${at}-${n}`]));
    await world.run(60_000);
    expect(await up.hook.received()).toHaveLength(90);
    // Three to learn that it is down, then one at a time.
    expect((await down.hook.received()).length).toBeLessThanOrEqual(8);
    expect((await world.endpoint(down.id)).failing_since).not.toBeNull();
    // What was not even tried waits behind the cursor, at no cost.
    expect((await world.rows("SELECT * FROM webhook_lags WHERE workspace_id = ?1")).length).toBeLessThanOrEqual(8);
    await world.hours(5);
    const before = (await down.hook.received()).length;
    expect(before).toBeLessThanOrEqual(16);
    await down.hook.answers();
    await world.hours(4.5);
    const got = (await textsAt(down.hook)).slice(before);
    for (const [at] of people.entries()) {
      expect(got.filter((text) => text.startsWith(`${at}-`))).toEqual([`${at}-1`, `${at}-2`, `${at}-3`]);
    }
    expect(await world.endpoint(down.id)).toMatchObject({ enabled: true, failing_since: null, last_error: null });
  });

  it("a crash between the commit and the wake loses nothing: the minute's cron finds it", async () => {
    const world = await DeliveryWorld.create();
    const { hook } = await world.listen();
    const refuses = async () => {
      throw new Error("The queue is down");
    };
    const broken = { ...world.env, DELIVERIES: { send: refuses, sendBatch: refuses } } as unknown as Env;
    await world.writeAll([[world.person(), "Kept"]], { env: broken, overrides: world.overrides });
    expect(world.held).toEqual([]);
    await fireCron("* * * * *", world.now, { env: world.env });
    await world.run();
    expect(await textsAt(hook)).toEqual(["Kept"]);
    await world.minute();
    expect(await textsAt(hook)).toEqual(["Kept"]);
  });

  it("a crash between the call and the note of it repeats the event under the same id", async () => {
    const world = await DeliveryWorld.create();
    const { hook } = await world.listen();
    await world.write(world.person(), "Twice");
    const [wake] = world.held.splice(0);
    // The database answers the claim, and nothing after the call.
    let calls = 0;
    const overrides = {
      ...world.overrides,
      fetch: (async (input: string, init: RequestInit) => {
        calls += 1;
        await fetch(input, init).then((response) => response.text());
        await env.SHARD_0.prepare("UPDATE webhook_endpoints SET lease = 'lost' WHERE workspace_id = ?1")
          .bind(world.workspace.workspaceId)
          .run();
        return new Response("ok");
      }) as typeof fetch,
    };
    await deliver("deliveries", [wake?.body], { env: world.env, overrides });
    expect(calls).toBe(1);
    world.now += 10_000;
    await world.minute();
    const ids = (await hook.received()).map((call) => call.headers["webhook-id"]);
    expect(ids).toHaveLength(2);
    expect(new Set(ids).size).toBe(1);
  });

  it("eight wakes at once deliver each event once", async () => {
    const world = await DeliveryWorld.create();
    const { hook } = await world.listen();
    await world.writeAll(Array.from({ length: 20 }, (_, n) => [world.person(), `M${n}`]));
    const [wake] = world.held.splice(0);
    const twice = { env: world.env, overrides: world.overrides, attempts: 2 };
    await Promise.all(Array.from({ length: 8 }, () => deliver("deliveries", [wake?.body, wake?.body], twice)));
    await world.run();
    expect((await textsAt(hook)).sort()).toEqual(Array.from({ length: 20 }, (_, n) => `M${n}`).sort());
  });

  it("what is written while a run is under way comes without another wake", async () => {
    const world = await DeliveryWorld.create();
    const { hook } = await world.listen();
    const person = world.person();
    await world.write(person, "First");
    const [wake] = world.held.splice(0);
    const overrides = {
      ...world.overrides,
      fetch: (async (input: string, init: RequestInit) => {
        if (String(init.body).includes("First")) {
          await world.write(person, "Second");
          // Its wake meets the run's lease and does nothing.
          const late = world.held.splice(0).map(({ body }) => body);
          await deliver("deliveries", late, { env: world.env, overrides: world.overrides });
          expect(await hook.received()).toEqual([]);
        }
        return fetch(input, init);
      }) as typeof fetch,
    };
    await deliver("deliveries", [wake?.body], { env: world.env, overrides });
    await world.run();
    expect(await textsAt(hook)).toEqual(["First", "Second"]);
  });

  it("a workspace that is suspended is told nothing, and everything when it is active again", async () => {
    const world = await DeliveryWorld.create();
    const { hook } = await world.listen();
    await world.write(world.person(), "Held");
    const set = (status: string) =>
      env.SHARD_0.prepare("UPDATE workspace_states SET status = ?2 WHERE workspace_id = ?1")
        .bind(world.workspace.workspaceId, status)
        .run();
    await set("suspended");
    await world.run();
    expect(await hook.received()).toEqual([]);
    await set("active");
    await world.minute();
    expect(await textsAt(hook)).toEqual(["Held"]);
  });
});

describe("failure", () => {
  it("is retried for three days, then the endpoint is disabled and the workspace told", async () => {
    const world = await DeliveryWorld.create();
    const { hook, id } = await world.listen();
    await hook.answers({ status: 500, body: "still broken" });
    await world.write(world.person(), "Lost");
    await world.hours(30);
    expect(await world.endpoint(id)).toMatchObject({ enabled: true, last_error: "Answered 500" });
    const tries = (await hook.received()).length;
    expect(tries).toBeGreaterThanOrEqual(10);
    expect(tries).toBeLessThanOrEqual(20);
    await world.hours(50);
    const endpoint = await world.endpoint(id);
    expect(endpoint).toMatchObject({ enabled: false, disabled_reason: expect.stringContaining("Answered 500") });
    const list = await world.call("GET", `/api/webhook-events?workspace_id=${world.workspace.workspaceId}`);
    const { data, total } = await list.json<{ data: { kind: string; payload: unknown }[]; total: number }>();
    expect(total).toBe(1);
    expect(data).toMatchObject([{ kind: "webhook_endpoint.disabled", payload: { webhook_endpoint_id: id } }]);
    const after = (await hook.received()).length;
    await world.hours(10);
    expect(await hook.received()).toHaveLength(after);
    // Nothing more is kept for it either.
    await world.write(world.person(), "Not told");
    expect(await world.rows("SELECT seq FROM webhook_outbox WHERE workspace_id = ?1")).toHaveLength(1);
  });

  it("of one event alone holds nobody else back, and is given up after three days: the next of its conversation follows", async () => {
    const world = await DeliveryWorld.create();
    const { hook, id } = await world.listen();
    await hook.answers({ status: 422, holding: "poison" });
    const [ann, bob] = [world.person(), world.person()];
    await world.write(ann, "poison", "after");
    for (let day = 0; day < 4; day += 1) {
      await world.write(bob, `day ${day}`);
      await world.run();
      expect(await textsAt(hook)).toContain(`day ${day}`);
      await world.hours(23);
    }
    expect(await textsAt(hook)).toContain("after");
    expect(await world.endpoint(id)).toMatchObject({ enabled: true });
    const { data } = await world.log(id);
    expect(data.filter(({ outcome }) => outcome === "given_up")).toHaveLength(1);
  });

  it("410 disables at once; Retry-After is kept to", async () => {
    const world = await DeliveryWorld.create();
    const gone = await world.listen();
    await gone.hook.answers({ status: 410 });
    const busy = await world.listen();
    await busy.hook.answers({ status: 429, headers: { "Retry-After": "1800" }, count: 1 });
    await world.write(world.person(), "Hello");
    await world.run(60_000);
    await world.minute();
    expect(await world.endpoint(gone.id)).toMatchObject({
      enabled: false,
      disabled_reason: "The endpoint answered 410 Gone",
    });
    expect(await gone.hook.received()).toHaveLength(1);
    expect(await busy.hook.received()).toHaveLength(1);
    await world.hours(0.75);
    expect(await busy.hook.received()).toHaveLength(2);
  });

  it("is a redirect, an answer that comes too late, a broken connection, and an address that is not called", async () => {
    const world = await DeliveryWorld.create();
    const cases = [
      {
        reply: { status: 307, headers: { Location: "https://hooks.example.com/elsewhere" } },
        error: "redirects are not followed",
      },
      { reply: { delay: 2000 }, error: "No answer within 0.3 seconds" },
      { reply: { broken: true }, error: "connection" },
    ];
    const made = [];
    for (const { reply, error } of cases) {
      const { hook, id } = await world.listen();
      await hook.answers(reply);
      made.push({ id, error });
    }
    // An address may have been stored when it was allowed.
    const private_ = await world.listen();
    await env.SHARD_0.prepare("UPDATE webhook_endpoints SET url = 'https://127.0.0.1/' WHERE id = ?1")
      .bind(private_.id)
      .run();
    made.push({ id: private_.id, error: "Not called: Must name a host" });
    await world.write(world.person(), "Hello");
    await world.run();
    for (const { id, error } of made) {
      const { data } = await world.log(id);
      expect(data, error).toMatchObject([{ outcome: "failed", error: expect.stringContaining(error), attempt: 1 }]);
    }
  });
});

describe("the delivery log", () => {
  it("shows what was sent and answered, newest first, page by page, and by outcome", async () => {
    const world = await DeliveryWorld.create();
    const { hook, id } = await world.listen();
    await hook.answers({ body: "thanks" });
    // Several runs, more than a chunk.
    for (let run = 0; run < 8; run += 1) {
      await world.writeAll(Array.from({ length: 15 }, (_, n) => [world.person(), `${run}-${n}`]));
      await world.run();
    }
    await hook.answers({ status: 500, body: "oh no", count: 1 });
    await world.write(world.person(), "Last");
    await world.run();
    const first = await world.log(id, "limit=50");
    expect([first.total, first.data.length]).toEqual([121, 50]);
    expect(first.data[0]).toMatchObject({ outcome: "failed", response_status: 500, response_body: "oh no" });
    expect(JSON.parse(first.data[1]?.request_body ?? "{}")).toMatchObject({ type: "message.received" });
    expect(first.data[1]).toMatchObject({ response_body: "thanks", response_status: 200, cause: "event" });
    const second = await world.log(id, `limit=50&cursor=${first.next_cursor}`);
    const third = await world.log(id, `limit=50&cursor=${second.next_cursor}`);
    expect(third.next_cursor).toBeNull();
    const all = [...first.data, ...second.data, ...third.data].map((delivery) => delivery.id);
    expect(new Set(all).size).toBe(121);
    expect((await world.log(id, "limit=50&offset=100")).data.map((d) => d.id)).toEqual(all.slice(100));
    const failed = await world.log(id, "outcome=failed");
    expect([failed.total, failed.data.length, failed.next_cursor]).toEqual([1, 1, null]);
  });

  it("stays within its ring, whatever comes", async () => {
    const world = await DeliveryWorld.create();
    const { id } = await world.listen();
    await env.SHARD_0.prepare("UPDATE webhook_endpoints SET log_chunk = 39 WHERE id = ?1").bind(id).run();
    for (let run = 0; run < 3; run += 1) {
      await world.writeAll(Array.from({ length: 40 }, (_, n) => [world.person(), `${run}-${n}`]));
      await world.run();
    }
    const slots = await world.rows<{ slot: number; chunk: number }>(
      "SELECT slot, chunk FROM webhook_deliveries WHERE workspace_id = ?1 ORDER BY chunk",
    );
    expect(slots).toEqual([
      { slot: 39, chunk: 39 },
      { slot: 0, chunk: 40 },
    ]);
    expect((await world.log(id)).total).toBe(120);
  });

  it("replays one event under its id, and a window of them in order", async () => {
    const world = await DeliveryWorld.create();
    const { hook, id } = await world.listen();
    const since = new Date(Date.now() - 60_000).toISOString();
    const person = world.person();
    await world.write(person, "One", "Two", "Three");
    await world.run();
    const { data } = await world.log(id);
    const one = data.at(-1);
    const again = await world.call("POST", `/api/webhook-endpoints/${id}/deliveries/${one?.id}/replay`);
    expect(again.status).toBe(200);
    expect(await again.json()).toMatchObject({ cause: "replay", outcome: "delivered", event_id: one?.event_id });
    expect(await textsAt(hook)).toEqual(["One", "Two", "Three", "One"]);

    const path = `/api/webhook-endpoints/${id}/replay`;
    const none = await world.call("POST", path, { since, until: new Date(Date.now() - 50_000).toISOString() });
    expect([none.status, await none.json()]).toEqual([202, { events: 0 }]);
    const until = new Date(Date.now() + 60_000).toISOString();
    await hook.answers({ status: 500, holding: "Two", count: 1 });
    const window = await world.call("POST", path, { since, until });
    expect([window.status, await window.json()]).toEqual([202, { events: 3 }]);
    expect((await world.call("POST", path, { since, until })).status).toBe(409);
    expect((await world.endpoint(id)).replaying).toBe(true);
    await world.run(60_000);
    expect((await textsAt(hook)).slice(4)).toEqual(["One", "Two", "Two", "Three"]);
    expect((await world.endpoint(id)).replaying).toBe(false);
    const ids = (await hook.received())
      .filter((call) => call.body.includes('"One"'))
      .map((call) => call.headers["webhook-id"]);
    expect(new Set(ids).size).toBe(1);
    expect((await world.call("POST", path, { since: until, until: since })).status).toBe(422);
  });

  it("forgets what was said in a conversation, and nothing else", async () => {
    const world = await DeliveryWorld.create();
    const { id } = await world.listen();
    await world.writeAll([
      [world.person(), "Forget me"],
      [world.person(), "Keep me"],
    ]);
    await world.run();
    const [row] = await world.rows<{ conversation_id: string }>(
      "SELECT conversation_id FROM messages WHERE workspace_id = ?1 AND content LIKE '%Forget me%'",
    );
    await eraseLogged(shard(createRuntime(env), 0), world.workspace.workspaceId, [row?.conversation_id ?? ""]);
    const { data, total } = await world.log(id);
    expect(total).toBe(2);
    expect(JSON.stringify(data)).not.toContain("Forget me");
    expect(data.filter(({ request_body }) => request_body === "")).toMatchObject([
      { outcome: "delivered", response_body: null },
    ]);
    expect(JSON.stringify(data)).toContain("Keep me");
  });

  it("has the tests too", async () => {
    const world = await DeliveryWorld.create();
    const { hook, id } = await world.listen();
    const response = await world.call("POST", `/api/webhook-endpoints/${id}/test`);
    expect(await response.json()).toMatchObject({
      type: "webhook.test",
      outcome: "delivered",
      response_status: 200,
      response_body: "ok",
    });
    const [call] = await hook.received();
    const told = new Webhook(world.workspace.webhookSecret).verify(call?.body ?? "", call?.headers ?? {});
    expect(told).toMatchObject({ type: "webhook.test" });
    expect((await world.log(id)).data).toMatchObject([{ cause: "test" }]);
  });
});

describe("endpoints", () => {
  it("are made, listed, changed and deleted by admins, and are nobody else's", async () => {
    const world = await DeliveryWorld.create();
    const { id, hook } = await world.listen({ events: ["*"] });
    const path = `/api/webhook-endpoints/${id}`;
    const changed = await world.call("PATCH", path, { description: "CRM", events: ["message.read"] });
    expect(await changed.json()).toMatchObject({
      description: "CRM",
      events: ["message.read"],
      url: hook.url,
      enabled: true,
    });
    const list = await world.call("GET", `/api/webhook-endpoints?workspace_id=${world.workspace.workspaceId}`);
    expect(await list.json()).toMatchObject({ total: 1, data: [{ id }], next_cursor: null });
    const member = await memberWithRole(world.workspace, "MEMBER");
    expect((await world.call("GET", path, undefined, member.token)).status).toBe(403);
    expect((await world.call("GET", path, undefined, (await newWorkspace()).token)).status).toBe(404);
    expect((await world.call("GET", path, undefined, world.workspace.apiKey)).status).toBe(200);
    expect((await world.call("DELETE", path)).status).toBe(204);
    expect((await world.call("GET", path)).status).toBe(404);
    await world.write(world.person(), "Nobody listens");
    for (const table of ["webhook_outbox", "webhook_feeds", "webhook_deliveries"]) {
      expect(await world.rows(`SELECT * FROM ${table} WHERE workspace_id = ?1`), table).toEqual([]);
    }
  });

  it.each([
    ["http://hooks.example.com/", "https"],
    ["https://hooks.example.com:8443/", "443"],
    ["https://0x7f.1/", "IP"],
    ["https://localhost/", "public"],
    ["https://switchboard.test/webhook", "public"],
    ["nonsense", "https"],
  ])("at %s are refused", async (url, why) => {
    const world = await DeliveryWorld.create();
    const made = await world.call("POST", "/api/webhook-endpoints", { workspace_id: world.workspace.workspaceId, url });
    expect(made.status).toBe(422);
    expect(await made.json()).toMatchObject({ detail: [{ loc: ["body", "url"], msg: expect.stringContaining(why) }] });
    const { id } = await world.listen();
    expect((await world.call("PATCH", `/api/webhook-endpoints/${id}`, { url })).status).toBe(422);
  });

  it("that are enabled again begin with what happens then", async () => {
    const world = await DeliveryWorld.create();
    const { id, hook } = await world.listen();
    const other = await world.listen();
    const path = `/api/webhook-endpoints/${id}`;
    expect(await (await world.call("PATCH", path, { enabled: false })).json<Endpoint>()).toMatchObject({
      enabled: false,
      disabled_reason: null,
    });
    await world.write(world.person(), "Missed");
    await world.run();
    await world.call("PATCH", path, { enabled: true });
    await world.write(world.person(), "Seen");
    await world.run();
    expect(await textsAt(hook)).toEqual(["Seen"]);
    expect(await textsAt(other.hook)).toEqual(["Missed", "Seen"]);
  });

  it("are at most twenty", async () => {
    const world = await DeliveryWorld.create();
    for (let n = 0; n < 20; n += 1) await world.listen();
    const body = { workspace_id: world.workspace.workspaceId, url: hooks().url };
    expect((await world.call("POST", "/api/webhook-endpoints", body)).status).toBe(409);
  });
});

describe("with the Worker's own queues", () => {
  it("what is received and what becomes of what is sent arrives within seconds, without a cron", async () => {
    const world = await DeliveryWorld.create();
    const hook = hooks();
    const body = {
      workspace_id: world.workspace.workspaceId,
      url: hook.url,
      events: ["message.received", "message.sent"],
    };
    expect((await world.workspace.call("POST", "/api/webhook-endpoints", body)).status).toBe(201);
    const person = world.person();
    const sent = await world.workspace.call("POST", "/api/messages/send/text", {
      workspace_id: world.workspace.workspaceId,
      phone_number_id: world.number.id,
      to: `+${person}`,
      text: "Out",
    });
    expect(sent.status).toBe(201);
    await eventually(async () => expect(await textsAt(hook)).toEqual(["Out"]));
    await receive([says(world.number, { wa: person, name: "Ann" }, "In")]);
    await eventually(async () => expect(await textsAt(hook)).toEqual(["Out", "In"]));
  });
});

describe("what it costs", () => {
  it("nothing in a workspace where nobody listens, one row per event where anybody does, four per run", async () => {
    const world = await DeliveryWorld.create();
    const people = Array.from({ length: 100 }, () => world.person());
    const batch = (n: number): [string, string][] => people.map((person) => [person, `${n}`]);
    await world.writeAll(batch(0));
    const silent = await written(world, () => world.writeAll(batch(1)));
    expect(world.held).toEqual([]);
    const { hook, id } = await world.listen();
    await world.listen();
    const told = await written(world, () => world.writeAll(batch(2)));
    expect(told - silent).toBe(100);
    expect(world.held).toHaveLength(2);
    // For each of two endpoints: claim, two chunks of the log, what came of it.
    const runs = await written(world, () => world.run());
    expect(runs).toBe(8);
    expect(await hook.received()).toHaveLength(100);
    // A wake with nothing to do writes nothing.
    const wake = { v: 1, kind: "webhook.wake", workspaceId: world.workspace.workspaceId, shard: 0, endpointId: id };
    const idle = await written(
      world,
      async () => void (await deliver("deliveries", [wake], { env: world.env, overrides: world.overrides })),
    );
    expect(idle).toBe(0);
  });

  it("what is a week old is forgotten, but for the last", async () => {
    const world = await DeliveryWorld.create();
    const { hook } = await world.listen();
    await world.write(world.person(), "One", "Two", "Three");
    await world.run();
    await purgeEndpoints(createRuntime(env), 0, Date.now() + 8 * 24 * HOUR);
    expect(await world.rows("SELECT seq FROM webhook_outbox WHERE workspace_id = ?1")).toEqual([{ seq: 3 }]);
    await world.write(world.person(), "Four");
    await world.run();
    expect(await textsAt(hook)).toEqual(["One", "Two", "Three", "Four"]);
  });

  it("few rows read, however much has happened and however far an endpoint is behind", async () => {
    const world = await DeliveryWorld.create();
    const { hook, id } = await world.listen();
    const ws = world.workspace.workspaceId;
    // 100,000 events of which it wants none, in conversations of which one is behind from the start.
    await env.SHARD_0.prepare(
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
       INSERT INTO webhook_outbox (workspace_id, seq, conversation_id, type, ref, at) SELECT ?1, i, 'c' || (i % 500), 'message.read', 'm' || i, i FROM n`,
    )
      .bind(ws)
      .run();
    await env.SHARD_0.prepare("UPDATE webhook_endpoints SET cursor = 100000 WHERE id = ?1").bind(id).run();
    await world.write(world.person(), "Hello");
    const meter = new Meter();
    const plain = world.env;
    Object.assign(world, { env: meteredEnv(plain, meter) });
    await world.run();
    Object.assign(world, { env: plain });
    expect(await textsAt(hook)).toEqual(["Hello"]);
    expect(meter.rowsRead("SHARD_0")).toBeLessThan(100);
    // A conversation that is behind by 50,000 events of others is found again, in steps.
    const person = world.person();
    await world.write(person, "Late");
    await world.run();
    const [last] = await world.rows<{ seq: number; conversation_id: string }>(
      "SELECT seq, conversation_id FROM webhook_outbox WHERE workspace_id = ?1 ORDER BY seq DESC LIMIT 1",
    );
    await env.SHARD_0.prepare("INSERT INTO webhook_lags VALUES (?1, ?2, ?3, 50000, 1, 1, 1)")
      .bind(ws, id, last?.conversation_id)
      .run();
    meter.reset();
    Object.assign(world, { env: meteredEnv(plain, meter) });
    const wake = { v: 1, kind: "webhook.wake", workspaceId: ws, shard: 0, endpointId: id };
    await deliver("deliveries", [wake], { env: world.env, overrides: world.overrides });
    Object.assign(world, { env: plain });
    expect(meter.rowsRead("SHARD_0")).toBeLessThan(2_500);
    expect(await textsAt(hook)).toEqual(["Hello", "Late"]);
    await world.run();
    expect(await textsAt(hook)).toEqual(["Hello", "Late", "Late"]);
    expect(await world.rows("SELECT * FROM webhook_lags WHERE workspace_id = ?1")).toEqual([]);
  });
});

/** Rows written on the shard by a step. */
async function written(world: DeliveryWorld, step: () => Promise<void>): Promise<number> {
  const meter = new Meter();
  const plain = world.env;
  Object.assign(world, { env: meteredEnv(plain, meter) });
  await step();
  Object.assign(world, { env: plain });
  return meter.rowsWritten();
}
