import type { z } from "@hono/zod-openapi";
import type { Permission } from "../auth/access";
import { enterItem, enterReading, enterWorkspace, rememberBookmark, type WorkspaceScope } from "../auth/guard";
import { operation } from "../auth/operation";
import { type AppContext, createRouter } from "../platform/app";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import { pageBody } from "../platform/pagination";
import {
  changeBody,
  configuredAnswer,
  listQuery,
  phoneNumberAnswer,
  phoneNumberPage,
  phoneNumberParams,
  registerBody,
  registeredAnswer,
  webhookBody,
} from "./schema";
import { resolveNumber, syncNumber } from "./service";
import { changeNumber, exchangeNumberToken, registerNumber, removeNumber } from "./service-registration";
import { configureWebhook, WEBHOOK_SECRET_HEADER, webhookUrl } from "./service-webhook";
import { findNumber, type PhoneNumber, pageNumbers } from "./store";

const tags = ["Phone numbers"];
const path = "/api/phone-numbers";
const itemPath = `${path}/{phone_number_id}` as const;

const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const answer = (description: string) => ({ description, content: json(phoneNumberAnswer) });

const registerRoute = operation(
  { kind: "workspace", permission: "phone_numbers.manage" },
  ["provider_refused", "provider_unavailable", "number_in_use"],
  {
    method: "post",
    path,
    tags,
    summary: "Register a phone number",
    description:
      "The provider is asked about the number with the credentials; what it says is stored, and its webhooks are asked for. 409 names the number's id if it is yours.",
    request: { body: { required: true, content: json(registerBody) } },
    responses: { 201: { description: "The number", content: json(registeredAnswer) } },
  },
);

const listRoute = operation({ kind: "workspace", permission: "phone_numbers.read" }, [], {
  method: "get",
  path,
  tags,
  summary: "The phone numbers of a workspace, oldest first",
  request: { query: listQuery },
  responses: { 200: { description: "A page of them", content: json(phoneNumberPage) } },
});

const getRoute = operation({ kind: "workspace", permission: "phone_numbers.read", item: true }, [], {
  method: "get",
  path: itemPath,
  tags,
  summary: "One phone number",
  request: { params: phoneNumberParams },
  responses: { 200: answer("The number") },
});

const updateRoute = operation(
  { kind: "workspace", permission: "phone_numbers.manage", item: true },
  ["provider_refused", "provider_unavailable"],
  {
    method: "patch",
    path: itemPath,
    tags,
    summary: "Change name, token, status or default",
    request: { params: phoneNumberParams, body: { required: true, content: json(changeBody) } },
    responses: { 200: answer("The number as it is now") },
  },
);

const deleteRoute = operation({ kind: "workspace", permission: "phone_numbers.manage", item: true }, [], {
  method: "delete",
  path: itemPath,
  tags,
  summary: "Delete a phone number (soft); the provider's number is free again",
  request: { params: phoneNumberParams },
  responses: { 204: { description: "It is gone" } },
});

const syncRoute = operation(
  { kind: "workspace", permission: "phone_numbers.sync", item: true },
  ["provider_refused", "provider_unavailable"],
  {
    method: "post",
    path: `${itemPath}/sync`,
    tags,
    summary: "Ask the provider for quality, limits and state",
    request: { params: phoneNumberParams },
    responses: { 200: answer("The number as the provider has it") },
  },
);

const exchangeRoute = operation(
  { kind: "workspace", permission: "phone_numbers.manage", item: true },
  ["provider_refused", "provider_unavailable", "not_configured"],
  {
    method: "post",
    path: `${itemPath}/exchange-token`,
    tags,
    summary: "Exchange a short-lived token for a long-lived one",
    description: "The token itself is never shown. One that does not expire stays as it is.",
    request: { params: phoneNumberParams },
    responses: { 200: answer("The number with its new `token_expires_at`") },
  },
);

const webhookRoute = operation(
  { kind: "workspace", permission: "phone_numbers.manage", item: true },
  ["provider_refused", "provider_unavailable"],
  {
    method: "post",
    path: `${itemPath}/webhook`,
    tags,
    summary: "Subscribe the number's webhooks again, or configure its address anew at the provider",
    request: { params: phoneNumberParams, body: { required: false, content: json(webhookBody) } },
    responses: { 200: { description: "The number, and what the provider said", content: json(configuredAnswer) } },
  },
);

