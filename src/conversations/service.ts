import { openConnection, resolveNumber } from "../phone-numbers/service";
import { isoMillis } from "../platform/clock";
import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { providerFor } from "../providers/registry";
import { publishEvents } from "../realtime/publish";
import { type Conversation, updateRead } from "./store";

export interface ReadResult {
  receipt: "sent" | "none" | "failed";
  error: string | null;
}

/**
 * Marks a thread read: for the team first, then for the person, whose phone shows the receipt. A receipt the provider
 * does not take changes nothing for the team, and the answer says so.
 */
export async function readConversation(
  rt: Runtime,
  db: Db,
  conversation: Conversation,
  typing: boolean,
): Promise<ReadResult> {
  const { workspaceId, id } = conversation;
  const now = rt.clock();
  const newest = await updateRead(db, workspaceId, id, now);
  const event = { type: "conversation.updated" as const, conversation_id: id, unread_count: 0, at: isoMillis(now) };
  const [result] = await Promise.all([
    newest === null
      ? ({ receipt: "none", error: null } as const)
      : sendReceipt(rt, db, conversation, newest.waMessageId, typing),
    publishEvents(rt, workspaceId, `read:${id}:${now}`, [event], db.bookmark).catch((error) => {
      log("warn", "live.publish_failed", { workspace_id: workspaceId, ...errorFields(error) });
    }),
  ]);
  return result;
}

async function sendReceipt(
  rt: Runtime,
  db: Db,
  conversation: Conversation,
  waMessageId: string,
  typing: boolean,
): Promise<ReadResult> {
  const number = await resolveNumber(db, conversation.workspaceId, conversation.phoneNumberId);
  if (!number) return { receipt: "failed", error: "The phone number was deleted" };
  const connection = await openConnection(rt, number);
  const answer = await providerFor(rt, number.provider).markRead(connection, waMessageId, typing, conversation.peer);
  if (answer.ok) return { receipt: "sent", error: null };
  return { receipt: "failed", error: answer.refused ? answer.error.title : answer.reason };
}
