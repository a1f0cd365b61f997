// `npm run bench`: what the platform does and costs, measured on the bundle that would be deployed, run on Miniflare
// directly. Prints a table, each budget of docs/costs.md met or missed, and writes bench/results.json. Fails only when it
// cannot measure.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { measureCampaign } from "./measures/campaign.mjs";
import { measureContactLists, measureImport } from "./measures/contacts.mjs";
import { measureCosts } from "./measures/costs.mjs";
import { measureFiles } from "./measures/files.mjs";
import { measureLatency, measureSending, measureStoring } from "./measures/flow.mjs";
import { measureIngest } from "./measures/ingest.mjs";
import { measureLists } from "./measures/lists.mjs";
import { measureStartup } from "./measures/startup.mjs";
import { createTenant } from "./support/account.mjs";
import { runtimes } from "./support/memory.mjs";
import { circumstances, printTable, writeReadme, writeResults } from "./support/report.mjs";
import { buildAll, startApp, startSandbox } from "./support/stack.mjs";

const folder = mkdtempSync(join(tmpdir(), "switchboard-bench-"));
/** @type {Set<import("./support/stack.mjs").Running>} */
const running = new Set();
let stateCount = 0;

/** @template {import("./support/stack.mjs").Running} T @param {Promise<T>} starting */
async function started(starting) {
  const one = await starting;
  running.add(one);
  return one;
}

/** @param {import("./support/stack.mjs").Running} one */
async function stopped(one) {
  running.delete(one);
  await one.stop();
}

/** A state folder nothing was in. */
function newState() {
  stateCount += 1;
  const state = join(folder, `state-${stateCount}`);
  mkdirSync(state);
  return state;
}

/**
 * @template T
 * @param {string} name
 * @param {() => Promise<T>} measure
 */
async function step(name, measure) {
  const before = performance.now();
  process.stderr.write(`${name} …\n`);
  const result = await measure();
  process.stderr.write(`${name}: ${((performance.now() - before) / 1000).toFixed(1)} s\n`);
  return result;
}

async function measureAll() {
  const bundles = await step("building", () => buildAll(folder));
  const startup = await step("size and start-up", () => measureStartup(bundles, folder));
  const ingest = await step("receiving", () => measureIngest(bundles));

  const sandbox = await started(startSandbox(bundles.sandbox));
  const app = await started(startApp(bundles.app, { sandbox: sandbox.port, state: newState() }));
  const tenant = await createTenant({ app: app.port, sandbox: sandbox.port, numbers: 5 });
  const storing = await step("receiving and storing", () => measureStoring(app, tenant));
  const sending = await step("sending", () => measureSending(app, sandbox, tenant));
  const latency = await step("webhook to socket", () => measureLatency(app, tenant));
  await stopped(app);

  const full = await step("operations, full batches", async () => {
    const batch = { size: 100, timeout: 2 };
    const metered = await started(startApp(bundles.metered, { sandbox: sandbox.port, state: newState(), batch }));
    const owner = await createTenant({ app: metered.port, sandbox: sandbox.port, numbers: 1 });
    const costs = await measureCosts(metered, owner, 300);
    await stopped(metered);
    return costs;
  });
  const single = await step("operations, one by one", async () => {
    const batch = { size: 1, timeout: 0 };
    const metered = await started(startApp(bundles.metered, { sandbox: sandbox.port, state: newState(), batch }));
    const owner = await createTenant({ app: metered.port, sandbox: sandbox.port, numbers: 1 });
    const costs = await measureCosts(metered, owner, 100);
    await stopped(metered);
    return costs;
  });
  const lists = await step("lists", async () => {
    const metered = await started(startApp(bundles.metered, { sandbox: sandbox.port, state: newState() }));
    const results = [];
    for (const messages of [1_000, 1_000_000]) {
      const owner = await createTenant({ app: metered.port, sandbox: sandbox.port, numbers: 1 });
      results.push(await measureLists(metered, owner, messages));
    }
    await stopped(metered);
    return results;
  });
  const before = runtimes();
  const heavy = await started(startApp(bundles.metered, { sandbox: sandbox.port, state: newState() }));
  const pid = runtimes().find((one) => !before.includes(one));
  if (pid === undefined) throw new Error("The runtime's process was not found");
  const newTenant = () => createTenant({ app: heavy.port, sandbox: sandbox.port, numbers: 1 });
  const files = await step("files", async () => measureFiles(heavy, await newTenant(), pid));
  const imports = await step("import", async () => measureImport(heavy, await newTenant(), pid));
  const campaign = await step("campaign", async () => measureCampaign(heavy, sandbox, await newTenant()));
  const contacts = await step("contacts", async () => {
    const results = [];
    for (const stored of [1_000, 1_000_000]) {
      results.push(await measureContactLists(heavy, await newTenant(), stored));
    }
    return results;
  });
  await stopped(heavy);
  await stopped(sandbox);
  return {
    startup,
    ingest,
    storing,
    sending,
    latency,
    costs: { full, single },
    lists,
    files,
    imports,
    campaign,
    contacts,
  };
}

