/** SQL of claims and results. Workspace and id travel inside each JSON row: a constant beside json_each scans (pipeline 16). */
import { z } from "zod";
import { type Db, jsonChunks, type Statement, statement } from "../platform/d1";
import type { ProviderError } from "../providers/provider";
import { OUTCOME_UNKNOWN } from "./rank";
import { EXPIRED, NUMBER_GONE, OPTED_OUT, UNKNOWN_TWICE } from "./refusals";
import { MESSAGE_COLUMNS, type Message, toMessage } from "./store";

export interface MessageKey {
  workspaceId: string;
  id: string;
}

/** Columns of a message for a RETURNING, which knows no alias. */
export const RETURNED = MESSAGE_COLUMNS.replaceAll("m.", "");

const PICKED = "m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id'";

function keys(rows: readonly MessageKey[]): string {
  return JSON.stringify(rows.map((row) => ({ ws: row.workspaceId, id: row.id })));
}

/** A JSON error as an SQL literal: ours hold no value a caller could choose. */
function literal(error: ProviderError): string {
  return `'${JSON.stringify(error).replaceAll("'", "''")}'`;
}

/** What a message is told that expires at `m`: one that was sent once and queued again may well have arrived. */
export const EXPIRY_ERROR = `CASE WHEN m.resent_at IS NULL THEN ${literal(EXPIRED)} ELSE ${literal(UNKNOWN_TWICE)} END`;

export interface ClaimResult {
  /** Claimed now, in the order in which they must leave: at most one holder at a time. */
  claimed: Message[];
  /** Failed instead of claimed: expired, number deleted, opted out. */
  refused: Message[];
  /** Not claimable yet, with the time they become due. */
  later: { workspaceId: string; id: string; phoneNumberId: string; dueAt: number }[];
  /** Done before: their effects may have been lost with the consumer that did them. */
  settled: Message[];
}

export interface ClaimParams {
  now: number;
  leaseUntil: number;
  token: string;
}

/** What made a queued message impossible to send, as a JSON error; null when nothing did. */
const REFUSAL = `CASE
  WHEN m.expires_at IS NOT NULL AND m.expires_at <= ?2 THEN ${EXPIRY_ERROR}
  WHEN NOT EXISTS (SELECT 1 FROM phone_numbers p WHERE p.workspace_id = m.workspace_id AND p.id = m.phone_number_id AND p.deleted_at IS NULL)
    THEN ${literal(NUMBER_GONE)}
  WHEN m.category = 'marketing' AND EXISTS (SELECT 1 FROM contacts c WHERE c.workspace_id = m.workspace_id AND c.id = m.contact_id AND c.opted_out_at IS NOT NULL)
    THEN ${literal(OPTED_OUT)}
  END`;

/**
 * Claims what may be sent now, in one round trip: scheduled messages that are due become queued, impossible ones fail,
 * and of the rest each is claimed unless an earlier open message of its conversation and lane is not in this batch
 * (pipeline 2). Earlier is by `seq`, then by id: two messages planned for the same moment have the same `seq`. Rows of
 * other shards must not be among `rows`. The batch is looked up by id alone: ids are nobody else's, and a list of pairs
 * would be built anew for every message.
 */
export async function claimQueued(db: Db, rows: readonly MessageKey[], params: ClaimParams): Promise<ClaimResult> {
  const json = keys(rows);
  const { now, leaseUntil, token } = params;
  const results = await db.batch([
    // A planned message joins the queue when it is due, behind nothing that was accepted later than it was planned for.
    statement(
      `UPDATE messages AS m SET status = 'queued', open = 1, at = ?2 FROM json_each(?1) j
       WHERE ${PICKED} AND m.status = 'scheduled' AND m.scheduled_at <= ?2`,
      json,
      now,
    ),
    statement(
      `UPDATE messages AS m SET status = 'failed', open = NULL, failed_at = ?2, error = ${REFUSAL} FROM json_each(?1) j
       WHERE ${PICKED} AND m.status = 'queued' AND ${REFUSAL} IS NOT NULL
       RETURNING ${RETURNED}`,
      json,
      now,
    ),
    statement(
      `UPDATE messages AS m SET status = 'sending', lease_until = ?3, claim = ?4, attempts = attempts + 1 FROM json_each(?1) j
       WHERE ${PICKED} AND m.status = 'queued' AND m.not_before <= ?2
         AND EXISTS (SELECT 1 FROM workspace_states w WHERE w.workspace_id = m.workspace_id AND w.status = 'active')
         AND EXISTS (SELECT 1 FROM phone_numbers p WHERE p.workspace_id = m.workspace_id AND p.id = m.phone_number_id AND p.status = 'active')
         AND NOT EXISTS (SELECT 1 FROM messages e WHERE e.workspace_id = m.workspace_id AND e.conversation_id = m.conversation_id
           AND e.lane = m.lane AND e.open = 1 AND (e.seq, e.id) < (m.seq, m.id) AND NOT (e.status = 'queued' AND e.not_before <= ?2
           AND e.id IN (SELECT k.value ->> 'id' FROM json_each(?1) k)))
       RETURNING ${RETURNED}`,
      json,
      now,
      leaseUntil,
      token,
    ),
    statement(`SELECT ${MESSAGE_COLUMNS} FROM json_each(?1) j CROSS JOIN messages m WHERE ${PICKED}`, json),
  ]);
  const refused = (results[1]?.results ?? []).map(toMessage);
  const claimed = (results[2]?.results ?? []).map(toMessage).sort(inTurn);
  const handled = new Set([...refused, ...claimed].map((m) => m.id));
  const others = (results[3]?.results ?? []).map(toMessage).filter((m) => !handled.has(m.id));
  return {
    claimed,
    refused,
    later: others.flatMap((m) => {
      const dueAt = m.status === "scheduled" ? m.scheduledAt : m.status === "queued" ? m.notBefore : null;
      if (dueAt === null || dueAt <= now) return [];
      return [{ workspaceId: m.workspaceId, id: m.id, phoneNumberId: m.phoneNumberId, dueAt }];
    }),
    settled: others.filter((m) => m.open === null && m.status !== "scheduled"),
  };
}

