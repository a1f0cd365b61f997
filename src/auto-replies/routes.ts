import type { z } from "@hono/zod-openapi";
import type { Permission } from "../auth/access";
import { enterItem, enterReading, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { type AppContext, createRouter } from "../platform/app";
import { isoSeconds } from "../platform/clock";
import { pageBody, pageQuery } from "../platform/pagination";
import {
  autoReplyList,
  autoReplyListQuery,
  autoReplyParams,
  autoReplyResource,
  changeAutoReplyBody,
  createAutoReplyBody,
  firingList,
  type firingResource,
  orderBody,
  testAnswer,
  testBody,
} from "./schema";
import { changeRule, createRule, orderRules, testRules } from "./service";
import { deleteRule, pageRules, type Rule, selectRule } from "./store";
import { type Firing, pageFirings } from "./store-firings";

const tags = ["Auto-replies"];
const path = "/api/auto-replies";
const itemPath = `${path}/{id}` as const;
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const answer = (description: string) => ({ description, content: json(autoReplyResource) });
const READ = { kind: "workspace", permission: "auto_replies.read" } as const;
const MANAGE = { kind: "workspace", permission: "auto_replies.manage" } as const;

const createRoute = operation(MANAGE, ["conflict"], {
  method: "post",
  path,
  tags,
  summary: "Answer certain messages by themselves",
  description:
    "The first rule that fits a message decides. Rules look at live messages of people, younger than 15 minutes: not at groups, reactions, echoes, history, other machines, or people who opted out.",
  request: { body: { required: true, content: json(createAutoReplyBody) } },
  responses: { 201: answer("The rule, behind the others") },
});

const listRoute = operation(READ, [], {
  method: "get",
  path,
  tags,
  summary: "The rules of a workspace, in their order",
  request: { query: autoReplyListQuery },
  responses: { 200: { description: "A page of them", content: json(autoReplyList) } },
});

const orderRoute = operation(MANAGE, [], {
  method: "put",
  path: `${path}/order`,
  tags,
  summary: "Put rules in order",
  request: { body: { required: true, content: json(orderBody) } },
  responses: { 200: { description: "The rules in their order", content: json(autoReplyList) } },
});

const testRoute = operation(READ, [], {
  method: "post",
  path: `${path}/test`,
  tags,
  summary: "What would be answered to a message",
  description: "A dry run: nothing is sent, counted, or asked of an assistant.",
  request: { body: { required: true, content: json(testBody) } },
  responses: { 200: { description: "The rule that fits, and the others", content: json(testAnswer) } },
});

const getRoute = operation({ ...READ, item: true }, [], {
  method: "get",
  path: itemPath,
  tags,
  summary: "One rule",
  request: { params: autoReplyParams },
  responses: { 200: answer("The rule") },
});

const changeRoute = operation({ ...MANAGE, item: true }, [], {
  method: "patch",
  path: itemPath,
  tags,
  summary: "Change a rule, enable or disable it",
  request: { params: autoReplyParams, body: { required: true, content: json(changeAutoReplyBody) } },
  responses: { 200: answer("The rule") },
});

const deleteRoute = operation({ ...MANAGE, item: true }, [], {
  method: "delete",
  path: itemPath,
  tags,
  summary: "Delete a rule",
  request: { params: autoReplyParams },
  responses: { 204: { description: "It is gone" } },
});

const firingsRoute = operation({ ...READ, item: true }, [], {
  method: "get",
  path: `${itemPath}/firings`,
  tags,
  summary: "What a rule has answered, newest first",
  description: "Kept for 31 days.",
  request: { params: autoReplyParams, query: pageQuery },
  responses: { 200: { description: "A page of them", content: json(firingList) } },
});

function shape(rule: Rule): z.input<typeof autoReplyResource> {
  return {
    id: rule.id,
    workspace_id: rule.workspaceId,
    name: rule.name,
    phone_number_id: rule.phoneNumberId,
    position: rule.position,
    enabled: rule.enabled,
    match: rule.match,
    answer: rule.answer,
    cooldown_seconds: rule.cooldown / 1000,
    daily_limit: rule.dailyLimit,
    quiet_minutes: rule.quiet / 60_000,
    created_at: isoSeconds(rule.createdAt),
    updated_at: isoSeconds(rule.updatedAt),
  };
}

function shapeFiring(firing: Firing): z.input<typeof firingResource> {
  return {
    rule_id: firing.ruleId,
    inbound_message_id: firing.inboundId,
    contact_id: firing.contactId,
    conversation_id: firing.conversationId,
    status: firing.status,
    message_id: firing.messageId,
    error: firing.error,
    at: isoSeconds(firing.at),
  };
}

/** Enters the workspace that holds the rule: one that is not the caller's is a 404. */
function enterRule(c: AppContext, permission: Permission, id: string) {
  return enterItem(c, permission, id, (db, workspaceIds) => selectRule(db, workspaceIds, id));
}

export const autoReplyRoutes = createRouter()
  .openapi(createRoute, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "auto_replies.manage", body.workspace_id);
    const rule = await createRule(scope, body);
    rememberBookmark(c, scope);
    return c.json(shape(rule), 201);
  })
  .openapi(listRoute, async (c) => {
    const query = c.req.valid("query");
    const { scope, found } = await enterReading(c, "auto_replies.read", query.workspace_id, (own) =>
      pageRules(own.db, own.workspaceId, query),
    );
    rememberBookmark(c, scope);
    return c.json(pageBody(found, query, shape), 200);
  })
  .openapi(orderRoute, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "auto_replies.manage", body.workspace_id);
    const rules = await orderRules(scope, body.ids);
    rememberBookmark(c, scope);
    const page = { rows: rules, total: rules.length, totalIsLowerBound: false, nextCursor: null };
    return c.json(pageBody(page, { limit: rules.length, offset: 0 }, shape), 200);
  })
  .openapi(testRoute, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "auto_replies.read", body.workspace_id);
    const { rule, answer: would, considered } = await testRules(scope, body);
    rememberBookmark(c, scope);
    const tried = considered.map((one) => ({ rule_id: one.rule.id, name: one.rule.name, matched: one.matched }));
    return c.json({ rule_id: rule?.id ?? null, answer: would, considered: tried }, 200);
  })
  .openapi(getRoute, async (c) => {
    const { scope, item } = await enterRule(c, "auto_replies.read", c.req.valid("param").id);
    rememberBookmark(c, scope);
    return c.json(shape(item), 200);
  })
  .openapi(changeRoute, async (c) => {
    const { scope, item } = await enterRule(c, "auto_replies.manage", c.req.valid("param").id);
    const rule = await changeRule(scope, item, c.req.valid("json"));
    rememberBookmark(c, scope);
    return c.json(shape(rule), 200);
  })
  .openapi(deleteRoute, async (c) => {
    const { scope, item } = await enterRule(c, "auto_replies.manage", c.req.valid("param").id);
    await deleteRule(scope.db, item);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  })
  .openapi(firingsRoute, async (c) => {
    const query = c.req.valid("query");
    const { scope, item } = await enterRule(c, "auto_replies.read", c.req.valid("param").id);
    const page = await pageFirings(scope.db, item, query);
    rememberBookmark(c, scope);
    return c.json(pageBody(page, query, shapeFiring), 200);
  });
