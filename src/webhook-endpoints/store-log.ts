/**
 * The delivery log: a ring of chunks of many deliveries each. A run adds to the chunk under way, so that logging costs
 * one row per run and nothing is ever deleted: what the ring comes round to is overwritten.
 */
import { z } from "zod";
import { type Db, type Param, type Statement, statement } from "../platform/d1";
import { decodeCursor, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { type DeliveryEntry, deliveryEntry } from "./schema";
import type { Endpoint } from "./store";

/** Chunks per endpoint. */
const RING = 40;
/** A chunk is full with so many deliveries, or bytes. */
const CHUNK_ENTRIES = 50;
const CHUNK_BYTES = 250_000;

/**
 * Statements that add deliveries to the log where `condition` holds (its parameters are `?1` workspace, `?2` endpoint,
 * `?3`), and the chunk that is filled next, as SQL over `e`.
 */
export function appendEntries(
  entries: readonly DeliveryEntry[],
  condition: string,
  params: readonly [string, string, Param],
): { statements: Statement[]; nextChunk: string } {
  const pieces = inPieces(entries);
  if (pieces.length === 0) return { statements: [], nextChunk: "e.log_chunk" };
  const last = `e.log_chunk + ${pieces.length - 1}`;
  return {
    statements: pieces.map((piece, place) =>
      statement(
        `INSERT INTO webhook_deliveries (workspace_id, endpoint_id, slot, chunk, n, failed, entries)
         SELECT e.workspace_id, e.id, (e.log_chunk + ${place}) % ${RING}, e.log_chunk + ${place}, ?4, ?5, ?6
         FROM webhook_endpoints e WHERE e.workspace_id = ?1 AND e.id = ?2 AND ?3 IS NOT NULL AND ${condition}
         ON CONFLICT (workspace_id, endpoint_id, slot) DO UPDATE SET
           n = excluded.n + iif(webhook_deliveries.chunk = excluded.chunk, webhook_deliveries.n, 0),
           failed = excluded.failed + iif(webhook_deliveries.chunk = excluded.chunk, webhook_deliveries.failed, 0),
           entries = iif(webhook_deliveries.chunk = excluded.chunk, substr(webhook_deliveries.entries, 1, length(webhook_deliveries.entries) - 1)
             || ',' || substr(excluded.entries, 2), excluded.entries),
           chunk = excluded.chunk`,
        ...params,
        piece.length,
        piece.filter(({ outcome }) => outcome !== "delivered").length,
        JSON.stringify(piece),
      ),
    ),
    nextChunk: `${last} + COALESCE((SELECT d.n >= ${CHUNK_ENTRIES} OR length(d.entries) >= ${CHUNK_BYTES} FROM webhook_deliveries d
      WHERE d.workspace_id = e.workspace_id AND d.endpoint_id = e.id AND d.slot = (${last}) % ${RING}), 0)`,
  };
}

function inPieces(entries: readonly DeliveryEntry[]): DeliveryEntry[][] {
  const pieces: DeliveryEntry[][] = [];
  let size = 0;
  for (const entry of entries) {
    const bytes = JSON.stringify(entry).length;
    const current = pieces.at(-1);
    if (current && current.length < CHUNK_ENTRIES && size + bytes <= CHUNK_BYTES) {
      current.push(entry);
      size += bytes;
    } else {
      pieces.push([entry]);
      size = bytes;
    }
  }
  return pieces;
}

/** Logs a call that was made outside of a run: a test, or a single replay. */
export async function insertDelivery(db: Db, endpoint: Endpoint, entry: DeliveryEntry): Promise<void> {
  const log = appendEntries([entry], "1", [endpoint.workspaceId, endpoint.id, ""]);
  await db.batch([
    ...log.statements,
    statement(
      `UPDATE webhook_endpoints AS e SET log_chunk = ${log.nextChunk} WHERE e.workspace_id = ?1 AND e.id = ?2
         AND e.log_chunk <> ${log.nextChunk}`,
      endpoint.workspaceId,
      endpoint.id,
    ),
  ]);
}

const chunkRow = z.object({ chunk: z.number(), n: z.number(), failed: z.number() });
const entriesRow = z.object({ chunk: z.number(), entries: z.string() });
const place = z.tuple([z.int(), z.int()]);

/**
 * The deliveries of an endpoint, newest first, all or those of one outcome. A cursor is a place in the ring: what has
 * been overwritten meanwhile is left out.
 */
export async function pageDeliveries(
  db: Db,
  { workspaceId, id }: Endpoint,
  outcome: "delivered" | "failed" | undefined,
  query: PageQuery,
): Promise<Page<DeliveryEntry>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, place);
  const counts = (
    await db.all(
      "SELECT d.chunk, d.n, d.failed FROM webhook_deliveries d WHERE d.workspace_id = ?1 AND d.endpoint_id = ?2 ORDER BY d.chunk DESC",
      workspaceId,
      id,
    )
  ).map((row) => chunkRow.parse(row));
  const of = ({ n, failed }: z.infer<typeof chunkRow>) =>
    outcome === undefined ? n : outcome === "failed" ? failed : n - failed;
  let skip = after === null ? query.offset : 0;
  const rows: { entry: DeliveryEntry; key: [number, number] }[] = [];
  for (const chunk of counts) {
    if (rows.length > query.limit) break;
    if (of(chunk) === 0 || (after && chunk.chunk > after[0])) continue;
    if (after === null && skip >= of(chunk)) {
      skip -= of(chunk);
      continue;
    }
    const found = (await selectChunk(db, workspaceId, id, chunk.chunk)).map((entry, at) => ({
      entry,
      key: [chunk.chunk, at] as [number, number],
    }));
    const wanted = found.filter(
      ({ entry, key }) =>
        (outcome === undefined || (entry.outcome === "delivered") === (outcome === "delivered")) &&
        (after === null || key[0] < after[0] || key[1] < after[1]),
    );
    rows.push(...wanted.reverse().slice(skip));
    skip = 0;
  }
  const page = rows.slice(0, query.limit);
  const last = page.at(-1);
  return {
    rows: page.map(({ entry }) => entry),
    total: counts.reduce((sum, chunk) => sum + of(chunk), 0),
    totalIsLowerBound: false,
    nextCursor: rows.length > query.limit && last ? encodeCursor(last.key) : null,
  };
}

async function selectChunk(db: Db, workspaceId: string, id: string, chunk: number): Promise<DeliveryEntry[]> {
  const row = await db.first(
    `SELECT d.chunk, d.entries FROM webhook_deliveries d
     WHERE d.workspace_id = ?1 AND d.endpoint_id = ?2 AND d.slot = ?3 AND d.chunk = ?4`,
    workspaceId,
    id,
    chunk % RING,
    chunk,
  );
  return row ? z.array(deliveryEntry).parse(JSON.parse(entriesRow.parse(row).entries)) : [];
}

const foundRow = z.object({ entry: z.string() });

/** One logged delivery, as long as the ring holds it. */
export async function selectDelivery(db: Db, { workspaceId, id }: Endpoint, deliveryId: string) {
  const row = await db.first(
    `SELECT j.value AS entry FROM webhook_deliveries d CROSS JOIN json_each(d.entries) j
     WHERE d.workspace_id = ?1 AND d.endpoint_id = ?2 AND j.value ->> 'id' = ?3 LIMIT 1`,
    workspaceId,
    id,
    deliveryId,
  );
  return row ? deliveryEntry.parse(JSON.parse(foundRow.parse(row).entry)) : null;
}
