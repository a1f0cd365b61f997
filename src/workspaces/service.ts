import { open, randomToken, type SealContext, seal, sha256Hex } from "../platform/crypto";
import type { Db } from "../platform/d1";
import { AppError, invalidField } from "../platform/errors";
import type { BareListQuery } from "../platform/pagination";
import { directory, type Runtime, shard, shardNumbers } from "../platform/runtime";
import { closeKeySockets, closeWorkspaceSockets } from "../realtime/publish";
import type { Plan, SettingsPatch } from "./schema";
import {
  insertWorkspace,
  listWorkspacesOf,
  MAX_CREATED,
  MAX_SETTINGS_BYTES,
  measureShard,
  type OwnWorkspace,
  pageWorkspacesOfShard,
  selectEmptiestShard,
  selectWorkspace,
  softDeleteWorkspace,
  updateApiKey,
  updateWebhookSecret,
  updateWorkspace,
  upsertShardSize,
  upsertStates,
  type Workspace,
  type WorkspaceState,
} from "./store";

export { isOneOf, readSettings } from "./settings";
export type { OwnWorkspace, Workspace } from "./store";

/** Where the nightly walk stops to write. */
const RECONCILE_PAGE = 200;

function masterKeys(rt: Runtime) {
  return { current: rt.config.SECRET_KEY, previous: rt.config.SECRET_KEY_PREVIOUS };
}

function contextOf(workspaceId: string, column: "api_key_sealed" | "webhook_secret_sealed"): SealContext {
  return { table: "workspaces", column, workspaceId, rowId: workspaceId };
}

async function newApiKey(rt: Runtime, workspaceId: string) {
  const key = randomToken("wsk_");
  return {
    hash: await sha256Hex(key),
    sealed: await seal(masterKeys(rt), contextOf(workspaceId, "api_key_sealed"), key),
  };
}

/** `whsec_` and 256 random bits in standard base64, as Standard Webhooks has it. */
async function newWebhookSecret(rt: Runtime, workspaceId: string): Promise<string> {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  const secret = `whsec_${btoa(String.fromCharCode(...bytes))}`;
  return seal(masterKeys(rt), contextOf(workspaceId, "webhook_secret_sealed"), secret);
}

export interface WorkspaceSecrets {
  apiKey: string;
  webhookSecret: string;
}

/** Opens what is sealed at rest. Only for callers who may also replace it. */
export async function openSecrets(rt: Runtime, workspace: Workspace): Promise<WorkspaceSecrets> {
  const keys = masterKeys(rt);
  const [apiKey, webhookSecret] = await Promise.all([
    open(keys, contextOf(workspace.id, "api_key_sealed"), workspace.apiKeySealed),
    open(keys, contextOf(workspace.id, "webhook_secret_sealed"), workspace.webhookSecretSealed),
  ]);
  return { apiKey, webhookSecret };
}

/** Members set plans where the operator lets them (PLAN_CHANGES); leaving a plan as it is, is no change. */
function checkPlan(rt: Runtime, plan: Plan | undefined, current: Plan): void {
  if (plan === undefined || plan === current || rt.config.PLAN_CHANGES === "members") return;
  throw new AppError("forbidden", "The operator of this deployment sets plans");
}

/** Latin letters and digits, joined by dashes; "workspace" for a name that has none. */
function slugOf(name: string): string {
  const plain = name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const slug = plain
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+/, "")
    .slice(0, 50)
    .replace(/-+$/, "");
  return slug === "" ? "workspace" : slug;
}

/**
 * Makes a workspace, places it on a shard, and makes its creator the owner. The shard's row is written first: a crash
 * in between leaves a state nobody refers to, never a workspace whose messages would wait for a state.
 */
export async function createWorkspace(
  rt: Runtime,
  userId: string,
  input: { name: string; plan: Plan },
): Promise<Workspace> {
  checkPlan(rt, input.plan, "free");
  const db = directory(rt);
  const id = rt.newId();
  const now = rt.clock();
  const number = await selectEmptiestShard(db, shardNumbers(rt.env));
  await upsertStates(shard(rt, number), [{ workspaceId: id, status: "active", settings: {}, updatedAt: now }]);
  const slug = slugOf(input.name);
  const key = await newApiKey(rt, id);
  const workspace = await insertWorkspace(
    db,
    {
      id,
      name: input.name,
      slugs: [slug, `${slug}-2`, `${slug}-3`, `${slug}-${id.slice(-6)}`, `${slug}-${id}`],
      shard: number,
      plan: input.plan,
      apiKeyHash: key.hash,
      apiKeySealed: key.sealed,
      webhookSecretSealed: await newWebhookSecret(rt, id),
      createdBy: userId,
      now,
    },
    rt.newId(),
  );
  if (!workspace) throw new AppError("conflict", `A user can make at most ${MAX_CREATED} workspaces`);
  return workspace;
}

