import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { Meter, meteredEnv, type StatementCost } from "../bench/meter";
import { learnIdentities } from "../src/contacts/service";
import { pageConversations, selectConversation, updateRead } from "../src/conversations/store";
import { pageDeadLetters, pageWebhookEvents } from "../src/inbound/store";
import {
  applyWaitingStatuses,
  foldStatuses,
  type StatusReport,
  statusStatements,
} from "../src/messages/service-statuses";
import { type Message, type RecipientKey, selectMessage, selectRecipient } from "../src/messages/store";
import { type MessageFilter, pageMessages, selectMessageEvents } from "../src/messages/store-pages";
import { claimQueued, type SendResult, updateResults } from "../src/messages/store-sending";
import {
  expireOpen,
  releaseLeases,
  selectWalk,
  settleAmbiguous,
  takeOverdue,
  takeScheduled,
} from "../src/messages/store-sweep";
import { selectNamedNumber } from "../src/phone-numbers/service";
import { numbersById } from "../src/phone-numbers/service-pipeline";
import type { PageQuery } from "../src/platform/pagination";
import { createRuntime, type Runtime, shard } from "../src/platform/runtime";
import { newWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { deliver } from "./support/pipeline";
import { type Seeded, seedMessages } from "./support/seed";
import { inboundText, statusUpdate, webhookBody, webhookJob } from "./support/webhooks";

// A hundred thousand rows take seconds, and more on a busy machine.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

/**
 * Statements that run for every message, on 100,000 stored ones: at most 10 rows read per row they are about, and no
 * walk over a table (pipeline 16). A statement that is fast on an empty database proves nothing.
 */
const STORED = 100_000;
const BATCH = 100;
const ROWS_PER_ITEM = 10;

const meter = new Meter();
const rt: Runtime = createRuntime(meteredEnv(env, meter));

let ws: string;
let numberId: string;
let receiver: { businessId: string | null; providerNumberId: string };
let seeded: Seeded;

beforeAll(async () => {
  const workspace = await newWorkspace();
  const number = await registerNumber(workspace);
  ws = workspace.workspaceId;
  numberId = number.id;
  receiver = number;
  seeded = await seedMessages(env.SHARD_0, { workspaceId: ws, phoneNumberId: numberId, messages: STORED });
});

const TABLES = [
  "messages",
  "conversations",
  "contacts",
  "contact_identities",
  "message_events",
  "phone_numbers",
  "workspace_states",
  "list_totals",
  "idempotency",
  "webhook_events",
  "provider_numbers",
];

/** Names under which a statement walks a whole table, by its query plan. */
async function scansOf(cost: StatementCost): Promise<string[]> {
  const database = cost.database === "DIRECTORY" ? env.DIRECTORY : env.SHARD_0;
  const { results } = await database
    .prepare(`EXPLAIN QUERY PLAN ${cost.sql}`)
    .bind(...cost.params)
    .all<{ detail: string }>();
  const names = new Map(TABLES.map((table) => [table, table]));
  for (const [, table, alias] of cost.sql.matchAll(/\b(\w+)\s+(?:AS\s+)?(\w+)\b/g)) {
    if (table && alias && TABLES.includes(table)) names.set(alias, table);
  }
  return results.flatMap(({ detail }) => {
    const scanned = /^SCAN (\w+)/.exec(detail)?.[1];
    return scanned !== undefined && names.has(scanned) && !/VIRTUAL TABLE/.test(detail) ? [detail] : [];
  });
}

/** Once a minute, and sorted by age: rows of a sort count as read. */
const SWEPT_ROWS_PER_ITEM = 12;

/** Runs a step and holds each of its statements to the budget: `items` is how many rows the step is about. */
async function hot<T>(items: number, step: () => Promise<T>, perItem = ROWS_PER_ITEM): Promise<T> {
  meter.reset();
  const result = await step();
  const costs = [...meter.statements];
  expect(costs.length).toBeGreaterThan(0);
  for (const cost of costs) {
    expect(await scansOf(cost), cost.sql).toEqual([]);
    expect(cost.rowsRead, `rows read by ${cost.sql}`).toBeLessThanOrEqual(perItem * items);
  }
  return result;
}

const NOW = Date.parse("2026-06-01T12:00:00Z");

/**
 * Rows of a state the seed does not have, spread over threads or all in one; `set` holds SQL over `i`, the row's place.
 * Answers their ids in order.
 */
async function plant(count: number, set: Record<string, string>, thread?: number): Promise<string[]> {
  const ids = Array.from({ length: count }, () => rt.newId());
  const columns: Record<string, string> = {
    workspace_id: "v.workspace_id",
    id: "j.value ->> 'id'",
    phone_number_id: "v.phone_number_id",
    conversation_id: "v.id",
    contact_id: "v.contact_id",
    direction: "'outbound'",
    origin: "'api'",
    type: "'text'",
    content: `'{"body":"Planted"}'`,
    status: "'queued'",
    to_number: "'+' || v.peer",
    lane: "'chat'",
    open: "1",
    seq: `${NOW} + i`,
    not_before: `${NOW - 1000}`,
    expires_at: `${NOW + 86_400_000}`,
    attempts: "0",
    failures: "0",
    at: `${NOW}`,
    received_at: `${NOW}`,
    position: "0",
    created_at: `${NOW}`,
    ...set,
  };
  const sql = Object.values(columns).map((value) => value.replaceAll(/\bi\b/g, "j.key"));
  await env.SHARD_0.prepare(
    `INSERT INTO messages (${Object.keys(columns).join(", ")}) SELECT ${sql.join(", ")}
     FROM json_each(?1) j CROSS JOIN conversations v WHERE v.workspace_id = j.value ->> 'ws' AND v.id = j.value ->> 'c'`,
  )
    .bind(
      JSON.stringify(
        ids.map((id, n) => ({
          id,
          ws,
          c: thread === undefined ? seeded.conversationId(n * 7) : seeded.conversationId(thread),
        })),
      ),
    )
    .run();
  return ids;
}

/** Settles what a test planted, so that the next one meets only its own open rows. */
async function retire(): Promise<void> {
  await env.SHARD_0.prepare(
    "UPDATE messages SET status = 'cancelled', open = NULL, ambiguous_at = NULL WHERE workspace_id = ?1 AND (open = 1 OR ambiguous_at IS NOT NULL OR status = 'scheduled')",
  )
    .bind(ws)
    .run();
}

const keysOf = (ids: readonly string[]) => ids.map((id) => ({ workspaceId: ws, id }));
const claimNow = { now: NOW, leaseUntil: NOW + 90_000, token: "token" };

describe("sending", () => {
  it("claims 100 messages of 100 conversations, then stores their results and finds the next heads", async () => {
    const ids = await plant(BATCH, {});
    const behind = await plant(BATCH, { seq: `${NOW + 1000} + i` });
    const claim = await hot(BATCH, () => claimQueued(shard(rt, 0), keysOf(ids), claimNow));
    expect(claim.claimed.map((m) => m.id).sort()).toEqual([...ids].sort());
    const results = claim.claimed.map(
      (m): SendResult => ({
        workspaceId: ws,
        id: m.id,
        claim: "token",
        attempt: 1,
        kind: "sent",
        waMessageId: `wamid.${m.id}`,
        at: NOW,
      }),
    );
    const stored = await hot(BATCH, () => updateResults(shard(rt, 0), results, claim.claimed));
    expect(stored.messages.every((m) => m.status === "sent")).toBe(true);
    expect(stored.next.map((n) => n.id).sort()).toEqual([...behind].sort());
    await retire();
  });

  it("claims 45 shuffled messages of one conversation, the pair's whole burst", async () => {
    const burst = 45;
    const ids = await plant(burst, {}, 3);
    const shuffled = ids.map((id, n) => ({ id, n: (n * 17) % burst })).sort((a, b) => a.n - b.n);
    meter.reset();
    const claim = await claimQueued(shard(rt, 0), keysOf(shuffled.map(({ id }) => id)), claimNow);
    expect(claim.claimed.map((m) => m.id)).toEqual(ids);
    // Each looks at those before it: half the square, and no more than that.
    expect(meter.rowsRead()).toBeLessThanOrEqual(burst * burst + 40 * burst);
    await retire();
  });

  it("claims nothing behind a backlog of 5,000 earlier messages without walking over it", async () => {
    await plant(5_000, {}, 4);
    const ids = await plant(BATCH, { seq: `${NOW + 1_000_000} + i` }, 4);
    const claim = await hot(BATCH, () => claimQueued(shard(rt, 0), keysOf(ids), claimNow));
    expect(claim.claimed).toEqual([]);
    await retire();
  });

  it("stores failures, retries and unknown outcomes of 100 messages", async () => {
    const ids = await plant(BATCH, { status: "'sending'", claim: "'token'", lease_until: `${NOW + 1}`, attempts: "1" });
    const error = { code: 131000, title: "Something went wrong", details: null, retryable: true };
    const results = ids.map((id, n): SendResult => {
      const base = { workspaceId: ws, id, claim: "token", attempt: 1 };
      switch (n % 3) {
        case 0:
          return { ...base, kind: "failed", error, at: NOW };
        case 1:
          return { ...base, kind: "requeued", notBefore: NOW + 5000, error, failure: true };
        default:
          return { ...base, kind: "ambiguous", at: NOW, error };
      }
    });
    const conversations = ids.map((_, n) => ({
      workspaceId: ws,
      conversationId: seeded.conversationId(n * 7),
      lane: "chat" as const,
    }));
    const stored = await hot(BATCH, () => updateResults(shard(rt, 0), results, conversations));
    expect(stored.messages.filter((m) => m.status === "failed")).toHaveLength(34);
    expect(stored.next).toHaveLength(33);
    await retire();
  });

  it("reads the numbers of a batch, and learns what the provider told of 100 recipients", async () => {
    await hot(1, () => numbersById(shard(rt, 0), [{ workspaceId: ws, id: numberId }]));
    const learned = Array.from({ length: BATCH }, (_, n) => ({
      workspaceId: ws,
      contactId: seeded.contactId(n),
      waId: null,
      userId: `US.${n}`,
    }));
    await hot(BATCH, () => learnIdentities(rt, 0, shard(rt, 0), learned));
  });
});

describe("the sweep", () => {
  it("takes up 500 overdue messages and 100 orphaned leases", async () => {
    await plant(500, { not_before: `${NOW - 600_000}` });
    const leased = await plant(BATCH, {
      status: "'sending'",
      claim: "'gone'",
      lease_until: `${NOW - 1}`,
      attempts: "1",
    });
    const walk = await selectWalk(shard(rt, 0));
    const sweep = async () => {
      const ended = await expireOpen(shard(rt, 0), walk, NOW);
      return { ...ended, overdue: await takeOverdue(shard(rt, 0), walk, NOW, NOW - 60_000) };
    };
    const found = await hot(600, sweep, SWEPT_ROWS_PER_ITEM);
    expect(found.overdue).toHaveLength(500);
    expect(found.expiredLeases.map((m) => m.id).sort()).toEqual([...leased].sort());
    const decided = found.expiredLeases.map((message, n) => ({ message, called: n % 2 === 0 }));
    const released = await hot(BATCH, () => releaseLeases(shard(rt, 0), decided, NOW));
    expect(released.requeued).toHaveLength(50);
    expect(released.ambiguous).toHaveLength(50);
    await retire();
  });

  it("gives up on 100 messages whose fate nobody told", async () => {
    const ids = await plant(BATCH, {
      status: "'sending'",
      open: "NULL",
      ambiguous_at: `${NOW - 3_600_000}`,
      unknown_ms: "600000",
      attempts: "1",
    });
    await env.SHARD_0.prepare("UPDATE phone_numbers SET last_status_at = ?2 WHERE id = ?1").bind(numberId, NOW).run();
    const settled = await hot(BATCH, () => settleAmbiguous(shard(rt, 0), NOW, 600_000));
    expect(settled.failed.map((m) => m.id).sort()).toEqual([...ids].sort());
  });

  it("finds what is due soon, and nothing at almost no cost", async () => {
    const ids = await plant(BATCH, { status: "'scheduled'", open: "NULL", scheduled_at: `${NOW + 1000} + i` });
    const times = { now: NOW, overdue: NOW - 60_000, until: NOW + 120_000, ahead: 0 };
    const due = await hot(BATCH, () => takeScheduled(shard(rt, 0), times));
    expect(due.soon.map((d) => d.id)).toEqual(ids);
    await retire();
    await hot(1, async () => {
      const walk = await selectWalk(shard(rt, 0));
      await expireOpen(shard(rt, 0), walk, NOW);
      await takeOverdue(shard(rt, 0), walk, NOW, NOW - 60_000);
      await settleAmbiguous(shard(rt, 0), NOW, 600_000);
      await takeScheduled(shard(rt, 0), times);
    });
  });
});

function report(
  n: number,
  waMessageId: string,
  callbackId: string | null,
  status: StatusReport["status"],
): StatusReport {
  return {
    workspaceId: ws,
    phoneNumberId: numberId,
    waMessageId,
    callbackId,
    status,
    at: NOW + n,
    error: null,
    pricing: null,
  };
}

describe("statuses", () => {
  it("of 100 messages, found by our id", async () => {
    const ids = await plant(BATCH, {
      status: "'sent'",
      open: "NULL",
      attempts: "1",
      sent_at: `${NOW}`,
      wa_message_id: "'wamid.own-' || (j.value ->> 'id')",
    });
    const reports = ids.map((id, n) => report(n, `wamid.own-${id}`, `${id}.1`, "delivered"));
    const { changed, after } = statusStatements(foldStatuses(reports));
    const results = await hot(BATCH, () => shard(rt, 0).batch([...changed, ...after]));
    expect(results.flatMap((r) => r.results)).toHaveLength(BATCH);
    expect(meter.rowsWritten()).toBe(BATCH);
  });

  it("of 100 messages whose send result is not stored yet", async () => {
    const ids = await plant(BATCH, { status: "'sending'", claim: "'token'", lease_until: `${NOW + 1}`, attempts: "1" });
    const { changed, after } = statusStatements(
      foldStatuses(ids.map((id, n) => report(n, `wamid.early-${id}`, `${id}.1`, "delivered"))),
    );
    await hot(BATCH, () => shard(rt, 0).batch([...changed, ...after]));
    const { results } = await env.SHARD_0.prepare(
      "SELECT count(*) AS n FROM messages WHERE phone_number_id = ?1 AND wa_message_id LIKE 'wamid.early-%' AND open IS NULL",
    )
      .bind(numberId)
      .all<{ n: number }>();
    expect(results[0]?.n).toBe(BATCH);
  });

  it("of 100 messages found by the provider's id, and of 100 that are not ours", async () => {
    const reports = Array.from({ length: BATCH }, (_, n) => report(n, seeded.wamid(2 * n + 1), null, "read"));
    const strange = Array.from({ length: BATCH }, (_, n) => report(n, `wamid.strange-${n}`, null, "read"));
    const { changed, after } = statusStatements(foldStatuses([...reports, ...strange]));
    await hot(2 * BATCH, () => shard(rt, 0).batch([...changed, ...after]));
  });

  it("that came before the echoes they belong to", async () => {
    const ids = await plant(BATCH, {
      status: "'sent'",
      origin: "'echo'",
      open: "NULL",
      wa_message_id: "'wamid.strange-' || i",
    });
    await hot(BATCH, () => shard(rt, 0).batch([applyWaitingStatuses(ids.map((id) => ({ ws, id })))]));
    expect(meter.rowsWritten()).toBe(BATCH);
  });
});

/** Delivers webhooks to the consumer and holds every statement of it to the budget. */
async function receive(items: number, bodies: readonly object[]): Promise<void> {
  const jobs = bodies.map(webhookJob);
  const result = await hot(items, () => deliver("inbound", jobs, { env: rt.env }));
  expect(result.retryBatch.retry).toBe(false);
}

describe("receiving", () => {
  it("100 texts of known people in 100 threads", async () => {
    await receive(
      BATCH,
      Array.from({ length: BATCH }, (_, n) =>
        inboundText(receiver, { from: seeded.digits(n * 11), wamid: `wamid.in-${n}` }),
      ),
    );
  });

  it("100 texts of one person in a thread of its own 10,000 messages", async () => {
    await plant(10_000, { open: "NULL", status: "'read'" }, 5);
    await receive(
      BATCH,
      Array.from({ length: BATCH }, (_, n) =>
        inboundText(receiver, { from: seeded.digits(5), wamid: `wamid.one-${n}` }),
      ),
    );
  });

  it("100 texts of people nobody knew", async () => {
    await receive(
      BATCH,
      Array.from({ length: BATCH }, (_, n) =>
        inboundText(receiver, { from: `4470000${String(n).padStart(5, "0")}`, wamid: `wamid.new-${n}` }),
      ),
    );
  });

  it("100 opt-outs, 100 reactions and 100 statuses in one batch", async () => {
    const ids = await plant(BATCH, {
      status: "'sent'",
      open: "NULL",
      attempts: "1",
      sent_at: `${NOW}`,
      wa_message_id: "'wamid.mix-' || (j.value ->> 'id')",
    });
    await receive(3 * BATCH, [
      ...Array.from({ length: BATCH }, (_, n) =>
        inboundText(receiver, { from: seeded.digits(n), wamid: `wamid.stop-${n}`, body: "STOP" }),
      ),
      ...Array.from({ length: BATCH }, (_, n) =>
        webhookBody(receiver, {
          contacts: [{ profile: { name: "Customer" }, wa_id: seeded.digits(n) }],
          messages: [
            {
              from: seeded.digits(n),
              id: `wamid.reaction-${n}`,
              timestamp: String(NOW / 1000),
              type: "reaction",
              reaction: { message_id: seeded.wamid(n), emoji: "👍" },
            },
          ],
        }),
      ),
      ...ids.map((id) =>
        statusUpdate(receiver, { wamid: `wamid.mix-${id}`, callback: `${id}.1`, to: "49301", status: "delivered" }),
      ),
    ]);
    const { results } = await env.SHARD_0.prepare(
      "SELECT count(*) AS n FROM contacts WHERE workspace_id = ?1 AND opted_out_at IS NOT NULL",
    )
      .bind(ws)
      .all<{ n: number }>();
    expect(results[0]?.n).toBe(BATCH);
  });
});

describe("one message or thread", () => {
  it("is found by its id, and a recipient by phone, contact or conversation", async () => {
    expect(await hot(1, () => selectMessage(shard(rt, 0), [ws], seeded.messageId(50_000)))).not.toBeNull();
    expect(await hot(1, () => selectConversation(shard(rt, 0), [ws], seeded.conversationId(9)))).not.toBeNull();
    const keys: RecipientKey[] = [
      { kind: "phone", digits: seeded.digits(9) },
      { kind: "contact", id: seeded.contactId(9) },
      { kind: "conversation", id: seeded.conversationId(9) },
    ];
    for (const key of keys) {
      const { recipient } = await hot(1, () =>
        selectRecipient(shard(rt, 0), ws, key, seeded.messageId(9), selectNamedNumber(ws, null)),
      );
      expect(recipient?.contactId, key.kind).toBe(seeded.contactId(9));
    }
  });

  it("is marked read at the cost of what was unread", async () => {
    await hot(60, () => updateRead(shard(rt, 0), ws, seeded.conversationId(7), NOW));
  });
});

/** Rows a page may cost: three for each it shows, and ten (architecture §6). */
function pageBudget(limit: number): number {
  return 3 * limit + 10;
}

const pageAt = (limit: number, cursor?: string): PageQuery => ({ limit, offset: 0, cursor });

interface List {
  name: string;
  page: (query: PageQuery) => Promise<{ rows: unknown[]; total: number; nextCursor: string | null }>;
}

describe.each([1_000, 200_000])("lists of a workspace with %i messages", (count) => {
  let lists: List[];
  let contact: List["page"];

  beforeAll(async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const own = await seedMessages(env.SHARD_0, {
      workspaceId: workspace.workspaceId,
      phoneNumberId: number.id,
      messages: count,
      conversations: count / 20,
    });
    const id = workspace.workspaceId;
    const messages = (filter: MessageFilter) => async (query: PageQuery) => {
      const page = await pageMessages(shard(rt, 0), id, filter, query);
      // What the route reads besides the page.
      await selectMessageEvents(shard(rt, 0), page.rows as Message[]);
      return page;
    };
    lists = [
      { name: "messages", page: messages({}) },
      { name: "inbox", page: (query) => pageConversations(shard(rt, 0), id, {}, query) },
      { name: "thread", page: messages({ conversationId: own.conversationId(3) }) },
    ];
    contact = messages({ contactId: own.contactId(3) });
  });

  it.each([0, 1, 2])(
    "cost at most 3 rows per row shown and 10, on every page, totals included (list %i)",
    async (place) => {
      const list = lists[place];
      if (!list) throw new Error("No such list");
      for (const limit of [5, 20, 100]) {
        let cursor: string | undefined;
        for (let n = 0; n < 3; n += 1) {
          meter.reset();
          const page = await list.page(pageAt(limit, cursor));
          expect(page.rows.length).toBeGreaterThan(0);
          expect(meter.rowsRead(), `${list.name}, ${limit} a page, page ${n + 1}`).toBeLessThanOrEqual(
            pageBudget(limit),
          );
          for (const cost of meter.statements) expect(await scansOf(cost), cost.sql).toEqual([]);
          if (page.nextCursor === null) break;
          cursor = page.nextCursor;
        }
      }
    },
  );

  it("find the messages of one contact over that contact's threads", async () => {
    meter.reset();
    const page = await contact(pageAt(20));
    expect(page.rows).toHaveLength(20);
    for (const cost of meter.statements) expect(await scansOf(cost), cost.sql).toEqual([]);
    expect(meter.rowsRead()).toBeLessThanOrEqual(2 * pageBudget(20));
  });

  it("stop looking after 2,000 rows when a filter matches few, and go on with the next page", async () => {
    const [list] = lists;
    if (!list) throw new Error("No list");
    meter.reset();
    const page = await pageMessages(shard(rt, 0), ws, { status: "cancelled", direction: "inbound" }, pageAt(20));
    expect(page.rows).toEqual([]);
    const [rows] = meter.statements;
    expect(rows?.rowsRead).toBeLessThanOrEqual(2 * 2_000 + 10);
    expect(page.nextCursor).not.toBeNull();
  });
});

it("lists of stored events cost what they show", async () => {
  await env.SHARD_0.prepare(
    `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < 20000)
     INSERT INTO webhook_events (workspace_id, id, provider, kind, raw, received_at) SELECT ?1, printf('event-%06d', i), 'meta', 'unknown', '{}', ${NOW} + i FROM n`,
  )
    .bind(ws)
    .run();
  meter.reset();
  const page = await pageWebhookEvents(shard(rt, 0), ws, {}, pageAt(20));
  const [rows, total] = meter.statements;
  expect(page.rows).toHaveLength(20);
  expect(rows?.rowsRead).toBeLessThanOrEqual(pageBudget(20));
  // Counted to 10,000 and not further.
  expect(total?.rowsRead).toBeLessThanOrEqual(10_010);
  meter.reset();
  await pageDeadLetters(shard(rt, 0), ws, pageAt(20));
  expect(meter.rowsRead()).toBeLessThanOrEqual(pageBudget(20));
});
