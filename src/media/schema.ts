import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";

export const MEDIA_TYPES = ["image", "video", "audio", "document"] as const;
export type MediaType = (typeof MEDIA_TYPES)[number];

const time = z.string().openapi({ format: "date-time" });

const mediaError = z.object({
  code: z.union([z.string(), z.number()]),
  title: z.string(),
  details: z.string().nullable(),
});

export const mediaResource = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    type: z.enum(MEDIA_TYPES),
    original_url: z
      .string()
      .nullable()
      .openapi({ description: "The provider's link of an inbound file. It works for minutes." }),
    storage_url: z
      .string()
      .openapi({ description: "Where the file lies. It needs a signature: ask `…/url` for one, or use `…/download`." }),
    file_name: z.string().nullable(),
    file_size: z.int().nullable().openapi({ description: "Bytes; null while an inbound file is not fetched." }),
    mime_type: z.string(),
    sha256: z.string().nullable().openapi({ description: "Of the bytes, in hex." }),
    source: z.enum(["upload", "inbound"]),
    status: z.enum(["ready", "pending", "failed"]),
    error: mediaError.nullable().openapi({ description: "Why an inbound file could not be fetched." }),
    message_id: z.string().nullable().openapi({ description: "The message an inbound file came with." }),
    uploaded_by: z.string().nullable(),
    created_at: time,
    updated_at: time,
  })
  .openapi("Media");

export const mediaList = pageOf(mediaResource);

export const mediaListQuery = pageQuery.extend({
  workspace_id: uuidSchema.optional(),
  type: z.enum(MEDIA_TYPES).optional(),
});

/** What a message shows of its file. */
export const messageMedia = z
  .object({
    id: z
      .string()
      .nullable()
      .openapi({ description: "Null while nothing is known of an inbound file, and for a deleted one." }),
    status: z.enum(["pending", "ready", "failed", "deleted"]),
    url: z.string().nullable().openapi({
      description:
        "Where the file is read, with credentials, below this API's own address; it stays the same. Null while there is nothing to read.",
      example: "/api/media/01900000-0000-7000-8000-000000000001/download",
    }),
    type: z.enum(MEDIA_TYPES),
    mime_type: z.string().nullable(),
    file_name: z.string().nullable(),
    file_size: z.int().nullable(),
    sha256: z.string().nullable(),
    error: mediaError.nullable(),
  })
  .openapi("MessageMedia");

export type MessageMedia = z.infer<typeof messageMedia>;

const minutes = z
  .string()
  .regex(/^[1-9]\d{0,4}$/, "Must be a whole number from 5 to 1440")
  .transform(Number)
  .pipe(z.number().min(5, "Must be from 5 to 1440").max(1440, "Must be from 5 to 1440"));

export const linkQuery = z.object({
  expiry_minutes: minutes.default(60).openapi({ type: "integer", minimum: 5, maximum: 1440, default: 60 }),
});

export const linkAnswer = z
  .object({ url: z.string(), expires_in_minutes: z.int(), expires_at: time })
  .openapi("MediaUrl");

/** WhatsApp and R2 take long names; screens and file systems do not. */
export const MAX_FILE_NAME = 255;

export const startUploadBody = z
  .object({
    workspace_id: uuidSchema.optional(),
    file_name: z.string().min(1, "Must not be empty").max(MAX_FILE_NAME).optional(),
    mime_type: z
      .string()
      .max(200)
      .optional()
      .openapi({ description: "Left out or `application/octet-stream`: the file's name and bytes decide." }),
    file_size: z.int().min(1, "Must be at least 1").openapi({ description: "Bytes of the whole file." }),
  })
  .openapi("StartUpload");

export const uploadResource = z
  .object({
    id: z.string().openapi({ description: "Becomes the file's id." }),
    workspace_id: z.string(),
    file_name: z.string().nullable(),
    mime_type: z.string().nullable(),
    file_size: z.int(),
    part_size: z.int().openapi({ description: "Bytes of every part but the last, which has the rest." }),
    part_count: z.int(),
    received_parts: z.array(z.int()),
    created_at: time,
    expires_at: time,
  })
  .openapi("MediaUpload");
