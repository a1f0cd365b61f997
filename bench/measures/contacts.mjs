import { setTimeout as sleep } from "node:timers/promises";
import { apiClient } from "../../scripts/support/api.mjs";
import { onFreshConnection } from "../support/load.mjs";
import { peakMemory } from "../support/memory.mjs";

/** @typedef {import("../support/stack.mjs").Running} Running */
/** @typedef {import("../support/account.mjs").Tenant} Tenant */

const ROWS = 100_000;
const ROUNDS = 3;
const TIMEOUT_MS = 180_000;

/** @param {number} round numbers nobody has yet */
function csvOf(round) {
  const lines = ["phone,name,labels"];
  for (let n = 0; n < ROWS; n += 1) {
    lines.push(`+4915${round}${String(n).padStart(7, "0")},Customer ${n},"bench,round-${round}"`);
  }
  return `${lines.join("\n")}\n`;
}

/** @param {readonly number[]} values */
function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/**
 * 100,000 rows as one file, from the first byte to the last contact, against the bare upsert of the same rows: the same
 * tables written a thousand at a time, with nothing read, checked, reported or kept. Rounds alternate.
 * @param {Running} app the metered one @param {Tenant} tenant @param {number} pid of the runtime
 */
export async function measureImport(app, tenant, pid) {
  const call = apiClient(`http://127.0.0.1:${app.port}`);
  const headers = { Authorization: `Bearer ${tenant.apiKey}` };
  /** @type {number[]} */
  const imports = [];
  /** @type {number[]} */
  const bare = [];
  /** @type {number[]} */
  const ratios = [];
  let peak = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const form = new FormData();
    form.set("file", new Blob([csvOf(round * 2)], { type: "text/csv" }), "contacts.csv");
    const started = performance.now();
    const { grown } = await peakMemory(pid, async () => {
      const response = await onFreshConnection(() =>
        fetch(`http://127.0.0.1:${app.port}/api/contacts/import`, {
          method: "POST",
          headers,
          body: form,
          signal: AbortSignal.timeout(TIMEOUT_MS),
        }),
      );
      const accepted = JSON.parse(await response.text());
      if (response.status !== 202) throw new Error(`The import answered ${response.status}`);
      const path = `/api/contacts/imports/${accepted.import_id}`;
      let last;
      do {
        await sleep(100);
        last = await call("GET", path, { headers });
      } while (last.status !== "completed" && performance.now() - started < TIMEOUT_MS);
      if (last.imported !== ROWS) throw new Error(`${last.imported} of ${ROWS} rows were imported`);
    });
    imports.push((performance.now() - started) / 1000);
    peak = Math.max(peak, grown);
    const bareStarted = performance.now();
    await call("POST", "/bench/upsert", {
      body: { workspaceId: tenant.workspaceId, prefix: `4915${round * 2 + 1}`, rows: ROWS },
      timeoutMs: TIMEOUT_MS,
    });
    bare.push((performance.now() - bareStarted) / 1000);
    ratios.push((imports.at(-1) ?? 0) / (bare.at(-1) ?? 1));
  }
  return {
    rows: ROWS,
    import_seconds: median(imports),
    bare_seconds: median(bare),
    ratio: median(ratios),
    ratios,
    peak_mib: peak,
  };
}

const LIMIT = 20;
const PAGES = 3;
/** Contacts stored with one statement. */
const CHUNK = 100_000;

/**
 * Rows of the shard that one page of contacts reads, by cursor and with its total: the most of the first three pages;
 * and the time of such a page.
 * @param {Running} app the metered one @param {Tenant} tenant one without contacts @param {number} contacts stored first
 */
export async function measureContactLists(app, tenant, contacts) {
  const call = apiClient(`http://127.0.0.1:${app.port}`);
  for (let after = 0; after < contacts; after += CHUNK) {
    const rows = Math.min(CHUNK, contacts - after);
    await call("POST", "/bench/contacts", {
      body: { workspaceId: tenant.workspaceId, rows, after },
      timeoutMs: TIMEOUT_MS,
    });
  }
  const headers = { Authorization: `Bearer ${tenant.apiKey}` };
  const lists = {
    contacts: "/api/contacts?",
    "contacts opted in": "/api/contacts?opted_in=true&",
    "contacts by tag": "/api/contacts?tags=rare&",
    "contacts by name": "/api/contacts?search=customer%20777&",
  };
  /** @type {Record<string, number>} */
  const rows = {};
  /** @type {Record<string, number>} */
  const times = {};
  for (const [name, path] of Object.entries(lists)) {
    let cursor = "";
    rows[name] = 0;
    /** @type {number[]} */
    const took = [];
    for (let page = 0; page < PAGES; page += 1) {
      await call("GET", "/bench/counts");
      const started = performance.now();
      const body = await call("GET", `${path}limit=${LIMIT}${cursor}`, { headers });
      took.push(performance.now() - started);
      const counts = await call("GET", "/bench/counts");
      rows[name] = Math.max(rows[name], counts.shard_rows_read);
      if (body.next_cursor === null) break;
      cursor = `&cursor=${encodeURIComponent(body.next_cursor)}`;
    }
    times[name] = median(took);
  }
  return { stored: contacts, page: LIMIT, rows_read: rows, ms: times, budget: 3 * LIMIT + 10 };
}
