import { apiClient } from "../../scripts/support/api.mjs";

/**
 * @typedef {object} Tenant
 * @property {ReturnType<typeof apiClient>} call
 * @property {string} workspaceId
 * @property {string} token of its owner
 * @property {string} apiKey
 * @property {{ id: string, providerNumberId: string, businessId: string }[]} numbers
 */

let tenants = 0;

/**
 * A user, a workspace and its numbers, made through the API. The provider lets them send 1,000 a second each (tier
 * HIGH): at the standard 80 the gate would be measured, and not the code.
 * @param {{ app: number, sandbox: number, numbers: number }} options
 * @returns {Promise<Tenant>}
 */
export async function createTenant({ app, sandbox, numbers }) {
  const call = apiClient(`http://127.0.0.1:${app}`);
  const provider = apiClient(`http://127.0.0.1:${sandbox}`);
  tenants += 1;
  const account = { email: `bench-${tenants}@example.com`, password: "correct-horse-battery", name: "Bench" };
  await call("POST", "/api/auth/signup", { body: account });
  const { access_token: token } = await call("POST", "/api/auth/signin", {
    body: { email: account.email, password: account.password },
  });
  const workspace = await call("POST", "/api/workspaces", { token, body: { name: "Bench", plan: "enterprise" } });
  /** @type {Tenant["numbers"]} */
  const made = [];
  for (let n = 0; n < numbers; n += 1) {
    const providerNumberId = `1555${String(tenants).padStart(3, "0")}${String(n).padStart(4, "0")}`;
    await provider("POST", `/sandbox/numbers/${providerNumberId}`, { body: { throughput: { level: "HIGH" } } });
    const number = await call("POST", "/api/phone-numbers", {
      token,
      body: { workspace_id: workspace.id, phone_number_id: providerNumberId, access_token: "EAAbench" },
    });
    made.push({ id: number.id, providerNumberId, businessId: number.business_id });
  }
  const { api_key: apiKey } = await call("GET", `/api/workspaces/${workspace.id}`, { token });
  return { call, workspaceId: workspace.id, token, apiKey, numbers: made };
}
