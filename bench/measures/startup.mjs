import { execFile } from "node:child_process";
import { statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { nodePath, ROOT, WRANGLER, WRANGLER_ENV } from "../../scripts/support/project.mjs";

const RUNS = 5;

/**
 * The bundle's size, and how long the Worker is busy before it can take its first request, as `wrangler check startup`
 * profiles it. What else the machine does only ever adds to that, so the least of several runs is the measure.
 * @param {import("../support/stack.mjs").Bundles} bundles @param {string} folder
 */
export async function measureStartup(bundles, folder) {
  const upload = join(folder, "upload.bundle");
  await wrangler("deploy", "--dry-run", "--outfile", upload);
  const profile = ["--worker", upload, "--outfile", join(folder, "startup.cpuprofile")];
  /** @type {number[]} */
  const active = [];
  let failure;
  for (let n = 0; n < RUNS; n += 1) {
    try {
      const said = await wrangler("check", "startup", ...profile);
      const ms = /Active: ([\d.]+) ms/.exec(said)?.[1];
      if (ms === undefined) throw new Error(`wrangler check startup said:\n${said}`);
      active.push(Number(ms));
    } catch (error) {
      // On a machine that is busy with something else the profiler gives up; one run that it finishes is enough.
      failure = error;
    }
  }
  if (active.length === 0) throw failure;
  return { bundle_bytes: statSync(bundles.app).size, startup_ms: Math.min(...active), startups_ms: active };
}

/** @param {...string} args */
async function wrangler(...args) {
  const options = { cwd: ROOT, env: { ...process.env, ...WRANGLER_ENV } };
  const { stdout } = await promisify(execFile)(nodePath(), [WRANGLER, ...args], options);
  return stdout;
}
