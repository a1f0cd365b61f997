import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { newWorkspace } from "./support/identity";
import {
  about,
  ago,
  change,
  changedNumber,
  contact,
  digits,
  eventually,
  expectExactCounts,
  inboxOf,
  jobOf,
  message,
  post,
  receive,
  says,
  shuffled,
  status,
  wamid,
} from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, heldQueues, untilStatus } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { eventsOf, openFeed } from "./support/sockets";

async function ready(options: Parameters<typeof newWorkspace>[0] = {}) {
  const workspace = await newWorkspace(options);
  const number = await registerNumber(workspace);
  return { workspace, number, inbox: inboxOf(workspace.workspaceId) };
}

async function send(workspace: Awaited<ReturnType<typeof ready>>["workspace"], numberId: string, to: string) {
  const body = { workspace_id: workspace.workspaceId, phone_number_id: numberId, to: `+${to}`, text: "Hello" };
  const response = await workspace.call("POST", "/api/messages/send/text", body);
  expect(response.status, await response.clone().text()).toBe(201);
  return response.json<{ id: string }>();
}

describe("every webhook five times, shuffled, split and merged", () => {
  it("stores each message once, ends every status right and keeps every count exact", async () => {
    const { workspace, number, inbox } = await ready();
    const to = Array.from({ length: 6 }, digits);
    const sent: { id: string }[] = [];
    for (const person of to) sent.push(await send(workspace, number.id, person));
    for (const { id } of sent) await untilStatus(id, workspace.workspaceId, "sent");
    for (const person of to.slice(0, 4)) {
      for (const text of ["one", "two", "three"]) {
        await sandbox.customerSends(`+${person}`, { to: number.providerNumberId, type: "text", text: { body: text } });
      }
    }
    const stats = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    await sandbox.orderStatus(stats.data.find((m) => m.recipient.endsWith(to[5] ?? ""))?.id ?? "", "failed", 131026);

    const report = await sandbox.flush({ order: "shuffle", duplicate: 5, batch: 3, seed: 7, concurrency: 4 });
    expect(report.pending).toBe(0);
    for (const [place, { id }] of sent.entries()) {
      const row = await untilStatus(id, workspace.workspaceId, "read");
      expect(row.sent_at, `sent ${place}`).not.toBeNull();
      expect(row.delivered_at).not.toBeNull();
      expect(Number(row.sent_at)).toBeLessThanOrEqual(Number(row.delivered_at));
      expect(Number(row.delivered_at)).toBeLessThanOrEqual(Number(row.read_at));
      // delivered and read override a failure.
      expect(row).toMatchObject({ error: null, failed_at: null });
    }
    await eventually(async () => expect(await inbox.messages()).toHaveLength(6 + 12));
    await expectExactCounts(workspace.workspaceId);
    const before = await inbox.messages();

    // All of it once more, in other company.
    await sandbox.redeliver();
    await sandbox.flush({ order: "reverse", duplicate: 2, batch: 50, concurrency: 2 });
    await eventually(async () => expect((await sandbox.stats()).webhooks.pending).toBe(0));
    await receive([says(number, { wa: to[0] }, { id: "wamid.marker" })]);
    await eventually(async () => expect(await inbox.messages()).toHaveLength(19));
    expect((await inbox.messages()).filter((m) => m.wa_message_id !== "wamid.marker")).toEqual(before);
    await expectExactCounts(workspace.workspaceId);
  });

  it("holds for bodies of its own making: every order, duplicates in one batch and over many", async () => {
    for (const seed of [1, 2, 3, 4, 5]) {
      const { workspace, number, inbox } = await ready();
      const people = [digits(), digits(), digits()];
      const outside = [wamid(), wamid()];
      const bodies = [
        ...people.flatMap((wa, n) =>
          [0, 1, 2].map((k) => says(number, { wa, name: `P${n}` }, { id: `wamid.${seed}.${n}.${k}`, at: ago(30 - k) })),
        ),
        ...outside.flatMap((id) =>
          ["sent", "delivered", "read"].map((name, k) =>
            about(number, { statuses: [status(id, name, { at: ago(20 - k), recipient_id: people[0] })] }),
          ),
        ),
        ...outside.map((id) =>
          about(
            number,
            { message_echoes: [{ to: people[0], ...message({ wa: number.providerNumberId }, { id, at: ago(21) }) }] },
            "smb_message_echoes",
          ),
        ),
        about(number, {
          messages: [
            message(
              { wa: people[0] },
              { type: "reaction", reaction: { message_id: `wamid.${seed}.0.0`, emoji: "👍" } },
            ),
          ],
        }),
      ];
      const all = shuffled([...bodies, ...bodies, ...bodies, ...bodies, ...bodies], seed);
      for (let start = 0, size = seed; start < all.length; start += size, size = (size * 2) % 31 || 1) {
        await receive(all.slice(start, start + size), { attempts: start % 3 === 0 ? 2 : 1 });
      }
      const messages = await inbox.messages();
      expect(messages).toHaveLength(9 + 2);
      const echoes = messages.filter((m) => m.direction === "outbound");
      expect(echoes.map((m) => [m.status, m.origin])).toEqual([
        ["read", "echo"],
        ["read", "echo"],
      ]);
      for (const echo of echoes)
        expect([echo.sent_at, echo.delivered_at, echo.read_at].every((t) => t !== null)).toBe(true);
      expect(await inbox.contacts()).toHaveLength(3);
      expect(await inbox.conversations()).toHaveLength(3);
      expect((await inbox.references()).filter((e) => e.kind === "reaction")).toHaveLength(1);
      await expectExactCounts(workspace.workspaceId);
    }
  });
});

