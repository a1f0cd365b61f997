import type { z } from "@hono/zod-openapi";
import type { Permission } from "../auth/access";
import { enterItem, enterWorkspace, rememberBookmark, type WorkspaceScope } from "../auth/guard";
import { operation } from "../auth/operation";
import { messageResource } from "../messages/schema";
import type { SendScope } from "../messages/service";
import { shapeAccepted } from "../messages/service-shape";
import { type AppContext, createRouter } from "../platform/app";
import { idempotencyHeader, requestHash } from "../platform/idempotency";
import { pageBody } from "../platform/pagination";
import {
  campaignListQuery,
  campaignPage,
  campaignParams,
  campaignResource,
  createCampaignBody,
  estimateAnswer,
  estimateBody,
  recipientPage,
  recipientQuery,
  retryBody,
  testSendBody,
  updateCampaignBody,
} from "./schema";
import {
  type CampaignEstimate,
  cancelCampaign,
  changeCampaign,
  createCampaign,
  deleteCampaign,
  estimateCampaign,
  freshCampaign,
  pauseCampaign,
  testSend,
} from "./service";
import { type CallKey, retryFailed, startCampaign } from "./service-start";
import { shapeCampaign, shapeRecipient } from "./shape";
import { pageCampaigns, selectCampaign } from "./store";
import { pageRecipients } from "./store-recipients";

const tags = ["Campaigns"];
const path = "/api/campaigns";
const itemPath = `${path}/{campaign_id}` as const;

const READ = { kind: "workspace", permission: "campaigns.read" } as const;
const MANAGE = { kind: "workspace", permission: "campaigns.manage" } as const;
const READ_ITEM = { ...READ, item: true } as const;
const MANAGE_ITEM = { ...MANAGE, item: true } as const;

const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const answer = (description: string) => ({ description, content: json(campaignResource) });

const createRoute = operation(MANAGE, [], {
  method: "post",
  path,
  tags,
  summary: "Make a campaign",
  description:
    "Only its name is needed now; the template, its parameters, the audience and a date may come until it starts.",
  request: { body: { required: true, content: json(createCampaignBody) } },
  responses: { 201: answer("A draft; with a date, a scheduled campaign") },
});

const listRoute = operation(READ, [], {
  method: "get",
  path,
  tags,
  summary: "The campaigns of a workspace, newest first",
  request: { query: campaignListQuery },
  responses: { 200: { description: "A page of them", content: json(campaignPage) } },
});

const getRoute = operation(READ_ITEM, [], {
  method: "get",
  path: itemPath,
  tags,
  summary: "One campaign, with counts that are a few seconds old at most",
  request: { params: campaignParams },
  responses: { 200: answer("The campaign") },
});

const changeRoute = operation(MANAGE_ITEM, ["conflict"], {
  method: "patch",
  path: itemPath,
  tags,
  summary: "Change a campaign that was not started, or any campaign's name",
  request: { params: campaignParams, body: { required: true, content: json(updateCampaignBody) } },
  responses: { 200: answer("The campaign as it is now") },
});

const deleteRoute = operation(MANAGE_ITEM, ["conflict"], {
  method: "delete",
  path: itemPath,
  tags,
  summary: "Delete a campaign (soft)",
  description: "One that is sending is paused or cancelled first.",
  request: { params: campaignParams },
  responses: { 204: { description: "It is gone" } },
});

const startRoute = operation(MANAGE_ITEM, ["conflict", "idempotency_conflict", "provider_limit"], {
  method: "post",
  path: `${itemPath}/start`,
  tags,
  summary: "Start a campaign, or go on with a paused one",
  description:
    "The first start freezes the audience, the parameters, and what they say of each person. Then it sends at the number's throughput, of which a fifth is kept for replies.",
  request: { params: campaignParams, headers: idempotencyHeader },
  responses: { 200: answer("It is sending") },
});

