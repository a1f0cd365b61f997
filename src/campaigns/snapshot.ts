/**
 * What a campaign sends, frozen at its start, and the places in its parameters that are filled per person:
 * `{{contact.name}}`, or `{{contact.name|there}}` with a text for people of whom it is not known.
 */
import { CONTACT_FIELDS, type ContactField, type Snapshot } from "./schema";
import { type StoredTemplate, type TemplateFilling, templateContent } from "../templates/service";

const PLACE = /\{\{\s*([^{}|]*?)\s*(?:\|([^{}]*))?\}\}/g;

export type PlacesRead = { ok: true; fields: ContactField[]; required: ContactField[] } | { ok: false; msg: string };

/** The fields that parameters use. Refuses what looks like one and is none: it would be sent as it stands. */
export function placesOf(components: unknown): PlacesRead {
  const fields = new Set<ContactField>();
  const required = new Set<ContactField>();
  let unknown: string | null = null;
  mapTexts(components, (text) => {
    for (const [whole, said, otherwise] of text.matchAll(PLACE)) {
      const field = CONTACT_FIELDS.find((name) => `contact.${name}` === said);
      if (field === undefined) {
        unknown ??= whole;
        continue;
      }
      fields.add(field);
      if (otherwise === undefined || otherwise.trim() === "") required.add(field);
    }
    return text;
  });
  if (unknown !== null) {
    const known = CONTACT_FIELDS.map((name) => `{{contact.${name}}}`).join(", ");
    return { ok: false, msg: `Nothing is known as ${unknown}: use ${known}` };
  }
  return { ok: true, fields: [...fields], required: [...required] };
}

/** Parameters with what is known of a person; a field that is not known is its other text, or nothing. */
export function resolvePlaces(components: unknown, known: Partial<Record<string, string | null>>): unknown {
  return mapTexts(components, (text) =>
    text.replaceAll(PLACE, (whole, said: string, otherwise: string | undefined) => {
      const field = CONTACT_FIELDS.find((name) => `contact.${name}` === said);
      if (field === undefined) return whole;
      // Meta refuses parameters with line breaks, tabs, or more than four spaces in a row (132018).
      const value = (known[field] ?? "").replaceAll(/\s+/g, " ").trim();
      return value === "" ? (otherwise ?? "").trim() : value;
    }),
  );
}

/** The message of one person; not ok where what is known of them does not fit the template. */
export function contentFor(template: StoredTemplate, snapshot: Snapshot, known: Record<string, string | null> | null) {
  const frozen: StoredTemplate = { ...template, ...snapshot.template };
  const filling: TemplateFilling = templateContent(
    frozen,
    snapshot.fields.length === 0 ? snapshot.components : resolvePlaces(snapshot.components, known ?? {}),
  );
  return filling;
}

/** Parameters as they may look for one person: to check a template before anybody's are known. */
export function sampleOf(components: unknown): unknown {
  return resolvePlaces(components, Object.fromEntries(CONTACT_FIELDS.map((field) => [field, "sample"])));
}

function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === "string") return change(value);
  if (Array.isArray(value)) return value.map((item: unknown) => mapTexts(item, change));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapTexts(item, change)]));
}
