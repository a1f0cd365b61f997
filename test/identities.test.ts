import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { newWorkspace } from "./support/identity";
import {
  about,
  ago,
  changedNumber,
  contact,
  digits,
  expectExactCounts,
  inboxOf,
  message,
  receive,
  runMerges,
  says,
  shuffled,
  status,
  wamid,
} from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, heldQueues, untilStatus } from "./support/pipeline";
import { sandbox } from "./support/sandbox";

async function ready() {
  const workspace = await newWorkspace();
  const number = await registerNumber(workspace);
  const inbox = inboxOf(workspace.workspaceId);
  const { env: held, held: queues } = heldQueues();
  return {
    workspace,
    number,
    inbox,
    /** Receives and runs the merges that follow. */
    settle: async (...bodies: object[]) => {
      await receive(bodies, { env: held });
      return runMerges(queues);
    },
    order: () => queues.get("BULK") ?? [],
    held,
  };
}

type World = Awaited<ReturnType<typeof ready>>;

async function answer(world: World, conversationId: unknown): Promise<Record<string, unknown>> {
  const response = await world.workspace.call("POST", "/api/messages/send/text", {
    conversation_id: conversationId,
    text: "An answer",
  });
  expect(response.status, await response.clone().text()).toBe(201);
  const { id } = await response.json<{ id: string }>();
  await untilStatus(id, world.workspace.workspaceId, "sent");
  const { data } = await sandbox.accepted({ phone_number_id: world.number.providerNumberId });
  return data.at(-1)?.body ?? {};
}

function idUpdate(number: World["number"], previous: string, current: string, at: number, wa?: string): object {
  const update = {
    ...(wa === undefined ? {} : { wa_id: wa }),
    user_id: { previous, current },
    timestamp: String(at / 1000),
  };
  return about(number, { user_id_update: [update] }, "user_id_update");
}

describe("a sender known by user id alone", () => {
  it("gets a contact and a thread, and an answer that goes to the user id", async () => {
    const world = await ready();
    const user = `US.${crypto.randomUUID().replaceAll("-", "")}`;
    await world.settle(says(world.number, { user, name: "Pablo", username: "pablo" }));
    expect(await world.inbox.contacts()).toMatchObject([
      { user_id: user, wa_id: null, phone_number: null, name: "Pablo", username: "pablo", opted_in: 0 },
    ]);
    const [thread] = await world.inbox.conversations();
    const listed = await world.workspace.call("GET", `/api/conversations/${String(thread?.id)}`);
    expect(await listed.json()).toMatchObject({ contact: { user_id: user, phone_number: null, username: "pablo" } });
    const body = await answer(world, thread?.id);
    expect(body).toMatchObject({ recipient: user });
    expect(body).not.toHaveProperty("to");
  });

  it("who turns out to have a number stays the same person, and is answered there", async () => {
    const world = await ready();
    const [user, wa] = [`US.${crypto.randomUUID().replaceAll("-", "")}`, digits()];
    await world.settle(says(world.number, { user }));
    await world.settle(says(world.number, { wa, user }));
    expect(await world.inbox.contacts()).toMatchObject([{ user_id: user, wa_id: wa, phone_number: `+${wa}` }]);
    const [thread] = await world.inbox.conversations();
    expect(thread).toMatchObject({ message_count: 2 });
    expect(await answer(world, thread?.id)).toMatchObject({ to: wa });
  });

  it("is recognised by the id that a status told of a number", async () => {
    const world = await ready();
    const [user, wa] = [`US.${crypto.randomUUID().replaceAll("-", "")}`, digits()];
    await world.settle(says(world.number, { wa }));
    await world.settle(
      about(world.number, {
        contacts: [contact({ wa, user })],
        statuses: [status(wamid(), "delivered", { recipient_id: wa, recipient_user_id: user })],
      }),
    );
    await world.settle(says(world.number, { user }));
    expect(await world.inbox.contacts()).toMatchObject([{ wa_id: wa, user_id: user }]);
    expect(await world.inbox.conversations()).toMatchObject([{ message_count: 2 }]);
  });

  it("whose id is no number is never given one", async () => {
    const world = await ready();
    await world.settle(says(world.number, { wa: "PHONE_NUMBER" }));
    expect(await world.inbox.contacts()).toMatchObject([{ wa_id: "PHONE_NUMBER", phone_number: null }]);
    expect(await world.inbox.messages()).toMatchObject([{ from_number: null }]);
  });
});

