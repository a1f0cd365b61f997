/// <reference types="vite/types/importMeta.d.ts" />

declare namespace Cloudflare {
  interface Env {
    SHARD_1: D1Database;
    TEST_MIGRATIONS: Record<"directory" | "shard", import("cloudflare:test").D1Migration[]>;
  }
}
