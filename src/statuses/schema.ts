import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";

/** WhatsApp's limit of the line (product 3.2), counted in characters as people see them written, not UTF-16 units. */
const MAX_STATUS = 139;

export const statusText = z
  .string()
  .refine((text) => text.trim() !== "", "Must not be empty")
  .refine((text) => [...text].length <= MAX_STATUS, `Must have at most ${MAX_STATUS} characters`)
  .openapi({ minLength: 1, maxLength: MAX_STATUS, example: "Good morning!" });

const isoTime = z.iso
  .datetime({ offset: true, error: "Must be an ISO 8601 time such as 2026-01-31T09:00:00Z" })
  .transform((text) => Date.parse(text));

export const createStatusBody = z
  .object({
    workspace_id: uuidSchema.optional(),
    phone_number_id: z
      .string()
      .min(1)
      .max(64)
      .optional()
      .openapi({ description: "Ours or the provider's id; the default number when left out." }),
    text: statusText,
    scheduled_at: isoTime
      .optional()
      .openapi({ type: "string", format: "date-time", description: "When it is set; at once when left out." }),
  })
  .openapi("CreateStatus");

const time = z.string().openapi({ format: "date-time" });

export const statusResource = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    phone_number_id: z.string(),
    text: z.string(),
    status: z.enum(["scheduled", "applied", "failed", "cancelled"]),
    scheduled_at: time.nullable(),
    applied_at: time.nullable(),
    error: z
      .object({ code: z.union([z.int(), z.string()]), message: z.string() })
      .nullable()
      .openapi({ description: "Why it was not set; of a scheduled one, why it was not set yet." }),
    created_at: time,
    updated_at: time,
  })
  .openapi("Status");

export const statusList = pageOf(statusResource);
export const statusListQuery = pageQuery.extend({ workspace_id: uuidSchema.optional() });
export const statusParams = z.object({ id: uuidSchema });
