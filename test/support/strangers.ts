import { env } from "cloudflare:workers";
import { SignJWT } from "jose";
import { signAccessToken } from "../../src/auth/tokens";
import { deriveKey } from "../../src/platform/crypto";
import { createRuntime } from "../../src/platform/runtime";
import { insertMember, memberWithRole, newSession, newUser, newWorkspace, testRuntime } from "./identity";
import type { World } from "./operations";

/** Who must be kept out of a workspace, and what of it they must not have touched. */

async function done(call: Promise<Response>): Promise<void> {
  const response = await call;
  if (!response.ok) throw new Error(`Not prepared: ${response.status} ${await response.text()}`);
}

/** Credentials that are none (any more), by what is wrong with them. */
export async function badCredentials(): Promise<Record<string, Record<string, string>>> {
  const user = await newUser();
  const now = Math.floor(Date.now() / 1000);
  const claims = { userId: user.userId, sessionId: user.sessionId, workspaceId: null };
  const expired = await signAccessToken(testRuntime({ clock: () => Date.now() - 3_700_000 }), claims);
  const otherMaster = createRuntime({ ...env, SECRET_KEY: "another-master-secret-9876543210-zyxwvutsrqponm" });
  const forged = await signAccessToken(otherMaster, claims);
  const unsigned = `${btoa('{"alg":"none"}')}.${btoa(JSON.stringify({ sub: user.userId, sid: user.sessionId, exp: now + 600 }))}.`;
  const otherAudience = await new SignJWT({ sid: user.sessionId })
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(user.userId)
    .setIssuer("switchboard")
    .setAudience("another-api")
    .setExpirationTime(now + 600)
    .sign(await deriveKey(env.SECRET_KEY, "jwt"));
  const out = await newUser();
  await done(out.call("POST", "/api/auth/signout"));
  const rotated = await newWorkspace();
  await done(rotated.call("POST", `/api/workspaces/${rotated.workspaceId}/rotate-api-key`));
  const deleted = await newWorkspace();
  await done(deleted.call("DELETE", `/api/workspaces/${deleted.workspaceId}`));
  const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });
  return {
    "nothing at all": {},
    "an empty header": { Authorization: "" },
    "another scheme": { Authorization: `Basic ${btoa("owner@example.com:switchboard-demo")}` },
    "no token at all": bearer("not-a-token"),
    "an unknown key": bearer(`wsk_${"A".repeat(43)}`),
    "a token of a session that was signed out": bearer(out.token),
    "an expired token": bearer(expired),
    "a token signed with another secret": bearer(forged),
    "an unsigned token": bearer(unsigned),
    "a token for another audience": bearer(otherAudience),
    "a key that was replaced": { "X-API-Key": rotated.apiKey },
    "the key of a deleted workspace": { "X-API-Key": deleted.apiKey },
    "a user's token in the place of a key": { "X-API-Key": user.token },
    "a bad token beside a good key": { ...bearer("not-a-token"), "X-API-Key": (await newWorkspace()).apiKey },
  };
}

/** People and keys with good credentials who are nothing to the workspaces of `worlds`. */
export async function strangersTo(worlds: readonly World[]): Promise<Record<string, string>> {
  // At home on both shards, so that each is really asked for what is not there.
  const [home, second] = await Promise.all([newWorkspace(), newWorkspace({ shard: 1 })]);
  await insertMember(second.workspaceId, home, "OWNER");
  const strangers: Record<string, string> = {
    "the owner of other workspaces": home.token,
    "another workspace's key": home.apiKey,
    "the key of another workspace on the other shard": second.apiKey,
    "a user of no workspace": (await newUser()).token,
  };
  for (const [n, { owner }] of worlds.entries()) {
    const path = `/api/workspaces/${owner.workspaceId}/members`;
    const removed = await memberWithRole(owner, "OWNER");
    const claiming = await newSession(removed.userId, owner.workspaceId);
    await done(owner.call("DELETE", `${path}/${removed.memberId}`));
    strangers[`a removed owner ${n}`] = removed.token;
    strangers[`a removed owner whose token claims the workspace ${n}`] = claiming.token;
    const invited = await newUser({ verified: false });
    await done(owner.call("POST", path, { user_email: invited.email, role: "ADMIN" }));
    strangers[`an invited user who has not accepted ${n}`] = invited.token;
  }
  return strangers;
}

/** Every row of every table that names the workspace. */
export async function everythingOf(world: World): Promise<string> {
  const shard = world.owner.shard === 0 ? env.SHARD_0 : env.SHARD_1;
  const dumps: Record<string, unknown[]> = {};
  for (const database of [env.DIRECTORY, shard]) {
    const tables = await database
      .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%workspace_id%' ORDER BY name")
      .all<{ name: string }>();
    for (const { name } of tables.results) {
      const rows = await database
        .prepare(`SELECT * FROM "${name}" WHERE workspace_id = ?1`)
        .bind(world.owner.workspaceId);
      dumps[name] = (await rows.all()).results;
    }
  }
  const workspaces = env.DIRECTORY.prepare("SELECT * FROM workspaces WHERE id = ?1").bind(world.owner.workspaceId);
  dumps.workspaces = (await workspaces.all()).results;
  return JSON.stringify(dumps, null, 1);
}
