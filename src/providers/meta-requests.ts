import { z } from "zod";
import type { Recipient, SendRequest } from "./provider";

/** `id` (uploaded at the provider) or `link`; what the type cannot carry is left out. */
function media(fields: z.ZodRawShape) {
  return z
    .object({ id: z.string().min(1).optional(), link: z.string().min(1).optional(), ...fields })
    .refine((value) => value.id !== undefined || value.link !== undefined, "Media needs an id or a link");
}

const caption = z.string().optional();

/** What each type sends under its own key. Structured types were checked when they were accepted and pass through. */
const PAYLOADS = {
  text: z.object({ body: z.string().min(1), preview_url: z.boolean().optional() }),
  image: media({ caption }),
  video: media({ caption }),
  document: media({ caption, filename: z.string().optional() }),
  audio: media({ voice: z.boolean().optional() }),
  sticker: media({}),
  location: z.looseObject({ latitude: z.number(), longitude: z.number() }),
  contacts: z
    .object({ contacts: z.array(z.record(z.string(), z.unknown())).min(1) })
    .transform((value) => value.contacts),
  reaction: z.object({ message_id: z.string().min(1), emoji: z.string() }),
  interactive: z.looseObject({ type: z.string().min(1) }),
  // What else is kept of a template message is for readers of the thread.
  template: z.object({
    name: z.string().min(1),
    language: z.unknown(),
    components: z.array(z.unknown()).optional(),
  }),
} as const satisfies Record<string, z.ZodType>;

function isSendable(type: string): type is keyof typeof PAYLOADS {
  return Object.hasOwn(PAYLOADS, type);
}

export type MessageBody = { ok: true; body: Record<string, unknown> } | { ok: false; reason: string };

/**
 * The body of POST /{phone}/messages, or why there is none: a type or content that cannot be sent. A person without a
 * phone number is named by `recipient`, which Meta takes since July 2026.
 */
export function messageBody(request: SendRequest): MessageBody {
  if (!isSendable(request.type)) return { ok: false, reason: `Messages of type ${request.type} cannot be sent` };
  const payload = PAYLOADS[request.type].safeParse(request.content);
  if (!payload.success) {
    return { ok: false, reason: payload.error.issues[0]?.message ?? `The content is no ${request.type}` };
  }
  const address = addressOf(request.recipient);
  if (!address) return { ok: false, reason: "The message has no recipient" };
  return {
    ok: true,
    body: {
      messaging_product: "whatsapp",
      ...address,
      type: request.type,
      ...(request.replyTo === null ? {} : { context: { message_id: request.replyTo } }),
      biz_opaque_callback_data: request.callbackId,
      [request.type]: payload.data,
    },
  };
}

function addressOf(recipient: Recipient): Record<string, string> | null {
  if (recipient.groupId) return { recipient_type: "group", to: recipient.groupId };
  if (recipient.phone !== null) return { recipient_type: "individual", to: recipient.phone };
  if (recipient.userId !== null) return { recipient_type: "individual", recipient: recipient.userId };
  return null;
}

/** Marks a message read; `typing` shows the indicator until the answer, at most 25 s. */
export function readBody(waMessageId: string, typing: boolean): Record<string, unknown> {
  return {
    messaging_product: "whatsapp",
    status: "read",
    message_id: waMessageId,
    ...(typing ? { typing_indicator: { type: "text" } } : {}),
  };
}
