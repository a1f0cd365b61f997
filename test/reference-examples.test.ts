import { applyD1Migrations, reset } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { hmacSha256, toHex } from "../src/platform/crypto";
import { planWindows } from "../src/workspaces/quota";
import { planSchema } from "../src/workspaces/schema";
import authenticationFile from "./fixtures/reference/authentication.json";
import errorsFile from "./fixtures/reference/errors.json";
import messagesFile from "./fixtures/reference/messages.json";
import phoneNumbersFile from "./fixtures/reference/phone-numbers.json";
import webhooksFile from "./fixtures/reference/webhooks.json";
import workspacesFile from "./fixtures/reference/workspaces.json";
import { call, memberWithRole, newUser, newWorkspace, type TestUser, testRuntime } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { messageRow, untilStatus } from "./support/pipeline";
import { type Block, differences, example, examplesOf, jsonOf, type Known } from "./support/reference";
import { answered, FORMS, type Form, run, send } from "./support/reference-calls";
import { describeEndpoints } from "./support/reference-endpoints";
import { sandbox } from "./support/sandbox";

const authentication = examplesOf(authenticationFile);
const workspaces = examplesOf(workspacesFile);
const phoneNumbers = examplesOf(phoneNumbersFile);
const messages = examplesOf(messagesFile);
const webhooks = examplesOf(webhooksFile);
const errors = z.record(z.string(), z.custom<Block>()).parse(errorsFile.examples);

/** Each example stands alone: its literals (an address, a slug, a number) must be free. */
function onFreshDatabases(): void {
  beforeEach(async () => {
    await reset();
    await applyD1Migrations(env.DIRECTORY, env.TEST_MIGRATIONS.directory);
    await applyD1Migrations(env.SHARD_0, env.TEST_MIGRATIONS.shard);
    await applyD1Migrations(env.SHARD_1, env.TEST_MIGRATIONS.shard);
    await sandbox.reset();
  });
}

const identified = z.looseObject({ id: z.uuid() });

describeEndpoints({ ...authentication, ...workspaces, ...phoneNumbers, ...messages, ...webhooks });

describe("Authentication", () => {
  onFreshDatabases();

  it.each(FORMS)("Sign Up, then Sign In (%s)", async (form) => {
    const signUp = example(authentication, "Sign Up");
    const user = z.object({ user_id: z.uuid() }).parse(await answered(await run(form, signUp, {}, null), signUp));
    const signIn = example(authentication, "Sign In");
    const signed = z
      .object({ user_id: z.uuid(), access_token: z.string() })
      .parse(await answered(await run(form, signIn, {}, null), signIn));
    expect(signed.user_id).toBe(user.user_id);
    expect(
      (await call("GET", "/api/auth/me", undefined, { Authorization: `Bearer ${signed.access_token}` })).status,
    ).toBe(200);
  });

  it("Sign Up names its provider by default", async () => {
    const { endpoint, request } = example(authentication, "Sign Up");
    const body = request && jsonOf(request);
    expect((await call(endpoint.method, `${endpoint.path}?provider=Email`, body)).status).toBe(200);
  });

  it("Refresh Token: with a valid access token, as printed, and with a refresh token", async () => {
    const refresh = example(authentication, "Refresh Token");
    const user = await newUser();
    const tokens = await answered(await send(refresh, {}, user.token), refresh);
    const { refresh_token } = z.object({ refresh_token: z.string() }).parse(tokens);
    await answered(await call(refresh.endpoint.method, refresh.endpoint.path, { refresh_token }), refresh);
  });

  it("Get Current User", async () => {
    const me = example(authentication, "Get Current User");
    const user = await newUser({ email: "user@example.com", name: "John Doe" });
    await answered(await send(me, {}, user.token), me);
  });
});

