/**
 * Counts what Cloudflare bills, at the bindings: whatever the code does with a database, an object, a queue or a bucket
 * is seen here, by tests and by the bench alike.
 */

/** One statement as a database ran it. */
export interface StatementCost {
  database: string;
  sql: string;
  params: readonly unknown[];
  rowsRead: number;
  rowsWritten: number;
}

export class Meter {
  /** Calls to a D1 database, by binding. */
  readonly roundTrips = new Map<string, number>();
  readonly statements: StatementCost[] = [];
  /** Calls of objects, by binding and method. */
  readonly objectCalls = new Map<string, number>();
  /** Messages sent, by queue. */
  readonly queued = new Map<string, number>();
  /** Billed writes: one per message and started 64 KB. Reading and deleting cost the same again each. */
  queueWrites = 0;
  /** R2: class A changes or lists, class B reads. */
  bucketWrites = 0;
  bucketReads = 0;

  reset(): void {
    for (const counts of [this.roundTrips, this.objectCalls, this.queued]) counts.clear();
    this.statements.length = 0;
    this.queueWrites = 0;
    this.bucketWrites = 0;
    this.bucketReads = 0;
  }

  rowsRead(database?: string): number {
    return this.#of(database).reduce((sum, cost) => sum + cost.rowsRead, 0);
  }

  rowsWritten(database?: string): number {
    return this.#of(database).reduce((sum, cost) => sum + cost.rowsWritten, 0);
  }

  trips(database?: string): number {
    if (database !== undefined) return this.roundTrips.get(database) ?? 0;
    return total(this.roundTrips);
  }

  get objectRequests(): number {
    return total(this.objectCalls);
  }

  /** Written, read and deleted once each: what every message costs that is handled at the first try. */
  get queueOperations(): number {
    return 3 * this.queueWrites;
  }

  #of(database: string | undefined): StatementCost[] {
    return database === undefined ? this.statements : this.statements.filter((cost) => cost.database === database);
  }
}

function total(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((sum, n) => sum + n, 0);
}

function add(counts: Map<string, number>, name: string, n = 1): void {
  counts.set(name, (counts.get(name) ?? 0) + n);
}

/** An environment whose every call is counted. Bindings that cost nothing stay as they are. */
export function meteredEnv<T extends object>(env: T, meter: Meter): T {
  const copy: Record<string, unknown> = {};
  for (const [name, binding] of Object.entries(env)) copy[name] = meteredBinding(name, binding, meter);
  return copy as T;
}

function meteredBinding(name: string, binding: unknown, meter: Meter): unknown {
  if (typeof binding !== "object" || binding === null) return binding;
  if (has(binding, "withSession")) return meteredDatabase(name, binding as D1Database, meter);
  if (has(binding, "idFromName")) return meteredNamespace(name, binding as DurableObjectNamespace, meter);
  if (has(binding, "sendBatch")) return meteredQueue(name, binding as Queue, meter);
  if (has(binding, "createMultipartUpload")) return meteredBucket(binding as R2Bucket, meter);
  return binding;
}

function has(binding: object, method: string): boolean {
  return typeof Reflect.get(binding, method) === "function";
}

type Members = Record<string, (...args: never[]) => unknown>;

/** The same object with some methods replaced; the others run on the object itself. */
function overridden<T extends object>(target: T, members: Members): T {
  return new Proxy(target, {
    get(object, key) {
      const member = typeof key === "string" ? members[key] : undefined;
      if (member) return member;
      const value: unknown = Reflect.get(object, key, object);
      return typeof value === "function" ? value.bind(object) : value;
    },
  });
}

interface Prepared {
  native: D1PreparedStatement;
  sql: string;
  params: readonly unknown[];
}

function meteredDatabase(name: string, database: D1Database, meter: Meter): D1Database {
  const prepared = new WeakMap<D1PreparedStatement, Prepared>();
  const charge = (cost: Omit<Prepared, "native">, meta: D1Meta) => {
    meter.statements.push({
      database: name,
      sql: cost.sql,
      params: cost.params,
      rowsRead: meta.rows_read ?? 0,
      rowsWritten: meta.rows_written ?? 0,
    });
  };
  const statementOf = (native: D1PreparedStatement, sql: string, params: readonly unknown[]): D1PreparedStatement => {
    const all = async () => {
      add(meter.roundTrips, name);
      const result = await native.all<Record<string, unknown>>();
      charge({ sql, params }, result.meta);
      return result;
    };
    const proxy = overridden(native, {
      bind: (...values: unknown[]) => statementOf(native.bind(...values), sql, values),
      all,
      run: all,
      first: async (column?: string) => {
        const row = (await all()).results[0] ?? null;
        return row === null || column === undefined ? row : row[column];
      },
      raw: async () => (await all()).results.map((row) => Object.values(row)),
    });
    prepared.set(proxy, { native, sql, params });
    return proxy;
  };
  const batch = async (on: D1Database | D1DatabaseSession, statements: D1PreparedStatement[]) => {
    const all = statements.map((statement) => prepared.get(statement));
    add(meter.roundTrips, name);
    const results = await on.batch(all.map((one, place) => one?.native ?? statements[place] ?? refuse()));
    for (const [place, result] of results.entries()) {
      const one = all[place];
      if (one) charge(one, result.meta);
    }
    return results;
  };
  return overridden(database, {
    prepare: (sql: string) => statementOf(database.prepare(sql), sql, []),
    batch: (statements: D1PreparedStatement[]) => batch(database, statements),
    withSession: (constraint?: string) => {
      const session = database.withSession(constraint);
      return overridden(session, {
        prepare: (sql: string) => statementOf(session.prepare(sql), sql, []),
        batch: (statements: D1PreparedStatement[]) => batch(session, statements),
      });
    },
  });
}

