import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";

const time = z.string().openapi({ format: "date-time" });

export const conversationResource = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    phone_number_id: z.string(),
    contact: z.object({
      id: z.string(),
      kind: z.enum(["person", "group"]),
      name: z.string().nullable(),
      phone_number: z.string().nullable(),
      wa_id: z.string().nullable(),
      user_id: z.string().nullable(),
      username: z.string().nullable(),
    }),
    status: z.enum(["open", "closed"]),
    unread_count: z.int(),
    message_count: z.int(),
    last_message: z
      .object({ id: z.string(), direction: z.enum(["inbound", "outbound"]), preview: z.string(), at: time })
      .nullable(),
    service_window_expires_at: time
      .nullable()
      .openapi({ description: "Until then free-form messages reach the person; after it only templates do." }),
    read_at: time.nullable(),
    created_at: time,
    updated_at: time,
  })
  .openapi("Conversation");

export const conversationList = pageOf(conversationResource);

export const conversationListQuery = pageQuery.extend({
  workspace_id: uuidSchema.optional(),
  phone_number_id: z.string().min(1).max(64).optional(),
  unread: z
    .enum(["true", "false"])
    .transform((text) => text === "true")
    .optional()
    .openapi({ type: "boolean" }),
});

export const readBody = z.object({
  typing: z
    .boolean()
    .optional()
    .openapi({ description: "Also show the person that somebody is typing, for up to 25 seconds." }),
});

export const readAnswer = conversationResource.extend({
  receipt: z
    .enum(["sent", "none", "failed"])
    .openapi({ description: "`none`: there is no message to confirm. `failed`: see `receipt_error`." }),
  receipt_error: z.string().nullable(),
});
