import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, statement } from "../platform/d1";
import { decodeCursor, EXACT_TOTAL, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { conversations } from "./tables";

/** A thread with what its list shows of the contact. */
export interface Conversation extends InferSelectModel<typeof conversations> {
  contact: {
    id: string;
    name: string | null;
    phoneNumber: string | null;
    waId: string | null;
    userId: string | null;
    username: string | null;
    kind: "person" | "group";
  };
}

const COLUMNS = `${columnsOf(conversations, "v")}, c.name AS c_name, c.phone_number AS c_phone, c.wa_id AS c_wa, c.user_id AS c_user,
  c.username AS c_username, c.kind AS c_kind`;
const FROM = "conversations v JOIN contacts c ON c.workspace_id = v.workspace_id AND c.id = v.contact_id";

const contactRow = z.object({
  c_name: z.string().nullable(),
  c_phone: z.string().nullable(),
  c_wa: z.string().nullable(),
  c_user: z.string().nullable(),
  c_username: z.string().nullable(),
  c_kind: z.enum(["person", "group"]),
});

function toConversation(row: Record<string, unknown>): Conversation {
  const contact = contactRow.parse(row);
  const conversation = fromRow(conversations, row);
  return {
    ...conversation,
    contact: {
      id: conversation.contactId,
      name: contact.c_name,
      phoneNumber: contact.c_phone,
      waId: contact.c_wa,
      userId: contact.c_user,
      username: contact.c_username,
      kind: contact.c_kind,
    },
  };
}

const inboxCursor = z.tuple([z.number(), z.string()]);
const inboxPlace = z.object({ last_message_at: z.number(), id: z.string() });
const countRow = z.object({ n: z.number(), scanned: z.number() });
/** A filtered page stops after this many rows read, with a cursor to go on from (pipeline 19). */
const MAX_SCANNED = 2000;

/** The inbox of a workspace, newest first, optionally of one number or only what is (or is not) unread. */
export async function pageConversations(
  db: Db,
  workspaceId: string,
  filter: { phoneNumberId?: string; unread?: boolean },
  query: PageQuery,
): Promise<Page<Conversation>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, inboxCursor);
  const filtered = filter.phoneNumberId !== undefined || filter.unread !== undefined;
  const offset = after === null ? query.offset : 0;
  // Merged threads stand below zero. A condition that may be absent is no bound for an index: each has its statement.
  const walk = `SELECT id, phone_number_id, unread_count, last_message_at FROM conversations INDEXED BY conversations_inbox
    WHERE workspace_id = ?1 AND last_message_at >= 0 ${after === null ? "" : "AND (last_message_at, id) < (?2, ?3)"}
    ORDER BY last_message_at DESC, id DESC`;
  const place = [workspaceId, ...(after ?? [])];
  const matches = (first: number) =>
    `(?${first} IS NULL OR s.phone_number_id = ?${first}) AND (?${first + 1} IS NULL OR (s.unread_count > 0) = ?${first + 1})`;
  const wanted = [filter.phoneNumberId ?? null, filter.unread === undefined ? null : Number(filter.unread)];
  const [rows, total, end] = await db.batch([
    statement(
      `SELECT ${COLUMNS} FROM (${walk} LIMIT ${filtered ? MAX_SCANNED : query.limit + 1 + offset}) s CROSS JOIN ${FROM}
       WHERE v.workspace_id = ?1 AND v.id = s.id AND ${matches(place.length + 1)}
       ORDER BY s.last_message_at DESC, s.id DESC LIMIT ${query.limit + 1} OFFSET ${offset}`,
      ...place,
      ...wanted,
    ),
    filtered
      ? statement(
          `SELECT count(CASE WHEN ${matches(2)} THEN 1 END) AS n, count(*) AS scanned FROM (SELECT phone_number_id, unread_count
             FROM conversations INDEXED BY conversations_inbox WHERE workspace_id = ?1 AND last_message_at >= 0
             ORDER BY last_message_at DESC, id DESC LIMIT ${EXACT_TOTAL}) s`,
          workspaceId,
          ...wanted,
        )
      : statement(
          "SELECT n, 0 AS scanned FROM list_totals WHERE workspace_id = ?1 AND list = 'conversations'",
          workspaceId,
        ),
    // Where a full walk ended: a page that the filter left short, even empty, may still have a next one.
    ...(filtered ? [statement(`${walk} LIMIT 1 OFFSET ${MAX_SCANNED - 1}`, ...place)] : []),
  ]);
  const found = (rows?.results ?? []).map(toConversation);
  const { n, scanned } = countRow.parse(total?.results[0] ?? { n: 0, scanned: 0 });
  const last = found[query.limit - 1];
  const walked = end?.results[0] && inboxPlace.parse(end.results[0]);
  return {
    rows: found.slice(0, query.limit),
    total: n,
    totalIsLowerBound: scanned >= EXACT_TOTAL,
    nextCursor:
      found.length > query.limit && last
        ? encodeCursor([last.lastMessageAt, last.id])
        : walked
          ? encodeCursor([walked.last_message_at, walked.id])
          : null,
  };
}

