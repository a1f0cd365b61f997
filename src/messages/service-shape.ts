import type { z } from "@hono/zod-openapi";
import type { MessageMedia } from "../media/schema";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import type { messageResource, messageStatusResource } from "./schema";
import type { Message, MessageEvent } from "./store";

/** A message as the API shows it, with what came after it (reactions, edits, a revoke) and the file it carries. */
export function shapeMessage(
  message: Message,
  events: readonly MessageEvent[] = [],
  files: ReadonlyMap<string, MessageMedia> = new Map(),
): z.input<typeof messageResource> {
  const own = events.filter((e) => e.phoneNumberId === message.phoneNumberId && e.target === message.waMessageId);
  const edit = own.find((e) => e.kind === "edit");
  const revoke = own.find((e) => e.kind === "revoke");
  return {
    id: message.id,
    workspace_id: message.workspaceId,
    phone_number_id: message.phoneNumberId,
    conversation_id: message.conversationId,
    contact_id: message.contactId,
    wa_message_id: message.waMessageId,
    direction: message.direction,
    from_number: message.fromNumber,
    to_number: message.toNumber,
    type: message.type,
    status: message.status,
    content:
      edit && typeof edit.payload.content === "object"
        ? (edit.payload.content as Record<string, unknown>)
        : message.content,
    media: files.get(message.id) ?? null,
    origin: message.origin,
    reply_to: message.replyTo,
    // While a retry is waiting, the last refusal is nobody's business: the message has not failed.
    error: message.status === "failed" ? message.error : null,
    pricing: message.pricing,
    reactions: own
      .filter((e) => e.kind === "reaction" && typeof e.payload.emoji === "string" && e.payload.emoji !== "")
      .map((e) => ({ from: e.actor, emoji: String(e.payload.emoji), at: isoSeconds(e.at) })),
    participants: participantsOf(own),
    edited_at: isoSecondsOrNull(edit?.at),
    revoked_at: isoSecondsOrNull(revoke?.at),
    scheduled_at: isoSecondsOrNull(message.scheduledAt),
    created_at: isoSeconds(message.createdAt),
    sent_at: isoSecondsOrNull(message.sentAt),
    delivered_at: isoSecondsOrNull(message.deliveredAt),
    read_at: isoSecondsOrNull(message.readAt),
    failed_at: isoSecondsOrNull(message.failedAt),
  };
}

/** In a group everybody has a status of their own (pipeline 14): how many it reached. Null where nobody's was told. */
function participantsOf(own: readonly MessageEvent[]): { delivered: number; read: number; failed: number } | null {
  const told = own.filter((e) => e.kind === "group_status");
  const among = (...statuses: string[]) =>
    new Set(told.filter((e) => statuses.includes(String(e.payload.status))).map((e) => e.payload.participant)).size;
  // Who read it got it, whether or not that was told.
  return told.length === 0
    ? null
    : { delivered: among("delivered", "read"), read: among("read"), failed: among("failed") };
}

/**
 * A message as its acceptance answered it, however far it has come since: the same key and body get the first answer
 * again (product 2).
 */
export function shapeAccepted(
  message: Message,
  files: ReadonlyMap<string, MessageMedia> = new Map(),
): z.input<typeof messageResource> {
  const accepted: Message = {
    ...message,
    waMessageId: null,
    status: message.scheduledAt === null ? "queued" : "scheduled",
    error: null,
    pricing: null,
    sentAt: null,
    deliveredAt: null,
    readAt: null,
    failedAt: null,
  };
  return shapeMessage(accepted, [], files);
}

export function shapeStatus(message: Message): z.input<typeof messageStatusResource> {
  return {
    id: message.id,
    wa_message_id: message.waMessageId,
    status: message.status,
    sent_at: isoSecondsOrNull(message.sentAt),
    delivered_at: isoSecondsOrNull(message.deliveredAt),
    read_at: isoSecondsOrNull(message.readAt),
    failed_at: isoSecondsOrNull(message.failedAt),
    error: message.status === "failed" ? message.error : null,
  };
}
