import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, type Param, type Statement, statement } from "../platform/d1";
import { claimKey, holderOf, holderRow, type IdempotencyClaim } from "../platform/idempotency";
import { type messageEvents, messages } from "./tables";

export type Message = InferSelectModel<typeof messages>;
export type MessageEvent = InferSelectModel<typeof messageEvents>;

export const MESSAGE_COLUMNS = columnsOf(messages, "m");

export function toMessage(row: Record<string, unknown>): Message {
  return fromRow(messages, row);
}

/** Who a send goes to, as far as the workspace knows them. */
export interface KnownRecipient {
  contactId: string;
  phoneNumber: string | null;
  waId: string | null;
  userId: string | null;
  kind: "person" | "group";
  optedOutAt: number | null;
  /** The contact's threads, one per number of ours. */
  threads: { id: string; phoneNumberId: string; peer: string; lastInboundAt: number | null }[];
}

export interface RecipientReads {
  recipient: KnownRecipient | null;
  /** The conversation the caller named, when there is one. */
  conversation: { id: string; phoneNumberId: string; contactId: string } | null;
  /** The message a reply answers. */
  repliedTo: { waMessageId: string | null; contactId: string; phoneNumberId: string } | null;
  workspace: { status: string; settings: Record<string, unknown> } | null;
  /** The row of the number that was asked for. */
  number: Record<string, unknown> | null;
  /** Who holds the call's idempotency key now; `message` is null when that message is gone. */
  holder: { hash: string; message: Message | null } | null;
}

export type RecipientKey =
  | { kind: "phone"; digits: string }
  | { kind: "contact"; id: string }
  | { kind: "conversation"; id: string };

const recipientRow = z.object({
  id: z.string(),
  phone_number: z.string().nullable(),
  wa_id: z.string().nullable(),
  user_id: z.string().nullable(),
  kind: z.enum(["person", "group"]),
  opted_out_at: z.number().nullable(),
});
const threadRow = z.object({
  id: z.string(),
  phone_number_id: z.string(),
  contact_id: z.string(),
  peer: z.string(),
  last_inbound_at: z.number().nullable(),
});
const stateRow = z.object({ status: z.string(), settings: z.string() });
const repliedRow = z.object({
  wa_message_id: z.string().nullable(),
  contact_id: z.string(),
  phone_number_id: z.string(),
});

/** The contact a key means, following merges; `?1` is the workspace, `?2` the key's value. */
function contactIdSql(key: RecipientKey): string {
  switch (key.kind) {
    case "phone":
      // A person's own phone identity wins over a WhatsApp id with the same digits.
      return `(SELECT i.contact_id FROM contact_identities i WHERE i.workspace_id = ?1 AND i.kind IN ('phone', 'wa') AND i.value = ?2
              ORDER BY i.kind LIMIT 1)`;
    case "contact":
      return "(SELECT COALESCE(k.merged_into, k.id) FROM contacts k WHERE k.workspace_id = ?1 AND k.id = ?2 AND (k.deleted_at IS NULL OR k.merged_into IS NOT NULL))";
    case "conversation":
      return `(SELECT COALESCE(k.merged_into, k.id) FROM conversations v JOIN contacts k ON k.workspace_id = v.workspace_id AND k.id = v.contact_id
              WHERE v.workspace_id = ?1 AND v.id = ?2)`;
  }
}

/**
 * Everything a send must know of its recipient, its number (which `number` asks for) and whether it was accepted before,
 * in one round trip.
 */
