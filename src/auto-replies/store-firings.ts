/** SQL of answering: what must be known of a message, and the one statement that lets a rule answer it. */
import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { messages } from "../messages/tables";
import { columnsOf, type Db, fromRow, type Statement, statement } from "../platform/d1";
import { decodeCursor, EXACT_TOTAL, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { type Rule, rulesOf, toRule } from "./store";
import { autoReplyFirings } from "./tables";

export type Firing = InferSelectModel<typeof autoReplyFirings>;
export type Message = InferSelectModel<typeof messages>;

/** A person who is answered so often in this time (ms) is a machine that answers ours. */
const BRAKE_WINDOW = 120_000;
export const BRAKE_FIRINGS = 10;
/** ms. The longest a rule keeps quiet after an agent. */
const LONGEST_QUIET = 86_400_000;

/** The idempotency key under which a rule's answer is accepted; the message it made is found by it. */
export function answerKey(ruleId: string, inboundId: string): string {
  return `auto-reply:${ruleId}:${inboundId}`;
}

/** What decides whether a message is answered. */
export interface Candidate {
  message: Message;
  contact: { name: string | null; username: string | null; phoneNumber: string | null };
  /** A group, or somebody who opted out, or who is one of our own numbers. */
  excluded: boolean;
  /** Nothing came from this person before. */
  first: boolean;
  /** When an agent last wrote here (ms): a message in the chat that no rule sent. */
  agentAt: number | null;
  /** How often this person was answered lately. */
  recent: number;
  /** Until when people have the conversation (ms). */
  handedOverUntil: number | null;
  /** What has answered it already. */
  answeredBy: { ruleId: string; status: Firing["status"] } | null;
}

const factsRow = z.object({
  c_name: z.string().nullable(),
  c_username: z.string().nullable(),
  c_phone: z.string().nullable(),
  excluded: z.number(),
  first: z.number(),
  agent_at: z.number().nullable(),
  recent: z.number(),
  until: z.number().nullable(),
  answered: z.string().nullable(),
});
const answeredBy = z.object({ r: z.string(), s: z.enum(["pending", "sent", "failed", "skipped", "handed_over"]) });

/** An outbound message that somebody wrote: no template, no campaign, and none of a rule's answers. `o` is the message, `m` the inbound one. */
const BY_AGENT = `o.direction = 'outbound' AND o.type <> 'template' AND o.lane = 'chat' AND o.origin IN ('api', 'echo')
  AND NOT EXISTS (SELECT 1 FROM auto_reply_firings f CROSS JOIN idempotency y WHERE f.workspace_id = m.workspace_id AND f.contact_id = m.contact_id
    AND f.at > o.at - ${LONGEST_QUIET} AND y.workspace_id = f.workspace_id AND y.key IN ('auto-reply:' || f.rule_id || ':' || f.inbound_id,
      'auto-reply:' || f.rule_id || ':' || f.inbound_id || ':handover') AND y.ref = o.id)`;

/** The rules of a workspace and what is known of these inbound messages, oldest first, in one round trip. */
export async function selectCandidates(
  db: Db,
  workspaceId: string,
  ids: readonly string[],
  now: number,
): Promise<{ rules: Rule[]; candidates: Candidate[] }> {
  const [rules, rows] = await db.batch([
    rulesOf(workspaceId),
    statement(
      `SELECT ${columnsOf(messages, "m")}, c.name AS c_name, c.username AS c_username, COALESCE(c.phone_number, '+' || c.wa_id) AS c_phone,
         (c.kind = 'group' OR c.opted_out_at IS NOT NULL OR EXISTS (SELECT 1 FROM phone_numbers p
           WHERE p.workspace_id = m.workspace_id AND p.phone_number = m.from_number AND p.deleted_at IS NULL)) AS excluded,
         NOT EXISTS (SELECT 1 FROM messages e WHERE e.workspace_id = m.workspace_id AND e.conversation_id = m.conversation_id
           AND (e.at, e.received_at, e.position, e.id) < (m.at, m.received_at, m.position, m.id) AND e.direction = 'inbound') AS first,
         (SELECT o.at FROM messages o WHERE o.workspace_id = m.workspace_id AND o.conversation_id = m.conversation_id
           AND o.at > ?3 - ${LONGEST_QUIET} AND ${BY_AGENT} ORDER BY o.at DESC LIMIT 1) AS agent_at,
         (SELECT count(*) FROM auto_reply_firings f WHERE f.workspace_id = m.workspace_id AND f.contact_id = m.contact_id
           AND f.at > ?3 - ${BRAKE_WINDOW}) AS recent,
         (SELECT h.until FROM auto_reply_handovers h WHERE h.workspace_id = m.workspace_id AND h.conversation_id = m.conversation_id
           AND h.until > ?3) AS until,
         (SELECT json_object('r', f.rule_id, 's', f.status) FROM auto_reply_firings f
           WHERE f.workspace_id = m.workspace_id AND f.contact_id = m.contact_id AND f.inbound_id = m.id LIMIT 1) AS answered
       FROM json_each(?2) j CROSS JOIN messages m CROSS JOIN contacts c
       WHERE m.workspace_id = ?1 AND m.id = j.value AND c.workspace_id = ?1 AND c.id = m.contact_id
       ORDER BY m.at, m.received_at, m.position, m.id`,
      workspaceId,
      JSON.stringify(ids),
      now,
    ),
  ]);
  return {
    rules: (rules?.results ?? []).map(toRule).filter((rule) => rule.enabled),
    candidates: (rows?.results ?? []).map((row) => {
      const facts = factsRow.parse(row);
      const answered = facts.answered === null ? null : answeredBy.parse(JSON.parse(facts.answered));
      return {
        message: fromRow(messages, row),
        contact: { name: facts.c_name, username: facts.c_username, phoneNumber: facts.c_phone },
        excluded: facts.excluded === 1,
        first: facts.first === 1,
        agentAt: facts.agent_at,
        recent: facts.recent,
        handedOverUntil: facts.until,
        answeredBy: answered && { ruleId: answered.r, status: answered.s },
      };
    }),
  };
}

/** The lowest UUIDv7 of a time (ms). */
function idFloor(ms: number): string {
  const hex = ms.toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}

const DAY = 86_400_000;

/**
 * Lets a rule answer a message: once, not within its cool-down for this person, and not beyond its limit of the day
 * (UTC; ids of inbound messages are UUIDv7, so the day is a range of keys). Answers the firing, or null where the rule
 * may not. The same message again answers the same firing.
 */
export async function insertFiring(
  db: Db,
  rule: Rule,
  { id: inboundId, contactId, conversationId }: Message,
  now: number,
): Promise<Firing | null> {
  const [, rows] = await db.batch([
    statement(
      `INSERT INTO auto_reply_firings (workspace_id, rule_id, inbound_id, contact_id, conversation_id, status, at)
       SELECT ?1, ?2, ?3, ?4, ?5, 'pending', ?6
       WHERE EXISTS (SELECT 1 FROM auto_replies r WHERE r.workspace_id = ?1 AND r.id = ?2 AND r.enabled = 1)
         AND NOT EXISTS (SELECT 1 FROM auto_reply_firings f WHERE f.workspace_id = ?1 AND f.contact_id = ?4
           AND (f.inbound_id = ?3 OR (f.rule_id = ?2 AND f.at > ?6 - ?7 AND f.status NOT IN ('failed', 'skipped'))))
         AND (?8 IS NULL OR ?8 > (SELECT count(*) FROM (SELECT 1 FROM auto_reply_firings d
           WHERE d.workspace_id = ?1 AND d.rule_id = ?2 AND d.inbound_id >= ?9 LIMIT COALESCE(?8, 0))))
       ON CONFLICT (workspace_id, rule_id, inbound_id) DO NOTHING`,
      rule.workspaceId,
      rule.id,
      inboundId,
      contactId,
      conversationId,
      now,
      rule.cooldown,
      rule.dailyLimit,
      idFloor(now - (now % DAY)),
    ),
    firingOf(rule.workspaceId, rule.id, inboundId),
  ]);
  const row = rows?.results[0];
  return row ? fromRow(autoReplyFirings, row) : null;
}

function firingOf(workspaceId: string, ruleId: string, inboundId: string): Statement {
  return statement(
    `SELECT ${columnsOf(autoReplyFirings, "f")} FROM auto_reply_firings f WHERE f.workspace_id = ?1 AND f.rule_id = ?2 AND f.inbound_id = ?3`,
    workspaceId,
    ruleId,
    inboundId,
  );
}

export async function selectFiring(
  db: Db,
  key: { workspaceId: string; ruleId: string; inboundId: string },
): Promise<Firing | null> {
  const [rows] = await db.batch([firingOf(key.workspaceId, key.ruleId, key.inboundId)]);
  const row = rows?.results[0];
  return row ? fromRow(autoReplyFirings, row) : null;
}

/** What became of a firing, once. */
export async function settleFiring(
  db: Db,
  firing: Pick<Firing, "workspaceId" | "ruleId" | "inboundId">,
  outcome: Outcome,
): Promise<void> {
  await db.batch([settled(firing, outcome)]);
}

interface Outcome {
  status: Exclude<Firing["status"], "pending">;
  messageId: string | null;
  error: string | null;
}

function settled(
  { workspaceId, ruleId, inboundId }: Pick<Firing, "workspaceId" | "ruleId" | "inboundId">,
  to: Outcome,
) {
  return statement(
    `UPDATE auto_reply_firings SET status = ?4, message_id = ?5, error = ?6
     WHERE workspace_id = ?1 AND rule_id = ?2 AND inbound_id = ?3 AND status = 'pending'`,
    workspaceId,
    ruleId,
    inboundId,
    to.status,
    to.messageId,
    to.error,
  );
}

/** People take the firing's conversation over until then (ms); a later end stands. */
export async function settleHandedOver(
  db: Db,
  firing: Firing,
  handover: { reason: string; messageId: string | null; at: number; until: number },
): Promise<void> {
  const { reason, messageId, at, until } = handover;
  await db.batch([
    statement(
      `INSERT INTO auto_reply_handovers (workspace_id, conversation_id, reason, at, until) VALUES (?1, ?2, ?3, ?4, ?5)
       ON CONFLICT (workspace_id, conversation_id) DO UPDATE SET reason = excluded.reason, at = excluded.at, until = excluded.until
       WHERE excluded.until > auto_reply_handovers.until`,
      firing.workspaceId,
      firing.conversationId,
      reason,
      at,
      until,
    ),
    settled(firing, { status: "handed_over", messageId, error: reason }),
  ]);
}

/**
 * The last messages of a conversation, oldest first, with this one at the end: what was there when it came. Its own time
 * is the provider's, in whole seconds, so what was sent just before may seem to be later.
 */
export async function selectHistory(db: Db, message: Message, limit: number): Promise<Message[]> {
  const rows = await db.all(
    `SELECT ${columnsOf(messages, "m")} FROM messages m WHERE m.workspace_id = ?1 AND m.conversation_id = ?2 AND m.received_at <= ?3
       AND m.id <> ?4 AND m.status NOT IN ('scheduled', 'cancelled', 'failed')
     ORDER BY m.at DESC, m.received_at DESC, m.position DESC, m.id DESC LIMIT ?5`,
    message.workspaceId,
    message.conversationId,
    message.receivedAt,
    message.id,
    limit - 1,
  );
  return [...rows.map((row) => fromRow(messages, row)).reverse(), message];
}

/** How often a rule answered, newest first: ids of inbound messages begin with their time. */
export async function pageFirings(db: Db, rule: Rule, query: PageQuery): Promise<Page<Firing>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, z.tuple([z.string()]))[0];
  const [rows, total] = await db.batch([
    statement(
      `SELECT ${columnsOf(autoReplyFirings, "f")} FROM auto_reply_firings f WHERE f.workspace_id = ?1 AND f.rule_id = ?2
         ${after === null ? "" : "AND f.inbound_id < ?3"} ORDER BY f.inbound_id DESC LIMIT ${query.limit + 1} OFFSET ${after === null ? query.offset : 0}`,
      rule.workspaceId,
      rule.id,
      ...(after === null ? [] : [after]),
    ),
    statement(
      `SELECT count(*) AS n FROM (SELECT 1 FROM auto_reply_firings f WHERE f.workspace_id = ?1 AND f.rule_id = ?2 LIMIT ${EXACT_TOTAL})`,
      rule.workspaceId,
      rule.id,
    ),
  ]);
  const found = (rows?.results ?? []).map((row) => fromRow(autoReplyFirings, row));
  const { n } = z.object({ n: z.number() }).parse(total?.results[0]);
  const last = found[query.limit - 1];
  return {
    rows: found.slice(0, query.limit),
    total: n,
    totalIsLowerBound: n >= EXACT_TOTAL,
    nextCursor: found.length > query.limit && last ? encodeCursor([last.inboundId]) : null,
  };
}

const CHUNK = 5000;

/** Deletes firings from before `before` and hand-overs that ended by `now` (ms); true when there may be more. */
export async function deleteOldFirings(db: Db, before: number, now: number): Promise<boolean> {
  const [firings] = await db.batch([
    statement(
      `DELETE FROM auto_reply_firings WHERE (workspace_id, rule_id, inbound_id) IN
         (SELECT f.workspace_id, f.rule_id, f.inbound_id FROM auto_reply_firings f WHERE f.at < ?1 LIMIT ${CHUNK})`,
      before,
    ),
    statement("DELETE FROM auto_reply_handovers WHERE until <= ?1", now),
  ]);
  return (firings?.meta.changes ?? 0) >= CHUNK;
}
