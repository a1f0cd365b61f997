import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import type { WorkspaceScope } from "../src/auth/guard";
import {
  expiringTokens,
  openConnection,
  type PhoneNumber,
  resolveNumber,
  syncAllNumbers,
} from "../src/phone-numbers/service";
import { gateOf, noteBlocked, webhookSecrets } from "../src/phone-numbers/service-pipeline";
import { exchangeNumberToken } from "../src/phone-numbers/service-registration";
import { insertProviderNumber, selectProviderNumber } from "../src/phone-numbers/store-directory";
import { createRuntime, directory, shard } from "../src/platform/runtime";
import { memberWithRole, newWorkspace, type TestWorkspace } from "./support/identity";
import { freshProviderNumberId, registerNumber } from "./support/numbers";
import { sandbox } from "./support/sandbox";

const rt = createRuntime(env);
const PATH = "/api/phone-numbers";

type Body = Record<string, unknown>;

/** A number, its token and its workspace, registered over the API. */
async function register(workspace: TestWorkspace, body: Body = {}): Promise<Body> {
  const response = await workspace.call("POST", PATH, registration(workspace, body));
  expect(response.status).toBe(201);
  return response.json();
}

function registration(workspace: { workspaceId: string }, body: Body = {}): Body {
  return {
    workspace_id: workspace.workspaceId,
    phone_number_id: freshProviderNumberId(),
    access_token: "EAAxxxxxxxxx",
    ...body,
  };
}

async function rowOf(workspace: { workspaceId: string; shard?: number }, id: unknown): Promise<PhoneNumber> {
  const row = await resolveNumber(shard(rt, workspace.shard ?? 0), workspace.workspaceId, String(id));
  if (!row) throw new Error("No such number");
  return row;
}

async function tokenOf(workspace: { workspaceId: string; shard?: number }, id: unknown): Promise<string> {
  return (await openConnection(rt, await rowOf(workspace, id))).accessToken;
}