describe("one POST with 3 messages and 4 statuses over 2 changes, one of them malformed", () => {
  it("keeps the other six, and shows the malformed one", async () => {
    const { workspace, number, inbox } = await ready();
    const wa = digits();
    const targets = await Promise.all([1, 2, 3, 4].map(() => send(workspace, number.id, wa)));
    for (const { id } of targets) await untilStatus(id, workspace.workspaceId, "sent");
    const ids = await Promise.all(
      targets.map(async ({ id }) => String((await untilStatus(id, workspace.workspaceId, "sent")).wa_message_id)),
    );
    const good = [message({ wa }, { id: "wamid.first" }), message({ wa }, { id: "wamid.second" })];
    const broken = { from: wa, timestamp: "yesterday", id: "wamid.broken", type: "text", text: { body: "?" } };
    await receive([
      post(
        number.businessId,
        change(number, {
          contacts: [contact({ wa })],
          messages: [good[0], broken, good[1]],
          statuses: [status(ids[0] ?? "", "delivered", { recipient_id: wa })],
        }),
        change(number, {
          statuses: ids.slice(1).map((id) => status(id, "delivered", { recipient_id: wa })),
        }),
      ),
    ]);
    const messages = await inbox.messages();
    expect(messages.filter((m) => m.direction === "inbound").map((m) => m.wa_message_id)).toEqual([
      "wamid.first",
      "wamid.second",
    ]);
    expect(messages.filter((m) => m.direction === "outbound").map((m) => m.status)).toEqual(Array(4).fill("delivered"));
    const response = await workspace.call(
      "GET",
      `/api/webhook-events?workspace_id=${workspace.workspaceId}&kind=unknown`,
    );
    const page = await response.json<{ data: Record<string, unknown>[]; total: number }>();
    expect(page.total).toBe(1);
    expect(page.data[0]).toMatchObject({ kind: "unknown", phone_number_id: number.id, payload: broken });
    expect(page.data[0]?.reason).toBe("The message has no time");
  });
});

