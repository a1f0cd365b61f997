/**
 * SQL of audiences: who is meant, who is left out and why. Walked in steps, each one transaction that moves the campaign's
 * `place`, so that a crash loses no step and no step is taken twice.
 */
import { z } from "zod";
import { type Db, type Param, type Statement, statement } from "../platform/d1";
import type { ContactField, Snapshot } from "./schema";
import { type Campaign, OWN_COLUMNS, toCampaign } from "./store";

/** Who is meant, as a walk. `match` is a full-text expression over contacts. */
export type Walk =
  | { kind: "opted_in" | "all" }
  | { kind: "tags"; match: string }
  | { kind: "ids"; contactIds: readonly string[] };

/** Contacts of one step: a transaction of a second or so, far from D1's 30. */
export const STEP = 2000;

/** Where a walk begins. */
export function startOf(walk: Walk): string {
  return walk.kind === "all" || walk.kind === "opted_in" ? "" : "-1";
}

/**
 * The contacts of one step after `place`: `asked` is who was named, `at` the place. `?1` is the workspace, `?2` the place,
 * `?3` what the walk is driven by. Contacts that came after the start are not meant.
 */
function stepOf(walk: Walk, limit: number): { sql: string; driver: Param } {
  switch (walk.kind) {
    case "opted_in":
    case "all":
      return {
        sql: `SELECT o.id AS asked, o.id AS at FROM contacts o WHERE o.workspace_id = ?1 AND o.id > ?2 AND ?3 = '' ORDER BY o.id LIMIT ${limit}`,
        driver: "",
      };
    case "tags":
      return {
        sql: `SELECT o.id AS asked, f.rowid AS at FROM (SELECT rowid FROM contacts_fts WHERE contacts_fts MATCH ?3 AND rowid > CAST(?2 AS INTEGER)
                ORDER BY rowid LIMIT ${limit}) f CROSS JOIN contacts o WHERE o.row_id = f.rowid AND o.workspace_id = ?1`,
        driver: walk.match,
      };
    case "ids":
      return {
        sql: `SELECT j.value AS asked, j.key AS at FROM json_each(?3) j WHERE ?1 IS NOT NULL AND j.key > CAST(?2 AS INTEGER) ORDER BY j.key LIMIT ${limit}`,
        driver: JSON.stringify(walk.contactIds),
      };
  }
}

const FIELD_SQL: Record<ContactField, string> = {
  name: "c.name",
  first_name: "substr(trim(c.name), 1, instr(trim(c.name) || ' ', ' ') - 1)",
  phone_number: "COALESCE(c.phone_number, '+' || c.wa_id)",
  username: "c.username",
};

function fieldsSql(fields: readonly ContactField[]): string {
  if (fields.length === 0) return "NULL";
  return `json_object(${fields.map((field) => `'${field}', ${FIELD_SQL[field]}`).join(", ")})`;
}

/** Why a contact is left out, null when it is not (contract 18: only MARKETING asks for consent). */
function reasonSql(snapshot: Pick<Snapshot, "required"> & { marketing: boolean }): string {
  const missing = snapshot.required.map((field) => `COALESCE(trim(${FIELD_SQL[field]}), '') = ''`).join(" OR ");
  return `CASE WHEN c.id IS NULL OR c.deleted_at IS NOT NULL THEN 'deleted'
    ${snapshot.marketing ? "WHEN c.opted_out_at IS NOT NULL THEN 'opted_out' WHEN c.opted_in = 0 THEN 'not_opted_in'" : ""}
    WHEN c.kind <> 'person' OR (c.phone_number IS NULL AND c.wa_id IS NULL AND c.user_id IS NULL) THEN 'no_address'
    ${missing === "" ? "" : `WHEN ${missing} THEN 'missing_parameter'`} END`;
}

