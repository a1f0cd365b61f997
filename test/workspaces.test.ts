import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { api } from "../src/api";
import type { Role } from "../src/auth/access";
import { hmacSha256 } from "../src/platform/crypto";
import { newUuid } from "../src/platform/ids";
import { shard } from "../src/platform/runtime";
import { runNightlyWorkspaces } from "../src/workspaces/jobs";
import { changeWorkspace, createWorkspace } from "../src/workspaces/service";
import { defaultOptInWords, defaultOptOutWords, isOneOf, readSettings } from "../src/workspaces/settings";
import { call, memberWithRole, newUser, newWorkspace, type TestWorkspace, testRuntime } from "./support/identity";
import { openFeed } from "./support/sockets";

const ISO_SECONDS = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;
const time = z.string().regex(ISO_SECONDS);
const workspaceShape = z.strictObject({
  id: z.uuid(),
  name: z.string(),
  slug: z.string(),
  api_key: z.string().startsWith("wsk_").nullable(),
  webhook_secret: z.string().startsWith("whsec_").nullable(),
  created_by: z.uuid(),
  plan: z.enum(["free", "pro", "enterprise"]),
  status: z.enum(["active", "suspended"]),
  settings: z.record(z.string(), z.unknown()),
  created_at: time,
  updated_at: time,
});
const memberShape = z.strictObject({
  id: z.uuid(),
  workspace_id: z.uuid(),
  user_id: z.uuid().nullable(),
  email: z.string(),
  role: z.enum(["OWNER", "ADMIN", "MEMBER", "AGENT"]),
  status: z.enum(["active", "invited"]),
  joined_at: time.nullable(),
  created_at: time,
});
const addedShape = memberShape.extend({ invitation_url: z.url().optional() });

async function read<T extends z.ZodType>(response: Response, schema: T, status = 200): Promise<z.output<T>> {
  expect(response.status).toBe(status);
  return schema.parse(await response.json());
}

const pathOf = (workspace: { workspaceId: string }, rest = "") => `/api/workspaces/${workspace.workspaceId}${rest}`;
const patch = (workspace: TestWorkspace, body: unknown) => workspace.call("PATCH", pathOf(workspace), body);
const settingsOf = async (response: Response) => (await read(response, workspaceShape)).settings;
const newEmail = () => `guest-${newUuid()}@example.com`;

async function stateOf(workspaceId: string, shard: 0 | 1 = 0) {
  const database = shard === 0 ? env.SHARD_0 : env.SHARD_1;
  const row = await database
    .prepare("SELECT status, settings FROM workspace_states WHERE workspace_id = ?1")
    .bind(workspaceId)
    .first<{ status: string; settings: string }>();
  return row && { status: row.status, settings: JSON.parse(row.settings) };
}

