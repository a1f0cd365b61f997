import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";

const time = z.string().openapi({ format: "date-time", example: "2024-01-01T00:00:00Z" });
const displayName = z.string().trim().min(1, "Must not be empty").max(200);

/** A secret travels in a header or is HMAC key: printable ASCII without spaces. */
const secret = z.string().regex(/^[\x21-\x7e]{1,4096}$/, "Must be printable text without spaces");

const statusSchema = z.enum(["pending", "active", "disabled"]);

export const phoneNumberParams = z.object({
  phone_number_id: uuidSchema.openapi({ param: { name: "phone_number_id", in: "path" } }),
});

const PROVIDERS = ["meta", "360dialog", "infobip"] as const;

/** Credentials go to Infobip's own hosts only. */
const INFOBIP_ADDRESS = /^https:\/\/(?:[a-z0-9-]{1,63}\.)?api\.infobip\.com\/?$/;

export const registerBody = z
  .object({
    workspace_id: uuidSchema.optional().openapi({ description: "Without it: the caller's own (API key) or oldest." }),
    provider: z.enum(PROVIDERS).default("meta").openapi({ description: "Who serves the number." }),
    phone_number_id: z
      .string()
      .regex(/^\d{1,32}$/, "Must be the provider's id of the number: digits")
      .optional()
      .openapi({
        example: "1234567890",
        description:
          "Needed for `meta`. `360dialog` tells it of the key; for `infobip` it is the sender, which may stand in `phone_number` instead.",
      }),
    access_token: secret.openapi({ description: "Meta's access token, 360dialog's API key, or Infobip's API key." }),
    phone_number: z
      .string()
      .regex(/^\+[1-9]\d{1,14}$/, "Phone number must be in E.164 format")
      .optional()
      .openapi({ description: "Needed for `360dialog`, which does not tell it." }),
    base_url: z
      .string()
      .regex(INFOBIP_ADDRESS, "Must be an address of Infobip's such as https://abc12.api.infobip.com")
      .optional()
      .openapi({ description: "The account's own address, of `infobip` only." }),
    display_name: displayName.optional(),
    business_id: z
      .string()
      .regex(/^[\w.-]{1,128}$/, "Must be an id")
      .optional()
      .openapi({ description: "The WhatsApp business account. Learnt from the token where it is missing." }),
    app_secret: secret
      .optional()
      .openapi({ description: "Of the number's own Meta app: signs what comes to its own `webhook_url`." }),
  })
  .superRefine((body, context) => {
    const refuse = (field: string, message: string) =>
      context.addIssue({ code: "custom", path: [field], message, input: undefined });
    const { provider, phone_number_id: id, phone_number: number } = body;
    if (provider === "meta" && id === undefined) {
      refuse("phone_number_id", "Must be the provider's id of the number: digits");
    }
    if (provider === "360dialog" && number === undefined) {
      refuse("phone_number", "360dialog does not tell the number: it is needed");
    }
    if (provider === "infobip" && id === undefined && number === undefined) {
      refuse("phone_number", "The sender's number is needed");
    }
    if (provider === "infobip" && id !== undefined && number !== undefined && number !== `+${id}`) {
      refuse("phone_number_id", "The sender and its number must be the same");
    }
    if (provider !== "infobip" && body.base_url !== undefined)
      refuse("base_url", "Only Infobip has accounts' addresses");
    if (provider !== "meta" && body.app_secret !== undefined) refuse("app_secret", "Only Meta's apps have a secret");
  })
  .openapi("RegisterPhoneNumber");

export type Registration = z.output<typeof registerBody>;

export const changeBody = z
  .object({
    display_name: displayName.optional(),
    access_token: secret.optional().openapi({ description: "Tried at the provider before it is stored." }),
    app_secret: secret.nullable().optional(),
    status: statusSchema.optional().openapi({
      description:
        "`disabled` stops the number, whatever the provider says, until `active` or `pending` lets it go on; then the provider's word counts.",
    }),
    is_default: z.boolean().optional().openapi({ description: "Acts where a call names no number." }),
  })
  .openapi("UpdatePhoneNumber");

export type NumberChange = z.output<typeof changeBody>;

export const listQuery = pageQuery.extend({
  workspace_id: uuidSchema.optional(),
  status: statusSchema.optional(),
});

export const phoneNumberAnswer = z
  .object({
    id: z.uuid(),
    workspace_id: z.uuid(),
    phone_number: z.string().openapi({ example: "+1234567890" }),
    phone_number_id: z.string().openapi({ description: "The provider's id of the number." }),
    display_name: z.string(),
    business_id: z.string().nullable(),
    quality_rating: z.enum(["GREEN", "YELLOW", "RED", "UNKNOWN"]),
    message_limit: z.int().nullable().openapi({ description: "People per rolling day; null: no limit." }),
    tier: z.string().openapi({ description: "The provider's throughput level.", example: "STANDARD" }),
    status: statusSchema,
    verified_at: time.nullable(),
    created_at: time,
    updated_at: time,
    synced_at: time.nullable(),
    provider: z.enum(PROVIDERS),
    provider_status: z.string().nullable().openapi({ description: "The provider's own word.", example: "CONNECTED" }),
    verified_name: z.string().nullable(),
    token_expires_at: time.nullable().openapi({ description: "Null: never, or not known." }),
    webhook_url: z.url().openapi({ description: "The number's own webhook address." }),
    last_webhook_at: time.nullable(),
    blocked_reason: z
      .string()
      .nullable()
      .openapi({ description: "Why the provider refuses its sends; null: it does not." }),
    is_default: z.boolean(),
  })
  .openapi("PhoneNumber");

export const registeredAnswer = phoneNumberAnswer
  .extend({
    subscription: z
      .object({ subscribed: z.boolean(), reason: z.string().nullable() })
      .openapi({ description: "Whether the provider will send the number's webhooks here." }),
  })
  .openapi("RegisteredPhoneNumber");

export const configuredAnswer = registeredAnswer
  .extend({
    webhook: z
      .object({
        url: z.url(),
        header: z.string().openapi({ description: "Carries the secret; or basic authentication with the two below." }),
        username: z.string(),
        secret: z.string(),
      })
      .nullable()
      .openapi({ description: "What to enter by hand where the provider refuses to be told. Null: Meta signs." }),
  })
  .openapi("ConfiguredPhoneNumber");

/** An empty body subscribes again as it is. */
export const webhookBody = z
  .object({
    rotate_secret: z
      .boolean()
      .default(false)
      .openapi({ description: "Gives the connection a new secret; the one before is taken for a day more." }),
  })
  .openapi("ConfigureWebhook");

export const phoneNumberPage = pageOf(phoneNumberAnswer).openapi("PhoneNumberPage");
