import { isoMillis } from "../platform/clock";
import type { MessageView } from "../realtime/events";
import { rankOf } from "./rank";
import { previewOf } from "./service-preview";
import type { Message } from "./store";

/** What a realtime event shows of a message. */
export function messageView(message: Message, at: number): MessageView {
  return {
    id: message.id,
    conversation_id: message.conversationId,
    contact_id: message.contactId,
    phone_number_id: message.phoneNumberId,
    direction: message.direction,
    type: message.type,
    status: message.status,
    rank: rankOf(message.status, message.error?.code ?? null),
    wa_message_id: message.waMessageId,
    preview: previewOf(message.type, message.content),
    error: message.error ? { code: message.error.code, title: message.error.title } : null,
    at: isoMillis(at),
  };
}