describe("a workspace, as documented", () => {
  it("is created with its secrets, owned by its creator, listed and read", async () => {
    const user = await newUser();
    const created = await read(
      await user.call("POST", "/api/workspaces", { name: "My Company", plan: "free" }),
      workspaceShape,
      201,
    );
    expect(created).toMatchObject({
      name: "My Company",
      slug: expect.stringMatching(/^my-company/),
      created_by: user.userId,
      plan: "free",
      status: "active",
      settings: {},
    });
    expect(created.api_key).toMatch(/^wsk_[A-Za-z0-9_-]{43}$/);

    const list = await user.call("GET", "/api/workspaces/");
    expect(list.headers.get("X-Total-Count")).toBe("1");
    expect(await list.json()).toEqual([
      {
        id: created.id,
        name: "My Company",
        slug: created.slug,
        plan: "free",
        status: "active",
        created_at: created.created_at,
        user_role: "OWNER",
      },
    ]);
    expect(await read(await user.call("GET", `/api/workspaces/${created.id}`), workspaceShape)).toEqual(created);

    const members = await user.call("GET", `/api/workspaces/${created.id}/members`);
    expect(members.headers.get("X-Total-Count")).toBe("1");
    const [owner] = await read(members, memberShape.array());
    expect(owner).toMatchObject({ user_id: user.userId, role: "OWNER", status: "active", email: user.email });

    const withKey = await call("GET", `/api/workspaces/${created.id}`, undefined, {
      "X-API-Key": created.api_key ?? "",
    });
    expect(withKey.status).toBe(200);
  });

  it("has a webhook secret in the Standard Webhooks form: base64 of the key", async () => {
    const workspace = await newWorkspace();
    const user = await newUser();
    const { webhook_secret } = await read(
      await user.call("POST", "/api/workspaces", { name: "Hooks" }),
      workspaceShape,
      201,
    );
    const key = Uint8Array.from(atob((webhook_secret ?? "").slice("whsec_".length)), (c) => c.charCodeAt(0));
    expect(key).toHaveLength(32);
    expect(await hmacSha256(key, "x")).toHaveLength(32);
    expect(webhook_secret).not.toBe(workspace.webhookSecret);
  });

  it("keeps its secrets sealed: the database never holds them", async () => {
    const user = await newUser();
    const { id, api_key, webhook_secret } = await read(
      await user.call("POST", "/api/workspaces", { name: "Sealed" }),
      workspaceShape,
      201,
    );
    const row = JSON.stringify(await env.DIRECTORY.prepare("SELECT * FROM workspaces WHERE id = ?1").bind(id).first());
    expect(row).not.toContain(api_key);
    expect(row).not.toContain(webhook_secret);
  });

  it("gets a slug of its own, also for equal names and names without Latin letters", async () => {
    const user = await newUser();
    const name = `Café ${newUuid()} & Co.`;
    const make = async (given: string) =>
      (await read(await user.call("POST", "/api/workspaces", { name: given }), workspaceShape, 201)).slug;
    const slugs = await Promise.all(Array.from({ length: 6 }, () => make(name)));
    expect(new Set(slugs).size).toBe(6);
    for (const slug of slugs) expect(slug).toMatch(/^cafe-[0-9a-f-]+-co(-[0-9a-f-]+)?$/);
    expect(await make("会社")).toMatch(/^workspace/);
  });

  it.each([
    [{}, ["body", "name"]],
    [{ name: "   " }, ["body", "name"]],
    [{ name: "x", plan: "gold" }, ["body", "plan"]],
  ])("refuses %j naming the field", async (body, loc) => {
    const response = await (await newUser()).call("POST", "/api/workspaces", body);
    expect(response.status).toBe(422);
    expect(await response.json()).toMatchObject({ detail: [{ loc, type: "value_error" }] });
  });

  it("shows secrets to owners and admins only", async () => {
    const workspace = await newWorkspace();
    const seen = async (role: Role) =>
      read(await (await memberWithRole(workspace, role)).call("GET", pathOf(workspace)), workspaceShape);
    for (const role of ["OWNER", "ADMIN"] as const) {
      expect(await seen(role)).toMatchObject({ api_key: workspace.apiKey, webhook_secret: workspace.webhookSecret });
    }
    for (const role of ["MEMBER", "AGENT"] as const) {
      expect(await seen(role)).toMatchObject({ api_key: null, webhook_secret: null });
    }
    expect(await read(await workspace.callWithKey("GET", pathOf(workspace)), workspaceShape)).toMatchObject({
      api_key: null,
      webhook_secret: null,
    });
  });

  it("is changed by the documented PATCH, which answers it in full", async () => {
    const workspace = await newWorkspace({ plan: "free" });
    const changed = await read(
      await patch(workspace, {
        name: "Updated Company Name",
        plan: "pro",
        status: "active",
        settings: { feature_flags: {} },
      }),
      workspaceShape,
    );
    expect(changed).toMatchObject({
      name: "Updated Company Name",
      plan: "pro",
      status: "active",
      settings: { feature_flags: {} },
      api_key: workspace.apiKey,
    });
  });

  it("is deleted softly: nothing finds it, its key is dead, its shard knows", async () => {
    const workspace = await newWorkspace();
    const admin = await memberWithRole(workspace, "ADMIN");
    const refused = await admin.call("DELETE", pathOf(workspace));
    expect(refused.status).toBe(403);
    expect(await refused.json()).toMatchObject({ detail: "Insufficient permissions. OWNER role required" });
    expect((await workspace.callWithKey("DELETE", pathOf(workspace))).status).toBe(403);

    expect((await workspace.call("DELETE", pathOf(workspace))).status).toBe(204);
    const missing = await workspace.call("GET", pathOf(workspace));
    expect(missing.status).toBe(404);
    expect(await missing.json()).toMatchObject({ detail: "Workspace not found", code: "not_found" });
    expect(await (await workspace.call("GET", "/api/workspaces")).json()).toEqual([]);
    expect((await workspace.callWithKey("GET", pathOf(workspace))).status).toBe(401);
    expect(await stateOf(workspace.workspaceId)).toMatchObject({ status: "deleted" });
    const row = await env.DIRECTORY.prepare("SELECT name FROM workspaces WHERE id = ?1")
      .bind(workspace.workspaceId)
      .first();
    expect(row).not.toBeNull();
  });

  it("is 404 for strangers, 401 for nobody, 422 for a malformed id", async () => {
    const workspace = await newWorkspace();
    const stranger = await newWorkspace();
    for (const [method, rest, body] of [
      ["GET", "", undefined],
      ["PATCH", "", { name: "Mine" }],
      ["DELETE", "", undefined],
      ["POST", "/rotate-api-key", undefined],
      ["POST", "/rotate-webhook-secret", undefined],
      ["GET", "/members", undefined],
      ["POST", "/members", { user_email: "x@example.com", role: "OWNER" }],
      ["PATCH", `/members/${workspace.memberId}`, { role: "AGENT" }],
      ["DELETE", `/members/${workspace.memberId}`, undefined],
    ] as const) {
      const path = pathOf(workspace, rest);
      const foreign = await stranger.call(method, path, body);
      expect(foreign.status, `${method} ${rest}`).toBe(404);
      expect(await foreign.json()).toMatchObject({ detail: "Workspace not found" });
      expect((await stranger.callWithKey(method, path, body)).status, `${method} ${rest}`).toBe(404);
      expect((await call(method, path, body)).status, `${method} ${rest}`).toBe(401);
    }
    expect((await stranger.call("GET", "/api/workspaces/1234")).status).toBe(422);
    expect((await call("GET", "/api/workspaces/1234")).status).toBe(401);
  });

  it("lists all, or a page when asked, and refuses limits out of range", async () => {
    const workspace = await newWorkspace();
    for (let i = 0; i < 24; i += 1) await memberWithRole(workspace, "AGENT");
    const all = await workspace.call("GET", pathOf(workspace, "/members"));
    expect(await all.json()).toHaveLength(25);
    const page = await workspace.call("GET", pathOf(workspace, "/members?limit=10&offset=20"));
    expect(await page.json()).toHaveLength(5);
    expect(page.headers.get("X-Total-Count")).toBe("25");
    for (const query of ["limit=0", "limit=101", "limit=x", "offset=-1"]) {
      expect((await workspace.call("GET", pathOf(workspace, `/members?${query}`))).status).toBe(422);
      expect((await workspace.call("GET", `/api/workspaces?${query}`)).status).toBe(422);
    }
  });

  it("has its plan set by members, unless the operator sets plans", async () => {
    const workspace = await newWorkspace({ plan: "free" });
    const attempt = (method: string, path: string, body: unknown) =>
      api.fetch(
        new Request(`http://switchboard.test${path}`, {
          method,
          headers: { "Content-Type": "application/json", Authorization: `Bearer ${workspace.token}` },
          body: JSON.stringify(body),
        }),
        { ...env, PLAN_CHANGES: "operator" },
        createExecutionContext(),
      );
    expect((await attempt("PATCH", pathOf(workspace), { plan: "pro" })).status).toBe(403);
    expect((await attempt("PATCH", pathOf(workspace), { plan: "free", name: "Same plan" })).status).toBe(200);
    expect((await attempt("POST", "/api/workspaces", { name: "x", plan: "enterprise" })).status).toBe(403);
    expect((await attempt("POST", "/api/workspaces", { name: "x", plan: "free" })).status).toBe(201);
    expect((await patch(workspace, { plan: "pro" })).status).toBe(200);
  });
});

