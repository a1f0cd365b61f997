import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";

/** Product 3.3. */
export const DEFAULT_CAPACITY = 250;
const MAX_CAPACITY = 5000;

const name = z.string().trim().min(1, "Must not be empty").max(100, "Must have at most 100 characters");
const capacity = z
  .int("Must be a whole number")
  .min(1, `Must be from 1 to ${MAX_CAPACITY}`)
  .max(MAX_CAPACITY, `Must be from 1 to ${MAX_CAPACITY}`);
const autoFill = z.boolean().openapi({
  description:
    "Whether new contacts of imports and WordPress are put into it. When no automatic group has room, another one is made.",
});

export const createGroupBody = z
  .object({
    workspace_id: uuidSchema.optional(),
    name,
    capacity: capacity.default(DEFAULT_CAPACITY),
    auto_fill: autoFill.default(false),
  })
  .openapi("CreateGroup");

export const changeGroupBody = z.object({ name, capacity, auto_fill: autoFill }).partial().openapi("ChangeGroup");

export const membersBody = z
  .object({
    contact_ids: z.array(uuidSchema).min(1, "Needs at least one contact").max(1000, "At most 1,000 contacts"),
  })
  .openapi("GroupMembers");

const time = z.string().openapi({ format: "date-time" });

export const groupResource = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    name: z.string(),
    capacity: z.int(),
    size: z.int(),
    auto_fill: z.boolean(),
    created_at: time,
    updated_at: time,
  })
  .openapi("Group");

export const groupList = pageOf(groupResource);
export const groupListQuery = pageQuery.extend({ workspace_id: uuidSchema.optional() });
export const groupParams = z.object({ id: uuidSchema });

export const memberResource = z
  .object({
    contact_id: z.string(),
    phone_number: z.string().nullable(),
    name: z.string().nullable(),
    opted_in: z.boolean(),
    added_at: time,
  })
  .openapi("GroupMember");

export const memberList = pageOf(memberResource);
export const memberParams = z.object({ id: uuidSchema, contact_id: uuidSchema });
