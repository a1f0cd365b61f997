import { join } from "node:path";
import { unstable_readConfig, unstable_startWorker } from "wrangler";
import { ROOT } from "./project.mjs";

/**
 * Runs a bundle with the bindings of a wrangler.toml: no build step, no watcher, so nothing reloads it and its queues
 * keep what they hold. It listens on a free port of 127.0.0.1.
 * @param {string} configPath relative to the project
 * @param {string} bundle path of the JavaScript module
 * @param {{ state: string, vars: Record<string, string>, secrets?: Record<string, string> }} options
 *   `vars` come on top of wrangler.toml's; a developer's .dev.vars has no say
 */
export async function startBuilt(configPath, bundle, { state, vars, secrets = {} }) {
  const config = unstable_readConfig({ config: join(ROOT, configPath) });
  /** @type {string[]} */
  const lines = [];
  /** @param {"plain_text" | "secret_text"} type @param {Record<string, unknown>} values */
  const bindings = (type, values) => Object.entries(values).map(([name, value]) => [name, { type, value }]);
  const worker = await unstable_startWorker({
    config: { ...config, main: bundle, no_bundle: true, build: { ...config.build, command: undefined } },
    bindings: Object.fromEntries([
      ...bindings("plain_text", { ...config.vars, ...vars }),
      ...bindings("secret_text", secrets),
    ]),
    dev: {
      server: { hostname: "127.0.0.1", port: 0 },
      watch: false,
      inspector: false,
      persist: state,
      registry: undefined,
      logLevel: "none",
      structuredLogsHandler: (/** @type {{ message: string }} */ { message }) => lines.push(message),
    },
  });
  await worker.ready;
  const { origin } = await worker.url;
  return { origin, stop: () => worker.dispose(), lastLines: () => lines.slice(-30) };
}
