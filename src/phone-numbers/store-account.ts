import type { Db } from "../platform/d1";

/** Keeps the account that the provider named. */
export async function updateBusinessAccount(
  db: Db,
  { workspaceId, id }: { workspaceId: string; id: string },
  businessId: string,
  now: number,
): Promise<void> {
  await db.run(
    "UPDATE phone_numbers SET business_id = ?3, updated_at = ?4 WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL",
    workspaceId,
    id,
    businessId,
    now,
  );
}

/** Keeps where the provider was told to find us. */
export async function updateWebhookOrigin(
  db: Db,
  { workspaceId, id }: { workspaceId: string; id: string },
  origin: string,
  now: number,
): Promise<void> {
  await db.run(
    `UPDATE phone_numbers SET webhook_origin = ?3, updated_at = ?4
     WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL AND webhook_origin IS NOT ?3`,
    workspaceId,
    id,
    origin,
    now,
  );
}
