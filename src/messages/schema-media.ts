/** Bodies and answers of sends that carry a file of ours. */
import { z } from "@hono/zod-openapi";
import { MAX_FILE_NAME, MEDIA_TYPES } from "../media/schema";
import { uuidSchema } from "../platform/ids";
import { messageResource, sendBase } from "./schema";

const mediaId = uuidSchema.openapi({ description: "From `POST /api/media`." });

/** 003 "Send Media Message"; a provider may take less, and then says so (contract 15). */
const MAX_CAPTION = 3000;

export const sendMediaBody = sendBase
  .extend({
    media_type: z.enum(MEDIA_TYPES),
    media_id: mediaId,
    caption: z.string().max(MAX_CAPTION, `Must have at most ${MAX_CAPTION} characters`).optional(),
    filename: z
      .string()
      .min(1, "Must not be empty")
      .max(MAX_FILE_NAME)
      .optional()
      .openapi({ description: "What a document is shown as; its own name when left out." }),
  })
  .openapi("SendMedia");

export const sendStickerBody = sendBase.extend({ media_id: mediaId }).openapi("SendSticker");

/** The documented members of the answer beside the message's own. */
export const mediaMessageResource = messageResource
  .extend({ media_id: z.string(), queued: z.boolean().openapi({ description: "False while it is only planned." }) })
  .openapi("MediaMessage");
