/** Lists of messages: the workspace by age, a conversation, a contact's threads (pipeline 19). */
import { z } from "zod";
import { columnsOf, type Db, fromRow, jsonChunks, type Param, type Statement, statement } from "../platform/d1";
import { decodeCursor, EXACT_TOTAL, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { MESSAGE_COLUMNS, type Message, type MessageEvent, toMessage } from "./store";
import { messageEvents } from "./tables";

export interface MessageFilter {
  conversationId?: string;
  contactId?: string;
  phoneNumberId?: string;
  direction?: "inbound" | "outbound";
  status?: string;
  type?: string;
  since?: number;
  until?: number;
}

/** A page stops looking after this many rows when its filters match few of them (pipeline 19). */
const MAX_SCANNED = 2000;

/** Sort key of the list by age: the id (UUIDv7). */
const idCursor = z.tuple([z.string()]);
/** Sort key of a thread: provider time, arrival, place, id (pipeline 13). */
const threadCursor = z.tuple([z.number(), z.number(), z.number(), z.string()]);

interface Residual {
  sql: string;
  params: Param[];
  any: boolean;
}

function residual(filter: MessageFilter): Residual {
  const parts: string[] = [];
  const params: Param[] = [];
  const add = (sql: string, value: Param | undefined) => {
    if (value === undefined) return;
    params.push(value);
    parts.push(sql);
  };
  // A conversation drives the list; then its contact is a filter like any other.
  if (filter.conversationId !== undefined) add("s.contact_id = ?", filter.contactId);
  add("s.phone_number_id = ?", filter.phoneNumberId);
  add("s.direction = ?", filter.direction);
  add("s.status = ?", filter.status);
  add("s.type = ?", filter.type);
  add("s.at >= ?", filter.since);
  add("s.at < ?", filter.until);
  return { sql: parts.length === 0 ? "1" : parts.join(" AND "), params, any: parts.length > 0 };
}

/**
 * Messages of a workspace, newest first. Driven by the conversation's index, by the contact's threads, or by the
 * key (age); every other filter is residual over at most 2,000 rows a page, after which `next_cursor` goes on.
 */
export async function pageMessages(
  db: Db,
  workspaceId: string,
  filter: MessageFilter,
  query: PageQuery,
): Promise<Page<Message>> {
  if (filter.conversationId !== undefined) {
    return pageOver(db, {
      ...inThreads(
        "conversations v WHERE v.workspace_id = ? AND v.id = ?",
        [workspaceId, filter.conversationId],
        query,
      ),
      rest: residual(filter),
      query,
    });
  }
  if (filter.contactId !== undefined) {
    return pageOver(db, {
      // Named, because the planner takes a workspace for a few rows and would read all of its conversations.
      ...inThreads(
        "conversations v INDEXED BY conversations_pair WHERE v.workspace_id = ? AND v.contact_id = ?",
        [workspaceId, filter.contactId],
        query,
      ),
      rest: residual(filter),
      query,
    });
  }
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, idCursor);
  const cursor = after ? "AND m.id < ?" : "";
  return pageOver(db, {
    scan: (limit, from) => ({
      sql: `SELECT m.* FROM messages m WHERE m.workspace_id = ? ${from ? cursor : ""} ORDER BY m.id DESC LIMIT ${limit}`,
      params: from && after ? [workspaceId, ...after] : [workspaceId],
    }),
    order: ["id"],
    rest: residual(filter),
    query,
    total: statement("SELECT n FROM list_totals WHERE workspace_id = ?1 AND list = 'messages'", workspaceId),
  });
}

/**
 * The newest rows of one or several threads. Each thread is read from its own end and no further than the page can
 * reach: an IN over threads would read every message of all of them and sort.
 */
function inThreads(
  which: `conversations v${string} WHERE ${string}`,
  threads: Param[],
  query: PageQuery,
): Pick<PageParts, "scan" | "order" | "total"> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, threadCursor);
  const of = (alias: string, from: boolean) =>
    `${alias}.workspace_id = v.workspace_id AND ${alias}.conversation_id = v.id` +
    (from && after ? ` AND (${alias}.at, ${alias}.received_at, ${alias}.position, ${alias}.id) < (?, ?, ?, ?)` : "");
  return {
    scan: (limit, from) => ({
      sql: `SELECT m.* FROM (SELECT v.workspace_id, v.id FROM ${which}) v CROSS JOIN messages m INDEXED BY messages_thread
        WHERE ${of("m", from)}
          AND m.at >= COALESCE((SELECT x.at FROM messages x INDEXED BY messages_thread WHERE ${of("x", from)}
            ORDER BY x.at DESC, x.received_at DESC, x.position DESC, x.id DESC LIMIT 1 OFFSET ${limit - 1}), -1)
        ORDER BY m.at DESC, m.received_at DESC, m.position DESC, m.id DESC LIMIT ${limit}`,
      params: from && after ? [...threads, ...after, ...after] : threads,
    }),
    order: ["at", "received_at", "position", "id"],
    total: statement(`SELECT COALESCE(sum(v.message_count), 0) AS n FROM ${which}`, ...threads),
  };
}