describe("Workspaces", () => {
  onFreshDatabases();

  async function created(form: Form = "request") {
    const user = await newUser();
    const create = example(workspaces, "Create Workspace");
    const known = { "user-uuid": user.userId };
    const workspace = await answered(await run(form, create, known, user.token), create, known);
    return { user, workspace, create, id: identified.parse(workspace).id };
  }
  const at = (id: string): Known => ({ "{workspace_id}": id, "workspace-uuid": id });

  it.each(FORMS)("Create Workspace (%s), List Workspaces", async (form) => {
    const { user, id } = await created(form);
    const list = example(workspaces, "List Workspaces");
    await answered(await send(list, {}, user.token), list, at(id));
  });

  it("Get Workspace returns full details including API key and webhook secret", async () => {
    const { user, workspace, id } = await created();
    const get = example(workspaces, "Get Workspace");
    expect(await answered(await send(get, at(id), user.token), get)).toEqual(workspace);
  });

  it("Update Workspace, all fields optional", async () => {
    const { user, id } = await created();
    const update = example(workspaces, "Update Workspace");
    const changed = await answered(await send(update, at(id), user.token), update);
    expect(differences(update.request && jsonOf(update.request), changed, {})).toEqual([]);
    const { request: _, ...bare } = update;
    const path = bare.endpoint.path.replace("{workspace_id}", id);
    const same = await call(bare.endpoint.method, path, {}, { Authorization: `Bearer ${user.token}` });
    expect(same.status).toBe(200);
  });

  it("Delete Workspace", async () => {
    const { user, id } = await created();
    const remove = example(workspaces, "Delete Workspace");
    expect(await answered(await send(remove, at(id), user.token), remove)).toBeNull();
    const get = example(workspaces, "Get Workspace");
    expect((await send(get, at(id), user.token)).status).toBe(404);
  });

  it("List Workspace Members, Add Workspace Member", async () => {
    const { user, id } = await created();
    const list = example(workspaces, "List Workspace Members");
    await answered(await send(list, at(id), user.token), list, { "user-uuid": user.userId });
    const add = example(workspaces, "Add Workspace Member");
    const member = await answered(await send(add, at(id), user.token), add);
    expect(member).toMatchObject({ email: "newmember@example.com", role: "MEMBER", status: "invited", user_id: null });
  });
});

describe("Phone Numbers", () => {
  onFreshDatabases();

  async function registered(form: Form = "request") {
    const workspace = await newWorkspace();
    const register = example(phoneNumbers, "Register Phone Number");
    const known = { "workspace-uuid": workspace.workspaceId };
    const number = await answered(await run(form, register, known, workspace.token), {
      ...register,
      // The curl command gives no business_id, so the printed one cannot come back.
      ...(form === "curl" ? { response: undefined } : {}),
    });
    const { id } = identified.parse(number);
    if (register.response) {
      const { business_id, ...documented } = z
        .looseObject({ business_id: z.string() })
        .parse(jsonOf(register.response));
      expect(differences(documented, number, known)).toEqual([]);
    }
    const all: Known = { ...known, "phone-uuid": id, "{phone_number_id}": id, "{phone_id}": id };
    return { workspace, number, known: all };
  }

  it.each(FORMS)("Register Phone Number (%s), List Phone Numbers, Get Phone Number", async (form) => {
    const { workspace, number, known } = await registered(form);
    const list = example(phoneNumbers, "List Phone Numbers");
    const query = new URLSearchParams({
      workspace_id: workspace.workspaceId,
      status: "active",
      limit: "20",
      offset: "0",
    });
    for (const suffix of [`?workspace_id=${workspace.workspaceId}`, `?${query}`]) {
      const endpoint = { ...list.endpoint, path: list.endpoint.path + suffix };
      await answered(await send({ ...list, endpoint }, known, workspace.token), list, known);
    }
    const get = example(phoneNumbers, "Get Phone Number");
    expect(identified.parse(await answered(await send(get, known, workspace.token), get))).toMatchObject({
      id: identified.parse(number).id,
      phone_number_id: "1234567890",
    });
  });

  it("Update Phone Number", async () => {
    const { workspace, known } = await registered();
    const update = example(phoneNumbers, "Update Phone Number");
    const changed = await answered(await send(update, known, workspace.token), update);
    expect(changed).toMatchObject({ display_name: "Sales Team", status: "active" });
  });

  it("Delete Phone Number", async () => {
    const { workspace, known } = await registered();
    const remove = example(phoneNumbers, "Delete Phone Number");
    expect(await answered(await send(remove, known, workspace.token), remove)).toBeNull();
    expect((await send(example(phoneNumbers, "Get Phone Number"), known, workspace.token)).status).toBe(404);
  });

  it.each(FORMS)("Sync Phone Number (%s)", async (form) => {
    const { workspace, known } = await registered();
    const sync = example(phoneNumbers, "Sync Phone Number");
    await answered(await run(form, sync, known, workspace.token), sync, known);
  });

  it("Exchange Token", async () => {
    const { workspace, known } = await registered();
    const exchange = example(phoneNumbers, "Exchange Token");
    const number = await answered(await send(exchange, known, workspace.token), exchange);
    expect(number).toMatchObject({ id: known["phone-uuid"] });
    expect(JSON.stringify(number)).not.toContain("EAAxxxxxxxxx");
  });
});