describe("a batch", () => {
  it("of several workspaces keeps them apart: the same person, number by number, in each of its own", async () => {
    const [a, b] = [await ready(), await ready()];
    const wa = digits();
    await receive([
      says(a.number, { wa, user: "US.same", name: "As A knows them" }, { id: wamid() }),
      says(b.number, { user: "US.same", name: "As B knows them" }, { id: wamid() }),
      says(b.number, { wa: digits(), name: "Somebody else" }, { id: wamid() }),
    ]);
    expect((await a.inbox.contacts()).map((c) => [c.name, c.wa_id, c.user_id])).toEqual([
      ["As A knows them", wa, "US.same"],
    ]);
    expect((await b.inbox.contacts()).map((c) => [c.name, c.wa_id === null])).toEqual([
      ["As B knows them", true],
      ["Somebody else", false],
    ]);
    await expectExactCounts(a.workspace.workspaceId);
    await expectExactCounts(b.workspace.workspaceId);
  });

  it("with the same person under different names makes one contact and one thread", async () => {
    const { workspace, number, inbox } = await ready();
    const wa = digits();
    await receive([
      says(number, { wa, name: "Ana" }),
      says(number, { user: "US.ana", username: "ana" }),
      says(number, { wa, user: "US.ana" }),
      says(number, { user: "US.ana", parent: "US.ENT.ana" }),
      says(number, { parent: "US.ENT.ana" }),
    ]);
    expect(await inbox.contacts()).toMatchObject([
      { name: "Ana", wa_id: wa, user_id: "US.ana", username: "ana", phone_number: `+${wa}` },
    ]);
    expect(await inbox.conversations()).toMatchObject([{ message_count: 5, unread_count: 5 }]);
    expect((await inbox.identities()).map((i) => i.kind)).toEqual(["parent", "user", "wa"]);
    await expectExactCounts(workspace.workspaceId);
  });

  it("larger than one JSON parameter counts every thread over its pieces", async () => {
    const { workspace, number, inbox } = await ready();
    const people = [digits(), digits(), digits()];
    // 1.5 MB of messages of three people, taking turns: every piece holds some of each.
    const bodies = Array.from({ length: 300 }, (_, n) =>
      says(
        number,
        { wa: people[n % 3] },
        { id: `wamid.piece.${n}`, at: ago(400 - n), text: { body: `${n} ${"q".repeat(5000)}` } },
      ),
    );
    for (let start = 0; start < 300; start += 100) await receive(bodies.slice(start, start + 100));
    expect(await inbox.messages()).toHaveLength(300);
    await expectExactCounts(workspace.workspaceId);
    for (const thread of await inbox.conversations()) {
      expect(thread.message_count).toBe(100);
      expect(String(thread.last_message_preview)).toMatch(/^29[789] /);
    }
  });

  it("of thousands of items in 100 parts is taken, in transactions of bounded size", async () => {
    const { workspace, number, inbox } = await ready();
    const people = Array.from({ length: 50 }, digits);
    const parts = Array.from({ length: 20 }, (_, part) =>
      about(number, {
        messages: Array.from({ length: 150 }, (_, n) =>
          message({ wa: people[n % 50] }, { id: `wamid.bulk.${part}.${n}`, at: ago(1000 - part) }),
        ),
      }),
    );
    await receive(parts);
    expect(await inbox.messages()).toHaveLength(3000);
    expect(await inbox.contacts()).toHaveLength(50);
    await expectExactCounts(workspace.workspaceId);
  });
});

describe("kinds of messages", () => {
  it("an unknown or unsupported kind is stored with all it said, and a thread shows it", async () => {
    const { workspace, number, inbox } = await ready();
    const wa = digits();
    await receive([
      says(number, { wa }, { type: "some_future_type", some_future_type: { deep: { value: 1 } } }),
      says(number, { wa }, { type: "unsupported", errors: [{ code: 131051, title: "Unsupported" }] }),
      says(number, { wa }, { type: "order", order: { catalog_id: "c1", product_items: [{ quantity: 2 }] } }),
      says(number, { wa }, { type: "request_welcome" }),
    ]);
    const stored = await inbox.messages();
    expect(stored.map((m) => m.type).sort()).toEqual(["order", "request_welcome", "some_future_type", "unsupported"]);
    const future = stored.find((m) => m.type === "some_future_type");
    expect(JSON.parse(String(future?.content))).toEqual({ deep: { value: 1 } });
    const [thread] = await inbox.conversations();
    const response = await workspace.call("GET", `/api/conversations/${String(thread?.id)}/messages`);
    expect((await response.json<{ total: number }>()).total).toBe(4);
  });

  it("a field nobody knows is kept and shown; unknown members of a known one too", async () => {
    const { workspace, number, inbox } = await ready();
    await receive([
      about(number, { something: { new: true } }, "a_field_of_next_year"),
      about(number, { messages: [message({ wa: digits() })], novelty: { x: 1 } }),
    ]);
    expect(await inbox.messages()).toHaveLength(1);
    const events = await inbox.events();
    expect(events.map((e) => e.kind)).toEqual(["unknown", "unknown"]);
    const response = await workspace.call("GET", `/api/webhook-events?workspace_id=${workspace.workspaceId}`);
    const page = await response.json<{ data: { field: string }[]; total: number }>();
    expect(page.total).toBe(2);
    expect(page.data.map((e) => e.field)).toContain("a_field_of_next_year");
  });

  it("updates of a number change what the API shows of it, several in one batch", async () => {
    const { workspace, number } = await ready();
    await receive([
      about(
        number,
        { display_phone_number: number.phoneNumber, decision: "APPROVED", requested_verified_name: "New Name" },
        "phone_number_name_update",
      ),
      about(
        number,
        {
          display_phone_number: number.phoneNumber,
          event: "THROUGHPUT_UPGRADE",
          max_daily_conversations_per_business: "TIER_100K",
        },
        "phone_number_quality_update",
      ),
    ]);
    const row = await env.SHARD_0.prepare("SELECT verified_name, tier, message_limit FROM phone_numbers WHERE id = ?1")
      .bind(number.id)
      .first();
    expect(row).toEqual({ verified_name: "New Name", tier: "HIGH", message_limit: 100_000 });
    // The limit of an account is that of each of its numbers.
    await receive([
      post(number.businessId, {
        field: "business_capability_update",
        value: { max_daily_conversations_per_business: 2000 },
      }),
    ]);
    const limit = await env.SHARD_0.prepare("SELECT message_limit FROM phone_numbers WHERE id = ?1")
      .bind(number.id)
      .first("message_limit");
    expect(limit).toBe(2000);
    expect((await inboxOf(workspace.workspaceId).events()).map((e) => e.kind).sort()).toEqual([
      "capability",
      "phone_name",
      "phone_quality",
    ]);
  });
});

