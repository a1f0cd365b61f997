/** SQL of erasing what was said: messages, what refers to them, and what campaigns froze of the person. */
import { z } from "zod";
import { type Db, jsonChunks, type Param, type Statement, statement } from "../platform/d1";
import { ERASED_ERROR, type Erasure } from "./store-erase";

/** What is left of a message's content. */
const ERASED = JSON.stringify({ erased: true });
/** Rows of one step. */
export const PAGE = 200;

const spokenRow = z.object({
  id: z.string(),
  num: z.string(),
  wa: z.string().nullable(),
  type: z.string(),
  content: z.string(),
  status: z.string(),
  leased: z.number(),
  at: z.number(),
  received_at: z.number(),
  position: z.number(),
});

/** A message as erasing needs it. */
export interface Spoken {
  workspaceId: string;
  id: string;
  phoneNumberId: string;
  waMessageId: string | null;
  type: string;
  content: Record<string, unknown>;
  erased: boolean;
  /** Somebody is sending it. */
  leased: boolean;
  place: (string | number)[];
}

/** A page of a thread, oldest first. `after` is the place of the last one seen. */
export async function pageThread(
  db: Db,
  workspaceId: string,
  threadId: string,
  after: readonly (string | number)[],
): Promise<Spoken[]> {
  const rows = await db.all(
    `SELECT m.id AS id, m.phone_number_id AS num, m.wa_message_id AS wa, m.type AS type, m.content AS content, m.status AS status,
       m.status = 'sending' AND m.ambiguous_at IS NULL AS leased, m.at AS at, m.received_at AS received_at, m.position AS position
     FROM messages m INDEXED BY messages_thread WHERE m.workspace_id = ?1 AND m.conversation_id = ?2
       ${after.length === 0 ? "" : "AND (m.at, m.received_at, m.position, m.id) > (?3, ?4, ?5, ?6)"}
     ORDER BY m.at, m.received_at, m.position, m.id LIMIT ${PAGE}`,
    workspaceId,
    threadId,
    ...after,
  );
  return rows.map((raw) => {
    const row = spokenRow.parse(raw);
    return {
      workspaceId,
      id: row.id,
      phoneNumberId: row.num,
      waMessageId: row.wa,
      type: row.type,
      content: z.record(z.string(), z.unknown()).parse(JSON.parse(row.content)),
      erased: row.content === ERASED,
      leased: row.leased === 1,
      place: [row.at, row.received_at, row.position, row.id],
    };
  });
}

/**
 * Empties messages. The rows stay, as what was sent and what it cost: without words, addresses and the provider's id,
 * which has the number in it. An id of our own stands in its place, so that a late status finds the message and
 * nothing brings the other back. What waited is not sent; what is being sent expires where it is not under way yet.
 */
export function emptyMessages(erasure: Erasure, messages: readonly Spoken[], now: number): Statement[] {
  const gone = messages.filter((message) => !message.erased && !message.leased);
  const leased = messages.filter((message) => message.leased);
  const keys = (list: readonly Spoken[]) =>
    jsonChunks(list.map((m) => ({ ws: erasure.workspaceId, id: m.id, num: m.phoneNumberId, wa: m.waMessageId ?? "" })));
  return [
    ...keys(gone).flatMap((json) => [
      statement(
        `DELETE FROM message_events WHERE (phone_number_id, target, kind, actor) IN (SELECT e.phone_number_id, e.target, e.kind, e.actor
           FROM json_each(?1) j CROSS JOIN message_events e WHERE e.phone_number_id = j.value ->> 'num' AND e.target = j.value ->> 'wa')`,
        json,
      ),
      statement(
        `UPDATE conversations AS v SET last_message_preview = NULL FROM (SELECT m.workspace_id AS ws, m.conversation_id AS c, m.id AS id
           FROM json_each(?1) j CROSS JOIN messages m WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id') x
         WHERE v.workspace_id = x.ws AND v.id = x.c AND v.last_message_id = x.id`,
        json,
      ),
      statement(
        `UPDATE messages AS m SET content = ?2, to_number = NULL, to_user = NULL, from_number = CASE m.direction WHEN 'outbound' THEN m.from_number END,
           reply_to = NULL, wa_message_id = 'erased:' || m.id, ambiguous_at = NULL,
           failed_at = CASE WHEN m.status IN ('queued', 'scheduled', 'sending') THEN ?3 ELSE m.failed_at END,
           error = CASE WHEN m.status IN ('queued', 'scheduled', 'sending') THEN ?4 ELSE json_set(m.error, '$.details', NULL) END, open = NULL,
           status = CASE WHEN m.status IN ('queued', 'scheduled', 'sending') THEN 'failed' ELSE m.status END
         FROM json_each(?1) j WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id' AND (m.status <> 'sending' OR m.ambiguous_at IS NOT NULL)`,
        json,
        ERASED,
        now,
        ERASED_ERROR,
      ),
    ]),
    ...keys(leased).map((json) =>
      statement(
        `UPDATE messages AS m SET expires_at = MIN(COALESCE(m.expires_at, ?2), ?2) FROM json_each(?1) j
         WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id'`,
        json,
        now,
      ),
    ),
  ];
}

