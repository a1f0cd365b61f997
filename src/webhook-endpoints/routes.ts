import type { z } from "@hono/zod-openapi";
import type { Permission } from "../auth/access";
import { enterItem, enterReading, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { type AppContext, createRouter } from "../platform/app";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import { pageBody } from "../platform/pagination";
import {
  changeEndpointBody,
  createEndpointBody,
  type DeliveryEntry,
  deliveryList,
  deliveryListQuery,
  deliveryParams,
  deliveryResource,
  endpointList,
  endpointListQuery,
  endpointParams,
  endpointResource,
  replayAnswer,
  replayBody,
} from "./schema";
import { changeEndpoint, createEndpoint, replayDelivery, replayWindow, testEndpoint } from "./service";
import { forgetFeed } from "./service-wake";
import { deleteEndpoint, type Endpoint, pageEndpoints, selectEndpoint } from "./store";
import { pageDeliveries } from "./store-log";

const tags = ["Outbound webhooks"];
const path = "/api/webhook-endpoints";
const itemPath = `${path}/{id}` as const;
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const answer = (description: string) => ({ description, content: json(endpointResource) });
const READ = { kind: "workspace", permission: "webhook_endpoints.read" } as const;
const MANAGE = { kind: "workspace", permission: "webhook_endpoints.manage" } as const;

const createRoute = operation(MANAGE, ["conflict"], {
  method: "post",
  path,
  tags,
  summary: "Have an address told of what happens",
  description:
    "Each event is posted at least once, signed with the workspace's `webhook_secret` in the Standard Webhooks format; `webhook-id` is the same whenever the same event comes. Of one conversation nothing overtakes.",
  request: { body: { required: true, content: json(createEndpointBody) } },
  responses: { 201: answer("The endpoint") },
});

const listRoute = operation(READ, [], {
  method: "get",
  path,
  tags,
  summary: "The endpoints of a workspace, newest first",
  request: { query: endpointListQuery },
  responses: { 200: { description: "A page of them", content: json(endpointList) } },
});

const getRoute = operation({ ...READ, item: true }, [], {
  method: "get",
  path: itemPath,
  tags,
  summary: "One endpoint",
  request: { params: endpointParams },
  responses: { 200: answer("The endpoint") },
});

const changeRoute = operation({ ...MANAGE, item: true }, [], {
  method: "patch",
  path: itemPath,
  tags,
  summary: "Change an endpoint, enable or disable it",
  request: { params: endpointParams, body: { required: true, content: json(changeEndpointBody) } },
  responses: { 200: answer("The endpoint") },
});

const deleteRoute = operation({ ...MANAGE, item: true }, [], {
  method: "delete",
  path: itemPath,
  tags,
  summary: "Delete an endpoint and its log",
  request: { params: endpointParams },
  responses: { 204: { description: "It is gone" } },
});

const testRoute = operation({ ...MANAGE, item: true }, [], {
  method: "post",
  path: `${itemPath}/test`,
  tags,
  summary: "Post a test event now",
  request: { params: endpointParams },
  responses: { 200: { description: "What came of it", content: json(deliveryResource) } },
});

const deliveriesRoute = operation({ ...READ, item: true }, [], {
  method: "get",
  path: `${itemPath}/deliveries`,
  tags,
  summary: "What was posted and answered, newest first",
  description: "The log is bounded: about the last 2,000 deliveries.",
  request: { params: endpointParams, query: deliveryListQuery },
  responses: { 200: { description: "A page of them", content: json(deliveryList) } },
});

const replayOneRoute = operation({ ...MANAGE, item: true }, ["conflict"], {
  method: "post",
  path: `${itemPath}/deliveries/{delivery_id}/replay`,
  tags,
  summary: "Post the event of a delivery again, now",
  request: { params: deliveryParams },
  responses: { 200: { description: "What came of it", content: json(deliveryResource) } },
});

const replayRoute = operation({ ...MANAGE, item: true }, ["conflict"], {
  method: "post",
  path: `${itemPath}/replay`,
  tags,
  summary: "Post everything of a window of time again",
  description: "In the order in which it happened, beside what happens now.",
  request: { params: endpointParams, body: { required: true, content: json(replayBody) } },
  responses: { 202: { description: "It is under way", content: json(replayAnswer) } },
});

function shape(endpoint: Endpoint): z.input<typeof endpointResource> {
  return {
    id: endpoint.id,
    workspace_id: endpoint.workspaceId,
    url: endpoint.url,
    description: endpoint.description,
    events: endpoint.events,
    enabled: endpoint.status === "enabled",
    disabled_reason: endpoint.disabledReason,
    disabled_at: isoSecondsOrNull(endpoint.disabledAt),
    failing_since: isoSecondsOrNull(endpoint.failingSince),
    next_attempt_at: isoSecondsOrNull(endpoint.nextAt),
    last_success_at: isoSecondsOrNull(endpoint.lastSuccessAt),
    last_error: endpoint.lastError,
    replaying: endpoint.replayNext !== null,
    created_at: isoSeconds(endpoint.createdAt),
    updated_at: isoSeconds(endpoint.updatedAt),
  };
}

function shapeDelivery(endpointId: string) {
  return ({
    seq: _,
    conversation_id: __,
    at,
    duration,
    status,
    ...entry
  }: DeliveryEntry): z.input<typeof deliveryResource> => ({
    ...entry,
    endpoint_id: endpointId,
    attempted_at: isoSeconds(at),
    duration_ms: duration,
    response_status: status,
  });
}

/** Enters the workspace that holds the endpoint: one that is not the caller's is a 404. */
function enterEndpoint(c: AppContext, permission: Permission, id: string) {
  return enterItem(c, permission, id, (db, workspaceIds) => selectEndpoint(db, workspaceIds, id));
}

function ownHost(c: AppContext): string {
  return new URL(c.req.url).hostname;
}

export const webhookEndpointRoutes = createRouter()
  .openapi(createRoute, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "webhook_endpoints.manage", body.workspace_id);
    const endpoint = await createEndpoint(scope, body, ownHost(c));
    rememberBookmark(c, scope);
    return c.json(shape(endpoint), 201);
  })
  .openapi(listRoute, async (c) => {
    const query = c.req.valid("query");
    const { scope, found } = await enterReading(c, "webhook_endpoints.read", query.workspace_id, (own) =>
      pageEndpoints(own.db, own.workspaceId, query),
    );
    rememberBookmark(c, scope);
    return c.json(pageBody(found, query, shape), 200);
  })
  .openapi(getRoute, async (c) => {
    const { scope, item } = await enterEndpoint(c, "webhook_endpoints.read", c.req.valid("param").id);
    rememberBookmark(c, scope);
    return c.json(shape(item), 200);
  })
  .openapi(changeRoute, async (c) => {
    const { scope, item } = await enterEndpoint(c, "webhook_endpoints.manage", c.req.valid("param").id);
    const endpoint = await changeEndpoint(scope, item, c.req.valid("json"), ownHost(c));
    rememberBookmark(c, scope);
    return c.json(shape(endpoint), 200);
  })
  .openapi(deleteRoute, async (c) => {
    const { scope, item } = await enterEndpoint(c, "webhook_endpoints.manage", c.req.valid("param").id);
    await deleteEndpoint(scope.db, item);
    forgetFeed(item.workspaceId);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  })
  .openapi(testRoute, async (c) => {
    const { scope, item } = await enterEndpoint(c, "webhook_endpoints.manage", c.req.valid("param").id);
    const entry = await testEndpoint(scope, item);
    rememberBookmark(c, scope);
    return c.json(shapeDelivery(item.id)(entry), 200);
  })
  .openapi(deliveriesRoute, async (c) => {
    const query = c.req.valid("query");
    const { scope, item } = await enterEndpoint(c, "webhook_endpoints.read", c.req.valid("param").id);
    const page = await pageDeliveries(scope.db, item, query.outcome, query);
    rememberBookmark(c, scope);
    return c.json(pageBody(page, query, shapeDelivery(item.id)), 200);
  })
  .openapi(replayOneRoute, async (c) => {
    const { id, delivery_id } = c.req.valid("param");
    const { scope, item } = await enterEndpoint(c, "webhook_endpoints.manage", id);
    const entry = await replayDelivery(scope, item, delivery_id);
    rememberBookmark(c, scope);
    return c.json(shapeDelivery(item.id)(entry), 200);
  })
  .openapi(replayRoute, async (c) => {
    const body = c.req.valid("json");
    const { scope, item } = await enterEndpoint(c, "webhook_endpoints.manage", c.req.valid("param").id);
    const events = await replayWindow(scope, item, { since: body.since, until: body.until });
    rememberBookmark(c, scope);
    return c.json({ events }, 202);
  });
