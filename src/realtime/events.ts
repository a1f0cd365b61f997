import { z } from "zod";

/**
 * What browsers and integrations see happen. Every event carries `rank` (where it has a status) so that an older one
 * changes nothing on screen; a frame carries `seq` and the database `bookmark` of the write behind it. Who sees which
 * event is decided in `seat.ts`: whoever may read the same over the API (`webhook_event.*`: OWNER, ADMIN and keys).
 */
const at = z.string().describe("ISO time with milliseconds");

const messageView = z.object({
  id: z.string(),
  conversation_id: z.string(),
  contact_id: z.string(),
  phone_number_id: z.string(),
  direction: z.enum(["inbound", "outbound"]),
  type: z.string(),
  status: z.string(),
  rank: z.int(),
  wa_message_id: z.string().nullable(),
  preview: z.string().nullable(),
  error: z.object({ code: z.union([z.string(), z.number()]), title: z.string() }).nullable(),
  at,
});

export const workspaceEvent = z.discriminatedUnion("type", [
  z.object({ type: z.literal("message.created"), message: messageView, at }),
  z.object({ type: z.literal("message.status"), message: messageView, at }),
  z.object({ type: z.literal("message.event"), conversation_id: z.string(), target: z.string(), kind: z.string(), at }),
  z.object({
    type: z.literal("conversation.updated"),
    conversation_id: z.string(),
    unread_count: z.int().nullable(),
    at,
  }),
  z.object({
    type: z.literal("phone_number.updated"),
    phone_number_id: z.string(),
    status: z.string(),
    blocked_reason: z.string().nullable(),
    at,
  }),
  z.object({
    type: z.literal("import.progress"),
    import_id: z.string(),
    status: z.enum(["processing", "completed"]),
    total_rows: z.int(),
    processed_rows: z.int(),
    imported: z.int(),
    updated: z.int(),
    failed: z.int(),
    at,
  }),
  z.object({ type: z.literal("webhook_event.created"), webhook_event_id: z.string(), kind: z.string(), at }),
]);

export type WorkspaceEvent = z.infer<typeof workspaceEvent>;
export type MessageView = z.infer<typeof messageView>;

/** One published write: the events of one workspace, under one sequence number. */
export const liveFrame = z.object({
  type: z.literal("events"),
  seq: z.int(),
  bookmark: z.string().nullable(),
  events: z.array(workspaceEvent),
});

export type LiveFrame = z.infer<typeof liveFrame>;