/** A workspace whose number is the one that the examples print as sender. */
async function sender() {
  const workspace = await newWorkspace();
  const number = await registerNumber(workspace, { phone_number: "+0987654321" });
  const known: Known = { "workspace-uuid": workspace.workspaceId, "phone-uuid": number.id };
  return { workspace, known };
}

async function sent(form: Form = "request") {
  const { workspace, known } = await sender();
  const text = example(messages, "Send Text Message");
  const message = identified.parse(await answered(await run(form, text, known, workspace.token), text, known));
  const row = await untilStatus(message.id, workspace.workspaceId, "sent");
  return { workspace, id: message.id, wamid: String(row.wa_message_id) };
}

describe("Messages", () => {
  onFreshDatabases();

  it.each(FORMS)("Send Text Message (%s)", async (form) => {
    const { id } = await sent(form);
    const accepted = await sandbox.accepted();
    expect(accepted.counts.by_message).toEqual({ [id]: 1 });
    expect(accepted.data[0]?.body).toMatchObject({ type: "text", text: { body: "Hello! Thanks for contacting us." } });
  });

  it("Get Message Status", async () => {
    await sandbox.settings({ statuses: ["sent", "delivered"] });
    const { workspace, id, wamid } = await sent();
    await sandbox.flush();
    await untilStatus(id, workspace.workspaceId, "delivered");
    const status = example(messages, "Get Message Status");
    const known = { "{message_id}": id, "message-uuid": id, "wamid.xxxxx": wamid };
    const answer = await answered(await send(status, known, workspace.token), status, known);
    expect(answer).toMatchObject({ wa_message_id: wamid, delivered_at: expect.any(String), read_at: null });
  });
});

describe("Webhooks", () => {
  onFreshDatabases();

  it("Verify Webhook echoes the challenge", async () => {
    const { endpoint } = example(webhooks, "Verify Webhook");
    const verify = (token: string) =>
      call(endpoint.method, `${endpoint.path}?hub.mode=subscribe&hub.verify_token=${token}&hub.challenge=any+string`);
    const response = await verify(testRuntime().config.WHATSAPP_WEBHOOK_VERIFY_TOKEN ?? "");
    expect([response.status, await response.text()]).toEqual([200, "any string"]);
    expect((await verify("another")).status).toBe(403);
  });

  it("Receive Webhook: the example payload makes its message delivered, at its own time", async () => {
    const { endpoint, request } = example(webhooks, "Receive Webhook");
    const { workspace, id, wamid } = await sent();
    const body = JSON.stringify(request && jsonOf(request)).replace("wamid.xxxxx", wamid);
    const signature = toHex(await hmacSha256(testRuntime().config.META_APP_SECRET ?? "", body));
    const post = (headers: Record<string, string>) =>
      call(endpoint.method, endpoint.path, body, { "Content-Type": "application/json", ...headers });
    expect((await post({})).status).toBe(401);
    expect((await post({ "X-Hub-Signature-256": `sha256=${signature}` })).status).toBe(200);
    await untilStatus(id, workspace.workspaceId, "delivered");
    expect((await messageRow(id, workspace.workspaceId)).delivered_at).toBe(1_234_567_890_000);
  });
});

