import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder of package.json: every script works on it, from wherever it was called. */
export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Where local databases, objects and buckets live; `wrangler dev` alone uses the same place. */
export function stateDir() {
  return resolve(ROOT, process.env.STATE_DIR || ".wrangler/state");
}

/**
 * The Node that runs wrangler, which needs 22.12 or newer. A machine may have 20: the `node` package brings 22.
 * @returns {string}
 */
export function nodePath() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > 22 || (major === 22 && minor >= 12)) return process.execPath;
  const packaged = join(ROOT, "node_modules/node/bin/node");
  if (!existsSync(packaged)) throw new Error("Node 22.12 or newer is missing: run `npm ci` first");
  return packaged;
}

/** Wrangler's entry point, run with `nodePath()`: no shell and no look-up in PATH between us and its process. */
export const WRANGLER = join(ROOT, "node_modules/wrangler/bin/wrangler.js");

/** Settings that keep wrangler to itself: nothing fetched, nothing reported, no log files in the home folder. */
export const WRANGLER_ENV = {
  WRANGLER_SEND_METRICS: "false",
  WRANGLER_HIDE_BANNER: "true",
  WRANGLER_WRITE_LOGS: "false",
  CLOUDFLARE_CF_FETCH_ENABLED: "false",
  NO_COLOR: "1",
  // Recording every trace costs D1 routes about 40 % of their speed.
  X_LOCAL_OBSERVABILITY: "false",
};
