// The build hook of wrangler.toml: makes what a local start needs and is not in the repository. `wrangler dev` runs it
// before every build, so the usual case is one hash of a few files. For every other command it does nothing: a deploy
// must not touch local state, and what `wrangler types` prints must not depend on it.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureDevVars, readDevVars } from "./support/dev-vars.mjs";
import { nodePath, ROOT, stateDir, WRANGLER, WRANGLER_ENV } from "./support/project.mjs";

/** The local databases' schema as a whole: changes with any migration and with the list of databases. */
function schemaHash() {
  const hash = createHash("sha256").update(readFileSync(join(ROOT, "wrangler.toml")));
  for (const folder of ["migrations/directory", "migrations/shard"]) {
    const files = readdirSync(join(ROOT, folder)).filter((name) => name.endsWith(".sql"));
    for (const name of files.sort()) hash.update(`\n${name}\n`).update(readFileSync(join(ROOT, folder, name)));
  }
  return hash.digest("hex");
}

/** @param {string} file */
function readIfThere(file) {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
    throw error;
  }
}

/** The bindings of the D1 databases in wrangler.toml, in its order. */
function databases() {
  const toml = readFileSync(join(ROOT, "wrangler.toml"), "utf8");
  return [...toml.matchAll(/^\[\[d1_databases\]\]\s+binding\s*=\s*"(\w+)"/gm)].map((match) => String(match[1]));
}

/**
 * Wrangler keeps the list of applied migrations in the database, so this may run any number of times.
 * @param {string} database @param {string} state
 * @returns {Promise<void>}
 */
function applyMigrations(database, state) {
  const args = [WRANGLER, "d1", "migrations", "apply", database, "--local", "--persist-to", state];
  const child = spawn(nodePath(), args, {
    cwd: ROOT,
    env: { ...process.env, ...WRANGLER_ENV, CI: "true" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    output += chunk;
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`The migrations of ${database} could not be applied:\n${output}`));
    });
  });
}

/**
 * Brings the local databases up to date.
 * @param {string} state the folder they live in
 */
export async function prepareDatabases(state) {
  // Beside the databases: who deletes them deletes the mark too.
  const mark = join(state, "v3/d1/switchboard-schema");
  const hash = schemaHash();
  if (readIfThere(mark) === hash) return;
  const names = databases();
  if (names.length === 0) throw new Error("wrangler.toml names no D1 database");
  // One after the other: two at once find the state folder's own index locked.
  for (const name of names) await applyMigrations(name, state);
  mkdirSync(join(state, "v3/d1"), { recursive: true });
  writeFileSync(mark, hash);
}

/**
 * What is sealed in the state folder opens with the key it was sealed with only. Says so at the start instead of
 * failing at every second call.
 * @param {string} state
 */
function checkKey(state) {
  const { SECRET_KEY = "", SECRET_KEY_PREVIOUS = "" } = readDevVars();
  /** @param {string} key */
  const fingerprint = (key) => createHash("sha256").update(`switchboard ${key}`).digest("hex").slice(0, 16);
  const file = join(state, "v3/d1/switchboard-key");
  const known = readIfThere(file);
  if (known === fingerprint(SECRET_KEY)) return;
  if (known !== "" && known !== fingerprint(SECRET_KEY_PREVIOUS)) {
    throw new Error(
      `${state} was made with another SECRET_KEY than the one in .dev.vars: ` +
        "delete that folder, or put its key into SECRET_KEY or SECRET_KEY_PREVIOUS",
    );
  }
  writeFileSync(file, fingerprint(SECRET_KEY));
}

/** Makes what a start on this machine needs: `.dev.vars` and the databases. */
export async function prepare() {
  ensureDevVars();
  await prepareDatabases(stateDir());
  checkKey(stateDir());
}

const calledDirectly = process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href;
if (calledDirectly && (process.env.WRANGLER_COMMAND ?? "dev") === "dev") {
  try {
    await prepare();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
