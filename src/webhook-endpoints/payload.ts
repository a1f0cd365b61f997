/** What an endpoint is told of an event. */
import type { MessageMedia } from "../media/schema";
import type { Message } from "../messages/service";
import { shapeMessage } from "../messages/service-shape";
import { isoMillis, isoSeconds } from "../platform/clock";
import type { OutboxEvent, Subjects } from "./store-pump";

/** The same for every attempt and every endpoint: receivers know by it what they have had before. */
export function eventId(event: OutboxEvent): string {
  return `evt_${event.ref.replaceAll("-", "")}_${event.seq}`;
}

/** The body of an event, or null when what it is about does not exist any more. */
export function bodyOf(
  event: OutboxEvent,
  subjects: Subjects,
  files: ReadonlyMap<string, MessageMedia>,
): string | null {
  const told = dataOf(event, subjects, files);
  if (told === null) return null;
  return JSON.stringify({
    id: eventId(event),
    type: event.type,
    timestamp: isoMillis(told.at),
    workspace_id: event.workspaceId,
    data: told.data,
  });
}

function dataOf(event: OutboxEvent, subjects: Subjects, files: ReadonlyMap<string, MessageMedia>) {
  if (event.type === "webhook_event.created") {
    const found = subjects.events.get(event.ref);
    if (!found) return null;
    const payload: unknown = found.raw === null ? null : JSON.parse(found.raw);
    const data = {
      id: found.id,
      workspace_id: found.workspaceId,
      phone_number_id: found.phoneNumberId,
      provider: found.provider,
      kind: found.kind,
      field: found.field,
      reason: found.reason,
      payload,
      received_at: isoSeconds(found.receivedAt),
    };
    return { at: found.receivedAt, data };
  }
  const message = subjects.messages.get(event.ref);
  if (!message) return null;
  const then = asOf(message, event.type);
  return { at: then.at ?? event.at, data: shapeMessage(then.message, [], files) };
}

/** The message as it was when that happened: what came after is told by events of its own. */
function asOf(message: Message, type: string): { message: Message; at: number | null } {
  switch (type) {
    case "message.sent":
      return {
        message: { ...message, status: "sent", deliveredAt: null, readAt: null, failedAt: null, error: null },
        at: message.sentAt,
      };
    case "message.delivered":
      return {
        message: { ...message, status: "delivered", readAt: null, failedAt: null, error: null },
        at: message.deliveredAt,
      };
    case "message.read":
      return { message: { ...message, status: "read" }, at: message.readAt };
    case "message.failed":
      return { message: { ...message, status: "failed" }, at: message.failedAt };
    case "message.received":
      return { message: { ...message, status: "delivered", readAt: null }, at: message.receivedAt };
    default:
      return { message, at: null };
  }
}
