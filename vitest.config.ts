import path from "node:path";
import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

const migrations = (database: string) => readD1Migrations(path.join(import.meta.dirname, "migrations", database));

export default defineConfig(async () => {
  const [directory, shard] = await Promise.all([migrations("directory"), migrations("shard")]);
  return {
    plugins: [
      cloudflareTest({
        wrangler: { configPath: "./wrangler.toml" },
        miniflare: {
          // The second shard: one binding away.
          d1Databases: { SHARD_1: "00000000-0000-0000-0000-000000000501" },
          bindings: {
            TEST_MIGRATIONS: { directory, shard },
            SECRET_KEY: "test-master-secret-0123456789-abcdefghijklmnop",
            META_APP_ID: "1000000000000001",
            META_APP_SECRET: "test-app-secret-1234567890",
            META_APP_SECRET_PREVIOUS: "test-app-secret-previous-1234",
            WHATSAPP_WEBHOOK_VERIFY_TOKEN: "echodesk_whatsapp_webhook_token_2024",
            GOOGLE_CLIENT_ID: "test-google-client",
            GITHUB_CLIENT_ID: "test-github-client",
            GITHUB_CLIENT_SECRET: "test-github-secret",
            PIPELINE: JSON.stringify({ backoffBase: 10, backoffCap: 40 }),
          },
        },
      }),
    ],
    test: {
      include: ["test/**/*.test.ts"],
      setupFiles: ["./test/support/setup.ts"],
    },
  };
});
