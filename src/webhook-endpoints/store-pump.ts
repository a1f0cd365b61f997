/** SQL of a run: claim the endpoint, read what is due for it, store what became of it. */
import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { webhookEvents } from "../inbound/tables";
import { messages } from "../messages/tables";
import { columnsOf, type Db, fromRow, jsonChunks, type Statement, statement } from "../platform/d1";
import type { DeliveryEntry } from "./schema";
import { type Endpoint, rebuildFeed, toEndpoint } from "./store";
import { appendEntries } from "./store-log";
import { webhookLags, webhookOutbox } from "./tables";

export type OutboxEvent = InferSelectModel<typeof webhookOutbox>;
export type Lag = InferSelectModel<typeof webhookLags>;
type Message = InferSelectModel<typeof messages>;
type WebhookEvent = InferSelectModel<typeof webhookEvents>;

/** So many failures in a row mean the endpoint, not the event: then it is left alone, and tried with one event at a time. */
export const DOWN_AFTER = 3;
/** Events read per run. */
const PAGE = 200;
/** Conversations that are behind, per run. */
const LAGS = 20;
/** Events of each of them, per run. */
export const LAG_EVENTS = 20;
/** How far a run looks for them: events of all conversations. */
const LAG_REACH = 2000;
/** An endpoint that cares for nothing of what happens moves on after so many events, so that it never reads far. */
const SKIP = 1000;

/** Whether there is anything to do at `now`, a parameter. */
const due = (now: string) => `((e.replay_next IS NOT NULL AND COALESCE(e.replay_at, 0) <= ${now})
  OR EXISTS (SELECT 1 FROM webhook_lags l WHERE l.workspace_id = e.workspace_id AND l.endpoint_id = e.id AND (l.next_at <= ${now} OR e.failures >= ${DOWN_AFTER}))
  OR e.cursor + ${SKIP} < (SELECT max(o.seq) FROM webhook_outbox o WHERE o.workspace_id = e.workspace_id)
  OR EXISTS (SELECT 1 FROM webhook_outbox o WHERE o.workspace_id = e.workspace_id AND o.seq > e.cursor AND instr(e.types, ' ' || o.type || ' ') > 0))`;
const ready = (now: string) => `e.status = 'enabled' AND (e.next_at IS NULL OR e.next_at <= ${now})
  AND EXISTS (SELECT 1 FROM workspace_states w WHERE w.workspace_id = e.workspace_id AND w.status = 'active') AND ${due(now)}`;

export interface Run {
  endpoint: Endpoint;
  /** What comes after its cursor, in order. */
  page: OutboxEvent[];
  /** Conversations that are behind, in the order of their events: those that are due, or all when it was down. */
  lags: Lag[];
  /** Conversations that are behind and not due. */
  waiting: Set<string>;
  /** Of those that are behind, the events up to the cursor. */
  behind: OutboxEvent[];
  replay: OutboxEvent[];
}

/** Takes an endpoint for one run; null when there is nothing to do, it must wait, or somebody else has it. */
export async function claimEndpoint(
  db: Db,
  key: { workspaceId: string; id: string },
  lease: { token: string; now: number; until: number },
): Promise<Run | null> {
  const [claimed, lags, page, replay] = await db.batch([
    statement(
      `UPDATE webhook_endpoints AS e SET lease = ?4, lease_until = ?5
       WHERE e.workspace_id = ?1 AND e.id = ?2 AND (e.lease_until IS NULL OR e.lease_until <= ?3) AND ${ready("?3")} RETURNING *`,
      key.workspaceId,
      key.id,
      lease.now,
      lease.token,
      lease.until,
    ),
    statement(
      `SELECT ${columnsOf(webhookLags, "l")} FROM webhook_lags l WHERE l.workspace_id = ?1 AND l.endpoint_id = ?2 ORDER BY l.seq`,
      key.workspaceId,
      key.id,
    ),
    statement(
      `SELECT ${columnsOf(webhookOutbox, "o")} FROM webhook_outbox o WHERE o.workspace_id = ?1
         AND o.seq > (SELECT e.cursor FROM webhook_endpoints e WHERE e.workspace_id = ?1 AND e.id = ?2) ORDER BY o.seq LIMIT ${PAGE}`,
      key.workspaceId,
      key.id,
    ),
    statement(
      `SELECT ${columnsOf(webhookOutbox, "o")} FROM webhook_endpoints e CROSS JOIN webhook_outbox o
       WHERE e.workspace_id = ?1 AND e.id = ?2 AND o.workspace_id = ?1 AND COALESCE(e.replay_at, 0) <= ?3 AND o.seq >= e.replay_next AND o.seq <= e.replay_until
       ORDER BY o.seq LIMIT ${PAGE}`,
      key.workspaceId,
      key.id,
      lease.now,
    ),
  ]);
  const row = claimed?.results[0];
  if (!row) return null;
  const endpoint = toEndpoint(row);
  const all = (lags?.results ?? []).map((lag) => fromRow(webhookLags, lag));
  const taking = all.filter((lag) => endpoint.failures >= DOWN_AFTER || lag.nextAt <= lease.now).slice(0, LAGS);
  const taken = new Set(taking.map((lag) => lag.conversationId));
  return {
    endpoint,
    page: (page?.results ?? []).map(toEvent),
    lags: taking,
    waiting: new Set(all.map((lag) => lag.conversationId).filter((id) => !taken.has(id))),
    behind: await selectBehind(db, endpoint, taking),
    replay: (replay?.results ?? []).map(toEvent),
  };
}

