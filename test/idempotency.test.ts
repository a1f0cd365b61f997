import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { sandbox } from "./support/sandbox";
import { newPerson, World } from "./support/world";

// A second each, alone; several on a machine that runs other tests as well.
vi.setConfig({ testTimeout: 30_000 });

let world: World;

beforeEach(async () => {
  await sandbox.reset();
  world = await World.create();
});

afterEach(async () => {
  await world.retire();
});

function post(body: Record<string, unknown>, key: string, of: World = world) {
  const full = { workspace_id: of.workspace.workspaceId, phone_number_id: of.number.id, ...body };
  return of.call("POST", "/api/messages/send/text", full, { "Idempotency-Key": key });
}

/** The API has the real clock; queues and sweeps have the world's. */
function catchUp(): void {
  world.now = Math.max(world.now, Date.now());
}

async function answer(response: Response, status: number): Promise<Record<string, unknown>> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text) as Record<string, unknown>;
}

describe("Idempotency-Key", () => {
  it("makes one message of 20 identical posts at once, to somebody nobody knew, and answers all the same", async () => {
    const to = newPerson();
    const responses = await Promise.all(Array.from({ length: 20 }, () => post({ to, text: "once" }, "key-1")));
    const bodies = await Promise.all(responses.map((response) => answer(response, 201)));
    for (const body of bodies) expect(body).toEqual(bodies[0]);
    expect(bodies[0]).toMatchObject({
      status: "queued",
      to_number: to,
      conversation_id: expect.any(String),
      contact_id: expect.any(String),
    });
    expect(responses.filter((response) => response.headers.get("Idempotency-Replayed") === null)).toHaveLength(1);
    catchUp();
    await world.drain();
    expect(await world.messages()).toHaveLength(1);
    expect(await world.receivedBy(to)).toEqual(["once"]);
    const counted = async (table: string) =>
      world.database
        .prepare(`SELECT count(*) AS n FROM ${table} WHERE workspace_id = ?1`)
        .bind(world.workspace.workspaceId)
        .first("n");
    expect([await counted("contacts"), await counted("conversations"), await counted("idempotency")]).toEqual([
      1, 1, 1,
    ]);
  });

  it("gives the first answer again however far the message has come, and sends nothing", async () => {
    const to = newPerson();
    const first = await answer(await post({ to, text: "once" }, "key-1"), 201);
    catchUp();
    await world.drain();
    await sandbox.flush();
    const again = await post({ to, text: "once" }, "key-1");
    expect(again.headers.get("Idempotency-Replayed")).toBe("true");
    expect(await answer(again, 201)).toEqual(first);
    await world.drain();
    expect(await world.receivedBy(to)).toEqual(["once"]);
  });

  it("does not look at the order of members, nor at a slash at the end", async () => {
    const to = newPerson();
    const first = await answer(await post({ to, text: "once", preview_url: true }, "key-1"), 201);
    const other = {
      text: "once",
      preview_url: true,
      to,
      phone_number_id: world.number.id,
      workspace_id: world.workspace.workspaceId,
    };
    const again = await world.call("POST", "/api/messages/send/text/", other, { "Idempotency-Key": "key-1" });
    expect((await answer(again, 201)).id).toBe(first.id);
  });

  it("with another body is a 409, and sends nothing", async () => {
    const to = newPerson();
    await answer(await post({ to, text: "one" }, "key-1"), 201);
    const conflict = await answer(await post({ to, text: "two" }, "key-1"), 409);
    expect(conflict).toMatchObject({ code: "idempotency_conflict", detail: expect.any(String) });
    catchUp();
    await world.drain();
    expect(await world.receivedBy(to)).toEqual(["one"]);
  });

  it("of two different bodies at once takes one of them", async () => {
    const to = newPerson();
    const responses = await Promise.all(
      Array.from({ length: 12 }, (_, n) => post({ to, text: `body ${n % 2}` }, "key-1")),
    );
    const statuses = responses.map((response) => response.status).toSorted();
    expect(statuses).toEqual([...Array.from({ length: 6 }, () => 201), ...Array.from({ length: 6 }, () => 409)]);
    catchUp();
    await world.drain();
    expect(await world.receivedBy(to)).toHaveLength(1);
  });

  it("belongs to its workspace", async () => {
    const other = await World.create();
    const to = newPerson();
    const mine = await answer(await post({ to, text: "once" }, "key-1"), 201);
    const theirs = await answer(await post({ to, text: "once" }, "key-1", other), 201);
    expect(theirs.id).not.toBe(mine.id);
    await other.retire();
  });

  it("is free again when it has expired", async () => {
    const to = newPerson();
    const first = await answer(await post({ to, text: "one" }, "key-1"), 201);
    await world.database
      .prepare("UPDATE idempotency SET expires_at = ?2 WHERE workspace_id = ?1")
      .bind(world.workspace.workspaceId, Date.now() - 1)
      .run();
    const second = await answer(await post({ to, text: "two" }, "key-1"), 201);
    expect(second.id).not.toBe(first.id);
    expect((await answer(await post({ to, text: "two" }, "key-1"), 201)).id).toBe(second.id);
  });

  it("answers the first answer when the call would be refused by now", async () => {
    const to = newPerson();
    const scheduled = new Date(Date.now() + 1200).toISOString();
    const first = await answer(await post({ to, text: "planned", scheduled_at: scheduled }, "key-1"), 201);
    const sent = await answer(await post({ to, text: "now" }, "key-2"), 201);
    await world.database
      .prepare("UPDATE phone_numbers SET status = 'disabled' WHERE id = ?1")
      .bind(world.number.id)
      .run();
    await world.database
      .prepare("UPDATE workspace_states SET status = 'suspended' WHERE workspace_id = ?1")
      .bind(world.workspace.workspaceId)
      .run();
    expect(await answer(await post({ to, text: "now" }, "key-2"), 201)).toEqual(sent);
    expect(await answer(await post({ to, text: "planned", scheduled_at: scheduled }, "key-1"), 201)).toEqual(first);
    expect((await post({ to, text: "new" }, "key-3")).status).toBe(422);
  });

  it("is not spent by a call that is refused", async () => {
    const to = newPerson();
    await answer(await post({ to, text: "one", phone_number_id: "999" }, "key-1"), 422);
    expect(await answer(await post({ to, text: "one" }, "key-1"), 201)).toMatchObject({ status: "queued" });
  });

  it.each(["", "k".repeat(256)])("of a length nobody can mean (%#) is a 422", async (key) => {
    expect((await post({ to: newPerson(), text: "x" }, key)).status).toBe(422);
  });

  it("takes none of the pair's pace when a call is repeated", async () => {
    const to = newPerson();
    for (let n = 0; n < 60; n += 1) await answer(await post({ to, text: "once" }, "key-1"), 201);
    const { id } = await answer(await post({ to, text: "next" }, "key-2"), 201);
    const row = await world.message(String(id));
    expect(Number(row.not_before) - Number(row.created_at)).toBe(0);
  });
});
