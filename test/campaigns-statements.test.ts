import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { Meter, meteredEnv, type StatementCost } from "../bench/meter";
import {
  type Campaign,
  countOpenBulk,
  pageCampaigns,
  selectCampaign,
  selectDue,
  selectSending,
} from "../src/campaigns/store";
import { estimateAudience, freezeStep, retryStep, type Walk } from "../src/campaigns/store-audience";
import {
  pageRecipients,
  selectCandidates,
  TAKEN_HERE,
  takeRecipients,
  updateCounts,
  updatePaused,
} from "../src/campaigns/store-recipients";
import { matchOf } from "../src/contacts/service-search";
import { bulkStatements } from "../src/messages/service-bulk";
import { createRuntime, type Runtime, shard } from "../src/platform/runtime";
import { newWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { type Seeded, seedMessages } from "./support/seed";

// Many rows take seconds, and more on a busy machine.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

/**
 * The statements of campaigns among many rows: what runs every second reads by how many are taken, not by how many there
 * are (pipeline 16). A statement that is fast on an empty database proves nothing.
 */
const PEOPLE = 40_000;
const TAKEN = 20_000;
const TURN = 64;

const meter = new Meter();
const rt: Runtime = createRuntime(meteredEnv(env, meter));

let ws: string;
let numberId: string;
let seeded: Seeded;
let running: Campaign;

const SNAPSHOT = {
  template: { name: "t", language: "en", category: "MARKETING", parameterFormat: "POSITIONAL", components: {} },
  fields: ["name"],
  required: [],
};

async function insertCampaign(id: string, set: Record<string, string | number | null>): Promise<Campaign> {
  const columns: Record<string, string | number | null> = {
    workspace_id: ws,
    id,
    phone_number_id: numberId,
    name: "Many",
    status: "sending",
    version: 0,
    snapshot: JSON.stringify(SNAPSHOT),
    red_accepted: 0,
    place: "",
    retry_unknown: 0,
    feed_place: "",
    fed_at: 0,
    total_contacts: 0,
    sent_count: 0,
    delivered_count: 0,
    read_count: 0,
    failed_count: 0,
    skipped_count: 0,
    pending_count: 0,
    counted_at: 0,
    started_at: Date.now(),
    created_at: 1,
    updated_at: 1,
    ...set,
  };
  const names = Object.keys(columns);
  await env.SHARD_0.prepare(
    `INSERT INTO campaigns (${names.join(", ")}) VALUES (${names.map((_, n) => `?${n + 1}`).join(", ")})`,
  )
    .bind(...Object.values(columns))
    .run();
  const campaign = await selectCampaign(shard(rt, 0), [ws], id);
  if (!campaign) throw new Error("No campaign");
  return campaign;
}

beforeAll(async () => {
  const workspace = await newWorkspace();
  const number = await registerNumber(workspace);
  ws = workspace.workspaceId;
  numberId = number.id;
  seeded = await seedMessages(env.SHARD_0, {
    workspaceId: ws,
    phoneNumberId: numberId,
    messages: PEOPLE,
    conversations: PEOPLE,
  });
  await env.SHARD_0.prepare("UPDATE contacts SET opted_in = 1, tags = '[\"vip\"]' WHERE workspace_id = ?1")
    .bind(ws)
    .run();
  running = await insertCampaign(rt.newId(), { feed_place: seeded.contactId(TAKEN - 1) });
  await env.SHARD_0.prepare(
    `INSERT INTO campaign_recipients (workspace_id, campaign_id, contact_id, state, fields, message_id)
     SELECT v.workspace_id, ?2, v.contact_id, iif(v.contact_id <= ?3, 'taken', 'waiting'), '{"name":"Ana"}', iif(v.contact_id <= ?3, m.id, NULL)
     FROM messages m JOIN conversations v ON v.workspace_id = m.workspace_id AND v.id = m.conversation_id WHERE m.workspace_id = ?1`,
  )
    .bind(ws, running.id, running.feedPlace)
    .run();
});

const TABLES = ["messages", "conversations", "contacts", "campaign_recipients", "campaigns", "list_totals"];

/** Names under which a statement walks a whole table, by its query plan. */
async function scansOf(cost: StatementCost): Promise<string[]> {
  const { results } = await env.SHARD_0.prepare(`EXPLAIN QUERY PLAN ${cost.sql}`)
    .bind(...cost.params)
    .all<{ detail: string }>();
  const names = new Set(TABLES);
  for (const [, table, alias] of cost.sql.matchAll(/\b(\w+)\s+(?:AS\s+)?(\w+)\b/g)) {
    if (table && alias && TABLES.includes(table)) names.add(alias);
  }
  return results.flatMap(({ detail }) => {
    const scanned = /^SCAN (\w+)/.exec(detail)?.[1];
    return scanned !== undefined && names.has(scanned) && !/VIRTUAL TABLE|CONSTANT/.test(detail) ? [detail] : [];
  });
}

/** Runs a step; no statement of it walks a table, nor reads more than this many rows. Answers what was written. */
async function hot<T>(rowsRead: number, step: () => Promise<T>): Promise<{ result: T; written: number }> {
  meter.reset();
  const result = await step();
  const costs = [...meter.statements];
  expect(costs.length).toBeGreaterThan(0);
  for (const cost of costs) {
    expect(await scansOf(cost), cost.sql).toEqual([]);
    expect(cost.rowsRead, `rows read by ${cost.sql}`).toBeLessThanOrEqual(rowsRead);
  }
  return { result, written: costs.reduce((sum, cost) => sum + cost.rowsWritten, 0) };
}

const db = () => shard(rt, 0);

describe("a turn of the feeder among 40,000 recipients", () => {
  it("reads who is next, takes them, and makes their messages, by how many they are", async () => {
    await hot(20, () => selectSending(db(), ws, numberId, 50));
    await hot(20, () => countOpenBulk(db(), ws, numberId, 320));
    const { result } = await hot(12 * TURN, () => selectCandidates(db(), [running], TURN));
    const candidates = result[0] ?? [];
    expect(candidates).toHaveLength(TURN);
    const rows = candidates.map((candidate) => ({
      message: {
        workspaceId: ws,
        id: rt.newId(),
        phoneNumberId: numberId,
        contactId: candidate.who ?? "",
        type: "template",
        content: { name: "t", text: "Hello" },
        toNumber: candidate.phone_number,
        toUser: null,
        fromNumber: "+1",
        category: "marketing" as const,
        expiresAt: Date.now() + 1000,
      },
      preview: "Hello",
      conversation: { id: rt.newId(), peer: "p" },
      given: { campaign: running.id, asked: candidate.asked },
    }));
    const verdicts = candidates.map((candidate, n) => ({
      asked: candidate.asked,
      before: null,
      who: candidate.who,
      state: "taken" as const,
      reason: null,
      messageId: rows[n]?.message.id ?? null,
    }));
    const now = Date.now();
    const { written, result: made } = await hot(12 * TURN, () =>
      db().batch([...takeRecipients(running, verdicts, now), ...bulkStatements(rows, now, TAKEN_HERE)]),
    );
    expect(made.at(-1)?.results).toHaveLength(TURN);
    expect(written / TURN).toBeLessThanOrEqual(6.5);
    // The same once more, as after a crash: nobody is taken, and nothing is made.
    const again = await hot(12 * TURN, () =>
      db().batch([
        ...takeRecipients(running, verdicts, now),
        ...bulkStatements(
          rows.map((row) => ({ ...row, message: { ...row.message, id: rt.newId() } })),
          now,
          TAKEN_HERE,
        ),
      ]),
    );
    expect(again.result.at(-1)?.results).toEqual([]);
    expect(again.written).toBe(0);
  });

  it("takes nobody who was erased since they were read, and whoever reads them next leaves them out", async () => {
    const later = await insertCampaign(rt.newId(), {});
    const asked = seeded.contactId(5);
    await env.SHARD_0.prepare(
      "INSERT INTO campaign_recipients (workspace_id, campaign_id, contact_id, state) VALUES (?1, ?2, ?3, 'waiting')",
    )
      .bind(ws, later.id, asked)
      .run();
    const verdict = { asked, before: null, state: "taken" as const, reason: null, messageId: rt.newId() };
    await db().batch(takeRecipients(later, [{ ...verdict, who: rt.newId() }], 1));
    const state = () =>
      env.SHARD_0.prepare("SELECT state FROM campaign_recipients WHERE campaign_id = ?1").bind(later.id).first("state");
    expect(await state()).toBe("waiting");
    await db().batch(takeRecipients(later, [{ ...verdict, who: asked }], 1));
    expect(await state()).toBe("taken");
    await env.SHARD_0.prepare("DELETE FROM campaigns WHERE id = ?1").bind(later.id).run();
  });

  it("pauses by what waits in the queue, not by how many there are", async () => {
    const { result } = await hot(8 * TURN, () =>
      updatePaused(db(), running, { now: Date.now(), reason: null, dueAt: 1 }),
    );
    expect(result).toMatchObject({ status: "scheduled" });
    const back = await env.SHARD_0.prepare(
      "SELECT count(*) AS n FROM campaign_recipients WHERE campaign_id = ?1 AND state = 'waiting'",
    )
      .bind(running.id)
      .first<{ n: number }>();
    expect(back?.n).toBe(PEOPLE - TAKEN);
  });

  it("counts with two rows per recipient", async () => {
    const { written } = await hot(2 * PEOPLE + 100, () =>
      updateCounts(db(), running, { now: Date.now(), drained: false, sendingDueAt: 1, endedDueAt: null }),
    );
    expect(written).toBeLessThanOrEqual(4);
  });
});

describe("preparing", () => {
  it.each([
    ["all", () => ({ kind: "opted_in" })],
    ["by tag", () => ({ kind: "tags", match: matchOf(ws, { tags: ["vip"], optedIn: null, search: null }) })],
  ] as [string, () => Walk][])("%s: a step reads and writes by its own size", async (_, walk) => {
    const meant = walk();
    const place = meant.kind === "tags" ? "-1" : seeded.contactId(TAKEN);
    const campaign = await insertCampaign(rt.newId(), { phase: "freezing", place });
    const { snapshot } = campaign;
    if (!snapshot) throw new Error("Nothing was frozen");
    const { result, written } = await hot(6 * 1000, () =>
      freezeStep(db(), { ...campaign, snapshot }, meant, { id: rt.newId(), now: Date.now(), dueAt: 5 }, 1000),
    );
    expect(result).toMatchObject({ phase: "freezing" });
    expect(written).toBeLessThanOrEqual(1000 + 10);
    await hot(5 * PEOPLE + 100, () => estimateAudience(db(), ws, meant, { required: [], marketing: true }));
  });

  it("those who failed: a step reads by its own size", async () => {
    const campaign = await insertCampaign(rt.newId(), { phase: "retrying" });
    await hot(5 * 1000, () => retryStep(db(), campaign, { id: rt.newId(), now: Date.now(), dueAt: 5 }, 1000));
  });
});

describe("pages", () => {
  it("of campaigns and recipients are read by their size", async () => {
    const page = { limit: 20, offset: 0 };
    await hot(70, () => pageCampaigns(db(), ws, undefined, page));
    await hot(70, () => pageCampaigns(db(), ws, "sending", page));
    await hot(50, () => selectDue(db(), Date.now(), 10));
    meter.reset();
    await pageRecipients(db(), running, undefined, page);
    expect(meter.statements[0]?.rowsRead).toBeLessThanOrEqual(70);
  });
});
