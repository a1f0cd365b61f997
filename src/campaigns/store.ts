/** SQL of campaigns' own rows. Every change of status is one conditional statement. */
import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, type Statement, statement } from "../platform/d1";
import { claimKey, holderOf, holderRow, type IdempotencyClaim } from "../platform/idempotency";
import { decodeCursor, EXACT_TOTAL, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import type { Audience, Snapshot, TemplateParams } from "./schema";
import { campaigns } from "./tables";

export type Campaign = InferSelectModel<typeof campaigns>;
export type CampaignStatus = Campaign["status"];

const COLUMNS = columnsOf(campaigns, "k");
/** Of the table itself, for RETURNING. */
export const OWN_COLUMNS = COLUMNS.replaceAll("k.", "");

export function toCampaign(row: Record<string, unknown>): Campaign {
  return fromRow(campaigns, row);
}

export interface NewCampaign {
  workspaceId: string;
  id: string;
  phoneNumberId: string;
  templateId: string | null;
  name: string;
  audience: Audience | null;
  templateParams: TemplateParams | null;
  scheduledAt: number | null;
  createdBy: string | null;
}

/** A draft, or, with a date, a scheduled one. One row, its index, its due time and the list's total. */
export async function insertCampaign(db: Db, row: NewCampaign, now: number): Promise<Campaign> {
  const [inserted] = await db.batch([
    statement(
      `INSERT INTO campaigns (workspace_id, id, phone_number_id, template_id, name, status, audience, template_params, scheduled_at, version,
         red_accepted, place, retry_unknown, feed_place, fed_at, total_contacts, sent_count, delivered_count, read_count, failed_count,
         skipped_count, pending_count, counted_at, due_at, created_by, created_at, updated_at)
       VALUES (?1, ?2, ?3, ?4, ?5, CASE WHEN ?8 IS NULL THEN 'draft' ELSE 'scheduled' END, ?6, ?7, ?8, 0, 0, '', 0, '', 0, 0, 0, 0, 0, 0, 0, 0, 0, ?8, ?9, ?10, ?10)
       RETURNING ${OWN_COLUMNS}`,
      row.workspaceId,
      row.id,
      row.phoneNumberId,
      row.templateId,
      row.name,
      row.audience && JSON.stringify(row.audience),
      row.templateParams && JSON.stringify(row.templateParams),
      row.scheduledAt,
      row.createdBy,
      now,
    ),
    statement(
      `INSERT INTO list_totals (workspace_id, list, n) VALUES (?1, 'campaigns', 1)
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + 1`,
      row.workspaceId,
    ),
  ]);
  const raw = inserted?.results[0];
  if (!raw) throw new Error("A campaign was not stored");
  return toCampaign(raw);
}

/** A live campaign among the caller's workspaces (contract 5). */
export async function selectCampaign(db: Db, workspaceIds: readonly string[], id: string): Promise<Campaign | null> {
  const row = await db.first(
    `SELECT ${COLUMNS} FROM json_each(?1) j CROSS JOIN campaigns k
     WHERE k.workspace_id = j.value AND k.id = ?2 AND k.deleted_at IS NULL`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && toCampaign(row);
}

const ageCursor = z.tuple([z.string()]);

/** Campaigns, newest first; those of a status by its index. */
export async function pageCampaigns(
  db: Db,
  workspaceId: string,
  status: CampaignStatus | undefined,
  query: PageQuery,
): Promise<Page<Campaign>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, ageCursor)[0];
  const rest = `AND (?2 IS NULL OR k.id < ?2) AND k.deleted_at IS NULL ORDER BY k.id DESC
    LIMIT ${query.limit + 1} OFFSET ${after === null ? query.offset : 0}`;
  const [rows, total] = await db.batch(
    status === undefined
      ? [
          statement(`SELECT ${COLUMNS} FROM campaigns k WHERE k.workspace_id = ?1 ${rest}`, workspaceId, after),
          statement("SELECT n FROM list_totals WHERE workspace_id = ?1 AND list = 'campaigns'", workspaceId),
        ]
      : [
          statement(
            `SELECT ${COLUMNS} FROM campaigns k INDEXED BY campaigns_status WHERE k.workspace_id = ?1 AND k.status = ?3 ${rest}`,
            workspaceId,
            after,
            status,
          ),
          statement(
            `SELECT count(*) AS n FROM (SELECT 1 FROM campaigns k INDEXED BY campaigns_status
               WHERE k.workspace_id = ?1 AND k.status = ?2 AND k.deleted_at IS NULL LIMIT ${EXACT_TOTAL})`,
            workspaceId,
            status,
          ),
        ],
  );
  const found = (rows?.results ?? []).map(toCampaign);
  const last = found[query.limit - 1];
  const n = z.number().parse(total?.results[0]?.n ?? 0);
  return {
    rows: found.slice(0, query.limit),
    total: n,
    totalIsLowerBound: status !== undefined && n >= EXACT_TOTAL,
    nextCursor: found.length > query.limit && last ? encodeCursor([last.id]) : null,
  };
}