describe("what comes from another side than the customer's", () => {
  it("an echo is an outbound message of the thread: no unread, no consent, statuses included", async () => {
    const { number, inbox } = await ready();
    const wa = digits();
    const id = wamid();
    // The statuses come before the echo they belong to.
    await receive([about(number, { statuses: [status(id, "delivered", { at: ago(1), recipient_id: wa })] })]);
    await receive([
      about(number, {
        statuses: [status(id, "sent", { at: ago(2), recipient_id: wa, pricing: { category: "service" } })],
      }),
    ]);
    await receive([
      about(
        number,
        {
          message_echoes: [
            { to: wa, ...message({ wa: number.providerNumberId }, { id, at: ago(2), text: { body: "STOP" } }) },
          ],
        },
        "smb_message_echoes",
      ),
    ]);
    expect(await inbox.messages()).toMatchObject([
      {
        direction: "outbound",
        origin: "echo",
        status: "delivered",
        to_number: `+${wa}`,
        sent_at: ago(2),
        delivered_at: ago(1),
        wa_message_id: id,
      },
    ]);
    expect(JSON.parse(String((await inbox.messages())[0]?.pricing))).toEqual({ category: "service" });
    expect(await inbox.conversations()).toMatchObject([{ unread_count: 0, message_count: 1, last_inbound_at: null }]);
    expect(await inbox.contacts()).toMatchObject([{ consent_at: null, opted_out_at: null }]);
    await receive([about(number, { statuses: [status(id, "read", { at: ago(0), recipient_id: wa })] })]);
    expect(await inbox.messages()).toMatchObject([{ status: "read", read_at: ago(0) }]);
  });

  it("a failed message sent elsewhere shows its failure once its echo is there", async () => {
    const { number, inbox } = await ready();
    const wa = digits();
    const id = wamid();
    const errors = [{ code: 131026, title: "Undeliverable" }];
    await receive([
      about(number, {
        statuses: [
          status(id, "sent", { at: ago(3), recipient_id: wa }),
          status(id, "failed", { at: ago(2), recipient_id: wa, errors }),
        ],
      }),
    ]);
    await receive([
      about(
        number,
        { message_echoes: [{ to: wa, ...message({ wa: number.providerNumberId }, { id, at: ago(3) }) }] },
        "smb_message_echoes",
      ),
    ]);
    expect(await inbox.messages()).toMatchObject([{ status: "failed", failed_at: ago(2), sent_at: ago(3) }]);
  });

  it("history fills threads without unread, consent or window, and its statuses stand", async () => {
    const { workspace, number, inbox } = await ready();
    const wa = digits();
    const old = { at: ago(60 * 24 * 30) };
    const thread = {
      id: wa,
      messages: [
        { ...message({ wa }, { id: "wamid.h1", ...old, text: { body: "STOP" } }), history_context: { status: "READ" } },
        {
          ...message({ wa: number.providerNumberId }, { id: "wamid.h2", ...old }),
          to: wa,
          history_context: { status: "DELIVERED" },
        },
      ],
    };
    await receive([
      about(
        number,
        { history: [{ metadata: { phase: 0, chunk_order: 1, progress: 55 }, threads: [thread] }] },
        "history",
      ),
    ]);
    expect((await inbox.messages()).map((m) => [m.direction, m.origin, m.status]).sort()).toEqual([
      ["inbound", "history", "delivered"],
      ["outbound", "history", "delivered"],
    ]);
    expect(await inbox.conversations()).toMatchObject([{ unread_count: 0, message_count: 2, last_inbound_at: null }]);
    expect(await inbox.contacts()).toMatchObject([{ opted_out_at: null, consent_at: null }]);
    await expectExactCounts(workspace.workspaceId);
  });

  it("a message that was told as history and live is one", async () => {
    const { number, inbox } = await ready();
    const wa = digits();
    const live = message({ wa }, { id: "wamid.both", at: ago(5) });
    await receive([about(number, { contacts: [contact({ wa })], messages: [live] })]);
    await receive([about(number, { history: [{ threads: [{ id: wa, messages: [live] }] }] }, "history")]);
    expect(await inbox.messages()).toMatchObject([{ origin: "live" }]);
    expect(await inbox.conversations()).toMatchObject([{ unread_count: 1, message_count: 1 }]);
  });
});

