/**
 * What a campaign sends, frozen at its start, and the places in its parameters that are filled per person:
 * `{{contact.name}}`, or `{{contact.name|there}}` with a text for people of whom it is not known.
 */

import { type StoredTemplate, type TemplateFilling, templateContent } from "../templates/service";
import { CONTACT_FIELDS, type ContactField, type Snapshot } from "./schema";

const PLACE = /\{\{\s*([^{}|]*?)\s*(?:\|([^{}]*))?\}\}/g;

type PlacesRead = { ok: true; fields: ContactField[]; required: ContactField[] } | { ok: false; msg: string };

/** The fields that parameters use. Refuses what looks like one and is none: it would be sent as it stands. */
export function placesOf(components: unknown): PlacesRead {
  if (depthOf(components) > DEEPEST) return { ok: false, msg: "Parameters are not nested as deeply as that" };
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
function resolvePlaces(components: unknown, known: Partial<Record<string, string | null>>): unknown {
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

/** Deeper than any parameter. */
const DEEPEST = 20;

function depthOf(value: unknown, depth = 0): number {
  if (typeof value !== "object" || value === null || depth > DEEPEST) return depth;
  return Object.values(value).reduce((deepest, item) => Math.max(deepest, depthOf(item, depth + 1)), depth);
}

function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === "string") return change(value);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item: unknown) => mapTexts(item, change));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapTexts(item, change)]));
}
