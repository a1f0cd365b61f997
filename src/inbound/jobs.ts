import { z } from "zod";

/**
 * A piece of a signed webhook, as received. The tenant is decided from `connection` (the authenticated path) and the
 * registered numbers, never from what else the body says (pipeline 8).
 */
export const webhookJobSchema = z
  .object({
    v: z.literal(1),
    kind: z.literal("webhook.part"),
    provider: z.enum(["meta", "360dialog", "infobip"]),
    /** Our id of the number whose own address was called; null on the app's address. */
    connection: z.string().nullable(),
    /** ms */
    receivedAt: z.int(),
    /** Place of this part's first item in its POST. */
    firstPosition: z.int(),
    /** Which version of the connection's secret it came with; whether that still counts is seen where it is routed. */
    secretVersion: z.int().optional(),
  })
  .and(z.union([z.object({ body: z.string() }), z.object({ r2Key: z.string() })]));

export type WebhookJob = z.infer<typeof webhookJobSchema>;
