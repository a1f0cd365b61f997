import { z } from "zod";
import { ROLES } from "../auth/access";
import type { Db } from "../platform/d1";
import { planSchema } from "../workspaces/schema";
import type { StreamClaims } from "./tickets";

const threadRow = z.object({ id: z.string(), phone_number_id: z.string(), peer: z.string() });

/** The pair of a thread; of one that was merged, the thread that took its messages over. */
export async function findThread(
  db: Db,
  workspaceId: string,
  conversationId: string,
): Promise<{ id: string; phoneNumberId: string; peer: string } | null> {
  const row = await db.first(
    `SELECT t.id, t.phone_number_id, t.peer FROM conversations c
     JOIN conversations t ON t.workspace_id = c.workspace_id AND t.id = coalesce(c.merged_into, c.id)
     WHERE c.workspace_id = ?1 AND c.id = ?2`,
    workspaceId,
    conversationId,
  );
  if (!row) return null;
  const { id, phone_number_id, peer } = threadRow.parse(row);
  return { id, phoneNumberId: phone_number_id, peer };
}

const membershipRow = z.object({
  shard: z.int(),
  plan: planSchema,
  status: z.enum(["active", "suspended"]),
  role: z.enum(ROLES).nullable(),
});

/** What a stream token's holder may do now; null when the session, membership or key has ended. */
export async function findHolder(
  directory: Db,
  claims: StreamClaims,
  now: number,
): Promise<z.infer<typeof membershipRow> | null> {
  const { workspace_id, holder } = claims;
  const row =
    "user_id" in holder
      ? await directory.first(
          `SELECT w.shard, w.plan, w.status, m.role FROM sessions s
           JOIN members m ON m.user_id = s.user_id AND m.workspace_id = ?1 AND m.status = 'active'
           JOIN workspaces w ON w.id = m.workspace_id AND w.deleted_at IS NULL
           WHERE s.id = ?2 AND s.user_id = ?3 AND s.revoked_at IS NULL AND s.expires_at > ?4`,
          workspace_id,
          holder.session_id,
          holder.user_id,
          now,
        )
      : await directory.first(
          `SELECT shard, plan, status, NULL AS role FROM workspaces
           WHERE id = ?1 AND substr(api_key_hash, 1, 16) = ?2 AND deleted_at IS NULL`,
          workspace_id,
          holder.key_fingerprint,
        );
  return row ? membershipRow.parse(row) : null;
}