/** The order of one conversation and lane, as the SQL has it. */
function inTurn(a: Message, b: Message): number {
  return a.seq - b.seq || (a.id < b.id ? -1 : 1);
}

/** What became of one claimed message. */
export type SendResult = MessageKey & { claim: string; attempt: number } & (
    | { kind: "sent"; waMessageId: string; at: number }
    | { kind: "failed"; error: ProviderError; at: number }
    /** Queued again: after a transient refusal (counted), a blocked number, or because its turn did not come. */
    | {
        kind: "requeued";
        notBefore: number;
        error: ProviderError | null;
        failure: boolean;
        /** The provider's id under which the call is repeated; null forgets it, undefined leaves it. */
        knownAs?: string | null;
      }
    | { kind: "ambiguous"; at: number; error: ProviderError }
  );

/** Where messages take turns: one conversation and lane. */
export type Turn = Pick<Message, "workspaceId" | "conversationId" | "lane">;

/** The head of a conversation's queue, to be enqueued. */
export interface NextOpen {
  workspaceId: string;
  id: string;
  phoneNumberId: string;
  notBefore: number;
}

const nextRow = z.object({ ws: z.string(), id: z.string(), number: z.string(), not_before: z.number() });

export function toNext(raw: unknown): NextOpen {
  const row = nextRow.parse(raw);
  return { workspaceId: row.ws, id: row.id, phoneNumberId: row.number, notBefore: row.not_before };
}

/** A planned message that has left, and what the inbox shows of it from now on. */
export interface Entering {
  message: Message;
  preview: string;
}

/**
 * Stores the results of a batch in one round trip (pipeline 5). A webhook may have been faster: `sent` never lowers a
 * delivered message, and whatever is no acceptance needs the claim to be still ours, or (`late`: after the lease) that
 * nobody claimed it since: what the sweep called ambiguous we know better. Answers the messages as they are now and
 * the heads of their conversations' queues.
 */
