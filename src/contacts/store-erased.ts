/** SQL of the marks by which an erased person is recognised. */
import { z } from "zod";
import { type Db, jsonChunks, type Statement, statement } from "../platform/d1";

/** A name of somebody of a workspace, as its keyed hash. */
export interface NameHash {
  ws: string;
  h: string;
}

const markRow = z.object({ ws: z.string(), hash: z.string(), erased_at: z.number() });

/** Marks names as erased at `at` until `expiresAt` (ms); of two erasures of the same name the later counts. */
export function insertMarks(marks: readonly NameHash[], at: number, expiresAt: number): Statement[] {
  return jsonChunks(marks).map((json) =>
    statement(
      `INSERT INTO erased_identities (workspace_id, hash, erased_at, expires_at)
       SELECT j.value ->> 'ws', j.value ->> 'h', ?2, ?3 FROM json_each(?1) j WHERE true
       ON CONFLICT (workspace_id, hash) DO UPDATE SET erased_at = excluded.erased_at, expires_at = excluded.expires_at
         WHERE excluded.erased_at > erased_identities.erased_at`,
      json,
      at,
      expiresAt,
    ),
  );
}

/** Which of the names are marked. */
export function selectMarks(names: readonly NameHash[]): Statement[] {
  return jsonChunks(names).map((json) =>
    statement(
      `SELECT e.workspace_id AS ws, e.hash AS hash, e.erased_at AS erased_at FROM json_each(?1) j CROSS JOIN erased_identities e
       WHERE e.workspace_id = j.value ->> 'ws' AND e.hash = j.value ->> 'h'`,
      json,
    ),
  );
}

/** A row of `selectMarks`: the mark, and when its person was erased (ms). */
export function toMark(raw: unknown): NameHash & { erasedAt: number } {
  const row = markRow.parse(raw);
  return { ws: row.ws, h: row.hash, erasedAt: row.erased_at };
}

/** Rows deleted per statement, and statements per night. */
const CHUNK = 5000;
const CHUNKS = 20;

/** Marks of a shard past their time (ms). Bounded; the next night goes on. */
export async function deleteMarks(db: Db, now: number): Promise<void> {
  for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
    const changed = await db.run(
      `DELETE FROM erased_identities WHERE (workspace_id, hash) IN (SELECT e.workspace_id, e.hash FROM erased_identities e
         WHERE e.expires_at <= ?1 ORDER BY e.expires_at LIMIT ${CHUNK})`,
      now,
    );
    if (changed < CHUNK) return;
  }
}