describe("registering a number", () => {
  it("answers the documented resource, learnt from the provider", async () => {
    const workspace = await newWorkspace();
    const phoneId = freshProviderNumberId();
    const response = await workspace.call("POST", PATH, {
      workspace_id: workspace.workspaceId,
      phone_number_id: phoneId,
      access_token: "EAAxxxxxxxxx",
      display_name: "Customer Support",
      business_id: "business-account-id",
    });
    expect(response.status).toBe(201);
    expect(response.headers.get("X-D1-Bookmark")).not.toBeNull();
    const number = await response.json<Body>();
    expect(number).toMatchObject({
      workspace_id: workspace.workspaceId,
      phone_number: `+${phoneId}`,
      phone_number_id: phoneId,
      display_name: "Customer Support",
      business_id: "business-account-id",
      quality_rating: "GREEN",
      message_limit: 1000,
      tier: "STANDARD",
      status: "active",
      provider: "meta",
      provider_status: "CONNECTED",
      token_expires_at: null,
      blocked_reason: null,
      is_default: true,
      webhook_url: `http://switchboard.test/webhooks/meta/${number.id}`,
    });
    for (const time of ["verified_at", "created_at", "updated_at", "synced_at"]) {
      expect(number[time]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    }
    expect(JSON.stringify(number)).not.toContain("EAAxxxxxxxxx");
  });

  it("learns the business account from the token, and the name from the provider", async () => {
    const workspace = await newWorkspace();
    const number = await register(workspace);
    expect(number.business_id).toMatch(/^\d+$/);
    expect(number.display_name).toBe(number.verified_name);
    expect(number.subscription).toEqual({ subscribed: true, reason: null });
    const route = await selectProviderNumber(directory(rt), "meta", String(number.phone_number_id));
    expect(route).toMatchObject({
      workspaceId: workspace.workspaceId,
      shard: 0,
      phoneNumberId: number.id,
      businessId: number.business_id,
      phoneDigits: number.phone_number_id,
    });
  });

  it("keeps the token sealed, for this row only", async () => {
    const workspace = await newWorkspace();
    const first = await register(workspace, { access_token: "EAAfirstfirst" });
    const second = await register(workspace, { access_token: "EAAsecondsecond" });
    expect(await tokenOf(workspace, first.id)).toBe("EAAfirstfirst");
    const rows = await env.SHARD_0.prepare("SELECT * FROM phone_numbers WHERE workspace_id = ?1")
      .bind(workspace.workspaceId)
      .all();
    expect(JSON.stringify(rows.results)).not.toMatch(/EAA(first|second)/);
    const moved = { ...(await rowOf(workspace, first.id)), id: String(second.id) };
    await expect(openConnection(rt, moved)).rejects.toThrow();
  });

  it("in a workspace of the second shard is routed there", async () => {
    const workspace = await newWorkspace({ shard: 1 });
    const number = await register(workspace);
    expect((await rowOf(workspace, number.id)).workspaceId).toBe(workspace.workspaceId);
    expect(await selectProviderNumber(directory(rt), "meta", String(number.phone_number_id))).toMatchObject({
      shard: 1,
    });
  });

  it.each<[string, Body, number]>([
    ["an expired token", { access_token: "EAA_EXPIRED" }, 190],
    ["a token without permission", { access_token: "EAA_NOPERMISSION" }, 10],
    ["a number that is not there", { phone_number_id: "1555000033" }, 100],
  ])("with %s is refused in the provider's words, and nothing is stored", async (_, body, code) => {
    const workspace = await newWorkspace();
    const response = await workspace.call("POST", PATH, registration(workspace, body));
    expect(response.status).toBe(400);
    const refusal = await response.json<Body>();
    expect(refusal).toMatchObject({ code: "provider_refused", provider_error: { code } });
    expect(refusal.detail).toEqual(expect.stringMatching(/\w{4}/));
    expect(JSON.stringify(refusal)).not.toContain(String(body.access_token ?? "EAAxxxxxxxxx"));
    expect(await (await workspace.call("GET", PATH)).json()).toMatchObject({ data: [], total: 0 });
  });

  it.each([{ kind: "reset" as const }, { kind: "error" as const, code: 2 }])(
    "with a provider that is down (%o) is a 502, and works later",
    async (fault) => {
      const workspace = await newWorkspace();
      const body = registration(workspace);
      await sandbox.faults({ ...fault, on: "other", count: 1, phone_number_id: String(body.phone_number_id) });
      const response = await workspace.call("POST", PATH, body);
      expect(response.status).toBe(502);
      expect(await response.json()).toMatchObject({ code: "provider_unavailable" });
      expect((await workspace.call("POST", PATH, body)).status).toBe(201);
    },
  );

  it.each<[string, Body, string]>([
    ["a provider nobody knows", { provider: "twilio" }, "provider"],
    ["an id that is no number", { phone_number_id: "../me" }, "phone_number_id"],
    ["a token with a line break", { access_token: "EAA\r\nX: y" }, "access_token"],
    ["no token", { access_token: "" }, "access_token"],
    ["a malformed workspace id", { workspace_id: "x" }, "workspace_id"],
  ])("with %s is a 422 naming the field", async (_, body, field) => {
    const workspace = await newWorkspace();
    const response = await workspace.call("POST", PATH, registration(workspace, body));
    expect(response.status).toBe(422);
    expect(await response.json()).toMatchObject({ detail: [{ loc: ["body", field], type: "value_error" }] });
  });

  it("is for owners and admins, and for the API key", async () => {
    const workspace = await newWorkspace();
    for (const role of ["MEMBER", "AGENT"] as const) {
      const member = await memberWithRole(workspace, role);
      expect((await member.call("POST", PATH, registration(workspace))).status).toBe(403);
    }
    const admin = await memberWithRole(workspace, "ADMIN");
    expect((await admin.call("POST", PATH, registration(workspace))).status).toBe(201);
    const { workspace_id: _, ...body } = registration(workspace);
    expect((await workspace.callWithKey("POST", PATH, body)).status).toBe(201);
    const stranger = await newWorkspace();
    expect((await stranger.call("POST", PATH, registration(workspace))).status).toBe(404);
  });
});

describe("one live registration per provider number", () => {
  it("names the existing id to its own workspace, and nothing to another", async () => {
    const [ours, theirs] = [await newWorkspace(), await newWorkspace()];
    const number = await register(ours);
    const again = { phone_number_id: number.phone_number_id };
    const mine = await ours.call("POST", PATH, registration(ours, again));
    expect(mine.status).toBe(409);
    expect(await mine.json()).toMatchObject({ code: "number_in_use", id: number.id });
    const foreign = await theirs.call("POST", PATH, registration(theirs, again));
    expect(foreign.status).toBe(409);
    expect(await foreign.json()).not.toHaveProperty("id");
  });

  it("holds when many register it at once, in two workspaces", async () => {
    const workspaces = [await newWorkspace(), await newWorkspace()];
    const phone_number_id = freshProviderNumberId();
    const answers = await Promise.all(
      [0, 1, 0, 1, 0, 1].map((n) => {
        const workspace = workspaces[n];
        return workspace?.call("POST", PATH, registration(workspace, { phone_number_id }));
      }),
    );
    expect(answers.map((answer) => answer?.status).sort()).toEqual([201, 409, 409, 409, 409, 409]);
    const live = await env.SHARD_0.prepare(
      "SELECT workspace_id, id FROM phone_numbers WHERE provider_number_id = ?1 AND deleted_at IS NULL",
    )
      .bind(phone_number_id)
      .all<{ workspace_id: string; id: string }>();
    expect(live.results).toHaveLength(1);
    expect(await selectProviderNumber(directory(rt), "meta", phone_number_id)).toMatchObject({
      workspaceId: live.results[0]?.workspace_id,
      phoneNumberId: live.results[0]?.id,
    });
  });

  it("ends with deletion: another workspace may have it, or the same one under its old id", async () => {
    const [first, second] = [await newWorkspace(), await newWorkspace()];
    const number = await register(first, { display_name: "Before" });
    const same = { phone_number_id: number.phone_number_id };
    expect((await first.call("DELETE", `${PATH}/${number.id}`)).status).toBe(204);
    expect((await first.call("GET", `${PATH}/${number.id}`)).status).toBe(404);
    expect((await first.call("DELETE", `${PATH}/${number.id}`)).status).toBe(404);
    const sealed = await env.SHARD_0.prepare("SELECT access_token_sealed AS t FROM phone_numbers WHERE id = ?1")
      .bind(number.id)
      .first();
    expect(sealed).toEqual({ t: null });

    const back = await register(first, { ...same, display_name: "After" });
    expect(back).toMatchObject({ id: number.id, display_name: "After", status: "active", is_default: true });
    expect(await tokenOf(first, back.id)).toBe("EAAxxxxxxxxx");

    await first.call("DELETE", `${PATH}/${number.id}`);
    const other = await register(second, same);
    expect(other.id).not.toBe(number.id);
    expect((await first.call("POST", PATH, registration(first, same))).status).toBe(409);
  });

  it("ends with the workspace", async () => {
    const [gone, heir] = [await newWorkspace(), await newWorkspace()];
    const number = await register(gone);
    expect((await gone.call("DELETE", `/api/workspaces/${gone.workspaceId}`)).status).toBe(204);
    const taken = await register(heir, { phone_number_id: number.phone_number_id });
    expect(await selectProviderNumber(directory(rt), "meta", String(taken.phone_number_id))).toMatchObject({
      workspaceId: heir.workspaceId,
      phoneNumberId: taken.id,
    });
  });

  /** What a crash between the two databases leaves: a claim whose row was never written. */
  async function leaveClaim(workspaceId: string, age: number): Promise<{ providerNumberId: string; id: string }> {
    const claim = { providerNumberId: freshProviderNumberId(), id: rt.newId() };
    await insertProviderNumber(directory(rt), {
      provider: "meta",
      providerNumberId: claim.providerNumberId,
      workspaceId,
      shard: 0,
      phoneNumberId: claim.id,
      businessId: null,
      phoneDigits: null,
      appSecretSealed: null,
      createdAt: Date.now() - age,
      webhookVersion: 1,
      webhookRotatedAt: null,
    });
    return claim;
  }

  it("does not hold for what a crash left behind", async () => {
    const [ours, theirs] = [await newWorkspace(), await newWorkspace()];
    const own = await leaveClaim(ours.workspaceId, 0);
    expect(await register(ours, { phone_number_id: own.providerNumberId })).toMatchObject({ id: own.id });
    expect(await selectProviderNumber(directory(rt), "meta", own.providerNumberId)).toMatchObject({
      phoneDigits: own.providerNumberId,
      businessId: expect.any(String),
    });

    const young = await leaveClaim(theirs.workspaceId, 1000);
    const early = await ours.call("POST", PATH, registration(ours, { phone_number_id: young.providerNumberId }));
    expect(early.status).toBe(409);

    const old = await leaveClaim(theirs.workspaceId, 120_000);
    const taken = await register(ours, { phone_number_id: old.providerNumberId });
    expect(await selectProviderNumber(directory(rt), "meta", old.providerNumberId)).toMatchObject({
      workspaceId: ours.workspaceId,
      phoneNumberId: taken.id,
    });
  });
});

describe("reading numbers", () => {
  it("lists them oldest first, by page and by status", async () => {
    const workspace = await newWorkspace();
    const ids: string[] = [];
    for (const status of ["active", "disabled", "pending", "active", "active"] as const) {
      ids.push((await registerNumber(workspace, { status })).id);
    }
    const list = async (query: string) => {
      const response = await workspace.call("GET", `${PATH}?workspace_id=${workspace.workspaceId}&${query}`);
      expect(response.status).toBe(200);
      return response.json<{ data: Body[]; total: number; next_cursor: string | null }>();
    };
    const first = await list("limit=2");
    expect(first).toMatchObject({ total: 5, limit: 2, offset: 0 });
    const second = await list(`limit=2&cursor=${first.next_cursor}`);
    const third = await list(`limit=2&cursor=${second.next_cursor}`);
    expect([first, second, third].flatMap((page) => page.data.map((row) => row.id))).toEqual(ids);
    expect(third.next_cursor).toBeNull();
    expect((await list("limit=2&offset=3")).data.map((row) => row.id)).toEqual(ids.slice(3));
    const active = await list("status=active");
    expect(active.data.map((row) => row.id)).toEqual([ids[0], ids[3], ids[4]]);
    expect(active.total).toBe(3);
    expect(active.data.map((row) => row.is_default)).toEqual([true, false, false]);
    for (const query of ["status=broken", "limit=0", "limit=101", "cursor=x", "workspace_id=1"]) {
      expect((await workspace.call("GET", `${PATH}?${query}`)).status, query).toBe(422);
    }
  });

  it("is for every member, and for nobody else", async () => {
    const workspace = await newWorkspace();
    const { id } = await registerNumber(workspace);
    const agent = await memberWithRole(workspace, "AGENT");
    expect((await agent.call("GET", `${PATH}/${id}`)).status).toBe(200);
    expect((await agent.call("POST", `${PATH}/${id}/sync`)).status).toBe(200);
    for (const [method, path] of [
      ["PATCH", `${PATH}/${id}`],
      ["DELETE", `${PATH}/${id}`],
      ["POST", `${PATH}/${id}/exchange-token`],
    ] as const) {
      expect((await agent.call(method, path, method === "PATCH" ? {} : undefined)).status, path).toBe(403);
      const stranger = await newWorkspace();
      expect((await stranger.call(method, path, method === "PATCH" ? {} : undefined)).status, path).toBe(404);
    }
    expect((await workspace.call("GET", `${PATH}/1234567890`)).status).toBe(422);
  });
});

describe("the default number", () => {
  it("is the one set, else the oldest active one", async () => {
    const workspace = await newWorkspace();
    const db = shard(rt, 0);
    const resolved = async () => (await resolveNumber(db, workspace.workspaceId, null))?.id ?? null;
    expect(await resolved()).toBeNull();
    await registerNumber(workspace, { status: "pending" });
    expect(await resolved()).toBeNull();
    const first = await registerNumber(workspace);
    const second = await registerNumber(workspace);
    const third = await registerNumber(workspace);
    expect(await resolved()).toBe(first.id);
    for (const { id } of [second, third]) {
      const response = await workspace.call("PATCH", `${PATH}/${id}`, { is_default: true });
      expect(await response.json()).toMatchObject({ id, is_default: true });
      expect(await resolved()).toBe(id);
    }
    expect(await (await workspace.call("GET", `${PATH}/${second.id}`)).json()).toMatchObject({ is_default: false });
    await workspace.call("PATCH", `${PATH}/${second.id}`, { is_default: false });
    expect(await resolved()).toBe(third.id);
    await workspace.call("DELETE", `${PATH}/${third.id}`);
    expect(await resolved()).toBe(first.id);
    await workspace.call("PATCH", `${PATH}/${first.id}`, { status: "disabled" });
    expect(await resolved()).toBe(second.id);
  });

  it("is found by our id or the provider's, in its own workspace only", async () => {
    const [workspace, other] = [await newWorkspace(), await newWorkspace()];
    const number = await registerNumber(workspace);
    const db = shard(rt, 0);
    for (const id of [number.id, number.id.toUpperCase(), number.providerNumberId]) {
      expect(await resolveNumber(db, workspace.workspaceId, id)).toEqual(number);
      expect(await resolveNumber(db, other.workspaceId, id)).toBeNull();
    }
  });
});

describe("changing a number", () => {
  it("takes the documented body", async () => {
    const workspace = await newWorkspace();
    const number = await register(workspace);
    const body = { display_name: "Sales Team", access_token: "new_token", status: "active" };
    const response = await workspace.call("PATCH", `${PATH}/${number.id}`, body);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ id: number.id, display_name: "Sales Team", status: "active" });
    expect(await tokenOf(workspace, number.id)).toBe("new_token");
  });

  it("our own switch survives what the provider says, until it is switched back", async () => {
    const workspace = await newWorkspace();
    const { id } = await register(workspace);
    const change = async (status: string) => (await workspace.call("PATCH", `${PATH}/${id}`, { status })).json<Body>();
    const sync = async () => (await workspace.call("POST", `${PATH}/${id}/sync`)).json<Body>();
    expect(await change("disabled")).toMatchObject({ status: "disabled", provider_status: "CONNECTED" });
    expect(await sync()).toMatchObject({ status: "disabled", provider_status: "CONNECTED" });
    const renewed = await workspace.call("PATCH", `${PATH}/${id}`, { access_token: "EAAother" });
    expect(await renewed.json()).toMatchObject({ status: "disabled" });
    expect(await change("active")).toMatchObject({ status: "active" });
  });

  it("switching on a number that its provider stopped does not make it active", async () => {
    const workspace = await newWorkspace();
    const { id, phone_number_id } = await register(workspace);
    await sandbox.number(String(phone_number_id), { status: "BANNED" });
    const synced = await workspace.call("POST", `${PATH}/${id}/sync`);
    expect(await synced.json()).toMatchObject({ status: "disabled", provider_status: "BANNED" });
    const response = await workspace.call("PATCH", `${PATH}/${id}`, { status: "active" });
    expect(await response.json()).toMatchObject({ status: "disabled", provider_status: "BANNED" });
    await sandbox.number(String(phone_number_id), { status: "PENDING" });
    expect(await (await workspace.call("POST", `${PATH}/${id}/sync`)).json()).toMatchObject({ status: "pending" });
  });

  it("a token the provider refuses changes nothing", async () => {
    const workspace = await newWorkspace();
    const { id } = await register(workspace, { display_name: "Before" });
    const body = { display_name: "After", access_token: "EAA_REVOKED" };
    const response = await workspace.call("PATCH", `${PATH}/${id}`, body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "provider_refused", provider_error: { code: 190 } });
    expect(await rowOf(workspace, id)).toMatchObject({ displayName: "Before" });
    expect(await tokenOf(workspace, id)).toBe("EAAxxxxxxxxx");
  });

  it("a new token opens the gate that the old one closed", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const gate = gateOf(rt, workspace.workspaceId, number.id);
    const now = Date.now();
    await gate.close({ reason: "Token expired", probeAt: now + 600_000 });
    await noteBlocked(rt, 0, number, "Token expired");
    const before = await workspace.call("GET", `${PATH}/${number.id}`);
    expect(await before.json()).toMatchObject({ blocked_reason: "Token expired" });
    expect(await gate.reserve(1, 80, now, 1000)).toMatchObject({ granted: 0 });

    const response = await workspace.call("PATCH", `${PATH}/${number.id}`, { access_token: "EAAfresh" });
    expect(await response.json()).toMatchObject({ blocked_reason: null });
    expect((await rowOf(workspace, number.id)).blockedReason).toBeNull();
    expect(await gate.reserve(1, 80, now + 1, 1000)).toMatchObject({ granted: 1 });
  });

  it("keeps the number's own app secret sealed, and forgets it", async () => {
    const workspace = await newWorkspace();
    const { id, ...shown } = await register(workspace, { app_secret: "own-app-secret" });
    expect(JSON.stringify(shown)).not.toContain("own-app-secret");
    expect(await webhookSecrets(rt, String(id))).toEqual(["own-app-secret"]);
    await workspace.call("PATCH", `${PATH}/${id}`, { app_secret: "another-secret" });
    expect(await webhookSecrets(rt, String(id))).toEqual(["another-secret"]);
    await workspace.call("PATCH", `${PATH}/${id}`, { display_name: "Same secret" });
    expect(await webhookSecrets(rt, String(id))).toEqual(["another-secret"]);
    await workspace.call("PATCH", `${PATH}/${id}`, { app_secret: null });
    expect(await webhookSecrets(rt, String(id))).toEqual([]);
  });
});

