/** SQL of the sending pipeline. Workspace and id travel inside each JSON row: a constant beside json_each scans (pipeline 16). */
import { z } from "zod";
import { type Db, jsonChunks, type Statement, statement } from "../platform/d1";
import type { ProviderError } from "../providers/provider";
import { OUTCOME_UNKNOWN } from "./rank";
import { MESSAGE_COLUMNS, type Message, toMessage } from "./store";

export interface MessageKey {
  workspaceId: string;
  id: string;
}

function keys(rows: readonly MessageKey[]): string {
  return JSON.stringify(rows.map((row) => ({ ws: row.workspaceId, id: row.id })));
}

const RETURNED = MESSAGE_COLUMNS.replaceAll("m.", "");

/** Refusals of ours, shown as the message's error. */
const EXPIRED: ProviderError = {
  code: "expired",
  title: "The message expired before it could be sent",
  details: null,
  retryable: true,
};
const NUMBER_GONE: ProviderError = {
  code: "number_deleted",
  title: "The phone number was deleted before the message could be sent",
  details: null,
  retryable: false,
};
const OPTED_OUT: ProviderError = {
  code: "opted_out",
  title: "The contact opted out of marketing",
  details: null,
  retryable: false,
};
export const UNKNOWN_OUTCOME_ERROR: ProviderError = {
  code: OUTCOME_UNKNOWN,
  title: "The provider never said what became of the message",
  details: "The call was in flight when the connection broke, and no status came. It was not sent again.",
  retryable: true,
};

export interface ClaimResult {
  /** Claimed now, sorted by `seq`: at most one holder at a time. */
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
  WHEN m.expires_at IS NOT NULL AND m.expires_at <= ?2 THEN '${JSON.stringify(EXPIRED)}'
  WHEN NOT EXISTS (SELECT 1 FROM phone_numbers p WHERE p.workspace_id = m.workspace_id AND p.id = m.phone_number_id AND p.deleted_at IS NULL)
    THEN '${JSON.stringify(NUMBER_GONE)}'
  WHEN m.category = 'marketing' AND EXISTS (SELECT 1 FROM contacts c WHERE c.workspace_id = m.workspace_id AND c.id = m.contact_id AND c.opted_out_at IS NOT NULL)
    THEN '${JSON.stringify(OPTED_OUT)}'
  END`;

/**
 * Claims what may be sent now, in one round trip: scheduled messages that are due become queued, impossible ones fail,
 * and of the rest each is claimed unless an earlier open message of its conversation and lane is not in this batch
 * (pipeline 2). Rows of other shards must not be among `rows`.
 */
export async function claimQueued(db: Db, rows: readonly MessageKey[], params: ClaimParams): Promise<ClaimResult> {
  const json = keys(rows);
  const { now, leaseUntil, token } = params;
  const results = await db.batch([
    // A planned message joins the queue when it is due, behind nothing that was accepted later than it was planned for.
    statement(
      `UPDATE messages AS m SET status = 'queued', open = 1, at = ?2 FROM json_each(?1) j
       WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' AND m.status = 'scheduled' AND m.scheduled_at <= ?2`,
      json,
      now,
    ),
    statement(
      `UPDATE messages AS m SET status = 'failed', open = NULL, failed_at = ?2, error = ${REFUSAL} FROM json_each(?1) j
       WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' AND m.status = 'queued' AND ${REFUSAL} IS NOT NULL
       RETURNING ${RETURNED}`,
      json,
      now,
    ),
    statement(
      `UPDATE messages AS m SET status = 'sending', lease_until = ?3, claim = ?4, attempts = attempts + 1 FROM json_each(?1) j
       WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' AND m.status = 'queued' AND m.not_before <= ?2
         AND EXISTS (SELECT 1 FROM workspace_states w WHERE w.workspace_id = m.workspace_id AND w.status = 'active')
         AND EXISTS (SELECT 1 FROM phone_numbers p WHERE p.workspace_id = m.workspace_id AND p.id = m.phone_number_id AND p.status = 'active')
         AND NOT EXISTS (SELECT 1 FROM messages e WHERE e.workspace_id = m.workspace_id AND e.conversation_id = m.conversation_id
           AND e.lane = m.lane AND e.open = 1 AND e.seq < m.seq AND NOT (e.status = 'queued' AND e.not_before <= ?2
           AND EXISTS (SELECT 1 FROM json_each(?1) k WHERE k.value ->> 'ws' = e.workspace_id AND k.value ->> 'id' = e.id)))
       RETURNING ${RETURNED}`,
      json,
      now,
      leaseUntil,
      token,
    ),
    statement(
      `SELECT ${MESSAGE_COLUMNS} FROM json_each(?1) j CROSS JOIN messages m
       WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id'`,
      json,
    ),
  ]);
  const refused = (results[1]?.results ?? []).map(toMessage);
  const claimed = (results[2]?.results ?? []).map(toMessage).sort((a, b) => a.seq - b.seq);
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

