import { hex } from "../random";
import type { WebhookItem } from "../state/outbox";

interface Change {
  field: string;
  value: Record<string, unknown>;
}

interface Entry {
  id: string;
  time?: number;
  changes: Change[];
}

/**
 * One webhook body for several items, in their order. Neighbours of one number share a `value` (messages and statuses
 * side by side), neighbours of one account share an `entry`.
 */
export function envelope(items: readonly WebhookItem[], now: number): { object: string; entry: Entry[] } {
  const entries: Entry[] = [];
  let open: { change: Change; phoneId: string | null } | null = null;
  for (const event of items) {
    let entry = entries.at(-1);
    if (entry === undefined || entry.id !== event.wabaId) {
      entry = { id: event.wabaId, changes: [] };
      if (event.list === null) entry.time = Math.floor(now / 1000);
      entries.push(entry);
      open = null;
    }
    if (event.list === null) {
      entry.changes.push({ field: event.field, value: event.item });
      open = null;
      continue;
    }
    if (open === null || open.change.field !== event.field || open.phoneId !== event.phoneId) {
      const change = { field: event.field, value: frame(event.phoneId ?? "") };
      entry.changes.push(change);
      open = { change, phoneId: event.phoneId };
    }
    append(open.change.value, event.list, event.item);
    for (const contact of event.contacts ?? []) addContact(open.change.value, contact);
  }
  return { object: "whatsapp_business_account", entry: entries };
}

function frame(phoneId: string): Record<string, unknown> {
  return {
    messaging_product: "whatsapp",
    metadata: { display_phone_number: phoneId, phone_number_id: phoneId },
  };
}

function append(value: Record<string, unknown>, list: string, item: unknown): void {
  const known = value[list];
  if (Array.isArray(known)) known.push(item);
  else value[list] = [item];
}

function addContact(value: Record<string, unknown>, contact: Record<string, unknown>): void {
  const known = Array.isArray(value.contacts) ? value.contacts : [];
  const text = JSON.stringify(contact);
  if (!known.some((other) => JSON.stringify(other) === text)) append(value, "contacts", contact);
}

/** The bytes Meta sends: JSON with everything outside ASCII escaped, and slashes too. */
export function webhookBytes(body: unknown): Uint8Array {
  const text = JSON.stringify(body)
    .replaceAll("/", "\\/")
    .replaceAll(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return new TextEncoder().encode(text);
}

/** The value of `X-Hub-Signature-256`: HMAC-SHA256 of the raw bytes with the app's secret. */
export async function signature(bytes: Uint8Array, secret: string): Promise<string> {
  const key = await crypto.subtle.importKey(
    "raw",
    new TextEncoder().encode(secret),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign"],
  );
  return `sha256=${hex(await crypto.subtle.sign("HMAC", key, bytes))}`;
}