describe("settings", () => {
  it("merge one level deep: what is given replaces its key, null deletes, all else stays, any JSON is kept", async () => {
    const workspace = await newWorkspace();
    const odd = { 'a "quoted".key': [1, null, { x: null }], $: 1.5, "": undefined, zahl: 9007199254740991 };
    await patch(workspace, { settings: { feature_flags: { a: true, b: null }, keep: "ü\n'", gone: 1, ...odd } });
    const settings = await settingsOf(
      await patch(workspace, { settings: { feature_flags: { c: false }, gone: null, flag: true, never: null } }),
    );
    expect(settings).toEqual({
      feature_flags: { c: false },
      keep: "ü\n'",
      'a "quoted".key': [1, null, { x: null }],
      $: 1.5,
      zahl: 9007199254740991,
      flag: true,
    });
    expect(await stateOf(workspace.workspaceId)).toEqual({ status: "active", settings });
  });

  it("of two patches at the same time both stay", async () => {
    const workspace = await newWorkspace();
    await Promise.all(
      Array.from({ length: 8 }, (_, i) => patch(workspace, { settings: { [`key_${i}`]: i }, name: `Name ${i}` })),
    );
    const settings = await settingsOf(await workspace.call("GET", pathOf(workspace)));
    expect(Object.keys(settings).sort()).toEqual(Array.from({ length: 8 }, (_, i) => `key_${i}`));
    expect((await stateOf(workspace.workspaceId))?.settings).toEqual(settings);
  });

  it("of two patches in one millisecond have an order, which the shard's mirror follows", async () => {
    const workspace = await newWorkspace();
    const rt = testRuntime({ clock: () => 1_800_000_000_000 });
    const change = (settings: Record<string, unknown>) =>
      changeWorkspace(rt, shard(rt, 0), workspace.workspaceId, "enterprise", { settings });
    const first = await change({ a: 1 });
    const second = await change({ a: 2 });
    expect(second.updatedAt).toBeGreaterThan(first.updatedAt);
    expect(await stateOf(workspace.workspaceId)).toEqual({ status: "active", settings: { a: 2 } });
  });

  it.each([
    [{ opt_out_words: "STOP" }, ["body", "settings", "opt_out_words"]],
    [{ opt_in_words: [""] }, ["body", "settings", "opt_in_words", "0"]],
    [{ enforce_service_window: "yes" }, ["body", "settings", "enforce_service_window"]],
    [{ resend_unknown: 1 }, ["body", "settings", "resend_unknown"]],
    [{ default_country: "XX" }, ["body", "settings", "default_country"]],
  ])("refuse %j", async (settings, loc) => {
    const workspace = await newWorkspace();
    const response = await patch(workspace, { settings });
    expect(response.status).toBe(422);
    const { detail } = await response.json<{ detail: { loc: unknown[] }[] }>();
    expect(detail[0]?.loc.map(String)).toEqual(loc);
    expect(await stateOf(workspace.workspaceId)).toEqual({ status: "active", settings: {} });
  });

  it("are bounded, however many patches they come in", async () => {
    const workspace = await newWorkspace();
    const statuses: number[] = [];
    for (let i = 0; i < 5; i += 1) {
      statuses.push((await patch(workspace, { settings: { [`big_${i}`]: "x".repeat(8_000) } })).status);
    }
    expect(statuses).toEqual([200, 200, 200, 200, 422]);
  });

  it("read with defaults, also where something else was stored before its key was known", () => {
    expect(readSettings("{}")).toEqual({
      optOutWords: defaultOptOutWords,
      optInWords: defaultOptInWords,
      enforceServiceWindow: false,
      resendUnknown: false,
      defaultCountry: null,
    });
    const own = readSettings({ opt_out_words: ["basta"], resend_unknown: true, default_country: "de", other: 1 });
    expect(own).toMatchObject({ optOutWords: ["basta"], resendUnknown: true, defaultCountry: "DE" });
    expect(readSettings({ enforce_service_window: "yes", opt_in_words: 7 })).toMatchObject({
      enforceServiceWindow: false,
      optInWords: defaultOptInWords,
    });
  });

  it("know an opt-out in many scripts, exactly and only when it is the whole message", () => {
    for (const text of ["STOP", " stop. ", "Stop!", "ＳＴＯＰ", "Arrêt", "стоп", "退订", "إلغاء", "opt  out"]) {
      expect(isOneOf(text, defaultOptOutWords), text).toBe(true);
    }
    for (const text of ["please stop", "stop by at noon", "", "stopp it", "non-stop"]) {
      expect(isOneOf(text, defaultOptOutWords), text).toBe(false);
    }
    expect(isOneOf("Start", defaultOptInWords)).toBe(true);
    expect(defaultOptInWords.filter((word) => isOneOf(word, defaultOptOutWords))).toEqual([]);
  });
});

