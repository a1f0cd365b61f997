import { z } from "@hono/zod-openapi";
import { messageMedia } from "../media/schema";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";

/** What a message carries, by type: the provider's own member names; a text is `{body, preview_url?}`. */
export type MessageContent = Record<string, unknown>;

/** The documented check (003: "Phone number must be in E.164 format"). Numbers from a provider are never validated. */
const e164 = z
  .string()
  .regex(/^\+[1-9]\d{1,14}$/, "Phone number must be in E.164 format")
  .openapi({ example: "+1234567890" });

/** Our UUID, or the provider's id of a number in the workspace (contract 12). */
const phoneNumberRef = z.string().min(1).max(64);

const isoTime = z.iso
  .datetime({ offset: true, error: "Must be an ISO 8601 time such as 2026-01-31T09:00:00Z" })
  .transform((text) => Date.parse(text));

/** Members of every send. Exactly one of `to`, `contact_id`, `conversation_id` (contract 15). */
export const sendBase = z.object({
  workspace_id: uuidSchema.optional(),
  phone_number_id: phoneNumberRef
    .optional()
    .openapi({ description: "Ours or the provider's id; the default number when left out." }),
  to: e164.optional(),
  contact_id: uuidSchema.optional(),
  conversation_id: uuidSchema.optional(),
  reply_to: z
    .string()
    .max(200)
    .regex(/^[\w.:+/=-]+$/, "Must be the id of a message: ours, or the provider's such as wamid.…")
    .optional()
    .openapi({ description: "The message this one quotes: our id or the provider's." }),
  scheduled_at: isoTime.optional().openapi({
    type: "string",
    format: "date-time",
    description: "Not sent before; the status is `scheduled` until then.",
  }),
});

/** WhatsApp's limit of a text body (facts 1.2). */
const MAX_TEXT = 4096;

export const sendTextBody = sendBase
  .extend({
    text: z
      .string()
      .min(1, "Must not be empty")
      .max(MAX_TEXT, `Must have at most ${MAX_TEXT} characters`)
      .openapi({ example: "Hello! Thanks for contacting us." }),
    preview_url: z.boolean().optional(),
  })
  .openapi("SendText");

const isoOut = z.string().openapi({ format: "date-time" });

const errorResource = z.object({
  code: z.union([z.string(), z.number()]),
  title: z.string(),
  details: z.string().nullable(),
  retryable: z.boolean(),
});

export const messageResource = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    phone_number_id: z.string(),
    conversation_id: z.string(),
    contact_id: z.string(),
    wa_message_id: z.string().nullable(),
    direction: z.enum(["inbound", "outbound"]),
    from_number: z.string().nullable(),
    to_number: z.string().nullable(),
    type: z.string(),
    status: z.enum(["scheduled", "queued", "sending", "sent", "delivered", "read", "failed", "cancelled"]),
    content: z.record(z.string(), z.unknown()),
    media: messageMedia.nullable().openapi({ description: "The file it carries." }),
    origin: z.enum(["api", "live", "history", "echo"]),
    reply_to: z.string().nullable().openapi({ description: "Provider id of the message this one quotes." }),
    error: errorResource.nullable(),
    pricing: z.record(z.string(), z.unknown()).nullable(),
    reactions: z.array(z.object({ from: z.string(), emoji: z.string(), at: isoOut })),
    participants: z
      .object({ delivered: z.int(), read: z.int(), failed: z.int() })
      .nullable()
      .openapi({ description: "Of a message in a group: how many of its members it reached. Null otherwise." }),
    edited_at: isoOut.nullable(),
    revoked_at: isoOut.nullable(),
    scheduled_at: isoOut.nullable(),
    created_at: isoOut,
    sent_at: isoOut.nullable(),
    delivered_at: isoOut.nullable(),
    read_at: isoOut.nullable(),
    failed_at: isoOut.nullable(),
  })
  .openapi("Message");

export const messageList = pageOf(messageResource);

export const messageStatusResource = z
  .object({
    id: z.string(),
    wa_message_id: z.string().nullable(),
    status: messageResource.shape.status,
    sent_at: isoOut.nullable(),
    delivered_at: isoOut.nullable(),
    read_at: isoOut.nullable(),
    failed_at: isoOut.nullable(),
    error: errorResource.nullable(),
  })
  .openapi("MessageStatus");

export const messageListQuery = pageQuery.extend({
  workspace_id: uuidSchema.optional(),
  conversation_id: uuidSchema.optional(),
  contact_id: uuidSchema.optional(),
  phone_number_id: phoneNumberRef.optional(),
  direction: z.enum(["inbound", "outbound"]).optional(),
  status: messageResource.shape.status.optional(),
  type: z.string().min(1).max(40).optional(),
  since: isoTime.optional().openapi({ type: "string", format: "date-time" }),
  until: isoTime.optional().openapi({ type: "string", format: "date-time" }),
});