/** What became of one claimed message. */
export type SendResult = { workspaceId: string; id: string; claim: string } & (
  | { kind: "sent"; waMessageId: string; at: number }
  | { kind: "failed"; error: ProviderError; at: number }
  /** Queued again: after a transient refusal (counted), a blocked number, or because its turn did not come. */
  | { kind: "requeued"; notBefore: number; error: ProviderError | null; failure: boolean }
  | { kind: "ambiguous"; at: number; error: ProviderError }
);

/** The head of a conversation's queue, to be enqueued. */
export interface NextOpen {
  workspaceId: string;
  id: string;
  phoneNumberId: string;
  notBefore: number;
}

const nextRow = z.object({ ws: z.string(), id: z.string(), number: z.string(), not_before: z.number() });

function toNext(raw: unknown): NextOpen {
  const row = nextRow.parse(raw);
  return { workspaceId: row.ws, id: row.id, phoneNumberId: row.number, notBefore: row.not_before };
}

/**
 * Stores the results of a batch in one round trip (pipeline 5). A webhook may have been faster: `sent` never lowers a
 * delivered message, and whatever is no acceptance needs the claim to be still ours. Answers the messages as they are
 * now and the heads of the conversations' queues.
 */
export async function updateResults(
  db: Db,
  results: readonly SendResult[],
  conversations: readonly { workspaceId: string; conversationId: string; lane: string }[],
): Promise<{ messages: Message[]; next: NextOpen[] }> {
  const rows = results.map((result) => ({
    ws: result.workspaceId,
    id: result.id,
    claim: result.claim,
    wa: result.kind === "sent" ? result.waMessageId : null,
    at: result.kind === "requeued" ? result.notBefore : result.at,
    error: result.kind === "sent" ? null : result.error && JSON.stringify(result.error),
    failure: result.kind === "requeued" && result.failure ? 1 : 0,
    kind: result.kind,
  }));
  const of = (kind: SendResult["kind"]) => jsonChunks(rows.filter((row) => row.kind === kind));
  const pick = "m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id'";
  const ours = `${pick} AND m.status = 'sending' AND m.claim = j.value ->> 'claim'`;
  const statements: Statement[] = [
    ...of("sent").map((json) =>
      statement(
        // OR IGNORE: a provider id that another row holds already must not undo the other results of the batch.
        `UPDATE OR IGNORE messages AS m SET open = NULL, lease_until = NULL, claim = NULL, ambiguous_at = NULL, error = NULL, failed_at = NULL,
           status = CASE WHEN m.status IN ('delivered', 'read') THEN m.status ELSE 'sent' END,
           wa_message_id = COALESCE(m.wa_message_id, j.value ->> 'wa'), sent_at = COALESCE(m.sent_at, j.value ->> 'at')
         FROM json_each(?1) j WHERE ${pick}
           AND (m.status IN ('sending', 'queued') OR m.wa_message_id IS NULL OR m.sent_at IS NULL)
           AND (m.status <> 'failed' OR m.error ->> 'code' = '${OUTCOME_UNKNOWN}')`,
        json,
      ),
    ),
    ...of("failed").map((json) =>
      statement(
        `UPDATE messages AS m SET status = 'failed', open = NULL, lease_until = NULL, claim = NULL,
           failed_at = j.value ->> 'at', error = j.value ->> 'error' FROM json_each(?1) j WHERE ${ours}`,
        json,
      ),
    ),
    ...of("requeued").map((json) =>
      statement(
        `UPDATE messages AS m SET status = 'queued', lease_until = NULL, claim = NULL, not_before = j.value ->> 'at',
           failures = m.failures + (j.value ->> 'failure'), error = COALESCE(j.value ->> 'error', m.error)
         FROM json_each(?1) j WHERE ${ours}`,
        json,
      ),
    ),
    ...of("ambiguous").map((json) =>
      statement(
        `UPDATE messages AS m SET open = NULL, lease_until = NULL, claim = NULL, ambiguous_at = j.value ->> 'at',
           error = j.value ->> 'error' FROM json_each(?1) j WHERE ${ours}`,
        json,
      ),
    ),
    statement(
      `SELECT ${MESSAGE_COLUMNS} FROM json_each(?1) j CROSS JOIN messages m WHERE ${pick}`,
      JSON.stringify(results.map((result) => ({ ws: result.workspaceId, id: result.id }))),
    ),
    selectHeads(conversations),
  ];
  const answers = await db.batch(statements);
  return {
    messages: (answers.at(-2)?.results ?? []).map(toMessage),
    next: (answers.at(-1)?.results ?? []).map(toNext),
  };
}