const pauseRoute = operation(MANAGE_ITEM, ["conflict"], {
  method: "post",
  path: `${itemPath}/pause`,
  tags,
  summary: "Pause a campaign that is sending",
  description:
    "At once: besides what is being handed to the provider at this moment nothing is sent until it is started again.",
  request: { params: campaignParams },
  responses: { 200: answer("It is `scheduled`, with `paused_at`") },
});

const cancelRoute = operation(MANAGE_ITEM, ["conflict"], {
  method: "post",
  path: `${itemPath}/cancel`,
  tags,
  summary: "End a campaign for good",
  request: { params: campaignParams },
  responses: { 200: answer("It is `cancelled`; whoever was not sent to will not be") },
});

const retryRoute = operation(MANAGE_ITEM, ["conflict", "idempotency_conflict"], {
  method: "post",
  path: `${itemPath}/retry-failed`,
  tags,
  summary: "Try again for those who failed, and for no one else",
  request: {
    params: campaignParams,
    headers: idempotencyHeader,
    body: { required: false, content: json(retryBody) },
  },
  responses: { 200: answer("It is sending again") },
});

const testRoute = operation(MANAGE_ITEM, ["conflict", "idempotency_conflict", "provider_limit"], {
  method: "post",
  path: `${itemPath}/test-send`,
  tags,
  summary: "Send a campaign's message to one person, to see it",
  request: {
    params: campaignParams,
    headers: idempotencyHeader,
    body: { required: true, content: json(testSendBody) },
  },
  responses: { 201: { description: "Accepted; it counts nowhere", content: json(messageResource) } },
});

const recipientsRoute = operation(READ_ITEM, [], {
  method: "get",
  path: `${itemPath}/recipients`,
  tags,
  summary: "The recipients of a campaign that was started, and what became of each",
  request: { params: campaignParams, query: recipientQuery },
  responses: { 200: { description: "A page of them", content: json(recipientPage) } },
});

const estimateResponses = {
  200: { description: "Recipients, and who is left out and why", content: json(estimateAnswer) },
};

const estimateRoute = operation(READ_ITEM, [], {
  method: "get",
  path: `${itemPath}/estimate`,
  tags,
  summary: "Who a campaign would go to, were it started now",
  request: { params: campaignParams },
  responses: estimateResponses,
});

const estimateOtherwiseRoute = operation(READ_ITEM, [], {
  method: "post",
  path: `${itemPath}/estimate`,
  tags,
  summary: "Who a campaign would go to with another audience, template or parameters",
  description: "Nothing is stored.",
  request: { params: campaignParams, body: { required: false, content: json(estimateBody) } },
  responses: estimateResponses,
});

function shapeEstimate(estimate: CampaignEstimate): z.input<typeof estimateAnswer> {
  return {
    audience_size: estimate.asked,
    recipients: estimate.recipients,
    skipped_count: Object.values(estimate.skipped).reduce((sum, n) => sum + n, 0),
    skipped: estimate.skipped,
    is_lower_bound: estimate.isLowerBound,
    seconds: estimate.seconds,
  };
}

/** Enters the workspace that holds the campaign: one that is not the caller's is a 404. */
function enterCampaign(c: AppContext, permission: Permission, id: string) {
  return enterItem(c, permission, id, (db, workspaceIds) => selectCampaign(db, workspaceIds, id));
}

function sendScope(scope: WorkspaceScope): SendScope {
  return { rt: scope.rt, workspaceId: scope.workspaceId, shard: scope.membership.shard, db: scope.db };
}

async function keyOf(c: AppContext, body: unknown): Promise<CallKey | null> {
  const key = c.req.header("idempotency-key");
  return key === undefined ? null : { key, hash: await requestHash(c.req.path.replace(/\/$/, ""), body) };
}

function told<T extends { replayed: boolean }>(c: AppContext, scope: WorkspaceScope, done: T): T {
  if (done.replayed) c.var.answerHeaders.set("Idempotency-Replayed", "true");
  rememberBookmark(c, scope);
  return done;
}

