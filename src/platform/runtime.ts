import { type Clock, systemClock } from "./clock";
import { type Config, readConfig } from "./config";
import { type Consistency, Db } from "./d1";
import { type NewId, newUuid } from "./ids";

/**
 * What a unit of work stands on. Services take it as their first argument; tests hand in fixed clocks, ids, or an
 * environment that fails at a chosen step.
 */
export interface Runtime {
  readonly env: Env;
  readonly config: Config;
  readonly clock: Clock;
  readonly newId: NewId;
  readonly fetch: typeof fetch;
}

export function createRuntime(env: Env, overrides: Partial<Omit<Runtime, "env" | "config">> = {}): Runtime {
  return {
    env,
    config: readConfig(env),
    clock: overrides.clock ?? systemClock,
    newId: overrides.newId ?? newUuid,
    fetch: overrides.fetch ?? ((input, init) => fetch(input, init)),
  };
}

/** The database of users, workspaces and keys: what must be found before a workspace is known. Always the primary. */
export function directory(rt: Runtime): Db {
  return new Db(rt.env.DIRECTORY, "primary");
}

const SHARD_BINDING = /^SHARD_(\d+)$/;

/** Numbers of the shards this deployment has, ascending. Adding a `SHARD_n` binding adds a shard. */
export function shardNumbers(env: Env): number[] {
  return Object.keys(env)
    .map((name) => SHARD_BINDING.exec(name)?.[1])
    .filter((n) => n !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
}

/** The database of one shard. Throws when the binding is missing: a workspace never silently moves. */
export function shard(rt: Runtime, number: number, consistency: Consistency = "primary"): Db {
  const binding = (rt.env as unknown as Record<string, D1Database | undefined>)[`SHARD_${number}`];
  if (!binding) throw new Error(`The binding SHARD_${number} is missing`);
  return new Db(binding, consistency);
}
