/**
 * In which order a site's records are read, so that none is missed though records come and go meanwhile, and so that
 * what was read once is not read again. Pure: from where the reading stands to the next request, and from the answer to
 * where it stands then. Of outside rules: developer.wordpress.org/rest-api/using-the-rest-api/pagination,
 * woocommerce.github.io/woocommerce-rest-api-docs (customers), docs.gravityforms.com/rest-api-v2.
 */
import { z } from "zod";
import type { SourceConfig, SourceKind } from "./schema";
import type { Cursor, Watermark } from "./tables";

/** Records of a page: the most that WordPress gives. */
const PAGE = 100;
/** Pages of one reading. */
const MAX_PAGES = 20_000;
/** `modified_after` is read in the site's own time zone: a day covers them all. ms */
const SINCE_OVERLAP = 86_400_000;

/** What of a source a reading needs. */
export interface Reading {
  kind: SourceKind;
  config: SourceConfig;
  cursor: Cursor;
}

export interface SitePage {
  body: unknown;
  /** `X-WP-Total` and `X-WP-TotalPages`. */
  total: number | null;
  totalPages: number | null;
}

/** Where a reading begins. */
export function firstCursor(kind: SourceKind, config: SourceConfig, watermark: Watermark | null, now: number): Cursor {
  const begun = { begun: now, last: null, top: null, floor: null, total: null, since: null };
  switch (kind) {
    case "woocommerce":
    case "wp_users":
      return { ...begun, place: 0, floor: watermark?.id ?? null };
    case "gravity_forms":
      return { ...begun, place: 0, last: watermark?.id ?? null };
    case "custom": {
      const at = config.since === undefined ? null : (watermark?.at ?? null);
      return { ...begun, place: 1, since: at === null ? null : new Date(at - SINCE_OVERLAP).toISOString() };
    }
  }
}

/** Path below the site's address, with its query. */
export function requestOf({ kind, config, cursor }: Reading, size = PAGE): string {
  const page = String(size);
  switch (kind) {
    case "woocommerce":
      return `/wp-json/wc/v3/customers?${newestFirst(cursor, page)}`;
    case "wp_users":
      return `/wp-json/wp/v2/users?context=edit&${newestFirst(cursor, page)}`;
    case "gravity_forms": {
      const after = { key: "id", operator: ">", value: String(cursor.last ?? 0) };
      const query = new URLSearchParams({
        "paging[page_size]": page,
        "sorting[key]": "id",
        "sorting[direction]": "ASC",
        "sorting[is_numeric]": "true",
        search: JSON.stringify({ status: "active", field_filters: [after] }),
        ...(config.form_id === undefined ? {} : { "form_ids[0]": String(config.form_id) }),
      });
      return `/wp-json/gf/v2/entries?${query}`;
    }
    case "custom": {
      const path = config.path ?? "/";
      const query = new URLSearchParams({
        per_page: page,
        page: String(cursor.place),
        ...(cursor.since === null || config.since === undefined ? {} : { [config.since]: cursor.since }),
      });
      return `${path}${path.includes("?") ? "&" : "?"}${query}`;
    }
  }
}

/** One record that is known already comes along: it shows whether records above it vanished. */
function newestFirst(cursor: Cursor, page: string): string {
  const offset = String(cursor.last === null ? cursor.place : Math.max(0, cursor.place - 1));
  return String(new URLSearchParams({ orderby: "id", order: "desc", per_page: page, offset }));
}

export interface Advance {
  /** What was not read yet. */
  records: unknown[];
  next: Cursor;
  done: boolean;
}

/** An answer that is not what such a site gives; the message says why. */
export class UnreadableAnswer extends Error {
  constructor(message: string) {
    super(message);
    this.name = "UnreadableAnswer";
  }
}

