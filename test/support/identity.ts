import { env, exports } from "cloudflare:workers";
import type { Role } from "../../src/auth/access";
import { signAccessToken } from "../../src/auth/tokens";
import { randomToken, seal, sha256Hex } from "../../src/platform/crypto";
import { newUuid } from "../../src/platform/ids";
import { createRuntime, type Runtime } from "../../src/platform/runtime";
import type { Plan } from "../../src/workspaces/schema";

/**
 * Users and workspaces for tests, written as rows: signing up costs 130 ms of scrypt, so only the tests of sign-up and
 * sign-in go that way. Ids and addresses are random: tests share a file's database.
 */

type Call = (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Response>;

export interface TestUser {
  userId: string;
  email: string;
  sessionId: string;
  /** A good access token of one hour. */
  token: string;
  /** A call with the user's token. A body that is no string, stream, form or buffer is sent as JSON. */
  call: Call;
}

export interface TestMember extends TestUser {
  workspaceId: string;
  memberId: string;
}

export interface TestWorkspace extends TestMember {
  shard: number;
  apiKey: string;
  webhookSecret: string;
  /** A call with the workspace's API key instead of the owner's token. */
  callWithKey: Call;
}

/** The runtime the Worker itself would have, with a fixed clock, other ids or another fetch where a test needs them. */
export function testRuntime(overrides: Partial<Omit<Runtime, "env" | "config">> = {}): Runtime {
  return createRuntime(env, overrides);
}

/** One request to the Worker. */
export function call(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Response> {
  const raw =
    body === undefined ||
    typeof body === "string" ||
    body instanceof FormData ||
    body instanceof Uint8Array ||
    body instanceof ReadableStream;
  const init: RequestInit = raw
    ? { method, headers, body: body as BodyInit | undefined }
    : { method, headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) };
  return exports.default.fetch(`http://switchboard.test${path}`, init);
}

function callerOf(token: string): Call {
  return (method, path, body, headers) => call(method, path, body, { Authorization: `Bearer ${token}`, ...headers });
}

export async function newUser(options: { email?: string; name?: string; verified?: boolean } = {}): Promise<TestUser> {
  const userId = newUuid();
  const email = options.email ?? `user-${userId}@example.com`;
  const now = Date.now();
  await env.DIRECTORY.prepare(
    "INSERT INTO users (id, email, name, password_hash, email_verified, created_at, updated_at) VALUES (?1, ?2, ?3, NULL, ?4, ?5, ?5)",
  )
    .bind(userId, email, options.name ?? "Test User", options.verified === false ? 0 : 1, now)
    .run();
  return { userId, email, ...(await newSession(userId)) };
}

/** Another session of a user, optionally with a workspace claim. */
export async function newSession(
  userId: string,
  workspaceId: string | null = null,
): Promise<{ sessionId: string; token: string; call: Call }> {
  const sessionId = newUuid();
  const now = Date.now();
  await env.DIRECTORY.prepare(
    "INSERT INTO sessions (id, user_id, workspace_id, expires_at, revoked_at, created_at) VALUES (?1, ?2, ?3, ?4, NULL, ?5)",
  )
    .bind(sessionId, userId, workspaceId, now + 30 * 86_400_000, now)
    .run();
  const token = await signAccessToken(testRuntime(), { userId, sessionId, workspaceId });
  return { sessionId, token, call: callerOf(token) };
}

/** A workspace with its owner. Enterprise by default, so that no test meets a plan limit by accident. */
export async function newWorkspace(
  options: { plan?: Plan; shard?: number; name?: string; settings?: Record<string, unknown> } = {},
): Promise<TestWorkspace> {
  const owner = await newUser();
  const workspaceId = newUuid();
  const shard = options.shard ?? 0;
  const settings = JSON.stringify(options.settings ?? {});
  const now = Date.now();
  const apiKey = randomToken("wsk_");
  const webhookSecret = `whsec_${btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(32))))}`;
  const keys = { current: env.SECRET_KEY, previous: undefined };
  const context = (column: string) => ({ table: "workspaces", column, workspaceId, rowId: workspaceId });
  await env.DIRECTORY.prepare(
    `INSERT INTO workspaces (id, name, slug, shard, plan, status, settings, api_key_hash, api_key_sealed,
       webhook_secret_sealed, created_by, created_at, updated_at, deleted_at)
     VALUES (?1, ?2, ?3, ?4, ?5, 'active', ?6, ?7, ?8, ?9, ?10, ?11, ?11, NULL)`,
  )
    .bind(
      workspaceId,
      options.name ?? "Test workspace",
      `test-${workspaceId}`,
      shard,
      options.plan ?? "enterprise",
      settings,
      await sha256Hex(apiKey),
      await seal(keys, context("api_key_sealed"), apiKey),
      await seal(keys, context("webhook_secret_sealed"), webhookSecret),
      owner.userId,
      now,
    )
    .run();
  const database = shard === 0 ? env.SHARD_0 : env.SHARD_1;
  await database
    .prepare("INSERT INTO workspace_states (workspace_id, status, settings, updated_at) VALUES (?1, 'active', ?2, ?3)")
    .bind(workspaceId, settings, now)
    .run();
  const memberId = await insertMember(workspaceId, owner, "OWNER");
  return { ...owner, workspaceId, memberId, shard, apiKey, webhookSecret, callWithKey: callerOf(apiKey) };
}

/** A new user who is an active member of the workspace in this role. */
export async function memberWithRole(workspace: { workspaceId: string }, role: Role): Promise<TestMember> {
  const user = await newUser();
  const memberId = await insertMember(workspace.workspaceId, user, role);
  return { ...user, workspaceId: workspace.workspaceId, memberId };
}

/** Makes a user a member. */
export async function insertMember(
  workspaceId: string,
  user: { userId: string; email: string },
  role: Role,
): Promise<string> {
  const id = newUuid();
  await env.DIRECTORY.prepare(
    `INSERT INTO members (workspace_id, id, user_id, email, role, status, invitation_hash, invitation_expires_at,
       invited_by, joined_at, created_at) VALUES (?1, ?2, ?3, ?4, ?5, 'active', NULL, NULL, NULL, ?6, ?6)`,
  )
    .bind(workspaceId, id, user.userId, user.email, role, Date.now())
    .run();
  return id;
}
