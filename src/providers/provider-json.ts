/** A run of digits that may be an integer beyond 2^53. Most bodies have none outside of strings; the rest parse fast. */
const LONG_DIGITS = /\d{16}/;

const INTEGER = /^-?\d+$/;

/**
 * JSON of a provider, with integers that a double cannot hold kept as strings of their digits: template and account
 * ids come as numbers above 2^53, and one wrong digit is another template. Throws SyntaxError for what is no JSON.
 */
export function parseProviderJson(text: string): unknown {
  if (!LONG_DIGITS.test(text)) return JSON.parse(text);
  return JSON.parse(
    text,
    function keepDigits(this: unknown, _key: string, value: unknown, token?: { source?: string }) {
      const inexact = typeof value === "number" && !Number.isSafeInteger(value);
      return inexact && token?.source !== undefined && INTEGER.test(token.source) ? token.source : value;
    },
  );
}

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An id or name: a non-empty string, or a number as its digits; anything else is null. */
export function textOf(value: unknown): string | null {
  if (typeof value === "number" && Number.isFinite(value)) return String(value);
  return typeof value === "string" && value !== "" ? value : null;
}

export function objectOf(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

export function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