/** A thread by id; of one that was merged, the thread that took its messages over. */
export async function selectConversation(db: Db, workspaceIds: string[], id: string): Promise<Conversation | null> {
  const row = await db.first(
    `SELECT ${COLUMNS} FROM json_each(?1) j CROSS JOIN conversations o CROSS JOIN ${FROM}
     WHERE o.workspace_id = j.value AND o.id = ?2 AND v.workspace_id = o.workspace_id AND v.id = COALESCE(o.merged_into, o.id)`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && toConversation(row);
}

/** At most this many inbound messages become `read` with one call; older ones stay `delivered`. */
const MAX_READ = 500;
/** How far back in a thread they are looked for. */
const MAX_LOOKED_AT = 2000;

/**
 * Everything in the thread up to now is read: the count goes to 0 and inbound rows show `read`. Answers the newest
 * inbound message, whose receipt covers the earlier ones (facts 1.2); null when there is none.
 */
export async function updateRead(
  db: Db,
  workspaceId: string,
  id: string,
  now: number,
): Promise<{ waMessageId: string } | null> {
  const [newest] = await db.batch([
    // The thread knows the time of its newest inbound message: however much was sent since, it is found at once.
    statement(
      `SELECT m.wa_message_id AS wa FROM conversations v CROSS JOIN messages m INDEXED BY messages_thread
       WHERE v.workspace_id = ?1 AND v.id = ?2 AND m.workspace_id = ?1 AND m.conversation_id = ?2 AND m.at = v.last_inbound_at
         AND m.direction = 'inbound' AND m.origin = 'live'
       ORDER BY m.received_at DESC, m.position DESC, m.id DESC LIMIT 1`,
      workspaceId,
      id,
    ),
    // As many as are unread, from the newest on: the walk ends where the last of them is found.
    statement(
      `UPDATE messages SET status = 'read', read_at = ?3 WHERE workspace_id = ?1 AND id IN
         (SELECT t.id FROM (SELECT m.id, m.direction, m.status FROM messages m INDEXED BY messages_thread
            WHERE m.workspace_id = ?1 AND m.conversation_id = ?2
            ORDER BY m.at DESC, m.received_at DESC, m.position DESC, m.id DESC LIMIT ${MAX_LOOKED_AT}) t
          WHERE t.direction = 'inbound' AND t.status = 'delivered'
          LIMIT (SELECT MIN(${MAX_READ}, v.unread_count) FROM conversations v WHERE v.workspace_id = ?1 AND v.id = ?2))`,
      workspaceId,
      id,
      now,
    ),
    statement(
      "UPDATE conversations SET unread_count = 0, read_at = ?3, updated_at = ?3 WHERE workspace_id = ?1 AND id = ?2 AND unread_count > 0",
      workspaceId,
      id,
      now,
    ),
  ]);
  const row = z.object({ wa: z.string() }).safeParse(newest?.results[0]);
  return row.success ? { waMessageId: row.data.wa } : null;
}