describe("spellings of one number", () => {
  it.each([
    ["Brazil", "5531988887777", "553188887777"],
    ["Mexico", "525512345678", "5215512345678"],
    ["Argentina", "541123456789", "5491123456789"],
  ])("%s: who was written to under one is recognised under the other", async (_country, dialled, whatsapp) => {
    const world = await ready();
    const response = await world.workspace.call("POST", "/api/messages/send/text", {
      phone_number_id: world.number.id,
      to: `+${dialled}`,
      text: "Hello",
    });
    expect(response.status).toBe(201);
    const sent = await response.json<{ id: string; conversation_id: string }>();
    await untilStatus(sent.id, world.workspace.workspaceId, "sent");
    await world.settle(says(world.number, { wa: whatsapp }));
    expect(await world.inbox.contacts()).toHaveLength(1);
    expect(await world.inbox.conversations()).toMatchObject([{ id: sent.conversation_id, message_count: 2 }]);
    expect((await world.inbox.identities()).map((i) => `${i.kind} ${i.value}`)).toEqual(
      expect.arrayContaining([`phone ${dialled}`, `wa ${whatsapp}`]),
    );
  });

  it("a Brazilian landline and a mobile that differs by the ninth digit are two people", async () => {
    const world = await ready();
    await world.settle(says(world.number, { wa: "551133334444" }), says(world.number, { wa: "5511933334444" }));
    expect(await world.inbox.contacts()).toHaveLength(2);
  });
});

