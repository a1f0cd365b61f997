import type { z } from "@hono/zod-openapi";
import type { Permission } from "../auth/access";
import { enterItem, enterReading, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { type AppContext, createRouter } from "../platform/app";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import { pageBody } from "../platform/pagination";
import {
  changeSourceBody,
  createSourceBody,
  sourceList,
  sourceListQuery,
  sourceParams,
  sourceResource,
  syncBody,
  testAnswer,
} from "./schema";
import { changeSource, createSource, syncSource, testSource } from "./service";
import { deleteSource, pageSources, type Source, selectSource } from "./store";

const tags = ["WordPress"];
const path = "/api/wordpress/sources";
const itemPath = `${path}/{id}` as const;
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const body = <T extends z.ZodType>(schema: T) => ({ required: true, content: json(schema) });
const answer = (description: string) => ({ description, content: json(sourceResource) });
const READ = { kind: "workspace", permission: "wordpress_sources.read" } as const;
const MANAGE = { kind: "workspace", permission: "wordpress_sources.manage" } as const;

const createRoute = operation(MANAGE, ["conflict"], {
  method: "post",
  path,
  tags,
  summary: "Have contacts pulled from a WordPress site",
  description:
    "Every 15 minutes what is new is read, page by page. A WordPress site has no contacts of its own, so a source says what it reads: WooCommerce customers, users, Gravity Forms entries, or any other list.",
  request: { body: body(createSourceBody) },
  responses: { 201: answer("The source") },
});

const listRoute = operation(READ, [], {
  method: "get",
  path,
  tags,
  summary: "The WordPress sources of a workspace, newest first",
  request: { query: sourceListQuery },
  responses: { 200: { description: "A page of them", content: json(sourceList) } },
});

const getRoute = operation({ ...READ, item: true }, [], {
  method: "get",
  path: itemPath,
  tags,
  summary: "One WordPress source and what came of its last reading",
  request: { params: sourceParams },
  responses: { 200: answer("The source") },
});

const changeRoute = operation({ ...MANAGE, item: true }, [], {
  method: "patch",
  path: itemPath,
  tags,
  summary: "Change a WordPress source, enable or disable it",
  request: { params: sourceParams, body: body(changeSourceBody) },
  responses: { 200: answer("The source") },
});

const deleteRoute = operation({ ...MANAGE, item: true }, [], {
  method: "delete",
  path: itemPath,
  tags,
  summary: "Delete a WordPress source; its contacts stay",
  request: { params: sourceParams },
  responses: { 204: { description: "It is gone" } },
});

const syncRoute = operation({ ...MANAGE, item: true }, [], {
  method: "post",
  path: `${itemPath}/sync`,
  tags,
  summary: "Read a WordPress source now",
  description: "A reading that is under way goes on, and is answered as it is.",
  request: { params: sourceParams, body: { required: false, content: json(syncBody) } },
  responses: { 202: answer("It is under way") },
});

const testRoute = operation({ ...MANAGE, item: true }, [], {
  method: "post",
  path: `${itemPath}/test`,
  tags,
  summary: "Ask a WordPress site for a few records and show what would be read",
  request: { params: sourceParams },
  responses: { 200: { description: "What came of it", content: json(testAnswer) } },
});

function shape(source: Source): z.output<typeof sourceResource> {
  const result = source.lastResult;
  return {
    id: source.id,
    workspace_id: source.workspaceId,
    name: source.name,
    kind: source.kind,
    url: source.url,
    has_credentials: source.credentialsSealed !== null,
    config: source.config,
    enabled: source.enabled,
    status: source.status,
    progress:
      source.status === "running" && source.startedAt !== null
        ? {
            ...source.counts,
            started_at: isoSeconds(source.startedAt),
            error: source.lastError,
            next_attempt_at: source.lastError === null ? null : isoSeconds(source.notBefore),
          }
        : null,
    last_result: result && {
      ...result,
      started_at: isoSeconds(result.started_at),
      finished_at: isoSeconds(result.finished_at),
    },
    next_sync_at: source.status === "idle" ? isoSecondsOrNull(source.dueAt) : null,
    created_at: isoSeconds(source.createdAt),
    updated_at: isoSeconds(source.updatedAt),
  };
}

/** Enters the workspace that holds the source: one that is not the caller's is a 404. */
function enterSource(c: AppContext, permission: Permission, id: string) {
  return enterItem(c, permission, id, (db, workspaceIds) => selectSource(db, workspaceIds, id));
}

function ownHost(c: AppContext): string {
  return new URL(c.req.url).hostname;
}

export const wordpressRoutes = createRouter()
  .openapi(createRoute, async (c) => {
    const input = c.req.valid("json");
    const scope = await enterWorkspace(c, "wordpress_sources.manage", input.workspace_id);
    const source = await createSource(scope, input, ownHost(c));
    rememberBookmark(c, scope);
    return c.json(shape(source), 201);
  })
  .openapi(listRoute, async (c) => {
    const query = c.req.valid("query");
    const { scope, found } = await enterReading(c, "wordpress_sources.read", query.workspace_id, (own) =>
      pageSources(own.db, own.workspaceId, query),
    );
    rememberBookmark(c, scope);
    return c.json(pageBody(found, query, shape), 200);
  })
  .openapi(getRoute, async (c) => {
    const { scope, item } = await enterSource(c, "wordpress_sources.read", c.req.valid("param").id);
    rememberBookmark(c, scope);
    return c.json(shape(item), 200);
  })
  .openapi(changeRoute, async (c) => {
    const { scope, item } = await enterSource(c, "wordpress_sources.manage", c.req.valid("param").id);
    const source = await changeSource(scope, item, c.req.valid("json"), ownHost(c));
    rememberBookmark(c, scope);
    return c.json(shape(source), 200);
  })
  .openapi(deleteRoute, async (c) => {
    const { scope, item } = await enterSource(c, "wordpress_sources.manage", c.req.valid("param").id);
    await deleteSource(scope.db, item);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  })
  .openapi(syncRoute, async (c) => {
    const { scope, item } = await enterSource(c, "wordpress_sources.manage", c.req.valid("param").id);
    const source = await syncSource(scope, item, c.req.valid("json")?.full ?? false);
    rememberBookmark(c, scope);
    return c.json(shape(source), 202);
  })
  .openapi(testRoute, async (c) => {
    const { scope, item } = await enterSource(c, "wordpress_sources.manage", c.req.valid("param").id);
    const result = await testSource(scope, item);
    rememberBookmark(c, scope);
    return c.json(result, 200);
  });
