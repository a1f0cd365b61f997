import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { sealToken } from "../src/phone-numbers/service";
import { reopenGate } from "../src/phone-numbers/service-pipeline";
import { registerNumber } from "./support/numbers";
import { eventually } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { eventsOf, openFeed } from "./support/sockets";
import { newPerson, World } from "./support/world";

// A second each, alone; several on a machine that runs other tests as well.
vi.setConfig({ testTimeout: 30_000 });

const MINUTE = 60_000;

let world: World;

beforeEach(async () => {
  await sandbox.reset();
  world = await World.create();
});

afterEach(async () => {
  await world.retire();
});

/** A fault that hits this world's number only. */
function fault(order: Parameters<typeof sandbox.faults>[0]) {
  return sandbox.faults({ phone_number_id: world.number.providerNumberId, ...order });
}

function errorOf(row: Record<string, unknown>): unknown {
  return row.error === null ? null : JSON.parse(String(row.error));
}

async function numberRow() {
  return world.database.prepare("SELECT * FROM phone_numbers WHERE id = ?1").bind(world.number.id).first();
}

describe("a refusal of the provider", () => {
  const permanent = [
    33, 100, 803, 130403, 130472, 130497, 131008, 131009, 131021, 131026, 131030, 131047, 131049, 131050, 131051,
    132000, 132001, 132007, 132012, 132015, 132016,
  ];

  it("that repeating would get again fails the message after one call, 131049 too", async () => {
    const ids = new Map<number, string>();
    for (const code of permanent) {
      const to = newPerson();
      await fault({ kind: "error", code, to: to.slice(1) });
      ids.set(code, (await world.accept(to, `no ${code}`)).id);
    }
    await world.drain();
    // Not by a sweep of later minutes either.
    await world.pass(3);
    expect(world.calls.toSorted()).toEqual(permanent.map((code) => `no ${code}`).toSorted());
    for (const [code, id] of ids) {
      const row = await world.message(id);
      expect(row).toMatchObject({ status: "failed", open: null, claim: null, lease_until: null, wa_message_id: null });
      const shown = await world.call("GET", `/api/messages/${id}`);
      expect(await shown.json()).toMatchObject({
        status: "failed",
        failed_at: expect.any(String),
        error: { code, title: expect.any(String), details: expect.any(String), retryable: false },
      });
    }
  });

  const passing = [2, 4, 613, 80007, 130429, 131000, 131016, 131048, 131053, 131056, 131057, 132069, 133004];

  it("that passes is tried again, and the message goes", async () => {
    const ids = new Map<number, string>();
    for (const code of passing) {
      const to = newPerson();
      // A number of its own, because some of these hold back the whole number.
      const number = await registerNumber(world.workspace);
      await sandbox.faults({ kind: "error", code, to: to.slice(1), count: 1 });
      ids.set(code, (await world.accept(to, `again ${code}`, { phoneNumberId: number.id })).id);
    }
    await world.drain();
    const { counts } = await sandbox.accepted();
    for (const [code, id] of ids) {
      const row = await world.message(id);
      expect(row, `after ${code}`).toMatchObject({ status: "sent", failures: 1, attempts: 2, error: null });
      expect(counts.by_message[id]).toBe(1);
      expect(counts.by_callback[`${id}.2`]).toBe(1);
    }
  });

  it.each([1, 135000])("that Meta wants tried once more (%i) is tried once more and no oftener", async (code) => {
    await fault({ kind: "error", code });
    const { id } = await world.accept(newPerson(), "once more");
    await world.drain();
    expect(world.calls).toHaveLength(2);
    expect(errorOf(await world.message(id))).toMatchObject({ code, retryable: false });
  });

  it("that never ends is given up after 8 attempts, each later than the one before", async () => {
    await fault({ kind: "error", code: 131000 });
    const at: number[] = [];
    world.onCall = (go) => {
      at.push(world.now);
      return go();
    };
    const { id } = await world.accept(newPerson(), "never");
    await world.drain(60);
    expect(at).toHaveLength(8);
    const waits = at.slice(1).map((time, n) => time - (at[n] ?? 0));
    for (const [n, wait] of waits.entries()) {
      // Half of 2 s, doubled each time, to a minute; delays of the queue are whole seconds.
      expect(wait).toBeGreaterThanOrEqual(Math.min(60_000, 2000 * 2 ** n) / 2);
      expect(wait).toBeLessThanOrEqual(Math.min(60_000, 2000 * 2 ** n) + 1000);
    }
    const row = await world.message(id);
    expect(row).toMatchObject({ status: "failed", failures: 7 });
    expect(errorOf(row)).toMatchObject({ code: 131000, retryable: true });
  });

  it("never shows on a message that is still being tried", async () => {
    await fault({ kind: "error", code: 131000 });
    const { id } = await world.accept(newPerson(), "trying");
    await world.deliver(world.take());
    expect(await world.message(id)).toMatchObject({ status: "queued", failures: 1 });
    expect(await (await world.call("GET", `/api/messages/${id}`)).json()).toMatchObject({
      status: "queued",
      error: null,
    });
  });
});

