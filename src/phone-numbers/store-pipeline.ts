import { columnsOf, type Db, fromRow, type Statement, statement } from "../platform/d1";
import type { PhoneNumber } from "./store";
import { phoneNumbers } from "./tables";

/** Numbers by id, deleted ones left out. */
export async function selectNumbersById(
  db: Db,
  keys: readonly { workspaceId: string; id: string }[],
): Promise<PhoneNumber[]> {
  const rows = await db.all(
    `SELECT ${columnsOf(phoneNumbers, "p")} FROM json_each(?1) j CROSS JOIN phone_numbers p
     WHERE p.workspace_id = j.value ->> 'ws' AND p.id = j.value ->> 'id' AND p.deleted_at IS NULL`,
    JSON.stringify(keys.map((key) => ({ ws: key.workspaceId, id: key.id }))),
  );
  return rows.map((row) => fromRow(phoneNumbers, row));
}

/** Notes why the number waits, or that it does not any more; true when that changed. */
export async function updateBlocked(
  db: Db,
  workspaceId: string,
  id: string,
  reason: string | null,
  now: number,
): Promise<boolean> {
  const changed = await db.run(
    `UPDATE phone_numbers SET blocked_reason = ?3, blocked_at = CASE WHEN ?3 IS NULL THEN NULL ELSE ?4 END, updated_at = ?4
     WHERE workspace_id = ?1 AND id = ?2 AND blocked_reason IS NOT ?3`,
    workspaceId,
    id,
    reason,
    now,
  );
  return changed > 0;
}

/** At most one write a minute per number, whatever arrives: the clock of ambiguous sends needs no finer one. */
const SEEN_EVERY = 60_000;

/** Notes that statuses (and with them webhooks) of these numbers are arriving. Part of the inbound batch. */
export function touchNumbers(
  rows: readonly { workspaceId: string; id: string; statuses: boolean }[],
  now: number,
): Statement {
  return statement(
    `UPDATE phone_numbers AS p SET last_webhook_at = ?2,
       last_status_at = CASE WHEN j.value ->> 's' = 1 THEN ?2 ELSE p.last_status_at END
     FROM json_each(?1) j WHERE p.workspace_id = j.value ->> 'ws' AND p.id = j.value ->> 'id'
       AND (COALESCE(p.last_webhook_at, 0) <= ?2 - ${SEEN_EVERY}
         OR (j.value ->> 's' = 1 AND COALESCE(p.last_status_at, 0) <= ?2 - ${SEEN_EVERY}))`,
    JSON.stringify(rows.map((row) => ({ ws: row.workspaceId, id: row.id, s: row.statuses ? 1 : 0 }))),
    now,
  );
}

/** What a webhook says of numbers: quality, limits, names. Only what it names changes. */
export function updateNumberFacts(
  rows: readonly {
    workspaceId: string;
    id: string;
    qualityRating?: string;
    tier?: string;
    messageLimit?: number | null;
    verifiedName?: string;
  }[],
  now: number,
): Statement {
  return statement(
    `UPDATE phone_numbers AS p SET updated_at = ?2,
       quality_rating = COALESCE(j.value ->> 'quality', p.quality_rating), tier = COALESCE(j.value ->> 'tier', p.tier),
       verified_name = COALESCE(j.value ->> 'name', p.verified_name),
       message_limit = CASE WHEN j.value ->> 'has_limit' = 1 THEN j.value ->> 'limit' ELSE p.message_limit END
     FROM json_each(?1) j WHERE p.workspace_id = j.value ->> 'ws' AND p.id = j.value ->> 'id'`,
    JSON.stringify(
      rows.map((row) => ({
        ws: row.workspaceId,
        id: row.id,
        quality: row.qualityRating ?? null,
        tier: row.tier ?? null,
        name: row.verifiedName ?? null,
        has_limit: row.messageLimit === undefined ? 0 : 1,
        limit: row.messageLimit ?? null,
      })),
    ),
    now,
  );
}