export async function selectRecipient(
  db: Db,
  workspaceId: string,
  key: RecipientKey,
  replyTo: string | null,
  number: Statement,
  idempotency: { key: string; now: number } | null = null,
): Promise<RecipientReads> {
  const value = key.kind === "phone" ? key.digits : key.id;
  const contactId = contactIdSql(key);
  const [contact, threads, named, replied, state, sender, held] = await db.batch([
    statement(
      `SELECT c.id, c.phone_number, c.wa_id, c.user_id, c.kind, c.opted_out_at FROM contacts c
       WHERE c.workspace_id = ?1 AND c.id = ${contactId}`,
      workspaceId,
      value,
    ),
    statement(
      // Named, because the planner takes a workspace for a few rows and would read all of its conversations.
      `SELECT v.id, v.phone_number_id, v.contact_id, v.peer, v.last_inbound_at FROM conversations v INDEXED BY conversations_pair
       WHERE v.workspace_id = ?1 AND v.contact_id = ${contactId} AND v.merged_into IS NULL`,
      workspaceId,
      value,
    ),
    statement(
      "SELECT v.id, v.phone_number_id, v.contact_id, v.peer, v.last_inbound_at FROM conversations v WHERE v.workspace_id = ?1 AND v.id = ?2",
      workspaceId,
      key.kind === "conversation" ? key.id : "",
    ),
    statement(
      "SELECT m.wa_message_id, m.contact_id, m.phone_number_id FROM messages m WHERE m.workspace_id = ?1 AND m.id = ?2",
      workspaceId,
      replyTo ?? "",
    ),
    statement("SELECT status, settings FROM workspace_states WHERE workspace_id = ?1", workspaceId),
    number,
    ...(idempotency === null
      ? []
      : [
          statement(
            `SELECT y.hash AS holder_hash, ${MESSAGE_COLUMNS} FROM idempotency y
             LEFT JOIN messages m ON m.workspace_id = y.workspace_id AND m.id = y.ref
             WHERE y.workspace_id = ?1 AND y.key = ?2 AND y.expires_at > ?3`,
            workspaceId,
            idempotency.key,
            idempotency.now,
          ),
        ]),
  ]);
  const holder = held?.results[0];
  const found = recipientRow.nullable().parse(contact?.results[0] ?? null);
  const conversation = threadRow.nullable().parse(named?.results[0] ?? null);
  const repliedTo = repliedRow.nullable().parse(replied?.results[0] ?? null);
  const workspace = stateRow.nullable().parse(state?.results[0] ?? null);
  return {
    recipient: found && {
      contactId: found.id,
      phoneNumber: found.phone_number,
      waId: found.wa_id,
      userId: found.user_id,
      kind: found.kind,
      optedOutAt: found.opted_out_at,
      threads: (threads?.results ?? []).map((row) => {
        const thread = threadRow.parse(row);
        return {
          id: thread.id,
          phoneNumberId: thread.phone_number_id,
          peer: thread.peer,
          lastInboundAt: thread.last_inbound_at,
        };
      }),
    },
    conversation: conversation && {
      id: conversation.id,
      phoneNumberId: conversation.phone_number_id,
      contactId: conversation.contact_id,
    },
    repliedTo: repliedTo && {
      waMessageId: repliedTo.wa_message_id,
      contactId: repliedTo.contact_id,
      phoneNumberId: repliedTo.phone_number_id,
    },
    workspace: workspace && {
      status: workspace.status,
      settings: z.record(z.string(), z.unknown()).parse(JSON.parse(workspace.settings)),
    },
    number: sender?.results[0] ?? null,
    holder: holder
      ? { hash: z.string().parse(holder.holder_hash), message: holder.id === null ? null : toMessage(holder) }
      : null,
  };
}

/** A message about to be accepted, with the rows it needs where they are missing. */
export interface Acceptance {
  message: Message;
  preview: string;
  /** Set when the recipient is not known yet. */
  newContact: { id: string; phoneNumber: string; digits: string } | null;
  /** Used unless the pair has a conversation by then. */
  conversation: { id: string; peer: string };
  claim: IdempotencyClaim | null;
}

export type AcceptResult =
  | { kind: "accepted"; message: Message }
  | { kind: "replayed"; message: Message }
  | { kind: "key_conflict" }
  | { kind: "gone" };

/**
 * Accepts a message in one batch: the key first, then contact, conversation and message as far as they are missing,
 * each only if the key is ours (pipeline 1). 5 rows for a known pair, 1 for the key, 1 for the list's total.
 */
