import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { Meter, meteredEnv } from "../bench/meter";
import { newUuid } from "../src/platform/ids";
import { newWorkspace } from "./support/identity";
import {
  about,
  ago,
  digits,
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
import { deliver, heldQueues, messageRow } from "./support/pipeline";

async function ready(shardNumber = 0) {
  const workspace = await newWorkspace({ shard: shardNumber });
  const number = await registerNumber(workspace);
  const wa = digits();
  const database = shardNumber === 0 ? env.SHARD_0 : env.SHARD_1;
  return { workspace, number, wa, database, inbox: inboxOf(workspace.workspaceId) };
}

type World = Awaited<ReturnType<typeof ready>>;

/** A message of ours in whatever state a test needs, as the sending pipeline leaves it. */
async function plant(world: World, state: Record<string, unknown> = {}): Promise<{ id: string; wa: string }> {
  const { workspace, number, wa, database } = world;
  const id = newUuid();
  const wa_message_id = wamid();
  const now = ago(30);
  const row: Record<string, unknown> = {
    workspace_id: workspace.workspaceId,
    id,
    phone_number_id: number.id,
    conversation_id: "thread",
    contact_id: "contact",
    direction: "outbound",
    origin: "api",
    type: "text",
    content: '{"body":"Hi"}',
    status: "sent",
    wa_message_id,
    to_number: `+${wa}`,
    lane: "chat",
    seq: now,
    not_before: now,
    attempts: 1,
    failures: 0,
    at: now,
    received_at: now,
    position: 0,
    created_at: now,
    sent_at: now,
    ...state,
  };
  const names = Object.keys(row);
  await database
    .prepare(`INSERT INTO messages (${names.join(", ")}) VALUES (${names.map((_, n) => `?${n + 1}`).join(", ")})`)
    .bind(...Object.values(row).map((value) => value ?? null))
    .run();
  return { id, wa: String(row.wa_message_id ?? wa_message_id) };
}

const UNKNOWN = JSON.stringify({ code: "outcome_unknown", title: "Nobody said", details: null, retryable: true });
const REAL = JSON.stringify({ code: 131047, title: "Too late", details: null, retryable: false });
/** The rows of messages as the sending pipeline may have them when a status comes. */
const STATES: Record<string, Record<string, unknown>> = {
  "queued again": { status: "queued", open: 1, wa_message_id: null, sent_at: null },
  "being sent": {
    status: "sending",
    open: 1,
    claim: "c",
    lease_until: Date.now() + 60_000,
    wa_message_id: null,
    sent_at: null,
  },
  "nobody knows": { status: "sending", ambiguous_at: ago(20), wa_message_id: null, sent_at: null },
  sent: {},
  "given up": { status: "failed", failed_at: ago(10), error: UNKNOWN, wa_message_id: null, sent_at: null },
  failed: { status: "failed", failed_at: ago(10), error: REAL },
  delivered: { status: "delivered", delivered_at: ago(15) },
  read: { status: "read", delivered_at: ago(15), read_at: ago(14) },
};
const ERRORS = [{ code: 131026, title: "Undeliverable", message: "x", error_data: { details: "Not on WhatsApp" } }];

describe("a status that names our own id", () => {
  // Which status a message has after each of the four, told of the current attempt.
  it.each([
    ["queued again", "sent", "delivered", "read", "failed"],
    ["being sent", "sent", "delivered", "read", "failed"],
    ["nobody knows", "sent", "delivered", "read", "failed"],
    ["sent", "sent", "delivered", "read", "failed"],
    ["given up", "sent", "delivered", "read", "failed"],
    ["failed", "failed", "delivered", "read", "failed"],
    ["delivered", "delivered", "delivered", "read", "delivered"],
    ["read", "read", "read", "read", "read"],
  ])("of a message that is %s: sent → %s, delivered → %s, read → %s, failed → %s", async (state, ...after) => {
    const world = await ready();
    for (const [place, said] of ["sent", "delivered", "read", "failed"].entries()) {
      const { id, wa } = await plant(world, STATES[state]);
      const errors = said === "failed" ? { errors: ERRORS } : {};
      const item = status(wa, said, { at: ago(5), callback: `${id}.1`, recipient_id: world.wa, ...errors });
      await receive([about(world.number, { statuses: [item] })]);
      const row = await messageRow(id, world.workspace.workspaceId);
      expect(row.status, `${state} + ${said}`).toBe(after[place]);
      // Settled: nobody sends it again, nothing holds it.
      expect(row).toMatchObject({ open: null, claim: null, lease_until: null, ambiguous_at: null, wa_message_id: wa });
      if (row.status === "failed") expect(row.failed_at).not.toBeNull();
      else expect(row).toMatchObject({ failed_at: null, error: null });
      if (state !== "failed" && row.status === "failed") {
        expect(JSON.parse(String(row.error))).toMatchObject({
          code: 131026,
          details: "Not on WhatsApp",
          retryable: false,
        });
      }
    }
  });

  it("fills the times that were skipped, and takes the true one when it comes", async () => {
    const world = await ready();
    const { id, wa } = await plant(world, STATES["being sent"]);
    const tell = (said: string, at: number) =>
      receive([about(world.number, { statuses: [status(wa, said, { at, callback: `${id}.1` })] })]);
    await tell("read", ago(3));
    expect(await messageRow(id, world.workspace.workspaceId)).toMatchObject({
      status: "read",
      sent_at: ago(3),
      delivered_at: ago(3),
      read_at: ago(3),
    });
    await tell("delivered", ago(4));
    await tell("sent", ago(5));
    expect(await messageRow(id, world.workspace.workspaceId)).toMatchObject({
      status: "read",
      sent_at: ago(5),
      delivered_at: ago(4),
      read_at: ago(3),
    });
  });

  it("that failed counts for the current attempt only; a positive one for any", async () => {
    const world = await ready();
    const state = { ...STATES["being sent"], attempts: 2 };
    const failed = await plant(world, state);
    await receive([
      about(world.number, { statuses: [status(failed.wa, "failed", { callback: `${failed.id}.1`, errors: ERRORS })] }),
    ]);
    expect(await messageRow(failed.id, world.workspace.workspaceId)).toMatchObject({
      status: "sending",
      open: 1,
      wa_message_id: null,
    });
    await receive([
      about(world.number, { statuses: [status(failed.wa, "failed", { callback: `${failed.id}.2`, errors: ERRORS })] }),
    ]);
    expect(await messageRow(failed.id, world.workspace.workspaceId)).toMatchObject({ status: "failed", open: null });

    const delivered = await plant(world, state);
    await receive([
      about(world.number, { statuses: [status(delivered.wa, "delivered", { callback: `${delivered.id}.1` })] }),
    ]);
    expect(await messageRow(delivered.id, world.workspace.workspaceId)).toMatchObject({
      status: "delivered",
      open: null,
    });
  });

  it("several of one message in one batch are one change: the furthest, the earliest times, the failure of the last attempt", async () => {
    for (const seed of [1, 2, 3, 4]) {
      const world = await ready();
      const [all, failing] = [
        await plant(world, STATES["being sent"]),
        await plant(world, { ...STATES["being sent"], attempts: 2 }),
      ];
      const of = (id: string, wa: string, said: string, attempt: number, at: number, code = 0) =>
        status(wa, said, {
          at,
          callback: `${id}.${attempt}`,
          ...(code === 0 ? {} : { errors: [{ code, title: "No" }] }),
        });
      const items = shuffled(
        [
          of(all.id, all.wa, "sent", 1, ago(9)),
          of(all.id, all.wa, "delivered", 1, ago(8)),
          of(all.id, all.wa, "delivered", 1, ago(7)),
          of(all.id, all.wa, "read", 1, ago(6)),
          of(all.id, all.wa, "failed", 1, ago(5), 131049),
          of(failing.id, "wamid.one", "failed", 1, ago(9), 130472),
          of(failing.id, failing.wa, "failed", 2, ago(8), 131026),
          of(failing.id, "wamid.one", "failed", 1, ago(7), 130472),
        ],
        seed,
      );
      await receive([
        about(world.number, { statuses: items.slice(0, 4) }),
        about(world.number, { statuses: items.slice(4) }),
      ]);
      expect(await messageRow(all.id, world.workspace.workspaceId)).toMatchObject({
        status: "read",
        sent_at: ago(9),
        delivered_at: ago(8),
        read_at: ago(6),
        error: null,
      });
      const row = await messageRow(failing.id, world.workspace.workspaceId);
      expect(row).toMatchObject({ status: "failed", failed_at: ago(8), wa_message_id: failing.wa });
      expect(JSON.parse(String(row.error)).code).toBe(131026);
    }
  });

  it("sent of this attempt and failed of an old one leave it sent", async () => {
    const world = await ready();
    for (const state of ["being sent", "given up"]) {
      const { id, wa } = await plant(world, { ...STATES[state], attempts: 2 });
      await receive([
        about(world.number, {
          statuses: [
            status("wamid.old", "failed", { callback: `${id}.1`, errors: ERRORS }),
            status(wa, "sent", { callback: `${id}.2` }),
          ],
        }),
      ]);
      expect(await messageRow(id, world.workspace.workspaceId), state).toMatchObject({
        status: "sent",
        wa_message_id: wa,
        error: null,
      });
    }
  });

  it("that is told again writes nothing", async () => {
    const world = await ready();
    const { id, wa } = await plant(world, STATES.sent);
    const bodies = ["sent", "delivered", "read", "failed"].map((said, place) =>
      about(world.number, {
        statuses: [
          status(wa, said, {
            at: ago(9 - place),
            callback: `${id}.1`,
            pricing: { category: "utility" },
            ...(said === "failed" ? { errors: ERRORS } : {}),
          }),
        ],
      }),
    );
    await receive(bodies);
    const meter = new Meter();
    for (const seed of [1, 2, 3]) {
      await receive(shuffled(bodies, seed), { attempts: 2, env: meteredEnv(env, meter) });
      for (const body of bodies) await receive([body], { env: meteredEnv(env, meter) });
    }
    expect(meter.statements.length).toBeGreaterThan(0);
    expect(meter.rowsWritten()).toBe(0);
  });

  it("keeps what the message costs, as first told", async () => {
    const world = await ready();
    const { id, wa } = await plant(world, STATES.sent);
    const tell = (said: string, pricing?: object) =>
      receive([
        about(world.number, { statuses: [status(wa, said, { callback: `${id}.1`, ...(pricing ? { pricing } : {}) })] }),
      ]);
    await tell("delivered");
    await tell("sent", { category: "marketing", type: "regular", billable: true });
    await tell("read", { category: "service" });
    expect(JSON.parse(String((await messageRow(id, world.workspace.workspaceId)).pricing))).toMatchObject({
      category: "marketing",
    });
  });

  it("played is shown as read", async () => {
    const world = await ready();
    const { id, wa } = await plant(world, STATES.delivered);
    await receive([about(world.number, { statuses: [status(wa, "played", { callback: `${id}.1`, at: ago(1) })] })]);
    expect(await messageRow(id, world.workspace.workspaceId)).toMatchObject({ status: "read", read_at: ago(1) });
  });
});

describe("a status that names only the provider's id", () => {
  it("is matched by it, also when its callback data is somebody else's", async () => {
    const world = await ready();
    for (const callback of [undefined, "campaign-7", `${newUuid()}.1`]) {
      const { id, wa } = await plant(world, STATES.sent);
      await receive([
        about(world.number, {
          statuses: [status(wa, "delivered", { ...(callback === undefined ? {} : { callback }) })],
        }),
      ]);
      expect((await messageRow(id, world.workspace.workspaceId)).status, String(callback)).toBe("delivered");
    }
  });

  it("of the fields message_deliveries and message_reads is one too (contract 25)", async () => {
    const world = await ready();
    const { id, wa } = await plant(world, STATES.sent);
    await receive([about(world.number, { statuses: [status(wa, "delivered", { at: ago(4) })] }, "message_deliveries")]);
    await receive([about(world.number, { statuses: [status(wa, "read", { at: ago(3) })] }, "message_reads")]);
    expect(await messageRow(id, world.workspace.workspaceId)).toMatchObject({
      status: "read",
      delivered_at: ago(4),
      read_at: ago(3),
    });
  });

  it("of a message nobody knows waits, in the sum of what was told, and costs one row", async () => {
    const world = await ready();
    const id = wamid();
    const items = [
      status(id, "read", { at: ago(2), recipient_id: world.wa }),
      status(id, "sent", { at: ago(4), recipient_id: world.wa, pricing: { category: "service" } }),
      status(id, "delivered", { at: ago(3), recipient_id: world.wa, callback: `${newUuid()}.1` }),
    ];
    for (const seed of [1, 2, 3]) {
      for (const item of shuffled(items, seed)) await receive([about(world.number, { statuses: [item] })]);
    }
    const waiting = await world.inbox.references();
    expect(waiting).toHaveLength(1);
    expect(JSON.parse(String(waiting[0]?.payload))).toMatchObject({
      status: "read",
      sent: ago(4),
      delivered: ago(3),
      read: ago(2),
    });
    const echo = { to: world.wa, ...message({ wa: world.number.providerNumberId }, { id, at: ago(4) }) };
    await receive([about(world.number, { message_echoes: [echo] }, "smb_message_echoes")]);
    expect(await world.inbox.messages()).toMatchObject([
      { status: "read", sent_at: ago(4), delivered_at: ago(3), read_at: ago(2) },
    ]);
  });

  it("never touches an inbound message", async () => {
    const world = await ready();
    const id = wamid();
    await receive([says(world.number, { wa: world.wa }, { id })]);
    await receive([about(world.number, { statuses: [status(id, "read", { recipient_id: world.wa })] })]);
    expect(await world.inbox.messages()).toMatchObject([{ status: "delivered", read_at: null }]);
  });
});

describe("the tenant comes from the authenticated path", () => {
  it("a status of another tenant's message id changes nothing there, nor does a callback id that names it", async () => {
    const [mine, theirs] = [await ready(), await ready()];
    const victim = await plant(theirs, STATES.sent);
    const before = await messageRow(victim.id, theirs.workspace.workspaceId);
    for (const connection of [null, mine.number.id]) {
      const bodies = [
        about(mine.number, { statuses: [status(victim.wa, "failed", { callback: `${victim.id}.1`, errors: ERRORS })] }),
        about(mine.number, { statuses: [status(wamid(), "read", { callback: `${victim.id}.1` })] }),
        {
          object: "whatsapp_business_account",
          entry: [{ changes: [{ value: { statuses: [status(victim.wa, "read", { callback: `${victim.id}.1` })] } }] }],
        },
      ];
      // The last names nobody: on the app's address the message decides, on a connection's own the connection.
      for (const body of connection === null ? bodies.slice(0, 2) : bodies) {
        const result = await deliver("inbound", [jobOf(body, { connection })]);
        expect(result.retryMessages).toEqual([]);
      }
    }
    expect(await messageRow(victim.id, theirs.workspace.workspaceId)).toEqual(before);
  });

  it("a status of another number of the same workspace changes nothing either", async () => {
    const world = await ready();
    const second = await registerNumber(world.workspace);
    const victim = await plant(world, STATES.sent);
    await receive([
      about(second, { statuses: [status(victim.wa, "failed", { callback: `${victim.id}.1`, errors: ERRORS })] }),
    ]);
    expect(await messageRow(victim.id, world.workspace.workspaceId)).toMatchObject({ status: "sent" });
  });

  it("without metadata it is matched by the provider's message id, in whichever shard (contract 23)", async () => {
    const [one, two] = [await ready(0), await ready(1)];
    const [a, b, c] = [await plant(one, STATES.sent), await plant(two, STATES.sent), await plant(two, STATES.sent)];
    const bare = (item: object) => ({ value: { messaging_product: "whatsapp", statuses: [item] } });
    await receive([
      // Its account is known, another is not, and one is not even named.
      post(one.number.businessId, bare(status(a.wa, "delivered"))),
      post("999999", bare(status(b.wa, "delivered"))),
      { object: "whatsapp_business_account", entry: [{ changes: [bare(status(c.wa, "read"))] }] },
    ]);
    expect((await messageRow(a.id, one.workspace.workspaceId)).status).toBe("delivered");
    expect((await messageRow(b.id, two.workspace.workspaceId, env.SHARD_1)).status).toBe("delivered");
    expect((await messageRow(c.id, two.workspace.workspaceId, env.SHARD_1)).status).toBe("read");
  });

  it("without metadata and of a message nobody sent it is kept where its account is, or as unrouted", async () => {
    const world = await ready();
    const bare = { value: { statuses: [status(wamid(), "delivered")] } };
    const unrouted = async () =>
      (await env.DIRECTORY.prepare("SELECT count(*) AS n FROM unrouted_events").first<number>("n")) ?? 0;
    const before = await unrouted();
    await receive([post(world.number.businessId, bare)]);
    expect((await world.inbox.events()).map((e) => e.reason)).toEqual(["It names no number, and no message of any"]);
    expect(await unrouted()).toBe(before);
    await receive([post("88888", bare)]);
    expect(await unrouted()).toBe(before + 1);
  });

  it("without metadata of an account in two workspaces it goes to the one that sent the message", async () => {
    const [one, two] = [await ready(), await ready()];
    await env.DIRECTORY.prepare("UPDATE provider_numbers SET business_id = '777' WHERE phone_number_id IN (?1, ?2)")
      .bind(one.number.id, two.number.id)
      .run();
    const sent = await plant(two, STATES.sent);
    await receive([post("777", { value: { statuses: [status(sent.wa, "delivered")] } })]);
    expect((await messageRow(sent.id, two.workspace.workspaceId)).status).toBe("delivered");
    expect(await one.inbox.events()).toEqual([]);
    expect(await two.inbox.events()).toEqual([]);
  });
});

describe("a status that is malformed", () => {
  it("is kept and shown, whatever is wrong with it", async () => {
    const world = await ready();
    const bad = [
      { status: "delivered", timestamp: "1" },
      { id: "wamid.x", timestamp: "1" },
      { id: "wamid.x", status: "teleported", timestamp: "1" },
      { id: "wamid.x", status: "delivered" },
      "text",
      null,
    ];
    const { env: held } = heldQueues();
    await receive([about(world.number, { statuses: bad })], { env: held });
    const events = await world.inbox.events();
    expect(events).toHaveLength(bad.length);
    expect(events.every((e) => e.kind === "unknown" && String(e.reason).length > 0)).toBe(true);
    expect(events.map((e) => e.raw).sort()).toEqual(bad.map((item) => JSON.stringify(item)).sort());
  });
});