describe("Retry-After", () => {
  it("of a number that is too fast holds back its other messages too, and no longer than it says", async () => {
    await fault({ kind: "rate_limit", retry_after: 30, count: 1 });
    const people = Array.from({ length: 40 }, newPerson);
    for (const to of people) await world.accept(to, `to ${to}`);
    const start = world.now;
    const at: number[] = [];
    world.onCall = (go) => {
      at.push(world.now);
      return go();
    };
    await world.deliver(world.take());
    // The wave that met the limit, and no other.
    expect(at.length).toBeLessThanOrEqual(10);
    await world.drain();
    const after = at.filter((time) => time > start);
    expect(Math.min(...after)).toBeGreaterThanOrEqual(start + 30_000);
    expect(Math.max(...after)).toBeLessThanOrEqual(start + 40_000);
    expect((await world.accepted()).total).toBe(40);
    await world.expectNoneTwice();
  });

  it("of nothing is no licence to hammer", async () => {
    await fault({ kind: "rate_limit", retry_after: 0, count: 3 });
    await world.accept(newPerson(), "calm");
    const start = world.now;
    await world.drain();
    expect(world.calls).toHaveLength(4);
    expect(world.now - start).toBeGreaterThanOrEqual(1000 + 2000 + 4000);
  });

  it("of an hour is waited for by that pair alone", async () => {
    const [ana, ben] = [newPerson(), newPerson()];
    await sandbox.faults({ kind: "error", code: 131056, to: ana.slice(1), count: 1 });
    await world.accept(ana, "a1");
    await world.accept(ana, "a2");
    await world.accept(ben, "b1");
    await world.deliver(world.take());
    expect(await world.receivedBy(ben)).toEqual(["b1"]);
    expect(await world.receivedBy(ana)).toEqual([]);
    await world.drain();
    expect(await world.receivedBy(ana)).toEqual(["a1", "a2"]);
  });
});

