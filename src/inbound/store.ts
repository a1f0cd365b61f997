/** SQL of receiving: everything of a batch in one transaction, so that a redelivery finds all of it or nothing (pipeline 9). */

import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, jsonChunks, type Statement, statement } from "../platform/d1";
import { decodeCursor, EXACT_TOTAL, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import type { Key } from "./people";
import { deadLetters, webhookEvents } from "./tables";

/** A contact nobody knew, with all its names. Made only if still nobody knows any of them. */
export interface NewContact {
  ws: string;
  id: string;
  kind: "person" | "group";
  phone: string | null;
  wa: string | null;
  user: string | null;
  username: string | null;
  name: string | null;
  keys: { k: string; v: string }[];
}

/** A name that a contact does not have yet; `c` owns it unless one of `keys` has an owner. */
export interface NewIdentity {
  ws: string;
  k: string;
  v: string;
  c: string;
  keys: { k: string; v: string }[];
}

export interface NewConversation {
  ws: string;
  id: string;
  num: string;
  /** A key of the contact. */
  k: string;
  v: string;
  peer: string;
}

export interface NewMessage {
  ws: string;
  id: string;
  num: string;
  k: string;
  v: string;
  direction: "inbound" | "outbound";
  origin: "live" | "history" | "echo";
  type: string;
  content: string;
  status: string;
  wa: string;
  from: string | null;
  to: string | null;
  reply: string | null;
  at: number;
  received: number;
  position: number;
  preview: string;
}

export interface NewMessageEvent {
  ws: string;
  num: string;
  target: string;
  kind: "reaction" | "edit" | "revoke" | "group_status";
  actor: string;
  at: number;
  payload: string;
}

export interface ConsentChange {
  ws: string;
  k: string;
  v: string;
  in: 0 | 1;
  at: number;
  proof: string;
}

export interface NewWebhookEvent {
  ws: string;
  id: string;
  num: string | null;
  provider: string;
  kind: string;
  field: string | null;
  raw: string | null;
  r2: string | null;
  reason: string | null;
  at: number;
}

/** A number or id that changed: the old name goes, once the new one belongs to the same contact. */
export interface MovedIdentity {
  ws: string;
  old: { k: string; v: string }[];
  k: string;
  v: string;
  wa: string | null;
  user: string | null;
}

/** The owner of any of the row's keys; a batch that ran a moment earlier may have made it. */
const OWNER_OF_KEYS = `(SELECT i.contact_id FROM json_each(j.value -> 'keys') q CROSS JOIN contact_identities i
  WHERE i.workspace_id = j.value ->> 'ws' AND i.kind = q.value ->> 'k' AND i.value = q.value ->> 'v' ORDER BY i.contact_id LIMIT 1)`;
const KEY_OWNER = "i.workspace_id = j.value ->> 'ws' AND i.kind = j.value ->> 'k' AND i.value = j.value ->> 'v'";

export function insertContacts(rows: readonly NewContact[], now: number): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `INSERT INTO contacts (workspace_id, id, kind, phone_number, wa_id, user_id, username, name, tags, opted_in, source, created_at, updated_at)
       SELECT j.value ->> 'ws', j.value ->> 'id', j.value ->> 'kind', j.value ->> 'phone', j.value ->> 'wa', j.value ->> 'user',
         j.value ->> 'username', j.value ->> 'name', '[]', 0, 'message', ?2, ?2
       FROM json_each(?1) j WHERE ${OWNER_OF_KEYS} IS NULL`,
      json,
      now,
    ),
  );
}

export function insertNewIdentities(rows: readonly NewIdentity[]): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `INSERT INTO contact_identities (workspace_id, kind, value, contact_id)
       SELECT j.value ->> 'ws', j.value ->> 'k', j.value ->> 'v', COALESCE(${OWNER_OF_KEYS}, j.value ->> 'c')
       FROM json_each(?1) j WHERE true ON CONFLICT DO NOTHING`,
      json,
    ),
  );
}