export interface CampaignChange {
  name: string;
  status: "draft" | "scheduled";
  phoneNumberId: string;
  templateId: string | null;
  audience: Audience | null;
  templateParams: TemplateParams | null;
  scheduledAt: number | null;
}

/** Changes one that is still as `campaign` has it, and is not under way; null when it moved on meanwhile. */
export async function updateCampaign(
  db: Db,
  campaign: Campaign,
  change: CampaignChange,
  now: number,
): Promise<Campaign | null> {
  const row = await db.first(
    `UPDATE campaigns SET name = ?5, status = ?6, phone_number_id = ?7, template_id = ?8, audience = ?9, template_params = ?10,
       scheduled_at = ?11, version = version + 1, updated_at = ?12,
       due_at = CASE WHEN ?6 = 'scheduled' AND paused_at IS NULL AND started_at IS NULL THEN ?11 ELSE due_at END
     WHERE workspace_id = ?1 AND id = ?2 AND status = ?3 AND version = ?4 AND deleted_at IS NULL RETURNING ${OWN_COLUMNS}`,
    campaign.workspaceId,
    campaign.id,
    campaign.status,
    campaign.version,
    change.name,
    change.status,
    change.phoneNumberId,
    change.templateId,
    change.audience && JSON.stringify(change.audience),
    change.templateParams && JSON.stringify(change.templateParams),
    change.scheduledAt,
    now,
  );
  return row && toCampaign(row);
}

/** The name changes at any time. */
export async function updateName(db: Db, campaign: Campaign, name: string, now: number): Promise<Campaign | null> {
  const row = await db.first(
    `UPDATE campaigns SET name = ?3, updated_at = ?4 WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL RETURNING ${OWN_COLUMNS}`,
    campaign.workspaceId,
    campaign.id,
    name,
    now,
  );
  return row && toCampaign(row);
}

/** Soft; one that is sending stays. True when it went. */
export async function softDeleteCampaign(db: Db, campaign: Campaign, now: number): Promise<boolean> {
  const [deleted] = await db.batch([
    statement(
      `UPDATE campaigns SET deleted_at = ?3, updated_at = ?3, due_at = NULL
       WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL AND status <> 'sending' RETURNING id`,
      campaign.workspaceId,
      campaign.id,
      now,
    ),
    statement(
      "UPDATE list_totals SET n = n - 1 WHERE workspace_id = ?1 AND list = 'campaigns' AND changes() > 0",
      campaign.workspaceId,
    ),
  ]);
  return (deleted?.results.length ?? 0) > 0;
}

/** A call that begins something: `id` names this very call. */
export interface Run {
  id: string;
  claim: IdempotencyClaim | null;
  now: number;
  /** When the cron looks whether it goes on. */
  dueAt: number;
}