describe("order within a conversation", () => {
  it("holds while the first is tried again, and others do not wait for it", async () => {
    const [ana, ben] = [newPerson(), newPerson()];
    await sandbox.faults({ kind: "error", code: 131000, to: ana.slice(1), count: 2 });
    for (const text of ["a1", "a2", "a3"]) await world.accept(ana, text);
    for (const text of ["b1", "b2"]) await world.accept(ben, text);
    const start = world.now;
    await world.deliver(world.take());
    expect(await world.receivedBy(ben)).toEqual(["b1", "b2"]);
    // One that was accepted meanwhile stands behind them.
    await world.accept(ana, "a4");
    await world.drain();
    expect(await world.receivedBy(ana)).toEqual(["a1", "a2", "a3", "a4"]);
    // A head that is tried again blocks those behind it for its back-off (2 s, then 4 s), not until a sweep.
    expect(world.now - start).toBeLessThan(10_000);
  });

  it("goes on past a message of which nobody knows whether it arrived", async () => {
    const ana = newPerson();
    await sandbox.faults({ kind: "reset", to: ana.slice(1), count: 1 });
    const first = await world.accept(ana, "lost");
    await world.accept(ana, "a2");
    const start = world.now;
    await world.drain();
    expect(await world.receivedBy(ana)).toEqual(["a2"]);
    expect(world.now).toBe(start);
    expect(await world.message(first.id)).toMatchObject({ status: "sending", open: null });
  });

  it("holds for messages whose place is the same", async () => {
    const ana = newPerson();
    const at = world.now + MINUTE;
    for (const text of ["a1", "a2", "a3"]) await world.accept(ana, text, { scheduledAt: at });
    world.now = at;
    await world.deliver(world.take().reverse());
    expect(await world.receivedBy(ana)).toEqual(["a1", "a2", "a3"]);
  });

  it("lets no conversation with many messages keep another waiting", async () => {
    const [ana, ben] = [newPerson(), newPerson()];
    for (let n = 0; n < 40; n += 1) await world.accept(ana, `a${n}`);
    await world.accept(ben, "b");
    await world.deliver(world.take());
    expect(world.calls.indexOf("b")).toBeLessThan(2);
    expect(await world.receivedBy(ana)).toHaveLength(40);
  });

  it("needs no sweep: who was accepted while a batch was under way is woken by it, however long it took", async () => {
    world = await World.create({ settings: { resultEvery: 1000 } });
    const [ana, ben] = [newPerson(), newPerson()];
    for (let n = 0; n < 6; n += 1) await world.accept(ana, `a${n}`);
    await world.accept(ben, "b0");
    const batch = world.take();
    let late = false;
    world.onCall = async (go, text) => {
      world.now += 600;
      if (text === "a3" && !late) {
        late = true;
        // Its job finds a3 under way and is settled.
        await world.accept(ana, "late");
        await world.deliver(world.take());
        expect(world.waiting).toEqual([]);
      }
      return go();
    };
    await world.deliver(batch);
    await world.deliver(world.take());
    expect(await world.receivedBy(ana)).toEqual(["a0", "a1", "a2", "a3", "a4", "a5", "late"]);
  });
});