/** Facts a known contact lacks, and a username that changed. Usually changes nothing. */
export function updateContactFacts(
  rows: readonly {
    ws: string;
    id: string;
    name: string | null;
    username: string | null;
    wa: string | null;
    user: string | null;
    phone: string | null;
  }[],
  now: number,
): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `UPDATE contacts AS c SET updated_at = ?2, name = COALESCE(c.name, j.value ->> 'name'), username = COALESCE(j.value ->> 'username', c.username),
         wa_id = COALESCE(c.wa_id, j.value ->> 'wa'), user_id = COALESCE(c.user_id, j.value ->> 'user'),
         phone_number = COALESCE(c.phone_number, j.value ->> 'phone')
       FROM json_each(?1) j WHERE c.workspace_id = j.value ->> 'ws' AND c.id = j.value ->> 'id'
         AND ((c.name IS NULL AND j.value ->> 'name' IS NOT NULL) OR (j.value ->> 'username' IS NOT NULL AND c.username IS NOT j.value ->> 'username')
           OR (c.wa_id IS NULL AND j.value ->> 'wa' IS NOT NULL) OR (c.user_id IS NULL AND j.value ->> 'user' IS NOT NULL)
           OR (c.phone_number IS NULL AND j.value ->> 'phone' IS NOT NULL))`,
      json,
      now,
    ),
  );
}

export function insertConversations(rows: readonly NewConversation[], now: number): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `INSERT INTO conversations (workspace_id, id, phone_number_id, contact_id, peer, last_message_at, unread_count, message_count, status, created_at, updated_at)
       SELECT j.value ->> 'ws', j.value ->> 'id', j.value ->> 'num', i.contact_id, j.value ->> 'peer', 0, 0, 0, 'open', ?2, ?2
       FROM json_each(?1) j CROSS JOIN contact_identities i WHERE ${KEY_OWNER}
       ON CONFLICT (workspace_id, contact_id, phone_number_id) DO NOTHING`,
      json,
      now,
    ),
  );
}

/** Stores each message once: `(phone_number_id, wa_message_id)` is the guard. */
export function insertMessages(rows: readonly NewMessage[]): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `INSERT INTO messages (workspace_id, id, phone_number_id, conversation_id, contact_id, direction, origin, type, content, status, wa_message_id,
         from_number, to_number, reply_to, lane, seq, not_before, attempts, failures, at, received_at, position, created_at)
       SELECT j.value ->> 'ws', j.value ->> 'id', j.value ->> 'num', COALESCE(v.merged_into, v.id), i.contact_id, j.value ->> 'direction',
         j.value ->> 'origin', j.value ->> 'type', j.value ->> 'content', j.value ->> 'status', j.value ->> 'wa', j.value ->> 'from',
         j.value ->> 'to', j.value ->> 'reply', 'chat', 0, 0, 0, 0, j.value ->> 'at', j.value ->> 'received', j.value ->> 'position', j.value ->> 'received'
       FROM json_each(?1) j CROSS JOIN contact_identities i CROSS JOIN conversations v
       WHERE ${KEY_OWNER} AND v.workspace_id = i.workspace_id AND v.contact_id = i.contact_id AND v.phone_number_id = j.value ->> 'num'
       ON CONFLICT DO NOTHING`,
      json,
    ),
  );
}

/**
 * Thread heads, unread counts and totals of the messages that this batch really stored: told by the ids it minted, so a
 * redelivery counts nothing twice (pipeline 11).
 */
