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
