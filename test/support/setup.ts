import { applyD1Migrations } from "cloudflare:test";
import { env } from "cloudflare:workers";

const { directory, shard } = env.TEST_MIGRATIONS;
await Promise.all([
  applyD1Migrations(env.DIRECTORY, directory),
  applyD1Migrations(env.SHARD_0, shard),
  applyD1Migrations(env.SHARD_1, shard),
]);