describe("rotation", () => {
  it("ends the old API key at once", async () => {
    const workspace = await newWorkspace();
    expect((await workspace.callWithKey("GET", pathOf(workspace))).status).toBe(200);
    const rotated = await read(await workspace.call("POST", pathOf(workspace, "/rotate-api-key")), workspaceShape);
    expect(rotated.api_key).not.toBe(workspace.apiKey);
    expect(rotated.webhook_secret).toBe(workspace.webhookSecret);
    expect((await workspace.callWithKey("GET", pathOf(workspace))).status).toBe(401);
    const headers = { Authorization: `Bearer ${rotated.api_key}` };
    expect((await call("GET", pathOf(workspace), undefined, headers)).status).toBe(200);
  });

  it("of the webhook secret leaves the key alone, and is for owners and admins", async () => {
    const workspace = await newWorkspace();
    const rotated = await read(
      await workspace.call("POST", pathOf(workspace, "/rotate-webhook-secret")),
      workspaceShape,
    );
    expect(rotated.webhook_secret).not.toBe(workspace.webhookSecret);
    expect(rotated.api_key).toBe(workspace.apiKey);
    const member = await memberWithRole(workspace, "MEMBER");
    for (const rest of ["/rotate-api-key", "/rotate-webhook-secret"]) {
      const refused = await member.call("POST", pathOf(workspace, rest));
      expect(refused.status).toBe(403);
      expect(await refused.json()).toMatchObject({
        detail: "Insufficient permissions. OWNER or ADMIN role required",
        code: "forbidden",
      });
      expect((await workspace.callWithKey("POST", pathOf(workspace, rest))).status).toBe(403);
    }
  });
});

