/** SQL of the sweeps (pipeline 6): a shard's own housekeeping, bound to no workspace, and bounded in what it reads. */
import { z } from "zod";
import { type Db, type Statement, statement } from "../platform/d1";
import { UNKNOWN_OUTCOME, UNKNOWN_TWICE } from "./refusals";
import { MESSAGE_COLUMNS, type Message, toMessage } from "./store";
import { EXPIRY_ERROR, type NextOpen, RETURNED, selectHeads, toNext } from "./store-sending";

/** How much of the open queue a sweep walks per run; a larger backlog is walked over several minutes. */
const SWEEP_WALK = 20_000;
const SWEEP_LIMIT = 500;
const SCHEDULED_LIMIT = 5000;
/** Of a blocked number a few are enough to probe it; its backlog must not crowd out the others. */
const PROBES = 5;

const cursorSchema = z.tuple([z.string(), z.string(), z.string(), z.number()]);
const START: Walk = ["", "", "", -1];

/** Where a sweep's walk over the open queue begins: workspace, conversation, lane, seq. */
export type Walk = z.infer<typeof cursorSchema>;

/** `?1` to `?4` are where the walk begins. */
const WALK = `SELECT m.workspace_id, m.conversation_id, m.lane, m.seq, m.id, m.status, m.not_before, m.lease_until, m.expires_at, m.phone_number_id
  FROM messages m INDEXED BY messages_open_queue
  WHERE m.open = 1 AND (m.workspace_id, m.conversation_id, m.lane, m.seq) > (?1, ?2, ?3, ?4)
  ORDER BY m.workspace_id, m.conversation_id, m.lane, m.seq LIMIT ${SWEEP_WALK}`;

/** Over at most 20,000 open rows, from where the last sweep stopped. */
export async function selectWalk(db: Db): Promise<Walk> {
  const stored = await db.first<{ cursor: string }>("SELECT cursor FROM sweep_cursors WHERE name = 'open'");
  return stored ? cursorSchema.parse(JSON.parse(stored.cursor)) : START;
}

/**
 * What ended while nobody looked: messages that waited (for a blocked number, a suspended workspace) until they expired
 * fail now; claims whose lease has ended are returned.
 */
export async function expireOpen(
  db: Db,
  walk: Walk,
  now: number,
): Promise<{ expired: Message[]; expiredLeases: Message[] }> {
  const [expired, planned, leases] = await db.batch([
    statement(
      `UPDATE messages AS m SET status = 'failed', open = NULL, failed_at = ?5, error = ${EXPIRY_ERROR}
       FROM (SELECT w.workspace_id, w.id FROM (${WALK}) w WHERE w.status = 'queued' AND w.expires_at <= ?5 LIMIT ${SWEEP_LIMIT}) d
       WHERE m.workspace_id = d.workspace_id AND m.id = d.id AND m.status = 'queued' RETURNING ${RETURNED}`,
      ...walk,
      now,
    ),
    statement(
      `UPDATE messages AS m SET status = 'failed', failed_at = ?1, error = ${EXPIRY_ERROR}
       FROM (SELECT s.workspace_id, s.id FROM messages s INDEXED BY messages_scheduled
         WHERE s.status = 'scheduled' AND s.scheduled_at <= ?1 AND s.expires_at <= ?1 ORDER BY s.scheduled_at LIMIT ${SWEEP_LIMIT}) d
       WHERE m.workspace_id = d.workspace_id AND m.id = d.id AND m.status = 'scheduled' RETURNING ${RETURNED}`,
      now,
    ),
    statement(
      `SELECT ${MESSAGE_COLUMNS} FROM (${WALK}) w CROSS JOIN messages m
       WHERE m.workspace_id = w.workspace_id AND m.id = w.id AND w.status = 'sending' AND w.lease_until <= ?5 LIMIT ${SWEEP_LIMIT}`,
      ...walk,
      now,
    ),
  ]);
  return {
    expired: [...(expired?.results ?? []), ...(planned?.results ?? [])].map(toMessage),
    expiredLeases: (leases?.results ?? []).map(toMessage),
  };
}

