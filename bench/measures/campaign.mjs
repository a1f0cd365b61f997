import { setTimeout as sleep } from "node:timers/promises";
import { apiClient } from "../../scripts/support/api.mjs";

/** @typedef {import("../support/stack.mjs").Running} Running */
/** @typedef {import("../support/account.mjs").Tenant} Tenant */

const RECIPIENTS = 10_000;
const TIMEOUT_MS = 600_000;

/**
 * A campaign to 10,000 people, from its start to the last one sent: how fast, and what each recipient writes. Nobody
 * gets it twice. Statuses are not part of it: the provider's webhooks are counted elsewhere.
 * @param {Running} app the metered one @param {Running} sandbox @param {Tenant} tenant one without contacts
 */
export async function measureCampaign(app, sandbox, tenant) {
  const call = apiClient(`http://127.0.0.1:${app.port}`);
  const provider = apiClient(`http://127.0.0.1:${sandbox.port}`);
  const headers = { Authorization: `Bearer ${tenant.apiKey}` };
  const { workspaceId } = tenant;
  await call("POST", "/bench/contacts", { body: { workspaceId, rows: RECIPIENTS, after: 0 }, timeoutMs: 120_000 });
  const template = await call("POST", "/api/templates", {
    headers,
    body: {
      workspace_id: workspaceId,
      name: "bench_parcel",
      language: "en_US",
      category: "UTILITY",
      components: {
        body: { text: "Hello {{1}}, your parcel will arrive tomorrow.", example: { body_text: [["Ana"]] } },
      },
    },
  });
  await provider("POST", `/sandbox/templates/${template.meta_template_id}/review`, { body: { status: "APPROVED" } });
  await call("POST", "/api/templates/sync", { headers, body: { workspace_id: workspaceId } });
  const campaign = await call("POST", "/api/campaigns", {
    headers,
    body: {
      workspace_id: workspaceId,
      name: "Bench",
      template_id: template.id,
      audience: { all: true },
      template_params: { body: [{ type: "text", text: "{{contact.name}}" }] },
    },
  });
  const accepted = async () => Number((await provider("GET", "/sandbox/stats")).accepted);
  const before = await accepted();
  await call("GET", "/bench/counts");
  const started = performance.now();
  const path = `/api/campaigns/${campaign.id}`;
  await call("POST", `${path}/start`, { headers });
  let now;
  do {
    await sleep(500);
    now = await call("GET", path, { headers });
  } while (now.status !== "completed" && performance.now() - started < TIMEOUT_MS);
  const seconds = (performance.now() - started) / 1000;
  const counts = await call("GET", "/bench/counts");
  const sent = (await accepted()) - before;
  if (now.sent_count !== RECIPIENTS || sent !== RECIPIENTS) {
    throw new Error(`${now.sent_count} of ${RECIPIENTS} recipients are sent, ${sent} messages left`);
  }
  return {
    recipients: RECIPIENTS,
    seconds,
    per_second: RECIPIENTS / seconds,
    rows_written_per_recipient: counts.d1_rows_written / RECIPIENTS,
    rows_read_per_recipient: counts.d1_rows_read / RECIPIENTS,
    object_rows_written_per_recipient: counts.object_rows_written / RECIPIENTS,
  };
}