export async function insertAccepted(db: Db, acceptance: Acceptance, now: number): Promise<AcceptResult> {
  const { message, claim, newContact, conversation } = acceptance;
  const ws = message.workspaceId;
  const statements: Statement[] = [];
  // Every later statement is bound to "the key is mine"; without a key it is bound to nothing.
  const mine = claim
    ? "EXISTS (SELECT 1 FROM idempotency y WHERE y.workspace_id = ?1 AND y.key = ?2 AND y.ref = ?3)"
    : "?1 IS NOT NULL AND ?2 = '' AND ?3 IS NOT NULL";
  const key: Param[] = [ws, claim?.key ?? "", message.id];
  if (claim) statements.push(claimKey(claim, now));
  if (newContact) {
    statements.push(
      statement(
        `INSERT INTO contacts (workspace_id, id, kind, phone_number, wa_id, tags, opted_in, source, created_at, updated_at)
         SELECT ?1, ?4, 'person', ?5, ?6, '[]', 0, 'message', ?7, ?7
         WHERE ${mine} AND NOT EXISTS (SELECT 1 FROM contact_identities i
           WHERE i.workspace_id = ?1 AND i.kind IN ('phone', 'wa') AND i.value = ?6)`,
        ...key,
        newContact.id,
        newContact.phoneNumber,
        newContact.digits,
        now,
      ),
      statement(
        `INSERT INTO contact_identities (workspace_id, kind, value, contact_id)
         SELECT ?1, k.value, ?4, ?2 FROM json_each('["phone","wa"]') k
         WHERE EXISTS (SELECT 1 FROM contacts c WHERE c.workspace_id = ?1 AND c.id = ?2 AND ?3 IS NOT NULL)
         ON CONFLICT DO NOTHING`,
        ws,
        newContact.id,
        message.id,
        newContact.digits,
      ),
    );
  }
  const contactId = newContact
    ? "(SELECT i.contact_id FROM contact_identities i WHERE i.workspace_id = ?1 AND i.kind IN ('phone', 'wa') AND i.value = ?4 ORDER BY i.kind LIMIT 1)"
    : "?4";
  const contactKey = newContact ? newContact.digits : message.contactId;
  statements.push(
    statement(
      `INSERT INTO conversations (workspace_id, id, phone_number_id, contact_id, peer, last_message_at, unread_count,
         message_count, status, created_at, updated_at)
       SELECT ?1, ?5, ?6, ${contactId}, ?7, ?8, 0, 0, 'open', ?8, ?8 WHERE ${mine} AND ${contactId} IS NOT NULL
       ON CONFLICT (workspace_id, contact_id, phone_number_id) DO NOTHING`,
      ...key,
      contactKey,
      conversation.id,
      message.phoneNumberId,
      conversation.peer,
      now,
    ),
    statement(
      `INSERT INTO messages (workspace_id, id, phone_number_id, conversation_id, contact_id, direction, origin, type,
         content, status, to_number, to_user, from_number, reply_to, category, lane, open, seq, not_before, expires_at,
         scheduled_at, attempts, failures, at, received_at, position, created_at)
       SELECT ?1, ?3, v.phone_number_id, COALESCE(v.merged_into, v.id), v.contact_id, 'outbound', 'api', ?6,
         ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
         ?19, 0, 0, ?20, ?20, 0, ?20
       FROM conversations v WHERE v.workspace_id = ?1 AND v.phone_number_id = ?5 AND v.contact_id = ${contactId} AND ${mine}`,
      ...key,
      contactKey,
      message.phoneNumberId,
      message.type,
      JSON.stringify(message.content),
      message.status,
      message.toNumber,
      message.toUser,
      message.fromNumber,
      message.replyTo,
      message.category,
      message.lane,
      message.open,
      message.seq,
      message.notBefore,
      message.expiresAt,
      message.scheduledAt,
      now,
    ),
    // A scheduled message enters its thread's head when it leaves, not when it is planned.
    statement(
      `UPDATE conversations SET message_count = message_count + 1, updated_at = ?3,
         last_message_id = CASE WHEN ?4 IS NULL THEN ?2 ELSE last_message_id END,
         last_message_direction = CASE WHEN ?4 IS NULL THEN 'outbound' ELSE last_message_direction END,
         last_message_preview = CASE WHEN ?4 IS NULL THEN ?5 ELSE last_message_preview END,
         last_message_at = CASE WHEN ?4 IS NULL THEN MAX(last_message_at, ?3) ELSE last_message_at END
       WHERE workspace_id = ?1 AND id = (SELECT m.conversation_id FROM messages m WHERE m.workspace_id = ?1 AND m.id = ?2)`,
      ws,
      message.id,
      now,
      message.scheduledAt,
      acceptance.preview,
    ),
    ...addTotals(ws, message.id, conversation.id, newContact?.id ?? null),
  );
  if (claim) statements.push(holderOf(claim));
  statements.push(
    statement(
      `SELECT ${MESSAGE_COLUMNS} FROM messages m WHERE m.workspace_id = ?1 AND m.id = COALESCE((SELECT y.ref FROM idempotency y
         WHERE y.workspace_id = ?1 AND y.key = ?2), ?3)`,
      ...key,
    ),
  );
  const results = await db.batch(statements);
  const row = results.at(-1)?.results[0];
  const stored = row ? toMessage(row) : null;
  if (claim) {
    const holder = holderRow.parse(results.at(-2)?.results[0]);
    if (holder.hash !== claim.hash) return { kind: "key_conflict" };
    if (holder.ref !== claim.ref) return stored ? { kind: "replayed", message: stored } : { kind: "gone" };
  }
  return stored ? { kind: "accepted", message: stored } : { kind: "gone" };
}

/** Totals of the lists that grew, told by the ids minted for this call: one row written when only a message is new. */
function addTotals(ws: string, messageId: string, conversationId: string, contactId: string | null): Statement[] {
  const grow = (list: string, table: string, id: string) =>
    statement(
      `INSERT INTO list_totals (workspace_id, list, n)
       SELECT ?1, '${list}', 1 WHERE EXISTS (SELECT 1 FROM ${table} t WHERE t.workspace_id = ?1 AND t.id = ?2)
       ON CONFLICT (workspace_id, list) DO UPDATE SET n = n + 1`,
      ws,
      id,
    );
  return [
    grow("messages", "messages", messageId),
    grow("conversations", "conversations", conversationId),
    ...(contactId ? [grow("contacts", "contacts", contactId)] : []),
  ];
}

/** One message by id among several workspaces of one shard. */
export async function selectMessage(db: Db, workspaceIds: string[], id: string): Promise<Message | null> {
  const row = await db.first(
    `SELECT ${MESSAGE_COLUMNS} FROM messages m
     WHERE (m.workspace_id, m.id) IN (SELECT j.value, ?2 FROM json_each(?1) j)`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && toMessage(row);
}