export async function updateResults(
  db: Db,
  results: readonly SendResult[],
  conversations: readonly Turn[],
  also: { entering?: readonly Entering[]; late?: boolean } = {},
): Promise<{ messages: Message[]; next: NextOpen[] }> {
  const rows = results.map((result) => ({
    ws: result.workspaceId,
    id: result.id,
    claim: result.claim,
    attempt: result.attempt,
    wa: result.kind === "sent" ? result.waMessageId : result.kind === "requeued" ? (result.knownAs ?? null) : null,
    named: result.kind === "requeued" && result.knownAs !== undefined,
    at: result.kind === "requeued" ? result.notBefore : result.at,
    error: result.kind === "sent" ? null : result.error && JSON.stringify(result.error),
    failure: result.kind === "requeued" && result.failure ? 1 : 0,
    kind: result.kind,
  }));
  const of = (kind: SendResult["kind"], named = false) =>
    jsonChunks(rows.filter((row) => row.kind === kind && row.named === named));
  const held = `${PICKED} AND m.status = 'sending' AND m.claim = j.value ->> 'claim'`;
  const ours = also.late
    ? `${PICKED} AND m.status = 'sending' AND (m.claim = j.value ->> 'claim'
        OR (m.claim IS NULL AND m.ambiguous_at IS NOT NULL AND m.attempts = j.value ->> 'attempt'))`
    : held;
  // Naming an indexed column costs a row, so only results that may meet a released lease do.
  const reopened = also.late ? "open = 1, ambiguous_at = NULL, " : "";
  const settled = also.late ? "ambiguous_at = NULL, " : "";
  const SENT = `open = NULL, lease_until = NULL, claim = NULL, ambiguous_at = NULL, error = NULL, failed_at = NULL,
    status = CASE WHEN m.status IN ('delivered', 'read') THEN m.status ELSE 'sent' END, sent_at = COALESCE(m.sent_at, j.value ->> 'at')`;
  const REQUEUED = `UPDATE messages AS m SET status = 'queued', lease_until = NULL, claim = NULL, ${reopened}
    not_before = j.value ->> 'at', failures = m.failures + (j.value ->> 'failure'), error = COALESCE(j.value ->> 'error', m.error)`;
  const statements: Statement[] = [
    ...of("sent").flatMap((json) => [
      // OR IGNORE: a provider id that another row holds already must not undo the other results of the batch …
      statement(
        `UPDATE OR IGNORE messages AS m SET ${SENT}, wa_message_id = COALESCE(m.wa_message_id, j.value ->> 'wa')
         FROM json_each(?1) j WHERE ${PICKED}
           AND (m.status IN ('sending', 'queued') OR m.wa_message_id IS NULL OR m.sent_at IS NULL)
           AND (m.status <> 'failed' OR m.error ->> 'code' = '${OUTCOME_UNKNOWN}')`,
        json,
      ),
      // … nor keep the message itself from being known as sent.
      statement(`UPDATE messages AS m SET ${SENT} FROM json_each(?1) j WHERE ${held}`, json),
    ]),
    ...of("failed").map((json) =>
      statement(
        `UPDATE messages AS m SET status = 'failed', open = NULL, lease_until = NULL, claim = NULL, ${settled}
           failed_at = j.value ->> 'at', error = j.value ->> 'error' FROM json_each(?1) j WHERE ${ours}`,
        json,
      ),
    ),
    ...of("requeued").map((json) => statement(`${REQUEUED} FROM json_each(?1) j WHERE ${ours}`, json)),
    ...of("requeued", true).map((json) =>
      statement(`${REQUEUED}, wa_message_id = j.value ->> 'wa' FROM json_each(?1) j WHERE ${ours}`, json),
    ),
    ...of("ambiguous").map((json) =>
      statement(
        `UPDATE messages AS m SET open = NULL, lease_until = NULL, claim = NULL, ambiguous_at = j.value ->> 'at', unknown_ms = 0,
           error = j.value ->> 'error' FROM json_each(?1) j WHERE ${held}`,
        json,
      ),
    ),
    ...enterThreads(also.entering ?? []),
    statement(`SELECT ${MESSAGE_COLUMNS} FROM json_each(?1) j CROSS JOIN messages m WHERE ${PICKED}`, keys(results)),
    selectHeads(conversations),
  ];
  const answers = await db.batch(statements);
  return {
    messages: (answers.at(-2)?.results ?? []).map(toMessage),
    next: (answers.at(-1)?.results ?? []).map(toNext),
  };
}

/** Planned messages become the newest of their threads when they leave, not when they are planned. */
function enterThreads(entering: readonly Entering[]): Statement[] {
  return jsonChunks(
    entering.map(({ message, preview }) => ({ ws: message.workspaceId, id: message.id, at: message.at, preview })),
  ).map((json) =>
    statement(
      `UPDATE conversations AS v SET last_message_id = j.value ->> 'id', last_message_direction = 'outbound',
         last_message_preview = j.value ->> 'preview', last_message_at = j.value ->> 'at', updated_at = j.value ->> 'at'
       FROM json_each(?1) j CROSS JOIN messages m
       WHERE ${PICKED} AND v.workspace_id = m.workspace_id AND v.id = m.conversation_id AND v.last_message_at <= j.value ->> 'at'`,
      json,
    ),
  );
}

/** The first open message of each conversation and lane, where it is queued: whoever finished wakes it. */
export function selectHeads(turns: readonly Turn[]): Statement {
  const distinct = new Map(
    turns.map((t) => [
      `${t.workspaceId} ${t.conversationId} ${t.lane}`,
      { ws: t.workspaceId, c: t.conversationId, l: t.lane },
    ]),
  );
  return statement(
    `SELECT h.workspace_id AS ws, h.id AS id, h.phone_number_id AS number, h.not_before AS not_before
     FROM json_each(?1) j CROSS JOIN messages h
     WHERE h.workspace_id = j.value ->> 'ws' AND h.status = 'queued' AND h.id = (SELECT e.id FROM messages e
       WHERE e.workspace_id = j.value ->> 'ws' AND e.conversation_id = j.value ->> 'c' AND e.lane = j.value ->> 'l' AND e.open = 1
       ORDER BY e.seq, e.id LIMIT 1)`,
    JSON.stringify([...distinct.values()]),
  );
}

/**
 * Cancels a message that was planned and that nobody has claimed: while it is scheduled, and after that as long as it
 * waits for its number. Null when it is on its way, was sent, or was never planned. Answers whose turn it is now.
 */
export async function updateCancelled(
  db: Db,
  message: Message,
): Promise<{ message: Message; next: NextOpen[] } | null> {
  const [cancelled, heads] = await db.batch([
    statement(
      `UPDATE messages AS m SET status = 'cancelled', open = NULL WHERE m.workspace_id = ?1 AND m.id = ?2
         AND (m.status = 'scheduled' OR (m.status = 'queued' AND m.scheduled_at IS NOT NULL AND m.resent_at IS NULL))
       RETURNING ${RETURNED}`,
      message.workspaceId,
      message.id,
    ),
    selectHeads([message]),
  ]);
  const row = cancelled?.results[0];
  return row ? { message: toMessage(row), next: (heads?.results ?? []).map(toNext) } : null;
}
