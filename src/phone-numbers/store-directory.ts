import { eq, type InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { built, columnsOf, type Db, fromRow } from "../platform/d1";
import { providerNumbers } from "./directory-tables";

/** Which workspace a provider's number belongs to. */
export type ProviderNumber = InferSelectModel<typeof providerNumbers>;

/** Claims a provider's number for a workspace; false when somebody holds it (contract 12). */
export async function insertProviderNumber(directory: Db, row: ProviderNumber): Promise<boolean> {
  const [result] = await directory.batch([
    built(directory.orm.insert(providerNumbers).values(row).onConflictDoNothing()),
  ]);
  return (result?.meta.changes ?? 0) > 0;
}

/** The claim again, over one that was left behind under `abandoned`; false when it was taken meanwhile. */
export async function replaceProviderNumber(directory: Db, row: ProviderNumber, abandoned: string): Promise<boolean> {
  const [result] = await directory.batch([
    built(
      directory.orm
        .insert(providerNumbers)
        .values(row)
        .onConflictDoUpdate({
          target: [providerNumbers.provider, providerNumbers.providerNumberId],
          set: row,
          setWhere: eq(providerNumbers.phoneNumberId, abandoned),
        }),
    ),
  ]);
  return (result?.meta.changes ?? 0) > 0;
}

export async function selectProviderNumber(
  directory: Db,
  provider: ProviderNumber["provider"],
  providerNumberId: string,
): Promise<ProviderNumber | null> {
  const row = await directory.first(
    `SELECT ${columnsOf(providerNumbers, "n")} FROM provider_numbers n WHERE n.provider = ?1 AND n.provider_number_id = ?2`,
    provider,
    providerNumberId,
  );
  return row && fromRow(providerNumbers, row);
}

/** Whether the workspace is there: the numbers of a deleted one are free. */
export async function isWorkspaceLive(directory: Db, workspaceId: string): Promise<boolean> {
  const sql = "SELECT 1 AS live FROM workspaces WHERE id = ?1 AND deleted_at IS NULL";
  return (await directory.first(sql, workspaceId)) !== null;
}

/** What webhooks are routed and checked by; undefined leaves a column as it is. */
export interface ProviderNumberUpdate {
  businessId?: string | null | undefined;
  phoneDigits?: string | null | undefined;
  appSecretSealed?: string | null | undefined;
}

export async function updateProviderNumber(
  directory: Db,
  phoneNumberId: string,
  update: ProviderNumberUpdate,
): Promise<void> {
  const set = Object.fromEntries(Object.entries(update).filter(([, value]) => value !== undefined));
  if (Object.keys(set).length === 0) return;
  await directory.batch([
    built(directory.orm.update(providerNumbers).set(set).where(eq(providerNumbers.phoneNumberId, phoneNumberId))),
  ]);
}

/** Frees the provider's number for whoever registers it next. */
export async function deleteProviderNumber(directory: Db, phoneNumberId: string): Promise<void> {
  await directory.run("DELETE FROM provider_numbers WHERE phone_number_id = ?1", phoneNumberId);
}

const versionRow = z.object({ webhook_version: z.number() });

/** The version of a connection's webhook secret; null when it is not registered. */
export async function selectWebhookVersion(directory: Db, phoneNumberId: string): Promise<number | null> {
  const row = await directory.first(
    "SELECT webhook_version FROM provider_numbers WHERE phone_number_id = ?1",
    phoneNumberId,
  );
  return row && versionRow.parse(row).webhook_version;
}

/** The next version of a connection's webhook secret, which counts from now on; null when it is not registered. */
export async function rotateWebhook(directory: Db, phoneNumberId: string, now: number): Promise<number | null> {
  const [row] = await directory.all(
    `UPDATE provider_numbers SET webhook_version = webhook_version + 1, webhook_rotated_at = ?2
     WHERE phone_number_id = ?1 RETURNING webhook_version`,
    phoneNumberId,
    now,
  );
  return row === undefined ? null : versionRow.parse(row).webhook_version;
}