describe("members", () => {
  const invite = (workspace: TestWorkspace, user_email: string, role: Role = "MEMBER") =>
    workspace.call("POST", pathOf(workspace, "/members"), { user_email, role });
  const tokenOf = (url: string | undefined) => new URL(url ?? "").hash.slice(1);
  const accept = (user: { call: TestWorkspace["call"] }, token: string) =>
    user.call("POST", "/api/workspaces/invitations/accept", { token });

  it("with a proved address join at once", async () => {
    const workspace = await newWorkspace();
    const user = await newUser();
    const member = await read(await invite(workspace, user.email.toUpperCase(), "AGENT"), addedShape);
    expect(member).toMatchObject({ user_id: user.userId, role: "AGENT", status: "active" });
    expect(member.joined_at).not.toBeNull();
    expect(member.invitation_url).toBeUndefined();
    expect((await user.call("GET", pathOf(workspace))).status).toBe(200);
  });

  it("are invited otherwise: shown once, stored hashed, accepted once by the invited address", async () => {
    const workspace = await newWorkspace();
    const email = newEmail();
    const invited = await read(await invite(workspace, email), addedShape);
    expect(invited).toMatchObject({ user_id: null, status: "invited", joined_at: null });
    const token = tokenOf(invited.invitation_url);
    const list = await read(await workspace.call("GET", pathOf(workspace, "/members")), memberShape.array());
    expect(list).toContainEqual(expect.objectContaining({ email, status: "invited", user_id: null }));
    const stored = JSON.stringify(
      await env.DIRECTORY.prepare("SELECT * FROM members WHERE id = ?1").bind(invited.id).first(),
    );
    expect(stored).not.toContain(token);

    const other = await newUser();
    expect((await accept(other, token)).status).toBe(404);
    const guest = await newUser({ email, verified: false });
    expect((await guest.call("GET", pathOf(workspace))).status).toBe(404);
    const joined = await read(await accept(guest, token), memberShape);
    expect(joined).toMatchObject({ id: invited.id, user_id: guest.userId, status: "active", role: "MEMBER" });
    expect((await guest.call("GET", pathOf(workspace))).status).toBe(200);
    expect((await accept(guest, token)).status).toBe(404);
    expect((await accept(guest, "inv_nonsense")).status).toBe(404);
  });

  it("do not join by an address nobody proved: a squatter is only invited", async () => {
    const workspace = await newWorkspace();
    const squatter = await newUser({ verified: false });
    expect(await read(await invite(workspace, squatter.email), addedShape)).toMatchObject({ status: "invited" });
    expect((await squatter.call("GET", pathOf(workspace))).status).toBe(404);
  });

  it("invited too long ago can no longer accept, and can be invited again", async () => {
    const workspace = await newWorkspace();
    const email = newEmail();
    const guest = await newUser({ email, verified: false });
    const first = await read(await invite(workspace, email), addedShape);
    await env.DIRECTORY.prepare("UPDATE members SET invitation_expires_at = ?2 WHERE id = ?1")
      .bind(first.id, Date.now() - 1)
      .run();
    expect((await accept(guest, tokenOf(first.invitation_url))).status).toBe(404);
    const second = await read(await invite(workspace, email, "ADMIN"), addedShape);
    expect((await accept(guest, tokenOf(first.invitation_url))).status).toBe(404);
    expect(await read(await accept(guest, tokenOf(second.invitation_url)), memberShape)).toMatchObject({
      role: "ADMIN",
    });
  });

  it("cannot accept into a deleted workspace", async () => {
    const workspace = await newWorkspace();
    const email = newEmail();
    const guest = await newUser({ email, verified: false });
    const { invitation_url } = await read(await invite(workspace, email), addedShape);
    await workspace.call("DELETE", pathOf(workspace));
    expect((await accept(guest, tokenOf(invitation_url))).status).toBe(404);
  });

  it("are there once: a second invitation of an address is a 409 with the member's id", async () => {
    const workspace = await newWorkspace();
    const member = await memberWithRole(workspace, "AGENT");
    const email = newEmail();
    const answers = await Promise.all([1, 2, 3].map(() => invite(workspace, email)));
    expect(answers.map((a) => a.status).sort()).toEqual([200, 409, 409]);
    for (const duplicate of [await invite(workspace, member.email), await invite(workspace, email)]) {
      expect(duplicate.status).toBe(409);
      expect(await duplicate.json()).toMatchObject({ code: "already_exists", id: expect.any(String) });
    }
    const again = await invite(workspace, member.email, "ADMIN");
    expect(await again.json()).toMatchObject({ id: member.memberId });
  });

  it("are refused with a wrong address or role", async () => {
    const workspace = await newWorkspace();
    const badAddress = await invite(workspace, "nobody");
    expect(badAddress.status).toBe(422);
    expect(await badAddress.json()).toMatchObject({
      detail: [{ loc: ["body", "user_email"], msg: "Invalid email format" }],
    });
    const badRole = await workspace.call("POST", pathOf(workspace, "/members"), {
      user_email: newEmail(),
      role: "GOD",
    });
    expect(badRole.status).toBe(422);
  });

  it("are managed by owners and admins, never by API key", async () => {
    const workspace = await newWorkspace();
    const agent = await memberWithRole(workspace, "AGENT");
    const manage = (by: TestWorkspace["call"]) =>
      Promise.all([
        by("POST", pathOf(workspace, "/members"), { user_email: newEmail(), role: "AGENT" }),
        by("PATCH", pathOf(workspace, `/members/${agent.memberId}`), { role: "MEMBER" }),
        by("DELETE", pathOf(workspace, `/members/${newUuid()}`)),
      ]);
    for (const by of [agent.call, (await memberWithRole(workspace, "MEMBER")).call, workspace.callWithKey]) {
      const answers = await manage(by);
      expect(answers.map((a) => a.status)).toEqual([403, 403, 403]);
      expect(await answers[0]?.json()).toMatchObject({
        detail: "Insufficient permissions. OWNER or ADMIN role required",
      });
    }
    const admin = await memberWithRole(workspace, "ADMIN");
    expect((await manage(admin.call)).map((a) => a.status)).toEqual([200, 200, 404]);
    expect((await agent.call("GET", pathOf(workspace, "/members"))).status).toBe(200);
  });

  it("removed lose the workspace with their next call, whatever their token says", async () => {
    const workspace = await newWorkspace();
    const member = await memberWithRole(workspace, "MEMBER");
    expect((await member.call("GET", pathOf(workspace))).status).toBe(200);
    const removed = await workspace.call("DELETE", pathOf(workspace, `/members/${member.memberId}`));
    expect(removed.status).toBe(204);
    expect((await member.call("GET", pathOf(workspace))).status).toBe(404);
    expect((await workspace.call("DELETE", pathOf(workspace, `/members/${member.memberId}`))).status).toBe(404);
  });

  it("of another workspace cannot be touched through one's own", async () => {
    const mine = await newWorkspace();
    const theirs = await newWorkspace();
    const victim = await memberWithRole(theirs, "MEMBER");
    const path = pathOf(mine, `/members/${victim.memberId}`);
    expect((await mine.call("PATCH", path, { role: "AGENT" })).status).toBe(404);
    expect((await mine.call("DELETE", path)).status).toBe(404);
    expect((await victim.call("GET", pathOf(theirs))).status).toBe(200);
  });
});