describe("a call of which nobody knows whether it arrived", () => {
  it("that did arrive is known by its status, and never sent again", async () => {
    await fault({ kind: "drop_after_accept", count: 1 });
    const { id } = await world.accept(newPerson(), "dropped");
    await world.drain();
    await world.pass(3);
    expect(await world.message(id)).toMatchObject({ status: "sending", open: null, wa_message_id: null });
    await sandbox.flush({ batch: 100 });
    const row = await eventually(async () => {
      const now = await world.message(id);
      expect(now).toMatchObject({ status: "read", ambiguous_at: null, error: null });
      return now;
    });
    expect(row.wa_message_id).toMatch(/^wamid\./);
    await world.passWithStatuses(15);
    expect(world.calls).toEqual(["dropped"]);
    expect(await world.message(id)).toMatchObject({ status: "read" });
  });

  it("fails visibly after ten minutes in which statuses of others arrived", async () => {
    await fault({ kind: "reset", count: 1 });
    const { id } = await world.accept(newPerson(), "lost");
    await world.drain();
    await world.passWithStatuses(9);
    expect(await world.message(id)).toMatchObject({ status: "sending" });
    await world.passWithStatuses(3);
    const row = await world.message(id);
    expect(row).toMatchObject({ status: "failed", ambiguous_at: null });
    expect(errorOf(row)).toMatchObject({ code: "outcome_unknown", title: expect.any(String), retryable: true });
    expect(world.calls).toEqual(["lost"]);
  });

  it("waits as long as no statuses arrive, and its clock does not run while they do not", async () => {
    await fault({ kind: "reset", count: 1 });
    const { id } = await world.accept(newPerson(), "lost");
    await world.drain();
    await world.passWithStatuses(5);
    // The webhooks fail for two hours; when they come back, the message's own may be among them.
    for (let n = 0; n < 12; n += 1) {
      world.now += 10 * MINUTE;
      await world.sweep();
    }
    await world.passWithStatuses(3);
    expect(await world.message(id)).toMatchObject({ status: "sending" });
    await world.passWithStatuses(6);
    expect(await world.message(id)).toMatchObject({ status: "failed" });
  });

  it("is given up after seven days even if no status ever comes", async () => {
    await fault({ kind: "reset", count: 1 });
    const { id } = await world.accept(newPerson(), "lost");
    await world.drain();
    world.now += 7 * 86_400_000 - 5 * MINUTE;
    await world.sweep();
    expect(await world.message(id)).toMatchObject({ status: "sending" });
    world.now += 10 * MINUTE;
    await world.sweep();
    expect(errorOf(await world.message(id))).toMatchObject({ code: "outcome_unknown" });
  });

  it("that failed as unknown is corrected by a status that comes after all", async () => {
    await fault({ kind: "drop_after_accept", count: 1 });
    const { id } = await world.accept(newPerson(), "late");
    await world.drain();
    await world.passWithStatuses(12);
    expect(await world.message(id)).toMatchObject({ status: "failed" });
    await sandbox.flush({ batch: 100 });
    await eventually(async () =>
      expect(await world.message(id)).toMatchObject({ status: "read", error: null, failed_at: null }),
    );
  });

  it("is sent once more where the workspace chose that, and only once", async () => {
    world = await World.create({ workspaceSettings: { resend_unknown: true } });
    await fault({ kind: "reset", count: 2 });
    const { id } = await world.accept(newPerson(), "twice");
    await world.drain();
    await world.passWithStatuses(9);
    expect(world.calls).toHaveLength(1);
    await world.passWithStatuses(3);
    expect(world.calls).toHaveLength(2);
    expect(await world.message(id)).toMatchObject({ status: "sending", attempts: 2 });
    await world.passWithStatuses(30);
    expect(world.calls).toHaveLength(2);
    expect(errorOf(await world.message(id))).toMatchObject({
      code: "outcome_unknown",
      details: expect.stringContaining("second"),
    });
  });

  it("goes the second time, where the workspace chose that", async () => {
    world = await World.create({ workspaceSettings: { resend_unknown: true } });
    await fault({ kind: "reset", count: 1 });
    const to = newPerson();
    const { id } = await world.accept(to, "twice");
    await world.drain();
    await world.passWithStatuses(12);
    expect(await world.message(id)).toMatchObject({ status: "sent" });
    expect(await world.receivedBy(to)).toEqual(["twice"]);
  });
});

