import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { beginErasure, selectErasure, takeLateThreads } from "../src/contacts/store-erase";
import type { PhoneNumber } from "../src/phone-numbers/service";
import { shard } from "../src/platform/runtime";
import {
  bucketDump,
  contactOf,
  dumpOf,
  erasureRow,
  jobOf,
  json,
  order,
  type Row,
  runToEnd,
  soon,
} from "./support/erasure";
import { memberWithRole, newWorkspace, testRuntime } from "./support/identity";
import {
  about,
  ago,
  contact,
  digits,
  expectExactCounts,
  inboxOf,
  message,
  receive,
  says,
  status,
  wamid,
} from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, fireCron, heldQueues } from "./support/pipeline";
import { seedMessages } from "./support/seed";
import { webhookJob } from "./support/webhooks";

/** What the search index holds, as the bytes of its segments. */
async function indexHolds(text: string): Promise<boolean> {
  const { results } = await env.SHARD_0.prepare("SELECT block FROM contacts_fts_data").all<{ block: number[] }>();
  return results.some(({ block }) => new TextDecoder("latin1").decode(new Uint8Array(block)).includes(text));
}

/** The frames a client that was away gets from the workspace's hub. */
async function replayOf(workspaceId: string): Promise<string> {
  const hub = env.WORKSPACE_HUB.getByName(workspaceId);
  const connect = {
    seat: { workspace_id: workspaceId, user_id: null, role: null },
    issued_at: Date.now() + 1000,
    ticket: null,
    since: 0,
    thread: null,
  };
  const response = await hub.fetch("https://live.internal/", {
    headers: { Upgrade: "websocket", "X-Live-Connect": JSON.stringify(connect) },
  });
  const socket = response.webSocket;
  if (!socket) throw new Error("No socket");
  const frames: string[] = [];
  const done = new Promise<void>((resolve) => {
    socket.addEventListener("message", ({ data }) => {
      frames.push(String(data));
      if (String(data).includes('"pong"')) resolve();
    });
  });
  socket.accept();
  socket.send(JSON.stringify({ type: "ping" }));
  await done;
  socket.close(1000);
  return frames.join("\n");
}

async function ready() {
  const workspace = await newWorkspace();
  const number = await registerNumber(workspace);
  return { workspace, number };
}

/** A real-looking provider id: WhatsApp packs the number into it. */
function packedId(wa: string): string {
  return `wamid.${btoa(`\x1c\x15\x02\x00\x11\x18\x14${wa}\x00${Math.random()}`)}`;
}

/** Puts traces of a person everywhere. */
async function leaveTraces(number: PhoneNumber, wa: string, name: string, other: string) {
  const first = packedId(wa);
  await receive([
    says(number, { wa, name, user: `US.${wa}9` }, { id: first, text: { body: `${name} wants the secret cake` } }),
    says(number, { wa: other, name: "Olga Other" }, "Nothing to hide"),
    // A reaction, and a status of a message sent elsewhere.
    about(number, {
      contacts: [contact({ wa })],
      messages: [message({ wa }, { type: "reaction", reaction: { message_id: first, emoji: "👍" } })],
      statuses: [{ id: packedId(wa), status: "delivered", timestamp: String(ago(1) / 1000), recipient_id: wa }],
    }),
    // An event that is kept as it came.
    about(
      number,
      {
        contacts: [contact({ wa, name })],
        user_preferences: [
          {
            wa_id: wa,
            detail: "User requested to stop",
            category: "marketing_messages",
            value: "stop",
            timestamp: ago(1) / 1000,
          },
        ],
      },
      "user_preferences",
    ),
    about(number, { something: { wa_id: wa, said: `${name} again` } }, "new_field"),
    about(number, { something: { wa_id: other, said: "Olga stays" } }, "new_field"),
    // Somebody else's number begins with theirs.
    about(number, { something: { wa_id: `${wa}7`, said: "Longer number" } }, "new_field"),
  ]);
}

