/**
 * Places in an answer that are filled per person: `{{contact.name}}`, or `{{contact.name|there}}` with a text for people
 * of whom it is not known.
 */
import { CONTACT_FIELDS } from "./schema";

/** What is known of a person. */
export interface KnownContact {
  name: string | null;
  username: string | null;
  phoneNumber: string | null;
}

const PLACE = /\{\{\s*([^{}|]*?)\s*(?:\|([^{}]*))?\}\}/g;

/** The first place that names nothing we know, or null: it would be sent as it stands. */
export function unknownPlace(value: unknown): string | null {
  let unknown: string | null = null;
  mapTexts(value, (text) => {
    for (const [whole, said] of text.matchAll(PLACE)) {
      if (!CONTACT_FIELDS.some((field) => `contact.${field}` === said)) unknown ??= whole;
    }
    return text;
  });
  return unknown;
}

/** The value with every place filled; what is not known is its other text, or nothing. */
export function fillPlaces<T>(value: T, contact: KnownContact): T {
  const known: Record<string, string | null> = {
    "contact.name": contact.name,
    "contact.first_name": contact.name?.trim().split(/\s+/)[0] ?? null,
    "contact.phone_number": contact.phoneNumber,
    "contact.username": contact.username,
  };
  // Texts stay texts and everything else stays as it is, so the shape is the same.
  return mapTexts(value, (text) =>
    text.replaceAll(PLACE, (_, said: string, otherwise: string | undefined) => {
      const filled = (known[said] ?? "").replaceAll(/\s+/g, " ").trim();
      return filled === "" ? (otherwise ?? "").trim() : filled;
    }),
  ) as T;
}

function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === "string") return change(value);
  if (Array.isArray(value)) return value.map((item: unknown) => mapTexts(item, change));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapTexts(item, change)]));
}
