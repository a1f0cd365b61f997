import { env } from "cloudflare:workers";
import type { WebhookJob } from "../../src/inbound/jobs";
import { requireSetting } from "../../src/platform/config";
import { hmacSha256, toHex, utf8 } from "../../src/platform/crypto";
import { createRuntime } from "../../src/platform/runtime";

/** Bodies of Meta's webhooks, as far as a test needs to vary them; the captured ones are in fixtures/webhooks. */

interface Receiver {
  businessId: string | null;
  providerNumberId: string;
}

/** A POST of one change with these items about one number. */
export function webhookBody(number: Receiver, value: Record<string, unknown>): object {
  const metadata = { display_phone_number: number.providerNumberId, phone_number_id: number.providerNumberId };
  return {
    object: "whatsapp_business_account",
    entry: [
      {
        id: number.businessId ?? "0",
        changes: [{ field: "messages", value: { messaging_product: "whatsapp", metadata, ...value } }],
      },
    ],
  };
}

/** A customer's text; `from` is digits. */
export function inboundText(
  number: Receiver,
  text: { from: string; wamid: string; body?: string; at?: number },
): object {
  return webhookBody(number, {
    contacts: [{ profile: { name: `Customer ${text.from}` }, wa_id: text.from }],
    messages: [
      {
        from: text.from,
        id: text.wamid,
        timestamp: String(Math.floor((text.at ?? Date.now()) / 1000)),
        type: "text",
        text: { body: text.body ?? "Hello, where is my parcel?" },
      },
    ],
  });
}

/** A status with the pricing Meta puts in: `sent`, and one of `delivered` and `read`. */
export function statusUpdate(
  number: Receiver,
  status: {
    wamid: string;
    callback: string;
    status: "sent" | "delivered" | "read" | "failed";
    to: string;
    at?: number;
  },
): object {
  const pricing = { billable: true, pricing_model: "PMP", type: "regular", category: "service" };
  return webhookBody(number, {
    statuses: [
      {
        id: status.wamid,
        status: status.status,
        timestamp: String(Math.floor((status.at ?? Date.now()) / 1000)),
        recipient_id: status.to,
        biz_opaque_callback_data: status.callback,
        ...(status.status === "sent" || status.status === "delivered" ? { pricing } : {}),
      },
    ],
  });
}

/** The queue message that a received POST becomes. */
export function webhookJob(body: object): WebhookJob {
  return {
    v: 1,
    kind: "webhook.part",
    provider: "meta",
    connection: null,
    receivedAt: Date.now(),
    firstPosition: 0,
    body: JSON.stringify(body),
  };
}

/** The POST as Meta sends it, signed. */
export async function signedWebhook(body: object): Promise<Request> {
  const text = JSON.stringify(body);
  const secret = requireSetting(createRuntime(env).config, "META_APP_SECRET");
  const signature = toHex(await hmacSha256(secret, utf8(text)));
  return new Request("https://switchboard.test/webhook", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Hub-Signature-256": `sha256=${signature}` },
    body: text,
  });
}
