/** SQL of recipients: who is next, who was taken, what became of them. */
import { z } from "zod";
import { type Db, jsonChunks, type Statement, statement } from "../platform/d1";
import { EXACT_TOTAL, decodeCursor, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import type { RECIPIENT_STATUSES } from "./schema";
import { type Campaign, OWN_COLUMNS, toCampaign } from "./store";

const jsonText = z.string().transform((text): unknown => JSON.parse(text));

const candidateRow = z.object({
  asked: z.string(),
  fields: jsonText.pipe(z.record(z.string(), z.string().nullable())).nullable(),
  before: z.string().nullable(),
  before_status: z.string().nullable(),
  who: z.string().nullable(),
  kind: z.string().nullable(),
  phone_number: z.string().nullable(),
  wa_id: z.string().nullable(),
  user_id: z.string().nullable(),
  deleted_at: z.number().nullable(),
  opted_in: z.number().nullable(),
  opted_out_at: z.number().nullable(),
  peer: z.string().nullable(),
  twice: z.number(),
});

/** A recipient who waits, and who that is now. */
export type Candidate = z.output<typeof candidateRow>;

/** The next who wait, in the order of their ids; a statement each. About 6 rows read per candidate. */
export async function selectCandidates(
  db: Db,
  campaigns: readonly Campaign[],
  limit: number,
): Promise<Candidate[][]> {
  const results = await db.batch(
    campaigns.map((campaign) =>
      statement(
        `SELECT r.contact_id AS asked, r.fields, r.message_id AS before, b.status AS before_status, c.id AS who, c.kind, c.phone_number, c.wa_id, c.user_id,
           c.deleted_at, c.opted_in, c.opted_out_at, v.peer,
           c.id IS NOT NULL AND c.id <> r.contact_id AND EXISTS (SELECT 1 FROM campaign_recipients d
             WHERE d.workspace_id = ?1 AND d.campaign_id = ?2 AND d.contact_id = c.id) AS twice
         FROM (SELECT w.contact_id, w.fields, w.message_id FROM campaign_recipients w
           WHERE w.workspace_id = ?1 AND w.campaign_id = ?2 AND w.contact_id > ?3 AND w.state = 'waiting' ORDER BY w.contact_id LIMIT ?5) r
         LEFT JOIN contacts o ON o.workspace_id = ?1 AND o.id = r.contact_id
         LEFT JOIN contacts c ON c.workspace_id = ?1 AND c.id = COALESCE(o.merged_into, o.id)
         LEFT JOIN messages b ON b.workspace_id = ?1 AND b.id = r.message_id
         LEFT JOIN conversations v ON v.workspace_id = ?1 AND v.contact_id = c.id AND v.phone_number_id = ?4 AND v.merged_into IS NULL
         ORDER BY r.contact_id`,
        campaign.workspaceId,
        campaign.id,
        campaign.feedPlace,
        campaign.phoneNumberId,
        limit,
      ),
    ),
  );
  return results.map(({ results: rows }) => rows.map((row) => candidateRow.parse(row)));
}

/** What becomes of a candidate: a message, or why there is none. */
export interface Verdict {
  asked: string;
  before: string | null;
  state: "taken" | "skipped" | "failed";
  reason: string | null;
  /** The new message; null when there is none. */
  messageId: string | null;
}

/** Whether a row of messages about to be made is that of a recipient whom this transaction took. */
export const TAKEN_HERE = `EXISTS (SELECT 1 FROM campaign_recipients t WHERE t.workspace_id = j.value ->> 'ws'
  AND t.campaign_id = j.value ->> 'campaign' AND t.contact_id = j.value ->> 'asked' AND t.message_id = j.value ->> 'id' AND t.state = 'taken')`;

/**
 * Marks these as taken, skipped or failed, each only if they still wait as they were seen, the campaign still sends, and,
 * of those who had a message before, that one is still failed or cancelled: whoever else takes them, or gets through
 * with the earlier message, wins. 1 row written each, 1 for the campaign.
 */
export function takeRecipients(campaign: Campaign, verdicts: readonly Verdict[], now: number): Statement[] {
  const { workspaceId, id, feedPlace } = campaign;
  const rows = verdicts.map(({ asked, before, state, reason, messageId }) => ({
    ws: workspaceId,
    campaign: id,
    asked,
    before,
    state,
    reason,
    id: messageId,
  }));
  const sending = `EXISTS (SELECT 1 FROM campaigns k WHERE k.workspace_id = j.value ->> 'ws' AND k.id = j.value ->> 'campaign'
    AND k.status = 'sending' AND k.phase IS NULL AND k.deleted_at IS NULL)`;
  return [
    ...jsonChunks(rows).map((json) =>
      statement(
        `UPDATE campaign_recipients AS r SET state = j.value ->> 'state', reason = j.value ->> 'reason', message_id = COALESCE(j.value ->> 'id', r.message_id)
         FROM json_each(?1) j WHERE r.workspace_id = j.value ->> 'ws' AND r.campaign_id = j.value ->> 'campaign' AND r.contact_id = j.value ->> 'asked'
           AND r.state = 'waiting' AND r.message_id IS j.value ->> 'before' AND ${sending}
           AND (j.value ->> 'id' IS NULL OR r.message_id IS NULL OR EXISTS (SELECT 1 FROM messages b WHERE b.workspace_id = r.workspace_id
             AND b.id = r.message_id AND b.status IN ('failed', 'cancelled')))`,
        json,
      ),
    ),
    statement(
      `UPDATE campaigns SET feed_place = ?4, fed_at = ?5
       WHERE workspace_id = ?1 AND id = ?2 AND feed_place = ?3 AND status = 'sending' AND phase IS NULL`,
      workspaceId,
      id,
      feedPlace,
      verdicts.at(-1)?.asked ?? feedPlace,
      now,
    ),
  ];
}

/** Messages of a campaign that wait in the queue. Driven by what is open, which is little however large the campaign. */
const QUEUED = `SELECT r.contact_id AS who, q.id AS id FROM messages q INDEXED BY messages_open_queue
  CROSS JOIN campaign_recipients r
  WHERE q.workspace_id = ?1 AND q.open = 1 AND q.lane = 'bulk' AND q.status = 'queued' AND q.resent_at IS NULL
    AND r.workspace_id = ?1 AND r.campaign_id = ?2 AND r.message_id = q.id
    AND r.contact_id IN (SELECT q.contact_id UNION ALL SELECT l.id FROM contacts l INDEXED BY contacts_merged
      WHERE l.workspace_id = ?1 AND l.merged_into = q.contact_id)`;

/**
 * sending → scheduled, with the time of the pause. What waits in the queue is taken out of it, and its recipients wait
 * again: nothing more leaves but what a consumer holds at this moment. Null when it was not sending.
 */
export async function updatePaused(
  db: Db,
  campaign: Pick<Campaign, "workspaceId" | "id">,
  pause: { now: number; reason: string | null; dueAt: number },
): Promise<Campaign | null> {
  const key = [campaign.workspaceId, campaign.id] as const;
  const PAUSED = `EXISTS (SELECT 1 FROM campaigns k WHERE k.workspace_id = ?1 AND k.id = ?2 AND k.status = 'scheduled')`;
  const [paused] = await db.batch([
    statement(
      `UPDATE campaigns SET status = 'scheduled', paused_at = ?3, pause_reason = ?4, feed_place = '', due_at = ?5, updated_at = ?3, version = version + 1
       WHERE workspace_id = ?1 AND id = ?2 AND status = 'sending' AND deleted_at IS NULL RETURNING ${OWN_COLUMNS}`,
      ...key,
      pause.now,
      pause.reason,
      pause.dueAt,
    ),
    statement(
      `UPDATE campaign_recipients AS t SET state = 'waiting' FROM (${QUEUED}) x
       WHERE t.workspace_id = ?1 AND t.campaign_id = ?2 AND t.contact_id = x.who AND t.state = 'taken' AND ${PAUSED}`,
      ...key,
    ),
    statement(
      `UPDATE messages AS m SET status = 'cancelled', open = NULL FROM (${QUEUED} AND r.state = 'waiting') x
       WHERE m.workspace_id = ?1 AND m.id = x.id AND m.status = 'queued' AND ${PAUSED}`,
      ...key,
    ),
  ]);
  const row = paused?.results[0];
  return row ? toCampaign(row) : null;
}

/** scheduled or sending → cancelled, with what waits in the queue. Null when there was nothing to cancel. */
export async function updateCancelled(
  db: Db,
  campaign: Pick<Campaign, "workspaceId" | "id">,
  now: number,
): Promise<Campaign | null> {
  const key = [campaign.workspaceId, campaign.id] as const;
  const [cancelled] = await db.batch([
    statement(
      `UPDATE campaigns SET status = 'cancelled', phase = NULL, ended_at = ?3, due_at = ?3, updated_at = ?3, version = version + 1
       WHERE workspace_id = ?1 AND id = ?2 AND status IN ('draft', 'scheduled', 'sending') AND deleted_at IS NULL RETURNING ${OWN_COLUMNS}`,
      ...key,
      now,
    ),
    statement(
      `UPDATE messages AS m SET status = 'cancelled', open = NULL FROM (${QUEUED}) x
       WHERE m.workspace_id = ?1 AND m.id = x.id AND m.status = 'queued'
         AND EXISTS (SELECT 1 FROM campaigns k WHERE k.workspace_id = ?1 AND k.id = ?2 AND k.status = 'cancelled')`,
      ...key,
    ),
  ]);
  const row = cancelled?.results[0];
  return row ? toCampaign(row) : null;
}

/**
 * Counts a campaign's recipients by what became of their messages, and ends it when all are settled, in one statement:
 * what it is ended by is what is stored. `drained`: the feeder found nobody behind its place, so whoever still waits
 * stands before it. About 2 rows read per recipient.
 */
export async function updateCounts(
  db: Db,
  campaign: Campaign,
  count: { now: number; drained: boolean; dueAt: (ended: boolean) => number | null },
): Promise<Campaign | null> {
  const row = await db.first(
    `UPDATE campaigns AS k SET counted_at = ?3, total_contacts = x.total, sent_count = x.sent, delivered_count = x.delivered, read_count = x.read,
       failed_count = x.failed, skipped_count = x.skipped, pending_count = CASE WHEN k.status = 'cancelled' THEN x.open ELSE x.waiting + x.open END,
       feed_place = CASE WHEN ?4 = 1 AND x.waiting > 0 THEN '' ELSE k.feed_place END,
       updated_at = CASE WHEN (k.total_contacts, k.sent_count, k.delivered_count, k.read_count, k.failed_count, k.skipped_count)
         IS (x.total, x.sent, x.delivered, x.read, x.failed, x.skipped) AND NOT (k.status = 'sending' AND k.phase IS NULL AND x.waiting + x.open = 0)
         THEN k.updated_at ELSE ?3 END,
       ended_at = CASE WHEN k.status = 'sending' AND k.phase IS NULL AND x.waiting + x.open = 0 THEN ?3 ELSE k.ended_at END,
       due_at = CASE WHEN k.status = 'sending' AND (k.phase IS NOT NULL OR x.waiting + x.open > 0) THEN ?5
         WHEN k.status IN ('scheduled') AND x.open = 0 THEN NULL ELSE ?6 END,
       status = CASE WHEN k.status = 'sending' AND k.phase IS NULL AND x.waiting + x.open = 0
         THEN CASE WHEN x.total > 0 AND x.failed = x.total THEN 'failed' ELSE 'completed' END ELSE k.status END
     FROM (SELECT count(*) FILTER (WHERE r.state <> 'skipped') AS total,
         count(*) FILTER (WHERE r.state = 'taken' AND m.status IN ('sent', 'delivered', 'read')) AS sent,
         count(*) FILTER (WHERE r.state = 'taken' AND m.status IN ('delivered', 'read')) AS delivered,
         count(*) FILTER (WHERE r.state = 'taken' AND m.status = 'read') AS read,
         count(*) FILTER (WHERE r.state = 'failed' OR (r.state = 'taken' AND m.status = 'failed')) AS failed,
         count(*) FILTER (WHERE r.state = 'skipped') AS skipped,
         count(*) FILTER (WHERE r.state = 'waiting') AS waiting,
         count(*) FILTER (WHERE r.state = 'taken' AND m.status IN ('queued', 'sending')) AS open
       FROM campaign_recipients r LEFT JOIN messages m ON m.workspace_id = ?1 AND m.id = r.message_id
       WHERE r.workspace_id = ?1 AND r.campaign_id = ?2) x
     WHERE k.workspace_id = ?1 AND k.id = ?2 AND k.started_at IS NOT NULL AND k.deleted_at IS NULL RETURNING ${OWN_COLUMNS}`,
    campaign.workspaceId,
    campaign.id,
    count.now,
    Number(count.drained),
    count.dueAt(false),
    count.dueAt(true),
  );
  return row && toCampaign(row);
}

const recipientRow = z.object({
  contact_id: z.string(),
  status: z.string().transform((text) => text as (typeof RECIPIENT_STATUSES)[number]),
  reason: z.string().nullable(),
  name: z.string().nullable(),
  phone_number: z.string().nullable(),
  message_id: z.string().nullable(),
  wa_message_id: z.string().nullable(),
  error: jsonText.nullable(),
  sent_at: z.number().nullable(),
  delivered_at: z.number().nullable(),
  read_at: z.number().nullable(),
  failed_at: z.number().nullable(),
});

export type Recipient = z.output<typeof recipientRow>;

/** How a recipient stands; `?4` is whether the campaign was cancelled. */
const STATUS = `CASE r.state WHEN 'taken' THEN m.status WHEN 'waiting' THEN CASE WHEN ?4 = 1 THEN 'cancelled' ELSE 'pending' END ELSE r.state END`;

const contactCursor = z.tuple([z.string()]);

/** Recipients in the order in which they are sent to. The total of a filter is counted to 10,000. */
export async function pageRecipients(
  db: Db,
  campaign: Campaign,
  status: (typeof RECIPIENT_STATUSES)[number] | undefined,
  query: PageQuery,
): Promise<Page<Recipient>> {
  const after = query.cursor === undefined ? "" : decodeCursor(query.cursor, contactCursor)[0];
  const cancelled = Number(campaign.status === "cancelled");
  const from = "FROM campaign_recipients r LEFT JOIN messages m ON m.workspace_id = ?1 AND m.id = r.message_id";
  const which = `r.workspace_id = ?1 AND r.campaign_id = ?2 AND r.contact_id > ?3 AND (?5 IS NULL OR ${STATUS} = ?5)`;
  const [rows, total] = await db.batch([
    statement(
      `SELECT r.contact_id, ${STATUS} AS status, r.reason, c.name, COALESCE(m.to_number, c.phone_number) AS phone_number,
         CASE WHEN r.state = 'taken' THEN r.message_id END AS message_id, CASE WHEN r.state = 'taken' THEN m.wa_message_id END AS wa_message_id,
         CASE WHEN r.state = 'taken' AND m.status = 'failed' THEN m.error END AS error,
         CASE WHEN r.state = 'taken' THEN m.sent_at END AS sent_at, CASE WHEN r.state = 'taken' THEN m.delivered_at END AS delivered_at,
         CASE WHEN r.state = 'taken' THEN m.read_at END AS read_at, CASE WHEN r.state = 'taken' THEN m.failed_at END AS failed_at
       ${from} LEFT JOIN contacts c ON c.workspace_id = ?1 AND c.id = r.contact_id
       WHERE ${which} ORDER BY r.contact_id LIMIT ${query.limit + 1} OFFSET ${query.cursor === undefined ? query.offset : 0}`,
      campaign.workspaceId,
      campaign.id,
      after,
      cancelled,
      status ?? null,
    ),
    statement(
      `SELECT count(*) AS n FROM (SELECT 1 ${from} WHERE ${which} LIMIT ${status === undefined ? -1 : EXACT_TOTAL})`,
      campaign.workspaceId,
      campaign.id,
      "",
      cancelled,
      status ?? null,
    ),
  ]);
  const found = (rows?.results ?? []).map((row) => recipientRow.parse(row));
  const last = found[query.limit - 1];
  const n = z.number().parse(total?.results[0]?.n);
  return {
    rows: found.slice(0, query.limit),
    total: n,
    totalIsLowerBound: status !== undefined && n >= EXACT_TOTAL,
    nextCursor: found.length > query.limit && last ? encodeCursor([last.contact_id]) : null,
  };
}

const personRow = z.object({
  id: z.string(),
  name: z.string().nullable(),
  first_name: z.string().nullable(),
  phone_number: z.string().nullable(),
  username: z.string().nullable(),
});

/** What is known of one person, by our id or by digits: for a test send. Null when nobody is known by it. */
export async function selectPerson(
  db: Db,
  workspaceId: string,
  key: { contactId: string } | { digits: string },
): Promise<z.output<typeof personRow> | null> {
  const byId = "contactId" in key;
  const row = await db.first(
    `SELECT c.id, c.name, substr(trim(c.name), 1, instr(trim(c.name) || ' ', ' ') - 1) AS first_name, COALESCE(c.phone_number, '+' || c.wa_id) AS phone_number, c.username
     FROM contacts c WHERE c.workspace_id = ?1 AND c.deleted_at IS NULL AND c.id = ${
       byId
         ? "(SELECT COALESCE(k.merged_into, k.id) FROM contacts k WHERE k.workspace_id = ?1 AND k.id = ?2)"
         : "(SELECT i.contact_id FROM contact_identities i WHERE i.workspace_id = ?1 AND i.kind IN ('phone', 'wa') AND i.value = ?2 ORDER BY i.kind LIMIT 1)"
     }`,
    workspaceId,
    byId ? key.contactId : key.digits,
  );
  return row && personRow.parse(row);
}