describe("syncing", () => {
  it("answers what the provider says now", async () => {
    const workspace = await newWorkspace();
    const { id, phone_number_id } = await register(workspace);
    await sandbox.number(String(phone_number_id), {
      quality_rating: "RED",
      verified_name: "New name",
      throughput: { level: "HIGH" },
      whatsapp_business_manager_messaging_limit: "TIER_UNLIMITED",
    });
    const response = await workspace.call("POST", `${PATH}/${id}/sync`);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({
      id,
      synced_at: expect.stringMatching(/Z$/),
      phone_number: `+${phone_number_id}`,
      quality_rating: "RED",
      verified_name: "New name",
      message_limit: null,
      tier: "HIGH",
      status: "active",
    });
    expect(await rowOf(workspace, id)).toMatchObject({ qualityRating: "RED", messageLimit: null, tier: "HIGH" });
  });

  it("opens the gate of a number that its provider has let go on", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    await gateOf(rt, workspace.workspaceId, number.id).close({
      reason: "Account locked",
      probeAt: Date.now() + 600_000,
    });
    await noteBlocked(rt, 0, number, "Account locked");
    const response = await workspace.call("POST", `${PATH}/${number.id}/sync`);
    expect(await response.json()).toMatchObject({ blocked_reason: null });
  });

  it("with a token that ended is the provider's refusal, and without an answer a 502", async () => {
    const workspace = await newWorkspace();
    const ended = await registerNumber(workspace, { access_token: "EAA_EXPIRED" });
    const response = await workspace.call("POST", `${PATH}/${ended.id}/sync`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "provider_refused", provider_error: { code: 190 } });
    const unreachable = await registerNumber(workspace);
    await sandbox.faults({ kind: "reset", on: "other", count: 1, phone_number_id: unreachable.providerNumberId });
    expect((await workspace.call("POST", `${PATH}/${unreachable.id}/sync`)).status).toBe(502);
  });

  it("nightly covers every number of every shard, whatever one of them does", async () => {
    const [first, second] = [await newWorkspace(), await newWorkspace({ shard: 1 })];
    const broken = await registerNumber(first, { access_token: "EAA_EXPIRED" });
    const numbers = [
      { workspace: first, number: await registerNumber(first) },
      { workspace: first, number: await registerNumber(first) },
      { workspace: second, number: await registerNumber(second) },
    ];
    for (const { number } of numbers) await sandbox.number(number.providerNumberId, { quality_rating: "YELLOW" });
    // A row whose token opens with no secret any more.
    await env.SHARD_0.prepare("UPDATE phone_numbers SET access_token_sealed = 'v1.00000000.AA.AA' WHERE id = ?1")
      .bind(numbers[0]?.number.id)
      .run();
    await syncAllNumbers(rt);
    expect((await rowOf(first, broken.id)).qualityRating).toBe("GREEN");
    expect((await rowOf(first, numbers[0]?.number.id)).qualityRating).toBe("GREEN");
    for (const { workspace, number } of numbers.slice(1)) {
      expect((await rowOf(workspace, number.id)).qualityRating).toBe("YELLOW");
    }
  });

  it("learns a business account that nobody named, and routes by it", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    await env.SHARD_0.prepare("UPDATE phone_numbers SET business_id = NULL WHERE id = ?1").bind(number.id).run();
    await env.DIRECTORY.prepare("UPDATE provider_numbers SET business_id = NULL WHERE phone_number_id = ?1")
      .bind(number.id)
      .run();
    const synced = await (await workspace.call("POST", `${PATH}/${number.id}/sync`)).json<Body>();
    expect(synced.business_id).toMatch(/^\d+$/);
    expect(await selectProviderNumber(directory(rt), "meta", number.providerNumberId)).toMatchObject({
      businessId: synced.business_id,
    });
  });
});

