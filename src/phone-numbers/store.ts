import { type InferSelectModel, sql } from "drizzle-orm";
import { built, columnsOf, type Db, fromRow } from "../platform/d1";
import { providerNumbers } from "./directory-tables";
import { phoneNumbers } from "./tables";

/** A connected number, as stored. Its access token is sealed; `service.openConnection` opens it. */
export type PhoneNumber = InferSelectModel<typeof phoneNumbers>;

const COLUMNS = columnsOf(phoneNumbers, "p");

/**
 * Which number acts where a call names none: the one set as default, else the oldest active one (contract 12). Ids
 * are UUIDv7, so the smallest is the oldest.
 */
const DEFAULT_NUMBER = `SELECT ${COLUMNS} FROM phone_numbers p
  WHERE p.workspace_id = ?1 AND p.deleted_at IS NULL AND (p.is_default = 1 OR p.status = 'active')
  ORDER BY p.is_default DESC, p.id LIMIT 1`;

export async function selectDefaultNumber(db: Db, workspaceId: string): Promise<PhoneNumber | null> {
  const row = await db.first(DEFAULT_NUMBER, workspaceId);
  return row && fromRow(phoneNumbers, row);
}

/** A live number by our id or by the provider's (contract 12). A workspace has few numbers: its own rows are read. */
export async function selectNumberByAnyId(db: Db, workspaceId: string, id: string): Promise<PhoneNumber | null> {
  const row = await db.first(
    `SELECT ${COLUMNS} FROM phone_numbers p
     WHERE p.workspace_id = ?1 AND p.deleted_at IS NULL AND (p.id = ?2 OR p.provider_number_id = ?3)
     ORDER BY (p.id = ?2) DESC LIMIT 1`,
    workspaceId,
    id.toLowerCase(),
    id,
  );
  return row && fromRow(phoneNumbers, row);
}

/**
 * A new number, or a soft-deleted one that comes back under its old id with its threads. Answers false when that id
 * is live already.
 */
export async function insertNumber(db: Db, row: PhoneNumber): Promise<boolean> {
  const { workspaceId: _workspaceId, id: _id, createdAt: _createdAt, ...revived } = row;
  const [result] = await db.batch([
    built(
      db.orm
        .insert(phoneNumbers)
        .values(row)
        .onConflictDoUpdate({
          target: [phoneNumbers.workspaceId, phoneNumbers.id],
          set: revived,
          setWhere: sql`${phoneNumbers.deletedAt} IS NOT NULL`,
        }),
    ),
  ]);
  return (result?.meta.changes ?? 0) > 0;
}

export type ProviderNumber = InferSelectModel<typeof providerNumbers>;

/** DIRECTORY. Claims a provider's number for a workspace; false when somebody holds it (contract 12). */
export async function insertProviderNumber(directory: Db, row: ProviderNumber): Promise<boolean> {
  const [result] = await directory.batch([
    built(directory.orm.insert(providerNumbers).values(row).onConflictDoNothing()),
  ]);
  return (result?.meta.changes ?? 0) > 0;
}
