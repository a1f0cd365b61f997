import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";
import { sendComponents } from "../templates/schema";

const STATUSES = ["draft", "scheduled", "sending", "completed", "failed", "cancelled"] as const;

/** Of one campaign: more people are told by a tag. */
const MAX_IDS = 2000;

const PARAMS_NOTE =
  "Parameters of the template, as a send's `components`. Texts may say `{{contact.name}}`, `{{contact.first_name}}`, `{{contact.phone_number}}` or `{{contact.username}}`, with a text for people of whom it is not known: `{{contact.name|there}}`. What is known is frozen when the campaign starts.";

const audienceTags = z
  .array(z.string().trim().min(1, "A tag must not be empty").max(60, "A tag has at most 60 characters"))
  .min(1, "Must name a tag")
  .max(50, "At most 50 tags");

/** Exactly one way to say who. */
export const audienceSchema = z
  .union(
    [
      z.strictObject({ contact_ids: z.array(uuidSchema).min(1, "Must name somebody").max(MAX_IDS, `At most ${MAX_IDS}`) }),
      z.strictObject({ tags: audienceTags }),
      z.strictObject({ group_ids: z.array(uuidSchema).min(1, "Must name a group").max(100, "At most 100") }),
      z.strictObject({ all: z.literal(true) }),
    ],
    { error: "Must have exactly one of contact_ids, tags, group_ids and all: true" },
  )
  .openapi({
    type: "object",
    description:
      "`{contact_ids: […]}`, `{tags: […]}` (contacts that have all of them), `{group_ids: […]}` or `{all: true}`. Without one: all contacts who opted in. MARKETING goes only to those who did.",
    example: { tags: ["vip"] },
  });

export type Audience = z.output<typeof audienceSchema>;

const templateParams = sendComponents.openapi({ description: PARAMS_NOTE });
export type TemplateParams = z.output<typeof sendComponents>;

/** What may be said of a person in parameters, by its name there. */
export const CONTACT_FIELDS = ["name", "first_name", "phone_number", "username"] as const;
export type ContactField = (typeof CONTACT_FIELDS)[number];

/** What a campaign sends, frozen at its first start. */
export interface Snapshot {
  template: {
    name: string;
    language: string;
    category: "MARKETING" | "UTILITY" | "AUTHENTICATION";
    parameterFormat: "POSITIONAL" | "NAMED";
    components: Record<string, unknown>;
  };
  /** Its parameters, with their places for what is known of a person. */
  components: unknown;
  /** Fields the parameters use, and those of them that have no other text. */
  fields: ContactField[];
  required: ContactField[];
}

const isoTime = z.iso
  .datetime({ offset: true, error: "Must be an ISO 8601 time such as 2026-01-31T09:00:00Z" })
  .transform((text) => Date.parse(text));

const name = z.string().trim().min(1, "Must not be empty").max(255, "Must have at most 255 characters");
const phoneNumberRef = z.string().min(1).max(64);
const scheduledAt = isoTime.openapi({
  type: "string",
  format: "date-time",
  description: "The campaign starts then, if it is `scheduled` and not paused.",
});

export const createCampaignBody = z
  .object({
    workspace_id: uuidSchema.optional(),
    phone_number_id: phoneNumberRef
      .optional()
      .openapi({ description: "Ours or the provider's id; the default number when left out." }),
    template_id: uuidSchema.nullish(),
    name: name.openapi({ example: "Summer Sale 2024" }),
    audience: audienceSchema.nullish(),
    template_params: templateParams.nullish(),
    scheduled_at: scheduledAt.nullish(),
  })
  .openapi("CreateCampaign");

export const updateCampaignBody = z
  .object({
    name: name.optional(),
    status: z.enum(STATUSES).optional().openapi({
      description: "`draft` and `scheduled` change into each other, `sending` into `scheduled`, which pauses it.",
    }),
    phone_number_id: phoneNumberRef.optional(),
    template_id: uuidSchema.nullish(),
    audience: audienceSchema.nullish(),
    template_params: templateParams.nullish(),
    scheduled_at: scheduledAt.nullish(),
  })
  .openapi("UpdateCampaign");

export type UpdateCampaign = z.output<typeof updateCampaignBody>;

const time = z.string().openapi({ format: "date-time", example: "2024-01-01T00:00:00Z" });
const count = z.int().min(0);

