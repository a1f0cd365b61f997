import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import type { Role } from "../auth/access";
import { columnsOf, type Db, fromRow, jsonChunks, statement } from "../platform/d1";
import type { BareListQuery } from "../platform/pagination";
import type { Plan } from "./schema";
import type { workspaceStates } from "./shard-tables";
import { workspaces } from "./tables";

export type Workspace = InferSelectModel<typeof workspaces>;
export type WorkspaceState = InferSelectModel<typeof workspaceStates>;

const COLUMNS = columnsOf(workspaces, "workspaces");

/** Bytes of the settings a workspace may keep: the pipelines read them with every batch. */
export const MAX_SETTINGS_BYTES = 32_768;

/** Workspaces one user may have made. */
export const MAX_CREATED = 1_000;

const placement = z.object({ number: z.int() });

/** The shard for a new workspace: the one with the fewest bytes at the last measure, then the fewest workspaces. */
export async function selectEmptiestShard(db: Db, numbers: readonly number[]): Promise<number> {
  const row = await db.first(
    `SELECT j.value AS number FROM json_each(?1) j LEFT JOIN shards s ON s.number = j.value
     ORDER BY coalesce(s.bytes, 0), (SELECT count(*) FROM workspaces w WHERE w.shard = j.value), j.value LIMIT 1`,
    JSON.stringify(numbers),
  );
  if (!row) throw new Error("This deployment has no SHARD_n binding");
  return placement.parse(row).number;
}

export interface NewWorkspace {
  id: string;
  name: string;
  /** Best first; the first free one is taken. The last one must be free beyond doubt. */
  slugs: readonly string[];
  shard: number;
  plan: Plan;
  apiKeyHash: string;
  apiKeySealed: string;
  webhookSecretSealed: string;
  createdBy: string;
  now: number;
}

/** Stores a workspace and its owner's membership. Null when the user has made too many. */
export async function insertWorkspace(db: Db, row: NewWorkspace, memberId: string): Promise<Workspace | null> {
  const [, , rows] = await db.batch([
    statement(
      `INSERT INTO workspaces (id, name, slug, shard, plan, status, settings, api_key_hash, api_key_sealed,
         webhook_secret_sealed, created_by, created_at, updated_at, deleted_at)
       SELECT ?1, ?2, (SELECT j.value FROM json_each(?3) j
           WHERE NOT EXISTS (SELECT 1 FROM workspaces x WHERE x.slug = j.value) ORDER BY j.key LIMIT 1),
         ?4, ?5, 'active', '{}', ?6, ?7, ?8, ?9, ?10, ?10, NULL
       WHERE (SELECT count(*) FROM members WHERE user_id = ?9 AND invited_by IS NULL) < ?11`,
      row.id,
      row.name,
      JSON.stringify(row.slugs),
      row.shard,
      row.plan,
      row.apiKeyHash,
      row.apiKeySealed,
      row.webhookSecretSealed,
      row.createdBy,
      row.now,
      MAX_CREATED,
    ),
    statement(
      `INSERT INTO members (workspace_id, id, user_id, email, role, status, joined_at, created_at)
       SELECT w.id, ?2, u.id, u.email, 'OWNER', 'active', ?3, ?3
       FROM workspaces w JOIN users u ON u.id = w.created_by WHERE w.id = ?1`,
      row.id,
      memberId,
      row.now,
    ),
    statement(`SELECT ${COLUMNS} FROM workspaces WHERE id = ?1`, row.id),
  ]);
  const stored = rows?.results[0];
  return stored ? fromRow(workspaces, stored) : null;
}

export async function selectWorkspace(db: Db, id: string): Promise<Workspace | null> {
  const row = await db.first(`SELECT ${COLUMNS} FROM workspaces WHERE id = ?1 AND deleted_at IS NULL`, id);
  return row ? fromRow(workspaces, row) : null;
}

export interface OwnWorkspace {
  workspace: Workspace;
  role: Role;
}

const roleRow = z.object({ role: z.enum(["OWNER", "ADMIN", "MEMBER", "AGENT"]) });

/** The workspaces a user is an active member of, oldest membership first. */
export async function listWorkspacesOf(
  db: Db,
  userId: string,
  page: BareListQuery,
): Promise<{ rows: OwnWorkspace[]; total: number }> {
  const from = `FROM members m JOIN workspaces ON workspaces.id = m.workspace_id
    WHERE m.user_id = ?1 AND m.status = 'active' AND workspaces.deleted_at IS NULL`;
  const [rows, count] = await db.batch([
    statement(
      `SELECT ${COLUMNS}, m.role ${from} ORDER BY m.joined_at, m.id LIMIT ?2 OFFSET ?3`,
      userId,
      page.limit ?? -1,
      page.offset,
    ),
    statement(`SELECT count(*) AS total ${from}`, userId),
  ]);
  return {
    rows: (rows?.results ?? []).map((row) => ({
      workspace: fromRow(workspaces, row),
      role: roleRow.parse(row).role,
    })),
    total: Number(count?.results[0]?.total ?? 0),
  };
}

export interface WorkspaceChange {
  name: string | null;
  plan: Plan | null;
  status: "active" | "suspended" | null;
  /** Members to set; null deletes one. */
  settings: Record<string, unknown>;
}