interface PageParts {
  /** At most `limit` of the driving rows, newest first: from the cursor on, or of the whole list. */
  scan: (limit: number, fromCursor: boolean) => Statement;
  /** Columns of the sort key, all descending; the cursor is their values. */
  order: readonly ["id"] | readonly ["at", "received_at", "position", "id"];
  rest: Residual;
  query: PageQuery;
  /** The kept total of the driving rows. */
  total: Statement;
}

const pageEnd = z.object({ n: z.number(), last: z.string().nullable() });
const pageTotal = z.object({ n: z.number(), seen: z.number().optional() });
const pageKey = z.array(z.union([z.string(), z.number()]));

async function pageOver(db: Db, parts: PageParts): Promise<Page<Message>> {
  const { query, rest } = parts;
  const take = query.limit + 1;
  const offset = query.cursor === undefined ? query.offset : 0;
  // An offset has no cursor to go on from, so it looks as far as the total does.
  const reach = rest.any ? (offset > 0 ? EXACT_TOTAL : MAX_SCANNED) : take + offset;
  const page = parts.scan(reach, true);
  const whole = parts.scan(EXACT_TOTAL + 1, false);
  const sorted = (direction: "DESC" | "ASC") => parts.order.map((column) => `s.${column} ${direction}`).join(", ");
  const key = `json_array(${parts.order.map((column) => `s.${column}`).join(", ")})`;
  const results = await db.batch([
    statement(
      `SELECT ${MESSAGE_COLUMNS.replaceAll("m.", "s.")}, ${key} AS page_key FROM (${page.sql}) s
       WHERE ${rest.sql} ORDER BY ${sorted("DESC")} LIMIT ${take} OFFSET ${offset}`,
      ...page.params,
      ...rest.params,
    ),
    // The total is of the whole list, wherever in it the page begins.
    rest.any
      ? statement(
          `WITH s AS (${whole.sql}) SELECT count(*) AS seen, count(CASE WHEN ${rest.sql} THEN 1 END) AS n FROM s`,
          ...whole.params,
          ...rest.params,
        )
      : parts.total,
    // Where the scan ended, for a page that filters left short: an empty page may still have a next one.
    ...(rest.any
      ? [
          statement(
            `WITH s AS (${page.sql}) SELECT (SELECT count(*) FROM s) AS n, (SELECT ${key} FROM s ORDER BY ${sorted("ASC")} LIMIT 1) AS last`,
            ...page.params,
          ),
        ]
      : []),
  ]);
  const found = results[0]?.results ?? [];
  const { n, seen = 0 } = pageTotal.parse(results[1]?.results[0] ?? { n: 0 });
  const end = rest.any ? pageEnd.parse(results[2]?.results[0]) : null;
  const last = found.length > query.limit ? found[query.limit - 1]?.page_key : end?.n === reach ? end.last : null;
  return {
    rows: found.slice(0, query.limit).map(toMessage),
    total: rest.any ? Math.min(n, EXACT_TOTAL) : n,
    totalIsLowerBound: seen > EXACT_TOTAL,
    nextCursor: last == null ? null : encodeCursor(pageKey.parse(JSON.parse(String(last)))),
  };
}

/** Reactions, edits and revokes of a page's messages, in one read. */
export async function selectMessageEvents(db: Db, page: readonly Message[]): Promise<MessageEvent[]> {
  const targets = page
    .filter((m) => m.waMessageId !== null)
    .map((m) => ({ n: m.phoneNumberId, t: m.waMessageId, w: m.workspaceId }));
  if (targets.length === 0) return [];
  const [json] = jsonChunks(targets);
  const rows = await db.all(
    `SELECT ${columnsOf(messageEvents, "e")} FROM json_each(?1) j CROSS JOIN message_events e
     WHERE e.phone_number_id = j.value ->> 'n' AND e.target = j.value ->> 't' AND e.workspace_id = j.value ->> 'w'`,
    json ?? "[]",
  );
  return rows.map((row) => fromRow(messageEvents, row));
}