export const campaignRoutes = createRouter()
  .openapi(createRoute, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "campaigns.manage", body.workspace_id);
    const campaign = await createCampaign(scope, body);
    rememberBookmark(c, scope);
    return c.json(shapeCampaign(campaign), 201);
  })
  .openapi(listRoute, async (c) => {
    const query = c.req.valid("query");
    const scope = await enterWorkspace(c, "campaigns.read", query.workspace_id);
    const page = await pageCampaigns(scope.db, scope.workspaceId, query.status, query);
    rememberBookmark(c, scope);
    return c.json(pageBody(page, query, shapeCampaign), 200);
  })
  .openapi(getRoute, async (c) => {
    const { scope, item } = await enterCampaign(c, "campaigns.read", c.req.valid("param").campaign_id);
    const campaign = await freshCampaign(scope, item);
    rememberBookmark(c, scope);
    return c.json(shapeCampaign(campaign), 200);
  })
  .openapi(changeRoute, async (c) => {
    const { scope, item } = await enterCampaign(c, "campaigns.manage", c.req.valid("param").campaign_id);
    const campaign = await changeCampaign(scope, item, c.req.valid("json"));
    rememberBookmark(c, scope);
    return c.json(shapeCampaign(campaign), 200);
  })
  .openapi(deleteRoute, async (c) => {
    const { scope, item } = await enterCampaign(c, "campaigns.manage", c.req.valid("param").campaign_id);
    await deleteCampaign(scope, item);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  })
  .openapi(startRoute, async (c) => {
    const { scope, item } = await enterCampaign(c, "campaigns.manage", c.req.valid("param").campaign_id);
    const { campaign } = told(c, scope, await startCampaign(sendScope(scope), item, await keyOf(c, null)));
    return c.json(shapeCampaign(campaign), 200);
  })
  .openapi(pauseRoute, async (c) => {
    const { scope, item } = await enterCampaign(c, "campaigns.manage", c.req.valid("param").campaign_id);
    const campaign = await pauseCampaign(scope, item);
    rememberBookmark(c, scope);
    return c.json(shapeCampaign(campaign), 200);
  })
  .openapi(cancelRoute, async (c) => {
    const { scope, item } = await enterCampaign(c, "campaigns.manage", c.req.valid("param").campaign_id);
    const campaign = await cancelCampaign(scope, item);
    rememberBookmark(c, scope);
    return c.json(shapeCampaign(campaign), 200);
  })
  .openapi(retryRoute, async (c) => {
    const { scope, item } = await enterCampaign(c, "campaigns.manage", c.req.valid("param").campaign_id);
    const unknown = c.req.valid("json")?.include_unknown ?? false;
    const key = await keyOf(c, { include_unknown: unknown });
    const { campaign } = told(c, scope, await retryFailed(sendScope(scope), item, key, unknown));
    return c.json(shapeCampaign(campaign), 200);
  })
  .openapi(testRoute, async (c) => {
    const body = c.req.valid("json");
    const { scope, item } = await enterCampaign(c, "campaigns.manage", c.req.valid("param").campaign_id);
    const { message } = told(c, scope, await testSend(sendScope(scope), item, body, await keyOf(c, body)));
    return c.json(shapeAccepted(message), 201);
  })
  .openapi(recipientsRoute, async (c) => {
    const query = c.req.valid("query");
    const { scope, item } = await enterCampaign(c, "campaigns.read", c.req.valid("param").campaign_id);
    const page = await pageRecipients(scope.db, item, query.status, query);
    rememberBookmark(c, scope);
    return c.json(pageBody(page, query, shapeRecipient), 200);
  })
  .openapi(estimateRoute, async (c) => {
    const { scope, item } = await enterCampaign(c, "campaigns.read", c.req.valid("param").campaign_id);
    const estimate = await estimateCampaign(scope, item, {});
    rememberBookmark(c, scope);
    return c.json(shapeEstimate(estimate), 200);
  })
  .openapi(estimateOtherwiseRoute, async (c) => {
    const { scope, item } = await enterCampaign(c, "campaigns.read", c.req.valid("param").campaign_id);
    const estimate = await estimateCampaign(scope, item, c.req.valid("json") ?? {});
    rememberBookmark(c, scope);
    return c.json(shapeEstimate(estimate), 200);
  });
