import { createExecutionContext, createMessageBatch, getQueueResult } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { api } from "../src/api";
import { readConfig, requireSetting } from "../src/platform/config";
import { hmacSha256, toHex } from "../src/platform/crypto";
import worker from "../src/worker";
import { newUser, newWorkspace, type TestWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";

const GOOD_KEY = "kT9-another-good-secret-with-variety-42";

function fetchWith(settings: Record<string, unknown>, path: string, init?: RequestInit): Promise<Response> {
  const bindings = { ...env, ...settings } as Env;
  return Promise.resolve(
    api.fetch(new Request(`http://switchboard.test${path}`, init), bindings, createExecutionContext()),
  );
}

const bad = {
  missing: { SECRET_KEY: undefined, says: "SECRET_KEY is missing. Set it with: wrangler secret put SECRET_KEY" },
  empty: { SECRET_KEY: "", says: "SECRET_KEY is too weak: it needs at least 32 characters" },
  short: { SECRET_KEY: "aB3-short-but-varied", says: "SECRET_KEY is too weak: it needs at least 32 characters" },
  repetitive: { SECRET_KEY: "abc".repeat(20), says: "SECRET_KEY is too weak: it repeats few characters" },
};

describe("without a good SECRET_KEY nothing works, and everything says why", () => {
  it.each(Object.entries(bad))("%s: every request is a 500", async (_, { SECRET_KEY, says }) => {
    const calls: [string, string][] = [
      ["GET", "/"],
      ["GET", "/docs"],
      ["GET", "/api/auth/me"],
      ["POST", "/api/auth/signin"],
      ["POST", "/webhook"],
      ["GET", "/webhook?hub.mode=subscribe&hub.verify_token=x&hub.challenge=1"],
    ];
    for (const [method, path] of calls) {
      const response = await fetchWith({ SECRET_KEY }, path, { method });
      expect(response.status, path).toBe(500);
      const body = await response.text();
      expect(JSON.parse(body)).toMatchObject({ code: "misconfigured", detail: expect.stringContaining(says) });
      if (SECRET_KEY) expect(body).not.toContain(SECRET_KEY);
      expect(JSON.parse(body).request_id).toBe(response.headers.get("X-Request-Id"));
    }
  });

  it.each(Object.entries(bad))("%s: the queues keep their messages", async (_, { SECRET_KEY }) => {
    for (const queue of ["inbound", "outbound", "bulk", "dead-letters"]) {
      const batch = createMessageBatch(queue, [{ id: "1", timestamp: new Date(), attempts: 1, body: { v: 1 } }]);
      const ctx = createExecutionContext();
      await worker.queue(batch, { ...env, SECRET_KEY: SECRET_KEY ?? "" });
      const result = await getQueueResult(batch, ctx);
      expect(result, queue).toMatchObject({ ackAll: false, explicitAcks: [], retryBatch: { retry: true } });
    }
  });

  it.each(Object.entries(bad))("%s: the crons fail visibly", async (_, { SECRET_KEY, says }) => {
    for (const cron of ["* * * * *", "0 3 * * *"]) {
      const controller = { cron, scheduledTime: Date.now(), type: "scheduled" as const, noRetry: () => {} };
      const bindings: Record<string, unknown> = { ...env, SECRET_KEY };
      await expect(worker.scheduled(controller, bindings as unknown as Env)).rejects.toThrow(says);
    }
  });

  it("works with a good one", async () => {
    expect((await fetchWith({ SECRET_KEY: GOOD_KEY }, "/api/auth/me")).status).toBe(401);
  });
});

describe("the other settings", () => {
  it("have working defaults: SECRET_KEY alone starts the product", () => {
    expect(readConfig({ SECRET_KEY: GOOD_KEY })).toMatchObject({
      WHATSAPP_API_VERSION: "v25.0",
      META_GRAPH_URL: "https://graph.facebook.com",
      SIGNUP: "open",
      PLAN_CHANGES: "members",
      LIVE_ORIGINS: [],
      PIPELINE: { maxAttempts: 8, messageTtl: 86_400_000 },
    });
  });

  it("count as missing when they are empty, and lose a trailing slash where they are addresses", () => {
    const config = readConfig({
      SECRET_KEY: GOOD_KEY,
      META_APP_SECRET: "  ",
      META_GRAPH_URL: "http://127.0.0.1:8001//",
      LIVE_ORIGINS: "https://a.example.com/inbox, http://localhost:5173",
    });
    expect(config.META_APP_SECRET).toBeUndefined();
    expect(config.META_GRAPH_URL).toBe("http://127.0.0.1:8001");
    expect(config.LIVE_ORIGINS).toEqual(["https://a.example.com", "http://localhost:5173"]);
    expect(() => requireSetting(config, "META_APP_SECRET")).toThrow(
      "The setting META_APP_SECRET of this deployment is missing",
    );
    expect(requireSetting(config, "META_GRAPH_URL")).toBe("http://127.0.0.1:8001");
  });

  it.each([
    ["WHATSAPP_API_VERSION", "25", "WHATSAPP_API_VERSION"],
    ["META_GRAPH_URL", "graph.facebook.com", "META_GRAPH_URL"],
    ["SIGNUP", "maybe", "SIGNUP"],
    ["PLAN_CHANGES", "nobody", "PLAN_CHANGES"],
    ["ENTERPRISE_HOURLY", "lots", "ENTERPRISE_HOURLY"],
    ["ENTERPRISE_DAILY", "0", "ENTERPRISE_DAILY"],
    ["LIVE_ORIGINS", "inbox.example.com", "LIVE_ORIGINS"],
    ["PIPELINE", "{", "PIPELINE"],
    ["PIPELINE", '{"maxAttempts":0}', "PIPELINE"],
  ])("%s=%s stops the Worker and is named", async (name, value, named) => {
    const response = await fetchWith({ SECRET_KEY: GOOD_KEY, [name]: value }, "/api/auth/me");
    expect(response.status).toBe(500);
    expect(await response.json()).toMatchObject({ code: "misconfigured", detail: expect.stringContaining(named) });
  });

  it("are all told at once", () => {
    const read = () => readConfig({ SECRET_KEY: "short", SIGNUP: "maybe" });
    expect(read).toThrow(/SECRET_KEY.*SIGNUP/);
  });
});

describe("what is not configured is refused where it is needed (contract 22)", () => {
  let workspace: TestWorkspace;
  let exchange: string;
  beforeAll(async () => {
    workspace = await newWorkspace();
    const number = await registerNumber(workspace, { access_token: "a-SHORT-token" });
    exchange = `/api/phone-numbers/${number.id}/exchange-token`;
  });

  const asUser = (init: RequestInit = {}): RequestInit => ({
    ...init,
    headers: { Authorization: `Bearer ${workspace.token}`, "Content-Type": "application/json" },
  });

  it("Meta's webhooks, whoever signed them, and its handshake", async () => {
    const body = JSON.stringify({ object: "whatsapp_business_account", entry: [] });
    const unset = { META_APP_SECRET: "", META_APP_SECRET_PREVIOUS: "", WHATSAPP_WEBHOOK_VERIFY_TOKEN: "" };
    for (const secret of ["undefined", "test-app-secret-1234567890", "x"]) {
      const signature = `sha256=${toHex(await hmacSha256(secret, body))}`;
      const init = { method: "POST", body, headers: { "X-Hub-Signature-256": signature } };
      expect((await fetchWith(unset, "/webhook", init)).status).toBe(401);
    }
    for (const token of ["", "undefined", "echodesk_whatsapp_webhook_token_2024"]) {
      const query = `hub.mode=subscribe&hub.verify_token=${token}&hub.challenge=1`;
      expect((await fetchWith(unset, `/webhook?${query}`)).status).toBe(403);
    }
  });

  it("exchanging a token: 400 naming the setting", async () => {
    for (const name of ["META_APP_ID", "META_APP_SECRET"]) {
      const response = await fetchWith({ [name]: "" }, exchange, asUser({ method: "POST" }));
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({
        code: "not_configured",
        detail: `The setting ${name} of this deployment is missing`,
      });
    }
    expect((await fetchWith({}, exchange, asUser({ method: "POST" }))).status).toBe(200);
  });

  it("social sign-in and verification mails: 400 naming the setting", async () => {
    const cases: [string, string, Record<string, string>][] = [
      ["GOOGLE_CLIENT_ID", "/api/auth/signin?provider=Google", { id_token: "x" }],
      ["GITHUB_CLIENT_ID", "/api/auth/signin?provider=GitHub", { code: "x" }],
      ["GITHUB_CLIENT_SECRET", "/api/auth/signup?provider=GitHub", { code: "x" }],
      ["MAIL_HOOK_URL", "/api/auth/verify-email/send", {}],
    ];
    for (const [name, path, body] of cases) {
      const init = asUser({ method: "POST", body: JSON.stringify(body) });
      const response = await fetchWith({ [name]: "" }, path, init);
      expect(response.status, name).toBe(400);
      expect(await response.json()).toMatchObject({
        code: "not_configured",
        detail: `The setting ${name} of this deployment is missing`,
      });
    }
  });

  it("plans, where the operator sets them: 403", async () => {
    const settings = { PLAN_CHANGES: "operator" };
    const path = `/api/workspaces/${workspace.workspaceId}`;
    const body = JSON.stringify({ plan: "pro" });
    expect((await fetchWith(settings, path, asUser({ method: "PATCH", body }))).status).toBe(403);
    const make = JSON.stringify({ name: "Mine", plan: "enterprise" });
    expect((await fetchWith(settings, "/api/workspaces", asUser({ method: "POST", body: make }))).status).toBe(403);
    const free = JSON.stringify({ name: "Mine" });
    expect((await fetchWith(settings, "/api/workspaces", asUser({ method: "POST", body: free }))).status).toBe(201);
  });

  it("signing up, where it is closed: 403; where it is by invitation, without one: 403", async () => {
    const user = await newUser();
    for (const SIGNUP of ["closed", "invite"]) {
      const init = {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ email: `x${user.userId}@example.com`, password: "long enough" }),
      };
      expect((await fetchWith({ SIGNUP }, "/api/auth/signup", init)).status, SIGNUP).toBe(403);
    }
  });
});
