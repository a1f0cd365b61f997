import type { AppContext } from "../platform/app";
import { sha256Hex } from "../platform/crypto";
import { type Consistency, type Db, statement } from "../platform/d1";
import { AppError } from "../platform/errors";
import { isUuid } from "../platform/ids";
import { directory, type Runtime, shard } from "../platform/runtime";
import { planWindows, type QuotaAnswer, rateLimited, takeQuota, USER_WINDOWS } from "../workspaces/quota";
import type { Plan } from "../workspaces/schema";
import { insufficient, keyMay, type Permission, type Role, roleMay } from "./access";
import { verifyAccessToken } from "./tokens";

/** A workspace the caller may act in. */
export interface Membership {
  workspaceId: string;
  shard: number;
  plan: Plan;
  status: "active" | "suspended";
  /** Null for an API key, which acts as ADMIN without members, keys and deletion. */
  role: Role | null;
}

export type Caller =
  | { kind: "user"; userId: string; sessionId: string; workspaceClaim: string | null; memberships: Membership[] }
  | { kind: "key"; memberships: [Membership] };

/** A call inside one workspace: the only way to get a shard's database. */
export interface WorkspaceScope {
  rt: Runtime;
  caller: Caller;
  workspaceId: string;
  membership: Membership;
  db: Db;
}

declare module "hono" {
  interface ContextVariableMap {
    caller: Caller;
  }
}

/** Who is calling, by JWT or API key, or a 401. Credentials are always read from the primary. */
export async function authenticate(c: AppContext): Promise<Caller> {
  if (c.var.caller) return c.var.caller;
  const token = credential(c);
  if (token === null) throw new AppError("unauthenticated", "Invalid credentials");
  const caller = token.startsWith("wsk_") ? await byKey(c.var.rt, token) : await byToken(c.var.rt, token);
  c.set("caller", caller);
  return caller;
}

/** A signed-in user; an API key is nobody in particular and gets a 403. */
export async function authenticateUser(c: AppContext): Promise<Extract<Caller, { kind: "user" }>> {
  const caller = await authenticate(c);
  if (caller.kind !== "user") throw new AppError("forbidden", "An API key cannot do this; sign in as a user");
  await charge(c, takeQuota(c.var.rt, `user:${caller.userId}`, USER_WINDOWS));
  return caller;
}

/** The credential a call carries, null when none. A bad one is refused, whatever else the call carries. */
export function credential(c: AppContext): string | null {
  const header = c.req.header("authorization");
  if (header !== undefined) {
    const match = /^(?:Bearer|App)\s+(\S+)$/i.exec(header);
    if (!match?.[1]) throw new AppError("unauthenticated", "Invalid credentials");
    return match[1];
  }
  const key = c.req.header("x-api-key");
  if (key !== undefined && !key.startsWith("wsk_")) throw new AppError("unauthenticated", "Invalid credentials");
  return key ?? null;
}

async function byKey(rt: Runtime, key: string): Promise<Caller> {
  const row = await directory(rt).first<{ id: string; shard: number; plan: Plan; status: "active" | "suspended" }>(
    "SELECT id, shard, plan, status FROM workspaces WHERE api_key_hash = ?1 AND deleted_at IS NULL",
    await sha256Hex(key),
  );
  if (!row) throw new AppError("unauthenticated", "Invalid credentials");
  return {
    kind: "key",
    memberships: [{ workspaceId: row.id, shard: row.shard, plan: row.plan, status: row.status, role: null }],
  };
}

async function byToken(rt: Runtime, token: string): Promise<Caller> {
  const claims = await verifyAccessToken(rt, token);
  const [session, memberships] = await directory(rt).batch([
    statement(
      "SELECT 1 AS live FROM sessions WHERE id = ?1 AND user_id = ?2 AND revoked_at IS NULL AND expires_at > ?3",
      claims.sessionId,
      claims.userId,
      rt.clock(),
    ),
    statement(
      `SELECT w.id AS workspaceId, w.shard, w.plan, w.status, m.role FROM members m
       JOIN workspaces w ON w.id = m.workspace_id
       WHERE m.user_id = ?1 AND m.status = 'active' AND w.deleted_at IS NULL ORDER BY m.joined_at, m.id`,
      claims.userId,
    ),
  ]);
  if (!session?.results.length) throw new AppError("unauthenticated", "Invalid credentials");
  return {
    kind: "user",
    userId: claims.userId,
    sessionId: claims.sessionId,
    workspaceClaim: claims.workspaceId,
    memberships: (memberships?.results ?? []) as unknown as Membership[],
  };
}

/** Whether a caller with this membership may do it. */
export function may(membership: Membership, permission: Permission): boolean {
  return membership.role === null ? keyMay(permission) : roleMay(membership.role, permission);
}

/**
 * Enters the workspace a call names. Where it names none: an API key's own, the JWT's claim, `X-Workspace-Id`, the
 * user's oldest membership (contract 6). A foreign or missing one is a 404 before any role is looked at; then the
 * role; then one call is charged to the plan.
 */
export async function enterWorkspace(c: AppContext, permission: Permission, named?: string): Promise<WorkspaceScope> {
  const { charged, ...scope } = await enterCharging(c, permission, named);
  await charged;
  return scope;
}

/**
 * The same, with the charge still on its way, for handlers that begin with reads (pipeline 24): `charged` must be
 * awaited together with the first of them, before anything is done or answered. It rejects when the plan is used up.
 */
