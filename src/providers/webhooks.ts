/** Webhooks of whichever provider: cut into parts, and read. */
import { infobipItems, parseInfobipWebhook } from "./infobip-webhook";
import { parseMetaWebhook } from "./meta-webhook";
import { splitMetaWebhook, type WebhookPart } from "./meta-webhook-split";
import type { InboundEvent, ProviderName } from "./provider";
import { isObject, parseProviderJson } from "./provider-json";

interface Arrival {
  /** ms */
  receivedAt: number;
  /** Place of the body's first item in the webhook it was split from. */
  firstPosition: number;
}

/** Everything a body says, item by item. Never throws. */
export function parseWebhook(provider: ProviderName, body: unknown, arrival: Arrival): InboundEvent[] {
  switch (provider) {
    case "meta":
      return parseMetaWebhook(body, arrival);
    case "360dialog":
      return parseMetaWebhook(enveloped(body), arrival);
    case "infobip":
      return parseInfobipWebhook(body, arrival);
  }
}

/** The parts of a body, each at most `maxBytes` unless one item alone is larger. */
export function splitWebhook(provider: ProviderName, text: string, maxBytes: number): WebhookPart[] {
  switch (provider) {
    case "meta":
      return splitMetaWebhook(text, maxBytes);
    case "360dialog":
      return text.length * 3 <= maxBytes ? [whole(text)] : splitMetaWebhook(withEnvelope(text), maxBytes);
    case "infobip":
      return splitResults(text, maxBytes);
  }
}

/** What 360dialog's legacy bodies hold: those of the on-premises API, which had no envelope (facts 2). */
const LEGACY_MEMBERS = ["messages", "statuses", "errors"];

function isLegacy(body: unknown): boolean {
  return isObject(body) && body.entry === undefined && LEGACY_MEMBERS.some((name) => Array.isArray(body[name]));
}

/** A legacy body in the envelope that the modern one comes in. */
function enveloped(body: unknown): unknown {
  return isLegacy(body) ? { entry: [{ changes: [{ field: "messages", value: body }] }] } : body;
}

function withEnvelope(text: string): string {
  const body = parsed(text);
  return isLegacy(body) ? JSON.stringify(enveloped(body)) : text;
}

function parsed(text: string): unknown {
  try {
    return parseProviderJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function whole(text: string): WebhookPart {
  return { text, oversized: false, firstPosition: 0 };
}

const encoder = new TextEncoder();

function bytesOf(text: string): number {
  return encoder.encode(text).byteLength;
}

/** Infobip's results share nothing but their list: each part is a list of some of them. */
function splitResults(text: string, maxBytes: number): WebhookPart[] {
  if (text.length * 3 <= maxBytes || bytesOf(text) <= maxBytes) return [whole(text)];
  const body = parsed(text);
  const items = isObject(body) && Array.isArray(body.results) ? infobipItems(body) : null;
  if (!items || items.length === 0) return [{ text, oversized: true, firstPosition: 0 }];
  const parts: WebhookPart[] = [];
  const around = '{"results":[]}'.length;
  let open: string[] = [];
  let size = around;
  let firstPosition = 0;
  const close = () => {
    if (open.length === 0) return;
    parts.push({ text: `{"results":[${open.join(",")}]}`, oversized: size > maxBytes, firstPosition });
    firstPosition += open.length;
    open = [];
    size = around;
  };
  for (const item of items) {
    const json = JSON.stringify(item);
    const cost = bytesOf(json) + 1;
    if (size + cost > maxBytes) close();
    open.push(json);
    size += cost;
  }
  close();
  return parts;
}