describe("a number that the provider blocks", () => {
  it("stops with its reason, lets its messages wait, is probed, and comes back", async () => {
    const feed = await openFeed(world.workspace, world.workspace.workspaceId);
    await fault({ kind: "error", code: 190 });
    const people = Array.from({ length: 30 }, newPerson);
    const ids: string[] = [];
    for (const to of people) ids.push((await world.accept(to, "wait")).id);
    await world.deliver(world.take());
    // The first wave found out; nobody else was called.
    expect(world.calls.length).toBeLessThanOrEqual(10);
    const first = world.calls.length;
    expect(await numberRow()).toMatchObject({ blocked_reason: expect.stringContaining("Token") });
    await eventually(() =>
      expect(eventsOf(feed)).toContainEqual(
        expect.objectContaining({
          type: "phone_number.updated",
          phone_number_id: world.number.id,
          blocked_reason: expect.any(String),
        }),
      ),
    );
    for (const id of ids) expect(await world.message(id)).toMatchObject({ status: "queued", failures: 0 });
    // One probe every five minutes, whatever else is accepted meanwhile.
    await world.accept(newPerson(), "wait");
    await world.pass(20);
    expect(world.calls.length - first).toBeGreaterThanOrEqual(3);
    expect(world.calls.length - first).toBeLessThanOrEqual(4);
    // The owner did something about it at the provider: the next probe finds out.
    await sandbox.clearFaults();
    await world.drain(20);
    expect((await world.accepted()).total).toBe(31);
    await world.expectNoneTwice();
    expect(await numberRow()).toMatchObject({ blocked_reason: null, blocked_at: null });
    await eventually(() =>
      expect(eventsOf(feed)).toContainEqual(
        expect.objectContaining({
          type: "phone_number.updated",
          phone_number_id: world.number.id,
          blocked_reason: null,
        }),
      ),
    );
  });

  const blocking = [0, 3, 10, 190, 200, 368, 131005, 131031, 131037, 131042, 131045, 133005, 133006, 133010];

  it("is blocked by whatever its token, its account or its registration is refused for", async () => {
    const sent: { code: number; id: string; numberId: string }[] = [];
    for (const code of blocking) {
      const number = await registerNumber(world.workspace);
      await sandbox.faults({ kind: "error", code, phone_number_id: number.providerNumberId });
      const { id } = await world.accept(newPerson(), `wait ${code}`, { phoneNumberId: number.id });
      sent.push({ code, id, numberId: number.id });
    }
    await world.drain(2);
    expect(world.calls.toSorted()).toEqual(blocking.map((code) => `wait ${code}`).toSorted());
    for (const { code, id, numberId } of sent) {
      expect(await world.message(id), `after ${code}`).toMatchObject({ status: "queued", failures: 0 });
      const row = await world.database.prepare("SELECT * FROM phone_numbers WHERE id = ?1").bind(numberId).first();
      expect(row, `after ${code}`).toMatchObject({ blocked_reason: expect.any(String) });
    }
  });

  it("goes on at once when its owner enters a new token", async () => {
    await fault({ kind: "error", code: 190 });
    const to = newPerson();
    await world.accept(to, "wait");
    await world.drain(2);
    await sandbox.clearFaults();
    await reopenGate(world.runtime, 0, { ...world.number, blockedReason: "blocked" });
    const before = world.now;
    await world.drain();
    expect(await world.receivedBy(to)).toEqual(["wait"]);
    expect(world.now - before).toBeLessThanOrEqual(2 * MINUTE);
    expect(await numberRow()).toMatchObject({ blocked_reason: null });
  });

  it("lets messages expire with that reason", async () => {
    await fault({ kind: "error", code: 190 });
    const soon = await world.accept(newPerson(), "otp", { ttl: 10 * MINUTE });
    const planned = await world.accept(newPerson(), "planned", { scheduledAt: world.now + MINUTE, ttl: 10 * MINUTE });
    const later = await world.accept(newPerson(), "wait");
    await world.pass(9);
    expect(await world.message(soon.id)).toMatchObject({ status: "queued" });
    await world.pass(4);
    for (const { id } of [soon, planned]) {
      const row = await world.message(id);
      expect(row).toMatchObject({ status: "failed", open: null });
      expect(errorOf(row)).toMatchObject({ code: "expired", retryable: true });
    }
    expect(await world.message(later.id)).toMatchObject({ status: "queued" });
    world.now += 86_400_000;
    await world.sweep();
    expect(errorOf(await world.message(later.id))).toMatchObject({ code: "expired" });
    expect((await world.accepted()).total).toBe(0);
  });

  it("does not waste its probe on a message that has to wait for another", async () => {
    await fault({ kind: "error", code: 190 });
    const to = newPerson();
    for (let n = 0; n < 30; n += 1) await world.accept(to, `a${n}`);
    await world.deliver(world.take());
    await sandbox.clearFaults();
    const blockedAt = world.now;
    // Jobs of those behind keep coming, as every new message brings one.
    world.now += 5 * MINUTE;
    await world.accept(to, "a30");
    await world.deliver(world.take());
    await world.drain();
    expect(await world.receivedBy(to)).toEqual(Array.from({ length: 31 }, (_, n) => `a${n}`));
    expect(world.now - blockedAt).toBeLessThanOrEqual(9 * MINUTE);
  });

  it("is found out and opened again even if a crash kept its row from saying that it is blocked", async () => {
    const gate = env.SENDER_GATE.getByName(`${world.workspace.workspaceId}:${world.number.id}`);
    await gate.close({ reason: "Account locked", probeAt: world.now + 5 * MINUTE });
    const to = newPerson();
    await world.accept(to, "wait");
    await world.drain(2);
    expect(await numberRow()).toMatchObject({ blocked_reason: "Account locked" });
    await world.drain(10);
    expect(await world.receivedBy(to)).toEqual(["wait"]);
    expect(await numberRow()).toMatchObject({ blocked_reason: null });
    await world.accept(to, "next");
    await world.deliver(world.take());
    expect(await world.receivedBy(to)).toEqual(["wait", "next"]);
  });

  it("is opened by the first message that goes through, whatever its row says", async () => {
    const gate = env.SENDER_GATE.getByName(`${world.workspace.workspaceId}:${world.number.id}`);
    await gate.close({ reason: "Account locked", probeAt: world.now - 1 });
    const to = newPerson();
    await world.accept(to, "probe");
    await world.deliver(world.take());
    await world.accept(to, "next");
    await world.deliver(world.take());
    expect(await world.receivedBy(to)).toEqual(["probe", "next"]);
    expect(await numberRow()).toMatchObject({ blocked_reason: null });
  });

  it("is one whose token cannot be opened any more, until a new one is entered", async () => {
    await world.database
      .prepare("UPDATE phone_numbers SET access_token_sealed = ?2 WHERE id = ?1")
      .bind(world.number.id, await sealToken(world.runtime, "another-workspace", world.number.id, "token"))
      .run();
    const to = newPerson();
    const { id } = await world.accept(to, "wait");
    await world.drain(2);
    expect(world.calls).toEqual([]);
    expect(await world.message(id)).toMatchObject({ status: "queued" });
    expect(await numberRow()).toMatchObject({ blocked_reason: expect.stringContaining("token") });
    const sealed = await sealToken(world.runtime, world.workspace.workspaceId, world.number.id, "sandbox-token");
    await world.database
      .prepare("UPDATE phone_numbers SET access_token_sealed = ?2 WHERE id = ?1")
      .bind(world.number.id, sealed)
      .run();
    await world.drain(10);
    expect(await world.receivedBy(to)).toEqual(["wait"]);
  });

  it("does not keep the workspace's other numbers waiting", async () => {
    const other = await registerNumber(world.workspace);
    await fault({ kind: "error", code: 131031 });
    const to = newPerson();
    await world.accept(to, "blocked");
    await world.accept(to, "free", { phoneNumberId: other.id });
    await world.deliver(world.take());
    expect((await sandbox.accepted({ phone_number_id: other.providerNumberId })).total).toBe(1);
    expect((await world.accepted()).total).toBe(0);
  });
});

