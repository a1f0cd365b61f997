import { createExecutionContext, runInDurableObject, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { Meter, meteredEnv, StorageMeter } from "../bench/meter";
import { api } from "../src/api";
import { purgeExpired } from "../src/messages/service-retention";
import type { PhoneNumber } from "../src/phone-numbers/service";
import { IDEMPOTENCY_TTL } from "../src/platform/idempotency";
import { createRuntime } from "../src/platform/runtime";
import { newWorkspace, type TestWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { deliver, heldQueues, sendJob } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { seedMessages } from "./support/seed";
import { inboundText, signedWebhook, statusUpdate, webhookJob } from "./support/webhooks";

// A hundred thousand rows take seconds, and more on a busy machine.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

/**
 * The counted budgets of architecture.md §6. Every number is counted at the bindings, so nothing the code does escapes;
 * docs/costs.md says what they mean in money.
 */
const meter = new Meter();
const { env: base, held } = heldQueues();
/** Queues keep what they get, so that nothing runs beside what is measured. */
const metered = meteredEnv(base, meter);

let objects: StorageMeter;
let workspace: TestWorkspace;
let number: PhoneNumber;

beforeAll(async () => {
  objects = await runInDurableObject(env.WORKSPACE_HUB.getByName("meter"), (_, state) => new StorageMeter(state));
  workspace = await newWorkspace();
  number = await registerNumber(workspace);
});

let counter = 0;
/** Digits of a customer nobody else is. */
function customer(): string {
  counter += 1;
  return `1202555${String(counter).padStart(5, "0")}`;
}

function wamid(): string {
  return `wamid.${crypto.randomUUID()}`;
}

/** Rows objects wrote for what the step did; the quota's counts are written every 10 s whatever happens. */
function objectRows(): number {
  const { rowsWritten, byTimer } = objects.take();
  return rowsWritten - byTimer;
}

/** Runs one step with every counter at zero. */
async function counted<T>(step: () => Promise<T>): Promise<T> {
  objects.take();
  meter.reset();
  return step();
}

async function request(input: Request): Promise<Response> {
  const ctx = createExecutionContext();
  const response = await api.fetch(input, metered, ctx);
  await waitOnExecutionContext(ctx);
  return response;
}

async function receive(bodies: readonly object[], attempts = 1): Promise<void> {
  const result = await deliver("inbound", bodies.map(webhookJob), { env: metered, attempts });
  expect(result.retryBatch.retry).toBe(false);
}

interface Accepted {
  id: string;
  workspace_id: string;
  phone_number_id: string;
}

/** One send through the API, with the workspace's key. */
async function send(to: string, options: { key?: boolean } = {}): Promise<Accepted> {
  const response = await request(
    new Request("https://switchboard.test/api/messages/send/text", {
      method: "POST",
      headers: {
        Authorization: `Bearer ${workspace.apiKey}`,
        "Content-Type": "application/json",
        ...(options.key ? { "Idempotency-Key": crypto.randomUUID() } : {}),
      },
      body: JSON.stringify({ phone_number_id: number.id, to: `+${to}`, text: "Your parcel is on its way." }),
    }),
  );
  expect(response.status, await response.clone().text()).toBe(201);
  return response.json<Accepted>();
}

async function consumeSends(messages: readonly Accepted[]): Promise<void> {
  const result = await deliver(
    "outbound",
    messages.map((message) => sendJob(message)),
    { env: metered },
  );
  expect(result.retryBatch.retry).toBe(false);
}

async function wamidOf(message: Accepted): Promise<string> {
  const sent = await env.SHARD_0.prepare(
    "SELECT wa_message_id, status FROM messages WHERE workspace_id = ?1 AND id = ?2",
  )
    .bind(message.workspace_id, message.id)
    .first<{ wa_message_id: string; status: string }>();
  expect(sent?.status).toBe("sent");
  return sent?.wa_message_id ?? "";
}

describe("a webhook", () => {
  it("is received without a database or an object: one queue message", async () => {
    const post = await signedWebhook(inboundText(number, { from: customer(), wamid: wamid() }));
    const response = await counted(() => request(post));
    expect(response.status).toBe(200);
    expect(meter.trips()).toBe(0);
    expect(meter.objectRequests).toBe(0);
    expect(meter.bucketWrites + meter.bucketReads).toBe(0);
    expect(Object.fromEntries(meter.queued)).toEqual({ INBOUND: 1 });
    expect(meter.queueOperations).toBe(3);
  });
});

describe("an inbound text", () => {
  it("of a known contact writes at most 6 rows, one by one", async () => {
    const from = customer();
    await receive([inboundText(number, { from, wamid: wamid() })]);
    await counted(() => receive([inboundText(number, { from, wamid: wamid() })]));
    expect(meter.rowsWritten()).toBeLessThanOrEqual(6);
    expect(meter.trips()).toBeLessThanOrEqual(4);
    expect(Object.fromEntries(meter.objectCalls)).toEqual({ "WORKSPACE_HUB.publish": 1 });
    expect(objectRows()).toBe(1);
    expect(meter.queued.size).toBe(0);
  });

  it("of a new contact writes at most 16 rows, its place in the search among them", async () => {
    await counted(() => receive([inboundText(number, { from: customer(), wamid: wamid() })]));
    expect(meter.rowsWritten()).toBeLessThanOrEqual(16);
    expect(meter.trips()).toBeLessThanOrEqual(4);
  });

  it("that was stored before writes nothing", async () => {
    const body = inboundText(number, { from: customer(), wamid: wamid() });
    await receive([body]);
    await counted(() => receive([body], 2));
    expect(meter.rowsWritten()).toBe(0);
    expect(meter.objectCalls.get("WORKSPACE_HUB.publish")).toBe(1);
    expect(objectRows()).toBe(0);
  });
});

describe("a batch of 100 inbound texts at 100,000 stored messages", () => {
  it("takes at most 4 round trips, 30 rows read and 6 written per message, and one hub call", async () => {
    const seeded = await seedMessages(env.SHARD_0, {
      workspaceId: workspace.workspaceId,
      phoneNumberId: number.id,
      messages: 100_000,
    });
    const texts = () =>
      Array.from({ length: 100 }, (_, place) =>
        inboundText(number, { from: seeded.digits(place * 13), wamid: wamid() }),
      );
    // The number's gate makes its tables, and the minute's note that webhooks arrive is written.
    await receive(texts());
    await counted(() => receive(texts()));
    expect(meter.trips()).toBeLessThanOrEqual(4);
    expect(meter.rowsRead() / 100).toBeLessThanOrEqual(30);
    expect(meter.rowsWritten() / 100).toBeLessThanOrEqual(6);
    expect(meter.objectCalls.get("WORKSPACE_HUB.publish")).toBe(1);
    expect(meter.objectRequests).toBeLessThanOrEqual(2);
    expect(objectRows()).toBe(1);
  });
});

describe("an outbound text", () => {
  beforeAll(async () => {
    // What was received above counts against that number's throughput; this one has all of a fast number's.
    number = await registerNumber(workspace);
    await env.SHARD_0.prepare("UPDATE phone_numbers SET tier = 'HIGH' WHERE id = ?1").bind(number.id).run();
    await sandbox.settings({ throughput: 0 });
    // Its gate makes its tables.
    await consumeSends([await send(customer())]);
  });

  it("takes at most 3 round trips on the shard to accept, and 10 rows from the call to `sent`, with a key", async () => {
    const to = customer();
    await consumeSends([await send(to)]);
    const message = await counted(() => send(to, { key: true }));
    expect(meter.trips("SHARD_0")).toBeLessThanOrEqual(3);
    expect(meter.trips("DIRECTORY")).toBe(1);
    expect(Object.fromEntries(meter.objectCalls)).toEqual({
      "API_QUOTA.take": 1,
      "CONVERSATION.admit": 1,
      "WORKSPACE_HUB.publish": 1,
    });
    expect(Object.fromEntries(meter.queued)).toEqual({ OUTBOUND: 1 });
    const accepted = meter.rowsWritten();
    expect(accepted).toBeLessThanOrEqual(7);

    await counted(() => consumeSends([message]));
    await wamidOf(message);
    expect(accepted + meter.rowsWritten()).toBeLessThanOrEqual(10);
    expect(meter.trips()).toBeLessThanOrEqual(4);
    expect(Object.fromEntries(meter.objectCalls)).toEqual({
      "SENDER_GATE.reserve": 1,
      "SENDER_GATE.begin": 1,
      "WORKSPACE_HUB.publish": 1,
    });
    // The journal and the hub's log.
    expect(objectRows()).toBe(2);
    expect(meter.queued.size).toBe(0);
  });

  it("repeated under its key writes nothing and sends nothing", async () => {
    const to = customer();
    const call = (key: string) =>
      request(
        new Request("https://switchboard.test/api/messages/send/text", {
          method: "POST",
          headers: {
            Authorization: `Bearer ${workspace.apiKey}`,
            "Content-Type": "application/json",
            "Idempotency-Key": key,
          },
          body: JSON.stringify({ phone_number_id: number.id, to: `+${to}`, text: "Once" }),
        }),
      );
    const key = crypto.randomUUID();
    expect((await call(key)).status).toBe(201);
    expect((await counted(() => call(key))).headers.get("Idempotency-Replayed")).toBe("true");
    expect(meter.rowsWritten()).toBe(0);
    expect(meter.queued.size).toBe(0);
  });

  it("in a batch of 100 takes at most 4 round trips for all of them, whatever the provider tells of the recipients", async () => {
    // WhatsApp knows these ten by another number than the one that was called (contract 1), which is kept.
    const brazilians = Array.from({ length: 10 }, (_, n) => `55319${String(70_000_000 + n)}`);
    const recipients = [...brazilians, ...Array.from({ length: 90 }, customer)];
    const messages = await Promise.all(recipients.map((to) => send(to)));
    await counted(() => consumeSends(messages));
    const trips = meter.trips();
    const written = meter.rowsWritten();
    const read = meter.rowsRead();
    // One reservation, a journal entry for each wave of 10, one publish.
    expect(Object.fromEntries(meter.objectCalls)).toEqual({
      "SENDER_GATE.reserve": 1,
      "SENDER_GATE.begin": 10,
      "WORKSPACE_HUB.publish": 1,
    });
    expect(objectRows()).toBe(11);
    for (const message of messages) await wamidOf(message);
    expect(trips).toBeLessThanOrEqual(4);
    expect(read / 100).toBeLessThanOrEqual(30);
    // 3 for each message, 2 for each number learnt.
    expect(written).toBeLessThanOrEqual(300 + 2 * brazilians.length);
    const { results } = await env.SHARD_0.prepare(
      "SELECT value FROM contact_identities WHERE workspace_id = ?1 AND kind = 'wa' AND value LIKE '55317%'",
    )
      .bind(workspace.workspaceId)
      .all();
    expect(results).toHaveLength(brazilians.length);
  });
});

describe("an idempotency key", () => {
  it("costs a second row when it is forgotten", async () => {
    await send(customer(), { key: true });
    const kept = await env.SHARD_0.prepare("SELECT count(*) AS n FROM idempotency").first<number>("n");
    expect(kept).toBeGreaterThan(0);
    await counted(() => purgeExpired(createRuntime(metered), 0, Date.now() + IDEMPOTENCY_TTL + 1000));
    expect(await env.SHARD_0.prepare("SELECT count(*) AS n FROM idempotency").first("n")).toBe(0);
    expect(meter.rowsWritten()).toBe(kept);
  });
});

describe("a status", () => {
  it("writes at most 1 row, and nothing when it comes again", async () => {
    const to = customer();
    const message = await send(to, { key: true });
    await consumeSends([message]);
    const update = { wamid: await wamidOf(message), callback: `${message.id}.1`, to };
    // The minute's note that statuses of this number arrive.
    await receive([statusUpdate(number, { ...update, wamid: "wamid.elsewhere", callback: "none", status: "sent" })]);
    for (const status of ["sent", "delivered", "read"] as const) {
      await counted(() => receive([statusUpdate(number, { ...update, status })]));
      // That it was sent is known already.
      expect(meter.rowsWritten(), status).toBe(status === "sent" ? 0 : 1);
      expect(meter.trips(), status).toBeLessThanOrEqual(3);
      expect(meter.objectRequests, status).toBeLessThanOrEqual(1);
      expect(objectRows(), status).toBeLessThanOrEqual(1);
      await counted(() => receive([statusUpdate(number, { ...update, status })], 2));
      expect(meter.rowsWritten(), `${status} again`).toBe(0);
      expect(objectRows(), `${status} again`).toBe(0);
    }
    const row = await env.SHARD_0.prepare("SELECT status, pricing FROM messages WHERE workspace_id = ?1 AND id = ?2")
      .bind(message.workspace_id, message.id)
      .first<{ status: string; pricing: string }>();
    expect(row?.status).toBe("read");
    expect(JSON.parse(row?.pricing ?? "null")).toMatchObject({ category: "service" });
  });

  it("of each of 100 messages in one batch: 3 round trips, 1 row each", async () => {
    const rows = await env.SHARD_0.prepare(
      "SELECT id, wa_message_id, to_number FROM messages WHERE workspace_id = ?1 AND phone_number_id = ?2 AND status = 'sent' LIMIT 100",
    )
      .bind(workspace.workspaceId, number.id)
      .all<{ id: string; wa_message_id: string; to_number: string }>();
    expect(rows.results).toHaveLength(100);
    const bodies = rows.results.map((row) =>
      statusUpdate(number, {
        wamid: row.wa_message_id,
        callback: `${row.id}.1`,
        to: row.to_number.slice(1),
        status: "delivered",
      }),
    );
    await counted(() => receive(bodies));
    expect(meter.rowsWritten()).toBeLessThanOrEqual(100);
    expect(meter.rowsRead() / 100).toBeLessThanOrEqual(30);
    expect(meter.trips()).toBeLessThanOrEqual(3);
    expect(meter.objectRequests).toBe(1);
  });
});

it("enqueued nothing but what the steps above announced", () => {
  expect((held.get("OUTBOUND") ?? []).length).toBeGreaterThan(100);
  expect(held.get("BULK")).toEqual([]);
});
