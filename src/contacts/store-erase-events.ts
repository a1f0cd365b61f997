/** SQL of erasing what providers told of somebody besides messages, what queues gave up on, and the search index. */
import { z } from "zod";
import { type Db, type Statement, statement } from "../platform/d1";

/** Rows walked in one step; only those that may name the person bring their text along. */
export const EVENT_PAGE = 500;
export const LETTER_PAGE = 20;

const eventRow = z.object({
  id: z.string(),
  received_at: z.number(),
  raw: z.string().nullable(),
  r2_key: z.string().nullable(),
});

export interface StoredEvent {
  id: string;
  receivedAt: number;
  /** Null where no name stands in it, and where the text lies in R2. */
  raw: string | null;
  r2Key: string | null;
}

/** A page of webhook events, oldest first. */
export async function pageEvents(
  db: Db,
  workspaceId: string,
  names: readonly string[],
  after: readonly (string | number)[],
): Promise<StoredEvent[]> {
  const rows = await db.all(
    `SELECT e.id AS id, e.received_at AS received_at, e.r2_key AS r2_key,
       CASE WHEN EXISTS (SELECT 1 FROM json_each(?2) k WHERE instr(e.raw, k.value) > 0) THEN e.raw END AS raw
     FROM webhook_events e INDEXED BY webhook_events_recent WHERE e.workspace_id = ?1
       ${after.length === 0 ? "" : "AND (e.received_at, e.id) > (?3, ?4)"} ORDER BY e.received_at, e.id LIMIT ${EVENT_PAGE}`,
    workspaceId,
    JSON.stringify(names),
    ...after,
  );
  return rows.map((raw) => {
    const row = eventRow.parse(raw);
    return { id: row.id, receivedAt: row.received_at, raw: row.raw, r2Key: row.r2_key };
  });
}

/** Rows that go, and their share of the list's total: what is gone already counts no second time. */
export function deleteListed(table: "webhook_events" | "dead_letters", workspaceId: string, ids: readonly string[]): Statement[] {
  const json = JSON.stringify(ids);
  return [
    statement(
      `UPDATE list_totals SET n = n - (SELECT count(*) FROM json_each(?2) j CROSS JOIN ${table} t WHERE t.workspace_id = ?1 AND t.id = j.value)
       WHERE workspace_id = ?1 AND list = '${table}'`,
      workspaceId,
      json,
    ),
    statement(`DELETE FROM ${table} WHERE workspace_id = ?1 AND id IN (SELECT j.value FROM json_each(?2) j)`, workspaceId, json),
  ];
}

const letterRow = z.object({ id: z.string(), r2_key: z.string() });

/** A page of dead letters, by id. */
export async function pageLetters(db: Db, workspaceId: string, after: string): Promise<{ id: string; r2Key: string }[]> {
  const rows = await db.all(
    `SELECT id, r2_key FROM dead_letters WHERE workspace_id = ?1 AND id > ?2 ORDER BY id LIMIT ${LETTER_PAGE}`,
    workspaceId,
    after,
  );
  return rows.map((raw) => letterRow.parse(raw)).map((row) => ({ id: row.id, r2Key: row.r2_key }));
}

/** Pages of the search index rewritten in one step. */
const MERGE_PAGES = 200;

/**
 * A step of rewriting the search index: a deleted row is only marked in it, and its words go when its segments are
 * merged (SQLite, FTS5 "merge": a negative number begins with all segments, a positive one goes on). True when there is
 * more to do.
 */
export async function mergeSearchIndex(db: Db, first: boolean): Promise<boolean> {
  const changed = await db.run(
    "INSERT INTO contacts_fts (contacts_fts, rank) VALUES ('merge', ?1)",
    first ? -MERGE_PAGES : MERGE_PAGES,
  );
  return changed > 1;
}
