import { z } from "@hono/zod-openapi";
import { fromBase64Url, toBase64Url, utf8 } from "./crypto";
import { invalidField } from "./errors";

const integerText = /^(0|[1-9]\d{0,8})$/;

const limitText = z
  .string()
  .regex(integerText, "Must be a whole number from 1 to 100")
  .transform(Number)
  .pipe(z.number().min(1, "Must be from 1 to 100").max(100, "Must be from 1 to 100"));

/** Of any size (contract 10): behind the last row is an empty page. */
const offset = z
  .string()
  .regex(/^(0|[1-9]\d{0,14})$/, "Must be a whole number from 0 to 999999999999999")
  .transform(Number)
  .default(0)
  .openapi({ type: "integer", minimum: 0, default: 0 });

/** `limit`, `offset` and `cursor` of every list. Out of range is refused, never clamped (contract 3). */
export const pageQuery = z.object({
  limit: limitText.default(20).openapi({ type: "integer", minimum: 1, maximum: 100, default: 20 }),
  offset,
  cursor: z
    .string()
    .max(500)
    .optional()
    .openapi({ description: "`next_cursor` of the page before. Wins over `offset` and costs the same at any depth." }),
});

/** Bare arrays answer everything, unless a page is asked for (contract 10). */
export const bareListQuery = z.object({
  limit: limitText.optional().openapi({ type: "integer", minimum: 1, maximum: 100, description: "Without it: all." }),
  offset,
});

/** A page of a bare array; no `limit` means all. */
export interface BareListQuery {
  limit?: number | undefined;
  offset: number;
}

export type PageQuery = z.output<typeof pageQuery>;

/** The envelope of every list (product 2). */
export function pageOf<T extends z.ZodType>(item: T) {
  return z.object({
    data: z.array(item),
    total: z.int(),
    total_is_lower_bound: z
      .literal(true)
      .optional()
      .openapi({ description: "Present when a filtered total stopped counting at 10,000." }),
    limit: z.int(),
    offset: z.int(),
    next_cursor: z.string().nullable(),
  });
}

export interface Page<T> {
  rows: T[];
  total: number;
  totalIsLowerBound: boolean;
  nextCursor: string | null;
}

export function pageBody<T, U>(page: Page<T>, query: PageQuery, shape: (row: T) => U) {
  return {
    data: page.rows.map(shape),
    total: page.total,
    ...(page.totalIsLowerBound ? { total_is_lower_bound: true as const } : {}),
    limit: query.limit,
    offset: query.offset,
    next_cursor: page.nextCursor,
  };
}

/** Filtered totals are exact up to here (contract 10). */
export const EXACT_TOTAL = 10_000;

/** An opaque cursor over the sort key of the last row. */
export function encodeCursor(key: readonly (string | number)[]): string {
  return toBase64Url(utf8(JSON.stringify(key)));
}

/** The sort key of a cursor, or a 422: a cursor is never guessed at. */
export function decodeCursor<T extends z.ZodType>(cursor: string, schema: T): z.output<T> {
  const bytes = fromBase64Url(cursor);
  if (bytes) {
    try {
      const key = schema.safeParse(JSON.parse(new TextDecoder().decode(bytes)));
      if (key.success) return key.data;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  throw invalidField(["query", "cursor"], "Not a cursor of this list");
}
