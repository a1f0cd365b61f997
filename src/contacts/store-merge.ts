/** SQL that makes one contact of two. Every statement may run any number of times, and beside other merges. */
import { z } from "zod";
import { type Db, statement } from "../platform/d1";

/** Who these contacts are now: merged ones are another. Those that do not exist are left out. */
export async function selectLive(db: Db, workspaceId: string, ids: readonly string[]): Promise<Map<string, string>> {
  const rows = await db.all(
    `SELECT c.id AS id, COALESCE(c.merged_into, c.id) AS live FROM json_each(?1) j CROSS JOIN contacts c
     WHERE c.workspace_id = j.value ->> 'ws' AND c.id = j.value ->> 'id'`,
    JSON.stringify(ids.map((id) => ({ ws: workspaceId, id }))),
  );
  const liveRow = z.object({ id: z.string(), live: z.string() });
  return new Map(rows.map((raw) => liveRow.parse(raw)).map(({ id, live }) => [id, live]));
}

/** Another merge may have been faster: nothing goes to a contact that is gone, and nobody is taken from a third. */
const STANDS = `EXISTS (SELECT 1 FROM contacts a WHERE a.workspace_id = ?1 AND a.id = ?2 AND a.merged_into IS NULL)
  AND EXISTS (SELECT 1 FROM contacts b WHERE b.workspace_id = ?1 AND b.id = ?3 AND (b.merged_into IS NULL OR b.merged_into = ?2))`;

/** Threads that both contacts have with the same number of ours. Materialized: an UPDATE's own table may stand first. */
const PAIRS = `SELECT w.id AS winner, l.id AS loser, l.message_count, l.unread_count, l.last_inbound_at, l.last_message_at, l.last_message_id,
    l.last_message_preview, l.last_message_direction, l.created_at
  FROM conversations l INDEXED BY conversations_pair CROSS JOIN conversations w INDEXED BY conversations_pair
  WHERE l.workspace_id = ?1 AND l.contact_id = ?3 AND l.merged_into IS NULL
    AND w.workspace_id = ?1 AND w.contact_id = ?2 AND w.phone_number_id = l.phone_number_id AND ${STANDS}`;
const WITH_PAIRS = `WITH p AS MATERIALIZED (${PAIRS})`;
const LOSER = "SELECT 1 FROM contacts l WHERE l.workspace_id = ?1 AND l.id = ?3 AND l.merged_into IS NULL";
const ofLoser = (column: string) => `(SELECT l.${column} FROM contacts l WHERE l.workspace_id = ?1 AND l.id = ?3)`;

export interface Merged {
  /** False when another merge took one of the two meanwhile: ask again who they are. */
  done: boolean;
  /** Threads that became one. */
  threads: { winner: string; loser: string }[];
}

/**
 * Makes one contact of two (pipeline 10), in one transaction: identities move to the winner, the loser keeps where it
 * went, its threads are repointed, and where both had a thread with the same number the winner's takes over counts
 * and head. The messages themselves follow with `moveMessages`.
 */