function toEvent(row: Record<string, unknown>): OutboxEvent {
  return fromRow(webhookOutbox, row);
}

/** How far this run looks for the events of a conversation that is behind. */
export function reachOf(endpoint: Endpoint, lag: Lag): number {
  return Math.min(endpoint.cursor, lag.seq + LAG_REACH - 1);
}

async function selectBehind(db: Db, endpoint: Endpoint, lags: readonly Lag[]): Promise<OutboxEvent[]> {
  if (lags.length === 0) return [];
  const results = await db.batch(
    lags.map((lag) =>
      statement(
        `SELECT ${columnsOf(webhookOutbox, "o")} FROM webhook_outbox o WHERE o.workspace_id = ?1 AND o.seq >= ?2 AND o.seq <= ?3
           AND o.conversation_id = ?4 ORDER BY o.seq LIMIT ${LAG_EVENTS}`,
        endpoint.workspaceId,
        lag.seq,
        reachOf(endpoint, lag),
        lag.conversationId,
      ),
    ),
  );
  return results.flatMap((result) => result.results.map(toEvent));
}

/** One event, as long as it is kept. */
export async function selectEvent(db: Db, workspaceId: string, seq: number): Promise<OutboxEvent | null> {
  const row = await db.first(
    `SELECT ${columnsOf(webhookOutbox, "o")} FROM webhook_outbox o WHERE o.workspace_id = ?1 AND o.seq = ?2`,
    workspaceId,
    seq,
  );
  return row && toEvent(row);
}

/** What events are about, by id. */
export interface Subjects {
  messages: ReadonlyMap<string, Message>;
  events: ReadonlyMap<string, WebhookEvent>;
}

/** Reads what events are about; what is gone is not among them. */
export async function selectSubjects(db: Db, events: readonly OutboxEvent[]): Promise<Subjects> {
  const refs = (about: boolean) =>
    jsonChunks(
      events
        .filter(({ type }) => (type === "webhook_event.created") === about)
        .map(({ workspaceId, ref }) => ({ ws: workspaceId, id: ref })),
    );
  const of = (table: "messages" | "webhook_events", columns: string, about: boolean): Statement[] =>
    refs(about).map((json) =>
      statement(
        `SELECT DISTINCT ${columns} FROM json_each(?1) j CROSS JOIN ${table} t
         WHERE t.workspace_id = j.value ->> 'ws' AND t.id = j.value ->> 'id'`,
        json,
      ),
    );
  const ofMessages = of("messages", columnsOf(messages, "t"), false);
  const ofEvents = of("webhook_events", columnsOf(webhookEvents, "t"), true);
  const results = await db.batch([...ofMessages, ...ofEvents]);
  const rows = (from: number, to?: number) => results.slice(from, to).flatMap((result) => result.results);
  const found = rows(0, ofMessages.length).map((row) => fromRow(messages, row));
  const told = rows(ofMessages.length).map((row) => fromRow(webhookEvents, row));
  return {
    messages: new Map(found.map((message) => [message.id, message])),
    events: new Map(told.map((event) => [event.id, event])),
  };
}

/** What a run leaves behind. */
export interface RunResult {
  cursor: number;
  failures: number;
  failingSince: number | null;
  nextAt: number | null;
  lastSuccessAt: number | null;
  lastError: string | null;
  /** Null keeps it enabled. */
  disabled: string | null;
  replayNext: number | null;
  replayAt: number | null;
  replayFailures: number;
  lags: Omit<Lag, "workspaceId" | "endpointId">[];
  /** Conversations that caught up. */
  caughtUp: string[];
  entries: DeliveryEntry[];
}

const moreRow = z.object({ more: z.number() });

/**
 * Stores what became of a run, if the endpoint is still ours, and gives it back. Answers whether there is more to do at
 * once; one that happens later finds the endpoint free. `notice` is the id of what the workspace is told if it is
 * disabled now.
 */
