import { apiClient } from "../../scripts/support/api.mjs";

/** @typedef {import("../support/stack.mjs").Running} Running */
/** @typedef {import("../support/account.mjs").Tenant} Tenant */

const LIMIT = 20;
/** Messages stored with one statement. */
const CHUNK = 100_000;
const PAGES = 3;

/**
 * Rows of the shard that one page of each list reads, by cursor and with its total: the most of the first three pages.
 * @param {Running} app the metered one
 * @param {Tenant} tenant one without messages
 * @param {number} messages stored first
 */
export async function measureLists(app, tenant, messages) {
  const origin = `http://127.0.0.1:${app.port}`;
  const call = apiClient(origin);
  const started = performance.now();
  for (let after = 0; after < messages; after += CHUNK) {
    await call("POST", "/bench/seed", {
      body: {
        workspaceId: tenant.workspaceId,
        phoneNumberId: tenant.numbers[0]?.id,
        messages: Math.min(CHUNK, messages - after),
        conversations: Math.max(10, messages / 20),
        after,
      },
      timeoutMs: 120_000,
    });
  }
  const seeded = (performance.now() - started) / 1000;
  const headers = { Authorization: `Bearer ${tenant.apiKey}` };
  const inbox = await call("GET", `/api/conversations?limit=1`, { headers });
  const lists = {
    messages: "/api/messages?",
    inbox: "/api/conversations?",
    thread: `/api/conversations/${inbox.data[0].id}/messages?`,
  };
  /** @type {Record<string, number>} */
  const rows = {};
  for (const [name, path] of Object.entries(lists)) {
    let cursor = "";
    rows[name] = 0;
    for (let page = 0; page < PAGES; page += 1) {
      await call("GET", "/bench/counts");
      const body = await call("GET", `${path}limit=${LIMIT}${cursor}`, { headers });
      const counts = await call("GET", "/bench/counts");
      rows[name] = Math.max(rows[name], counts.shard_rows_read);
      if (body.next_cursor === null) break;
      cursor = `&cursor=${encodeURIComponent(body.next_cursor)}`;
    }
  }
  return { stored: messages, page: LIMIT, rows_read: rows, budget: 3 * LIMIT + 10, seed_seconds: seeded };
}
