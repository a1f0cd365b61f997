import { getTableColumns, type InferSelectModel, type Table } from "drizzle-orm";
import { type DrizzleD1Database, drizzle } from "drizzle-orm/d1";
import { AppError } from "./errors";

/** A value D1 binds. `undefined`, `bigint` and booleans are refused by the type: D1 throws on the first two. */
export type Param = string | number | null;

export interface Statement {
  readonly sql: string;
  readonly params: readonly Param[];
}

/** Numbered parameters (`?1`), so that one JSON parameter can serve several places of a statement. */
export function statement(sql: string, ...params: Param[]): Statement {
  return { sql, params };
}

/** What a unit of work cost: the bill and the latency, asserted in tests and logged per batch. */
export interface D1Cost {
  roundTrips: number;
  /** Statements: one invocation may run 1,000 (local workerd does not count them). */
  queries: number;
  rowsRead: number;
  rowsWritten: number;
}

/** Limits of production D1 that local workerd does not enforce (pipeline 28). */
const MAX_PARAMS = 100;
const MAX_STRING_BYTES = 2_000_000;
const MAX_SQL_BYTES = 100_000;
/** JSON parameters are cut well below the 2 MB a bound string may have. */
const MAX_JSON_BYTES = 500_000;

function guard(sql: string, params: readonly unknown[]): void {
  if (params.length > MAX_PARAMS) throw new Error(`D1 takes ${MAX_PARAMS} bound parameters, got ${params.length}`);
  if (sql.length > MAX_SQL_BYTES) throw new Error(`D1 takes statements of ${MAX_SQL_BYTES} bytes`);
  for (const param of params) {
    // A string has at least one byte per UTF-16 unit and at most three, so most are settled without encoding.
    if (typeof param !== "string" || param.length * 3 <= MAX_STRING_BYTES) continue;
    if (new TextEncoder().encode(param).byteLength > MAX_STRING_BYTES) {
      throw new Error(`D1 takes strings of ${MAX_STRING_BYTES} bytes`);
    }
  }
}

/** D1 answers these when its queue is full. The only right reaction is to shed load, never to retry hot. */
export function isOverloaded(error: unknown): boolean {
  return error instanceof Error && /overloaded|Too many requests queued|queued for too long/i.test(errorText(error));
}

/**
 * Whether an error may be gone at the next try: the network, a restart, an overload, a limit of the moment. What D1
 * says of the statement itself (a constraint, a value too big) will be the same then.
 */
export function isPassing(error: unknown): boolean {
  if (error instanceof AppError) return error.code === "overloaded";
  if (!(error instanceof Error)) return false;
  const text = errorText(error);
  return !/D1_ERROR.*(constraint|malformed|too big|mismatch|too many|datatype)|D1_TYPE_ERROR|D1 takes /i.test(text);
}

function errorText(error: Error): string {
  return error.cause instanceof Error ? `${error.message} ${error.cause.message}` : error.message;
}

export type Consistency = "primary" | "replica" | { bookmark: string };

/**
 * One database for one unit of work (a request, a queue batch): a D1 session, so that what it wrote it reads, and
 * a meter. Statements are native; drizzle (`orm`) serves single rows.
 */
export class Db {
  readonly cost: D1Cost = { roundTrips: 0, queries: 0, rowsRead: 0, rowsWritten: 0 };
  readonly #session: D1DatabaseSession;
  #orm: DrizzleD1Database | undefined;

  constructor(binding: D1Database, consistency: Consistency = "primary") {
    const start =
      typeof consistency === "object"
        ? consistency.bookmark
        : consistency === "primary"
          ? "first-primary"
          : "first-unconstrained";
    this.#session = binding.withSession(start);
  }

  /** Where this session stands; a client that sends it back never reads older data. */
  get bookmark(): string | null {
    return this.#session.getBookmark();
  }

