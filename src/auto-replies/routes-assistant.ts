import type { z } from "@hono/zod-openapi";
import { enterItem, enterReading, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { createRouter } from "../platform/app";
import { isoSeconds } from "../platform/clock";
import { AppError } from "../platform/errors";
import { pageBody } from "../platform/pagination";
import {
  assistantBody,
  assistantResource,
  autoReplyListQuery,
  handoverList,
  handoverParams,
  type handoverResource,
  workspaceQuery,
} from "./schema";
import { setAssistant } from "./service-assistant";
import {
  type Assistant,
  deleteAssistant,
  deleteHandover,
  type Handover,
  pageHandovers,
  selectAssistant,
  selectHandover,
} from "./store";

const tags = ["Auto-replies"];
const path = "/api/auto-replies/assistant";
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const SETTINGS = { kind: "workspace", permission: "auto_replies.assistant" } as const;

const getRoute = operation(SETTINGS, [], {
  method: "get",
  path,
  tags,
  summary: "The OpenAI-compatible endpoint of a workspace",
  request: { query: workspaceQuery },
  responses: { 200: { description: "The endpoint, without its key", content: json(assistantResource) } },
});

const setRoute = operation(SETTINGS, [], {
  method: "put",
  path,
  tags,
  summary: "Set the OpenAI-compatible endpoint that answers for rules of kind `ai`",
  request: { body: { required: true, content: json(assistantBody) } },
  responses: { 200: { description: "The endpoint, without its key", content: json(assistantResource) } },
});

const deleteRoute = operation(SETTINGS, [], {
  method: "delete",
  path,
  tags,
  summary: "Forget the endpoint and its key",
  request: { query: workspaceQuery },
  responses: { 204: { description: "It is gone" } },
});

const handoversRoute = operation({ kind: "workspace", permission: "conversations.read" }, [], {
  method: "get",
  path: "/api/auto-replies/handovers",
  tags,
  summary: "Conversations that people have taken over, newest first",
  request: { query: autoReplyListQuery },
  responses: { 200: { description: "A page of them", content: json(handoverList) } },
});

const endHandoverRoute = operation({ kind: "workspace", permission: "conversations.answer", item: true }, [], {
  method: "delete",
  path: "/api/auto-replies/handovers/{conversation_id}",
  tags,
  summary: "Let rules answer in a conversation again",
  request: { params: handoverParams },
  responses: { 204: { description: "They do" } },
});

function shape(assistant: Assistant): z.input<typeof assistantResource> {
  return {
    workspace_id: assistant.workspaceId,
    base_url: assistant.baseUrl,
    model: assistant.model,
    token_parameter: assistant.tokenParameter,
    updated_at: isoSeconds(assistant.updatedAt),
  };
}

function shapeHandover(handover: Handover): z.input<typeof handoverResource> {
  return {
    conversation_id: handover.conversationId,
    reason: handover.reason,
    at: isoSeconds(handover.at),
    until: isoSeconds(handover.until),
  };
}

const missing = () => new AppError("not_found", "No assistant is set for this workspace");

export const assistantRoutes = createRouter()
  .openapi(getRoute, async (c) => {
    const scope = await enterWorkspace(c, "auto_replies.assistant", c.req.valid("query").workspace_id);
    const assistant = await selectAssistant(scope.db, scope.workspaceId);
    if (!assistant) throw missing();
    rememberBookmark(c, scope);
    return c.json(shape(assistant), 200);
  })
  .openapi(setRoute, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "auto_replies.assistant", body.workspace_id);
    const assistant = await setAssistant(scope, body, new URL(c.req.url).hostname);
    rememberBookmark(c, scope);
    return c.json(shape(assistant), 200);
  })
  .openapi(deleteRoute, async (c) => {
    const scope = await enterWorkspace(c, "auto_replies.assistant", c.req.valid("query").workspace_id);
    if (!(await deleteAssistant(scope.db, scope.workspaceId))) throw missing();
    rememberBookmark(c, scope);
    return c.body(null, 204);
  })
  .openapi(handoversRoute, async (c) => {
    const query = c.req.valid("query");
    const { scope, found } = await enterReading(c, "conversations.read", query.workspace_id, (own) =>
      pageHandovers(own.db, own.workspaceId, own.rt.clock(), query),
    );
    rememberBookmark(c, scope);
    return c.json(pageBody(found, query, shapeHandover), 200);
  })
  .openapi(endHandoverRoute, async (c) => {
    const id = c.req.valid("param").conversation_id;
    const { scope, item } = await enterItem(c, "conversations.answer", id, (db, ids) => selectHandover(db, ids, id));
    await deleteHandover(scope.db, item);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  });