describe("live sockets end with the access they were opened with", () => {
  const CLOSED = 4003;

  it("of a removed member, and of one whose role changed; others stay", async () => {
    const workspace = await newWorkspace();
    const [removed, changed] = [await memberWithRole(workspace, "AGENT"), await memberWithRole(workspace, "ADMIN")];
    const owners = await openFeed(workspace, workspace.workspaceId);
    const [removedFeed, changedFeed] = [
      await openFeed(removed, workspace.workspaceId),
      await openFeed(changed, workspace.workspaceId),
    ];
    await workspace.call("DELETE", pathOf(workspace, `/members/${removed.memberId}`));
    expect((await removedFeed.ended()).code).toBe(CLOSED);
    expect(changedFeed.closed).toBeNull();
    await workspace.call("PATCH", pathOf(workspace, `/members/${changed.memberId}`), { role: "AGENT" });
    expect((await changedFeed.ended()).code).toBe(CLOSED);
    expect(owners.closed).toBeNull();
    owners.close();
  });

  it("of a rotated key, and all of a deleted workspace", async () => {
    const workspace = await newWorkspace();
    const owners = await openFeed(workspace, workspace.workspaceId);
    const keys = await openFeed({ call: workspace.callWithKey }, workspace.workspaceId);
    await workspace.call("POST", pathOf(workspace, "/rotate-api-key"));
    expect((await keys.ended()).code).toBe(CLOSED);
    expect(owners.closed).toBeNull();
    await workspace.call("DELETE", pathOf(workspace));
    expect((await owners.ended()).code).toBe(CLOSED);
  });
});