/**
 * Ends leases whose holder is gone: never called → queued again; perhaps called → ambiguous. Each only if the same
 * claim still stands and its time is over. An ambiguous message blocks nobody any more: `next` are those behind it.
 * Where the provider takes an id once (`repeatable`), a call that may have been made is queued again under its id.
 */
export async function releaseLeases(
  db: Db,
  rows: readonly { message: Message; called: boolean; repeatable?: boolean }[],
  now: number,
): Promise<{ requeued: NextOpen[]; ambiguous: Message[]; next: NextOpen[] }> {
  const json = (called: boolean, repeatable = false) =>
    JSON.stringify(
      rows
        .filter((r) => r.called === called && (r.called && r.repeatable === true) === repeatable)
        .map((r) => ({ ws: r.message.workspaceId, id: r.message.id, claim: r.message.claim })),
    );
  const guard = `m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' AND m.status = 'sending'
    AND m.claim = j.value ->> 'claim' AND m.lease_until <= ?2`;
  const [requeued, repeated, ambiguous, next] = await db.batch([
    statement(
      `UPDATE messages AS m SET status = 'queued', lease_until = NULL, claim = NULL, not_before = ?2 FROM json_each(?1) j
       WHERE ${guard} RETURNING workspace_id AS ws, id, phone_number_id AS number, not_before`,
      json(false),
      now,
    ),
    statement(
      `UPDATE messages AS m SET status = 'queued', lease_until = NULL, claim = NULL, not_before = ?2,
         wa_message_id = COALESCE(m.wa_message_id, m.id || '.' || m.attempts) FROM json_each(?1) j
       WHERE ${guard} RETURNING workspace_id AS ws, id, phone_number_id AS number, not_before`,
      json(true, true),
      now,
    ),
    statement(
      `UPDATE messages AS m SET open = NULL, lease_until = NULL, claim = NULL, ambiguous_at = ?2, unknown_ms = 0 FROM json_each(?1) j
       WHERE ${guard} RETURNING ${RETURNED}`,
      json(true),
      now,
    ),
    selectHeads(rows.filter((r) => r.called && !r.repeatable).map((r) => r.message)),
  ]);
  return {
    requeued: [...(requeued?.results ?? []), ...(repeated?.results ?? [])].map(toNext),
    ambiguous: (ambiguous?.results ?? []).map(toMessage),
    next: (next?.results ?? []).map(toNext),
  };
}

/**
 * The oldest messages that should have been handled by `before` and whose turn it is: their queue message was lost.
 * `not_before` is pushed to now, so that the next sweep takes others. Only the head of each conversation: who stands
 * behind it is woken when it is done, and a blocked number's probe must not be spent on somebody who has to wait.
 * Numbers and workspaces that cannot send now are left out, because nothing of theirs could be claimed.
 */
