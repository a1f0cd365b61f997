import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";

/** The documented check (003: "Phone number must be in E.164 format"). */
const e164 = z.string().regex(/^\+[1-9]\d{1,14}$/, "Phone number must be in E.164 format");

const name = z.string().trim().min(1, "Must not be empty").max(200, "Must have at most 200 characters");

/** Tags keep their spelling; the same tag twice is one. */
export const tagList = z
  .array(z.string().trim().min(1, "A tag must not be empty").max(60, "A tag has at most 60 characters"))
  .max(50, "At most 50 tags")
  .transform((tags) => [...new Set(tags)]);

export const createContactBody = z
  .object({
    workspace_id: uuidSchema.optional(),
    phone_number: e164,
    name: name.nullable().optional(),
    tags: tagList.optional(),
    opted_in: z.boolean().optional().openapi({ description: "True unless said otherwise." }),
  })
  .openapi("CreateContact");

export const updateContactBody = z
  .object({ name: name.nullable().optional(), tags: tagList.optional(), opted_in: z.boolean().optional() })
  .openapi("UpdateContact");

const time = z.string().openapi({ format: "date-time" });

export const contactResource = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    kind: z.enum(["person", "group"]),
    wa_id: z.string().nullable(),
    phone_number: z.string().nullable(),
    user_id: z.string().nullable().openapi({ description: "Business-scoped id, for people who have no phone number." }),
    username: z.string().nullable(),
    name: z.string().nullable(),
    opted_in: z.boolean(),
    consent: z
      .object({ source: z.string(), reference: z.string().nullable(), at: time })
      .nullable()
      .openapi({ description: "What `opted_in` rests on, where somebody said it." }),
    opted_out_at: time.nullable(),
    tags: z.array(z.string()),
    source: z.enum(["api", "import", "wordpress", "message"]),
    created_at: time,
    updated_at: time,
  })
  .openapi("Contact");

export const contactList = pageOf(contactResource);

export const contactListQuery = pageQuery.extend({
  workspace_id: uuidSchema.optional(),
  tags: z.string().max(1000).optional().openapi({ description: "Comma-separated; contacts that have all of them." }),
  opted_in: z
    .enum(["true", "false"], { error: "Must be true or false" })
    .transform((text) => text === "true")
    .optional()
    .openapi({ type: "boolean" }),
  search: z.string().max(100).optional().openapi({ description: "Beginnings of words of the name, or of the number." }),
});