export type BeginResult = { kind: "begun"; campaign: Campaign } | { kind: "held" } | { kind: "conflict" };

/**
 * One transaction: the key is taken, the campaign begins if it may, and a key that began nothing is given back. `held`:
 * another call holds the key.
 */
async function begin(db: Db, campaign: Campaign, run: Run, update: (mine: string) => Statement): Promise<BeginResult> {
  const { claim } = run;
  const mine = claim
    ? "EXISTS (SELECT 1 FROM idempotency y WHERE y.workspace_id = ?1 AND y.key = ?4 AND y.ref = ?3)"
    : "?4 = ''";
  const results = await db.batch([
    ...(claim ? [claimKey(claim, run.now)] : []),
    update(mine),
    ...(claim
      ? [
          statement(
            `DELETE FROM idempotency WHERE workspace_id = ?1 AND key = ?2 AND ref = ?3
               AND NOT EXISTS (SELECT 1 FROM campaigns k WHERE k.workspace_id = ?1 AND k.id = ?4 AND k.run_id = ?3)`,
            claim.workspaceId,
            claim.key,
            claim.ref,
            campaign.id,
          ),
          holderOf(claim),
        ]
      : []),
  ]);
  const begun = results[claim ? 1 : 0]?.results[0];
  if (begun) return { kind: "begun", campaign: toCampaign(begun) };
  return claim && results.at(-1)?.results[0] ? { kind: "held" } : { kind: "conflict" };
}

/**
 * draft or scheduled → sending, as it was when it was checked. The first time its audience is about to be frozen; after
 * a pause it goes on where it was.
 */
export function updateStarted(
  db: Db,
  campaign: Campaign,
  run: Run,
  checked: { snapshot: Snapshot; place: string; redAccepted: boolean; scheduled: boolean },
): Promise<BeginResult> {
  return begin(db, campaign, run, (mine) =>
    statement(
      `UPDATE campaigns SET status = 'sending', run_id = ?3, paused_at = NULL, pause_reason = NULL, red_accepted = ?7, due_at = ?6,
         updated_at = ?5, feed_place = '', started_at = COALESCE(started_at, ?5), version = version + 1,
         phase = CASE WHEN started_at IS NULL THEN 'freezing' ELSE phase END, place = CASE WHEN started_at IS NULL THEN ?8 ELSE place END,
         snapshot = CASE WHEN started_at IS NULL THEN ?9 ELSE snapshot END
       WHERE workspace_id = ?1 AND id = ?2 AND status IN ('draft', 'scheduled') AND version = ?10 AND deleted_at IS NULL AND ${mine}
         AND (?11 = 0 OR (status = 'scheduled' AND paused_at IS NULL AND scheduled_at <= ?5))
       RETURNING ${OWN_COLUMNS}`,
      campaign.workspaceId,
      campaign.id,
      run.id,
      run.claim?.key ?? "",
      run.now,
      run.dueAt,
      Number(checked.redAccepted),
      checked.place,
      JSON.stringify(checked.snapshot),
      campaign.version,
      Number(checked.scheduled),
    ),
  );
}

/** completed or failed → sending: those who failed are looked for. */
export function updateRetrying(
  db: Db,
  campaign: Campaign,
  run: Run,
  checked: { unknown: boolean; redAccepted: boolean },
): Promise<BeginResult> {
  return begin(db, campaign, run, (mine) =>
    statement(
      `UPDATE campaigns SET status = 'sending', run_id = ?3, phase = 'retrying', place = '', retry_unknown = ?7, red_accepted = ?8, ended_at = NULL,
         due_at = ?6, updated_at = ?5, feed_place = '', version = version + 1
       WHERE workspace_id = ?1 AND id = ?2 AND status IN ('completed', 'failed') AND deleted_at IS NULL AND ${mine}
       RETURNING ${OWN_COLUMNS}`,
      campaign.workspaceId,
      campaign.id,
      run.id,
      run.claim?.key ?? "",
      run.now,
      run.dueAt,
      Number(checked.unknown),
      Number(checked.redAccepted),
    ),
  );
}

