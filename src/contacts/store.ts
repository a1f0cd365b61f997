import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { type Db, type Statement, statement } from "../platform/d1";
import type { contactIdentities, contacts } from "./tables";

export type Contact = InferSelectModel<typeof contacts>;
export type IdentityKind = InferSelectModel<typeof contactIdentities>["kind"];

/** Whatever a provider calls somebody, in one workspace. */
export interface Identity {
  workspaceId: string;
  kind: IdentityKind;
  value: string;
}

const ownerRow = z.object({
  ws: z.string(),
  kind: z.enum(["phone", "wa", "user", "parent", "group"]),
  value: z.string(),
  contact_id: z.string(),
});

/** Who owns which identity now. */
export async function selectOwners(
  db: Db,
  identities: readonly Identity[],
): Promise<(Identity & { contactId: string })[]> {
  if (identities.length === 0) return [];
  const rows = await db.all(
    `SELECT i.workspace_id AS ws, i.kind AS kind, i.value AS value, i.contact_id AS contact_id FROM json_each(?1) j CROSS JOIN contact_identities i
     WHERE i.workspace_id = j.value ->> 'ws' AND i.kind = j.value ->> 'k' AND i.value = j.value ->> 'v'`,
    JSON.stringify(identities.map((i) => ({ ws: i.workspaceId, k: i.kind, v: i.value }))),
  );
  return rows.map((raw) => {
    const row = ownerRow.parse(raw);
    return { workspaceId: row.ws, kind: row.kind, value: row.value, contactId: row.contact_id };
  });
}

/** Adds identities where nobody owns them yet; a known one costs no write. */
export function insertIdentities(rows: readonly (Identity & { contactId: string })[]): Statement {
  return statement(
    `INSERT INTO contact_identities (workspace_id, kind, value, contact_id)
     SELECT j.value ->> 'ws', j.value ->> 'k', j.value ->> 'v', j.value ->> 'c' FROM json_each(?1) j WHERE true ON CONFLICT DO NOTHING`,
    JSON.stringify(rows.map((i) => ({ ws: i.workspaceId, k: i.kind, v: i.value, c: i.contactId }))),
  );
}

/** How many messages one run of a merge moves: two rows written each. */
export const MERGE_CHUNK = 1000;

/**
 * Makes one contact of two (pipeline 10): identities move to the winner, the loser keeps where it went, its threads are
 * repointed, and where both had a thread with the same number its messages move, a chunk at a time. May run any number
 * of times; answers whether messages are left to move.
 */
