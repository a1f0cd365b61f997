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
/** A filtered page stops after this many rows read (pipeline 19). */
const MAX_SCANNED = 2000;

/** The inbox of a workspace, newest first, optionally of one number or only what is unread. */
export async function pageConversations(
  db: Db,
  workspaceId: string,
  filter: { phoneNumberId?: string; unread?: boolean },
  query: PageQuery,
): Promise<Page<Conversation>> {
  const after = query.cursor === undefined ? null : decodeCursor(query.cursor, inboxCursor);
  const filtered = filter.phoneNumberId !== undefined || filter.unread !== undefined;
  const offset = after === null ? query.offset : 0;
  const scanned = `SELECT * FROM conversations WHERE workspace_id = ?1 AND (?2 IS NULL OR (last_message_at, id) < (?2, ?3))
    ORDER BY last_message_at DESC, id DESC LIMIT ${filtered ? MAX_SCANNED : query.limit + 1 + offset + MERGED_SLACK}`;
  const matches = `v.merged_into IS NULL AND (?4 IS NULL OR v.phone_number_id = ?4) AND (?5 IS NULL OR (v.unread_count > 0) = ?5)`;
  const params = [
    workspaceId,
    after?.[0] ?? null,
    after?.[1] ?? null,
    filter.phoneNumberId ?? null,
    filter.unread === undefined ? null : Number(filter.unread),
  ];
  const [rows, total] = await db.batch([
    statement(
      `SELECT ${COLUMNS} FROM (${scanned}) v JOIN contacts c ON c.workspace_id = v.workspace_id AND c.id = v.contact_id WHERE ${matches}
       ORDER BY v.last_message_at DESC, v.id DESC LIMIT ${query.limit + 1} OFFSET ${offset}`,
      ...params,
    ),
    filtered
      ? statement(
          `SELECT count(*) AS n FROM (SELECT 1 FROM conversations v WHERE v.workspace_id = ?1 AND ${matches} AND ?2 IS ?2 AND ?3 IS ?3 LIMIT ${EXACT_TOTAL})`,
          ...params,
        )
      : statement("SELECT n FROM list_totals WHERE workspace_id = ?1 AND list = 'conversations'", workspaceId),
  ]);
  const found = (rows?.results ?? []).map(toConversation);
  const last = found[query.limit - 1];
  const n = z.number().parse(total?.results[0]?.n ?? 0);
  return {
    rows: found.slice(0, query.limit),
    total: n,
    totalIsLowerBound: filtered && n >= EXACT_TOTAL,
    nextCursor: found.length > query.limit && last ? encodeCursor([last.lastMessageAt, last.id]) : null,
  };
}

/** Merged threads stay in the index until they are purged; a page looks this far past them. */
const MERGED_SLACK = 20;

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
    statement(
      `SELECT m.wa_message_id AS wa FROM messages m WHERE m.workspace_id = ?1 AND m.conversation_id = ?2 AND m.direction = 'inbound' AND m.origin = 'live'
       ORDER BY m.at DESC, m.received_at DESC, m.position DESC, m.id DESC LIMIT 1`,
      workspaceId,
      id,
    ),
    statement(
      `UPDATE messages SET status = 'read', read_at = ?3 WHERE workspace_id = ?1 AND direction = 'inbound' AND status = 'delivered' AND id IN
         (SELECT m.id FROM messages m WHERE m.workspace_id = ?1 AND m.conversation_id = ?2
          ORDER BY m.at DESC, m.received_at DESC, m.position DESC, m.id DESC LIMIT (SELECT MIN(${MAX_READ}, 2 * v.unread_count + 20)
            FROM conversations v WHERE v.workspace_id = ?1 AND v.id = ?2))`,
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
