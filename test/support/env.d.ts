declare namespace Cloudflare {
  interface Env {
    SHARD_1: D1Database;
    TEST_MIGRATIONS: Record<"directory" | "shard", import("cloudflare:test").D1Migration[]>;
  }
}

interface ImportMeta {
  /** Vite: the files of a pattern, as modules, or as texts with `query: "?raw"`. */
  glob<T>(pattern: string, options: { eager: true; query?: "?raw"; import?: "default" }): Record<string, T>;
}