export async function mergeContacts(
  db: Db,
  workspaceId: string,
  winnerId: string,
  loserId: string,
  now: number,
): Promise<{ left: boolean }> {
  const pairs = `SELECT l.id AS loser, w.id AS winner FROM conversations l JOIN conversations w
    ON w.workspace_id = l.workspace_id AND w.contact_id = ?2 AND w.phone_number_id = l.phone_number_id AND w.id <> l.id
    WHERE l.workspace_id = ?1 AND l.contact_id = ?3`;
  const results = await db.batch([
    // The totals of the lists shrink by what disappears now; a second run finds nothing left to take away.
    statement(
      `UPDATE list_totals SET n = n - (SELECT count(*) FROM contacts l WHERE l.workspace_id = ?1 AND l.id = ?2 AND l.merged_into IS NULL)
       WHERE workspace_id = ?1 AND list = 'contacts'`,
      workspaceId,
      loserId,
    ),
    statement(
      `UPDATE list_totals SET n = n - (SELECT count(*) FROM (${pairs}) p JOIN conversations g ON g.workspace_id = ?1 AND g.id = p.loser AND g.merged_into IS NULL)
       WHERE workspace_id = ?1 AND list = 'conversations'`,
      workspaceId,
      winnerId,
      loserId,
    ),
    // What the winner does not know yet it takes over; consent follows the newer proof.
    statement(
      `UPDATE contacts SET updated_at = ?4,
         phone_number = COALESCE(phone_number, (SELECT l.phone_number FROM contacts l WHERE l.workspace_id = ?1 AND l.id = ?3)),
         wa_id = COALESCE(wa_id, (SELECT l.wa_id FROM contacts l WHERE l.workspace_id = ?1 AND l.id = ?3)),
         user_id = COALESCE(user_id, (SELECT l.user_id FROM contacts l WHERE l.workspace_id = ?1 AND l.id = ?3)),
         username = COALESCE(username, (SELECT l.username FROM contacts l WHERE l.workspace_id = ?1 AND l.id = ?3)),
         name = COALESCE(name, (SELECT l.name FROM contacts l WHERE l.workspace_id = ?1 AND l.id = ?3)),
         tags = (SELECT json_group_array(DISTINCT t.value) FROM (SELECT value FROM json_each(contacts.tags)
           UNION SELECT e.value FROM contacts l, json_each(l.tags) e WHERE l.workspace_id = ?1 AND l.id = ?3) t)
       WHERE workspace_id = ?1 AND id = ?2 AND EXISTS (SELECT 1 FROM contacts l WHERE l.workspace_id = ?1 AND l.id = ?3 AND l.merged_into IS NULL)`,
      workspaceId,
      winnerId,
      loserId,
      now,
    ),
    statement(
      `UPDATE contacts AS c SET opted_in = l.opted_in, opted_out_at = l.opted_out_at, consent_at = l.consent_at, consent_proof = l.consent_proof
       FROM contacts l WHERE c.workspace_id = ?1 AND c.id = ?2 AND l.workspace_id = ?1 AND l.id = ?3 AND l.merged_into IS NULL
         AND l.consent_at IS NOT NULL AND l.consent_at > COALESCE(c.consent_at, -1)`,
      workspaceId,
      winnerId,
      loserId,
    ),
    statement(
      "UPDATE contact_identities SET contact_id = ?2 WHERE workspace_id = ?1 AND contact_id = ?3",
      workspaceId,
      winnerId,
      loserId,
    ),
    statement(
      "UPDATE contacts SET merged_into = ?2, deleted_at = COALESCE(deleted_at, ?4), updated_at = ?4 WHERE workspace_id = ?1 AND id = ?3 AND merged_into IS NULL",
      workspaceId,
      winnerId,
      loserId,
      now,
    ),
    // A chain of merges ends at its last winner.
    statement(
      "UPDATE contacts SET merged_into = ?2 WHERE workspace_id = ?1 AND merged_into = ?3 AND id <> ?2",
      workspaceId,
      winnerId,
      loserId,
    ),
    statement(
      `UPDATE messages AS m SET conversation_id = p.winner, contact_id = ?2 FROM (${pairs}) p
       WHERE m.workspace_id = ?1 AND m.id IN (SELECT x.id FROM messages x WHERE x.workspace_id = ?1 AND x.conversation_id = p.loser LIMIT ${MERGE_CHUNK})`,
      workspaceId,
      winnerId,
      loserId,
    ),
    statement(
      `UPDATE conversations AS v SET merged_into = p.winner, unread_count = 0, updated_at = ?4 FROM (${pairs}) p
       WHERE v.workspace_id = ?1 AND v.id = p.loser`,
      workspaceId,
      winnerId,
      loserId,
      now,
    ),
    statement(
      `UPDATE conversations AS v SET updated_at = ?4,
         message_count = (SELECT count(*) FROM messages m WHERE m.workspace_id = ?1 AND m.conversation_id = v.id),
         last_message_at = MAX(v.last_message_at, l.last_message_at), last_inbound_at = MAX(COALESCE(v.last_inbound_at, 0), COALESCE(l.last_inbound_at, 0)),
         last_message_id = CASE WHEN l.last_message_at > v.last_message_at THEN l.last_message_id ELSE v.last_message_id END,
         last_message_preview = CASE WHEN l.last_message_at > v.last_message_at THEN l.last_message_preview ELSE v.last_message_preview END,
         last_message_direction = CASE WHEN l.last_message_at > v.last_message_at THEN l.last_message_direction ELSE v.last_message_direction END
       FROM (${pairs}) p JOIN conversations l ON l.workspace_id = ?1 AND l.id = p.loser WHERE v.workspace_id = ?1 AND v.id = p.winner`,
      workspaceId,
      winnerId,
      loserId,
      now,
    ),
    // Threads only the loser had become the winner's as they are.
    statement(
      `UPDATE conversations SET contact_id = ?2, updated_at = ?4 WHERE workspace_id = ?1 AND contact_id = ?3 AND merged_into IS NULL`,
      workspaceId,
      winnerId,
      loserId,
      now,
    ),
    statement(
      `UPDATE messages SET contact_id = ?2 WHERE workspace_id = ?1 AND contact_id = ?3 AND conversation_id IN
         (SELECT v.id FROM conversations v WHERE v.workspace_id = ?1 AND v.contact_id = ?2)`,
      workspaceId,
      winnerId,
      loserId,
    ),
    statement(
      `SELECT EXISTS (SELECT 1 FROM (${pairs}) p JOIN messages m ON m.workspace_id = ?1 AND m.conversation_id = p.loser) AS left_over`,
      workspaceId,
      winnerId,
      loserId,
    ),
  ]);
  return { left: results.at(-1)?.results[0]?.left_over === 1 };
}