describe("reactions, edits and revokes", () => {
  const thread = async (workspace: Awaited<ReturnType<typeof ready>>["workspace"], id: unknown) => {
    const response = await workspace.call("GET", `/api/conversations/${String(id)}/messages`);
    return (await response.json<{ data: Record<string, unknown>[] }>()).data;
  };

  it("stand with their message, whether they came before it or after", async () => {
    for (const order of ["before", "after"]) {
      const { workspace, number, inbox } = await ready();
      const wa = digits();
      const target = wamid();
      const original = says(number, { wa }, { id: target, at: ago(9), text: { body: "first words" } });
      const references = [
        about(number, {
          messages: [message({ wa }, { type: "reaction", at: ago(8), reaction: { message_id: target, emoji: "👍" } })],
        }),
        about(number, {
          messages: [message({ wa }, { type: "reaction", at: ago(7), reaction: { message_id: target, emoji: "❤️" } })],
        }),
        about(number, {
          messages: [
            message(
              { wa },
              {
                type: "edit",
                at: ago(6),
                edit: { original_message_id: target, message: { type: "text", text: { body: "better words" } } },
              },
            ),
          ],
        }),
        about(number, {
          messages: [message({ wa }, { type: "revoke", at: ago(5), revoke: { original_message_id: target } })],
        }),
      ];
      const bodies = order === "before" ? [...references.reverse(), original] : [original, ...references];
      for (const body of bodies) await receive([body]);
      const [conversation] = await inbox.conversations();
      expect(await thread(workspace, conversation?.id)).toMatchObject([
        { content: { body: "better words" }, reactions: [{ from: wa, emoji: "❤️" }], wa_message_id: target },
      ]);
      const [shown] = await thread(workspace, conversation?.id);
      expect(shown?.revoked_at).not.toBeNull();
      expect(conversation).toMatchObject({ message_count: 1, unread_count: 1 });
    }
  });

  it("a reaction taken back is gone, an older one that comes late changes nothing", async () => {
    const { workspace, number, inbox } = await ready();
    const wa = digits();
    const target = wamid();
    const reaction = (emoji: string | undefined, at: number) =>
      about(number, {
        messages: [
          message(
            { wa },
            { type: "reaction", at, reaction: { message_id: target, ...(emoji === undefined ? {} : { emoji }) } },
          ),
        ],
      });
    await receive([says(number, { wa }, { id: target, at: ago(9) })]);
    for (const gone of ["", undefined]) {
      await receive([reaction(gone, ago(gone === undefined ? 1 : 3))]);
      await receive([reaction("😡", ago(5))]);
      const [conversation] = await inbox.conversations();
      expect((await thread(workspace, conversation?.id))[0]?.reactions).toEqual([]);
      await receive([reaction("😀", ago(2))]);
    }
  });

  it("of the same second the later one stands, and repeating the earlier one does not bring it back", async () => {
    const { number, inbox } = await ready();
    const wa = digits();
    const target = wamid();
    const at = ago(1);
    const [like, love] = ["👍", "❤️"].map((emoji) =>
      about(number, { messages: [message({ wa }, { type: "reaction", at, reaction: { message_id: target, emoji } })] }),
    );
    if (!like || !love) throw new Error("Two reactions");
    const emoji = async () => JSON.parse(String((await inbox.references())[0]?.payload)).emoji;
    await receive([like]);
    await receive([love]);
    expect(await emoji()).toBe("❤️");
    await receive([like, love, like], { attempts: 2 });
    expect(await emoji()).toBe("❤️");
  });

  it("of our own side by another app is ours, not the customer's", async () => {
    const { workspace, number, inbox } = await ready();
    const wa = digits();
    const target = wamid();
    await receive([
      says(number, { wa }, { id: target, at: ago(9) }),
      about(number, {
        messages: [message({ wa }, { type: "reaction", at: ago(8), reaction: { message_id: target, emoji: "👍" } })],
      }),
      about(
        number,
        {
          message_echoes: [
            {
              to: wa,
              ...message(
                { wa: number.providerNumberId },
                { type: "reaction", at: ago(7), reaction: { message_id: target, emoji: "🙏" } },
              ),
            },
          ],
        },
        "smb_message_echoes",
      ),
    ]);
    const [conversation] = await inbox.conversations();
    const [shown] = await thread(workspace, conversation?.id);
    expect(shown?.reactions).toMatchObject([
      { from: wa, emoji: "👍" },
      { from: "us", emoji: "🙏" },
    ]);
  });
});