/** Where a reading stands after a page. Throws `UnreadableAnswer`. */
export function advance(reading: Reading, pages: number, page: SitePage, valueAt: ValueAt): Advance {
  if (pages > MAX_PAGES) throw new UnreadableAnswer(`The site has more than ${MAX_PAGES} pages`);
  switch (reading.kind) {
    case "woocommerce":
    case "wp_users":
      return advanceNewestFirst(reading.cursor, identified(listOf(page.body)), page.total);
    case "gravity_forms":
      return advanceById(reading.cursor, identified(listOf(memberOf(page.body, "entries"))));
    case "custom": {
      const { items } = reading.config;
      return advancePages(reading.cursor, listOf(items === undefined ? page.body : valueAt(page.body, items)), page);
    }
  }
}

type ValueAt = (record: unknown, pointer: string) => unknown;

/** What completed readings have seen, after this one. */
export function watermarkOf({ kind, cursor }: Reading): Watermark {
  switch (kind) {
    case "woocommerce":
    case "wp_users":
      return { id: cursor.top ?? cursor.floor, at: null };
    case "gravity_forms":
      return { id: cursor.last, at: null };
    case "custom":
      return { id: null, at: cursor.begun };
  }
}

/** The page does not exist (any more): the list ended before it. Null when there is nothing before it either. */
export function stepBack({ kind, cursor }: Reading): Cursor | null {
  return kind === "custom" && cursor.place > 1 ? { ...cursor, place: cursor.place - 1 } : null;
}

interface Identified {
  id: number;
  record: unknown;
}

function advanceNewestFirst(cursor: Cursor, found: readonly Identified[], total: number | null): Advance {
  const { last } = cursor;
  const offset = last === null ? cursor.place : Math.max(0, cursor.place - 1);
  const first = found[0]?.id ?? null;
  if (last !== null && offset > 0 && (first === null || first < last)) {
    // Records above were deleted, and what moved up was not seen: back until known ground is in sight.
    return { records: [], next: { ...cursor, place: Math.max(0, cursor.place - PAGE) }, done: false };
  }
  const floor = cursor.floor ?? -1;
  const fresh = found.filter(({ id }) => id > floor && (last === null || id < last));
  const lowest = Math.min(last ?? Number.POSITIVE_INFINITY, ...found.map(({ id }) => id));
  const next = {
    ...cursor,
    place: offset + found.length,
    last: Number.isFinite(lowest) ? lowest : null,
    top: cursor.top ?? first,
    total,
  };
  const ended = found.length === 0 || lowest <= floor || (total !== null && next.place >= total);
  return { records: fresh.map(({ record }) => record), next, done: ended || (total === null && found.length < PAGE) };
}

function advanceById(cursor: Cursor, found: readonly Identified[]): Advance {
  const fresh = found.filter(({ id }) => id > (cursor.last ?? 0));
  const last = Math.max(cursor.last ?? 0, ...found.map(({ id }) => id));
  return {
    records: fresh.map(({ record }) => record),
    next: { ...cursor, place: cursor.place + found.length, last },
    // Also a site that does not know the filter comes to an end.
    done: found.length < PAGE || fresh.length === 0,
  };
}

function advancePages(cursor: Cursor, records: unknown[], { total, totalPages }: SitePage): Advance {
  const gone = total === null || cursor.total === null ? 0 : Math.max(0, cursor.total - total);
  // What was deleted may all have stood on pages that were read: so far has the rest moved up.
  const place = gone === 0 ? cursor.place + 1 : Math.max(1, cursor.place - Math.ceil(gone / PAGE));
  const next = { ...cursor, place, total };
  const ended = totalPages === null ? records.length < PAGE : cursor.place >= totalPages;
  return { records, next, done: ended && gone === 0 };
}

function listOf(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw new UnreadableAnswer("The answer holds no list of records");
  return value;
}

const entries = z.looseObject({ entries: z.unknown() });

function memberOf(body: unknown, name: "entries"): unknown {
  return entries.safeParse(body).data?.[name];
}

const numbered = z.looseObject({ id: z.coerce.number().int().positive() });

function identified(records: readonly unknown[]): Identified[] {
  return records.map((record) => {
    const parsed = numbered.safeParse(record);
    if (!parsed.success) throw new UnreadableAnswer("A record has no id");
    return { id: parsed.data.id, record };
  });
}
