import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";

const text = (max: number) => z.string().min(1, "Must not be empty").max(max, `Must have at most ${max} characters`);

/** A word of the provider's in any case. */
const word = <const T extends readonly [string, ...string[]]>(values: T) =>
  z
    .preprocess((value) => (typeof value === "string" ? value.toUpperCase() : value), z.enum(values))
    .openapi({ type: "string", enum: [...values] });

const CATEGORIES = ["MARKETING", "UTILITY", "AUTHENTICATION"] as const;
const STATUSES = ["PENDING", "APPROVED", "REJECTED"] as const;

const namedExamples = z.array(z.object({ param_name: text(100), example: text(1024) })).max(100);

const header = z
  .object({
    format: word(["TEXT", "IMAGE", "VIDEO", "DOCUMENT", "LOCATION"]).default("TEXT"),
    text: text(60).optional(),
    example: z
      .object({
        header_text: z.array(text(60)).max(1).optional(),
        header_text_named_params: namedExamples.optional(),
        header_handle: z
          .array(text(10_000))
          .max(1)
          .optional()
          .openapi({ description: "Handle of a sample file, from the provider's upload API." }),
      })
      .optional(),
  })
  .superRefine((value, context) => {
    if (value.format === "TEXT" && value.text === undefined) {
      context.addIssue({ code: "custom", path: ["text"], message: "A text header needs its text" });
    }
  });

const body = z.object({
  text: text(1024).optional().openapi({ description: "Variables are `{{1}}`, `{{2}}` or `{{name}}`." }),
  add_security_recommendation: z.boolean().optional(),
  example: z
    .object({
      body_text: z
        .union([z.array(z.array(text(1024)).max(100)).max(1), z.array(text(1024)).max(100)])
        .transform((value): string[][] => (value.every((item) => typeof item === "string") ? [value] : value))
        .optional()
        .openapi({ type: "array", items: { type: "array", items: { type: "string" } } }),
      body_text_named_params: namedExamples.optional(),
    })
    .optional(),
});

const footer = z.object({
  text: text(60).optional(),
  code_expiration_minutes: z.int().min(1).max(90).optional(),
});

const BUTTONS = [
  "QUICK_REPLY",
  "URL",
  "PHONE_NUMBER",
  "OTP",
  "FLOW",
  "COPY_CODE",
  "CATALOG",
  "MPM",
  "REQUEST_CONTACT_INFO",
] as const;

/** Members of a button that its type cannot do without. */
const NEEDED: Readonly<Partial<Record<(typeof BUTTONS)[number], readonly string[]>>> = {
  QUICK_REPLY: ["text"],
  URL: ["text", "url"],
  PHONE_NUMBER: ["text", "phone_number"],
  OTP: ["otp_type"],
  FLOW: ["text"],
};

/** Members beyond these (apps of an OTP button, the screen of a flow) go to the provider as they are. */
const button = z
  .looseObject({
    type: word(BUTTONS),
    text: text(25).optional(),
    url: z
      .string()
      .regex(/^https?:\/\/\S+$/, "Must be an http or https address")
      .max(2000)
      .optional(),
    phone_number: text(20).optional(),
    otp_type: word(["COPY_CODE", "ONE_TAP", "ZERO_TAP"]).optional(),
    example: z.union([text(2000), z.array(text(2000)).max(1)]).optional(),
  })
  .superRefine((value, context) => {
    for (const member of NEEDED[value.type] ?? []) {
      if (value[member] !== undefined) continue;
      context.addIssue({ code: "custom", path: [member], message: `A ${value.type} button needs ${member}` });
    }
  });

const buttonList = z.preprocess(
  (value) => (isObject(value) && Array.isArray(value.buttons) ? value.buttons : value),
  z.array(button).min(1, "Needs at least one button").max(10, "Takes at most 10 buttons"),
);

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The provider's own list of components, in the documented form. */
function keyed(value: unknown, context: z.core.$RefinementCtx): unknown {
  if (!Array.isArray(value)) return value;
  const byKey = new Map<string, unknown>();
  for (const [place, item] of value.entries()) {
    if (!isObject(item) || typeof item.type !== "string") {
      context.issues.push({ code: "custom", input: item, path: [place, "type"], message: "Needs a type" });
      return z.NEVER;
    }
    const { type, ...members } = item;
    const key = item.type.toLowerCase();
    if (byKey.has(key)) {
      context.issues.push({ code: "custom", input: type, path: [place], message: `There are two of type ${key}` });
      return z.NEVER;
    }
    byKey.set(key, members);
  }
  return Object.fromEntries(byKey);
}

const COMPONENTS_NOTE =
  "By key `header`, `body`, `footer`, `buttons`; the provider's own array is taken too. Variables without an example get one.";

const componentsInput = z
  .preprocess(
    keyed,
    z.strictObject({
      header: header.optional(),
      body,
      footer: footer.optional(),
      buttons: buttonList.optional(),
      carousel: z
        .looseObject({ cards: z.array(z.looseObject({})).min(1).max(10) })
        .optional()
        .openapi({ description: "As the provider takes it." }),
      limited_time_offer: z.looseObject({}).optional().openapi({ description: "As the provider takes it." }),
    }),
  )
  .openapi({ description: COMPONENTS_NOTE });