describe("Error Handling", () => {
  onFreshDatabases();

  /** A refusal whose documented part is exactly the printed one. */
  async function refuses(response: Response, status: number, title: string): Promise<void> {
    const printed = errors[title];
    if (!printed) throw new Error(`No error is called ${title}`);
    expect(response.status).toBe(status);
    const { code: _, request_id: __, ...body } = z.looseObject({}).parse(await response.json());
    expect(body).toEqual(jsonOf(printed));
  }
  const as = ({ call: ask }: TestUser) => ask;

  it("a field that is not valid", async () => {
    const body = { email: "not-an-address", password: "SecurePassword123!" };
    await refuses(await call("POST", "/api/auth/signup", body), 422, "a field");
    await refuses(await call("POST", "/api/auth/signin", body), 422, "a field");
  });

  it("Resource not found", async () => {
    const user = await newUser();
    const id = crypto.randomUUID();
    for (const path of ["messages", "phone-numbers", "media", "templates", "contacts", "campaigns"]) {
      await refuses(await as(user)("GET", `/api/${path}/${id}`), 404, "simple");
    }
    await refuses(await call("GET", "/api/nothing"), 404, "simple");
  });

  it("401 Unauthorized: a wrong password, an unknown account, a token that is missing or bad", async () => {
    const signUp = example(authentication, "Sign Up");
    await answered(await send(signUp, {}, null), signUp);
    const signIn = (email: string) => call("POST", "/api/auth/signin", { email, password: "Another1234!" });
    await refuses(await signIn("user@example.com"), 401, "401");
    await refuses(await signIn("nobody@example.com"), 401, "401");
    await refuses(await call("GET", "/api/workspaces"), 401, "401");
    await refuses(await call("GET", "/api/workspaces", undefined, { Authorization: "Bearer expired" }), 401, "401");
  });

  it("403 Forbidden", async () => {
    const workspace = await newWorkspace();
    const member = await memberWithRole(workspace, "MEMBER");
    const known = { "{workspace_id}": workspace.workspaceId, "workspace-uuid": workspace.workspaceId };
    for (const found of [
      example(workspaces, "Update Workspace"),
      example(workspaces, "Add Workspace Member"),
      example(phoneNumbers, "Register Phone Number"),
    ]) {
      await refuses(await send(found, known, member.token), 403, "403");
    }
  });

  it("404 Not Found", async () => {
    const user = await newUser();
    const known = { "{workspace_id}": crypto.randomUUID(), "workspace-uuid": crypto.randomUUID() };
    for (const found of [example(workspaces, "Get Workspace"), example(phoneNumbers, "Register Phone Number")]) {
      await refuses(await send(found, known, user.token), 404, "404");
    }
    for (const path of ["media", "templates", "contacts", "campaigns"]) {
      const list = await as(user)("GET", `/api/${path}?workspace_id=${known["workspace-uuid"]}`);
      await refuses(list, 404, "404");
    }
  });

  it("429 Too Many Requests: the plans' limits, in headers and in effect", async () => {
    const count = (text: string | undefined) => Number(text?.replace(",", ""));
    for (const row of errorsFile.plans.text) {
      const [, title = "", hour, day] = row.split("|").map((cell) => cell.trim());
      const plan = planSchema.parse(title.toLowerCase());
      const windows = planWindows(plan, testRuntime().config);
      if (hour !== "Custom") {
        expect(windows).toEqual([
          { seconds: 3600, limit: count(hour) },
          { seconds: 86_400, limit: count(day) },
        ]);
      }
      const workspace = await newWorkspace({ plan });
      const response = await workspace.callWithKey("GET", "/api/messages");
      const limit = windows[0]?.limit ?? 0;
      expect(response.headers.get("RateLimit-Limit")).toBe(String(limit));
      expect(response.headers.get("RateLimit-Remaining")).toBe(String(limit - 1));
      expect(Number(response.headers.get("RateLimit-Reset"))).toBeGreaterThan(0);
    }
    const free = await newWorkspace({ plan: "free" });
    for (let n = 0; n < 100; n += 1) expect((await free.callWithKey("GET", "/api/messages")).status).toBe(200);
    const response = await free.callWithKey("GET", "/api/messages");
    expect(Number(response.headers.get("Retry-After"))).toBeGreaterThan(0);
    expect(response.headers.get("RateLimit-Remaining")).toBe("0");
    await refuses(response, 429, "429");
  });

  it("422: phone numbers in E.164 format and no other", async () => {
    const { workspace, known } = await sender();
    const numbersOf = (block: Block) => block.text.map((line) => /`([^`]+)`/.exec(line)?.[1] ?? "");
    const printed = new RegExp(/\/(\^.*\$)\//.exec(errorsFile.e164.text[0] ?? "")?.[1] ?? "(?!)");
    const to = (number: string) =>
      workspace.call("POST", "/api/messages/send/text", {
        workspace_id: known["workspace-uuid"],
        phone_number_id: known["phone-uuid"],
        to: number,
        text: "Hello",
        scheduled_at: new Date(Date.now() + 7 * 86_400_000).toISOString(),
      });
    for (const number of numbersOf(errorsFile.correct)) {
      expect(printed.test(number)).toBe(true);
      expect((await to(number)).status, number).toBe(201);
    }
    const [field] = z
      .object({ detail: z.array(z.looseObject({})) })
      .parse(errors["422"] && jsonOf(errors["422"])).detail;
    for (const number of numbersOf(errorsFile.incorrect)) {
      expect(printed.test(number)).toBe(false);
      const response = await to(number);
      expect(response.status, number).toBe(422);
      // The printed place is a contact's; a send's is `to`.
      expect(z.looseObject({}).parse(await response.json()).detail).toEqual([{ ...field, loc: ["body", "to"] }]);
    }
  });
});