describe("what cannot be sent now", () => {
  it("fails when its number was deleted, and wakes nobody", async () => {
    const to = newPerson();
    const one = await world.accept(to, "a1");
    const two = await world.accept(to, "a2");
    await world.database
      .prepare("UPDATE phone_numbers SET deleted_at = ?2, access_token_sealed = NULL WHERE id = ?1")
      .bind(world.number.id, world.now)
      .run();
    await world.drain();
    for (const { id } of [one, two]) {
      const row = await world.message(id);
      expect(row).toMatchObject({ status: "failed" });
      expect(errorOf(row)).toMatchObject({ code: "number_deleted", retryable: false });
    }
    expect(world.calls).toEqual([]);
  });

  it("goes all the same when the number is deleted while the call is under way", async () => {
    world.onCall = async (go) => {
      await world.database
        .prepare("UPDATE phone_numbers SET deleted_at = ?2, access_token_sealed = NULL WHERE id = ?1")
        .bind(world.number.id, world.now)
        .run();
      return go();
    };
    const { id } = await world.accept(newPerson(), "just in time");
    await world.drain();
    expect(await world.message(id)).toMatchObject({ status: "sent" });
  });

  it.each([
    ["workspace_states", "workspace_id", "status", "suspended"],
    ["phone_numbers", "workspace_id", "status", "disabled"],
  ])("waits while its %s is off, and goes when it is on again", async (table, key, column, off) => {
    const to = newPerson();
    const { id } = await world.accept(to, "wait");
    const set = (value: string) =>
      world.database
        .prepare(`UPDATE ${table} SET ${column} = ?2 WHERE ${key} = ?1`)
        .bind(world.workspace.workspaceId, value)
        .run();
    await set(off);
    await world.pass(5);
    expect(world.calls).toEqual([]);
    expect(await world.message(id)).toMatchObject({ status: "queued" });
    await set("active");
    await world.pass(2);
    expect(await world.receivedBy(to)).toEqual(["wait"]);
  });

  it("is marketing to somebody who opted out after it was accepted", async () => {
    const to = newPerson();
    const { id, contactId } = await world.accept(to, "buy", { category: "marketing" });
    const other = await world.accept(to, "your parcel", { category: "utility" });
    await world.database
      .prepare("UPDATE contacts SET opted_out_at = ?2 WHERE id = ?1")
      .bind(contactId, world.now)
      .run();
    await world.drain();
    expect(errorOf(await world.message(id))).toMatchObject({ code: "opted_out", retryable: false });
    expect(await world.message(other.id)).toMatchObject({ status: "sent" });
    expect(await world.receivedBy(to)).toEqual(["your parcel"]);
  });
});

