import path from "node:path";
import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";
import { unstable_readConfig } from "wrangler";
import { SANDBOX_WORKER, sandboxModule } from "./scripts/build-sandbox.mjs";

const migrations = (database: string) => readD1Migrations(path.join(import.meta.dirname, "migrations", database));

// A developer's .dev.vars points at the local sandbox: tests run with the settings of wrangler.toml whatever it says.
const { vars } = unstable_readConfig({ config: "./wrangler.toml" });

const META_APP_SECRET = "test-app-secret-1234567890";

export default defineConfig(async () => {
  const [directory, shard, sandbox] = await Promise.all([
    migrations("directory"),
    migrations("shard"),
    sandboxModule(),
  ]);
  return {
    plugins: [
      cloudflareTest({
        wrangler: { configPath: "./wrangler.toml" },
        miniflare: {
          // Every call the app makes to the outside leads to the sandbox, which posts back through its APP binding.
          outboundService: "sandbox",
          workers: [
            {
              ...SANDBOX_WORKER,
              name: "sandbox",
              modules: [{ type: "ESModule", path: "sandbox.js", contents: sandbox }],
              bindings: { MODE: "test", APP_URL: "https://switchboard.test", META_APP_SECRET },
              serviceBindings: { APP: "vitest-plugin-runner-" },
            },
          ],
          // The second shard: one binding away.
          d1Databases: { SHARD_1: "00000000-0000-0000-0000-000000000501" },
          bindings: {
            ...vars,
            TEST_MIGRATIONS: { directory, shard },
            SECRET_KEY: "test-master-secret-0123456789-abcdefghijklmnop",
            META_APP_ID: "1000000000000001",
            META_APP_SECRET,
            META_APP_SECRET_PREVIOUS: "test-app-secret-previous-1234",
            WHATSAPP_WEBHOOK_VERIFY_TOKEN: "echodesk_whatsapp_webhook_token_2024",
            GOOGLE_CLIENT_ID: "test-google-client",
            GITHUB_CLIENT_ID: "test-github-client",
            GITHUB_CLIENT_SECRET: "test-github-secret",
            LIVE_ORIGINS: "https://inbox.example.com",
            PIPELINE: JSON.stringify({ backoffBase: 10, backoffCap: 40 }),
          },
        },
      }),
    ],
    test: {
      include: ["test/**/*.test.ts"],
      setupFiles: ["./test/support/setup.ts"],
      // The Worker logs every request: shown where a test fails.
      silent: "passed-only" as const,
    },
  };
});