describe("erasing a contact", () => {
  it("leaves nothing of name, number or words, and everything of others", async () => {
    const { workspace, number } = await ready();
    const ws = workspace.workspaceId;
    const [wa, other] = [digits(), digits()];
    const name = "Zebulon Quirkwell";
    await leaveTraces(number, wa, name, other);
    const contactId = await contactOf(ws, wa);
    const otherId = await contactOf(ws, other);
    await workspace.call("PATCH", `/api/contacts/${contactId}`, { name, tags: ["Quirkwell family"] });
    // A planned message, and work that was given up: one part names both people.
    await json(
      await workspace.call("POST", "/api/messages/send/text", {
        contact_id: contactId,
        text: `Dear ${name}`,
        scheduled_at: new Date(Date.now() + 86_400_000).toISOString(),
      }),
      201,
    );
    const mixed = about(number, {
      contacts: [contact({ wa, name }), contact({ wa: other, name: "Olga Other" })],
      messages: [message({ wa }, { id: packedId(wa) }), message({ wa: other }, { id: wamid() })],
    });
    await deliver("dead-letters", [
      {
        v: 1,
        kind: "webhook.part",
        provider: "meta",
        connection: null,
        receivedAt: Date.now(),
        firstPosition: 0,
        body: JSON.stringify(mixed),
      },
    ]);
    expect(await dumpOf(env.SHARD_0, ws)).toContain(name);
    expect(await replayOf(ws)).toContain("secret cake");
    expect(await bucketDump()).toContain(name);
    expect(await indexHolds("quirkwell")).toBe(true);

    const answer = await order(workspace, contactId);
    expect(answer).toMatchObject({ contact_id: contactId, workspace_id: ws });
    const numbers = "The person's numbers and ids, by which what is still on its way is recognised";
    expect((answer.remaining as Row[])[0]).toMatchObject({ copy: numbers, gone_by: expect.any(String) });
    const row = await runToEnd(workspace, contactId);
    expect(row).toMatchObject({ status: "completed", names: "[]", threads: "[]" });

    const dump = await dumpOf(env.SHARD_0, ws);
    for (const trace of [name, "Zebulon", "secret cake", "Dear", "Quirkwell", `US.${wa}9`])
      expect(dump).not.toContain(trace);
    expect(dump.replaceAll(`${wa}7`, "")).not.toContain(wa);
    for (const id of dump.match(/wamid\.[A-Za-z0-9+/=]+/g) ?? []) expect(packed(id)).not.toContain(wa);
    const live = await replayOf(ws);
    expect(live).not.toContain("secret cake");
    expect(live).not.toContain(contactId);
    expect(live).toContain("Nothing to hide");
    const bucket = await bucketDump();
    expect(bucket).not.toContain(name);
    expect(bucket).not.toContain(wa);
    expect(bucket).toContain(other);
    expect(await indexHolds("quirkwell")).toBe(false);
    expect(await indexHolds(wa)).toBe(false);

    // Others are as they were, and every count is true.
    expect(dump).toContain("Olga Other");
    expect(dump).toContain("Nothing to hide");
    expect(dump).toContain("Olga stays");
    expect(dump).toContain("Longer number");
    expect(await json(await workspace.call("GET", `/api/contacts/${otherId}`), 200)).toMatchObject({
      name: "Olga Other",
    });
    await expectExactCounts(ws);
    expect((await workspace.call("GET", `/api/contacts/${contactId}`)).status).toBe(404);
    expect(await json(await workspace.call("GET", "/api/contacts?search=zeb"), 200)).toMatchObject({ total: 0 });
    const messages = (await json(await workspace.call("GET", "/api/messages"), 200)).data as Row[];
    const emptied = messages.filter((one) => one.contact_id === contactId);
    expect(emptied.length).toBeGreaterThan(0);
    for (const one of emptied) {
      expect(one.content).toEqual({ erased: true });
      if (one.direction === "outbound") expect(one.status).toBe("failed");
    }
    const planned = emptied.find((one) => one.direction === "outbound");
    // A late status finds the message, and brings neither its number nor a row of its own.
    await receive([
      about(number, { statuses: [status(packedId(wa), "delivered", { callback: `${String(planned?.id)}.0` })] }),
    ]);
    for (const id of (await dumpOf(env.SHARD_0, ws)).match(/wamid\.[A-Za-z0-9+/=]+/g) ?? [])
      expect(packed(id)).not.toContain(wa);
    expect((await workspace.call("POST", `/api/messages/${String(planned?.id)}/retry`)).status).toBe(409);
  });

  it("makes whoever writes from the same number somebody new", async () => {
    const { workspace, number } = await ready();
    const ws = workspace.workspaceId;
    const wa = digits();
    await receive([says(number, { wa, name: "Old Name" }, "Before")]);
    const before = await contactOf(ws, wa);
    await order(workspace, before);
    await receive([says(number, { wa, name: "New Name" }, { at: soon(), text: { body: "After" } })]);
    await runToEnd(workspace, before);
    const after = await contactOf(ws, wa);
    expect(after).not.toBe(before);
    const dump = await dumpOf(env.SHARD_0, ws);
    expect(dump).toContain("After");
    expect(dump).not.toContain("Old Name");
    expect(dump).not.toContain("Before");
    await expectExactCounts(ws);
    expect(await json(await workspace.call("GET", `/api/contacts/${after}`), 200)).toMatchObject({ name: "New Name" });
  });

  it("goes on after a crash at any step, and twice at once, in a thread of thousands", async () => {
    const { workspace, number } = await ready();
    const ws = workspace.workspaceId;
    const seeded = await seedMessages(env.SHARD_0, {
      workspaceId: ws,
      phoneNumberId: number.id,
      messages: 3000,
      conversations: 2,
    });
    const contactId = seeded.contactId(0);
    const { env: held } = heldQueues();
    await order(workspace, contactId);
    let calls = 0;
    // Every third effect on the database ends the run, after it took place or before.
    const failing = new Proxy(env.SHARD_0, {
      get(target, property) {
        if (property !== "withSession") return Reflect.get(target, property);
        return (...args: [string]) => {
          const session = target.withSession(...args);
          return new Proxy(session, {
            get(inner, name) {
              const value: unknown = Reflect.get(inner, name);
              if (name !== "batch") return typeof value === "function" ? value.bind(inner) : value;
              return async (statements: D1PreparedStatement[]) => {
                calls += 1;
                if (calls % 6 === 3) throw new Error("The isolate is gone");
                const result = await inner.batch(statements);
                if (calls % 6 === 0) throw new Error("The isolate is gone");
                return result;
              };
            },
          });
        };
      },
    });
    for (let runs = 0; runs < 60; runs += 1) {
      const crashing = { ...held, SHARD_0: failing } as Env;
      await Promise.all([
        deliver("bulk", [jobOf(workspace, contactId)], { env: crashing }),
        deliver("bulk", [jobOf(workspace, contactId)], { env: crashing }),
      ]);
      if ((await erasureRow(ws, contactId)).due_at === null) break;
    }
    const row = await runToEnd(workspace, contactId);
    expect(row).toMatchObject({ status: "completed", messages: 1500 });
    const { results } = await env.SHARD_0.prepare("SELECT contact_id, content FROM messages WHERE workspace_id = ?1")
      .bind(ws)
      .all<Row>();
    expect(
      results.filter((one) => one.content === '{"erased":true}').every((one) => one.contact_id === contactId),
    ).toBe(true);
    expect(results.filter((one) => one.content === '{"erased":true}')).toHaveLength(1500);
    expect(await dumpOf(env.SHARD_0, ws)).not.toContain(seeded.digits(0));
    expect(await dumpOf(env.SHARD_0, ws)).toContain(seeded.digits(1));
  });

  it("begins by reading that person's rows, however many others there are", async () => {
    const { workspace, number } = await ready();
    const ws = workspace.workspaceId;
    const seeded = await seedMessages(env.SHARD_0, {
      workspaceId: ws,
      phoneNumberId: number.id,
      messages: 20_000,
      conversations: 2000,
    });
    const db = shard(testRuntime(), 0);
    const who = { workspaceId: ws, contactId: seeded.contactId(7) };
    await beginErasure(db, { ...who, requestedBy: null, dueAt: Date.now() + 60_000 }, [], Date.now());
    expect(db.cost.roundTrips).toBe(1);
    expect(db.cost.rowsRead).toBeLessThanOrEqual(150);
    const after = shard(testRuntime(), 0);
    const erasure = await selectErasure(after, [ws], who.contactId);
    if (!erasure) throw new Error("No erasure");
    await takeLateThreads(after, erasure);
    expect(after.cost.rowsRead).toBeLessThanOrEqual(50);
    // So does the rest: their ten messages, and what there is of events, numbers and letters.
    let read = 0;
    const metered = new Proxy(env.SHARD_0, {
      get(target, property) {
        if (property !== "withSession") return Reflect.get(target, property);
        return (...args: [string]) => {
          const session = target.withSession(...args);
          return new Proxy(session, {
            get(inner, name) {
              const value: unknown = Reflect.get(inner, name);
              if (name !== "batch") return typeof value === "function" ? value.bind(inner) : value;
              return async (statements: D1PreparedStatement[]) => {
                const results = await inner.batch(statements);
                for (const { meta } of results) read += meta.rows_read;
                return results;
              };
            },
          });
        };
      },
    });
    const { env: held } = heldQueues();
    await deliver("bulk", [jobOf(workspace, who.contactId)], { env: { ...held, SHARD_0: metered } as Env });
    expect(await erasureRow(ws, who.contactId)).toMatchObject({ status: "completed", messages: 10 });
    expect(read).toBeLessThanOrEqual(1000);
    await runToEnd(workspace, who.contactId);
    const totals = await inboxOf(ws).totals();
    expect(totals).toMatchObject({ contacts: 1999, conversations: 1999, messages: 20_000 });
  });

  it("is carried on by the cron when its job is lost", async () => {
    const { workspace, number } = await ready();
    const wa = digits();
    await receive([says(number, { wa, name: "Lost Job" })]);
    const contactId = await contactOf(workspace.workspaceId, wa);
    await order(workspace, contactId);
    const { env: held, held: jobs } = heldQueues();
    await fireCron("* * * * *", Date.now() + 6 * 60_000, { env: held });
    expect(jobs.get("BULK")?.map(({ body }) => body)).toContainEqual(jobOf(workspace, contactId));
  });

  it("takes the rows of stored imports", async () => {
    const workspace = await newWorkspace();
    const ws = workspace.workspaceId;
    const file = "phone,name,tags\n+447700900011,Ima Portant,x\nnot a number,Rejected,\n+447700900012,Stays Here,\n";
    const form = new FormData();
    form.append("file", new File([file], "people.csv"));
    const response = await workspace.call("POST", `/api/contacts/import?workspace_id=${ws}`, form);
    await json(response, 200);
    const contactId = await contactOf(ws, "447700900011");
    expect(await bucketDump()).toContain("Ima Portant");
    await order(workspace, contactId);
    await runToEnd(workspace, contactId);
    const bucket = await bucketDump();
    expect(bucket).not.toContain("Ima Portant");
    expect(bucket).not.toContain("447700900011");
    expect(bucket).toContain("Stays Here");
  });

  it("takes what they wrote in groups, and leaves the group", async () => {
    const { workspace, number } = await ready();
    const ws = workspace.workspaceId;
    const [wa, other] = [digits(), digits()];
    const group = `120363${digits()}`;
    const inGroup = (from: string, name: string, text: string) =>
      about(number, {
        contacts: [contact({ wa: from, name })],
        messages: [message({ wa: from }, { id: wamid(), group_id: group, text: { body: text } })],
      });
    await receive([
      says(number, { wa, name: "Group Goer" }, "In private"),
      inGroup(other, "Olga Other", "Who is here?"),
      inGroup(wa, "Group Goer", "It is me, the goer"),
    ]);
    const contactId = await contactOf(ws, wa);
    await order(workspace, contactId);
    await runToEnd(workspace, contactId);
    const dump = await dumpOf(env.SHARD_0, ws);
    for (const trace of [wa, "Group Goer", "It is me", "In private"]) expect(dump).not.toContain(trace);
    expect(dump).toContain("Who is here?");
    const live = await replayOf(ws);
    expect(live).not.toContain("It is me");
    expect(live).toContain("Who is here?");
    await expectExactCounts(ws);
  });

  it("removes files that came with messages, not what others share, and no late fetch brings one back", async () => {
    const { workspace, number } = await ready();
    const ws = workspace.workspaceId;
    const [wa, other] = [digits(), digits()];
    const image = (id: string) => ({ type: "image", image: { id, mime_type: "image/jpeg", sha256: "x" } });
    await receive([
      says(number, { wa, name: "Photo" }, image("71000001")),
      says(number, { wa, name: "Photo" }, image("71000002")),
      says(number, { wa, name: "Photo" }, image("71000003")),
      says(number, { wa: other, name: "Other" }, image("71000004")),
    ]);
    const object = (id: string) =>
      env.SHARD_0.prepare(
        "INSERT INTO media_objects (workspace_id, id, state, sha256, size, created_at) VALUES (?1, ?2, 'ready', ?2, 4, 0)",
      ).bind(ws, id);
    const file = (id: string, pid: string, objectId: string) =>
      env.SHARD_0.prepare(
        `INSERT INTO media (workspace_id, id, type, source, status, object_id, file_name, file_size, mime_type, sha256, phone_number_id, provider_media_id, created_at, updated_at)
         VALUES (?1, ?2, 'image', 'inbound', 'ready', ?3, 'passport of Photo.jpg', 4, 'image/jpeg', ?3, ?4, ?5, 0, 0)
         ON CONFLICT (workspace_id, phone_number_id, provider_media_id) WHERE provider_media_id IS NOT NULL DO UPDATE SET status = 'ready', object_id = excluded.object_id, file_name = excluded.file_name`,
      ).bind(ws, id, objectId, number.id, pid);
    const [own, shared] = [crypto.randomUUID(), crypto.randomUUID()];
    for (const key of [own, shared]) await env.MEDIA.put(`media/${key}`, "face");
    await env.SHARD_0.batch([
      object(own),
      object(shared),
      file(crypto.randomUUID(), "71000001", own),
      file(crypto.randomUUID(), "71000002", shared),
      file(crypto.randomUUID(), "71000004", shared),
    ]);
    const contactId = await contactOf(ws, wa);
    await order(workspace, contactId);
    await runToEnd(workspace, contactId);
    expect(await env.MEDIA.head(`media/${own}`)).toBeNull();
    expect(await env.MEDIA.head(`media/${shared}`)).not.toBeNull();
    const left = async () =>
      (
        await env.SHARD_0.prepare(
          "SELECT provider_media_id AS pid, object_id, file_name, deleted_at FROM media WHERE workspace_id = ?1 ORDER BY 1",
        )
          .bind(ws)
          .all<Row>()
      ).results;
    expect(await left()).toMatchObject([
      { pid: "71000001", file_name: null, deleted_at: expect.any(Number) },
      { pid: "71000002", file_name: null, deleted_at: expect.any(Number) },
      { pid: "71000003", file_name: null, deleted_at: expect.any(Number) },
      { pid: "71000004", object_id: shared, file_name: "passport of Photo.jpg", deleted_at: null },
    ]);
    await deliver("media-jobs", [
      {
        v: 1,
        kind: "media.fetch",
        workspaceId: ws,
        shard: workspace.shard,
        phoneNumberId: number.id,
        providerMediaId: "71000003",
        message: { id: crypto.randomUUID(), conversationId: crypto.randomUUID(), waMessageId: null, type: "image" },
        told: { url: null, mimeType: null, fileName: null },
        attempt: 1,
      },
    ]);
    expect((await left())[2]).toMatchObject({ object_id: null, deleted_at: expect.any(Number) });
  });

  it("waits for a message that is being sent, and for a send that had read the contact before", async () => {
    const { workspace, number } = await ready();
    const ws = workspace.workspaceId;
    const wa = digits();
    await receive([says(number, { wa, name: "Busy" })]);
    const contactId = await contactOf(ws, wa);
    const planned = await json(
      await workspace.call("POST", "/api/messages/send/text", {
        contact_id: contactId,
        text: "On its way",
        scheduled_at: new Date(Date.now() + 86_400_000).toISOString(),
      }),
      201,
    );
    await env.SHARD_0.prepare(
      "UPDATE messages SET status = 'sending', open = 1, claim = 'c', lease_until = ?2 WHERE id = ?1",
    )
      .bind(planned.id, Date.now() + 60_000)
      .run();
    await order(workspace, contactId);
    const run = () => deliver("bulk", [jobOf(workspace, contactId)], { env: heldQueues().env });
    while ((await erasureRow(ws, contactId)).look === 1) await run();
    expect(await erasureRow(ws, contactId)).toMatchObject({ status: "processing", completed_at: null });
    const sending = await env.SHARD_0.prepare("SELECT * FROM messages WHERE id = ?1").bind(planned.id).first<Row>();
    expect(sending).toMatchObject({ status: "sending", to_number: `+${wa}` });
    // It is sent; and a call that had found the contact stores its thread and message, and a name, now.
    await env.SHARD_0.batch([
      env.SHARD_0.prepare("UPDATE messages SET status = 'sent', open = NULL, claim = NULL WHERE id = ?1").bind(
        planned.id,
      ),
      env.SHARD_0.prepare(
        `INSERT INTO conversations (workspace_id, id, phone_number_id, contact_id, peer, last_message_at, unread_count, message_count, status, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, 1, 'open', 0, 0)`,
      ).bind(ws, "late-thread", number.id, contactId, wa),
      env.SHARD_0.prepare(
        `INSERT INTO messages (workspace_id, id, phone_number_id, conversation_id, contact_id, direction, origin, type, content, status, to_number, lane, open, seq,
           not_before, attempts, failures, at, received_at, position, created_at)
         VALUES (?1, 'late-message', ?2, 'late-thread', ?3, 'outbound', 'api', 'text', '{"body":"Too late"}', 'queued', ?4, 'chat', 1, 0, 0, 0, 0, 0, 0, 0, 0)`,
      ).bind(ws, number.id, contactId, `+${wa}`),
      env.SHARD_0.prepare(
        "INSERT INTO contact_identities (workspace_id, kind, value, contact_id) VALUES (?1, 'user', 'US.late-name', ?2)",
      ).bind(ws, contactId),
      env.SHARD_0.prepare(
        "UPDATE list_totals SET n = n + 1 WHERE workspace_id = ?1 AND list IN ('messages', 'conversations')",
      ).bind(ws),
    ]);
    const row = await runToEnd(workspace, contactId);
    expect(row).toMatchObject({ status: "completed", completed_at: expect.any(Number) });
    const dump = await dumpOf(env.SHARD_0, ws);
    for (const trace of [wa, "On its way", "Too late", "Busy", "US.late-name"]) expect(dump).not.toContain(trace);
    const late = await env.SHARD_0.prepare("SELECT status, open FROM messages WHERE id = 'late-message'").first<Row>();
    expect(late).toEqual({ status: "failed", open: null });
    await expectExactCounts(ws);
  });

  it("takes what campaigns froze of them", async () => {
    const { workspace, number } = await ready();
    const ws = workspace.workspaceId;
    const wa = digits();
    await receive([says(number, { wa, name: "Frozen Name" })]);
    const contactId = await contactOf(ws, wa);
    const campaign = crypto.randomUUID();
    const recipient = (id: string, name: string) =>
      env.SHARD_0.prepare(
        "INSERT INTO campaign_recipients (workspace_id, campaign_id, contact_id, state, fields) VALUES (?1, ?2, ?3, 'waiting', ?4)",
      ).bind(ws, campaign, id, JSON.stringify({ name }));
    const { results: columns } = await env.SHARD_0.prepare("PRAGMA table_info(campaigns)").all<{
      name: string;
      notnull: number;
      type: string;
    }>();
    const needed = columns.filter((column) => column.notnull === 1 && !["workspace_id", "id"].includes(column.name));
    await env.SHARD_0.batch([
      env.SHARD_0.prepare(
        `INSERT INTO campaigns (workspace_id, id, ${needed.map(({ name }) => name).join(", ")})
         VALUES (?1, ?2, ${needed.map(({ type }) => (type.toLowerCase() === "integer" ? "0" : "'x'")).join(", ")})`,
      ).bind(ws, campaign),
      recipient(contactId, "Frozen Name"),
      recipient(crypto.randomUUID(), "Somebody Else"),
    ]);
    await order(workspace, contactId);
    await runToEnd(workspace, contactId);
    const dump = await dumpOf(env.SHARD_0, ws);
    expect(dump).not.toContain("Frozen Name");
    expect(dump).toContain("Somebody Else");
  });

  it("is for owners and admins, of that workspace, and can be asked for twice", async () => {
    const { workspace, number } = await ready();
    const stranger = await newWorkspace();
    const wa = digits();
    await receive([says(number, { wa, name: "Twice" })]);
    const contactId = await contactOf(workspace.workspaceId, wa);
    const member = await memberWithRole(workspace, "MEMBER");
    expect((await member.call("POST", `/api/contacts/${contactId}/erase`)).status).toBe(403);
    expect((await stranger.call("POST", `/api/contacts/${contactId}/erase`)).status).toBe(404);
    expect(await contactOf(workspace.workspaceId, wa)).toBe(contactId);
    // A deleted one can be erased too.
    expect((await workspace.call("DELETE", `/api/contacts/${contactId}`)).status).toBe(204);
    const first = await order(workspace, contactId);
    const second = await order(workspace, contactId);
    expect(second.requested_at).toBe(first.requested_at);
    expect((await stranger.call("GET", `/api/contacts/${contactId}/erasure`)).status).toBe(404);
    await runToEnd(workspace, contactId);
    const proof = await json(await workspace.call("GET", `/api/contacts/${contactId}/erasure`), 200);
    expect(proof).toMatchObject({ contact_id: contactId, status: "completed", completed_at: expect.any(String) });
    // What is left are copies that expire, each with its time, and what others keep.
    const times = (proof.remaining as { gone_by: string | null }[]).map(({ gone_by }) => gone_by);
    expect(times.filter((time) => time === null)).toHaveLength(1);
    for (const time of times) {
      if (time === null) continue;
      expect(Date.parse(time)).toBeGreaterThan(Date.now());
      expect(Date.parse(time)).toBeLessThan(Date.now() + 37 * 86_400_000);
    }
    await expectExactCounts(workspace.workspaceId);
  });
});