describe("exchanging the token", () => {
  const SIXTY_DAYS = 60 * 86_400_000;

  it("stores a long-lived one and says when it ends, never what it is", async () => {
    const workspace = await newWorkspace();
    const short = await register(workspace, { access_token: "EAA_SHORT_1" });
    expect(Date.parse(String(short.token_expires_at))).toBeLessThan(Date.now() + 3_700_000);
    const response = await workspace.call("POST", `${PATH}/${short.id}/exchange-token`);
    expect(response.status).toBe(200);
    const number = await response.json<Body>();
    const end = Date.parse(String(number.token_expires_at));
    expect(Math.abs(end - Date.now() - SIXTY_DAYS)).toBeLessThan(60_000);
    const token = await tokenOf(workspace, short.id);
    expect(token).not.toBe("EAA_SHORT_1");
    expect(JSON.stringify(number)).not.toContain(token);
  });

  it("leaves a token that does not expire as it is", async () => {
    const workspace = await newWorkspace();
    const { id } = await register(workspace, { access_token: "EAA_system_user" });
    const response = await workspace.call("POST", `${PATH}/${id}/exchange-token`);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ id, token_expires_at: null });
    expect(await tokenOf(workspace, id)).toBe("EAA_system_user");
  });

  it("refused by the provider is a 400, without the app's settings a 400 naming one", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace, { access_token: "EAA_REVOKED" });
    const response = await workspace.call("POST", `${PATH}/${number.id}/exchange-token`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "provider_refused" });

    const membership = {
      workspaceId: workspace.workspaceId,
      shard: 0,
      plan: "free" as const,
      status: "active" as const,
      role: null,
    };
    const scope: WorkspaceScope = {
      rt: createRuntime({ ...env, META_APP_ID: "" }),
      caller: { kind: "key", memberships: [membership] },
      workspaceId: workspace.workspaceId,
      membership,
      db: shard(rt, 0),
    };
    await expect(exchangeNumberToken(scope, number)).rejects.toMatchObject({
      status: 400,
      code: "not_configured",
      message: expect.stringContaining("META_APP_ID"),
    });
  });

  it("tokens that end within a week are told of", async () => {
    const workspace = await newWorkspace();
    const soon = await registerNumber(workspace);
    const later = await registerNumber(workspace);
    const end = env.SHARD_0.prepare("UPDATE phone_numbers SET token_expires_at = ?2 WHERE id = ?1");
    const day = 86_400_000;
    await env.SHARD_0.batch([end.bind(soon.id, Date.now() + 6 * day), end.bind(later.id, Date.now() + 8 * day)]);
    const ids = (await expiringTokens(rt)).map((token) => token.phoneNumberId);
    expect(ids).toContain(soon.id);
    expect(ids).not.toContain(later.id);
  });
});