/** The resource; `defaultId` is the number that acts where a call names none. */
function bodyOf(c: AppContext, number: PhoneNumber, defaultId: string | null): z.input<typeof phoneNumberAnswer> {
  return {
    id: number.id,
    workspace_id: number.workspaceId,
    phone_number: number.phoneNumber,
    phone_number_id: number.providerNumberId,
    display_name: number.displayName ?? number.phoneNumber,
    business_id: number.businessId,
    quality_rating: number.qualityRating,
    message_limit: number.messageLimit,
    tier: number.tier,
    status: number.status,
    verified_at: isoSecondsOrNull(number.verifiedAt),
    created_at: isoSeconds(number.createdAt),
    updated_at: isoSeconds(number.updatedAt),
    synced_at: isoSecondsOrNull(number.syncedAt),
    provider: number.provider,
    provider_status: number.providerStatus,
    verified_name: number.verifiedName,
    token_expires_at: isoSecondsOrNull(number.tokenExpiresAt),
    webhook_url: webhookUrl(new URL(c.req.url).origin, number),
    last_webhook_at: isoSecondsOrNull(number.lastWebhookAt),
    blocked_reason: number.blockedReason,
    is_default: number.id === defaultId,
  };
}

/** Enters the workspace that holds the number: one that is not the caller's is a 404. */
function enterNumber(c: AppContext, permission: Permission, id: string) {
  return enterItem(c, permission, id, (db, workspaceIds) => findNumber(db, workspaceIds, id));
}

async function fullBody(c: AppContext, scope: WorkspaceScope, number: PhoneNumber) {
  const chosen = await resolveNumber(scope.db, scope.workspaceId, null);
  rememberBookmark(c, scope);
  return bodyOf(c, number, chosen?.id ?? null);
}

export const phoneNumberRoutes = createRouter()
  .openapi(registerRoute, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "phone_numbers.manage", body.workspace_id);
    const { number, subscription } = await registerNumber(scope, body, new URL(c.req.url).origin);
    return c.json({ ...(await fullBody(c, scope, number)), subscription }, 201);
  })
  .openapi(listRoute, async (c) => {
    const query = c.req.valid("query");
    const { scope, found: page } = await enterReading(c, "phone_numbers.read", query.workspace_id, (own) =>
      pageNumbers(own.db, own.workspaceId, query),
    );
    rememberBookmark(c, scope);
    return c.json(
      pageBody(page, query, (number) => bodyOf(c, number, page.defaultId)),
      200,
    );
  })
  .openapi(getRoute, async (c) => {
    const { scope, item } = await enterNumber(c, "phone_numbers.read", c.req.valid("param").phone_number_id);
    return c.json(await fullBody(c, scope, item), 200);
  })
  .openapi(updateRoute, async (c) => {
    const id = c.req.valid("param").phone_number_id;
    const { scope, item } = await enterNumber(c, "phone_numbers.manage", id);
    return c.json(await fullBody(c, scope, await changeNumber(scope, item, c.req.valid("json"))), 200);
  })
  .openapi(deleteRoute, async (c) => {
    const id = c.req.valid("param").phone_number_id;
    const { scope, item } = await enterNumber(c, "phone_numbers.manage", id);
    await removeNumber(scope, item);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  })
  .openapi(syncRoute, async (c) => {
    const { scope, item } = await enterNumber(c, "phone_numbers.sync", c.req.valid("param").phone_number_id);
    const synced = await syncNumber(scope.rt, scope.membership.shard, scope.db, item);
    return c.json(await fullBody(c, scope, synced), 200);
  })
  .openapi(webhookRoute, async (c) => {
    const id = c.req.valid("param").phone_number_id;
    // Without a body there is nothing to parse, and nothing to change.
    const rotate = c.req.valid("json")?.rotate_secret ?? false;
    const { scope, item } = await enterNumber(c, "phone_numbers.manage", id);
    const origin = new URL(c.req.url).origin;
    const { number, subscription, target } = await configureWebhook(scope, item, { origin, rotate });
    const { url, user: username, secret } = target;
    const webhook = number.provider === "meta" ? null : { url, header: WEBHOOK_SECRET_HEADER, username, secret };
    return c.json({ ...(await fullBody(c, scope, number)), subscription, webhook }, 200);
  })
  .openapi(exchangeRoute, async (c) => {
    const id = c.req.valid("param").phone_number_id;
    const { scope, item } = await enterNumber(c, "phone_numbers.manage", id);
    return c.json(await fullBody(c, scope, await exchangeNumberToken(scope, item)), 200);
  });
