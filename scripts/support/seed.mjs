import { ApiError, apiClient } from "./api.mjs";

export const DEMO_USER = { email: "owner@example.com", password: "switchboard-demo", name: "Demo Owner" };
const WORKSPACE = { name: "Demo", plan: "enterprise" };

/** The sandbox takes any numeric id and shows it as the number itself. */
const NUMBER = { phone_number_id: "15550100100", access_token: "EAAdemo", display_name: "Demo number" };

/**
 * Signs in, making the account first when there is none.
 * @param {ReturnType<typeof apiClient>} call
 */
async function signIn(call) {
  const { email, password } = DEMO_USER;
  const attempt = () => call("POST", "/api/auth/signin", { body: { email, password } });
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 401)) throw error;
  }
  try {
    await call("POST", "/api/auth/signup", { body: DEMO_USER });
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 409)) throw error;
    throw new Error(`${email} exists with another password: delete the state folder to start over`);
  }
  return attempt();
}

/**
 * The demo user, workspace and phone number, made through the API like anybody's; what is there already stays.
 * @param {string} origin of the app
 * @returns {Promise<{ workspaceId: string, apiKey: string, number: string, numberId: string }>}
 */
export async function seedDemo(origin) {
  const call = apiClient(origin);
  const { access_token: token } = await signIn(call);
  /** @type {{ id: string, name: string }[]} */
  const mine = await call("GET", "/api/workspaces?limit=100", { token });
  const existing = mine.find(({ name }) => name === WORKSPACE.name);
  const { id } = existing ?? (await call("POST", "/api/workspaces", { token, body: WORKSPACE }));
  const workspace = await call("GET", `/api/workspaces/${id}`, { token });
  /** @type {{ data: { id: string, phone_number: string, phone_number_id: string }[] }} */
  const numbers = await call("GET", `/api/phone-numbers?workspace_id=${id}&limit=100`, { token });
  const known = numbers.data.find(({ phone_number_id }) => phone_number_id === NUMBER.phone_number_id);
  const number = known ?? (await call("POST", "/api/phone-numbers", { token, body: { workspace_id: id, ...NUMBER } }));
  return { workspaceId: id, apiKey: workspace.api_key, number: number.phone_number, numberId: number.id };
}
