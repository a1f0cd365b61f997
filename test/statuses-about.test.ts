import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { memberWithRole, newWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { deliver, eventually, fireCron } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { World } from "./support/world";

vi.setConfig({ testTimeout: 30_000 });

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

interface Status {
  id: string;
  phone_number_id: string;
  text: string;
  status: string;
  scheduled_at: string | null;
  applied_at: string | null;
  error: { code: number | string; message: string } | null;
}

let world: World;

beforeEach(async () => {
  await sandbox.reset();
  world = await World.create();
});

afterEach(async () => {
  await env.SHARD_0.prepare(
    "UPDATE about_statuses SET status = 'cancelled', look_at = NULL WHERE look_at IS NOT NULL",
  ).run();
});

async function body<T = Record<string, unknown>>(response: Response, status: number): Promise<T> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text) as T;
}

/** A whole second, `ms` from now: documented times have no finer ones. */
const inTime = (ms: number) => Math.ceil((world.now + ms) / 1000) * 1000;

async function post(given: Record<string, unknown>, headers: Record<string, string> = {}): Promise<Response> {
  return world.call("POST", "/api/statuses", { workspace_id: world.workspace.workspaceId, ...given }, headers);
}

/** A status for `at` (ms), or for now: the API has the real clock, which the world's then follows. */
async function plan(text: string, at?: number): Promise<Status> {
  const when = at === undefined ? {} : { scheduled_at: new Date(at).toISOString() };
  const status = await body<Status>(await post({ text, ...when }), 201);
  world.now = Math.max(world.now, Date.now());
  return status;
}

async function get(id: string): Promise<Status> {
  return body<Status>(await world.call("GET", `/api/statuses/${id}`), 200);
}

const cancel = async (id: string) => (await world.call("DELETE", `/api/statuses/${id}`)).status;

/** The line as the provider shows it. */
async function about(number = world.number): Promise<string | null> {
  const response = await fetch(
    `https://graph.facebook.com/v25.0/${number.providerNumberId}/whatsapp_business_profile?fields=about`,
    { headers: { Authorization: "Bearer sandbox-token" } },
  );
  const { data } = await response.json<{ data: { about?: string }[] }>();
  return data[0]?.about ?? null;
}

