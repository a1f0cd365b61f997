import type { Runtime } from "../platform/runtime";
import type { InboundEvent } from "../providers/provider";
import { parseProviderJson } from "../providers/provider-json";
import { parseWebhook } from "../providers/webhooks";
import type { WebhookJob } from "./jobs";
import type { ArrivedEvent } from "./routing";

/** A part's body is in R2 no longer: trying again brings nothing. */
export class BodyGone extends Error {}

/** The events of a part. Throws `BodyGone`, or what R2 throws. */
export async function parseJob(rt: Runtime, job: WebhookJob): Promise<ArrivedEvent[]> {
  const r2Key = "r2Key" in job ? job.r2Key : null;
  const text = "body" in job ? job.body : await readLarge(rt, job.r2Key);
  return parseBody(text, job).map((event) => ({
    provider: job.provider,
    connection: job.connection,
    receivedAt: job.receivedAt,
    position: event.position,
    event,
    source: job,
    r2Key,
  }));
}

async function readLarge(rt: Runtime, key: string): Promise<string> {
  const object = await rt.env.MEDIA.get(key);
  if (!object) throw new BodyGone("The body of an oversized webhook has expired");
  return object.text();
}

/** A signed body that is no JSON is kept whole, as one unknown event of nobody. */
function parseBody(text: string, { provider, receivedAt, firstPosition }: WebhookJob): InboundEvent[] {
  let body: unknown;
  try {
    body = parseProviderJson(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const number = { providerNumberId: null, businessId: null, displayDigits: null };
    const reason = "The body is not JSON";
    return [{ kind: "unknown", number, position: firstPosition, raw: text, field: null, reason }];
  }
  return parseWebhook(provider, body, { receivedAt, firstPosition });
}