/** Who holds an idempotency key at `now`. */
export async function selectHolder(
  db: Db,
  workspaceId: string,
  key: string,
  now: number,
): Promise<{ hash: string; ref: string } | null> {
  const row = await db.first(
    "SELECT hash, ref FROM idempotency WHERE workspace_id = ?1 AND key = ?2 AND expires_at > ?3",
    workspaceId,
    key,
    now,
  );
  return row && holderRow.parse(row);
}

/** A scheduled one that could not be started waits for somebody, and says why. */
export async function updateHeldBack(db: Db, campaign: Campaign, reason: string, now: number): Promise<Campaign | null> {
  const row = await db.first(
    `UPDATE campaigns SET paused_at = ?3, pause_reason = ?4, due_at = NULL, updated_at = ?3
     WHERE workspace_id = ?1 AND id = ?2 AND status = 'scheduled' AND paused_at IS NULL AND version = ?5 AND deleted_at IS NULL
     RETURNING ${OWN_COLUMNS}`,
    campaign.workspaceId,
    campaign.id,
    now,
    reason,
    campaign.version,
  );
  return row && toCampaign(row);
}

/** What the cron has to look at, of all workspaces of a shard. */
export async function selectDue(db: Db, now: number, limit: number): Promise<Campaign[]> {
  const rows = await db.all(
    `SELECT ${COLUMNS} FROM campaigns k INDEXED BY campaigns_due WHERE k.due_at <= ?1 ORDER BY k.due_at LIMIT ?2`,
    now,
    limit,
  );
  return rows.map(toCampaign);
}

/** When the cron looks again, unless somebody said so meanwhile. */
export async function postpone(db: Db, campaign: Campaign, dueAt: number | null): Promise<void> {
  await db.run(
    "UPDATE campaigns SET due_at = ?3 WHERE workspace_id = ?1 AND id = ?2 AND due_at IS ?4",
    campaign.workspaceId,
    campaign.id,
    dueAt,
    campaign.dueAt,
  );
}

/** Those of a number that are sending and not preparing, the one that waited longest first. */
export async function selectSending(
  db: Db,
  workspaceId: string,
  phoneNumberId: string,
  limit: number,
): Promise<Campaign[]> {
  const rows = await db.all(
    `SELECT ${COLUMNS} FROM campaigns k INDEXED BY campaigns_status
     WHERE k.workspace_id = ?1 AND k.status = 'sending' AND k.phone_number_id = ?2 AND k.deleted_at IS NULL
     ORDER BY k.fed_at, k.id LIMIT ?3`,
    workspaceId,
    phoneNumberId,
    limit,
  );
  return rows.map(toCampaign);
}

/** How many messages of a number wait or are being sent in the bulk lane, counted up to `limit`: the feeder holds back by it. */
export async function countOpenBulk(db: Db, workspaceId: string, phoneNumberId: string, limit: number): Promise<number> {
  const row = await db.first(
    `SELECT count(*) AS n FROM (SELECT 1 FROM messages m INDEXED BY messages_open_queue
       WHERE m.workspace_id = ?1 AND m.open = 1 AND m.lane = 'bulk' AND m.phone_number_id = ?2 LIMIT ?3)`,
    workspaceId,
    phoneNumberId,
    limit,
  );
  return z.number().parse(row?.n);
}

/** The workspace's own state: a suspended one sends nothing. */
export async function selectWorkspaceStatus(db: Db, workspaceId: string): Promise<string | null> {
  const row = await db.first("SELECT status FROM workspace_states WHERE workspace_id = ?1", workspaceId);
  return row === null ? null : z.string().parse(row.status);
}