export function countNewMessages(
  rows: readonly { ws: string; id: string; preview: string }[],
  now: number,
): Statement[] {
  return jsonChunks(rows.map(({ ws, id, preview }) => ({ ws, id, preview }))).flatMap((json) => [
    statement(
      `UPDATE conversations AS v SET updated_at = ?2, message_count = v.message_count + n.total, unread_count = v.unread_count + n.unread,
         last_inbound_at = CASE WHEN n.inbound_at IS NULL THEN v.last_inbound_at ELSE MAX(COALESCE(v.last_inbound_at, 0), n.inbound_at) END,
         last_message_id = CASE WHEN n.at >= v.last_message_at THEN substr(n.newest, 40, 36) ELSE v.last_message_id END,
         last_message_direction = CASE WHEN n.at < v.last_message_at THEN v.last_message_direction
           WHEN substr(n.newest, 76, 1) = 'i' THEN 'inbound' ELSE 'outbound' END,
         last_message_preview = CASE WHEN n.at >= v.last_message_at THEN substr(n.newest, 77) ELSE v.last_message_preview END,
         last_message_at = MAX(v.last_message_at, n.at)
       FROM (SELECT m.workspace_id AS ws, m.conversation_id AS c, count(*) AS total, sum(m.origin = 'live') AS unread,
           max(CASE WHEN m.origin = 'live' THEN m.at END) AS inbound_at, max(m.at) AS at,
           -- The newest message's sort key (39 digits), id (36), direction (1) and preview, as one value to take the greatest of.
           max(printf('%015d%015d%09d', m.at, m.received_at, m.position) || m.id || substr(m.direction, 1, 1) || (j.value ->> 'preview')) AS newest
         FROM json_each(?1) j CROSS JOIN messages m WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' GROUP BY 1, 2) n
       WHERE v.workspace_id = n.ws AND v.id = n.c`,
      json,
      now,
    ),
    statement(
      `INSERT INTO list_totals (workspace_id, list, n)
       SELECT m.workspace_id, 'messages', count(*) FROM json_each(?1) j CROSS JOIN messages m
       WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' GROUP BY 1
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + excluded.n`,
      json,
    ),
  ]);
}

/** Totals of contacts or conversations of which some may be new. */
export function countNew(list: "contacts" | "conversations", rows: readonly { ws: string; id: string }[]): Statement[] {
  return jsonChunks(rows.map(({ ws, id }) => ({ ws, id }))).map((json) =>
    statement(
      `INSERT INTO list_totals (workspace_id, list, n)
       SELECT t.workspace_id, '${list}', count(*) FROM json_each(?1) j CROSS JOIN ${list} t
       WHERE t.workspace_id = j.value ->> 'ws' AND t.id = j.value ->> 'id' GROUP BY 1
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + excluded.n`,
      json,
    ),
  );
}

/** Consent as the newest proof says (pipeline 13). */
export function updateConsents(rows: readonly ConsentChange[], now: number): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `UPDATE contacts AS c SET opted_in = j.value ->> 'in', opted_out_at = CASE WHEN j.value ->> 'in' = 1 THEN NULL ELSE j.value ->> 'at' END,
         consent_at = j.value ->> 'at', consent_proof = j.value ->> 'proof', updated_at = ?2
       FROM json_each(?1) j CROSS JOIN contact_identities i
       WHERE ${KEY_OWNER} AND c.workspace_id = i.workspace_id AND c.id = i.contact_id AND COALESCE(c.consent_at, -1) < j.value ->> 'at'`,
      json,
      now,
    ),
  );
}

/** The latest of each kind and actor stands; an older one changes nothing. */
export function upsertMessageEvents(rows: readonly NewMessageEvent[]): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `INSERT INTO message_events (phone_number_id, target, kind, actor, workspace_id, at, payload)
       SELECT j.value ->> 'num', j.value ->> 'target', j.value ->> 'kind', j.value ->> 'actor', j.value ->> 'ws', j.value ->> 'at', j.value ->> 'payload'
       FROM json_each(?1) j WHERE true
       ON CONFLICT (phone_number_id, target, kind, actor) DO UPDATE SET at = excluded.at, payload = excluded.payload
       WHERE excluded.at > message_events.at`,
      json,
    ),
  );
}