describe("groups", () => {
  it("have a thread of their own, whoever writes in them; the authors stand with the messages", async () => {
    const { workspace, number, inbox } = await ready();
    const [ana, ben] = [digits(), digits()];
    const group = `Y2FwaV9ncm91cDo${crypto.randomUUID()}`;
    await receive([
      says(number, { wa: ana, name: "Ana" }, "Just me"),
      says(number, { wa: ana, name: "Ana" }, { group_id: group, text: { body: "STOP" } }),
      says(number, { wa: ben, user: "US.ben", name: "Ben" }, { group_id: group, text: { body: "Hi all" } }),
    ]);
    const contacts = await inbox.contacts();
    expect(contacts.map((c) => c.kind).sort()).toEqual(["group", "person"]);
    // Nobody leaves anything by a word in a group.
    expect(contacts.every((c) => c.opted_out_at === null)).toBe(true);
    const threads = await inbox.conversations();
    expect(threads.map((v) => v.message_count).sort()).toEqual([1, 2]);
    const inGroup = (await inbox.messages()).filter(
      (m) => m.contact_id === contacts.find((c) => c.kind === "group")?.id,
    );
    expect(inGroup.map((m) => JSON.parse(String(m.content)).author)).toEqual([
      { wa_id: ana, user_id: null, name: "Ana" },
      { wa_id: ben, user_id: "US.ben", name: "Ben" },
    ]);
    // An answer goes to the group.
    const thread = threads.find((v) => v.message_count === 2);
    const response = await workspace.call("POST", "/api/messages/send/text", {
      conversation_id: thread?.id,
      text: "Hello group",
    });
    expect(response.status, await response.clone().text()).toBe(201);
    const { id } = await response.json<{ id: string }>();
    await untilStatus(id, workspace.workspaceId, "sent");
    const { data } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(data.at(-1)?.body).toMatchObject({ to: group, recipient_type: "group" });
  });

  it("status by status of each participant is counted, and the message's own stays what it is", async () => {
    const { workspace, number, inbox } = await ready();
    const group = `Y2FwaV9ncm91cDo${crypto.randomUUID()}`;
    await receive([says(number, { wa: digits() }, { group_id: group })]);
    const [thread] = await inbox.conversations();
    const sent = await workspace.call("POST", "/api/messages/send/text", {
      conversation_id: thread?.id,
      text: "Hello group",
    });
    const { id } = await sent.json<{ id: string }>();
    const row = await untilStatus(id, workspace.workspaceId, "sent");
    const of = (participant: string, name: string) =>
      status(String(row.wa_message_id), name, {
        recipient_type: "group",
        recipient_id: group,
        recipient_participant_id: participant,
        callback: `${id}.1`,
      });
    const [ana, ben] = [digits(), digits()];
    const bodies = [of(ana, "delivered"), of(ana, "read"), of(ben, "delivered"), of(ben, "delivered")].map((s) =>
      about(number, { statuses: [s] }),
    );
    await receive(shuffled([...bodies, ...bodies], 3));
    expect((await inbox.references()).map((e) => [e.kind, e.actor])).toEqual(
      [`${ana} delivered`, `${ana} read`, `${ben} delivered`].sort().map((actor) => ["group_status", actor]),
    );
    const response = await workspace.call("GET", `/api/messages/${id}`);
    expect(await response.json()).toMatchObject({ status: "sent", participants: { delivered: 2, read: 1, failed: 0 } });
  });
});

