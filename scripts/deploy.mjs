// `npm run deploy`: refuses what would not work or must not go out, says how to make what is missing, then migrates the
// databases and deploys. `-- --dry-run` checks and builds without an account. docs/deploy.md tells the whole story.
import { spawn } from "node:child_process";
import { stripVTControlCharacters } from "node:util";
import { unstable_readConfig } from "wrangler";
import { nodePath, ROOT, WRANGLER, WRANGLER_ENV } from "./support/project.mjs";

/** The ids in the repository: they name the local databases and no database of any account. */
const PLACEHOLDER = /^00000000-0000-0000-0000-/;

/** Raw webhook bodies are kept for 30 days (pipeline.md 15). */
const LIFECYCLE_PREFIX = "webhooks/";

/**
 * @param {string[]} args of wrangler
 * @param {{ show?: boolean }} [options] whether its output goes to the terminal
 * @returns {Promise<{ ok: boolean, output: string }>}
 */
function wrangler(args, { show = false } = {}) {
  const child = spawn(nodePath(), [WRANGLER, ...args], {
    cwd: ROOT,
    env: show ? { ...process.env, WRANGLER_WRITE_LOGS: "false" } : { ...process.env, ...WRANGLER_ENV },
    stdio: show ? "inherit" : ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk) => {
      output += chunk;
    });
  }
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ ok: code === 0, output }));
  });
}

/**
 * What is read of wrangler.toml.
 * @typedef {object} Config
 * @property {{ binding: string, database_name?: string, database_id?: string }[]} d1_databases
 * @property {{ producers?: { queue: string }[], consumers?: { queue: string, dead_letter_queue?: string }[] }} queues
 * @property {{ bucket_name?: string }[]} r2_buckets
 * @property {Record<string, unknown>} vars
 * @property {{ required?: string[] }} [secrets]
 */

/**
 * What is wrong with the settings themselves.
 * @param {Config} config
 * @returns {string[]}
 */
function settingProblems(config) {
  const problems = config.d1_databases
    .filter(({ database_id }) => !database_id || PLACEHOLDER.test(database_id))
    .map(
      ({ binding, database_name }) =>
        `The database ${binding} is a placeholder. Create it and put the printed database_id into wrangler.toml:\n` +
        `    npx wrangler d1 create ${database_name}`,
    );
  for (const [name, value] of Object.entries(config.vars)) {
    if (!name.endsWith("_URL") || value === "" || /^https:\/\//.test(String(value))) continue;
    problems.push(`${name} is ${value}: a deployment talks https to real providers`);
  }
  if (config.vars.SANDBOX_URL) problems.push("SANDBOX_URL is set: the sandbox is for development and tests only");
  return problems;
}

/**
 * What the account lacks, each with the command that makes it and the reason wrangler gave.
 * @param {Config} config
 * @returns {Promise<string[]>}
 */
async function missingResources(config) {
  /** @param {string} what @param {string} how @param {string} output */
  const missing = (what, how, output) => {
    const reason = /\[ERROR\] *(.+)/.exec(stripVTControlCharacters(output))?.[1];
    return `${what} is missing${reason ? ` (${reason})` : ""}. Create it:\n    ${how}`;
  };
  const problems = [];
  const databases = await wrangler(["d1", "list", "--json"]);
  for (const { database_id, database_name, binding } of config.d1_databases) {
    if (databases.ok && databases.output.includes(String(database_id))) continue;
    problems.push(missing(`The database ${binding}`, `npx wrangler d1 create ${database_name}`, databases.output));
  }
  const { producers = [], consumers = [] } = config.queues;
  const queues = new Set([
    ...producers.map(({ queue }) => queue),
    ...consumers.flatMap(({ queue, dead_letter_queue }) => [queue, dead_letter_queue ?? queue]),
  ]);
  for (const queue of queues) {
    const info = await wrangler(["queues", "info", queue]);
    if (!info.ok) problems.push(missing(`The queue ${queue}`, `npx wrangler queues create ${queue}`, info.output));
  }
  for (const { bucket_name } of config.r2_buckets) {
    const name = String(bucket_name);
    const info = await wrangler(["r2", "bucket", "info", name]);
    const rules = info.ok ? await wrangler(["r2", "bucket", "lifecycle", "list", name]) : info;
    const lifecycle = `npx wrangler r2 bucket lifecycle add ${name} webhooks-30-days ${LIFECYCLE_PREFIX} --expire-days 30`;
    if (!info.ok) {
      problems.push(
        missing(`The bucket ${name}`, `npx wrangler r2 bucket create ${name}\n    ${lifecycle}`, info.output),
      );
    } else if (!rules.output.includes(LIFECYCLE_PREFIX)) {
      problems.push(missing(`The rule that deletes raw webhook bodies after 30 days`, lifecycle, rules.output));
    }
  }
  const secrets = await wrangler(["secret", "list", "--format", "json"]);
  for (const name of config.secrets?.required ?? []) {
    if (secrets.ok && secrets.output.includes(`"${name}"`)) continue;
    const how = `openssl rand -base64 48 | npx wrangler secret put ${name}`;
    problems.push(missing(`The secret ${name}`, how, secrets.output));
  }
  return problems;
}

/** @param {string[]} problems */
function refuse(problems) {
  console.error(`Not deployed:\n\n${problems.map((problem) => `- ${problem}`).join("\n")}\n\nSee docs/deploy.md.`);
  process.exit(1);
}

const args = process.argv.slice(2);
const dryRun = args.includes("--dry-run");
const unknown = args.filter((arg) => arg !== "--dry-run");
if (unknown.length > 0) {
  refuse([`Not understood: ${unknown.join(" ")}. Only the product is deployed; the sandbox never is.`]);
}

/** @type {Config} */
const config = unstable_readConfig({ config: `${ROOT}/wrangler.toml` });
const settings = settingProblems(config);
if (settings.length > 0) refuse(settings);

if (!dryRun) {
  const account = await wrangler(["whoami", "--json"]);
  if (!account.ok) refuse(["Nobody is signed in to Cloudflare:\n    npx wrangler login"]);
  const missing = await missingResources(config);
  if (missing.length > 0) refuse(missing);
  for (const { binding } of config.d1_databases) {
    const migrated = await wrangler(["d1", "migrations", "apply", binding, "--remote"], { show: true });
    if (!migrated.ok) refuse([`The migrations of ${binding} could not be applied; the running version is untouched`]);
  }
}
const deployed = await wrangler(["deploy", ...(dryRun ? ["--dry-run"] : [])], { show: true });
process.exit(deployed.ok ? 0 : 1);