describe("a change of number", () => {
  it("keeps contact and thread; answers go to the new number, whoever has the old one next is somebody else", async () => {
    const world = await ready();
    const [old, now] = [digits(), digits()];
    await world.settle(says(world.number, { wa: old, name: "Ana" }, { at: ago(60) }));
    const [contactBefore] = await world.inbox.contacts();
    const [threadBefore] = await world.inbox.conversations();
    await world.settle(changedNumber(world.number, old, now, ago(50)));
    await world.settle(says(world.number, { wa: now, name: "Ana" }, { at: ago(40) }));
    expect(await world.inbox.contacts()).toMatchObject([
      { id: contactBefore?.id, wa_id: now, phone_number: `+${now}` },
    ]);
    expect(await world.inbox.conversations()).toMatchObject([
      { id: threadBefore?.id, message_count: 2, unread_count: 2 },
    ]);
    expect(await answer(world, threadBefore?.id)).toMatchObject({ to: now });
    // Years later the number is given to somebody else.
    await world.settle(says(world.number, { wa: old, name: "Ben" }, { at: ago(1) }));
    const contacts = await world.inbox.contacts();
    expect(contacts.map((c) => [c.name, c.wa_id])).toEqual([
      ["Ana", now],
      ["Ben", old],
    ]);
    await expectExactCounts(world.workspace.workspaceId);
  });

  it("told again after the number was given to somebody else merges no strangers, in a batch with them or not", async () => {
    for (const together of [false, true]) {
      const world = await ready();
      const [old, now] = [digits(), digits()];
      const change = changedNumber(world.number, old, now, ago(50));
      await world.settle(says(world.number, { wa: old, name: "Ana" }, { at: ago(60) }));
      await world.settle(change);
      const stranger = says(world.number, { wa: old, name: "Ben" }, { at: ago(10), id: "wamid.stranger" });
      if (together) await world.settle(change, stranger, change);
      else {
        await world.settle(stranger);
        await world.settle(change);
      }
      await world.settle(change);
      expect(world.order()).toEqual([]);
      const contacts = await world.inbox.contacts();
      expect(contacts.map((c) => [c.name, c.wa_id])).toEqual([
        ["Ana", now],
        ["Ben", old],
      ]);
      const strange = (await world.inbox.messages()).find((m) => m.wa_message_id === "wamid.stranger");
      expect(strange?.contact_id).toBe(contacts[1]?.id);
    }
  });

  it("told again when its old number went to a contact who was known before merges nobody", async () => {
    const world = await ready();
    const [old, now, others] = [digits(), digits(), digits()];
    const change = changedNumber(world.number, old, now, ago(50));
    await world.settle(says(world.number, { wa: others, name: "Ben" }, { at: ago(90) }));
    await world.settle(says(world.number, { wa: old, name: "Ana" }, { at: ago(60) }));
    await world.settle(change);
    await world.settle(changedNumber(world.number, others, old, ago(20)));
    expect(await world.settle(change)).toBe(0);
    expect((await world.inbox.contacts()).map((c) => [c.name, c.wa_id])).toEqual([
      ["Ben", old],
      ["Ana", now],
    ]);
  });

  it("and the messages before and after it may come in any order, again and again", async () => {
    for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
      const world = await ready();
      const [first, second, third] = [digits(), digits(), digits()];
      const bodies = [
        says(world.number, { wa: first, name: "Ana" }, { id: "wamid.1", at: ago(60) }),
        changedNumber(world.number, first, second, ago(50)),
        says(world.number, { wa: second, name: "Ana" }, { id: "wamid.2", at: ago(40) }),
        changedNumber(world.number, second, third, ago(30)),
        says(world.number, { wa: third, name: "Ana" }, { id: "wamid.3", at: ago(20) }),
      ];
      const inParts = async (all: readonly object[]) => {
        for (let start = 0; start < all.length; start += 1 + (seed % 4)) {
          await world.settle(...all.slice(start, start + 1 + (seed % 4)));
        }
      };
      await inParts(shuffled([...bodies, ...bodies, ...bodies], seed));
      // Months later somebody else has the first number; then a dead letter of those days is replayed.
      const stranger = says(world.number, { wa: first, name: "Ben" }, { id: "wamid.4", at: ago(10) });
      await inParts(shuffled([...bodies, stranger, ...bodies, stranger], seed));
      const contacts = await world.inbox.contacts();
      const byName = contacts.map((c) => [c.name, c.wa_id, c.phone_number]).sort();
      expect(byName, `seed ${seed}`).toEqual([
        ["Ana", third, `+${third}`],
        ["Ben", first, `+${first}`],
      ]);
      const ana = contacts.find((c) => c.name === "Ana")?.id;
      const owners = (await world.inbox.messages()).map((m) => [m.wa_message_id, m.contact_id === ana]).sort();
      expect(owners, `seed ${seed}`).toEqual([
        ["wamid.1", true],
        ["wamid.2", true],
        ["wamid.3", true],
        ["wamid.4", false],
      ]);
      expect(await world.inbox.conversations()).toHaveLength(2);
      await expectExactCounts(world.workspace.workspaceId);
    }
  });

  it("to a number that wrote already makes one contact of two, and frees the old one", async () => {
    const world = await ready();
    const [old, now] = [digits(), digits()];
    await world.settle(says(world.number, { wa: old, name: "Ana" }, { at: ago(60) }));
    await world.settle(says(world.number, { wa: now, name: "Ana again" }, { at: ago(40) }));
    expect(await world.settle(changedNumber(world.number, old, now, ago(50)))).toBe(1);
    expect(await world.inbox.contacts()).toMatchObject([{ name: "Ana", wa_id: now, phone_number: `+${now}` }]);
    expect(await world.inbox.conversations()).toMatchObject([{ message_count: 2, unread_count: 2 }]);
    expect((await world.inbox.identities()).filter((i) => i.value === old)).toEqual([]);
    await expectExactCounts(world.workspace.workspaceId);
  });

  it("of a contact that the API made is found, in whichever spelling", async () => {
    const world = await ready();
    const now = digits();
    const response = await world.workspace.call("POST", "/api/messages/send/text", {
      phone_number_id: world.number.id,
      to: "+5531977776666",
      text: "Hello",
    });
    const sent = await response.json<{ contact_id: string; conversation_id: string }>();
    await world.settle(changedNumber(world.number, "553177776666", now, ago(-1)));
    await world.settle(says(world.number, { wa: now }, { at: ago(-2) }));
    expect(await world.inbox.contacts()).toMatchObject([{ id: sent.contact_id, phone_number: `+${now}` }]);
    expect(await world.inbox.conversations()).toMatchObject([{ id: sent.conversation_id, message_count: 2 }]);
    await world.settle(says(world.number, { wa: "553177776666", name: "Ben" }, { at: ago(-3) }));
    expect(await world.inbox.contacts()).toHaveLength(2);
  });

  it("back to the old number ends where it began", async () => {
    const world = await ready();
    const [a, b] = [digits(), digits()];
    const bodies = [
      says(world.number, { wa: a }, { at: ago(60) }),
      changedNumber(world.number, a, b, ago(50)),
      changedNumber(world.number, b, a, ago(40)),
      says(world.number, { wa: a }, { at: ago(30) }),
    ];
    await world.settle(...bodies);
    await world.settle(...shuffled(bodies, 3));
    expect(await world.inbox.contacts()).toMatchObject([{ wa_id: a, phone_number: `+${a}` }]);
    expect(await world.inbox.conversations()).toMatchObject([{ message_count: 2 }]);
  });

  it("is shown to the workspace, once for each that was told", async () => {
    const world = await ready();
    const change = changedNumber(world.number, digits(), digits(), ago(50));
    await world.settle(change, change);
    expect((await world.inbox.events()).map((e) => e.kind)).toEqual(["identity_change"]);
  });
});

