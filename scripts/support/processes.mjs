import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { nodePath, ROOT, WRANGLER_ENV } from "./project.mjs";

const GUARD = join(ROOT, "scripts/support/guard.mjs");

/** What wrangler prints at every reload and nobody reads twice; the crons it warns of are fired by us. */
const NOISE = [
  /^(env\.\w+ |Binding +Resource|Your Worker has access|Using secrets defined|Cloudflare collects|\s*$)/,
  /^(⎔|❓|\[custom build\]|The file .* changed|\[wrangler:info\])/u,
  /Scheduled Workers are not|To manually trigger a scheduled|curl ".*\/cdn-cgi\/local\/scheduled|cron-triggers\/#test/,
];

/**
 * @typedef {object} Started
 * @property {Promise<{ code: number | null, how: string }>} ended its exit code, null when it had none; never rejects
 * @property {() => Promise<void>} stop ends its whole process group; resolves when nothing of it is left
 */

/**
 * Starts a Node program in a process group of its own that ends with this process, however this process ends.
 * @param {string[]} args of Node
 * @param {Record<string, string>} env
 * @param {"inherit" | "pipe"} output
 */
function guarded(args, env, output) {
  const guard = spawn(nodePath(), [GUARD, nodePath(), ...args], {
    cwd: ROOT,
    detached: true,
    env: { ...process.env, ...env },
    stdio: ["ignore", output, output, "ipc"],
  });
  /** @type {{ code: number | null, how: string }} */
  let ending = { code: null, how: "was ended" };
  guard.on("message", (/** @type {{ code: number | null, signal: string | null }} */ { code, signal }) => {
    ending = { code, how: signal ? `was ended by ${signal}` : `ended with code ${code}` };
  });
  /** @type {Started["ended"]} */
  const ended = new Promise((resolve) => {
    guard.once("error", (error) => resolve({ code: null, how: `could not start: ${error.message}` }));
    // Not "close": that one never comes after a disconnect from this side.
    guard.once("exit", () => {
      endGroup(guard.pid);
      resolve(ending);
    });
  });
  const stop = async () => {
    if (guard.connected) guard.disconnect();
    await ended;
  };
  return { guard, ended, stop };
}

/**
 * Starts a program that speaks for itself and uses wrangler as a library.
 * @param {string[]} args of Node
 * @returns {Started}
 */
export function runGuarded(args) {
  return guarded(args, { ...WRANGLER_ENV, WRANGLER_LOG: "error" }, "inherit");
}

/**
 * Starts a server whose lines are shown with its name in front.
 * @param {string} name
 * @param {string[]} args of Node
 * @param {Record<string, string>} env
 * @returns {Started}
 */
export function serveGuarded(name, args, env) {
  const { guard, ended, stop } = guarded(args, env, "pipe");
  let stopped = false;
  for (const stream of [guard.stdout, guard.stderr]) {
    if (!stream) continue;
    createInterface({ input: stream }).on("line", (line) => {
      if (!stopped && !NOISE.some((pattern) => pattern.test(line))) console.log(`${name} | ${line}`);
    });
  }
  return {
    ended,
    stop: () => {
      stopped = true;
      return stop();
    },
  };
}

/**
 * Ends what a guard left behind, which is something only when the guard itself was killed.
 * @param {number | undefined} leader
 */
function endGroup(leader) {
  if (leader === undefined) return;
  try {
    process.kill(-leader, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

/**
 * Calls `gone` once when whoever started this process has died. The npm scripts `exec` their program, so that this is
 * npm and not a shell that outlives it.
 * @param {() => void} gone
 */
export function onParentDeath(gone) {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    gone();
  }, 500);
  timer.unref();
}