export async function enterCharging(
  c: AppContext,
  permission: Permission,
  named?: string,
): Promise<WorkspaceScope & { charged: Promise<void> }> {
  const caller = await authenticate(c);
  const membership = chosen(c, caller, named);
  if (!membership) throw new AppError("not_found", "Workspace not found");
  if (!may(membership, permission)) throw new AppError("forbidden", insufficient(permission));
  const charged = chargeWorkspace(c, membership);
  // A read that fails before anybody awaits the charge must not leave its refusal unhandled.
  charged.catch(() => undefined);
  return { ...scopeOf(c, caller, membership), charged };
}

/** Enters a workspace to read: `read` runs while the plan is charged, and is not shown when the plan is used up. */
export async function enterReading<T>(
  c: AppContext,
  permission: Permission,
  named: string | undefined,
  read: (scope: WorkspaceScope) => Promise<T>,
): Promise<{ scope: WorkspaceScope; found: T }> {
  const { charged, ...scope } = await enterCharging(c, permission, named);
  const [found] = await Promise.all([read(scope), charged]);
  return { scope, found };
}

function chosen(c: AppContext, caller: Caller, named: string | undefined): Membership | undefined {
  const find = (id: string) => caller.memberships.find((m) => m.workspaceId === id);
  if (named !== undefined) return find(named);
  if (caller.kind === "key") return caller.memberships[0];
  if (caller.workspaceClaim !== null) return find(caller.workspaceClaim);
  const header = c.req.header("x-workspace-id");
  return header === undefined ? caller.memberships[0] : find(header.toLowerCase());
}

/**
 * Enters the workspace that holds an item. `find` seeks it among the caller's workspaces of one shard in one
 * statement, so tenant check and look-up cannot come apart (contract 5). Nothing found is a 404 with `missing`.
 */
export async function enterItem<T extends { workspaceId: string }>(
  c: AppContext,
  permission: Permission,
  id: string,
  find: (db: Db, workspaceIds: string[]) => Promise<T | null>,
  missing = "Resource not found",
): Promise<{ scope: WorkspaceScope; item: T }> {
  const caller = await authenticate(c);
  if (!isUuid(id)) {
    throw new AppError("validation", "Must be a UUID", { fields: [{ loc: ["path", "id"], msg: "Must be a UUID" }] });
  }
  const byShard = Map.groupBy(caller.memberships, (m) => m.shard);
  const finding = Promise.all(
    [...byShard].map(async ([number, memberships]) => {
      const db = shard(c.var.rt, number, consistencyOf(c, number));
      const item = await find(
        db,
        memberships.map((m) => m.workspaceId),
      );
      return item ? { item, db } : null;
    }),
  );
  // Where it is clear who pays, whatever is found, the charge does not wait for the search (pipeline 24).
  const [only, ...others] = caller.memberships;
  const payer = only && others.length === 0 && may(only, permission) ? only : null;
  const [found] = await Promise.all([finding, payer && chargeWorkspace(c, payer)]);
  const hit = found.find((f) => f !== null);
  const membership = hit && caller.memberships.find((m) => m.workspaceId === hit.item.workspaceId);
  if (!hit || !membership) {
    if (!payer) await chargeMiss(c, caller);
    throw new AppError("not_found", missing);
  }
  if (!may(membership, permission)) throw new AppError("forbidden", insufficient(permission));
  if (!payer) await chargeWorkspace(c, membership);
  return { scope: scopeOf(c, caller, membership, hit.db), item: hit.item };
}

/** Looking for what is not there costs too: a key's workspace, or the user, pays. */
async function chargeMiss(c: AppContext, caller: Caller): Promise<void> {
  if (caller.kind === "key") return chargeWorkspace(c, caller.memberships[0]);
  await charge(c, takeQuota(c.var.rt, `user:${caller.userId}`, USER_WINDOWS));
}

async function chargeWorkspace(c: AppContext, membership: Membership): Promise<void> {
  const windows = planWindows(membership.plan, c.var.rt.config);
  await charge(c, takeQuota(c.var.rt, membership.workspaceId, windows));
}

async function charge(c: AppContext, pending: Promise<QuotaAnswer>): Promise<void> {
  const answer = await pending;
  const headers = c.var.answerHeaders;
  headers.set("RateLimit-Limit", String(answer.limit));
  headers.set("RateLimit-Remaining", String(answer.remaining));
  headers.set("RateLimit-Reset", String(answer.reset));
  if (!answer.allowed) throw rateLimited(answer);
}

function scopeOf(c: AppContext, caller: Caller, membership: Membership, db?: Db): WorkspaceScope {
  return {
    rt: c.var.rt,
    caller,
    workspaceId: membership.workspaceId,
    membership,
    db: db ?? shard(c.var.rt, membership.shard, consistencyOf(c, membership.shard)),
  };
}

/** Shard number and D1's own form of a bookmark: what is of another form, D1 would answer with an error. */
const BOOKMARK = /^(\d{1,4})~([0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{32})$/;

/** A valid `X-D1-Bookmark` of this shard reads from any replica that is at least as new; none means the primary. */
function consistencyOf(c: AppContext, shardNumber: number): Consistency {
  const match = BOOKMARK.exec(c.req.header("x-d1-bookmark") ?? "");
  return match?.[2] && Number(match[1]) === shardNumber ? { bookmark: match[2] } : "primary";
}

/** Sends back where the workspace's database stands; call it before answering. */
export function rememberBookmark(c: AppContext, scope: WorkspaceScope): void {
  const bookmark = scope.db.bookmark;
  if (bookmark !== null) c.var.answerHeaders.set("X-D1-Bookmark", `${scope.membership.shard}~${bookmark}`);
}