/** The next thread of a group after `after`, in the order of ids; null when there is none. */
export async function nextGroupThread(db: Db, workspaceId: string, after: string): Promise<string | null> {
  const row = await db.first(
    `SELECT v.id AS id FROM contact_identities i CROSS JOIN conversations v INDEXED BY conversations_pair
     WHERE i.workspace_id = ?1 AND i.kind = 'group' AND v.workspace_id = ?1 AND v.contact_id = i.contact_id AND v.merged_into IS NULL AND v.id > ?2
     ORDER BY v.id LIMIT 1`,
    workspaceId,
    after,
  );
  return row && z.object({ id: z.string() }).parse(row).id;
}

/** Names and fields that campaigns froze of the person. */
export function emptyRecipients(erasure: Erasure): Statement {
  return statement(
    `UPDATE campaign_recipients SET fields = NULL WHERE (workspace_id, campaign_id, contact_id) IN (
       SELECT r.workspace_id, r.campaign_id, r.contact_id FROM campaigns c CROSS JOIN json_each(?2) k CROSS JOIN campaign_recipients r
       WHERE c.workspace_id = ?1 AND r.workspace_id = ?1 AND r.campaign_id = c.id AND r.contact_id = k.value AND r.fields IS NOT NULL)`,
    erasure.workspaceId,
    JSON.stringify(erasure.contacts),
  );
}

const referenceRow = z.object({ target: z.string(), kind: z.string(), actor: z.string(), payload: z.string() });

/** A reaction, edit, revoke or status, with its key. */
export type Reference = z.infer<typeof referenceRow> & { phoneNumberId: string };

/** Many more rows than of messages: they are small. */
export const REFERENCE_PAGE = 1000;

/** A page of what refers to messages of one number. */
export async function pageReferences(
  db: Db,
  workspaceId: string,
  phoneNumberId: string,
  after: readonly Param[],
): Promise<Reference[]> {
  const rows = await db.all(
    `SELECT target, kind, actor, payload FROM message_events WHERE phone_number_id = ?1 AND workspace_id = ?2
       ${after.length === 0 ? "" : "AND (target, kind, actor) > (?3, ?4, ?5)"} ORDER BY target, kind, actor LIMIT ${REFERENCE_PAGE}`,
    phoneNumberId,
    workspaceId,
    ...after,
  );
  return rows.map((raw) => ({ ...referenceRow.parse(raw), phoneNumberId }));
}

export function deleteReferences(references: readonly Reference[]): Statement[] {
  const rows = references.map(({ phoneNumberId, target, kind, actor }) => ({ n: phoneNumberId, t: target, k: kind, a: actor }));
  return jsonChunks(rows).map((json) =>
    statement(
      `DELETE FROM message_events WHERE (phone_number_id, target, kind, actor) IN
         (SELECT j.value ->> 'n', j.value ->> 't', j.value ->> 'k', j.value ->> 'a' FROM json_each(?1) j)`,
      json,
    ),
  );
}

const numberRow = z.object({ id: z.string(), provider_number_id: z.string() });

/** Every number the workspace has or had. */
export async function selectNumbers(db: Db, workspaceId: string): Promise<{ id: string; providerNumberId: string }[]> {
  const rows = await db.all(
    "SELECT id, provider_number_id FROM phone_numbers WHERE workspace_id = ?1 ORDER BY id",
    workspaceId,
  );
  return rows.map((raw) => numberRow.parse(raw)).map((row) => ({ id: row.id, providerNumberId: row.provider_number_id }));
}