export async function storeRun(
  db: Db,
  endpoint: Endpoint,
  result: RunResult,
  { now, notice }: { now: number; notice: string },
): Promise<boolean> {
  const { workspaceId, id, lease } = endpoint;
  const ours = `EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.workspace_id = ?1 AND e.id = ?2 AND e.lease = ?3)`;
  const mine = [workspaceId, id, lease] as const;
  const log = appendEntries(result.entries, ours, mine);
  const answers = await db.batch([
    ...(result.lags.length === 0
      ? []
      : [
          statement(
            `INSERT INTO webhook_lags (workspace_id, endpoint_id, conversation_id, seq, attempts, first_failed_at, next_at)
             SELECT ?1, ?2, j.value ->> 'c', j.value ->> 'seq', j.value ->> 'attempts', j.value ->> 'first', j.value ->> 'next'
             FROM json_each(?4) j WHERE ${ours}
             ON CONFLICT (workspace_id, endpoint_id, conversation_id) DO UPDATE SET seq = excluded.seq, attempts = excluded.attempts,
               first_failed_at = excluded.first_failed_at, next_at = excluded.next_at`,
            ...mine,
            JSON.stringify(
              result.lags.map((lag) => ({
                c: lag.conversationId,
                seq: lag.seq,
                attempts: lag.attempts,
                first: lag.firstFailedAt,
                next: lag.nextAt,
              })),
            ),
          ),
        ]),
    ...(result.caughtUp.length === 0
      ? []
      : [
          statement(
            `DELETE FROM webhook_lags WHERE workspace_id = ?1 AND endpoint_id = ?2 AND ${ours}
               AND conversation_id IN (SELECT j.value FROM json_each(?4) j)`,
            ...mine,
            JSON.stringify(result.caughtUp),
          ),
        ]),
    ...log.statements,
    statement(
      `UPDATE webhook_endpoints AS e SET lease = NULL, lease_until = NULL, cursor = MAX(e.cursor, ?5), failures = ?6, failing_since = ?7,
         next_at = ?8, last_success_at = COALESCE(?9, e.last_success_at), last_error = ?10,
         status = iif(?11 IS NULL, e.status, 'disabled'), disabled_reason = COALESCE(?11, e.disabled_reason),
         disabled_at = iif(?11 IS NULL, e.disabled_at, ?4), replay_next = ?12, replay_at = ?13, replay_failures = ?14, log_chunk = ${log.nextChunk}
       WHERE e.workspace_id = ?1 AND e.id = ?2 AND e.lease = ?3`,
      ...mine,
      now,
      result.cursor,
      result.failures,
      result.failingSince,
      result.nextAt,
      result.lastSuccessAt,
      result.lastError,
      result.disabled,
      result.replayNext,
      result.replayAt,
      result.replayFailures,
    ),
    // Nothing more is told for an endpoint that is disabled; what is told is that it is.
    ...(result.disabled === null
      ? []
      : [...rebuildFeed(workspaceId), ...noticeOf(endpoint, result.disabled, notice, now)]),
    statement(
      `SELECT count(*) AS more FROM webhook_endpoints e WHERE e.workspace_id = ?1 AND e.id = ?2 AND e.lease IS NULL AND ${ready("?3")}`,
      workspaceId,
      id,
      now,
    ),
  ]);
  return moreRow.parse(answers.at(-1)?.results[0]).more > 0;
}

/** What the workspace finds among its webhook events: an endpoint of its own was disabled. */
function noticeOf(endpoint: Endpoint, reason: string, id: string, now: number): Statement[] {
  const mine = [endpoint.workspaceId, id] as const;
  const payload = JSON.stringify({ webhook_endpoint_id: endpoint.id, url: endpoint.url, reason });
  const gone = `EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.workspace_id = ?1 AND e.id = ?3 AND e.disabled_at = ?4)`;
  return [
    statement(
      `INSERT INTO webhook_events (workspace_id, id, provider, kind, field, raw, received_at)
       SELECT ?1, ?2, 'switchboard', '${DISABLED}', NULL, ?5, ?4 WHERE ${gone}`,
      ...mine,
      endpoint.id,
      now,
      payload,
    ),
    statement(
      `INSERT INTO list_totals (workspace_id, list, n) SELECT ?1, 'webhook_events', 1
       WHERE EXISTS (SELECT 1 FROM webhook_events v WHERE v.workspace_id = ?1 AND v.id = ?2)
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + 1`,
      ...mine,
    ),
  ];
}

/** The kind of that notice. */
export const DISABLED = "webhook_endpoint.disabled";

const dueRow = z.object({ workspace_id: z.string(), id: z.string() });

/** Endpoints of a shard that have something to do and that nobody has at the moment, at most `limit`. */
export async function selectDue(db: Db, now: number, limit: number): Promise<{ workspaceId: string; id: string }[]> {
  const rows = await db.all(
    `SELECT e.workspace_id, e.id FROM webhook_endpoints e
     WHERE (e.lease_until IS NULL OR e.lease_until <= ?1) AND ${ready("?1")} LIMIT ${limit}`,
    now,
  );
  return rows.map((row) => {
    const { workspace_id: workspaceId, id } = dueRow.parse(row);
    return { workspaceId, id };
  });
}