/** Who the asked contacts are now, and whether the walk means them. A merged one is who it was merged into. */
function meantSql(walk: Walk, step: string): string {
  const who = `FROM (${step}) s LEFT JOIN contacts o ON o.workspace_id = ?1 AND o.id = s.asked
    LEFT JOIN contacts c ON c.workspace_id = ?1 AND c.id = COALESCE(o.merged_into, o.id)`;
  switch (walk.kind) {
    case "ids":
      return `${who} WHERE true`;
    case "opted_in":
      return `${who} WHERE c.id = s.asked AND c.deleted_at IS NULL AND c.kind = 'person' AND c.opted_in = 1`;
    default:
      return `${who} WHERE c.id = s.asked AND c.deleted_at IS NULL AND c.kind = 'person'`;
  }
}

/**
 * Takes one step of freezing: the place moves and its recipients are stored, or neither. 1 row written per recipient.
 * Answers the campaign as it is then; null when it is not freezing at this place any more.
 */
export async function freezeStep(
  db: Db,
  campaign: Campaign & { snapshot: Snapshot },
  walk: Walk,
  step: { id: string; now: number; dueAt: number },
  limit = STEP,
): Promise<Campaign | null> {
  const { workspaceId, id, place, startedAt, snapshot } = campaign;
  const { sql, driver } = stepOf(walk, limit);
  const reason = reasonSql({ required: snapshot.required, marketing: snapshot.template.category === "MARKETING" });
  const [moved] = await db.batch([
    statement(
      `UPDATE campaigns SET step_id = ?5, due_at = ?6, updated_at = ?7, place = CASE WHEN x.n = 0 THEN place ELSE CAST(x.last AS TEXT) END,
         phase = CASE WHEN x.n < ${limit} THEN NULL ELSE phase END
       FROM (SELECT count(*) AS n, max(s.at) AS last FROM (${sql}) s) x
       WHERE workspace_id = ?1 AND id = ?4 AND status = 'sending' AND phase = 'freezing' AND place = ?2 RETURNING ${OWN_COLUMNS}`,
      workspaceId,
      place,
      driver,
      id,
      step.id,
      step.dueAt,
      step.now,
    ),
    statement(
      `INSERT INTO campaign_recipients (workspace_id, campaign_id, contact_id, state, reason, fields)
       SELECT ?1, ?4, w.who, CASE WHEN w.reason IS NULL THEN 'waiting' ELSE 'skipped' END, w.reason, CASE WHEN w.reason IS NULL THEN w.fields END
       FROM (SELECT COALESCE(c.id, s.asked) AS who, ${reason} AS reason, ${fieldsSql(snapshot.fields)} AS fields
         ${meantSql(walk, sql)} AND (c.created_at IS NULL OR c.created_at <= ?6)) w
       WHERE EXISTS (SELECT 1 FROM campaigns k WHERE k.workspace_id = ?1 AND k.id = ?4 AND k.step_id = ?5)
       ON CONFLICT (workspace_id, campaign_id, contact_id) DO NOTHING`,
      workspaceId,
      place,
      driver,
      id,
      step.id,
      startedAt,
    ),
  ]);
  const row = moved?.results[0];
  return row ? toCampaign(row) : null;
}

export interface Estimate {
  /** Contacts named, each as often as it was. */
  asked: number;
  recipients: number;
  skipped: Record<string, number>;
  isLowerBound: boolean;
}

const countRow = z.object({ reason: z.string().nullable(), named: z.number(), people: z.number() });
const LOOKED_AT = 250_000;

