// `npm run dev`: the app, the sandbox, their databases and the crons on this machine, until Ctrl-C.
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { prepare } from "./prepare.mjs";
import { fireCrons } from "./support/cron.mjs";
import { readDevVars } from "./support/dev-vars.mjs";
import { alsoOnIpv6, freePort, isFree } from "./support/ports.mjs";
import { onParentDeath, serveGuarded } from "./support/processes.mjs";
import { ROOT, stateDir, WRANGLER, WRANGLER_ENV } from "./support/project.mjs";
import { DEMO_USER, seedDemo } from "./support/seed.mjs";

/** How long the first build may take, ms. */
const START_MS = 120_000;

/** @type {import("./support/processes.mjs").Started[]} */
const running = [];

/** Set when the end has begun: what ends from then on is no crash. */
let stopping = false;

/**
 * Says why, ends every child and then this process.
 * @param {number} code @param {string} reason
 */
async function stop(code, reason) {
  // A terminal's Ctrl-C comes twice: to us, and through npm.
  if (stopping) return;
  stopping = true;
  if (code === 0) console.log(`\n${reason}`);
  else console.error(`\n${reason}`);
  await Promise.all(running.map((child) => child.stop()));
  process.exit(code);
}

function readPort() {
  const port = Number(process.env.PORT || 8000);
  if (Number.isInteger(port) && port > 0 && port < 65_535) return port;
  throw new Error(`PORT must be a number from 1 to 65534, not ${process.env.PORT}`);
}

/** The cron expressions of wrangler.toml. */
function readCrons() {
  const match = /^crons\s*=\s*(\[[^\]]*\])/m.exec(readFileSync(join(ROOT, "wrangler.toml"), "utf8"));
  if (!match?.[1]) throw new Error("wrangler.toml has no [triggers] crons");
  return /** @type {string[]} */ (JSON.parse(match[1]));
}

/**
 * One `wrangler dev`. `-c a -c b` would give only the first a port (pipeline.md 27), so each Worker is a process with
 * its own state, inspector port and registry.
 * @param {string} name @param {string} config @param {number} port @param {string} state
 * @param {Record<string, string>} vars
 */
async function startWorker(name, config, port, state, vars) {
  const args = [WRANGLER, "dev", "-c", config, "--ip", "127.0.0.1", "--port", String(port), "--persist-to", state];
  args.push("--inspector-port", String(await freePort()), "--show-interactive-dev-session=false");
  for (const [key, value] of Object.entries(vars)) args.push("--var", `${key}:${value}`);
  const env = { ...WRANGLER_ENV, STATE_DIR: stateDir(), WRANGLER_REGISTRY_PATH: join(state, "registry") };
  const child = serveGuarded(name, args, env);
  running.push(child);
  void child.ended.then(({ how }) => stop(1, `The ${name} ${how}`));
  await alsoOnIpv6(port);
}

/**
 * Resolves when the Worker answers anything; a build error keeps it silent until the file is saved right.
 * @param {string} name @param {string} origin
 */
async function answering(name, origin) {
  const deadline = Date.now() + START_MS;
  while (Date.now() < deadline) {
    try {
      const response = await fetch(`${origin}/openapi.json`, { signal: AbortSignal.timeout(5_000) });
      const text = await response.text();
      if (response.status < 500) return;
      throw new Error(`The ${name} does not work: ${response.status} ${text.slice(0, 500)}`);
    } catch (error) {
      if (error instanceof Error && error.message.startsWith(`The ${name}`)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
  throw new Error(`The ${name} did not start within ${START_MS / 1000} seconds`);
}

async function main() {
  const port = readPort();
  for (const taken of [port, port + 1]) {
    if (await isFree(taken)) continue;
    throw new Error(`Port ${taken} is taken. Stop what listens there, or choose another: PORT=9000 npm run dev`);
  }
  await prepare();
  const { SECRET_KEY: _, ...settings } = readDevVars();
  if (!settings.META_APP_SECRET) {
    throw new Error("META_APP_SECRET is missing in .dev.vars; delete the file to have it made anew");
  }
  const app = `http://127.0.0.1:${port}`;
  const sandbox = `http://127.0.0.1:${port + 1}`;
  console.log("Starting the app and the sandbox …");
  await Promise.all([
    // Wrangler takes from .dev.vars only names it knows from wrangler.toml, and a name declared there could not be a
    // secret in production: so the optional secrets are handed over here.
    startWorker("app", "wrangler.toml", port, stateDir(), {
      ...settings,
      META_GRAPH_URL: sandbox,
      DIALOG360_URL: `${sandbox}/360dialog`,
      INFOBIP_URL: `${sandbox}/infobip`,
      SANDBOX_URL: sandbox,
    }),
    startWorker("sandbox", "sandbox/wrangler.toml", port + 1, join(stateDir(), "sandbox"), {
      MODE: "dev",
      APP_URL: app,
      META_APP_SECRET: settings.META_APP_SECRET,
    }),
  ]);
  await Promise.all([answering("app", app), answering("sandbox", sandbox)]);
  const demo = await seedDemo(app);
  fireCrons(app, readCrons(), (problem) => console.error(problem));
  console.log(`
Switchboard is ready.

  App        http://localhost:${port}
  Sandbox    http://localhost:${port + 1}   the provider and its customers
  State      ${relative(process.cwd(), stateDir()) || "."}

  User       ${DEMO_USER.email}   password ${DEMO_USER.password}
  Workspace  Demo   ${demo.workspaceId}
  Number     ${demo.number}   ${demo.numberId}
  API key    ${demo.apiKey}

Send a message:

  curl -X POST http://localhost:${port}/api/messages/send/text \\
    -H "Authorization: Bearer ${demo.apiKey}" -H "Content-Type: application/json" \\
    -d '{"phone_number_id": "${demo.numberId}", "to": "+4915112345678", "text": "Hello!"}'

Ctrl-C stops everything.
`);
}

process.on("SIGINT", () => stop(0, "Stopped"));
process.on("SIGTERM", () => stop(0, "Stopped"));
process.on("SIGHUP", () => stop(0, "Stopped: the terminal closed"));
onParentDeath(() => stop(1, "Stopped: what started this has ended"));

try {
  await main();
} catch (error) {
  await stop(1, error instanceof Error ? error.message : String(error));
}