describe("owners", () => {
  const roleOf = (workspace: TestWorkspace, memberId: string) =>
    env.DIRECTORY.prepare("SELECT role FROM members WHERE workspace_id = ?1 AND id = ?2")
      .bind(workspace.workspaceId, memberId)
      .first("role");

  it("are made and unmade by owners only", async () => {
    const workspace = await newWorkspace();
    const admin = await memberWithRole(workspace, "ADMIN");
    const agent = await memberWithRole(workspace, "AGENT");
    const attempts = [
      admin.call("POST", pathOf(workspace, "/members"), { user_email: newEmail(), role: "OWNER" }),
      admin.call("PATCH", pathOf(workspace, `/members/${agent.memberId}`), { role: "OWNER" }),
      admin.call("PATCH", pathOf(workspace, `/members/${admin.memberId}`), { role: "OWNER" }),
      admin.call("PATCH", pathOf(workspace, `/members/${workspace.memberId}`), { role: "AGENT" }),
      admin.call("DELETE", pathOf(workspace, `/members/${workspace.memberId}`)),
    ];
    for (const answer of await Promise.all(attempts)) {
      expect(answer.status).toBe(403);
      expect(await answer.json()).toMatchObject({ detail: "Insufficient permissions. OWNER role required" });
    }
    expect(
      await read(
        await workspace.call("PATCH", pathOf(workspace, `/members/${agent.memberId}`), { role: "OWNER" }),
        memberShape,
      ),
    ).toMatchObject({ role: "OWNER" });
    // There is another owner now; an admin may touch neither all the same.
    for (const id of [agent.memberId, workspace.memberId]) {
      const path = pathOf(workspace, `/members/${id}`);
      expect((await admin.call("PATCH", path, { role: "AGENT" })).status).toBe(403);
      expect((await admin.call("DELETE", path)).status).toBe(403);
      expect(await roleOf(workspace, id)).toBe("OWNER");
    }
    expect((await agent.call("DELETE", pathOf(workspace, `/members/${workspace.memberId}`))).status).toBe(204);
    expect(await roleOf(workspace, workspace.memberId)).toBeNull();
  });

  it("never all leave: the last one is neither demoted nor removed", async () => {
    const workspace = await newWorkspace();
    const path = pathOf(workspace, `/members/${workspace.memberId}`);
    const demoted = await workspace.call("PATCH", path, { role: "ADMIN" });
    expect(demoted.status).toBe(409);
    expect(await demoted.json()).toMatchObject({ detail: "A workspace keeps at least one owner", code: "conflict" });
    expect((await workspace.call("DELETE", path)).status).toBe(409);
    expect((await workspace.call("PATCH", path, { role: "OWNER" })).status).toBe(200);
    // One who was only invited does not count.
    await workspace.call("POST", pathOf(workspace, "/members"), { user_email: newEmail(), role: "OWNER" });
    expect((await workspace.call("DELETE", path)).status).toBe(409);
  });

  it.each(["PATCH", "DELETE"])("who %s each other at once leave one", async (method) => {
    for (let round = 0; round < 5; round += 1) {
      const one = await newWorkspace();
      const two = await memberWithRole(one, "OWNER");
      const body = method === "PATCH" ? { role: "AGENT" } : undefined;
      await Promise.all([
        one.call(method, pathOf(one, `/members/${two.memberId}`), body),
        two.call(method, pathOf(one, `/members/${one.memberId}`), body),
        one.call(method, pathOf(one, `/members/${one.memberId}`), body),
        two.call(method, pathOf(one, `/members/${two.memberId}`), body),
      ]);
      const owners = await env.DIRECTORY.prepare(
        "SELECT count(*) AS n FROM members WHERE workspace_id = ?1 AND role = 'OWNER' AND status = 'active'",
      )
        .bind(one.workspaceId)
        .first("n");
      expect(owners).toBe(1);
    }
  });
});

