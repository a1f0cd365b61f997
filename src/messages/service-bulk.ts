/**
 * Messages made in sets, for campaigns. They wait in a lane of their own, so that nobody's answer stands behind one, and
 * from there on the pipeline treats them as any other message.
 */
import { z } from "zod";
import type { Statement } from "../platform/d1";
import type { Runtime } from "../platform/runtime";
import { enqueueSends } from "./jobs";
import { type BulkRow, insertBulk, selectMade } from "./store-bulk";

export type { BulkRow } from "./store-bulk";
export { previewOf } from "./service-preview";

/**
 * The statements that make these messages within a transaction of the caller's; the last one answers which were made.
 * `mine` is SQL over `j.value ->> 'ws'` and `j.value ->> 'id'`: whether the transaction may make the row.
 */
export function bulkStatements(rows: readonly BulkRow[], now: number, mine: string): Statement[] {
  return [...insertBulk(rows, now, mine), selectMade(rows)];
}

const madeRow = z.object({ ws: z.string(), id: z.string(), number: z.string() });

/** After the transaction: a job for each message it made. A lost one is found by the sweep. Answers how many were made. */
export async function enqueueBulk(
  rt: Runtime,
  shardNumber: number,
  made: readonly Record<string, unknown>[],
): Promise<number> {
  const rows = made.map((raw) => madeRow.parse(raw));
  await enqueueSends(
    rt,
    rows.map(({ ws, id, number }) => ({
      job: { workspaceId: ws, shard: shardNumber, phoneNumberId: number, id },
      delayMs: 0,
    })),
  );
  return rows.length;
}