export const campaignResource = z
  .object({
    id: z.uuid(),
    workspace_id: z.uuid(),
    phone_number_id: z.uuid(),
    template_id: z.uuid().nullable(),
    name: z.string(),
    total_contacts: count.openapi({ description: "Recipients, without those who were skipped." }),
    sent_count: count.openapi({ description: "Sent, whether or not delivered or read since." }),
    delivered_count: count.openapi({ description: "Delivered, whether or not read since." }),
    read_count: count,
    failed_count: count,
    status: z.enum(STATUSES),
    skipped_count: count,
    pending_count: count.openapi({ description: "Not sent yet, or on the way." }),
    audience: z.record(z.string(), z.unknown()).nullable(),
    template_params: z.union([z.record(z.string(), z.unknown()), z.array(z.unknown())]).nullable().openapi({ type: "object" }),
    scheduled_at: time.nullable(),
    paused_at: time.nullable(),
    pause_reason: z.string().nullable().openapi({ description: "Why it was paused by itself." }),
    preparing: z.boolean().openapi({ description: "Its recipients are being collected." }),
    started_at: time.nullable(),
    completed_at: time.nullable(),
    counted_at: time.nullable().openapi({ description: "When the counts were taken." }),
    created_at: time,
    updated_at: time,
  })
  .openapi("Campaign");

export const campaignPage = pageOf(campaignResource).openapi("CampaignPage");

export const campaignListQuery = pageQuery.extend({
  workspace_id: uuidSchema.optional(),
  status: z.enum(STATUSES).optional(),
});

export const campaignParams = z.object({
  campaign_id: uuidSchema.openapi({ param: { name: "campaign_id", in: "path" } }),
});

export const retryBody = z
  .object({
    include_unknown: z.boolean().default(false).openapi({
      description: "Also those of which nobody knows whether they arrived: they may get it twice.",
    }),
  })
  .openapi("RetryFailed");

export const testSendBody = z
  .object({
    to: z
      .string()
      .regex(/^\+[1-9]\d{1,14}$/, "Phone number must be in E.164 format")
      .optional(),
    contact_id: uuidSchema.optional(),
  })
  .refine(({ to, contact_id }) => (to === undefined) !== (contact_id === undefined), {
    error: "Exactly one of to and contact_id is needed",
    path: ["to"],
  })
  .openapi("TestSend");

export const estimateBody = z
  .object({
    audience: audienceSchema.nullish(),
    template_id: uuidSchema.nullish(),
    template_params: templateParams.nullish(),
  })
  .openapi("EstimateCampaign");

export const SKIP_REASONS = [
  "deleted",
  "opted_out",
  "not_opted_in",
  "no_address",
  "missing_parameter",
  "duplicate",
] as const;

export const estimateAnswer = z
  .object({
    audience_size: count,
    recipients: count,
    skipped_count: count,
    skipped: z.record(z.enum(SKIP_REASONS), count),
    is_lower_bound: z.boolean().openapi({ description: "There are more contacts than were looked at." }),
    seconds: z.int().openapi({ description: "How long sending takes at least, at the number's throughput." }),
  })
  .openapi("CampaignEstimate");

export const RECIPIENT_STATUSES = [
  "pending",
  "queued",
  "sending",
  "sent",
  "delivered",
  "read",
  "failed",
  "cancelled",
  "skipped",
] as const;

export const recipientQuery = pageQuery.extend({ status: z.enum(RECIPIENT_STATUSES).optional() });

export const recipientResource = z
  .object({
    contact_id: z.string(),
    name: z.string().nullable(),
    phone_number: z.string().nullable(),
    status: z.enum(RECIPIENT_STATUSES),
    reason: z.string().nullable().openapi({ description: "Why it failed or was skipped." }),
    error: z
      .object({ code: z.union([z.string(), z.number()]), title: z.string(), details: z.string().nullable(), retryable: z.boolean() })
      .nullable(),
    message_id: z.string().nullable(),
    wa_message_id: z.string().nullable(),
    sent_at: time.nullable(),
    delivered_at: time.nullable(),
    read_at: time.nullable(),
    failed_at: time.nullable(),
  })
  .openapi("CampaignRecipient");

export const recipientPage = pageOf(recipientResource).openapi("CampaignRecipientPage");
