/** Recognising an erased person in texts of others: pure code. */
import { z } from "zod";
import { numberVariants } from "./variants";

/** Shorter names are recognised only as a whole JSON value: "12" stands in every text. */
const DISTINCT = 7;

/** What a person was called by providers: digits and ids, never their name, which others have too. */
export class ErasedNames {
  readonly #names: ReadonlySet<string>;
  readonly #pattern: RegExp | null;

  constructor(names: readonly string[]) {
    this.#names = new Set(names.flatMap((name) => (/^\d+$/.test(name) ? [name, ...numberVariants(name)] : [name])));
    const long = [...this.#names].filter((name) => name.length >= DISTINCT).map(escaped);
    const short = [...this.#names].filter((name) => name.length < DISTINCT).map((name) => `"\\+?${escaped(name)}"`);
    const bounded = long.length === 0 ? [] : [`(?<![\\p{L}\\p{N}])(?:${long.join("|")})(?![\\p{L}\\p{N}])`];
    const all = [...bounded, ...short];
    this.#pattern = all.length === 0 ? null : new RegExp(all.join("|"), "u");
  }

  /** Every name, for a statement that looks for texts worth reading. */
  get all(): string[] {
    return [...this.#names];
  }

  /** Whether somebody is called exactly that, with or without `+`. */
  is(name: unknown): boolean {
    return typeof name === "string" && this.#names.has(name.replace(/^\+/, ""));
  }

  /** Whether a text names the person. */
  standIn(text: string): boolean {
    return this.#pattern?.test(text) ?? false;
  }

  /** Whether a provider's message id names the person: WhatsApp packs the number into it. */
  standInMessageId(id: string): boolean {
    const packed = /^wamid\.([A-Za-z0-9+/=_-]+)$/.exec(id)?.[1];
    if (packed === undefined) return this.standIn(id);
    try {
      return this.standIn(atob(packed.replaceAll("-", "+").replaceAll("_", "/")));
    } catch (error) {
      // An id that only looks packed.
      if (!(error instanceof DOMException)) throw error;
      return this.standIn(id);
    }
  }
}

function escaped(name: string): string {
  return name.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}

const ofNumber = z.looseObject({ metadata: z.looseObject({ phone_number_id: z.string() }) });

/**
 * A provider's webhook without the items that name the person; the items of others, and what another number got,
 * stay as they are.
 */
export function withoutPerson(value: unknown, names: ErasedNames, ourNumbers: ReadonlySet<string>): unknown {
  if (Array.isArray(value)) {
    return value
      .map((item) => withoutPerson(item, names, ourNumbers))
      .filter((item) => isForeign(item, ourNumbers) || !names.standIn(JSON.stringify(item)));
  }
  if (typeof value !== "object" || value === null || isForeign(value, ourNumbers)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withoutPerson(member, names, ourNumbers)]));
}

/** What another number got is another workspace's, or at least not about this one. An item may hold it deep inside. */
function isForeign(value: unknown, ourNumbers: ReadonlySet<string>): boolean {
  if (Array.isArray(value)) return value.some((item) => isForeign(item, ourNumbers));
  if (typeof value !== "object" || value === null) return false;
  const named = ofNumber.safeParse(value);
  if (named.success) return !ourNumbers.has(named.data.metadata.phone_number_id);
  return Object.values(value).some((member) => isForeign(member, ourNumbers));
}
