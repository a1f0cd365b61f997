import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { buildSandbox } from "../build-sandbox.mjs";
import { prepareDatabases } from "../prepare.mjs";
import { apiClient } from "./api.mjs";
import { buildApp } from "./build-app.mjs";
import { startBuilt } from "./built-worker.mjs";
import { LiveSocket } from "./live-socket.mjs";

/** How long one step may take, ms. */
const STEP_MS = 20_000;

const CUSTOMER = "4915112345678";
const NUMBER_ID = "15550100200";

let started = 0;
let step = "";

/**
 * Names a step and runs it; its last line says when it was done.
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
async function perform(name, work) {
  step = name;
  const result = await work();
  console.log(`${String(Date.now() - started).padStart(7)} ms  ${name}`);
  return result;
}

/** @param {boolean} holds @param {string} message */
function assert(holds, message) {
  if (!holds) throw new Error(message);
}

/**
 * Both Workers, built, with nothing stored before.
 * @param {string} folder for the builds and all state
 */
async function startStack(folder) {
  const [bundle, sandboxBundle] = await Promise.all([
    buildApp(join(folder, "app")),
    buildSandbox(join(folder, "sandbox/worker.js")),
    prepareDatabases(join(folder, "state")),
  ]);
  const appSecret = randomBytes(16).toString("hex");
  const sandbox = await startBuilt("sandbox/wrangler.toml", sandboxBundle, {
    state: join(folder, "sandbox-state"),
    // Where the app listens is known only when it does; the sandbox is told below.
    vars: { MODE: "dev", APP_URL: "http://127.0.0.1:1", META_APP_SECRET: appSecret },
  });
  const app = await startBuilt("wrangler.toml", bundle, {
    state: join(folder, "state"),
    vars: {
      META_APP_ID: "1000000000000001",
      META_GRAPH_URL: sandbox.origin,
      DIALOG360_URL: `${sandbox.origin}/360dialog`,
      INFOBIP_URL: `${sandbox.origin}/infobip`,
      SANDBOX_URL: sandbox.origin,
    },
    secrets: { SECRET_KEY: randomBytes(48).toString("base64url"), META_APP_SECRET: appSecret },
  });
  await apiClient(sandbox.origin)("POST", "/sandbox/settings", { body: { callback_url: `${app.origin}/webhook` } });
  return { app, sandbox };
}

/** @param {string} appUrl @param {string} sandboxUrl */
async function mainJob(appUrl, sandboxUrl) {
  const call = apiClient(appUrl);
  const provider = apiClient(sandboxUrl);
  const account = { email: `demo-${Date.now()}@example.com`, password: "correct-horse-battery", name: "Demo" };

  const token = await perform("signed up and in", async () => {
    await call("POST", "/api/auth/signup", { body: account });
    const { email, password } = account;
    return (await call("POST", "/api/auth/signin", { body: { email, password } })).access_token;
  });
  const workspace = await perform("created a workspace", () =>
    call("POST", "/api/workspaces", { token, body: { name: "Demo", plan: "pro" } }),
  );
  const number = await perform("registered a phone number of the sandbox", () =>
    call("POST", "/api/phone-numbers", {
      token,
      body: { workspace_id: workspace.id, phone_number_id: NUMBER_ID, access_token: "EAAdemo", display_name: "Demo" },
    }),
  );
  const live = await perform("opened a WebSocket", async () => {
    const { ticket } = await call("POST", "/api/realtime/tickets", { token, body: { workspace_id: workspace.id } });
    const address = `${appUrl.replace("http", "ws")}/api/workspaces/${workspace.id}/live?ticket=${ticket}`;
    const socket = new LiveSocket(address);
    await socket.until(({ type }) => type === "hello", STEP_MS);
    return socket;
  });

  const message = await perform(`sent a text to +${CUSTOMER}: queued`, async () => {
    const body = { workspace_id: workspace.id, phone_number_id: number.id, to: `+${CUSTOMER}`, text: "Hello!" };
    const accepted = await call("POST", "/api/messages/send/text", {
      token,
      body,
      headers: { "Idempotency-Key": `demo-${Date.now()}` },
    });
    assert(accepted.status === "queued", `the answer says ${accepted.status}`);
    return accepted;
  });
  for (const status of ["sent", "delivered", "read"]) {
    await perform(`the socket shows it ${status}`, () =>
      live.until((event) => event.message?.id === message.id && event.message.status === status, STEP_MS),
    );
  }

  const reply = `/sandbox/customers/${CUSTOMER}/messages`;
  const text = await perform("the customer answers with a text", () =>
    provider("POST", reply, { body: { to: NUMBER_ID, type: "text", text: { body: "Hi! Where is my parcel?" } } }),
  );
  await perform("the socket shows the text", () => live.until(isInbound(text.id, "text"), STEP_MS));
  const picture = await perform("the customer sends a picture", () =>
    provider("POST", reply, { body: { to: NUMBER_ID, type: "image", image: { caption: "This one" } } }),
  );
  await perform("the socket shows the picture", () => live.until(isInbound(picture.id, "image"), STEP_MS));

  await perform("the API has all three, each once", async () => {
    const path = `/api/conversations/${message.conversation_id}/messages`;
    const { data } = await call("GET", path, { token });
    const found = data.map((/** @type {any} */ { direction, type, status }) => `${direction} ${type} ${status}`).sort();
    const wanted = ["inbound image delivered", "inbound text delivered", "outbound text read"];
    assert(JSON.stringify(found) === JSON.stringify(wanted), `the conversation holds: ${found.join(", ")}`);
    const accepted = await provider("GET", `/sandbox/messages?to=${CUSTOMER}`);
    assert(accepted.data.length === 1, `the provider accepted ${accepted.data.length} messages`);
  });
  live.socket.close(1000);
}

/** @param {string} waMessageId @param {string} type */
function isInbound(waMessageId, type) {
  return (/** @type {any} */ event) =>
    event.type === "message.created" && event.message.wa_message_id === waMessageId && event.message.type === type;
}

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("demo-run.mjs is started by scripts/demo.mjs");
/** @type {Awaited<ReturnType<typeof startStack>> | undefined} */
let stack;
try {
  step = "start";
  console.log("Building and starting the app and the sandbox …");
  stack = await startStack(folder);
  started = Date.now();
  await mainJob(stack.app.origin, stack.sandbox.origin);
  console.log("\n✔ A message went out and was read; a text and a picture came in; nothing was lost or doubled.");
} catch (error) {
  for (const line of stack?.app.lastLines() ?? []) console.error(`app | ${line}`);
  console.error(`\n✘ ${step}: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  await Promise.all([stack?.app.stop(), stack?.sandbox.stop()]);
}
// Sockets of the servers that are gone would keep the process for a while.
process.exit();
