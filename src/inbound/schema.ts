import { z } from "@hono/zod-openapi";
import { pageOf } from "../platform/pagination";

const webhookEventResource = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    phone_number_id: z.string().nullable(),
    provider: z.string(),
    kind: z.string().openapi({ description: "`unknown` for what nobody recognised; else what it is about." }),
    field: z.string().nullable().openapi({ description: "The provider's own name of it." }),
    reason: z.string().nullable().openapi({ description: "Why it is unknown." }),
    payload: z
      .unknown()
      .openapi({ description: "What the provider sent; null when it is kept as a file because of its size." }),
    received_at: z.string(),
  })
  .openapi("WebhookEvent");

export const webhookEventList = pageOf(webhookEventResource);

export const deadLetterResource = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    queue: z.string(),
    reason: z.string(),
    created_at: z.string(),
    replayed_at: z.string().nullable(),
  })
  .openapi("DeadLetter");

export const deadLetterList = pageOf(deadLetterResource);