/** @param {Awaited<ReturnType<typeof measureAll>>} measured @returns {import("./support/report.mjs").Line[]} */
function tableOf({ startup, ingest, storing, sending, latency, costs, lists, files, imports, campaign, contacts }) {
  const rate = (/** @type {number} */ n) => `${n.toFixed(0)}/s`;
  const ms = (/** @type {number} */ n) => `${n.toFixed(1)} ms`;
  const dollars = (/** @type {number} */ n) => `$${n.toFixed(2)}`;
  const kib = startup.bundle_bytes / 1024;
  const { full, single } = costs;
  /** @param {string} what @param {number} bill @param {number} budget @returns {import("./support/report.mjs").Line} */
  const bill = (what, bill, budget) => ({
    what,
    value: dollars(bill),
    budget: `≤ ${dollars(budget)}`,
    met: bill <= budget,
  });
  return [
    { what: "webhooks received, app", value: rate(ingest.app_per_second) },
    { what: "webhooks received, bare Worker", value: rate(ingest.bare_per_second) },
    {
      what: "  ratio, median of alternating rounds",
      value: `${ingest.ratio.toFixed(2)} ×`,
      budget: "≥ 0.85 ×",
      met: ingest.ratio >= 0.85,
    },
    { what: "inbound messages received and stored", value: rate(storing.stored_per_second) },
    { what: "  missing afterwards", value: String(storing.missing), budget: "0", met: storing.missing === 0 },
    { what: "sends, API calls", value: rate(sending.api_calls_per_second) },
    { what: "sends, call to accepted by the sandbox", value: rate(sending.accepted_per_second) },
    { what: "  API call p50, p99 (16 at once)", value: `${ms(sending.api_p50_ms)}, ${ms(sending.api_p99_ms)}` },
    { what: `webhook to WebSocket at ${latency.per_second}/s, p50`, value: ms(latency.p50_ms) },
    { what: `webhook to WebSocket at ${latency.per_second}/s, p99`, value: ms(latency.p99_ms) },
    bill("a million in, full batches", full.bill.inbound.total, 8),
    bill("a million in, one by one", single.bill.inbound.total, 14),
    bill("a million out with three statuses, full batches", full.bill.outbound.total, 20),
    bill("a million out with three statuses, one by one", single.bill.outbound.total, 40),
    ...lists.flatMap((list) =>
      Object.entries(list.rows_read).map(([name, rows]) => ({
        what: `rows read by a page of ${list.page}, ${name}, ${list.stored.toLocaleString("en")} messages`,
        value: String(rows),
        budget: `≤ ${list.budget}`,
        met: rows <= list.budget,
      })),
    ),
    { what: "100 MB uploaded", value: `${files.upload_mib_per_second.toFixed(0)} MiB/s` },
    { what: "  memory the runtime grew by", value: `${files.upload_peak_mib.toFixed(0)} MiB` },
    { what: "100 MB downloaded", value: `${files.download_mib_per_second.toFixed(0)} MiB/s` },
    { what: "  memory the runtime grew by", value: `${files.download_peak_mib.toFixed(0)} MiB` },
    { what: "100,000 contacts imported", value: `${imports.import_seconds.toFixed(1)} s` },
    {
      what: "  against the bare upsert, median of rounds",
      value: `${imports.ratio.toFixed(2)} ×`,
      budget: "≤ 3 ×",
      met: imports.ratio <= 3,
    },
    { what: "  memory the runtime grew by", value: `${imports.peak_mib.toFixed(0)} MiB` },
    { what: "campaign of 10,000, messages sent", value: rate(campaign.per_second) },
    { what: "  rows written per recipient", value: campaign.rows_written_per_recipient.toFixed(2) },
    ...contacts.flatMap((list) =>
      Object.entries(list.rows_read).map(([name, rows]) => ({
        what: `rows read by a page of ${list.page}, ${name}, ${list.stored.toLocaleString("en")} contacts (${ms(list.ms[name] ?? 0)})`,
        value: String(rows),
        // Filtered totals are counted to 10,000: only the plain list has a budget.
        ...(name === "contacts" ? { budget: `≤ ${list.budget}`, met: rows <= list.budget } : {}),
      })),
    ),
    { what: "bundle, minified", value: `${kib.toFixed(0)} KiB`, budget: "≤ 1024 KiB", met: kib <= 1024 },
    { what: "start-up", value: ms(startup.startup_ms), budget: "≤ 50 ms", met: startup.startup_ms <= 50 },
  ];
}

/** Rows, calls and operations of one message: what the bill is made of. */
function printOperations(/** @type {Awaited<ReturnType<typeof measureAll>>["costs"]} */ { full, single }) {
  const shown = [
    "requests",
    "batches",
    "queue_operations",
    "d1_round_trips",
    "d1_rows_read",
    "d1_rows_written",
    "object_requests",
    "object_rows_written",
    "bucket_writes",
    "logs",
  ];
  console.log(
    `\n${"per message".padEnd(24)}${["in, full", "in, single", "out, full", "out, single"].map((name) => name.padStart(12)).join("")}`,
  );
  for (const name of shown) {
    /** @type {Record<string, number>[]} */
    const each = [
      full.operations.inbound,
      single.operations.inbound,
      full.operations.outbound,
      single.operations.outbound,
    ];
    console.log(name.padEnd(24) + each.map((one) => (one[name] ?? 0).toFixed(2).padStart(12)).join(""));
  }
}

async function cleanUp() {
  await Promise.allSettled([...running].map((one) => one.stop()));
  rmSync(folder, { recursive: true, force: true });
}

for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])) {
  process.once(signal, async () => {
    await cleanUp();
    process.exit(1);
  });
}

let failure;
try {
  const measured = await measureAll();
  const lines = tableOf(measured);
  console.log("");
  printTable(lines);
  printOperations(measured.costs);
  const budgets = lines.filter(({ met }) => met !== undefined);
  writeReadme(lines);
  writeResults({ ...circumstances(), ...measured, budgets });
  const missed = budgets.filter(({ met }) => !met).length;
  console.log(
    `\n${budgets.length - missed} of ${budgets.length} budgets met. Written to bench/results.json and README.md.`,
  );
} catch (error) {
  failure = error;
} finally {
  await cleanUp();
}
if (failure !== undefined) {
  console.error(failure);
  process.exit(1);
}
// Sockets of the Workers that are gone would keep the process for a while.
process.exit(0);