/** The JSON text of one member of `json_each`: its `value` is text for objects and arrays, 0 or 1 for booleans. */
const jsonText = (alias: string) => `CASE ${alias}.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'
  WHEN 'object' THEN ${alias}.value WHEN 'array' THEN ${alias}.value ELSE json_quote(${alias}.value) END`;

/**
 * Changes what is given, in one statement, so that two patches of different settings both stay. `updated_at` always
 * grows: the mirror on the shard takes the newer one. Null when the workspace is gone or its settings would pass
 * `MAX_SETTINGS_BYTES`.
 */
export async function updateWorkspace(
  db: Db,
  id: string,
  change: WorkspaceChange,
  now: number,
): Promise<Workspace | null> {
  const row = await db.first(
    `UPDATE workspaces SET name = coalesce(?2, name), plan = coalesce(?3, plan), status = coalesce(?4, status),
       settings = merged.settings, updated_at = max(?5, updated_at + 1)
     FROM (SELECT w.id, (SELECT json_group_object(k, json(t)) FROM (
         SELECT o.key AS k, ${jsonText("o")} AS t FROM json_each(w.settings) o
         WHERE o.key NOT IN (SELECT g.key FROM json_each(?6) g)
         UNION ALL
         SELECT g.key, ${jsonText("g")} FROM json_each(?6) g WHERE g.type <> 'null')) AS settings
       FROM workspaces w WHERE w.id = ?1) merged
     WHERE workspaces.id = ?1 AND workspaces.deleted_at IS NULL AND length(CAST(merged.settings AS BLOB)) <= ?7
     RETURNING ${COLUMNS}`,
    id,
    change.name,
    change.plan,
    change.status,
    now,
    JSON.stringify(change.settings),
    MAX_SETTINGS_BYTES,
  );
  return row ? fromRow(workspaces, row) : null;
}

/** Takes a workspace out of every look-up. Answers whether it was there. */
export async function softDeleteWorkspace(db: Db, id: string, now: number): Promise<Workspace | null> {
  const row = await db.first(
    `UPDATE workspaces SET deleted_at = ?2, updated_at = max(?2, updated_at + 1)
     WHERE id = ?1 AND deleted_at IS NULL RETURNING ${COLUMNS}`,
    id,
    now,
  );
  return row ? fromRow(workspaces, row) : null;
}

/** Puts another API key in place; the one before is found by nobody from here on. */
export async function updateApiKey(
  db: Db,
  id: string,
  key: { hash: string; sealed: string },
  now: number,
): Promise<Workspace | null> {
  const row = await db.first(
    `UPDATE workspaces SET api_key_hash = ?2, api_key_sealed = ?3, updated_at = max(?4, updated_at + 1)
     WHERE id = ?1 AND deleted_at IS NULL RETURNING ${COLUMNS}`,
    id,
    key.hash,
    key.sealed,
    now,
  );
  return row ? fromRow(workspaces, row) : null;
}

export async function updateWebhookSecret(db: Db, id: string, sealed: string, now: number): Promise<Workspace | null> {
  const row = await db.first(
    `UPDATE workspaces SET webhook_secret_sealed = ?2, updated_at = max(?3, updated_at + 1)
     WHERE id = ?1 AND deleted_at IS NULL RETURNING ${COLUMNS}`,
    id,
    sealed,
    now,
  );
  return row ? fromRow(workspaces, row) : null;
}

/** One page of a shard's workspaces by id, deleted ones too. */
export async function pageWorkspacesOfShard(
  db: Db,
  shard: number,
  afterId: string,
  limit: number,
): Promise<Workspace[]> {
  const rows = await db.all(
    `SELECT ${COLUMNS} FROM workspaces WHERE shard = ?1 AND id > ?2 ORDER BY id LIMIT ?3`,
    shard,
    afterId,
    limit,
  );
  return rows.map((row) => fromRow(workspaces, row));
}

export async function upsertShardSize(db: Db, number: number, bytes: number, now: number): Promise<void> {
  await db.run(
    `INSERT INTO shards (number, bytes, measured_at) VALUES (?1, ?2, ?3)
     ON CONFLICT (number) DO UPDATE SET bytes = excluded.bytes, measured_at = excluded.measured_at`,
    number,
    bytes,
    now,
  );
}

/** The size of a shard in bytes, as D1 reports it with every answer. */
export async function measureShard(shard: Db): Promise<number> {
  const [result] = await shard.batch([statement("SELECT 1")]);
  return result?.meta.size_after ?? 0;
}

/** SHARD. Mirrors what the pipelines must know. An older state never replaces a newer one; equal ones cost no row. */
export async function upsertStates(shard: Db, states: readonly WorkspaceState[]): Promise<void> {
  const rows = states.map((state) => ({ ...state, settings: JSON.stringify(state.settings) }));
  await shard.batch(
    jsonChunks(rows).map((json) =>
      statement(
        `INSERT INTO workspace_states (workspace_id, status, settings, updated_at)
         SELECT value ->> 'workspaceId', value ->> 'status', value ->> 'settings', value ->> 'updatedAt'
         FROM json_each(?1) WHERE true
         ON CONFLICT (workspace_id) DO UPDATE
           SET status = excluded.status, settings = excluded.settings, updated_at = excluded.updated_at
         WHERE excluded.updated_at >= workspace_states.updated_at
           AND (excluded.status, excluded.settings) IS NOT (workspace_states.status, workspace_states.settings)`,
        json,
      ),
    ),
  );
}
