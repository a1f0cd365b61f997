import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { call360, result360 } from "./dialog360-http";
import type { Connection, NumberInfo, ProviderResult, WebhookTarget } from "./provider";

/** AVAILABLE sends, LIMITED sends less, BLOCKED does not (360dialog, "Messaging health status"). */
export function dialog360Status(status: string | null): NumberInfo["status"] {
  switch (status) {
    case "AVAILABLE":
    case "LIMITED":
      return "active";
    case null:
      return "pending";
    default:
      return "disabled";
  }
}

const healthSchema = z.object({
  health_status: z.object({
    can_send_message: z.string().min(1).optional(),
    entities: z.array(
      z.object({ entity_type: z.string(), id: z.coerce.string().min(1), can_send_message: z.string().optional() }),
    ),
  }),
});

/**
 * What 360dialog tells of the number a key is for: Meta's ids of number and account, and whether it may send. The
 * number itself is told nowhere, so it stays as it was given; quality and limits come with webhooks.
 */
export async function describe360Number(rt: Runtime, connection: Connection): Promise<ProviderResult<NumberInfo>> {
  const answer = await call360(rt, connection, { method: "GET", path: ["health_status"] });
  const health = result360(answer, (body) => healthSchema.safeParse(body).data?.health_status);
  if (!health.ok) return health;
  const idOf = (type: string) => health.value.entities.find((entity) => entity.entity_type === type);
  const number = idOf("PHONE_NUMBER");
  if (!number) return { ok: false, refused: false, reason: "360dialog did not say which number the key is for" };
  const providerStatus = health.value.can_send_message ?? number.can_send_message ?? null;
  return {
    ok: true,
    value: {
      providerNumberId: number.id,
      phoneNumber: connection.phoneNumber ?? `+${number.id}`,
      verifiedName: null,
      qualityRating: "UNKNOWN",
      messageLimit: null,
      tier: "STANDARD",
      status: dialog360Status(providerStatus),
      providerStatus,
      businessId: idOf("WABA")?.id ?? connection.businessId,
      tokenExpiresAt: null,
      partial: true,
    },
  };
}

/** The header by which a webhook of 360dialog's proves itself: it signs nothing, but sends what headers it is told (facts 2). */
export const WEBHOOK_SECRET_HEADER = "X-Webhook-Secret";

/** Sets the number's webhook address. The next call replaces it, so a rotated secret takes the place of the old one. */
export async function subscribe360(
  rt: Runtime,
  connection: Connection,
  webhook: WebhookTarget,
): Promise<ProviderResult<null>> {
  const answer = await call360(rt, connection, {
    method: "POST",
    path: ["v1", "configs", "webhook"],
    body: { url: webhook.url, headers: { [WEBHOOK_SECRET_HEADER]: webhook.secret } },
  });
  return result360(answer, () => null);
}