describe("a change of user id", () => {
  it("keeps contact and thread, by the field or by a system message; the new id is answered", async () => {
    const world = await ready();
    const [one, two, three] = [1, 2, 3].map((n) => `US.${n}${crypto.randomUUID().replaceAll("-", "")}`);
    await world.settle(says(world.number, { user: one }, { at: ago(60) }));
    await world.settle(idUpdate(world.number, one ?? "", two ?? "", ago(50)));
    await world.settle(says(world.number, { user: two }, { at: ago(40) }));
    const system = { body: "User…", type: "user_changed_user_id", user_id: three };
    await world.settle(
      about(world.number, { messages: [message({ user: two }, { type: "system", at: ago(30), system })] }),
    );
    await world.settle(says(world.number, { user: three }, { at: ago(20) }));
    expect(await world.inbox.contacts()).toMatchObject([{ user_id: three }]);
    const [thread] = await world.inbox.conversations();
    expect(thread).toMatchObject({ message_count: 3 });
    expect(await answer(world, thread?.id)).toMatchObject({ recipient: three });
  });

  it("says nothing about the number", async () => {
    const world = await ready();
    const [wa, one, two] = [digits(), `US.1${Date.now()}`, `US.2${Date.now()}`];
    await world.settle(says(world.number, { wa, user: one }, { at: ago(60) }));
    await world.settle(idUpdate(world.number, one, two, ago(50), wa));
    expect(await world.inbox.contacts()).toMatchObject([{ wa_id: wa, user_id: two, phone_number: `+${wa}` }]);
    await world.settle(says(world.number, { wa }, { at: ago(40) }));
    expect(await world.inbox.contacts()).toHaveLength(1);
  });

  it("needs no number of ours in it", async () => {
    const world = await ready();
    const [one, two] = [`US.3${Date.now()}`, `US.4${Date.now()}`];
    await world.settle(says(world.number, { user: one }, { at: ago(60) }));
    const update = { user_id: { previous: one, current: two }, timestamp: String(ago(50) / 1000) };
    const entry = {
      id: world.number.businessId,
      changes: [{ field: "user_id_update", value: { user_id_update: [update] } }],
    };
    await world.settle({ object: "whatsapp_business_account", entry: [entry] });
    expect(await world.inbox.contacts()).toMatchObject([{ user_id: two }]);
    expect((await world.inbox.events()).map((e) => e.kind)).toEqual(["identity_change"]);
  });
});

