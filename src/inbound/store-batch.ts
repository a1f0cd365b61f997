/** SQL of receiving: everything of a batch in one transaction, so that a redelivery finds all of it or nothing (pipeline 9). */
import { messages } from "../messages/tables";
import { columnsOf, jsonChunks, type Statement, statement } from "../platform/d1";
import { KEY_OWNER } from "./store-people";

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
  /** JSON. What has a message id of its own names it as `wa_message_id`, and alone in `seen`. */
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
       ON CONFLICT (phone_number_id, wa_message_id) WHERE wa_message_id IS NOT NULL DO NOTHING`,
      json,
    ),
  );
}

/**
 * Thread heads, unread counts and totals of the messages that this batch really stored: told by the ids it minted, so a
 * redelivery counts nothing twice (pipeline 11). Oldest first: of two chunks about one thread the later one is newer.
 */
export function countNewMessages(rows: readonly NewMessage[], now: number): Statement[] {
  const inOrder = [...rows].sort((a, b) => a.at - b.at || a.received - b.received || a.position - b.position);
  return jsonChunks(inOrder.map(({ ws, id, preview }) => ({ ws, id, preview }))).flatMap((json) => [
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

/**
 * Who was deleted and writes again is back in the list, as they were. Told by the messages that this batch really
 * stored: a redelivery of an old one brings nobody back.
 */
export function reviveSenders(rows: readonly NewMessage[], now: number): Statement[] {
  const live = rows.filter((row) => row.origin === "live");
  return jsonChunks(live.map(({ ws, id }) => ({ ws, id }))).flatMap((json) => {
    const deleted = `SELECT DISTINCT c.workspace_id AS ws, c.id AS id FROM json_each(?1) j CROSS JOIN messages m CROSS JOIN contacts c
      WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' AND c.workspace_id = m.workspace_id AND c.id = m.contact_id
        AND c.deleted_at IS NOT NULL AND c.merged_into IS NULL`;
    return [
      statement(
        `INSERT INTO list_totals (workspace_id, list, n) SELECT d.ws, 'contacts', count(*) FROM (${deleted}) d WHERE true GROUP BY 1
         ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + excluded.n`,
        json,
      ),
      statement(
        `WITH d AS MATERIALIZED (${deleted}) UPDATE contacts AS c SET deleted_at = NULL, updated_at = ?2 FROM d WHERE c.workspace_id = d.ws AND c.id = d.id`,
        json,
        now,
      ),
    ];
  });
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

/** ms: a provider names the second something was said in, while our own writes know the millisecond. */
const WITHIN = 999;

/**
 * Consent as the newest proof says (pipeline 13); of two of the same second, that of leaving. One row per person: of
 * several that fit one contact, UPDATE … FROM takes any.
 */
export function updateConsents(rows: readonly ConsentChange[], now: number): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      // Materialized: the table to update may stand first otherwise, and a whole workspace be read.
      `WITH o AS MATERIALIZED (SELECT i.workspace_id AS ws, i.contact_id AS id, j.value AS j FROM json_each(?1) j
         CROSS JOIN contact_identities i WHERE ${KEY_OWNER})
       UPDATE contacts AS c SET opted_in = o.j ->> 'in', opted_out_at = CASE WHEN o.j ->> 'in' = 1 THEN NULL ELSE o.j ->> 'at' END,
         consent_at = MAX(o.j ->> 'at', COALESCE(c.consent_at, 0)), consent_proof = o.j ->> 'proof', updated_at = ?2
       FROM o WHERE c.workspace_id = o.ws AND c.id = o.id AND (COALESCE(c.consent_at, -1) < o.j ->> 'at'
         OR (c.consent_at <= (o.j ->> 'at') + ${WITHIN} AND o.j ->> 'in' = 0 AND c.opted_in = 1))`,
      json,
      now,
    ),
  );
}

/**
 * The latest of each kind and actor stands; an older one changes nothing. Provider time is whole seconds: of one
 * second the one that comes first for the first time last stands, however often each is repeated.
 */
export function upsertMessageEvents(rows: readonly NewMessageEvent[]): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `INSERT INTO message_events (phone_number_id, target, kind, actor, workspace_id, at, payload)
       SELECT j.value ->> 'num', j.value ->> 'target', j.value ->> 'kind', j.value ->> 'actor', j.value ->> 'ws', j.value ->> 'at', j.value ->> 'payload'
       FROM json_each(?1) j WHERE true
       ON CONFLICT (phone_number_id, target, kind, actor) DO UPDATE SET at = excluded.at,
         payload = CASE WHEN excluded.at > message_events.at THEN excluded.payload
           ELSE json_set(excluded.payload, '$.seen', json_insert(message_events.payload -> '$.seen', '$[#]', excluded.payload ->> 'wa_message_id')) END
       WHERE excluded.at > message_events.at OR (excluded.at = message_events.at AND excluded.payload ->> 'wa_message_id' IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM json_each(message_events.payload, '$.seen') s WHERE s.value = excluded.payload ->> 'wa_message_id'))`,
      json,
    ),
  );
}

/** Events by what they say: the same one is one row. The total counts what is not there yet, so it comes first. */
export function insertWebhookEvents(rows: readonly NewWebhookEvent[]): Statement[] {
  const distinct = [...new Map(rows.map((row) => [`${row.ws} ${row.id}`, row])).values()];
  return jsonChunks(distinct).flatMap((json) => [
    statement(
      `INSERT INTO list_totals (workspace_id, list, n)
       SELECT j.value ->> 'ws', 'webhook_events', count(*) FROM json_each(?1) j
       WHERE NOT EXISTS (SELECT 1 FROM webhook_events e WHERE e.workspace_id = j.value ->> 'ws' AND e.id = j.value ->> 'id') GROUP BY 1
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + excluded.n`,
      json,
    ),
    statement(
      `INSERT INTO webhook_events (workspace_id, id, phone_number_id, provider, kind, field, raw, r2_key, reason, received_at)
       SELECT j.value ->> 'ws', j.value ->> 'id', j.value ->> 'num', j.value ->> 'provider', j.value ->> 'kind', j.value ->> 'field',
         j.value ->> 'raw', j.value ->> 'r2', j.value ->> 'reason', j.value ->> 'at' FROM json_each(?1) j
       WHERE true ON CONFLICT (workspace_id, id) DO NOTHING`,
      json,
    ),
  ]);
}

/** The batch's messages as they are now, whichever run stored them. */
export function selectStored(rows: readonly NewMessage[]): Statement[] {
  return jsonChunks(rows.map(({ ws, num, wa }) => ({ ws, num, wa }))).map((json) =>
    statement(
      `SELECT ${columnsOf(messages, "m")} FROM json_each(?1) j CROSS JOIN messages m
       WHERE m.phone_number_id = j.value ->> 'num' AND m.wa_message_id = j.value ->> 'wa' AND m.workspace_id = j.value ->> 'ws'`,
      json,
    ),
  );
}

/** Threads of the messages that reactions, edits and revokes are about. */
export function selectTargets(rows: readonly NewMessageEvent[]): Statement[] {
  return jsonChunks(rows.map(({ ws, num, target }) => ({ ws, num, wa: target }))).map((json) =>
    statement(
      `SELECT m.phone_number_id AS num, m.wa_message_id AS wa, m.conversation_id AS conversation_id FROM json_each(?1) j CROSS JOIN messages m
       WHERE m.phone_number_id = j.value ->> 'num' AND m.wa_message_id = j.value ->> 'wa' AND m.workspace_id = j.value ->> 'ws'`,
      json,
    ),
  );
}

/** DIRECTORY. Keeps what is signed but nobody's. */
export function insertUnrouted(
  rows: readonly {
    id: string;
    provider: string;
    number: string | null;
    raw: string | null;
    r2: string | null;
    at: number;
  }[],
): Statement[] {
  return jsonChunks(rows).map((json) =>
    statement(
      `INSERT INTO unrouted_events (id, provider, provider_number_id, raw, r2_key, received_at)
       SELECT j.value ->> 'id', j.value ->> 'provider', j.value ->> 'number', j.value ->> 'raw', j.value ->> 'r2', j.value ->> 'at'
       FROM json_each(?1) j WHERE true ON CONFLICT (id) DO NOTHING`,
      json,
    ),
  );
}
