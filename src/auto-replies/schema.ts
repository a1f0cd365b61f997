import { z } from "@hono/zod-openapi";
import { MAX_FILE_NAME, MEDIA_TYPES } from "../media/schema";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";
import { sendComponents } from "../templates/schema";

export const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;

/** What places such as `{{contact.name}}` in an answer can name. */
export const CONTACT_FIELDS = ["name", "first_name", "phone_number", "username"] as const;

/** Characters of a pattern. */
const MAX_PATTERN = 500;

const texts = z.array(z.string().trim().min(1, "Must not be empty").max(500)).min(1, "Needs at least one").max(100);
const caseSensitive = z.boolean().default(false);
const clock = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$|^24:00$/, "Must be a time such as 09:00");

const keyword = z.object({ kind: z.literal("keyword"), texts, case_sensitive: caseSensitive });
const exact = z.object({ kind: z.literal("exact"), texts, case_sensitive: caseSensitive });
const contains = z.object({ kind: z.literal("contains"), texts, case_sensitive: caseSensitive });
const startsWith = z.object({ kind: z.literal("starts_with"), texts, case_sensitive: caseSensitive });
const pattern = z.object({
  kind: z.literal("pattern"),
  pattern: z.string().min(1, "Must not be empty").max(MAX_PATTERN).openapi({ description: "RE2 syntax." }),
  case_sensitive: caseSensitive,
});
const outsideHours = z.object({
  kind: z.literal("outside_hours"),
  time_zone: z.string().min(1).max(60).openapi({ example: "Europe/Berlin" }),
  hours: z
    .array(
      z
        .object({ days: z.array(z.enum(DAYS)).min(1), from: clock, to: clock })
        .refine(({ from, to }) => from !== to, "Must not begin when it ends"),
    )
    .max(50)
    .openapi({ description: "When the business is open; one that ends before it begins goes on past midnight." }),
});

/** What a rule answers to. */
const matchSchema = z.discriminatedUnion("kind", [
  keyword,
  exact,
  contains,
  startsWith,
  pattern,
  z.object({ kind: z.literal("any") }),
  z.object({ kind: z.literal("first_message") }),
  outsideHours,
  z.object({ kind: z.literal("reply_id"), ids: texts }),
]);
export type Match = z.output<typeof matchSchema>;

/** WhatsApp's limit of a text (facts 1.2). */
const MAX_TEXT = 4096;
const text = z.string().min(1, "Must not be empty").max(MAX_TEXT, `Must have at most ${MAX_TEXT} characters`);

const textAnswer = z.object({ kind: z.literal("text"), text, preview_url: z.boolean().optional() });
const mediaAnswer = z.object({
  kind: z.literal("media"),
  media_type: z.enum(MEDIA_TYPES),
  media_id: uuidSchema,
  caption: z.string().max(3000).optional(),
  filename: z.string().min(1).max(MAX_FILE_NAME).optional(),
});
const templateAnswer = z.object({
  kind: z.literal("template"),
  template_name: z.string().min(1, "Must not be empty").max(512),
  template_language: z.string().min(2).max(20),
  components: sendComponents.optional(),
});
const interactiveAnswer = z.object({
  kind: z.literal("interactive"),
  interactive: z
    .looseObject({ type: z.string() })
    .openapi({ description: "As in `POST /api/messages/send/interactive`." }),
});
const aiAnswer = z.object({
  kind: z.literal("ai"),
  system_prompt: z.string().min(1, "Must not be empty").max(8000),
  max_tokens: z.int().min(1).max(4096).default(500),
  temperature: z.number().min(0).max(2).optional(),
  history: z.int().min(1).max(50).default(10).openapi({ description: "Messages of the conversation it is shown." }),
  timeout_seconds: z.int().min(1).max(60).default(20),
  handover: z
    .object({
      texts: texts.optional().openapi({ description: "Words by which a person asks for people." }),
      message: text.optional().openapi({ description: "What is said when people take over." }),
      minutes: z.int().min(1).max(10_080).default(1440),
    })
    .prefault({}),
});

/** What it answers. */
const answerSchema = z.discriminatedUnion("kind", [
  textAnswer,
  mediaAnswer,
  templateAnswer,
  interactiveAnswer,
  aiAnswer,
]);
export type Answer = z.output<typeof answerSchema>;
export type AiAnswer = Extract<Answer, { kind: "ai" }>;

const HOUR = 3600;
const name = z.string().trim().min(1, "Must not be empty").max(100);
const limits = {
  cooldown_seconds: z
    .int()
    .min(0)
    .max(30 * 24 * HOUR)
    .openapi({ description: "Between two answers of this rule to one person." }),
  daily_limit: z.int().min(1).max(100_000).nullable().openapi({ description: "Answers a day (UTC), to everybody." }),
  quiet_minutes: z
    .int()
    .min(0)
    .max(1440)
    .openapi({ description: "How long it keeps quiet in a conversation that an agent has answered." }),
};
const phoneNumberRef = z
  .string()
  .min(1)
  .max(64)
  .nullable()
  .openapi({ description: "Ours or the provider's id of a number; null for all of them." });