describe("what is about a message, live", () => {
  it("tells each workspace only of its own threads, though both know a message of that id", async () => {
    const [a, b] = [await ready(), await ready()];
    const id = wamid();
    await receive([
      says(a.number, { wa: digits() }, { id, at: ago(5) }),
      says(b.number, { wa: digits() }, { id, at: ago(5) }),
    ]);
    const { env: quiet } = heldQueues();
    const published: { workspace: string; text: string }[] = [];
    const hub = {
      getByName: (name: string) => ({
        publish: async (write: unknown) => {
          published.push({ workspace: name, text: JSON.stringify(write) });
          return { seq: 1, viewed: [] };
        },
      }),
    };
    const reaction = (number: typeof a.number) =>
      about(number, {
        messages: [message({ wa: digits() }, { type: "reaction", reaction: { message_id: id, emoji: "👍" } })],
      });
    await receive([reaction(a.number), reaction(b.number)], {
      env: { ...quiet, WORKSPACE_HUB: hub } as unknown as Env,
    });
    const [threadA, threadB] = [(await a.inbox.conversations())[0]?.id, (await b.inbox.conversations())[0]?.id];
    expect(published).toHaveLength(2);
    for (const { workspace, text } of published) {
      const [own, foreign] = workspace === a.workspace.workspaceId ? [threadA, threadB] : [threadB, threadA];
      expect(text).toContain(String(own));
      expect(text).not.toContain(String(foreign));
    }
  });
});