export async function takeOverdue(db: Db, walk: Walk, now: number, before: number): Promise<NextOpen[]> {
  const [overdue, end] = await db.batch([
    statement(
      `UPDATE messages AS m SET not_before = ?5 FROM (SELECT o.workspace_id, o.id FROM (
           SELECT w.workspace_id, w.id, w.not_before, p.blocked_reason,
             row_number() OVER (PARTITION BY w.phone_number_id ORDER BY w.not_before) AS place
           FROM (${WALK}) w
           LEFT JOIN phone_numbers p ON p.workspace_id = w.workspace_id AND p.id = w.phone_number_id
           LEFT JOIN workspace_states s ON s.workspace_id = w.workspace_id
           WHERE w.status = 'queued' AND w.not_before <= ?6
             AND (p.id IS NULL OR p.deleted_at IS NOT NULL OR (p.status = 'active' AND s.status = 'active'))
             AND NOT EXISTS (SELECT 1 FROM messages e WHERE e.workspace_id = w.workspace_id AND e.conversation_id = w.conversation_id
               AND e.lane = w.lane AND e.open = 1 AND (e.seq, e.id) < (w.seq, w.id))) o
         WHERE o.blocked_reason IS NULL OR o.place <= ${PROBES} ORDER BY o.not_before LIMIT ${SWEEP_LIMIT}) d
       WHERE m.workspace_id = d.workspace_id AND m.id = d.id AND m.status = 'queued'
       RETURNING workspace_id AS ws, id, phone_number_id AS number, not_before`,
      ...walk,
      now,
      before,
    ),
    // The last row of a full walk; nothing when the walk reached the end.
    statement(
      `SELECT w.workspace_id, w.conversation_id, w.lane, w.seq FROM (${WALK}) w LIMIT 1 OFFSET ${SWEEP_WALK - 1}`,
      ...walk,
    ),
  ]);
  await rememberWalk(db, walk, end?.results[0]);
  return (overdue?.results ?? []).map(toNext);
}

async function rememberWalk(db: Db, walk: Walk, last: Record<string, unknown> | undefined): Promise<void> {
  const reached = last ? cursorSchema.parse(Object.values(last)) : START;
  if (JSON.stringify(reached) === JSON.stringify(walk)) return;
  await db.run(
    "INSERT INTO sweep_cursors (name, cursor) VALUES ('open', ?1) ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor",
    JSON.stringify(reached),
  );
}

/** After this long no status will come any more: Meta delivers webhooks for up to 7 days. */
const STATUSES_END_AFTER = 7 * 86_400_000;
/** Statuses are arriving while the last one is no older (`last_status_at` is kept to the minute). */
const ARRIVING = 120_000;
/** How many ambiguous messages one run looks at, oldest first. */
const UNKNOWN_LIMIT = 5000;

/**
 * Runs the clock of ambiguous messages, and gives up on those for which it ran `unknownAfter` ms: failed
 * `outcome_unknown`, or queued once more where the workspace chose `resend_unknown` (pipeline 4).
 *
 * The clock runs only from one sweep to the next and only while statuses of the number arrive. A mere "a status came ten
 * minutes later" would end with the first status after an outage of the webhooks, while the message's own was still
 * on its way; and with `resend_unknown` it would send it twice.
 */
