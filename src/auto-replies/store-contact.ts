import { z } from "zod";
import type { Db } from "../platform/d1";
import type { KnownContact } from "./fields";

const contactRow = z.object({
  name: z.string().nullable(),
  username: z.string().nullable(),
  phone: z.string().nullable(),
});

/** What answers may say of a person. */
export async function selectContact(db: Db, workspaceId: string, id: string): Promise<KnownContact | null> {
  const row = await db.first(
    `SELECT c.name, c.username, COALESCE(c.phone_number, '+' || c.wa_id) AS phone FROM contacts c
     WHERE c.workspace_id = ?1 AND c.id = ?2 AND c.deleted_at IS NULL`,
    workspaceId,
    id,
  );
  if (!row) return null;
  const { name, username, phone } = contactRow.parse(row);
  return { name, username, phoneNumber: phone };
}
