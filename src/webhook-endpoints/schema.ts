import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";
import { pageOf, pageQuery } from "../platform/pagination";

/** What an endpoint can ask for. */
export const EVENT_TYPES = [
  "message.received",
  "message.sent",
  "message.delivered",
  "message.read",
  "message.failed",
  "webhook_event.created",
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

const filter = z
  .array(z.union([z.literal("*"), z.enum(EVENT_TYPES)], { error: `Must be * or one of ${EVENT_TYPES.join(", ")}` }))
  .min(1, "Needs at least one event")
  .max(20)
  .openapi({ description: "Event types, or `*` for all, those of later versions included." });
const address = z.string().min(1, "Must not be empty").max(2000).openapi({
  format: "uri",
  description: "A public https address at port 443. Redirects are not followed.",
});
const description = z.string().max(200);

export const createEndpointBody = z
  .object({
    workspace_id: uuidSchema.optional(),
    url: address,
    events: filter.default(["*"]),
    description: description.nullable().default(null),
    enabled: z.boolean().default(true),
  })
  .openapi("CreateWebhookEndpoint");

export const changeEndpointBody = z
  .object({
    url: address,
    events: filter,
    description: description.nullable(),
    enabled: z.boolean().openapi({
      description: "Enabling begins with what happens from then on; a replay brings what was missed.",
    }),
  })
  .partial()
  .openapi("ChangeWebhookEndpoint");

export const endpointResource = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    url: z.string(),
    description: z.string().nullable(),
    events: z.array(z.string()),
    enabled: z.boolean(),
    disabled_reason: z.string().nullable().openapi({ description: "Why it was disabled by itself." }),
    disabled_at: z.string().nullable(),
    failing_since: z.string().nullable().openapi({ description: "The first failure since the last success." }),
    next_attempt_at: z.string().nullable().openapi({ description: "While it is held back." }),
    last_success_at: z.string().nullable(),
    last_error: z.string().nullable(),
    replaying: z.boolean(),
    created_at: z.string(),
    updated_at: z.string(),
  })
  .openapi("WebhookEndpoint");

export const endpointList = pageOf(endpointResource);
export const endpointListQuery = pageQuery.extend({ workspace_id: uuidSchema.optional() });
export const endpointParams = z.object({ id: uuidSchema });

/** One call of an endpoint, as the log keeps it. */
export const deliveryEntry = z.object({
  id: z.string(),
  event_id: z.string(),
  /** Place in the outbox; null for a test. */
  seq: z.int().nullable(),
  type: z.string(),
  /** Empty where it belongs to none. */
  conversation_id: z.string(),
  cause: z.enum(["event", "replay", "test"]),
  attempt: z.int(),
  /** ms */
  at: z.number(),
  duration: z.number(),
  /** `given_up`: it failed for so long that the next event of its conversation is tried instead. */
  outcome: z.enum(["delivered", "failed", "given_up"]),
  status: z.int().nullable(),
  error: z.string().nullable(),
  request_body: z.string(),
  response_body: z.string().nullable(),
});
export type DeliveryEntry = z.infer<typeof deliveryEntry>;

export const deliveryResource = deliveryEntry
  .omit({ seq: true, at: true, duration: true, status: true, conversation_id: true })
  .extend({
    endpoint_id: z.string(),
    attempted_at: z.string(),
    duration_ms: z.int(),
    response_status: z.int().nullable().openapi({ description: "Null when there was no answer." }),
    request_body: z.string().openapi({ description: "What was sent, up to 8 KB of it." }),
    response_body: z.string().nullable().openapi({ description: "What was answered, up to 1 KB of it." }),
  })
  .openapi("WebhookDelivery");

export const deliveryList = pageOf(deliveryResource);
export const deliveryListQuery = pageQuery.extend({ outcome: z.enum(["delivered", "failed"]).optional() });
export const deliveryParams = z.object({ id: uuidSchema, delivery_id: uuidSchema });

const isoTime = z.iso
  .datetime({ offset: true, error: "Must be an ISO time such as 2024-01-01T00:00:00Z" })
  .transform((text) => Date.parse(text))
  .openapi({ type: "string", format: "date-time" });

export const replayBody = z
  .object({ since: isoTime, until: isoTime.optional() })
  .openapi("ReplayWebhookEvents", { description: "Events are kept for 7 days." });

export const replayAnswer = z.object({
  events: z.int().openapi({ description: "How many the window holds; the endpoint's filter may leave out some." }),
});
