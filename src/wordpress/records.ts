/** What a record of a site says of a person. Pure. */
import { readRow } from "../imports/service-rows";
import type { SourceConfig, SourceKind } from "./schema";

export interface Person {
  digits: string;
  name: string | null;
  optedIn: boolean;
}

const MAX_NAME = 200;
const CONSENT = ["true", "1", "yes", "on"];

interface Places {
  phone: string | undefined;
  name: readonly string[];
  country: string | undefined;
}

/** Where a kind keeps what is asked for, unless the source says otherwise. */
export function placesOf(kind: SourceKind, config: SourceConfig): Places {
  const own = { phone: config.phone, name: config.name ?? [], country: config.country };
  switch (kind) {
    case "woocommerce":
      return {
        phone: own.phone ?? "/billing/phone",
        name: config.name ?? ["/first_name", "/last_name"],
        country: own.country ?? "/billing/country",
      };
    case "wp_users":
      return { ...own, name: config.name ?? ["/name"] };
    case "gravity_forms":
    case "custom":
      return own;
  }
}

/** The person of a record; null when it has no number that can be read. `country` reads national numbers. */
export function readPerson(
  kind: SourceKind,
  config: SourceConfig,
  record: unknown,
  country: string | null,
): Person | null {
  const places = placesOf(kind, config);
  const phone = places.phone === undefined ? "" : textOf(valueAt(record, places.phone));
  const name = places.name
    .map((place) => textOf(valueAt(record, place)))
    .filter((part) => part !== "")
    .join(" ")
    .slice(0, MAX_NAME);
  const said = places.country === undefined ? "" : textOf(valueAt(record, places.country)).toUpperCase();
  const row = readRow([phone, name, ""], /^[A-Z]{2}$/.test(said) ? said : country);
  return row.ok ? { digits: row.digits, name: row.name, optedIn: agreed(config.opted_in, record) } : null;
}

/** Whether the record says that the person agreed: only what is named says so (contract 18). */
function agreed(consent: SourceConfig["opted_in"], record: unknown): boolean {
  if (consent === "always") return true;
  if (consent === "never") return false;
  const said = textOf(valueAt(record, consent.field)).toLowerCase();
  return (consent.values ?? CONSENT).some((value) => value.trim().toLowerCase() === said);
}

function textOf(value: unknown): string {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? String(value).trim()
    : "";
}

/** RFC 6901; in a list of `{key, value}` a token that is no place is a key. */
export function valueAt(record: unknown, pointer: string): unknown {
  let value = record;
  for (const raw of pointer.split("/").slice(1)) {
    const token = raw.replaceAll("~1", "/").replaceAll("~0", "~");
    if (Array.isArray(value)) {
      value = /^\d{1,6}$/.test(token) ? value[Number(token)] : value.map(entryOf).find((e) => e?.key === token)?.value;
    } else {
      value = memberOf(value, token);
    }
  }
  return value;
}

function entryOf(value: unknown): { key: unknown; value: unknown } | null {
  return typeof value === "object" && value !== null
    ? { key: memberOf(value, "key"), value: memberOf(value, "value") }
    : null;
}

function memberOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return new Map<string, unknown>(Object.entries(value)).get(name);
}