export function listOwnWorkspaces(
  rt: Runtime,
  userId: string,
  page: BareListQuery,
): Promise<{ rows: OwnWorkspace[]; total: number }> {
  return listWorkspacesOf(directory(rt), userId, page);
}

const gone = () => new AppError("not_found", "Workspace not found");

function present(workspace: Workspace | null): Workspace {
  if (!workspace) throw gone();
  return workspace;
}

export async function getWorkspace(rt: Runtime, id: string): Promise<Workspace> {
  return present(await selectWorkspace(directory(rt), id));
}

/** What a change was asked with; members left out stay. */
export interface WorkspaceInput {
  name?: string | undefined;
  plan?: Plan | undefined;
  status?: "active" | "suspended" | undefined;
  settings?: SettingsPatch | undefined;
}

/**
 * Changes a workspace and mirrors status and settings to its shard, `shardDb`. When the mirror cannot be written the
 * call fails; asked again, or reconciled at night, it comes right.
 */
export async function changeWorkspace(
  rt: Runtime,
  shardDb: Db,
  id: string,
  currentPlan: Plan,
  input: WorkspaceInput,
): Promise<Workspace> {
  checkPlan(rt, input.plan, currentPlan);
  const change = {
    name: input.name ?? null,
    plan: input.plan ?? null,
    status: input.status ?? null,
    settings: input.settings ?? {},
  };
  const db = directory(rt);
  const workspace = await updateWorkspace(db, id, change, rt.clock());
  if (!workspace) {
    present(await selectWorkspace(db, id));
    throw invalidField(["body", "settings"], `Settings may have at most ${MAX_SETTINGS_BYTES} bytes`);
  }
  if (input.status !== undefined || input.settings !== undefined) await upsertStates(shardDb, [stateOf(workspace)]);
  return workspace;
}

function stateOf(workspace: Workspace): WorkspaceState {
  return {
    workspaceId: workspace.id,
    status: workspace.deletedAt === null ? workspace.status : "deleted",
    settings: workspace.settings,
    updatedAt: workspace.updatedAt,
  };
}

/** Soft: nothing finds the workspace any more, by key, membership or socket, and its messages stop being sent. */
export async function deleteWorkspace(rt: Runtime, shardDb: Db, id: string): Promise<void> {
  const workspace = present(await softDeleteWorkspace(directory(rt), id, rt.clock()));
  await upsertStates(shardDb, [stateOf(workspace)]);
  await closeWorkspaceSockets(rt, id);
}

/** Puts a new API key in place of the old one, which is worth nothing from the next call on. */
export async function rotateApiKey(rt: Runtime, id: string): Promise<Workspace> {
  const workspace = present(await updateApiKey(directory(rt), id, await newApiKey(rt, id), rt.clock()));
  await closeKeySockets(rt, id);
  return workspace;
}

/** Puts a new secret in place of the one that signs outbound webhooks. */
export async function rotateWebhookSecret(rt: Runtime, id: string): Promise<Workspace> {
  return present(await updateWebhookSecret(directory(rt), id, await newWebhookSecret(rt, id), rt.clock()));
}

/** Nightly: how full each shard is, so that new workspaces go to the emptiest. */
export async function measureShards(rt: Runtime): Promise<void> {
  await overShards(rt, async (number, shardDb) => {
    await upsertShardSize(directory(rt), number, await measureShard(shardDb), rt.clock());
  });
}

/** Nightly: brings every shard's mirror of status and settings in line with the directory. */
export async function reconcileWorkspaceStates(rt: Runtime): Promise<void> {
  await overShards(rt, async (number, shardDb) => {
    let after = "";
    for (;;) {
      const page = await pageWorkspacesOfShard(directory(rt), number, after, RECONCILE_PAGE);
      await upsertStates(shardDb, page.map(stateOf));
      const last = page.at(-1);
      if (!last || page.length < RECONCILE_PAGE) return;
      after = last.id;
    }
  });
}

/** One shard that cannot be reached does not keep the others from their turn. */
async function overShards(rt: Runtime, act: (number: number, db: Db) => Promise<void>): Promise<void> {
  const failures: unknown[] = [];
  for (const number of shardNumbers(rt.env)) {
    await act(number, shard(rt, number)).catch((error: unknown) => failures.push(error));
  }
  if (failures.length > 0) throw new AggregateError(failures, "Some shards could not be reached");
}