export const createAutoReplyBody = z
  .object({
    workspace_id: uuidSchema.optional(),
    name,
    phone_number_id: phoneNumberRef.default(null),
    enabled: z.boolean().default(true),
    match: matchSchema,
    answer: answerSchema,
    cooldown_seconds: limits.cooldown_seconds.default(0),
    daily_limit: limits.daily_limit.default(null),
    quiet_minutes: limits.quiet_minutes.default(30),
  })
  .openapi("CreateAutoReply");

export const changeAutoReplyBody = z
  .object({
    name,
    phone_number_id: phoneNumberRef,
    enabled: z.boolean(),
    match: matchSchema,
    answer: answerSchema,
    ...limits,
  })
  .partial()
  .openapi("ChangeAutoReply");

export const autoReplyResource = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    name: z.string(),
    phone_number_id: z.string().nullable(),
    position: z.int().openapi({ description: "The first rule that fits decides." }),
    enabled: z.boolean(),
    match: z.record(z.string(), z.unknown()),
    answer: z.record(z.string(), z.unknown()),
    cooldown_seconds: z.int(),
    daily_limit: z.int().nullable(),
    quiet_minutes: z.int(),
    created_at: z.string(),
    updated_at: z.string(),
  })
  .openapi("AutoReply");

export const autoReplyList = pageOf(autoReplyResource);
export const autoReplyListQuery = pageQuery.extend({ workspace_id: uuidSchema.optional() });
export const autoReplyParams = z.object({ id: uuidSchema });

export const orderBody = z
  .object({ workspace_id: uuidSchema.optional(), ids: z.array(uuidSchema).min(1).max(100) })
  .openapi("OrderAutoReplies", { description: "Those left out keep their order, behind the ones named." });

export const testBody = z
  .object({
    workspace_id: uuidSchema.optional(),
    rule_id: uuidSchema.optional().openapi({ description: "Only this rule, enabled or not." }),
    phone_number_id: phoneNumberRef.optional(),
    contact_id: uuidSchema.optional(),
    text: z.string().max(MAX_TEXT).optional(),
    reply_id: z.string().max(256).optional().openapi({ description: "Of a button or list row that was tapped." }),
    type: z.string().min(1).max(40).default("text"),
    first_message: z.boolean().default(false),
    at: z.iso
      .datetime({ offset: true, error: "Must be an ISO time such as 2024-01-01T00:00:00Z" })
      .transform((value) => Date.parse(value))
      .optional()
      .openapi({ type: "string", format: "date-time" }),
  })
  .openapi("TestAutoReplies");

export const testAnswer = z.object({
  rule_id: z.string().nullable().openapi({ description: "The rule that would answer." }),
  answer: z.record(z.string(), z.unknown()).nullable().openapi({ description: "What it would, filled in." }),
  considered: z.array(z.object({ rule_id: z.string(), name: z.string(), matched: z.boolean() })),
});

export const firingResource = z
  .object({
    rule_id: z.string(),
    inbound_message_id: z.string(),
    contact_id: z.string(),
    conversation_id: z.string(),
    status: z.enum(["pending", "sent", "failed", "skipped", "handed_over"]),
    message_id: z.string().nullable(),
    error: z.string().nullable(),
    at: z.string(),
  })
  .openapi("AutoReplyFiring");

export const firingList = pageOf(firingResource);

export const assistantBody = z
  .object({
    workspace_id: uuidSchema.optional(),
    base_url: z.string().min(1).max(2000).openapi({
      format: "uri",
      description: "A public https address; `/chat/completions` is added.",
      example: "https://api.openai.com/v1",
    }),
    model: z.string().min(1, "Must not be empty").max(200),
    api_key: z.string().min(1, "Must not be empty").max(500).openapi({ description: "Kept sealed, never shown." }),
    token_parameter: z
      .enum(["max_tokens", "max_completion_tokens"])
      .default("max_tokens")
      .openapi({ description: "What the endpoint calls its token limit." }),
  })
  .openapi("SetAssistant");

export const assistantResource = z
  .object({
    workspace_id: z.string(),
    base_url: z.string(),
    model: z.string(),
    token_parameter: z.string(),
    updated_at: z.string(),
  })
  .openapi("Assistant");

export const handoverResource = z
  .object({ conversation_id: z.string(), reason: z.string(), at: z.string(), until: z.string() })
  .openapi("Handover");
export const handoverList = pageOf(handoverResource);
export const handoverParams = z.object({ conversation_id: uuidSchema });
export const workspaceQuery = z.object({ workspace_id: uuidSchema.optional() });
