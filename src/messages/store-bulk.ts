/** SQL that makes many messages at once, of a transaction that its caller owns. */
import { jsonChunks, type Statement, statement } from "../platform/d1";
import type { Message } from "./store";

/** A message about to be made, and what names its thread should it have none yet. */
export interface BulkRow {
  message: Pick<
    Message,
    "workspaceId" | "id" | "phoneNumberId" | "contactId" | "type" | "content" | "toNumber" | "toUser" | "fromNumber" | "category" | "expiresAt"
  >;
  preview: string;
  conversation: { id: string; peer: string };
}

const THREAD = `v.workspace_id = j.value ->> 'ws' AND v.contact_id = j.value ->> 'who' AND v.phone_number_id = j.value ->> 'num'`;

/**
 * Threads as far as they are missing, messages in the lane `bulk`, heads of threads and the totals of lists: 6 rows
 * written per message to a known person, as an accepted one costs, and totals once. `mine` is SQL over a row's `ws` and
 * `id` (as `j.value`): whether the transaction may make it. Ids are minted for one transaction, so that what exists
 * under them was made by it.
 */
export function insertBulk(rows: readonly BulkRow[], now: number, mine: string): Statement[] {
  const keys = jsonChunks(
    rows.map(({ message: m, preview, conversation }) => ({
      ws: m.workspaceId,
      id: m.id,
      num: m.phoneNumberId,
      who: m.contactId,
      thread: conversation.id,
      peer: conversation.peer,
      preview,
    })),
  );
  const whole = jsonChunks(
    rows.map(({ message: m }) => ({
      ws: m.workspaceId,
      id: m.id,
      num: m.phoneNumberId,
      who: m.contactId,
      type: m.type,
      content: JSON.stringify(m.content),
      to: m.toNumber,
      user: m.toUser,
      from: m.fromNumber,
      category: m.category,
      expires: m.expiresAt,
    })),
  );
  return [
    ...keys.map((json) =>
      statement(
        `INSERT INTO conversations (workspace_id, id, phone_number_id, contact_id, peer, last_message_at, unread_count, message_count, status, created_at, updated_at)
         SELECT j.value ->> 'ws', j.value ->> 'thread', j.value ->> 'num', j.value ->> 'who', j.value ->> 'peer', ?2, 0, 0, 'open', ?2, ?2
         FROM json_each(?1) j WHERE ${mine} ON CONFLICT (workspace_id, contact_id, phone_number_id) DO NOTHING`,
        json,
        now,
      ),
    ),
    ...whole.map((json) =>
      statement(
        `INSERT INTO messages (workspace_id, id, phone_number_id, conversation_id, contact_id, direction, origin, type, content, status, to_number,
           to_user, from_number, category, lane, open, seq, not_before, expires_at, attempts, failures, at, received_at, position, created_at)
         SELECT v.workspace_id, j.value ->> 'id', v.phone_number_id, COALESCE(v.merged_into, v.id), v.contact_id, 'outbound', 'api', j.value ->> 'type',
           j.value ->> 'content', 'queued', j.value ->> 'to', j.value ->> 'user', j.value ->> 'from', j.value ->> 'category', 'bulk', 1, ?2, ?2,
           j.value ->> 'expires', 0, 0, ?2, ?2, 0, ?2
         FROM json_each(?1) j CROSS JOIN conversations v INDEXED BY conversations_pair WHERE ${THREAD} AND ${mine}`,
        json,
        now,
      ),
    ),
    ...keys.flatMap((json) => [
      statement(
        `UPDATE conversations AS v SET message_count = v.message_count + 1, updated_at = ?2, last_message_id = j.value ->> 'id',
           last_message_direction = 'outbound', last_message_preview = j.value ->> 'preview', last_message_at = MAX(v.last_message_at, ?2)
         FROM json_each(?1) j CROSS JOIN messages m WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id'
           AND v.workspace_id = m.workspace_id AND v.id = m.conversation_id`,
        json,
        now,
      ),
      grown("messages", "messages", "id", json),
      grown("conversations", "conversations", "thread", json),
    ]),
  ];
}

function grown(list: string, table: string, key: string, json: string): Statement {
  return statement(
    `INSERT INTO list_totals (workspace_id, list, n)
     SELECT t.workspace_id, '${list}', count(*) FROM json_each(?1) j CROSS JOIN ${table} t
     WHERE t.workspace_id = j.value ->> 'ws' AND t.id = j.value ->> '${key}' GROUP BY t.workspace_id HAVING count(*) > 0
     ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + excluded.n`,
    json,
  );
}

/** Those of the rows that were made. */
export function selectMade(rows: readonly BulkRow[]): Statement {
  return statement(
    `SELECT m.workspace_id AS ws, m.id AS id, m.phone_number_id AS number FROM json_each(?1) j CROSS JOIN messages m
     WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id'`,
    JSON.stringify(rows.map(({ message: { workspaceId, id } }) => ({ ws: workspaceId, id }))),
  );
}