function refuse(): never {
  throw new Error("A batch has a hole");
}

function meteredNamespace(name: string, namespace: DurableObjectNamespace, meter: Meter): DurableObjectNamespace {
  const stubOf = (stub: DurableObjectStub) =>
    new Proxy(stub, {
      get(target, key) {
        const member: unknown = Reflect.get(target, key, target);
        if (typeof member !== "function" || typeof key !== "string") return member;
        return (...args: unknown[]) => {
          add(meter.objectCalls, `${name}.${key}`);
          return Reflect.apply(member, target, args);
        };
      },
    });
  return overridden(namespace, {
    getByName: (...args: Parameters<DurableObjectNamespace["getByName"]>) => stubOf(namespace.getByName(...args)),
    get: (...args: Parameters<DurableObjectNamespace["get"]>) => stubOf(namespace.get(...args)),
  });
}

/** Bytes of a queue message that cost one operation. */
const QUEUE_UNIT = 64_000;

function meteredQueue(name: string, queue: Queue, meter: Meter): Queue {
  const charge = (body: unknown) => {
    add(meter.queued, name);
    const bytes = new TextEncoder().encode(typeof body === "string" ? body : JSON.stringify(body)).byteLength;
    meter.queueWrites += Math.max(1, Math.ceil(bytes / QUEUE_UNIT));
  };
  return overridden(queue, {
    send: (...args: Parameters<Queue["send"]>) => {
      charge(args[0]);
      return queue.send(...args);
    },
    sendBatch: (...args: Parameters<Queue["sendBatch"]>) => {
      const messages = [...args[0]];
      for (const { body } of messages) charge(body);
      return queue.sendBatch(messages, args[1]);
    },
  });
}

function meteredBucket(bucket: R2Bucket, meter: Meter): R2Bucket {
  const counted = (method: "put" | "get" | "head" | "list") => {
    const native: unknown = Reflect.get(bucket, method);
    if (typeof native !== "function") return refuse();
    return (...args: unknown[]) => {
      if (method === "get" || method === "head") meter.bucketReads += 1;
      else meter.bucketWrites += 1;
      return Reflect.apply(native, bucket, args);
    };
  };
  return overridden(bucket, {
    put: counted("put"),
    get: counted("get"),
    head: counted("head"),
    list: counted("list"),
  });
}

/** Rows that objects read and wrote in their own SQLite databases, over the whole isolate. */
export class StorageMeter {
  readonly #cursors: SqlStorageCursor<Record<string, SqlStorageValue>>[] = [];
  #values = 0;
  #alarms = 0;

  /** Counts every object of this isolate from now on: `state` is any object's, whose storage classes all share. */
  constructor(state: DurableObjectState) {
    const { sql, kv } = state.storage;
    const cursors = this.#cursors;
    replaceMember(sql, "exec", (run) => {
      const cursor = run() as SqlStorageCursor<Record<string, SqlStorageValue>>;
      cursors.push(cursor);
      return cursor;
    });
    replaceMember(kv, "put", (run) => {
      this.#values += 1;
      return run();
    });
    replaceMember(state.storage, "setAlarm", (run) => {
      this.#alarms += 1;
      return run();
    });
  }

  /** Since the last call. Values kept without SQL and alarms are a row each; `byTimer` are those. */
  take(): { rowsRead: number; rowsWritten: number; byTimer: number } {
    const byTimer = this.#values + this.#alarms;
    const taken = { rowsRead: 0, rowsWritten: byTimer, byTimer };
    for (const cursor of this.#cursors.splice(0)) {
      taken.rowsWritten += cursor.rowsWritten;
      taken.rowsRead += cursor.rowsRead;
    }
    this.#values = 0;
    this.#alarms = 0;
    return taken;
  }
}

function replaceMember(instance: object, method: string, around: (run: () => unknown) => unknown): void {
  const prototype: object = Object.getPrototypeOf(instance);
  const native: unknown = Reflect.get(prototype, method);
  if (typeof native !== "function") throw new Error(`No method ${method} to count`);
  Object.defineProperty(prototype, method, {
    configurable: true,
    writable: true,
    value(this: unknown, ...args: unknown[]) {
      return around(() => Reflect.apply(native, this, args));
    },
  });
}