/** The first open message of each conversation and lane, where it is queued: whoever finished wakes it. */
function selectHeads(
  conversations: readonly { workspaceId: string; conversationId: string; lane: string }[],
): Statement {
  const distinct = new Map(
    conversations.map((c) => [
      `${c.workspaceId} ${c.conversationId} ${c.lane}`,
      { ws: c.workspaceId, c: c.conversationId, l: c.lane },
    ]),
  );
  return statement(
    `SELECT h.workspace_id AS ws, h.id AS id, h.phone_number_id AS number, h.not_before AS not_before
     FROM json_each(?1) j CROSS JOIN messages h
     WHERE h.workspace_id = j.value ->> 'ws' AND h.status = 'queued' AND h.id = (SELECT e.id FROM messages e
       WHERE e.workspace_id = j.value ->> 'ws' AND e.conversation_id = j.value ->> 'c' AND e.lane = j.value ->> 'l' AND e.open = 1
       ORDER BY e.seq LIMIT 1)`,
    JSON.stringify([...distinct.values()]),
  );
}

/** How much of the open queue a sweep walks per run; a larger backlog is walked over several minutes. */
const SWEEP_WALK = 20_000;
export const SWEEP_LIMIT = 500;
const PROBES = 5;

const cursorSchema = z.tuple([z.string(), z.string(), z.string(), z.number()]);
const START: z.infer<typeof cursorSchema> = ["", "", "", -1];

export interface SweepFinds {
  /** Queued and overdue: their queue message was lost. `notBefore` is pushed to now, so the next sweep takes others. */
  overdue: NextOpen[];
  /** Claimed, and the lease has ended. */
  expiredLeases: Message[];
  /** Failed now: they waited (for a blocked number, a suspended workspace) until they expired. */
  expired: Message[];
}

/**
 * The oldest overdue and lease-expired messages of a shard, over at most 20,000 open rows from where the last sweep
 * stopped. Not bound to a workspace: it is the shard's own housekeeping.
 */