describe("the tenant comes from the authenticated path", () => {
  it("on a connection's own address what names another number is unknown for that connection, whatever it is", async () => {
    const [mine, theirs] = [await ready(), await ready()];
    const wa = digits();
    await receive([says(theirs.number, { wa, name: "Ana" }, { id: "wamid.theirs", at: ago(50) })]);
    const before = { contacts: await theirs.inbox.contacts(), messages: await theirs.inbox.messages() };
    const foreign = [
      says(theirs.number, { wa }, "STOP"),
      changedNumber(theirs.number, wa, digits(), ago(40)),
      about(theirs.number, {
        messages: [message({ wa }, { type: "revoke", revoke: { original_message_id: "wamid.theirs" } })],
      }),
      about(theirs.number, { decision: "APPROVED", requested_verified_name: "Mine now" }, "phone_number_name_update"),
      // Only the display number, and only the account, are somebody else's.
      post(null, {
        field: "phone_number_quality_update",
        value: { display_phone_number: theirs.number.phoneNumber, event: "THROUGHPUT_UPGRADE" },
      }),
      post(theirs.number.businessId, { field: "account_update", value: { event: "DISABLED_UPDATE" } }),
    ];
    const result = await deliver(
      "inbound",
      foreign.map((body) => jobOf(body, { connection: mine.number.id })),
    );
    expect(result.retryMessages).toEqual([]);
    expect(await theirs.inbox.contacts()).toEqual(before.contacts);
    expect(await theirs.inbox.messages()).toEqual(before.messages);
    expect(await theirs.inbox.events()).toEqual([]);
    expect(await theirs.inbox.references()).toEqual([]);
    expect(await mine.inbox.messages()).toEqual([]);
    expect(await mine.inbox.contacts()).toEqual([]);
    const kept = await mine.inbox.events();
    expect(kept).toHaveLength(foreign.length);
    for (const event of kept) {
      expect(event).toMatchObject({ kind: "unknown", phone_number_id: mine.number.id });
      expect(event.reason).toBe("It names another number than the connection it came in on");
    }
  });

  it("on a connection's own address what names its number, or nothing, is its own", async () => {
    const { number, inbox } = await ready();
    const wa = digits();
    const bare = {
      object: "whatsapp_business_account",
      entry: [{ changes: [{ value: { contacts: [contact({ wa })], messages: [message({ wa })] } }] }],
    };
    await deliver(
      "inbound",
      [says(number, { wa }), bare].map((body) => jobOf(body, { connection: number.id })),
    );
    expect(await inbox.messages()).toHaveLength(2);
  });

  it("an account in two workspaces: each number's messages to its own, what is about the account to both", async () => {
    const [one, two] = [await ready(), await ready()];
    const account = `77${Date.now()}`;
    await env.DIRECTORY.prepare("UPDATE provider_numbers SET business_id = ?3 WHERE phone_number_id IN (?1, ?2)")
      .bind(one.number.id, two.number.id, account)
      .run();
    const template = {
      event: "REJECTED",
      message_template_id: 9007199254740993n.toString(),
      message_template_name: "t",
      reason: "SCAM",
    };
    await receive([
      post(
        account,
        change(one.number, { messages: [message({ wa: digits() })] }),
        change(two.number, { messages: [message({ wa: digits() })] }),
        {
          field: "message_template_status_update",
          value: template,
        },
      ),
    ]);
    for (const { inbox } of [one, two]) {
      expect(await inbox.messages()).toHaveLength(1);
      expect((await inbox.events()).map((e) => [e.kind, e.phone_number_id])).toEqual([["template_status", null]]);
    }
    // A number of that account which nobody registered says nothing about those that are.
    await receive([
      post(account, {
        field: "phone_number_quality_update",
        value: { display_phone_number: "1999", event: "THROUGHPUT_UPGRADE" },
      }),
    ]);
    const tiers = await env.SHARD_0.prepare("SELECT DISTINCT tier FROM phone_numbers WHERE id IN (?1, ?2)")
      .bind(one.number.id, two.number.id)
      .all();
    expect(tiers.results).toEqual([{ tier: "STANDARD" }]);
  });

  it("a number that was deleted, or never was, is nobody's: kept for the operator, shown to no tenant", async () => {
    const { workspace, number, inbox } = await ready();
    expect((await workspace.call("DELETE", `/api/phone-numbers/${number.id}`)).status).toBe(204);
    const before = (await env.DIRECTORY.prepare("SELECT count(*) AS n FROM unrouted_events").first<number>("n")) ?? 0;
    await receive([
      says(number, { wa: digits() }),
      says({ ...number, providerNumberId: "1234500000" }, { wa: digits() }),
    ]);
    await deliver("inbound", [jobOf(says(number, { wa: digits() }), { connection: number.id })]);
    expect(await inbox.messages()).toEqual([]);
    expect(await inbox.events()).toEqual([]);
    expect((await env.DIRECTORY.prepare("SELECT count(*) AS n FROM unrouted_events").first<number>("n")) ?? 0).toBe(
      before + 3,
    );
  });

  it("a second shard in the same batch is stored and shown where it belongs", async () => {
    const here = await ready();
    const there = await ready({ shard: 1 });
    const feed = await openFeed(there.workspace, there.workspace.workspaceId);
    await receive([
      says(here.number, { wa: digits() }),
      says(there.number, { wa: digits(), name: "Over there" }),
      says(here.number, { wa: digits() }),
    ]);
    expect(await here.inbox.messages()).toHaveLength(2);
    const stored = await env.SHARD_1.prepare("SELECT count(*) AS n FROM messages WHERE workspace_id = ?1")
      .bind(there.workspace.workspaceId)
      .first("n");
    expect(stored).toBe(1);
    const response = await there.workspace.call(
      "GET",
      `/api/conversations?workspace_id=${there.workspace.workspaceId}`,
    );
    expect(await response.json()).toMatchObject({ total: 1, data: [{ contact: { name: "Over there" } }] });
    await eventually(async () => expect(eventsOf(feed).map((event) => event.type)).toContain("message.created"));
    feed.close();
  });
});