export type ComponentsInput = z.output<typeof componentsInput>;

const workspaceId = uuidSchema.optional();

const phoneNumberRef = z
  .string()
  .min(1)
  .max(64)
  .openapi({ description: "Ours or the provider's id; the default number when left out." });

export const createTemplateBody = z
  .object({
    workspace_id: workspaceId,
    phone_number_id: phoneNumberRef.optional(),
    name: z.string().regex(/^[a-z0-9_]{1,512}$/, "Must be lower-case letters, digits and underscores, 512 at most"),
    category: z.enum(CATEGORIES),
    language: z.string().regex(/^[a-z]{2,3}(_[A-Za-z]{2,4})?$/, "Must be a language code such as en or en_US"),
    parameter_format: z
      .enum(["POSITIONAL", "NAMED"])
      .optional()
      .openapi({ description: "Follows from the variables when left out." }),
    components: componentsInput,
  })
  .superRefine((value, context) => {
    // The text of an authentication template is the provider's own.
    if (value.category === "AUTHENTICATION" || value.components.body.text !== undefined) return;
    context.addIssue({ code: "custom", path: ["components", "body", "text"], message: "The body needs its text" });
  })
  .openapi("CreateTemplate");

export type CreateTemplate = z.output<typeof createTemplateBody>;

export const changeTemplateBody = z
  .object({
    components: componentsInput.optional(),
    category: z.enum(CATEGORIES).optional(),
    status: z.enum(STATUSES).optional().openapi({
      description: "Nobody but the provider sets it: asks for a fresh check, and `status_note` says more.",
    }),
  })
  .openapi("UpdateTemplate");

export type ChangeTemplate = z.output<typeof changeTemplateBody>;

export const templateParams = z.object({
  template_id: uuidSchema.openapi({ param: { name: "template_id", in: "path" } }),
});

export const templateListQuery = pageQuery.extend({
  workspace_id: workspaceId,
  phone_number_id: z
    .string()
    .min(1)
    .max(64)
    .optional()
    .openapi({ description: "Templates this number can send: those of its business account." }),
  status: z.enum(STATUSES).optional(),
  category: z.enum(CATEGORIES).optional(),
  name: z.string().min(1).max(512).optional(),
  language: z.string().min(1).max(20).optional(),
});

const time = z.string().openapi({ format: "date-time", example: "2024-01-01T00:00:00Z" });

export const templateResource = z
  .object({
    id: z.uuid(),
    workspace_id: z.uuid(),
    phone_number_id: z.uuid().openapi({ description: "The number it was made or found through." }),
    name: z.string(),
    category: z.enum(CATEGORIES),
    language: z.string(),
    status: z.enum(STATUSES),
    meta_template_id: z.string().nullable().openapi({ description: "Null until the provider has taken it." }),
    components: z.record(z.string(), z.unknown()).openapi({ description: COMPONENTS_NOTE }),
    rejection_reason: z.string().nullable(),
    created_at: time,
    updated_at: time,
    provider_status: z.string().nullable().openapi({ description: "The provider's own word.", example: "PAUSED" }),
    status_note: z.string().nullable().openapi({ description: "Why it waits, or what the provider says of it." }),
    parameter_format: z.enum(["POSITIONAL", "NAMED"]),
    quality_score: z.string().nullable().openapi({ example: "GREEN" }),
    synced_at: time.nullable(),
  })
  .openapi("Template");

export const templatePage = pageOf(templateResource).openapi("TemplatePage");

export const syncTemplatesBody = z
  .object({ workspace_id: workspaceId, phone_number_id: phoneNumberRef.optional() })
  .openapi("SyncTemplates");

export const syncTemplatesAnswer = z
  .object({
    phone_number_id: z.uuid(),
    business_id: z.string(),
    fetched: z.int().openapi({ description: "Templates the provider listed." }),
    created: z.int(),
    updated: z.int(),
    gone: z.int().openapi({ description: "Here, but not at the provider any more; they stay, with `DELETED`." }),
    complete: z.boolean().openapi({ description: "False when the provider stopped answering, or listed too many." }),
  })
  .openapi("SyncedTemplates");

/**
 * Parameters of a template, in the documented form (by key `header`, `body`, `buttons`) or as the provider's array.
 * What they must be depends on the template, so they are checked against it.
 */
export const sendComponents = z.union([z.record(z.string(), z.unknown()), z.array(z.unknown()).max(50)]).openapi({
  type: "object",
  description:
    "By key `header`, `body`, `buttons`, each a list of parameters; the provider's own array is taken too. Named parameters carry `parameter_name`.",
  example: { body: [{ type: "text", text: "John" }] },
});

export const previewTemplateBody = z.object({ components: sendComponents.optional() }).openapi("PreviewTemplate");

export const previewTemplateAnswer = z
  .object({
    header: z
      .object({ format: z.string(), text: z.string().nullable(), media: z.record(z.string(), z.unknown()).nullable() })
      .nullable(),
    body: z.string(),
    footer: z.string().nullable(),
    buttons: z.array(z.object({ type: z.string(), text: z.string().nullable(), url: z.string().nullable() })),
    components: z
      .array(z.record(z.string(), z.unknown()))
      .openapi({ description: "What a send would give the provider." }),
  })
  .openapi("TemplatePreview");
