import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { build } from "esbuild";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { unstable_getMiniflareWorkerOptions, unstable_readConfig } from "wrangler";
import { buildSandbox, SANDBOX_WORKER } from "../../scripts/build-sandbox.mjs";
import { apiClient } from "../../scripts/support/api.mjs";
import { buildApp } from "../../scripts/support/build-app.mjs";
import { ROOT } from "../../scripts/support/project.mjs";

export const APP_SECRET = randomBytes(16).toString("hex");
const SECRET_KEY = randomBytes(48).toString("base64url");

/**
 * Everything that is run, built once: the app and the sandbox as they would be deployed, and the bench's own Workers.
 * @param {string} folder
 */
export async function buildAll(folder) {
  const out = (/** @type {string} */ name) => join(folder, `${name}.js`);
  const [app, sandbox, bare, sink, metered] = await Promise.all([
    buildApp(join(folder, "app")),
    buildSandbox(out("sandbox")),
    buildWorker("bench/workers/bare.ts", out("bare")),
    buildWorker("bench/workers/sink.ts", out("sink")),
    buildWorker("bench/workers/metered.ts", out("metered")),
  ]);
  return { app, sandbox, bare, sink, metered };
}

/** @typedef {Awaited<ReturnType<typeof buildAll>>} Bundles */

/** @param {string} entry @param {string} outfile */
async function buildWorker(entry, outfile) {
  await build({
    entryPoints: [join(ROOT, entry)],
    outfile,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2024",
    platform: "neutral",
    mainFields: ["module", "main"],
    conditions: ["workerd", "worker", "import"],
    external: ["cloudflare:*", "node:*", "stream"],
    logLevel: "warning",
  });
  return outfile;
}

/**
 * The app's own options, as wrangler.toml says. Values of a developer's .dev.vars may be among its bindings: they are
 * replaced where the app is started.
 */
const config = unstable_readConfig({ config: join(ROOT, "wrangler.toml") });
const { workerOptions } = unstable_getMiniflareWorkerOptions({ ...config, secrets: undefined });

/** @param {string} path */
const script = (path) => ({
  modules: [{ type: /** @type {const} */ ("ESModule"), path: basename(path), contents: readFileSync(path, "utf8") }],
});

/** @typedef {{ miniflare: Miniflare, port: number, stop: () => Promise<void> }} Running */

/**
 * @param {import("miniflare").V4WorkerOptions[]} workers
 * @param {string} [state] where databases and objects live; nowhere by default
 * @returns {Promise<Running>}
 */
async function run(workers, state) {
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      host: "127.0.0.1",
      port: 0,
      cf: false,
      logRequests: false,
      handleStructuredLogs: ({ level, message }) => {
        if (level === "error") console.error(message.slice(0, 500));
      },
      ...(state === undefined ? {} : { resourcePersistencePath: state }),
      workers,
    }),
  );
  const { port } = await miniflare.ready;
  return { miniflare, port: Number(port), stop: () => miniflare.dispose() };
}

/**
 * The app with real databases, queues and objects.
 * @param {string} bundle
 * @param {{ sandbox: number, state: string, batch?: { size: number, timeout: number } }} options
 *   `batch` replaces what wrangler.toml says of the two message queues
 */
export async function startApp(bundle, { sandbox, state, batch }) {
  const provider = `http://127.0.0.1:${sandbox}`;
  const queueConsumers = Object.fromEntries(
    Object.entries(workerOptions.queueConsumers ?? {}).map(([queue, options]) => [
      queue,
      batch && ["inbound", "outbound"].includes(queue)
        ? { ...Object(options), maxBatchSize: batch.size, maxBatchTimeout: batch.timeout }
        : options,
    ]),
  );
  const app = await run(
    [
      {
        ...workerOptions,
        ...script(bundle),
        name: "app",
        queueConsumers,
        bindings: {
          ...config.vars,
          SECRET_KEY,
          META_APP_ID: "1000000000000001",
          META_APP_SECRET: APP_SECRET,
          META_GRAPH_URL: provider,
          SANDBOX_URL: provider,
        },
      },
    ],
    state,
  );
  for (const [binding, folder] of [
    ["DIRECTORY", "directory"],
    ["SHARD_0", "shard"],
  ]) {
    await migrate(await app.miniflare.getD1Database(String(binding)), join(ROOT, "migrations", String(folder)));
  }
  return app;
}

/** @param {Awaited<ReturnType<Miniflare["getD1Database"]>>} database @param {string} folder */
async function migrate(database, folder) {
  for (const name of readdirSync(folder)
    .filter((file) => file.endsWith(".sql"))
    .sort()) {
    const statements = readFileSync(join(folder, name), "utf8").split("--> statement-breakpoint");
    await database.batch(statements.filter((sql) => sql.trim() !== "").map((sql) => database.prepare(sql)));
  }
}

/**
 * The app's receiving end alone: its queue leads into a Worker that does nothing, and it has no other binding.
 * @param {Bundles} bundles
 */
export function startReceiver(bundles) {
  return startReceiving(bundles, bundles.app, {
    bindings: { ...config.vars, SECRET_KEY, META_APP_SECRET: APP_SECRET },
    queueProducers: { INBOUND: { queueName: "inbound" } },
  });
}

/**
 * The bare Worker, in front of the same queue and sink.
 * @param {Bundles} bundles
 */
export function startBare(bundles) {
  return startReceiving(bundles, bundles.bare, {
    bindings: { META_APP_SECRET: APP_SECRET },
    queueProducers: { QUEUE: { queueName: "inbound" } },
  });
}

/**
 * @param {Bundles} bundles @param {string} bundle
 * @param {Pick<import("miniflare").V4WorkerOptionsShape, "bindings" | "queueProducers">} bound
 */
function startReceiving(bundles, bundle, bound) {
  const compatibilityDate = String(workerOptions.compatibilityDate);
  return run([
    { ...script(bundle), name: "receiver", compatibilityDate, ...bound },
    {
      ...script(bundles.sink),
      name: "sink",
      compatibilityDate,
      queueConsumers: { inbound: { maxBatchSize: 100, maxBatchTimeout: 0, maxRetries: 1 } },
    },
  ]);
}

/**
 * The provider. It accepts and tells nothing of it: the bench posts the webhooks itself, to know their number and time.
 * @param {string} bundle
 */
export async function startSandbox(bundle) {
  const sandbox = await run([
    {
      ...SANDBOX_WORKER,
      ...script(bundle),
      name: "sandbox",
      bindings: { MODE: "dev", APP_URL: "http://127.0.0.1:1", META_APP_SECRET: APP_SECRET },
    },
  ]);
  await apiClient(`http://127.0.0.1:${sandbox.port}`)("POST", "/sandbox/settings", {
    body: { auto_deliver: false, statuses: [], throughput: 0 },
  });
  return sandbox;
}