describe("two contacts that are one person", () => {
  it("become one: threads, messages, counts, names and consent; the old thread leads to the new", async () => {
    const world = await ready();
    const second = await registerNumber(world.workspace);
    const [wa, user] = [digits(), `US.5${Date.now()}${Math.floor(Math.random() * 1e6)}`];
    await world.settle(says(world.number, { wa, name: "Ana" }, { at: ago(60) }), says(second, { wa }, { at: ago(59) }));
    await world.settle(
      says(world.number, { user, username: "ana" }, { at: ago(50), text: { body: "STOP" } }),
      says(world.number, { user }, { at: ago(49), text: { body: "the newest" } }),
    );
    const threads = await world.inbox.conversations();
    const loser = threads.find((v) => v.message_count === 2);
    const winner = threads.find((v) => v.phone_number_id === world.number.id && v.message_count === 1);
    expect(await world.settle(says(world.number, { wa, user }, { at: ago(55) }))).toBe(1);

    expect(await world.inbox.contacts()).toMatchObject([
      { name: "Ana", username: "ana", wa_id: wa, user_id: user, opted_in: 0, opted_out_at: ago(50) },
    ]);
    const [contactNow] = await world.inbox.contacts();
    const after = await world.inbox.conversations();
    expect(after.map((v) => [v.phone_number_id === second.id, v.message_count, v.unread_count]).sort()).toEqual([
      [false, 4, 4],
      [true, 1, 1],
    ]);
    expect(after.find((v) => v.id === winner?.id)).toMatchObject({
      last_message_preview: "the newest",
      last_message_at: ago(49),
      last_inbound_at: ago(49),
    });
    expect((await world.inbox.messages()).every((m) => m.contact_id === contactNow?.id)).toBe(true);
    await expectExactCounts(world.workspace.workspaceId);

    const old = await world.workspace.call("GET", `/api/conversations/${String(loser?.id)}`);
    expect(await old.json()).toMatchObject({ id: winner?.id, message_count: 4 });
    const list = await world.workspace.call("GET", `/api/conversations?workspace_id=${world.workspace.workspaceId}`);
    const page = await list.json<{ data: { id: string }[]; total: number }>();
    expect(page.total).toBe(2);
    expect(page.data.map((v) => v.id)).not.toContain(loser?.id);
  });

  it("in a chain of merges, in any order and at once, all end at the oldest, one step away", async () => {
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 0, 2],
    ]) {
      const world = await ready();
      const people = [digits(), digits(), digits(), digits()];
      for (const wa of people) await world.settle(says(world.number, { wa }, { at: ago(60) }));
      const contacts = await world.inbox.contacts();
      const jobs = [0, 1, 2].map((n) => ({
        v: 1,
        kind: "contact.merge",
        workspaceId: world.workspace.workspaceId,
        shard: 0,
        contactIds: [contacts[n]?.id, contacts[n + 1]?.id],
        again: false,
      }));
      const { env: held, held: queues } = heldQueues();
      const ordered = order.map((n) => jobs[n]);
      await Promise.all([...ordered, ...ordered].map((job) => deliver("bulk", [job], { env: held })));
      await runMerges(queues);
      const all = await world.inbox.allContacts();
      expect(all.map((c) => c.merged_into)).toEqual([null, ...Array(3).fill(contacts[0]?.id)]);
      expect(await world.inbox.conversations()).toMatchObject([{ message_count: 4, unread_count: 4 }]);
      const stored = await env.SHARD_0.prepare(
        "SELECT merged_into FROM conversations WHERE workspace_id = ?1 AND merged_into IS NOT NULL",
      )
        .bind(world.workspace.workspaceId)
        .all<{ merged_into: string }>();
      const [live] = await world.inbox.conversations();
      expect(stored.results.map((row) => row.merged_into)).toEqual(Array(3).fill(live?.id));
      await expectExactCounts(world.workspace.workspaceId);
    }
  });

  it("with a thread of thousands of messages are merged a piece at a time, by runs that may be repeated", async () => {
    const world = await ready();
    const [wa, user] = [digits(), `US.6${Date.now()}`];
    await world.settle(says(world.number, { wa }, { at: ago(2000) }));
    const many = Array.from({ length: 2500 }, (_, n) =>
      message({ user }, { id: `wamid.many.${n}`, at: ago(1500) + n * 1000 }),
    );
    await world.settle(about(world.number, { messages: many }));
    const merges = await world.settle(says(world.number, { wa, user }, { at: ago(1) }));
    expect(merges).toBe(1);
    expect(await world.inbox.conversations()).toMatchObject([{ message_count: 2502, unread_count: 2502 }]);
    const [thread] = await world.inbox.conversations();
    const [person] = await world.inbox.contacts();
    const messages = await world.inbox.messages();
    expect(messages.every((m) => m.conversation_id === thread?.id && m.contact_id === person?.id)).toBe(true);
    await expectExactCounts(world.workspace.workspaceId);
  });

  it("take along what was on its way to the other one when they were merged", async () => {
    const world = await ready();
    const [wa, user] = [digits(), `US.7${Date.now()}`];
    await world.settle(says(world.number, { wa }, { at: ago(60) }));
    await world.settle(says(world.number, { user }, { at: ago(50) }));
    const [winner, loser] = await world.inbox.contacts();
    await world.settle(says(world.number, { wa, user }, { at: ago(40) }));
    // A request that had read the other contact before writes now: an identity, and a thread with another number.
    const late = await registerNumber(world.workspace);
    await env.SHARD_0.batch([
      env.SHARD_0.prepare(
        "INSERT INTO contact_identities (workspace_id, kind, value, contact_id) VALUES (?1, 'wa', '49301', ?2)",
      ).bind(world.workspace.workspaceId, loser?.id),
      env.SHARD_0.prepare(
        `INSERT INTO conversations (workspace_id, id, phone_number_id, contact_id, peer, last_message_at, unread_count, message_count, status, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, 'late', 5, 0, 0, 'open', 5, 5)`,
      ).bind(world.workspace.workspaceId, crypto.randomUUID(), late.id, loser?.id),
    ]);
    const job = {
      v: 1,
      kind: "contact.merge",
      workspaceId: world.workspace.workspaceId,
      shard: 0,
      contactIds: [winner?.id, loser?.id],
      again: true,
    };
    await deliver("bulk", [job]);
    expect((await world.inbox.identities()).every((i) => i.contact_id === winner?.id)).toBe(true);
    expect((await world.inbox.conversations()).every((v) => v.contact_id === winner?.id)).toBe(true);
  });

  it("are merged when the provider's answer to a send shows it", async () => {
    const world = await ready();
    // 5531… is answered without the ninth digit, and under that id somebody wrote before anyone was called.
    await env.SHARD_0.prepare("SELECT 1").all();
    await world.settle(says(world.number, { wa: "553155554444" }, { at: ago(60) }));
    const response = await world.workspace.call("POST", "/api/messages/send/text", {
      phone_number_id: world.number.id,
      to: "+5531955554444",
      text: "Hello",
    });
    const sent = await response.json<{ id: string }>();
    await untilStatus(sent.id, world.workspace.workspaceId, "sent");
    await expect.poll(async () => (await world.inbox.contacts()).length, { timeout: 10_000 }).toBe(1);
    await expect.poll(async () => (await world.inbox.conversations()).map((v) => v.message_count)).toEqual([2]);
  });

  it("consent of the newer proof wins, and being opted in is not lost where nobody ever said", async () => {
    const world = await ready();
    const response = await world.workspace.call("POST", "/api/messages/send/text", {
      phone_number_id: world.number.id,
      to: `+${digits()}`,
      text: "Hi",
    });
    const { contact_id } = await response.json<{ contact_id: string }>();
    await env.SHARD_0.prepare("UPDATE contacts SET opted_in = 1 WHERE workspace_id = ?1 AND id = ?2")
      .bind(world.workspace.workspaceId, contact_id)
      .run();
    await world.settle(says(world.number, { user: "US.consent" }));
    const [one, two] = await world.inbox.contacts();
    const job = {
      v: 1,
      kind: "contact.merge",
      workspaceId: world.workspace.workspaceId,
      shard: 0,
      contactIds: [one?.id, two?.id],
      again: false,
    };
    await deliver("bulk", [job], { env: heldQueues().env });
    expect(await world.inbox.contacts()).toMatchObject([{ opted_in: 1, opted_out_at: null }]);
  });
});