  async all<T = Record<string, unknown>>(sql: string, ...params: Param[]): Promise<T[]> {
    guard(sql, params);
    const result = await this.#guarded(() =>
      this.#session
        .prepare(sql)
        .bind(...params)
        .all<T>(),
    );
    this.#charge([result]);
    return result.results;
  }

  async first<T = Record<string, unknown>>(sql: string, ...params: Param[]): Promise<T | null> {
    return (await this.all<T>(sql, ...params))[0] ?? null;
  }

  /** Rows the statement changed. */
  async run(sql: string, ...params: Param[]): Promise<number> {
    const [result] = await this.batch([statement(sql, ...params)]);
    return result?.meta.changes ?? 0;
  }

  /** All statements in one transaction and one round trip; all or nothing. */
  async batch(statements: readonly Statement[]): Promise<D1Result<Record<string, unknown>>[]> {
    if (statements.length === 0) return [];
    for (const s of statements) guard(s.sql, s.params);
    const prepared = statements.map((s) => this.#session.prepare(s.sql).bind(...s.params));
    const results = await this.#guarded(() => this.#session.batch<Record<string, unknown>>(prepared), prepared.length);
    this.#charge(results);
    return results;
  }

  /** Drizzle on the same session and meter, for single-row reads and writes. */
  get orm(): DrizzleD1Database {
    this.#orm ??= drizzle(this.#metered());
    return this.#orm;
  }

  async #guarded<T>(run: () => Promise<T>, queries = 1): Promise<T> {
    this.cost.roundTrips += 1;
    this.cost.queries += queries;
    try {
      return await run();
    } catch (error) {
      if (isOverloaded(error)) throw new AppError("overloaded", "Try again later", { cause: error, retryAfter: 5 });
      throw error;
    }
  }

  #charge(results: readonly D1Result<unknown>[]): void {
    for (const { meta } of results) {
      this.cost.rowsRead += meta.rows_read ?? 0;
      this.cost.rowsWritten += meta.rows_written ?? 0;
    }
  }

  /** The part of `D1Database` that drizzle uses, counted. */
  #metered(): D1Database {
    const wrap = (sql: string, bound: D1PreparedStatement, params: readonly unknown[]): D1PreparedStatement => {
      const counted = <T>(run: () => Promise<T>): Promise<T> => {
        guard(sql, params);
        return this.#guarded(run);
      };
      return {
        bind: (...values: unknown[]) => wrap(sql, bound.bind(...values), values),
        all: () =>
          counted(async () => {
            const result = await bound.all();
            this.#charge([result]);
            return result;
          }),
        run: () =>
          counted(async () => {
            const result = await bound.run();
            this.#charge([result]);
            return result;
          }),
        raw: (options?: { columnNames: true }) => counted(() => bound.raw(options as { columnNames: true })),
        first: (column?: string) => counted(() => (column === undefined ? bound.first() : bound.first(column))),
      } as D1PreparedStatement;
    };
    const session = this.#session;
    return {
      prepare: (sql: string) => wrap(sql, session.prepare(sql), []),
      batch: () => Promise.reject(new Error("Use Db.batch: drizzle's batch refuses raw statements")),
    } as unknown as D1Database;
  }
}

/** A drizzle statement as one of ours, so that builder statements and native ones share a `batch`. */
export function built(query: { toSQL(): { sql: string; params: unknown[] } }): Statement {
  const { sql, params } = query.toSQL();
  return { sql, params: params.map((p) => (typeof p === "boolean" ? Number(p) : (p as Param))) };
}

/** A raw row (snake_case columns) as the table's model (camelCase, JSON and booleans decoded). */
export function fromRow<T extends Table>(table: T, row: Record<string, unknown>): InferSelectModel<T> {
  const model: Record<string, unknown> = {};
  for (const [key, column] of Object.entries(getTableColumns(table))) {
    const value = row[column.name];
    model[key] = value === null || value === undefined ? null : column.mapFromDriverValue(value);
  }
  return model as InferSelectModel<T>;
}

/** Every column of a table for a native SELECT, prefixed with an alias. */
export function columnsOf(table: Table, alias: string): string {
  return Object.values(getTableColumns(table))
    .map((column) => `${alias}."${column.name}"`)
    .join(", ");
}

/**
 * Rows as JSON parameters of at most 500 KB each. A row that is larger by itself stands alone; `Db` refuses it if
 * production would.
 */
export function jsonChunks(rows: readonly unknown[]): string[] {
  const chunks: string[] = [];
  let parts: string[] = [];
  let size = 2;
  for (const row of rows) {
    const text = JSON.stringify(row);
    const bytes = new TextEncoder().encode(text).byteLength + 1;
    if (parts.length > 0 && size + bytes > MAX_JSON_BYTES) {
      chunks.push(`[${parts.join(",")}]`);
      parts = [];
      size = 2;
    }
    parts.push(text);
    size += bytes;
  }
  if (parts.length > 0) chunks.push(`[${parts.join(",")}]`);
  return chunks;
}
