import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { cancelMessage } from "../src/messages/service";
import { eventually } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { eventsOf, openFeed } from "./support/sockets";
import { newPerson, World } from "./support/world";

// A second each, alone; several on a machine that runs other tests as well.
vi.setConfig({ testTimeout: 30_000 });

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

let world: World;

beforeEach(async () => {
  await sandbox.reset();
  world = await World.create();
});

afterEach(async () => {
  await world.retire();
});

function plan(to: string, text: string, scheduledAt: string) {
  return world.call("POST", "/api/messages/send/text", {
    workspace_id: world.workspace.workspaceId,
    phone_number_id: world.number.id,
    to,
    text,
    scheduled_at: scheduledAt,
  });
}

function cancel(id: string) {
  return world.call("DELETE", `/api/messages/${id}`);
}

describe("a message with scheduled_at", () => {
  it("answers 201 scheduled, with the time as it was meant, and is not sent before", async () => {
    const to = newPerson();
    const inAnHour = new Date(Math.ceil((Date.now() + HOUR) / 1000) * 1000);
    const response = await plan(to, "later", inAnHour.toISOString().replace(".000", ""));
    expect(response.status).toBe(201);
    const body = (await response.json()) as { id: string };
    expect(body).toMatchObject({ status: "scheduled", scheduled_at: inAnHour.toISOString().replace(".000", "") });
    const [job] = world.waiting;
    // The queue has it with the exact delay (whole seconds, never too early).
    const delay = (job?.dueAt ?? 0) - world.now;
    expect(delay).toBeGreaterThanOrEqual(HOUR - 5000);
    expect(delay).toBeLessThanOrEqual(HOUR + 5000);
    world.now += HOUR - 2 * MINUTE;
    await world.pass(1);
    expect(world.calls).toEqual([]);
    expect(await world.message(body.id)).toMatchObject({ status: "scheduled", open: null });
    await world.pass(3);
    expect(await world.receivedBy(to)).toEqual(["later"]);
    expect(await world.message(body.id)).toMatchObject({ status: "sent", open: null });
  });

  it.each(["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "tomorrow", "2026-01-31", 1798761600])(
    "of %s is a 422 that names it",
    async (value) => {
      const response = await plan(newPerson(), "no", value as string);
      expect(response.status).toBe(422);
      expect(await response.json()).toMatchObject({
        code: "validation",
        detail: [{ loc: ["body", "scheduled_at"], type: "value_error" }],
      });
      expect(await world.messages()).toEqual([]);
    },
  );

  it("reads a time with an offset", async () => {
    const at = new Date(Math.ceil((Date.now() + HOUR) / 1000) * 1000);
    const local = new Date(at.getTime() + 2 * HOUR).toISOString().replace(".000Z", "+02:00");
    const body = (await (await plan(newPerson(), "x", local)).json()) as { id: string };
    expect(await world.message(body.id)).toMatchObject({ scheduled_at: at.getTime() });
  });

  it("due in more than a day is brought by the cron, two minutes ahead, with the exact delay", async () => {
    const to = newPerson();
    const due = world.now + 30 * HOUR + 17_000;
    const { id } = await world.accept(to, "in two days", { scheduledAt: due });
    expect(world.waiting).toEqual([]);
    world.now = due - 150_000;
    await world.sweep();
    expect(world.waiting).toEqual([]);
    world.now = due - 100_000;
    await world.sweep();
    expect(world.waiting.map((message) => message.dueAt)).toEqual([due]);
    world.now = due;
    await world.deliver(world.take());
    expect(await world.receivedBy(to)).toEqual(["in two days"]);
    expect(await world.message(id)).toMatchObject({ status: "sent" });
  });

  it("due within a day is not brought by the cron as well", async () => {
    const due = world.now + HOUR;
    await world.accept(newPerson(), "soon", { scheduledAt: due });
    expect(world.waiting).toHaveLength(1);
    world.now = due - 90_000;
    await world.sweep();
    expect(world.waiting).toHaveLength(1);
  });

  it("runs late rather than never, when its job was lost or no cron ran for hours", async () => {
    const [ana, ben] = [newPerson(), newPerson()];
    await world.accept(ana, "job lost", { scheduledAt: world.now + HOUR });
    await world.accept(ben, "crons away", { scheduledAt: world.now + 30 * HOUR });
    world.waiting = [];
    world.now += 35 * HOUR;
    // Messages wait a day for their number; then they expire.
    await world.pass(2);
    expect(await world.receivedBy(ben)).toEqual(["crons away"]);
    const late = (await world.messages())[0];
    expect(late).toMatchObject({ status: "failed" });
    expect(JSON.parse(String(late?.error))).toMatchObject({ code: "expired" });
    const cleo = newPerson();
    await world.accept(cleo, "three hours late", { scheduledAt: world.now + HOUR });
    world.waiting = [];
    world.now += 4 * HOUR;
    await world.pass(1);
    expect(await world.receivedBy(cleo)).toEqual(["three hours late"]);
  });

  it("whose job comes early goes back until it is due", async () => {
    const to = newPerson();
    const { id } = await world.accept(to, "early", { scheduledAt: world.now + HOUR });
    await world.deliver(world.waiting.splice(0));
    expect(await world.message(id)).toMatchObject({ status: "scheduled" });
    expect(world.waiting.map((message) => message.dueAt)).toEqual([world.now + HOUR]);
    await world.drain(61);
    expect(await world.receivedBy(to)).toEqual(["early"]);
  });

  it("takes its turn where it is due: before what is accepted after that, and it holds up nothing before", async () => {
    const to = newPerson();
    const due = world.now + 10 * MINUTE;
    await world.accept(to, "planned", { scheduledAt: due });
    await world.accept(to, "now");
    await world.deliver(world.take());
    expect(await world.receivedBy(to)).toEqual(["now"]);
    world.now = due + 30_000;
    const jobs = world.take();
    await world.accept(to, "after");
    await world.deliver([...world.take(), ...jobs]);
    await world.drain();
    expect(await world.receivedBy(to)).toEqual(["now", "planned", "after"]);
  });

  it("does not take today's pace of its pair", async () => {
    const to = newPerson();
    for (let n = 0; n < 60; n += 1) await world.accept(to, `later ${n}`, { scheduledAt: world.now + 10 * HOUR });
    const { notBefore } = await world.accept(to, "now");
    expect(notBefore).toBe(world.now);
  });

  it("is the newest of its thread when it leaves, not when it is planned", async () => {
    const to = newPerson();
    const first = await world.accept(to, "first");
    const planned = await world.accept(to, "planned", { scheduledAt: world.now + HOUR });
    await world.deliver(world.take());
    const thread = () =>
      world.database
        .prepare("SELECT * FROM conversations WHERE id = ?1")
        .bind(first.conversationId)
        .first<Record<string, unknown>>();
    expect(await thread()).toMatchObject({
      last_message_id: first.id,
      last_message_preview: "first",
      message_count: 2,
    });
    await world.drain(61);
    expect(await thread()).toMatchObject({
      last_message_id: planned.id,
      last_message_preview: "planned",
      last_message_direction: "outbound",
      message_count: 2,
    });
    expect(Number((await thread())?.last_message_at)).toBeGreaterThanOrEqual(Number(planned.scheduledAt));
  });
});

describe("cancelling", () => {
  it("works until the message is due, and shows everywhere", async () => {
    const feed = await openFeed(world.workspace, world.workspace.workspaceId);
    const to = newPerson();
    const { id } = await world.accept(to, "no", { scheduledAt: world.now + HOUR });
    expect((await cancel(id)).status).toBe(204);
    expect(await (await world.call("GET", `/api/messages/${id}`)).json()).toMatchObject({
      status: "cancelled",
      error: null,
    });
    await eventually(() => {
      const mine = eventsOf(feed).filter((event) => event.type === "message.status");
      expect(mine).toContainEqual(
        expect.objectContaining({ message: expect.objectContaining({ id, status: "cancelled" }) }),
      );
    });
    await world.drain(70);
    world.now += 2 * HOUR;
    await world.sweep();
    await world.deliver(world.take());
    expect(world.calls).toEqual([]);
    feed.close();
  });

  it("works after that too, as long as nobody has claimed the message", async () => {
    const [ana, ben] = [newPerson(), newPerson()];
    const held = await world.accept(ana, "held", { scheduledAt: world.now + MINUTE });
    await world.accept(ana, "behind", { scheduledAt: world.now + MINUTE + 1 });
    await sandbox.faults({ kind: "error", code: 131000, to: ana.slice(1), count: 1 });
    world.now += MINUTE + 1000;
    await world.deliver(world.take());
    expect(await world.message(held.id)).toMatchObject({ status: "queued", failures: 1 });
    await cancelMessage(world.scope, held);
    // Whoever stood behind it is woken by the cancellation.
    await world.deliver(world.take());
    expect(await world.receivedBy(ana)).toEqual(["behind"]);
    await world.accept(ben, "x");
    await world.drain();
    expect(await world.message(held.id)).toMatchObject({ status: "cancelled" });
  });

  it("is a 409 for what was sent, cancelled before, or never planned", async () => {
    const to = newPerson();
    const planned = await world.accept(to, "planned", { scheduledAt: world.now + 1000 });
    const plain = await world.accept(to, "plain");
    expect((await cancel(plain.id)).status).toBe(409);
    world.now += 1000;
    await world.drain();
    const late = await cancel(planned.id);
    expect(late.status).toBe(409);
    expect(await late.json()).toMatchObject({ code: "conflict", detail: expect.stringContaining("sent") });
    const other = await world.accept(to, "other", { scheduledAt: world.now + HOUR });
    expect((await cancel(other.id)).status).toBe(204);
    expect((await cancel(other.id)).status).toBe(409);
    expect(await world.receivedBy(to)).toEqual(["plain", "planned"]);
  });

  it("is a 409 while the message is being sent", async () => {
    const { id } = await world.accept(newPerson(), "planned", { scheduledAt: world.now + 1000 });
    world.now += 1000;
    let answer = 0;
    world.onCall = async (go) => {
      answer = (await cancel(id)).status;
      return go();
    };
    await world.deliver(world.take());
    expect(answer).toBe(409);
    expect(await world.message(id)).toMatchObject({ status: "sent" });
  });

  it("is a 404 for another tenant", async () => {
    const other = await World.create();
    const { id } = await other.accept(newPerson(), "theirs", { scheduledAt: other.now + HOUR });
    expect((await cancel(id)).status).toBe(404);
    expect(await other.message(id)).toMatchObject({ status: "scheduled" });
    await other.retire();
  });
});

describe("many planned messages", () => {
  it("of a number that is blocked do not keep those of others from being brought", async () => {
    const blocked = await World.create();
    await blocked.database
      .prepare("UPDATE phone_numbers SET blocked_reason = 'x' WHERE id = ?1")
      .bind(blocked.number.id)
      .run();
    for (let n = 0; n < 20; n += 1) await blocked.accept(newPerson(), `${n}`, { scheduledAt: blocked.now + MINUTE });
    const to = newPerson();
    await world.accept(to, "mine", { scheduledAt: blocked.now + 2 * MINUTE });
    world.waiting = [];
    world.now = blocked.now + 10 * MINUTE;
    await world.sweep();
    world.waiting = [];
    // They are in the open queue now, where a blocked number has its few probes.
    world.now += 5 * MINUTE;
    await world.sweep();
    const of = (workspaceId: string) =>
      world.waiting.filter((message) => (message.body as { workspaceId: string }).workspaceId === workspaceId).length;
    expect(of(blocked.workspace.workspaceId)).toBeLessThanOrEqual(5);
    expect(of(world.workspace.workspaceId)).toBe(1);
    await blocked.retire();
  });
});