describe("a status", () => {
  it("without a time is set at once, and says when", async () => {
    const status = await plan("Open until eight");
    expect(status).toMatchObject({ status: "scheduled", phone_number_id: world.number.id, scheduled_at: null });
    await world.deliver(world.take());
    expect(await about()).toBe("Open until eight");
    const applied = await get(status.id);
    expect(applied).toMatchObject({ status: "applied", error: null });
    expect(Date.parse(applied.applied_at ?? "")).toBe(Math.floor(world.now / 1000) * 1000);
  });

  it("is set by the queue itself, within two seconds of its time", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const at = Math.ceil((Date.now() + 1500) / 1000) * 1000;
    const given = { workspace_id: workspace.workspaceId, text: "Real time", scheduled_at: new Date(at).toISOString() };
    const { id } = await body<Status>(await workspace.call("POST", "/api/statuses", given), 201);
    await eventually(async () => expect(await about(number)).toBe("Real time"));
    await eventually(async () => {
      const row = await env.SHARD_0.prepare("SELECT applied_at FROM about_statuses WHERE id = ?1")
        .bind(id)
        .first<{ applied_at: number | null }>();
      expect(row?.applied_at).toBeGreaterThanOrEqual(at);
      // Two seconds are promised; a busy machine gets some more.
      expect(row?.applied_at).toBeLessThan(at + 6000);
    });
  });

  it("with a time is not set before it, and then at once", async () => {
    const at = inTime(HOUR);
    const status = await plan("Good morning!", at);
    expect(status).toMatchObject({ status: "scheduled", scheduled_at: new Date(at).toISOString().replace(".000", "") });
    const [job] = world.waiting;
    expect(job?.dueAt).toBeGreaterThanOrEqual(at - 10_000);
    expect(job?.dueAt).toBeLessThanOrEqual(at + 1000);
    // A job that comes too early, twice, does nothing.
    await deliver("outbound", [job?.body, job?.body], { env: world.env, overrides: world.overrides });
    expect(await about()).toBeNull();
    world.now = at + 1;
    await deliver("outbound", [job?.body, job?.body], { env: world.env, overrides: world.overrides });
    expect(await about()).toBe("Good morning!");
    expect(world.calls).toHaveLength(1);
    expect(await get(status.id)).toMatchObject({ status: "applied" });
  });

  it("due beyond the queue's reach is taken up by the cron two minutes ahead, with the exact delay", async () => {
    const at = inTime(30 * HOUR);
    await plan("In thirty hours", at);
    expect(world.waiting).toEqual([]);
    world.now = at - 3 * MINUTE;
    await world.sweep();
    expect(world.waiting).toEqual([]);
    world.now = at - 90_000;
    await world.sweep();
    expect(world.waiting).toMatchObject([{ queue: "outbound", dueAt: at }]);
    world.now = at;
    await world.deliver(world.take());
    expect(await about()).toBe("In thirty hours");
  });

  it("can be cancelled until it is set", async () => {
    const at = inTime(HOUR);
    const status = await plan("Never", at);
    expect(await cancel(status.id)).toBe(204);
    expect(await cancel(status.id)).toBe(204);
    world.now = at + 1;
    await world.deliver(world.take());
    expect(await about()).toBeNull();
    expect(await get(status.id)).toMatchObject({ status: "cancelled", applied_at: null });
    const now = await plan("Now");
    await world.deliver(world.take());
    expect(await cancel(now.id)).toBe(409);
  });

  it("whose job was lost is set late rather than never", async () => {
    const status = await plan("Late", inTime(HOUR));
    world.waiting = [];
    world.now += 20 * HOUR;
    await world.sweep();
    await world.deliver(world.take());
    expect(await get(status.id)).toMatchObject({ status: "applied" });
    expect(await about()).toBe("Late");
  });

  it("of a process that ended in the middle is set by another", async () => {
    const status = await plan("Again");
    const [job] = world.take();
    world.onCall = () => Promise.reject(new Error("Gone"));
    const crash = {
      ...world.env,
      SHARD_0: new Proxy(world.env.SHARD_0, {
        get(target, name) {
          // The database is gone after the claim: neither outcome nor release is stored.
          if (name === "withSession" && world.calls.length > 0) return () => Promise.reject(new Error("Gone"));
          const member = Reflect.get(target, name, target);
          return typeof member === "function" ? member.bind(target) : member;
        },
      }),
    };
    await deliver("outbound", [job?.body], { env: crash, overrides: world.overrides });
    await env.SHARD_0.prepare(
      "UPDATE about_statuses SET status = 'applying', lease_until = ?2, look_at = ?2, lease = 'lost' WHERE id = ?1",
    )
      .bind(status.id, world.now + 90_000)
      .run();
    world.onCall = (go) => go();
    await deliver("outbound", [job?.body], { env: world.env, overrides: world.overrides });
    expect(await about()).toBeNull();
    world.now += 2 * MINUTE;
    await world.sweep();
    await world.deliver(world.take());
    expect(await get(status.id)).toMatchObject({ status: "applied" });
  });

  it("outlives an outage of the provider, and says meanwhile why it waits", async () => {
    const status = await plan("After the storm", inTime(MINUTE));
    world.onCall = () => Promise.reject(new Error("Network connection lost."));
    await world.pass(30);
    const waiting = await get(status.id);
    expect(waiting.status).toBe("scheduled");
    expect(waiting.error).toMatchObject({ code: "provider_unavailable" });
    const tried = world.calls.length;
    // Not hot: at most a few calls in half an hour.
    expect(tried).toBeGreaterThan(3);
    expect(tried).toBeLessThan(15);
    world.onCall = (go) => go();
    await world.pass(20);
    expect(await get(status.id)).toMatchObject({ status: "applied", error: null });
    expect(await about()).toBe("After the storm");
  });

  it("that an outage held back never replaces a newer one", async () => {
    const older = await plan("Older", inTime(MINUTE));
    const newer = await plan("Newer", inTime(2 * MINUTE));
    world.onCall = (go, text) => {
      expect(text).toBe("");
      return world.calls.length === 1 ? Promise.reject(new Error("Network connection lost.")) : go();
    };
    await world.pass(1);
    world.now = Date.parse(older.scheduled_at ?? "") + 1;
    await world.deliver(world.take());
    expect(await get(older.id)).toMatchObject({ status: "scheduled" });
    // Its next try comes after the newer one.
    await env.SHARD_0.prepare("UPDATE about_statuses SET not_before = ?2 WHERE id = ?1")
      .bind(older.id, world.now + 10 * MINUTE)
      .run();
    await world.pass(15);
    expect(await about()).toBe("Newer");
    expect(await get(newer.id)).toMatchObject({ status: "applied" });
    expect(await get(older.id)).toMatchObject({ status: "failed", error: { code: "superseded" } });
  });

  it("several that are due are set in the order of their times", async () => {
    const at = inTime(HOUR);
    await plan("Second", at + 2000);
    await plan("First", at);
    await plan("Third", at + 4000);
    world.waiting = [];
    world.now = at + 5 * MINUTE;
    await world.sweep();
    await world.deliver(world.take());
    expect(await about()).toBe("Third");
    const { results } = await env.SHARD_0.prepare(
      "SELECT text FROM about_statuses WHERE workspace_id = ?1 AND status = 'applied' ORDER BY at",
    )
      .bind(world.workspace.workspaceId)
      .all<{ text: string }>();
    expect(results.map(({ text }) => text)).toEqual(["First", "Second", "Third"]);
  });

  it("waits while another of the number is being set, however many jobs come", async () => {
    const at = inTime(MINUTE);
    await plan("Slow", at);
    await plan("Next", at + 1000);
    const { workspaceId } = world.workspace;
    const job = { v: 1, kind: "status.apply", workspaceId, shard: 0, phoneNumberId: world.number.id };
    world.now = at + 2000;
    const order: string[] = [];
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    world.onCall = async (go) => {
      order.push(`begin ${order.length}`);
      if (order.length === 1) await held;
      const response = await go();
      order.push(`end ${order.length}`);
      return response;
    };
    const first = deliver("outbound", [job], { env: world.env, overrides: world.overrides });
    await eventually(() => expect(order).toHaveLength(1));
    await deliver("outbound", [job], { env: world.env, overrides: world.overrides });
    expect(order).toEqual(["begin 0"]);
    release();
    await first;
    expect(order).toEqual(["begin 0", "end 1", "begin 2", "end 3"]);
    expect(await about()).toBe("Next");
  });

  it("that the provider refuses says so, in its words", async () => {
    await sandbox.faults({ kind: "error", code: 100, on: "other" });
    const status = await plan("Refused");
    await world.deliver(world.take());
    const refused = await get(status.id);
    expect(refused).toMatchObject({ status: "failed", applied_at: null });
    expect(refused.error?.code).toBe(100);
    expect(refused.error?.message).not.toBe("");
    await sandbox.clearFaults();
    expect(await about()).toBeNull();
  });

  it("of a number that is gone fails", async () => {
    const status = await plan("Orphan", inTime(HOUR));
    expect((await world.call("DELETE", `/api/phone-numbers/${world.number.id}`)).status).toBe(204);
    await world.pass(61);
    expect(await get(status.id)).toMatchObject({ status: "failed", error: { code: "number_gone" } });
  });
});

