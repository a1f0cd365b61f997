import type { z } from "@hono/zod-openapi";
import { authenticateUser, enterWorkspace, may, rememberBookmark, type WorkspaceScope } from "../auth/guard";
import { operation } from "../auth/operation";
import { createRouter } from "../platform/app";
import { isoSeconds } from "../platform/clock";
import { bareListQuery } from "../platform/pagination";
import { createWorkspaceBody, updateWorkspaceBody, workspaceAnswer, workspaceParams, workspaceSummary } from "./schema";
import {
  changeWorkspace,
  createWorkspace,
  deleteWorkspace,
  getWorkspace,
  listOwnWorkspaces,
  type OwnWorkspace,
  openSecrets,
  rotateApiKey,
  rotateWebhookSecret,
  type Workspace,
  type WorkspaceSecrets,
} from "./service";

const tags = ["Workspaces"];

const answer = (description: string) => ({
  description,
  content: { "application/json": { schema: workspaceAnswer } },
});

const createRoute = operation({ kind: "user" }, ["forbidden", "conflict"], {
  method: "post",
  path: "/api/workspaces",
  tags,
  summary: "Create a workspace",
  request: { body: { required: true, content: { "application/json": { schema: createWorkspaceBody } } } },
  responses: { 201: answer("The workspace with its secrets; the caller is its owner") },
});

const listRoute = operation({ kind: "user" }, [], {
  method: "get",
  path: "/api/workspaces",
  tags,
  summary: "The workspaces you are a member of",
  request: { query: bareListQuery },
  responses: {
    200: {
      description: "All of them; how many in `X-Total-Count`",
      content: { "application/json": { schema: workspaceSummary.array() } },
    },
  },
});

const getRoute = operation({ kind: "workspace", permission: "workspace.read" }, [], {
  method: "get",
  path: "/api/workspaces/{workspace_id}",
  tags,
  summary: "One workspace",
  request: { params: workspaceParams },
  responses: { 200: answer("The workspace") },
});

const updateRoute = operation({ kind: "workspace", permission: "workspace.update" }, [], {
  method: "patch",
  path: "/api/workspaces/{workspace_id}",
  tags,
  summary: "Change name, plan, status or settings",
  request: {
    params: workspaceParams,
    body: { required: true, content: { "application/json": { schema: updateWorkspaceBody } } },
  },
  responses: { 200: answer("The workspace as it is now") },
});

const deleteRoute = operation({ kind: "workspace", permission: "workspace.delete" }, [], {
  method: "delete",
  path: "/api/workspaces/{workspace_id}",
  tags,
  summary: "Delete a workspace (soft)",
  request: { params: workspaceParams },
  responses: { 204: { description: "It is gone" } },
});

const rotateKeyRoute = operation({ kind: "workspace", permission: "workspace.rotate_secrets" }, [], {
  method: "post",
  path: "/api/workspaces/{workspace_id}/rotate-api-key",
  tags,
  summary: "Replace the API key; the old one ends at once",
  request: { params: workspaceParams },
  responses: { 200: answer("The workspace with its new key") },
});

const rotateSecretRoute = operation({ kind: "workspace", permission: "workspace.rotate_secrets" }, [], {
  method: "post",
  path: "/api/workspaces/{workspace_id}/rotate-webhook-secret",
  tags,
  summary: "Replace the secret that signs outbound webhooks",
  request: { params: workspaceParams },
  responses: { 200: answer("The workspace with its new secret") },
});

/** The full resource; its secrets only for those who may also replace them. */
async function bodyOf(scope: WorkspaceScope, workspace: Workspace): Promise<z.input<typeof workspaceAnswer>> {
  const secrets = may(scope.membership, "workspace.rotate_secrets") ? await openSecrets(scope.rt, workspace) : null;
  return workspaceBody(workspace, secrets);
}

function workspaceBody(workspace: Workspace, secrets: WorkspaceSecrets | null): z.input<typeof workspaceAnswer> {
  return {
    id: workspace.id,
    name: workspace.name,
    slug: workspace.slug,
    api_key: secrets?.apiKey ?? null,
    webhook_secret: secrets?.webhookSecret ?? null,
    created_by: workspace.createdBy,
    plan: workspace.plan,
    status: workspace.status,
    settings: workspace.settings,
    created_at: isoSeconds(workspace.createdAt),
    updated_at: isoSeconds(workspace.updatedAt),
  };
}

function summaryBody({ workspace, role }: OwnWorkspace): z.input<typeof workspaceSummary> {
  return {
    id: workspace.id,
    name: workspace.name,
    slug: workspace.slug,
    plan: workspace.plan,
    status: workspace.status,
    created_at: isoSeconds(workspace.createdAt),
    user_role: role,
  };
}

export const workspaceRoutes = createRouter()
  .openapi(createRoute, async (c) => {
    const { userId } = await authenticateUser(c);
    const workspace = await createWorkspace(c.var.rt, userId, c.req.valid("json"));
    return c.json(workspaceBody(workspace, await openSecrets(c.var.rt, workspace)), 201);
  })
  .openapi(listRoute, async (c) => {
    const { userId } = await authenticateUser(c);
    const { rows, total } = await listOwnWorkspaces(c.var.rt, userId, c.req.valid("query"));
    c.header("X-Total-Count", String(total));
    return c.json(rows.map(summaryBody), 200);
  })
  .openapi(getRoute, async (c) => {
    const scope = await enterWorkspace(c, "workspace.read", c.req.valid("param").workspace_id);
    return c.json(await bodyOf(scope, await getWorkspace(c.var.rt, scope.workspaceId)), 200);
  })
  .openapi(updateRoute, async (c) => {
    const scope = await enterWorkspace(c, "workspace.update", c.req.valid("param").workspace_id);
    const { plan } = scope.membership;
    const workspace = await changeWorkspace(c.var.rt, scope.db, scope.workspaceId, plan, c.req.valid("json"));
    rememberBookmark(c, scope);
    return c.json(await bodyOf(scope, workspace), 200);
  })
  .openapi(deleteRoute, async (c) => {
    const scope = await enterWorkspace(c, "workspace.delete", c.req.valid("param").workspace_id);
    await deleteWorkspace(c.var.rt, scope.db, scope.workspaceId);
    return c.body(null, 204);
  })
  .openapi(rotateKeyRoute, async (c) => {
    const scope = await enterWorkspace(c, "workspace.rotate_secrets", c.req.valid("param").workspace_id);
    return c.json(await bodyOf(scope, await rotateApiKey(c.var.rt, scope.workspaceId)), 200);
  })
  .openapi(rotateSecretRoute, async (c) => {
    const scope = await enterWorkspace(c, "workspace.rotate_secrets", c.req.valid("param").workspace_id);
    return c.json(await bodyOf(scope, await rotateWebhookSecret(c.var.rt, scope.workspaceId)), 200);
  });