/** Who would be sent to, counted as freezing would: one statement, over at most 250,000 contacts. */
export async function estimateAudience(
  db: Db,
  workspaceId: string,
  walk: Walk,
  what: Pick<Snapshot, "required"> & { marketing: boolean },
): Promise<Estimate> {
  const { sql, driver } = stepOf(walk, LOOKED_AT);
  const rows = await db.all(
    `SELECT w.reason, count(*) AS named, count(DISTINCT w.who) AS people
     FROM (SELECT COALESCE(c.id, s.asked) AS who, ${reasonSql(what)} AS reason ${meantSql(walk, sql)}) w GROUP BY w.reason`,
    workspaceId,
    startOf(walk),
    driver,
  );
  const counts = rows.map((row) => countRow.parse(row));
  const asked = counts.reduce((sum, { named }) => sum + named, 0);
  const duplicate = counts.reduce((sum, { named, people }) => sum + named - people, 0);
  const skipped = Object.fromEntries(counts.flatMap(({ reason, people }) => (reason === null ? [] : [[reason, people]])));
  if (duplicate > 0) skipped.duplicate = duplicate;
  return {
    asked,
    recipients: counts.find(({ reason }) => reason === null)?.people ?? 0,
    skipped,
    isLowerBound: asked >= LOOKED_AT,
  };
}

/** Meta counts retries of this refusal against the whole account (facts 1.15): not within a day. */
const FREQUENCY_CAP = 131049;
const FREQUENCY_CAP_WAIT = 24 * 3_600_000;

/**
 * Takes one step over the recipients: those whose message failed wait again. What nobody knows of is no failure unless
 * asked for. Answers the campaign as it is then; null when it is not at this place any more.
 */
export async function retryStep(
  db: Db,
  campaign: Campaign,
  step: { id: string; now: number; dueAt: number },
  limit = STEP,
): Promise<Campaign | null> {
  const { workspaceId, id, place } = campaign;
  const range = `SELECT r.contact_id AS at FROM campaign_recipients r
    WHERE r.workspace_id = ?1 AND r.campaign_id = ?2 AND r.contact_id > ?3 ORDER BY r.contact_id LIMIT ${limit}`;
  const [moved] = await db.batch([
    statement(
      `UPDATE campaigns SET step_id = ?4, due_at = ?5, updated_at = ?6, place = COALESCE(x.last, place),
         phase = CASE WHEN x.n < ${limit} THEN NULL ELSE phase END
       FROM (SELECT count(*) AS n, max(s.at) AS last FROM (${range}) s) x
       WHERE workspace_id = ?1 AND id = ?2 AND status = 'sending' AND phase = 'retrying' AND place = ?3 RETURNING ${OWN_COLUMNS}`,
      workspaceId,
      id,
      place,
      step.id,
      step.dueAt,
      step.now,
    ),
    statement(
      `UPDATE campaign_recipients AS t SET state = 'waiting', reason = NULL
       FROM (SELECT r.contact_id AS who FROM (${range}) s CROSS JOIN campaign_recipients r ON r.workspace_id = ?1 AND r.campaign_id = ?2 AND r.contact_id = s.at
         LEFT JOIN messages m ON m.workspace_id = ?1 AND m.id = r.message_id
         WHERE r.state = 'failed' OR (r.state = 'taken' AND m.status = 'failed' AND (?5 = 1 OR m.error ->> 'code' IS NOT 'outcome_unknown')
           AND NOT (m.error ->> 'code' IS ${FREQUENCY_CAP} AND m.failed_at > ?6 - ${FREQUENCY_CAP_WAIT}))) f
       WHERE t.workspace_id = ?1 AND t.campaign_id = ?2 AND t.contact_id = f.who
         AND EXISTS (SELECT 1 FROM campaigns k WHERE k.workspace_id = ?1 AND k.id = ?2 AND k.step_id = ?4)`,
      workspaceId,
      id,
      place,
      step.id,
      Number(campaign.retryUnknown),
      step.now,
    ),
  ]);
  const row = moved?.results[0];
  return row ? toCampaign(row) : null;
}

/** Forgets what campaigns keep of a person, who is about to be erased. Part of the erasing transaction. */
export function eraseRecipient(workspaceId: string, contactId: string): Statement {
  return statement(
    `UPDATE campaign_recipients AS t SET fields = NULL FROM (SELECT k.id FROM campaigns k WHERE k.workspace_id = ?1) x
     WHERE t.workspace_id = ?1 AND t.campaign_id = x.id AND t.contact_id = ?2 AND t.fields IS NOT NULL`,
    workspaceId,
    contactId,
  );
}
