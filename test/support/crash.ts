/** An environment that dies at a chosen step, to see what a crash between two steps leaves behind. */

/** What the dying code sees; nobody outside does, because nothing of it is left. */
class Killed extends Error {
  constructor() {
    super("The isolate is gone");
    this.name = "Killed";
  }
}

export interface Crash {
  /** The effect at which the isolate dies: counted from 0, or the first of a name. */
  at: number | string;
  /** Whether that effect still took place (its answer came to nobody) or not. */
  when: "before" | "after";
}

export interface CrashingRun {
  env: Env;
  fetch: typeof fetch;
  /** The effects that were begun, by name. */
  effects: string[];
  /** Whether the chosen effect was reached. */
  crashed: () => boolean;
}

/**
 * Wraps everything by which code can have an effect outside of itself: databases, queues, objects, the bucket and
 * fetch. After the crash every further effect is refused, and the answers of those under way come to nobody.
 */
export function crashingRun(base: Env, crash: Crash | null): CrashingRun {
  const effects: string[] = [];
  let dead = false;

  async function effect<T>(name: string, run: () => Promise<T>): Promise<T> {
    if (dead) throw new Killed();
    const place = effects.push(name) - 1;
    if (crash?.at === place || crash?.at === name) {
      dead = true;
      if (crash.when === "after") await run().catch(() => undefined);
      throw new Killed();
    }
    const answer = await run();
    if (dead) throw new Killed();
    return answer;
  }

  function objects(name: string, namespace: { getByName(name: string): object }) {
    return {
      getByName: (object: string) => {
        // A stub's methods are made up as they are asked for, and only work when called on it.
        const stub = namespace.getByName(object) as Record<string, (...args: unknown[]) => Promise<unknown>>;
        return new Proxy(stub, {
          get: (_target, method) => {
            if (typeof method === "symbol" || method === "then") return undefined;
            return (...args: unknown[]) => effect(`${name}.${method}`, async () => stub[method]?.(...args));
          },
        });
      },
    };
  }

  function queue(name: string, target: Queue) {
    return {
      send: (body: unknown, options?: QueueSendOptions) => effect(`${name}.send`, () => target.send(body, options)),
      sendBatch: (messages: Iterable<MessageSendRequest>, options?: QueueSendBatchOptions) =>
        effect(`${name}.sendBatch`, () => target.sendBatch(messages, options)),
    };
  }

  const bindings: Record<string, unknown> = { ...base };
  for (const [name, binding] of Object.entries(base)) {
    if (name === "DIRECTORY" || name.startsWith("SHARD_")) bindings[name] = database(name, binding, effect);
  }
  for (const name of ["CONVERSATION", "WORKSPACE_HUB", "SENDER_GATE", "API_QUOTA"] as const) {
    bindings[name] = objects(name, base[name]);
  }
  for (const name of ["INBOUND", "OUTBOUND", "BULK"] as const) bindings[name] = queue(name, base[name]);
  bindings.MEDIA = {
    get: (key: string) => effect("MEDIA.get", () => base.MEDIA.get(key)),
    put: (key: string, value: string) => effect("MEDIA.put", () => base.MEDIA.put(key, value)),
  };
  return {
    env: bindings as unknown as Env,
    fetch: (input, init) => effect("fetch", () => fetch(input, init)),
    effects,
    crashed: () => dead,
  };
}

type Effect = <T>(name: string, run: () => Promise<T>) => Promise<T>;

/** A database as `platform/d1` uses it: through sessions, statements bound and run, or a batch of them. */
function database(name: string, target: D1Database, effect: Effect) {
  const raw = new WeakMap<object, D1PreparedStatement>();
  const wrap = (statement: D1PreparedStatement): D1PreparedStatement => {
    const wrapped = {
      bind: (...values: unknown[]) => wrap(statement.bind(...values)),
      all: () => effect(`${name}.all`, () => statement.all()),
      run: () => effect(`${name}.run`, () => statement.run()),
      raw: () => effect(`${name}.raw`, () => statement.raw()),
      first: () => effect(`${name}.first`, () => statement.first()),
    };
    raw.set(wrapped, statement);
    return wrapped as unknown as D1PreparedStatement;
  };
  return {
    withSession: (start?: string) => {
      const session = target.withSession(start);
      return {
        prepare: (sql: string) => wrap(session.prepare(sql)),
        getBookmark: () => session.getBookmark(),
        batch: (statements: D1PreparedStatement[]) =>
          effect(`${name}.batch`, () =>
            session.batch(
              statements.map((statement) => {
                const known = raw.get(statement);
                if (!known) throw new Error("A statement of another database");
                return known;
              }),
            ),
          ),
      };
    },
  };
}