describe("POST /api/statuses", () => {
  it("takes 1 to 139 characters, a time to come, and a number of the workspace", async () => {
    const smiles = "🙂".repeat(139);
    expect(await plan(smiles)).toMatchObject({ text: smiles });
    const foreign = await registerNumber(await newWorkspace());
    for (const given of [
      { text: "" },
      { text: "   " },
      { text: "x".repeat(140) },
      { text: "x", scheduled_at: new Date(Date.now() - 1000).toISOString() },
      { text: "x", scheduled_at: "tomorrow" },
      { text: "x", scheduled_at: new Date(Date.now() + 400 * 24 * HOUR).toISOString() },
      { text: "x", phone_number_id: foreign.id },
    ]) {
      const response = await post(given);
      expect(response.status, JSON.stringify(given)).toBe(422);
    }
  });

  it("answers a repeated call with the first answer, and sets nothing twice", async () => {
    const key = { "Idempotency-Key": crypto.randomUUID() };
    const first = await body<Status>(await post({ text: "Once" }, key), 201);
    const second = await body<Status>(await post({ text: "Once" }, key), 201);
    expect(second.id).toBe(first.id);
    expect((await post({ text: "Twice" }, key)).status).toBe(409);
    const raced = { "Idempotency-Key": crypto.randomUUID() };
    const ids = await Promise.all(
      [1, 2, 3, 4].map(() => post({ text: "Race" }, raced).then((r) => body<Status>(r, 201))),
    );
    expect(new Set(ids.map(({ id }) => id)).size).toBe(1);
    const page = await body<{ total: number; data: Status[] }>(await world.call("GET", "/api/statuses"), 200);
    expect(page.total).toBe(2);
    expect(page.data.map(({ text }) => text)).toEqual(["Race", "Once"]);
  });

  it("is nobody's outside the workspace, and not for agents", async () => {
    const status = await plan("Ours", inTime(HOUR));
    const stranger = await newWorkspace();
    expect((await stranger.call("GET", `/api/statuses/${status.id}`)).status).toBe(404);
    expect((await stranger.call("DELETE", `/api/statuses/${status.id}`)).status).toBe(404);
    const agent = await memberWithRole(world.workspace, "AGENT");
    expect((await agent.call("GET", `/api/statuses/${status.id}`)).status).toBe(200);
    expect((await agent.call("DELETE", `/api/statuses/${status.id}`)).status).toBe(403);
    await fireCron("* * * * *", world.now, { env: world.env });
    expect(await get(status.id)).toMatchObject({ status: "scheduled" });
  });
});