function packed(id: string): string {
  try {
    return atob(id.slice("wamid.".length));
  } catch {
    return id;
  }
}

describe("a message that was being stored while its sender was erased", () => {
  it("is stored all the same, by somebody new, and no name is left without its contact", async () => {
    const { workspace, number } = await ready();
    const ws = workspace.workspaceId;
    const wa = digits();
    await receive([says(number, { wa, name: "Early" })]);
    const contactId = await contactOf(ws, wa);
    // The batch reads who is known; then the person is erased; then it stores.
    let erased = false;
    const late = new Proxy(env.SHARD_0, {
      get(target, property) {
        if (property !== "withSession") return Reflect.get(target, property);
        return (...args: [string]) => {
          const session = target.withSession(...args);
          return new Proxy(session, {
            get(inner, name) {
              const value: unknown = Reflect.get(inner, name);
              if (name !== "batch") return typeof value === "function" ? value.bind(inner) : value;
              return async (statements: D1PreparedStatement[]) => {
                const result = await inner.batch(statements);
                if (!erased) {
                  erased = true;
                  await order(workspace, contactId);
                }
                return result;
              };
            },
          });
        };
      },
    });
    // Later than the erasure, however slow the machine is.
    const at = soon() + 60_000;
    const said = says(number, { wa, user: `US.${wa}`, name: "Late" }, { at, text: { body: "Hello again" } });
    const body = webhookJob(said);
    const first = await deliver("inbound", [body], { env: { ...env, SHARD_0: late } as Env });
    expect(erased).toBe(true);
    expect(first.retryBatch.retry || first.retryMessages.length > 0).toBe(true);
    await receive([said]);
    await runToEnd(workspace, contactId);
    const now = await contactOf(ws, wa);
    expect(now).not.toBe(contactId);
    expect((await inboxOf(ws).identities()).map((row) => row.contact_id)).toEqual(
      (await inboxOf(ws).identities()).map(() => now),
    );
    expect((await inboxOf(ws).messages()).filter((row) => row.contact_id === now)).toHaveLength(1);
    await expectExactCounts(ws);
  });
});