describe("what an answer tells", () => {
  it("another number than was called, is known of the person from then on", async () => {
    const { contactId } = await world.accept("+5541987654321", "oi");
    await world.drain();
    const { results } = await world.database
      .prepare(
        "SELECT kind, value FROM contact_identities WHERE workspace_id = ?1 AND contact_id = ?2 ORDER BY kind, value",
      )
      .bind(world.workspace.workspaceId, contactId)
      .all();
    expect(results).toContainEqual({ kind: "wa", value: "554187654321" });
  });
});

describe("a second shard", () => {
  it("sends, sweeps and settles as the first one does", async () => {
    world = await World.create({ shard: 1 });
    const [ana, ben] = [newPerson(), newPerson()];
    for (const text of ["a1", "a2"]) await world.accept(ana, text);
    const lost = await world.accept(ben, "b1");
    world.waiting = world.waiting.filter((message) => (message.body as { id: string }).id !== lost.id);
    await fault({ kind: "drop_after_accept", count: 1 });
    await world.drain();
    expect(await world.receivedBy(ana)).toEqual(["a1", "a2"]);
    expect(await world.receivedBy(ben)).toEqual(["b1"]);
    await sandbox.flush({ batch: 100 });
    await eventually(async () => {
      for (const row of await world.messages()) expect(row.status).toBe("read");
    });
    await world.expectNoneTwice();
  });

  it("that does not answer keeps the first one's messages from nothing", async () => {
    const other = await World.create({ shard: 1 });
    await other.accept(newPerson(), "second");
    const to = newPerson();
    await world.accept(to, "first");
    const down = {
      withSession: () => ({ prepare: () => ({ bind: () => ({ all: () => Promise.reject(new Error("down")) }) }) }),
    };
    const batch = [...other.take(), ...world.take()];
    await world.deliver(batch, { env: { ...world.env, SHARD_1: down } as unknown as Env });
    expect(await world.receivedBy(to)).toEqual(["first"]);
    // Only the other shard's comes again.
    expect(world.waiting).toHaveLength(1);
    expect(world.waiting[0]).toMatchObject({ attempts: 2, body: { shard: 1 } });
    await world.drain(2);
    world.now += 10_000;
    await world.deliver(world.take());
    expect((await other.accepted()).total).toBe(1);
    await other.retire();
  });
});