export async function sweepOpen(db: Db, now: number, overdueBefore: number): Promise<SweepFinds> {
  const stored = await db.first<{ cursor: string }>("SELECT cursor FROM sweep_cursors WHERE name = 'open'");
  const start = stored ? cursorSchema.parse(JSON.parse(stored.cursor)) : START;
  const walk = `SELECT m.workspace_id, m.conversation_id, m.lane, m.seq, m.id, m.status, m.not_before, m.lease_until, m.expires_at, m.phone_number_id
    FROM messages m INDEXED BY messages_open_queue
    WHERE m.open = 1 AND (m.workspace_id, m.conversation_id, m.lane, m.seq) > (?1, ?2, ?3, ?4)
    ORDER BY m.workspace_id, m.conversation_id, m.lane, m.seq LIMIT ${SWEEP_WALK}`;
  const [expired, overdue, leases, end] = await db.batch([
    statement(
      `UPDATE messages AS m SET status = 'failed', open = NULL, failed_at = ?5, error = ?6 FROM (SELECT w.workspace_id, w.id FROM (${walk}) w
         WHERE w.status = 'queued' AND w.expires_at <= ?5 LIMIT ${SWEEP_LIMIT}) d
       WHERE m.workspace_id = d.workspace_id AND m.id = d.id AND m.status = 'queued' RETURNING ${RETURNED}`,
      ...start,
      now,
      JSON.stringify(EXPIRED),
    ),
    // Of a blocked number a few are enough to probe it; its backlog must not crowd out the others.
    statement(
      `UPDATE messages AS m SET not_before = ?5 FROM (SELECT o.workspace_id, o.id FROM (
           SELECT w.workspace_id, w.id, w.not_before, p.blocked_reason,
             row_number() OVER (PARTITION BY w.phone_number_id ORDER BY w.not_before) AS place
           FROM (${walk}) w LEFT JOIN phone_numbers p ON p.workspace_id = w.workspace_id AND p.id = w.phone_number_id
           WHERE w.status = 'queued' AND w.not_before <= ?6) o
         WHERE o.blocked_reason IS NULL OR o.place <= ${PROBES} ORDER BY o.not_before LIMIT ${SWEEP_LIMIT}) d
       WHERE m.workspace_id = d.workspace_id AND m.id = d.id AND m.status = 'queued'
       RETURNING workspace_id AS ws, id, phone_number_id AS number, not_before`,
      ...start,
      now,
      overdueBefore,
    ),
    statement(
      `SELECT ${MESSAGE_COLUMNS} FROM (${walk}) w CROSS JOIN messages m
       WHERE m.workspace_id = w.workspace_id AND m.id = w.id AND w.status = 'sending' AND w.lease_until <= ?5 LIMIT ${SWEEP_LIMIT}`,
      ...start,
      now,
    ),
    // The last row of a full walk; nothing when the walk reached the end.
    statement(
      `SELECT w.workspace_id, w.conversation_id, w.lane, w.seq FROM (${walk}) w LIMIT 1 OFFSET ${SWEEP_WALK - 1}`,
      ...start,
    ),
  ]);
  const last = end?.results[0];
  const cursor = last ? cursorSchema.parse(Object.values(last)) : START;
  if (JSON.stringify(cursor) !== JSON.stringify(start)) {
    await db.run(
      "INSERT INTO sweep_cursors (name, cursor) VALUES ('open', ?1) ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor",
      JSON.stringify(cursor),
    );
  }
  return {
    overdue: (overdue?.results ?? []).map(toNext),
    expiredLeases: (leases?.results ?? []).map(toMessage),
    expired: (expired?.results ?? []).map(toMessage),
  };
}

/**
 * Ends leases whose holder is gone: never called → queued again; perhaps called → ambiguous. Each only if the same
 * claim still stands and its time is over.
 */