export async function settleAmbiguous(
  db: Db,
  now: number,
  unknownAfter: number,
): Promise<{ failed: Message[]; resent: NextOpen[] }> {
  const looked = "COALESCE((SELECT c.cursor ->> 0 FROM sweep_cursors c WHERE c.name = 'unknown'), 0)";
  const resend =
    "COALESCE(w.settings ->> 'resend_unknown' = 1, 0) AND a.resent_at IS NULL AND COALESCE(a.expires_at > ?1, 1)";
  const due = `SELECT a.workspace_id, a.id FROM messages a INDEXED BY messages_ambiguous
    LEFT JOIN workspace_states w ON w.workspace_id = a.workspace_id
    WHERE a.ambiguous_at <= ?1 AND a.status = 'sending' AND (a.unknown_ms >= ?2 OR a.ambiguous_at <= ?1 - ${STATUSES_END_AFTER})`;
  const [, , resent, failed] = await db.batch([
    statement(
      `UPDATE messages AS m SET unknown_ms = COALESCE(m.unknown_ms, 0) + MIN(MAX(?1 - MAX(m.ambiguous_at, ${looked}), 0), ${ARRIVING})
       FROM (SELECT a.workspace_id, a.id FROM messages a INDEXED BY messages_ambiguous
         JOIN phone_numbers p ON p.workspace_id = a.workspace_id AND p.id = a.phone_number_id
         WHERE a.ambiguous_at <= ?1 AND a.status = 'sending' AND p.last_status_at > ?1 - ${ARRIVING}
         ORDER BY a.ambiguous_at LIMIT ${UNKNOWN_LIMIT}) d
       WHERE m.workspace_id = d.workspace_id AND m.id = d.id`,
      now,
    ),
    lookedAt(now),
    statement(
      `UPDATE messages AS m SET status = 'queued', open = 1, ambiguous_at = NULL, not_before = ?1, resent_at = ?1
       FROM (${due} AND ${resend} LIMIT ${SWEEP_LIMIT}) d
       WHERE m.workspace_id = d.workspace_id AND m.id = d.id AND m.status = 'sending'
       RETURNING workspace_id AS ws, id, phone_number_id AS number, not_before`,
      now,
      unknownAfter,
    ),
    statement(
      `UPDATE messages AS m SET status = 'failed', failed_at = ?1, ambiguous_at = NULL,
         error = CASE WHEN m.resent_at IS NULL THEN ?3 ELSE ?4 END
       FROM (${due} AND NOT (${resend}) LIMIT ${SWEEP_LIMIT}) d
       WHERE m.workspace_id = d.workspace_id AND m.id = d.id AND m.status = 'sending'
       RETURNING ${RETURNED}`,
      now,
      unknownAfter,
      JSON.stringify(UNKNOWN_OUTCOME),
      JSON.stringify(UNKNOWN_TWICE),
    ),
  ]);
  return {
    failed: (failed?.results ?? []).map(toMessage),
    resent: (resent?.results ?? []).map(toNext),
  };
}

/** When the clock was last looked at; written only while there is somebody whose clock it is. */
function lookedAt(now: number): Statement {
  return statement(
    `INSERT INTO sweep_cursors (name, cursor) SELECT 'unknown', json_array(?1)
     WHERE EXISTS (SELECT 1 FROM messages a INDEXED BY messages_ambiguous WHERE a.ambiguous_at IS NOT NULL)
     ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor WHERE excluded.cursor ->> 0 > sweep_cursors.cursor ->> 0`,
    now,
  );
}

/**
 * Planned messages whose time has come or is near. Those due before `overdue` had their job lost: they join the open
 * queue, where they wait their turn, expire and are swept as any other. Those due by `until` that were accepted more
 * than `ahead` ms before had no job yet, because queue delays end there.
 */
export async function takeScheduled(
  db: Db,
  times: { now: number; overdue: number; until: number; ahead: number },
): Promise<{ overdue: NextOpen[]; soon: NextOpen[] }> {
  const [overdue, soon] = await db.batch([
    statement(
      `UPDATE messages AS m SET status = 'queued', open = 1, at = ?1, not_before = ?1
       FROM (SELECT s.workspace_id, s.id FROM messages s INDEXED BY messages_scheduled
         WHERE s.status = 'scheduled' AND s.scheduled_at <= ?2 ORDER BY s.scheduled_at LIMIT ${SWEEP_LIMIT}) d
       WHERE m.workspace_id = d.workspace_id AND m.id = d.id AND m.status = 'scheduled'
       RETURNING workspace_id AS ws, id, phone_number_id AS number, not_before`,
      times.now,
      times.overdue,
    ),
    statement(
      `SELECT m.workspace_id AS ws, m.id AS id, m.phone_number_id AS number, m.scheduled_at AS not_before
       FROM messages m INDEXED BY messages_scheduled
       WHERE m.status = 'scheduled' AND m.scheduled_at > ?1 AND m.scheduled_at <= ?2 AND m.created_at < m.scheduled_at - ?3
       ORDER BY m.scheduled_at LIMIT ${SCHEDULED_LIMIT}`,
      times.overdue,
      times.until,
      times.ahead,
    ),
  ]);
  return { overdue: (overdue?.results ?? []).map(toNext), soon: (soon?.results ?? []).map(toNext) };
}