export function insertWebhookEvents(rows: readonly NewWebhookEvent[]): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `INSERT INTO webhook_events (workspace_id, id, phone_number_id, provider, kind, field, raw, r2_key, reason, received_at)
       SELECT j.value ->> 'ws', j.value ->> 'id', j.value ->> 'num', j.value ->> 'provider', j.value ->> 'kind', j.value ->> 'field',
         j.value ->> 'raw', j.value ->> 'r2', j.value ->> 'reason', j.value ->> 'at' FROM json_each(?1) j WHERE true ON CONFLICT DO NOTHING`,
      json,
    ),
  );
}

/** After the new name is stored: the contact shows it, and the old name is free for whoever gets that number next. */
export function moveIdentities(rows: readonly MovedIdentity[], now: number): Statement[] {
  return jsonChunks(rows).flatMap((json) => [
    statement(
      `UPDATE contacts AS c SET updated_at = ?2, wa_id = COALESCE(j.value ->> 'wa', c.wa_id), user_id = COALESCE(j.value ->> 'user', c.user_id),
         phone_number = CASE WHEN j.value ->> 'wa' IS NULL THEN c.phone_number ELSE '+' || (j.value ->> 'wa') END
       FROM json_each(?1) j CROSS JOIN contact_identities i WHERE ${KEY_OWNER} AND c.workspace_id = i.workspace_id AND c.id = i.contact_id`,
      json,
      now,
    ),
    statement(
      `DELETE FROM contact_identities WHERE (workspace_id, kind, value) IN (SELECT o.workspace_id, o.kind, o.value
         FROM json_each(?1) j CROSS JOIN contact_identities i CROSS JOIN json_each(j.value -> 'old') q CROSS JOIN contact_identities o
         WHERE ${KEY_OWNER} AND o.workspace_id = i.workspace_id AND o.kind = q.value ->> 'k' AND o.value = q.value ->> 'v' AND o.contact_id = i.contact_id)`,
      json,
    ),
  ]);
}

/** Where a workspace's people and settings stand before a batch: one round trip. */
export async function selectBefore(
  db: Db,
  keys: readonly (Key & { workspaceId: string })[],
  workspaceIds: readonly string[],
): Promise<{
  owners: { ws: string; key: string; contactId: string; createdAt: number }[];
  settings: Map<string, string>;
}> {
  const [owners, states] = await db.batch([
    statement(
      `SELECT i.workspace_id AS ws, i.kind || ' ' || i.value AS key, i.contact_id AS contact_id, c.created_at AS created_at
       FROM json_each(?1) j CROSS JOIN contact_identities i CROSS JOIN contacts c
       WHERE ${KEY_OWNER} AND c.workspace_id = i.workspace_id AND c.id = i.contact_id`,
      JSON.stringify(keys.map((key) => ({ ws: key.workspaceId, k: key.kind, v: key.value }))),
    ),
    statement(
      "SELECT w.workspace_id AS ws, w.settings AS settings FROM json_each(?1) j CROSS JOIN workspace_states w WHERE w.workspace_id = j.value",
      JSON.stringify(workspaceIds),
    ),
  ]);
  const ownerRow = z.object({ ws: z.string(), key: z.string(), contact_id: z.string(), created_at: z.number() });
  const stateRow = z.object({ ws: z.string(), settings: z.string() });
  return {
    owners: (owners?.results ?? []).map((raw) => {
      const row = ownerRow.parse(raw);
      return { ws: row.ws, key: row.key, contactId: row.contact_id, createdAt: row.created_at };
    }),
    settings: new Map(
      (states?.results ?? []).map((raw) => {
        const row = stateRow.parse(raw);
        return [row.ws, row.settings];
      }),
    ),
  };
}

/** DIRECTORY. Keeps what is signed but nobody's. */
export function insertUnrouted(
  rows: readonly { id: string; provider: string; number: string | null; raw: string; at: number }[],
): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `INSERT INTO unrouted_events (id, provider, provider_number_id, raw, received_at)
       SELECT j.value ->> 'id', j.value ->> 'provider', j.value ->> 'number', j.value ->> 'raw', j.value ->> 'at' FROM json_each(?1) j WHERE true
       ON CONFLICT DO NOTHING`,
      json,
    ),
  );
}

