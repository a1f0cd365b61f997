import { and, eq, type InferSelectModel, isNull, sql } from "drizzle-orm";
import { z } from "zod";
import { built, columnsOf, type Db, fromRow, jsonChunks, type Statement, statement } from "../platform/d1";
import { decodeCursor, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import type { NumberInfo } from "../providers/provider";
import { phoneNumbers } from "./tables";

/** A connected number, as stored. Its access token is sealed; `service.openConnection` opens it. */
export type PhoneNumber = InferSelectModel<typeof phoneNumbers>;

const COLUMNS = columnsOf(phoneNumbers, "p");

/**
 * Which number acts where a call names none: the one set as default, else the oldest active one (contract 12). Ids
 * are UUIDv7, so the smallest is the oldest.
 */
const DEFAULT_ORDER = `FROM phone_numbers p
  WHERE p.workspace_id = ?1 AND p.deleted_at IS NULL AND (p.is_default = 1 OR p.status = 'active')
  ORDER BY p.is_default DESC, p.id LIMIT 1`;

export async function selectDefaultNumber(db: Db, workspaceId: string): Promise<PhoneNumber | null> {
  const row = await db.first(`SELECT ${COLUMNS} ${DEFAULT_ORDER}`, workspaceId);
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

/** A live number among the caller's workspaces (contract 5). */
export async function findNumber(db: Db, workspaceIds: readonly string[], id: string): Promise<PhoneNumber | null> {
  const row = await db.first(
    `SELECT ${COLUMNS} FROM json_each(?1) w CROSS JOIN phone_numbers p
     WHERE p.workspace_id = w.value AND p.id = ?2 AND p.deleted_at IS NULL`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && fromRow(phoneNumbers, row);
}

/** The row this provider's number has, or had, in a workspace: the live one, else the last one deleted. */
export async function selectEarlierNumber(
  db: Db,
  workspaceId: string,
  provider: PhoneNumber["provider"],
  providerNumberId: string,
): Promise<PhoneNumber | null> {
  const row = await db.first(
    `SELECT ${COLUMNS} FROM phone_numbers p
     WHERE p.workspace_id = ?1 AND p.provider = ?2 AND p.provider_number_id = ?3
     ORDER BY p.deleted_at IS NULL DESC, p.deleted_at DESC LIMIT 1`,
    workspaceId,
    provider,
    providerNumberId,
  );
  return row && fromRow(phoneNumbers, row);
}

/** Whether a registration's row is there and live: one that is not was left behind by a crash. */
export async function isNumberLive(db: Db, workspaceId: string, id: string): Promise<boolean> {
  const row = await db.first(
    "SELECT 1 AS live FROM phone_numbers p WHERE p.workspace_id = ?1 AND p.id = ?2 AND p.deleted_at IS NULL",
    workspaceId,
    id,
  );
  return row !== null;
}

const totalRow = z.object({ n: z.number() });
const idRow = z.object({ id: z.string() });

export interface NumberPage extends Page<PhoneNumber> {
  defaultId: string | null;
}

/** Oldest first. A workspace has few numbers: counting them all costs less than keeping a total. */
export async function pageNumbers(
  db: Db,
  workspaceId: string,
  query: PageQuery & { status?: PhoneNumber["status"] | undefined },
): Promise<NumberPage> {
  const after = query.cursor === undefined ? "" : decodeCursor(query.cursor, z.tuple([z.string()]))[0];
  const offset = query.cursor === undefined ? query.offset : 0;
  const status = query.status ?? null;
  const [page, count, chosen] = await db.batch([
    statement(
      `SELECT ${COLUMNS} FROM phone_numbers p
       WHERE p.workspace_id = ?1 AND p.id > ?2 AND p.deleted_at IS NULL AND (?3 IS NULL OR p.status = ?3)
       ORDER BY p.id LIMIT ?4 OFFSET ?5`,
      workspaceId,
      after,
      status,
      query.limit + 1,
      offset,
    ),
    statement(
      `SELECT count(*) AS n FROM phone_numbers p
       WHERE p.workspace_id = ?1 AND p.deleted_at IS NULL AND (?2 IS NULL OR p.status = ?2)`,
      workspaceId,
      status,
    ),
    statement(`SELECT p.id ${DEFAULT_ORDER}`, workspaceId),
  ]);
  const rows = (page?.results ?? []).map((row) => fromRow(phoneNumbers, row));
  const last = rows.length > query.limit ? rows[query.limit - 1] : undefined;
  return {
    rows: rows.slice(0, query.limit),
    total: totalRow.parse(count?.results[0]).n,
    totalIsLowerBound: false,
    nextCursor: last ? encodeCursor([last.id]) : null,
    defaultId: idRow.safeParse(chosen?.results[0]).data?.id ?? null,
  };
}

/**
 * A new number, or a soft-deleted one that comes back under its old id with its threads. Answers false when that id
 * is live already.
 */
export async function insertNumber(db: Db, row: PhoneNumber): Promise<boolean> {
  const { workspaceId: _workspaceId, id: _id, ...revived } = row;
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

/** What a PATCH or an exchange sets; undefined leaves a column as it is. */
export interface NumberUpdate {
  displayName?: string | undefined;
  disabledByUs?: boolean | undefined;
  status?: PhoneNumber["status"] | undefined;
  accessTokenSealed?: string | undefined;
  tokenExpiresAt?: number | null | undefined;
}

/**
 * Changes a live number, in one transaction with what the provider said of it (`facts`) and with the choice of the
 * default one. Answers the row as it is then, null when the number is gone.
 */
export async function updateNumber(
  db: Db,
  number: { workspaceId: string; id: string },
  change: { set: NumberUpdate; facts: NumberFacts | null; isDefault: boolean | null },
  now: number,
): Promise<PhoneNumber | null> {
  const { workspaceId, id } = number;
  const set = Object.fromEntries(Object.entries(change.set).filter(([, value]) => value !== undefined));
  const statements: Statement[] = [
    built(
      db.orm
        .update(phoneNumbers)
        .set({ ...set, updatedAt: now })
        .where(and(eq(phoneNumbers.workspaceId, workspaceId), eq(phoneNumbers.id, id), isNull(phoneNumbers.deletedAt))),
    ),
    ...(change.facts ? updateFacts([change.facts], now) : []),
  ];
  if (change.isDefault !== null) {
    statements.push(
      statement(
        `UPDATE phone_numbers SET is_default = (?3 = 1 AND id = ?2), updated_at = ?4
         WHERE workspace_id = ?1 AND deleted_at IS NULL AND (id = ?2 OR (?3 = 1 AND is_default = 1))`,
        workspaceId,
        id,
        change.isDefault ? 1 : 0,
        now,
      ),
    );
  }
  const select = `SELECT ${COLUMNS} FROM phone_numbers p WHERE p.workspace_id = ?1 AND p.id = ?2 AND p.deleted_at IS NULL`;
  const results = await db.batch([...statements, statement(select, workspaceId, id)]);
  const row = results.at(-1)?.results[0];
  return row ? fromRow(phoneNumbers, row) : null;
}

/** What the provider said of a number. */
export interface NumberFacts {
  workspaceId: string;
  id: string;
  info: NumberInfo;
}

/**
 * Stores what the provider said of numbers. Our own switch survives (contract 13); a business account and the end of
 * a token that nobody named stay as they are.
 */
export function updateFacts(facts: readonly NumberFacts[], now: number): Statement[] {
  const rows = facts.map(({ workspaceId, id, info }) => ({
    ws: workspaceId,
    id,
    phone: info.phoneNumber,
    name: info.verifiedName,
    quality: info.qualityRating,
    limit: info.messageLimit,
    tier: info.tier,
    status: info.status,
    word: info.providerStatus,
    business: info.businessId,
    knows_end: info.tokenExpiresAt === undefined ? 0 : 1,
    end: info.tokenExpiresAt ?? null,
    partial: info.partial === true ? 1 : 0,
  }));
  const told = (column: string, member: string) =>
    `${column} = CASE WHEN j.value ->> 'partial' = 1 THEN p.${column} ELSE j.value ->> '${member}' END`;
  return jsonChunks(rows).map((chunk) =>
    statement(
      `UPDATE phone_numbers AS p SET phone_number = j.value ->> 'phone', ${told("verified_name", "name")},
         ${told("quality_rating", "quality")}, ${told("message_limit", "limit")}, ${told("tier", "tier")},
         provider_status = j.value ->> 'word', business_id = COALESCE(p.business_id, j.value ->> 'business'),
         status = CASE WHEN p.disabled_by_us = 1 THEN 'disabled' ELSE j.value ->> 'status' END,
         token_expires_at = CASE WHEN j.value ->> 'knows_end' = 1 THEN j.value ->> 'end' ELSE p.token_expires_at END,
         verified_at = COALESCE(p.verified_at, CASE WHEN j.value ->> 'status' = 'active' THEN ?2 END),
         synced_at = ?2, updated_at = ?2
       FROM json_each(?1) j
       WHERE p.workspace_id = j.value ->> 'ws' AND p.id = j.value ->> 'id' AND p.deleted_at IS NULL`,
      chunk,
      now,
    ),
  );
}

/** Deletes a number softly: its threads stay, its token goes. False when it was gone already. */
export async function softDeleteNumber(db: Db, workspaceId: string, id: string, now: number): Promise<boolean> {
  const changed = await db.run(
    `UPDATE phone_numbers SET deleted_at = ?3, updated_at = ?3, is_default = 0, access_token_sealed = NULL
     WHERE workspace_id = ?1 AND id = ?2 AND deleted_at IS NULL`,
    workspaceId,
    id,
    now,
  );
  return changed > 0;
}

/** Live numbers of a shard, for the nightly walk over all its workspaces that were not deleted. */
export async function pageShardNumbers(
  db: Db,
  after: { workspaceId: string; id: string },
  limit: number,
): Promise<PhoneNumber[]> {
  const rows = await db.all(
    `SELECT ${COLUMNS} FROM phone_numbers p
     WHERE (p.workspace_id, p.id) > (?1, ?2) AND p.deleted_at IS NULL
       AND NOT EXISTS (SELECT 1 FROM workspace_states s WHERE s.workspace_id = p.workspace_id AND s.status = 'deleted')
     ORDER BY p.workspace_id, p.id LIMIT ?3`,
    after.workspaceId,
    after.id,
    limit,
  );
  return rows.map((row) => fromRow(phoneNumbers, row));
}