export async function releaseLeases(
  db: Db,
  rows: readonly { message: Message; called: boolean }[],
  now: number,
): Promise<{ requeued: NextOpen[]; ambiguous: Message[] }> {
  const json = (called: boolean) =>
    JSON.stringify(
      rows
        .filter((r) => r.called === called)
        .map((r) => ({ ws: r.message.workspaceId, id: r.message.id, claim: r.message.claim })),
    );
  const guard = `m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' AND m.status = 'sending'
    AND m.claim = j.value ->> 'claim' AND m.lease_until <= ?2`;
  const [requeued, ambiguous] = await db.batch([
    statement(
      `UPDATE messages AS m SET status = 'queued', lease_until = NULL, claim = NULL, not_before = ?2 FROM json_each(?1) j
       WHERE ${guard} RETURNING workspace_id AS ws, id, phone_number_id AS number, not_before`,
      json(false),
      now,
    ),
    statement(
      `UPDATE messages AS m SET open = NULL, lease_until = NULL, claim = NULL, ambiguous_at = ?2 FROM json_each(?1) j
       WHERE ${guard} RETURNING ${RETURNED}`,
      json(true),
      now,
    ),
  ]);
  return {
    requeued: (requeued?.results ?? []).map(toNext),
    ambiguous: (ambiguous?.results ?? []).map(toMessage),
  };
}

/** After this long no status will come any more: Meta delivers webhooks for up to 7 days. */
const STATUSES_END_AFTER = 7 * 86_400_000;

/**
 * Gives up on ambiguous messages whose number has been receiving statuses for `unknownAfter` ms since: failed
 * `outcome_unknown`, or queued again where the workspace chose `resend_unknown` (pipeline 4).
 */
export async function settleAmbiguous(
  db: Db,
  now: number,
  unknownAfter: number,
): Promise<{ failed: Message[]; resent: NextOpen[] }> {
  const due = `SELECT a.workspace_id, a.id FROM messages a INDEXED BY messages_ambiguous
    JOIN phone_numbers p ON p.workspace_id = a.workspace_id AND p.id = a.phone_number_id
    LEFT JOIN workspace_states w ON w.workspace_id = a.workspace_id
    WHERE a.ambiguous_at <= ?1 - ?2 AND a.status = 'sending'
      AND (p.last_status_at >= a.ambiguous_at + ?2 OR a.ambiguous_at <= ?1 - ${STATUSES_END_AFTER})
      AND COALESCE(w.settings ->> 'resend_unknown', 0) = `;
  const [resent, failed] = await db.batch([
    statement(
      `UPDATE messages AS m SET status = 'queued', open = 1, ambiguous_at = NULL, not_before = ?1
       FROM (${due} 1 LIMIT ${SWEEP_LIMIT}) d WHERE m.workspace_id = d.workspace_id AND m.id = d.id AND m.status = 'sending'
       RETURNING workspace_id AS ws, id, phone_number_id AS number, not_before`,
      now,
      unknownAfter,
    ),
    statement(
      `UPDATE messages AS m SET status = 'failed', failed_at = ?1, ambiguous_at = NULL, error = ?3
       FROM (${due} 0 LIMIT ${SWEEP_LIMIT}) d WHERE m.workspace_id = d.workspace_id AND m.id = d.id AND m.status = 'sending'
       RETURNING ${RETURNED}`,
      now,
      unknownAfter,
      JSON.stringify(UNKNOWN_OUTCOME_ERROR),
    ),
  ]);
  return {
    failed: (failed?.results ?? []).map(toMessage),
    resent: (resent?.results ?? []).map(toNext),
  };
}

/** Planned messages that are due before `until`, so that the cron can enqueue them with their exact delay. */
export async function selectScheduledDue(db: Db, until: number): Promise<NextOpen[]> {
  const rows = await db.all(
    `SELECT m.workspace_id AS ws, m.id AS id, m.phone_number_id AS number, m.scheduled_at AS not_before
     FROM messages m INDEXED BY messages_scheduled WHERE m.status = 'scheduled' AND m.scheduled_at <= ?1
     ORDER BY m.scheduled_at LIMIT 5000`,
    until,
  );
  return rows.map(toNext);
}