export type WebhookEvent = InferSelectModel<typeof webhookEvents>;
export type DeadLetter = InferSelectModel<typeof deadLetters>;

const recentCursor = z.tuple([z.number(), z.string()]);

/** Stored webhook events of a workspace, newest first, optionally of one kind. */
export async function pageWebhookEvents(
  db: Db,
  workspaceId: string,
  filter: { kind?: string },
  query: PageQuery,
): Promise<Page<WebhookEvent>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, recentCursor);
  const where = `e.workspace_id = ?1 AND (?2 IS NULL OR e.kind = ?2)`;
  const [rows, total] = await db.batch([
    statement(
      `SELECT ${columnsOf(webhookEvents, "e")} FROM webhook_events e WHERE ${where} AND (?3 IS NULL OR (e.received_at, e.id) < (?3, ?4))
       ORDER BY e.received_at DESC, e.id DESC LIMIT ${query.limit + 1} OFFSET ${after === null ? query.offset : 0}`,
      workspaceId,
      filter.kind ?? null,
      after?.[0] ?? null,
      after?.[1] ?? null,
    ),
    statement(
      `SELECT count(*) AS n FROM (SELECT 1 FROM webhook_events e WHERE ${where} LIMIT ${EXACT_TOTAL})`,
      workspaceId,
      filter.kind ?? null,
    ),
  ]);
  return recentPage(
    (rows?.results ?? []).map((row) => fromRow(webhookEvents, row)),
    z.number().parse(total?.results[0]?.n),
    query,
    (row) => [row.receivedAt, row.id],
  );
}

/** Dead letters of a workspace, newest first. Ids are UUIDv7. */
export async function pageDeadLetters(db: Db, workspaceId: string, query: PageQuery): Promise<Page<DeadLetter>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, z.tuple([z.string()]))[0];
  const [rows, total] = await db.batch([
    statement(
      `SELECT ${columnsOf(deadLetters, "d")} FROM dead_letters d WHERE d.workspace_id = ?1 AND (?2 IS NULL OR d.id < ?2)
       ORDER BY d.id DESC LIMIT ${query.limit + 1} OFFSET ${after === null ? query.offset : 0}`,
      workspaceId,
      after,
    ),
    statement(
      `SELECT count(*) AS n FROM (SELECT 1 FROM dead_letters d WHERE d.workspace_id = ?1 LIMIT ${EXACT_TOTAL})`,
      workspaceId,
    ),
  ]);
  return recentPage(
    (rows?.results ?? []).map((row) => fromRow(deadLetters, row)),
    z.number().parse(total?.results[0]?.n),
    query,
    (row) => [row.id],
  );
}

function recentPage<T>(rows: T[], total: number, query: PageQuery, keyOf: (row: T) => (string | number)[]): Page<T> {
  const last = rows[query.limit - 1];
  return {
    rows: rows.slice(0, query.limit),
    total,
    totalIsLowerBound: total >= EXACT_TOTAL,
    nextCursor: rows.length > query.limit && last ? encodeCursor(keyOf(last)) : null,
  };
}

export async function insertDeadLetter(db: Db, row: DeadLetter): Promise<void> {
  await db.run(
    `INSERT INTO dead_letters (workspace_id, id, queue, reason, r2_key, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING`,
    row.workspaceId,
    row.id,
    row.queue,
    row.reason,
    row.r2Key,
    row.createdAt,
  );
}

export async function selectDeadLetter(db: Db, workspaceIds: string[], id: string): Promise<DeadLetter | null> {
  const row = await db.first(
    `SELECT ${columnsOf(deadLetters, "d")} FROM dead_letters d WHERE (d.workspace_id, d.id) IN (SELECT j.value, ?2 FROM json_each(?1) j)`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && fromRow(deadLetters, row);
}

export async function updateReplayed(db: Db, workspaceId: string, id: string, now: number): Promise<void> {
  await db.run("UPDATE dead_letters SET replayed_at = ?3 WHERE workspace_id = ?1 AND id = ?2", workspaceId, id, now);
}