export async function mergeContacts(
  db: Db,
  workspaceId: string,
  winnerId: string,
  loserId: string,
  now: number,
): Promise<Merged> {
  const pair = [workspaceId, winnerId, loserId] as const;
  const results = await db.batch([
    statement(PAIRS, ...pair),
    // The totals of the lists shrink by what disappears now; a second run finds nothing left to take away.
    statement(
      `UPDATE list_totals SET n = n - (SELECT count(*) FROM contacts l CROSS JOIN contacts w WHERE l.workspace_id = ?1 AND l.id = ?3
         AND l.merged_into IS NULL AND l.deleted_at IS NULL AND w.workspace_id = ?1 AND w.id = ?2 AND w.deleted_at IS NULL AND ${STANDS})
       WHERE workspace_id = ?1 AND list = 'contacts'`,
      ...pair,
    ),
    statement(
      `UPDATE list_totals SET n = n - (SELECT count(*) FROM (${PAIRS})) WHERE workspace_id = ?1 AND list = 'conversations'`,
      ...pair,
    ),
    // Consent follows the newer proof; where nobody ever said, whoever was opted in stays it.
    statement(
      `UPDATE contacts SET
         opted_in = CASE WHEN ${ofLoser("consent_at")} IS NULL AND consent_at IS NULL THEN MAX(opted_in, ${ofLoser("opted_in")})
           WHEN ${ofLoser("consent_at")} > COALESCE(consent_at, -1) THEN ${ofLoser("opted_in")} ELSE opted_in END,
         opted_out_at = CASE WHEN ${ofLoser("consent_at")} > COALESCE(consent_at, -1) THEN ${ofLoser("opted_out_at")} ELSE opted_out_at END,
         consent_proof = CASE WHEN ${ofLoser("consent_at")} > COALESCE(consent_at, -1) THEN ${ofLoser("consent_proof")} ELSE consent_proof END,
         consent_at = CASE WHEN ${ofLoser("consent_at")} > COALESCE(consent_at, -1) THEN ${ofLoser("consent_at")} ELSE consent_at END
       WHERE workspace_id = ?1 AND id = ?2 AND EXISTS (${LOSER}) AND ${STANDS}`,
      ...pair,
    ),
    // What the winner does not know yet it takes over. One of the two being alive, the person is.
    statement(
      `UPDATE contacts SET updated_at = ?4, phone_number = COALESCE(phone_number, ${ofLoser("phone_number")}),
         wa_id = COALESCE(wa_id, ${ofLoser("wa_id")}), user_id = COALESCE(user_id, ${ofLoser("user_id")}),
         username = COALESCE(username, ${ofLoser("username")}), name = COALESCE(name, ${ofLoser("name")}),
         marketing_blocked_until = NULLIF(MAX(COALESCE(marketing_blocked_until, 0), COALESCE(${ofLoser("marketing_blocked_until")}, 0)), 0),
         deleted_at = CASE WHEN ${ofLoser("deleted_at")} IS NULL THEN NULL ELSE deleted_at END,
         tags = (SELECT json_group_array(t.value) FROM (SELECT value FROM json_each(contacts.tags)
           UNION SELECT e.value FROM json_each(${ofLoser("tags")}) e) t)
       WHERE workspace_id = ?1 AND id = ?2 AND EXISTS (${LOSER}) AND ${STANDS}`,
      ...pair,
      now,
    ),
    statement(
      `${WITH_PAIRS} UPDATE conversations AS v SET updated_at = ?4, created_at = MIN(v.created_at, p.created_at),
         message_count = v.message_count + p.message_count, unread_count = v.unread_count + p.unread_count,
         last_inbound_at = NULLIF(MAX(COALESCE(v.last_inbound_at, 0), COALESCE(p.last_inbound_at, 0)), 0),
         last_message_id = CASE WHEN p.last_message_at > v.last_message_at THEN p.last_message_id ELSE v.last_message_id END,
         last_message_preview = CASE WHEN p.last_message_at > v.last_message_at THEN p.last_message_preview ELSE v.last_message_preview END,
         last_message_direction = CASE WHEN p.last_message_at > v.last_message_at THEN p.last_message_direction ELSE v.last_message_direction END,
         last_message_at = MAX(v.last_message_at, p.last_message_at)
       FROM p WHERE v.workspace_id = ?1 AND v.id = p.winner`,
      ...pair,
      now,
    ),
    // Threads merged into one that is merged now point on: every merged thread is one step from its messages.
    statement(
      `${WITH_PAIRS} UPDATE conversations AS v SET merged_into = p.winner FROM p WHERE v.workspace_id = ?1 AND v.merged_into = p.loser`,
      ...pair,
    ),
    statement(
      `${WITH_PAIRS} UPDATE conversations AS v SET merged_into = p.winner, unread_count = 0, message_count = 0, last_message_at = -1, updated_at = ?4
       FROM p WHERE v.workspace_id = ?1 AND v.id = p.loser`,
      ...pair,
      now,
    ),
    // Threads only the loser had become the winner's as they are.
    statement(
      `UPDATE conversations INDEXED BY conversations_pair SET contact_id = ?2, updated_at = ?4
       WHERE workspace_id = ?1 AND contact_id = ?3 AND merged_into IS NULL AND ${STANDS}`,
      ...pair,
      now,
    ),
    statement(
      `UPDATE contact_identities INDEXED BY contact_identities_contact SET contact_id = ?2 WHERE workspace_id = ?1 AND contact_id = ?3 AND ${STANDS}`,
      ...pair,
    ),
    statement(
      `UPDATE contacts INDEXED BY contacts_merged SET merged_into = ?2 WHERE workspace_id = ?1 AND merged_into = ?3 AND ${STANDS}`,
      ...pair,
    ),
    statement(
      `UPDATE contacts SET merged_into = ?2, deleted_at = COALESCE(deleted_at, ?4), updated_at = ?4
       WHERE workspace_id = ?1 AND id = ?3 AND merged_into IS NULL AND ${STANDS}`,
      ...pair,
      now,
    ),
    statement("SELECT merged_into IS ?2 AS done FROM contacts WHERE workspace_id = ?1 AND id = ?3", ...pair),
  ]);
  const pairRow = z.object({ winner: z.string(), loser: z.string() });
  return {
    done: results.at(-1)?.results[0]?.done === 1,
    threads: (results[0]?.results ?? []).map((row) => pairRow.parse(row)),
  };
}

/** Messages moved per statement: up to three rows written each. */
const CHUNK = 1000;

/** Moves the messages of merged threads to where they belong, a chunk; answers whether some are left. */
export async function moveMessages(db: Db, workspaceId: string, winnerId: string, loserId: string): Promise<boolean> {
  const pair = [workspaceId, winnerId, loserId] as const;
  const results = await db.batch([
    statement(
      `WITH x AS MATERIALIZED (SELECT m.id AS id, v.merged_into AS thread FROM conversations v INDEXED BY conversations_pair
         CROSS JOIN messages m INDEXED BY messages_thread
         WHERE v.workspace_id = ?1 AND v.contact_id = ?3 AND v.merged_into IS NOT NULL
           AND m.workspace_id = ?1 AND m.conversation_id = v.id LIMIT ${CHUNK})
       UPDATE messages AS m SET conversation_id = x.thread, contact_id = ?2 FROM x WHERE m.workspace_id = ?1 AND m.id = x.id`,
      ...pair,
    ),
    statement(
      `WITH x AS MATERIALIZED (SELECT m.id AS id FROM conversations v INDEXED BY conversations_pair
         CROSS JOIN messages m INDEXED BY messages_thread
         WHERE v.workspace_id = ?1 AND v.contact_id = ?2 AND m.workspace_id = ?1 AND m.conversation_id = v.id
           AND m.contact_id = ?3 LIMIT ${CHUNK})
       UPDATE messages AS m SET contact_id = ?2 FROM x WHERE m.workspace_id = ?1 AND m.id = x.id`,
      ...pair,
    ),
  ]);
  return results.some((result) => result.meta.changes >= CHUNK);
}
