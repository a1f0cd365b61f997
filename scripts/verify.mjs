// `npm run verify`: everything that must hold before a change lands. `--except-tests` leaves out the tests, for who has
// just run them.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { checkImportRules } from "./check-import-rules.mjs";
import { buildApp } from "./support/build-app.mjs";
import { nodePath, ROOT, WRANGLER_ENV } from "./support/project.mjs";

/** The budget of the minified Worker, bytes (architecture.md 6). */
const BUNDLE_LIMIT = 1024 * 1024;

/**
 * Runs a tool of node_modules/.bin and passes on what it prints.
 * @param {string} tool @param {...string} args
 * @returns {Promise<void>} rejects when it fails
 */
function run(tool, ...args) {
  const bin = join(ROOT, "node_modules/.bin");
  const path = [dirname(nodePath()), bin, process.env.PATH].join(delimiter);
  const env = { ...process.env, ...WRANGLER_ENV, PATH: path };
  const child = spawn(join(bin, tool), args, { cwd: ROOT, env, stdio: ["ignore", "inherit", "inherit"] });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`${tool} ${signal ? `was ended by ${signal}` : `ended with code ${code}`}`));
    });
  });
}

async function importRules() {
  const wrong = await checkImportRules();
  if (wrong.length > 0) throw new Error(wrong.join("\n"));
}

/** The bundle as it would be deployed, within its budget. */
async function build() {
  const folder = mkdtempSync(join(tmpdir(), "switchboard-build-"));
  try {
    const bytes = statSync(await buildApp(folder)).size;
    console.log(`Bundle: ${Math.ceil(bytes / 1024)} KiB of at most ${BUNDLE_LIMIT / 1024} KiB`);
    if (bytes > BUNDLE_LIMIT) throw new Error("The bundle is larger than its budget");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @type {[string, () => Promise<void>][]} */
const steps = [
  [
    "format and lint",
    () => run("biome", "ci", "--error-on-warnings", `--colors=${process.stdout.isTTY ? "force" : "off"}`, "."),
  ],
  ["import rules refuse what they must", importRules],
  ["unused files, exports and dependencies", () => run("knip")],
  [
    "binding types are up to date",
    () => run("wrangler", "types", "--include-runtime=false", "--strict-vars=false", "--check"),
  ],
  ["types", () => run("tsc", "--noEmit")],
  ["types of scripts", () => run("tsc", "-p", "scripts")],
  ["tests", () => run("vitest", "run")],
  ["build", build],
];

const started = Date.now();
for (const [name, step] of steps) {
  if (name === "tests" && process.argv.includes("--except-tests")) continue;
  console.log(`\n── ${name}`);
  const before = Date.now();
  try {
    await step();
  } catch (error) {
    console.error(`\n✘ ${name}: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
  console.log(`✔ ${name} (${((Date.now() - before) / 1000).toFixed(1)} s)`);
}
console.log(`\nVerified in ${((Date.now() - started) / 1000).toFixed(0)} s`);