describe("shards", () => {
  it("take a new workspace where the fewest bytes are, then the fewest workspaces", async () => {
    const rt = testRuntime();
    const user = await newUser();
    const measured = (zero: number, one: number) =>
      env.DIRECTORY.prepare("INSERT OR REPLACE INTO shards (number, bytes, measured_at) VALUES (0, ?1, 0), (1, ?2, 0)")
        .bind(zero, one)
        .run();
    const place = async () => (await createWorkspace(rt, user.userId, { name: "Placed", plan: "free" })).shard;
    await measured(5000, 4000);
    expect(await place()).toBe(1);
    await measured(3000, 4000);
    expect(await place()).toBe(0);
    await measured(4000, 4000);
    // This file has made far more on shard 0 than on shard 1.
    expect(await place()).toBe(1);
  });

  it("hold the state of what was placed on them, from the start", async () => {
    await env.DIRECTORY.prepare(
      "INSERT OR REPLACE INTO shards (number, bytes, measured_at) VALUES (0, 2, 0), (1, 1, 0)",
    ).run();
    const workspace = await createWorkspace(testRuntime(), (await newUser()).userId, { name: "State", plan: "free" });
    expect(workspace.shard).toBe(1);
    expect(await stateOf(workspace.id, 1)).toEqual({ status: "active", settings: {} });
    expect(await stateOf(workspace.id, 0)).toBeNull();
  });

  it("are measured at night, and their states brought in line with the directory", async () => {
    const [missing, stale, deleted, newer] = [
      await newWorkspace({ settings: { a: 1 } }),
      await newWorkspace({ settings: { b: 2 }, shard: 1 }),
      await newWorkspace(),
      await newWorkspace(),
    ];
    const later = Date.now() + 60_000;
    await env.SHARD_0.prepare("DELETE FROM workspace_states WHERE workspace_id = ?1").bind(missing.workspaceId).run();
    await env.SHARD_1.prepare("UPDATE workspace_states SET settings = '{}' WHERE workspace_id = ?1")
      .bind(stale.workspaceId)
      .run();
    await env.DIRECTORY.prepare("UPDATE workspaces SET deleted_at = 1 WHERE id = ?1").bind(deleted.workspaceId).run();
    await env.SHARD_0.prepare(
      "UPDATE workspace_states SET status = 'suspended', updated_at = ?2 WHERE workspace_id = ?1",
    )
      .bind(newer.workspaceId, later)
      .run();
    await runNightlyWorkspaces(testRuntime());
    expect(await stateOf(missing.workspaceId)).toEqual({ status: "active", settings: { a: 1 } });
    expect(await stateOf(stale.workspaceId, 1)).toEqual({ status: "active", settings: { b: 2 } });
    expect(await stateOf(deleted.workspaceId)).toMatchObject({ status: "deleted" });
    expect(await stateOf(newer.workspaceId)).toMatchObject({ status: "suspended" });
    const { results } = await env.DIRECTORY.prepare("SELECT number, bytes FROM shards ORDER BY number").all<{
      number: number;
      bytes: number;
    }>();
    expect(results.map((row) => row.number)).toEqual([0, 1]);
    for (const { bytes } of results) expect(bytes).toBeGreaterThan(4096);
  });
});
