import type { z } from "@hono/zod-openapi";
import type { Permission } from "../auth/access";
import { enterItem, enterReading, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { type AppContext, createRouter } from "../platform/app";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import { idempotencyHeader } from "../platform/idempotency";
import { pageBody } from "../platform/pagination";
import { createStatusBody, statusList, statusListQuery, statusParams, statusResource } from "./schema";
import { type AboutStatus, cancelStatus, createStatus, pageStatuses, selectStatus } from "./service";

const tags = ["Statuses"];
const path = "/api/statuses";
const itemPath = `${path}/{id}` as const;
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const READ = { kind: "workspace", permission: "statuses.read" } as const;
const MANAGE = { kind: "workspace", permission: "statuses.manage" } as const;

const createRoute = operation(MANAGE, ["conflict", "idempotency_conflict"], {
  method: "post",
  path,
  tags,
  summary: "Set a number's status line, now or later",
  description:
    "This is the line About of the number's profile, which WhatsApp long called status. Stories cannot be published: providers have no interface for them.",
  request: { headers: idempotencyHeader, body: { required: true, content: json(createStatusBody) } },
  responses: { 201: { description: "The status", content: json(statusResource) } },
});

const listRoute = operation(READ, [], {
  method: "get",
  path,
  tags,
  summary: "Status lines, newest first",
  request: { query: statusListQuery },
  responses: { 200: { description: "A page of them", content: json(statusList) } },
});

const getRoute = operation({ ...READ, item: true }, [], {
  method: "get",
  path: itemPath,
  tags,
  summary: "One status line: when it was set, or why not",
  request: { params: statusParams },
  responses: { 200: { description: "The status", content: json(statusResource) } },
});

const cancelRoute = operation({ ...MANAGE, item: true }, ["conflict"], {
  method: "delete",
  path: itemPath,
  tags,
  summary: "Cancel a scheduled status line",
  request: { params: statusParams },
  responses: { 204: { description: "Cancelled" } },
});

function shape(status: AboutStatus): z.input<typeof statusResource> {
  return {
    id: status.id,
    workspace_id: status.workspaceId,
    phone_number_id: status.phoneNumberId,
    text: status.text,
    status: status.status === "applying" ? "scheduled" : status.status,
    scheduled_at: isoSecondsOrNull(status.scheduledAt),
    applied_at: isoSecondsOrNull(status.appliedAt),
    error: status.error,
    created_at: isoSeconds(status.createdAt),
    updated_at: isoSeconds(status.updatedAt),
  };
}

/** Enters the workspace that holds the status: one that is not the caller's is a 404. */
function enterStatus(c: AppContext, permission: Permission, id: string) {
  return enterItem(c, permission, id, (db, workspaceIds) => selectStatus(db, workspaceIds, id));
}

export const statusRoutes = createRouter()
  .openapi(createRoute, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "statuses.manage", body.workspace_id);
    const intent = {
      text: body.text,
      scheduledAt: body.scheduled_at ?? null,
      phoneNumberId: body.phone_number_id ?? null,
      pastIsNow: false,
    };
    const status = await createStatus(scope, intent, c.req.valid("header")["idempotency-key"] ?? null);
    rememberBookmark(c, scope);
    return c.json(shape(status), 201);
  })
  .openapi(listRoute, async (c) => {
    const query = c.req.valid("query");
    const { scope, found } = await enterReading(c, "statuses.read", query.workspace_id, (own) =>
      pageStatuses(own.db, own.workspaceId, query),
    );
    rememberBookmark(c, scope);
    return c.json(pageBody(found, query, shape), 200);
  })
  .openapi(getRoute, async (c) => {
    const { scope, item } = await enterStatus(c, "statuses.read", c.req.valid("param").id);
    rememberBookmark(c, scope);
    return c.json(shape(item), 200);
  })
  .openapi(cancelRoute, async (c) => {
    const { scope, item } = await enterStatus(c, "statuses.manage", c.req.valid("param").id);
    await cancelStatus(scope, item);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  });
