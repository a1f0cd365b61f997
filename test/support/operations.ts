import { createExecutionContext } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { z } from "zod";
import { api } from "../../src/api";
import { signEmailToken } from "../../src/auth/mail";
import { signUp, startSession } from "../../src/auth/service";
import { WEBHOOK_SECRET_HEADER, webhookSecret } from "../../src/phone-numbers/service-webhook";
import { hmacSha256, toHex } from "../../src/platform/crypto";
import { newUuid } from "../../src/platform/ids";
import {
  memberWithRole,
  newUser,
  newWorkspace,
  type TestMember,
  type TestUser,
  type TestWorkspace,
  testRuntime,
} from "./identity";
import { freshProviderNumberId, registerNumber } from "./numbers";
import type { Operation } from "./openapi";

/**
 * How each operation of the API is called. A new operation adds a row here (and what it needs to `World`); the isolation
 * test then calls it as nobody, as strangers, with every role and with an API key, and fails while the row is missing.
 */

/** A workspace that has one of everything an operation can name. */
export interface World {
  owner: TestWorkspace;
  /** A MEMBER, to be changed and removed. */
  member: TestMember;
  phoneNumberId: string;
  contactId: string;
  conversationId: string;
  /** Planned for next week. */
  messageId: string;
  deadLetterId: string;
  webhookEventId: string;
  /** Has the contact in it. */
  groupId: string;
  emptyGroupId: string;
  wordpressSourceId: string;
  /** A status line planned for next week. */
  statusId: string;
}

/** One call; path parameters are filled in, the rest is sent as it is. */
export interface Call {
  params?: Record<string, string>;
  query?: Record<string, string>;
  body?: unknown;
  headers?: Record<string, string>;
  /** Who makes it, where not every user can. */
  as?: TestUser;
}

export interface OperationCase {
  /** A call that whoever is allowed to can make. For operations without credentials of ours, with their own proof. */
  call(world: World): Call | Promise<Call>;
  /** What it answers. */
  status: number;
  /** It uses up what it acts on: whoever calls next needs another world. */
  once?: true;
  /** Of a signed operation: the same call without its proof, and the refusal. */
  unproved?: { call(world: World): Call | Promise<Call>; status: number; detail: string };
  /** Settings of the deployment that it needs. */
  settings?: Record<string, string>;
}

/** A site that nobody has. */
const SHOP = { name: "Shop", kind: "woocommerce", url: "https://shop.wp.example.com" };

const PASSWORD = "correct horse battery staple";

function workspacePath(world: World): Call {
  return { params: { workspace_id: world.owner.workspaceId } };
}

const messagePath = ({ messageId }: World): Call => ({ params: { message_id: messageId } });
const conversationPath = ({ conversationId }: World): Call => ({ params: { id: conversationId } });
const numberPath = ({ phoneNumberId }: World): Call => ({ params: { phone_number_id: phoneNumberId } });
const groupPath = ({ groupId }: World): Call => ({ params: { id: groupId } });
const sourcePath = ({ wordpressSourceId }: World): Call => ({ params: { id: wordpressSourceId } });
const statusPath = ({ statusId }: World): Call => ({ params: { id: statusId } });
const listOf = ({ owner }: World): Call => ({ query: { workspace_id: owner.workspaceId } });
const memberPath = ({ owner, member }: World): Call => ({
  params: { workspace_id: owner.workspaceId, member_id: member.memberId },
});

async function signed(body: unknown): Promise<Call> {
  const bytes = JSON.stringify(body);
  const secret = testRuntime().config.META_APP_SECRET ?? "";
  const signature = toHex(await hmacSha256(secret, bytes));
  return { body: bytes, headers: { "Content-Type": "application/json", "X-Hub-Signature-256": `sha256=${signature}` } };
}

const emptyWebhook = { object: "whatsapp_business_account", entry: [] };
const unsigned = { body: emptyWebhook, headers: { "Content-Type": "application/json" } };
const challenge = (token: string): Call => ({
  query: { "hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": "1158201444" },
});
const verifyToken = () => testRuntime().config.WHATSAPP_WEBHOOK_VERIFY_TOKEN ?? "";

const noSignature = { status: 401, detail: "The signature is missing or wrong" };
const wrongToken = { status: 403, detail: "The verify token is wrong" };
const noCredentials = { status: 401, detail: "Invalid credentials" };

async function ticketOf({ owner, conversationId }: World, kind: "workspace" | "conversation"): Promise<string> {
  const response = await owner.call("POST", "/api/realtime/tickets", {
    workspace_id: owner.workspaceId,
    ...(kind === "conversation" ? { conversation_id: conversationId } : {}),
  });
  return z.object({ ticket: z.string() }).parse(await response.json()).ticket;
}

const upgrade = { Upgrade: "websocket" };

/** A provider that proves itself by the connection's own secret. */
const ofConnection: OperationCase = {
  status: 200,
  call: async ({ phoneNumberId }) => ({
    body: { results: [] },
    headers: { [WEBHOOK_SECRET_HEADER]: await webhookSecret(testRuntime(), phoneNumberId, 1) },
    params: { phone_id: phoneNumberId },
  }),
  unproved: {
    status: 401,
    detail: "The secret is missing or wrong",
    call: ({ phoneNumberId }) => ({ body: { results: [] }, params: { phone_id: phoneNumberId } }),
  },
};

export const CASES: Record<string, OperationCase> = {
  "GET /openapi.json": { status: 200, call: () => ({}) },
  "GET /docs": { status: 200, call: () => ({}) },

  "POST /api/auth/signup": {
    status: 200,
    call: () => ({ body: { email: `new-${newUuid()}@example.com`, password: PASSWORD, name: "New" } }),
  },
  "POST /api/auth/signin": {
    status: 200,
    call: async () => {
      const input = { email: `in-${newUuid()}@example.com`, password: PASSWORD, name: null, invitationToken: null };
      const user = await signUp(testRuntime(), input, newUuid(), "http://switchboard.test");
      return { body: { email: user.email, password: PASSWORD } };
    },
  },
  "POST /api/auth/refresh": {
    status: 200,
    call: async ({ owner }) => {
      const user = { id: owner.userId, email: owner.email, name: null, passwordHash: null, emailVerified: true };
      const session = await startSession(testRuntime(), { ...user, createdAt: 0, updatedAt: 0 }, null);
      return { body: { refresh_token: session.refreshToken } };
    },
    unproved: { ...noCredentials, call: () => ({ body: {} }) },
  },
  "GET /api/auth/me": { status: 200, call: () => ({}) },
  "POST /api/auth/signout": { status: 204, call: async () => ({ as: await newUser() }) },
  "POST /api/auth/verify-email": {
    status: 200,
    call: async ({ owner }) => ({ body: { token: await signEmailToken(testRuntime(), owner.userId, owner.email) } }),
    unproved: {
      status: 401,
      detail: "The link is not valid or has expired",
      call: () => ({ body: { token: "not-a-token" } }),
    },
  },
  "POST /api/auth/verify-email/send": {
    status: 202,
    call: () => ({}),
    settings: { MAIL_HOOK_URL: "https://mail.example.com/hook" },
  },

  "POST /api/workspaces": { status: 201, call: () => ({ body: { name: "One more" } }) },
  "GET /api/workspaces": { status: 200, call: () => ({}) },
  "GET /api/workspaces/{workspace_id}": { status: 200, call: workspacePath },
  "PATCH /api/workspaces/{workspace_id}": {
    status: 200,
    call: (world) => ({ ...workspacePath(world), body: { name: "Renamed" } }),
  },
  "DELETE /api/workspaces/{workspace_id}": { status: 204, call: workspacePath, once: true },
  "POST /api/workspaces/{workspace_id}/rotate-api-key": { status: 200, call: workspacePath, once: true },
  "POST /api/workspaces/{workspace_id}/rotate-webhook-secret": { status: 200, call: workspacePath },
  "GET /api/workspaces/{workspace_id}/members": { status: 200, call: workspacePath },
  "POST /api/workspaces/{workspace_id}/members": {
    status: 200,
    call: (world) => ({
      ...workspacePath(world),
      body: { user_email: `guest-${newUuid()}@example.com`, role: "MEMBER" },
    }),
  },
  "PATCH /api/workspaces/{workspace_id}/members/{member_id}": {
    status: 200,
    call: (world) => ({ ...memberPath(world), body: { role: "AGENT" } }),
  },
  "DELETE /api/workspaces/{workspace_id}/members/{member_id}": { status: 204, call: memberPath, once: true },
  "POST /api/workspaces/invitations/accept": {
    status: 200,
    call: async ({ owner }) => {
      // Invited while the address is unproved: a proved one is a member at once.
      const user = await newUser({ verified: false });
      const response = await owner.call("POST", `/api/workspaces/${owner.workspaceId}/members`, {
        user_email: user.email,
        role: "AGENT",
      });
      const { invitation_url } = z.object({ invitation_url: z.url() }).parse(await response.json());
      await env.DIRECTORY.prepare("UPDATE users SET email_verified = 1 WHERE id = ?1").bind(user.userId).run();
      return { body: { token: new URL(invitation_url).hash.slice(1) }, as: user };
    },
  },

  "POST /api/phone-numbers": {
    status: 201,
    call: ({ owner }) => ({
      body: {
        workspace_id: owner.workspaceId,
        phone_number_id: freshProviderNumberId(),
        access_token: "sandbox-token",
      },
    }),
  },
  "GET /api/phone-numbers": { status: 200, call: listOf },
  "GET /api/phone-numbers/{phone_number_id}": { status: 200, call: numberPath },
  "PATCH /api/phone-numbers/{phone_number_id}": {
    status: 200,
    call: (world) => ({ ...numberPath(world), body: { display_name: "Sales" } }),
  },
  "DELETE /api/phone-numbers/{phone_number_id}": { status: 204, call: numberPath, once: true },
  "POST /api/phone-numbers/{phone_number_id}/sync": { status: 200, call: numberPath },
  "POST /api/phone-numbers/{phone_number_id}/exchange-token": { status: 200, call: numberPath },
  "POST /api/phone-numbers/{phone_number_id}/webhook": { status: 200, call: numberPath },

  "POST /api/messages/send/text": {
    status: 201,
    call: ({ owner, phoneNumberId }) => ({
      body: {
        workspace_id: owner.workspaceId,
        phone_number_id: phoneNumberId,
        to: "+12025550147",
        text: "Planned",
        scheduled_at: nextWeek(),
      },
    }),
  },
  "GET /api/messages": { status: 200, call: listOf },
  "GET /api/messages/{message_id}": { status: 200, call: messagePath },
  "GET /api/messages/{message_id}/status": { status: 200, call: messagePath },
  "DELETE /api/messages/{message_id}": { status: 204, call: messagePath, once: true },

  "GET /api/conversations": { status: 200, call: listOf },
  "GET /api/conversations/{id}": { status: 200, call: conversationPath },
  "GET /api/conversations/{id}/messages": { status: 200, call: conversationPath },
  "POST /api/conversations/{id}/read": { status: 200, call: conversationPath },

  "POST /api/groups": {
    status: 201,
    call: ({ owner }) => ({ body: { workspace_id: owner.workspaceId, name: "Friends" } }),
  },
  "GET /api/groups": { status: 200, call: listOf },
  "GET /api/groups/{id}": { status: 200, call: groupPath },
  "PATCH /api/groups/{id}": { status: 200, call: (world) => ({ ...groupPath(world), body: { name: "Family" } }) },
  "DELETE /api/groups/{id}": {
    status: 204,
    call: ({ emptyGroupId }) => ({ params: { id: emptyGroupId } }),
    once: true,
  },
  "GET /api/groups/{id}/members": { status: 200, call: groupPath },
  "POST /api/groups/{id}/members": {
    status: 200,
    call: (world) => ({ ...groupPath(world), body: { contact_ids: [world.contactId] } }),
  },
  "POST /api/groups/{id}/members/remove": {
    status: 200,
    call: (world) => ({ ...groupPath(world), body: { contact_ids: [world.contactId] } }),
  },
  "DELETE /api/groups/{id}/members/{contact_id}": {
    status: 204,
    call: ({ groupId, contactId }) => ({ params: { id: groupId, contact_id: contactId } }),
    once: true,
  },

  "POST /api/wordpress/sources": {
    status: 201,
    call: ({ owner }) => ({ body: { workspace_id: owner.workspaceId, ...SHOP } }),
  },
  "GET /api/wordpress/sources": { status: 200, call: listOf },
  "GET /api/wordpress/sources/{id}": { status: 200, call: sourcePath },
  "PATCH /api/wordpress/sources/{id}": {
    status: 200,
    call: (world) => ({ ...sourcePath(world), body: { name: "Our shop" } }),
  },
  "DELETE /api/wordpress/sources/{id}": { status: 204, call: sourcePath, once: true },
  "POST /api/wordpress/sources/{id}/sync": { status: 202, call: (world) => ({ ...sourcePath(world), body: {} }) },
  "POST /api/wordpress/sources/{id}/test": { status: 200, call: sourcePath },

  "POST /api/statuses": {
    status: 201,
    call: ({ owner }) => ({
      body: { workspace_id: owner.workspaceId, text: "Good morning!", scheduled_at: nextWeek() },
    }),
  },
  "GET /api/statuses": { status: 200, call: listOf },
  "GET /api/statuses/{id}": { status: 200, call: statusPath },
  "DELETE /api/statuses/{id}": { status: 204, call: statusPath, once: true },

  "GET /webhook": {
    status: 200,
    call: () => challenge(verifyToken()),
    unproved: { ...wrongToken, call: () => challenge("guessed") },
  },
  "POST /webhook": {
    status: 200,
    call: () => signed(emptyWebhook),
    unproved: { ...noSignature, call: () => unsigned },
  },
  "GET /webhooks/meta/{phone_id}": {
    status: 200,
    call: ({ phoneNumberId }) => ({ ...challenge(verifyToken()), params: { phone_id: phoneNumberId } }),
    unproved: {
      ...wrongToken,
      call: ({ phoneNumberId }) => ({ ...challenge("guessed"), params: { phone_id: phoneNumberId } }),
    },
  },
  "POST /webhooks/meta/{phone_id}": {
    status: 200,
    call: async ({ phoneNumberId }) => ({ ...(await signed(emptyWebhook)), params: { phone_id: phoneNumberId } }),
    unproved: {
      ...noSignature,
      call: ({ phoneNumberId }) => ({ ...unsigned, params: { phone_id: phoneNumberId } }),
    },
  },
  "POST /webhooks/360dialog/{phone_id}": ofConnection,
  "POST /webhooks/infobip/{phone_id}": ofConnection,
  "GET /api/webhook-events": { status: 200, call: listOf },
  "GET /api/dead-letters": { status: 200, call: listOf },
  "POST /api/dead-letters/{id}/replay": {
    status: 200,
    call: ({ deadLetterId }) => ({ params: { id: deadLetterId } }),
  },

  "POST /api/realtime/tickets": {
    status: 201,
    call: ({ owner }) => ({ body: { workspace_id: owner.workspaceId } }),
  },
  "POST /api/realtime/stream-tokens": {
    status: 201,
    call: ({ owner }) => ({ body: { workspace_id: owner.workspaceId } }),
  },
  "GET /api/workspaces/{id}/live": {
    status: 101,
    call: async (world) => ({
      params: { id: world.owner.workspaceId },
      query: { ticket: await ticketOf(world, "workspace") },
      headers: upgrade,
    }),
    unproved: {
      ...noCredentials,
      call: ({ owner }) => ({ params: { id: owner.workspaceId }, headers: upgrade }),
    },
  },
  "GET /api/conversations/{id}/live": {
    status: 101,
    call: async (world) => ({
      ...conversationPath(world),
      query: { ticket: await ticketOf(world, "conversation") },
      headers: upgrade,
    }),
    unproved: { ...noCredentials, call: (world) => ({ ...conversationPath(world), headers: upgrade }) },
  },
  "GET /api/workspaces/{id}/events": {
    status: 200,
    call: ({ owner }) => ({ params: { id: owner.workspaceId } }),
  },
};

function nextWeek(): string {
  return new Date(Date.now() + 7 * 86_400_000).toISOString();
}

const made = z.object({ id: z.string() });

/** The id of what a call of the owner makes. */
async function make(owner: TestWorkspace, path: string, body: Record<string, unknown>): Promise<string> {
  const response = await owner.call("POST", path, { workspace_id: owner.workspaceId, ...body });
  return made.parse(await response.json()).id;
}

const planned = z.object({ id: z.string(), conversation_id: z.string(), contact_id: z.string() });

export async function newWorld(options: Parameters<typeof newWorkspace>[0] = {}): Promise<World> {
  const owner = await newWorkspace(options);
  const [member, number] = await Promise.all([memberWithRole(owner, "MEMBER"), registerNumber(owner)]);
  const response = await owner.call("POST", "/api/messages/send/text", {
    workspace_id: owner.workspaceId,
    phone_number_id: number.id,
    to: "+12025550101",
    text: "See you next week",
    scheduled_at: nextWeek(),
  });
  const message = planned.parse(await response.json());
  const database = owner.shard === 0 ? env.SHARD_0 : env.SHARD_1;
  const [groupId, emptyGroupId, wordpressSourceId, statusId] = await Promise.all([
    make(owner, "/api/groups", { name: "Customers" }),
    make(owner, "/api/groups", { name: "Nobody" }),
    make(owner, "/api/wordpress/sources", SHOP),
    make(owner, "/api/statuses", { text: "Open", scheduled_at: nextWeek() }),
  ]);
  await owner.call("POST", `/api/groups/${groupId}/members`, { contact_ids: [message.contact_id] });
  const deadLetterId = newUuid();
  const webhookEventId = newUuid();
  const r2Key = `dead-letters/${owner.workspaceId}/${deadLetterId}.json`;
  // Work that finds nothing to do when it is given back: the message does not exist.
  const job = { v: 1, kind: "message.send", workspaceId: owner.workspaceId, shard: owner.shard };
  await env.MEDIA.put(r2Key, JSON.stringify({ ...job, phoneNumberId: number.id, id: newUuid() }));
  await database.batch([
    database
      .prepare(
        "INSERT INTO dead_letters (workspace_id, id, queue, reason, r2_key, created_at) VALUES (?, ?, ?, ?, ?, ?)",
      )
      .bind(owner.workspaceId, deadLetterId, "outbound", "The queue gave up", r2Key, Date.now()),
    database
      .prepare(
        `INSERT INTO webhook_events (workspace_id, id, phone_number_id, provider, kind, field, raw, reason, received_at)
         VALUES (?, ?, ?, 'meta', 'unknown', 'new_field', '{"a":1}', 'Not known', ?)`,
      )
      .bind(owner.workspaceId, webhookEventId, number.id, Date.now()),
  ]);
  return {
    owner,
    member,
    phoneNumberId: number.id,
    contactId: message.contact_id,
    conversationId: message.conversation_id,
    messageId: message.id,
    deadLetterId,
    webhookEventId,
    groupId,
    emptyGroupId,
    wordpressSourceId,
    statusId,
  };
}

/** Makes one call of an operation. `token` null sends no credential. */
export async function perform(
  operation: Operation,
  call: Call,
  token: string | null,
  settings?: Record<string, string>,
): Promise<Response> {
  const path = operation.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
    const value = call.params?.[name];
    if (value === undefined) throw new Error(`The call of ${operation.key} does not say ${name}`);
    return encodeURIComponent(value);
  });
  const query = call.query ? `?${new URLSearchParams(call.query)}` : "";
  const headers = new Headers(call.headers);
  if (token !== null) headers.set("Authorization", `Bearer ${token}`);
  const raw = call.body === undefined || typeof call.body === "string";
  if (!raw) headers.set("Content-Type", "application/json");
  const body = raw ? z.string().optional().parse(call.body) : JSON.stringify(call.body);
  const request = new Request(`http://switchboard.test${path}${query}`, { method: operation.method, headers, body });
  const response = settings
    ? await api.fetch(request, { ...env, ...settings }, createExecutionContext())
    : await exports.default.fetch(request);
  response.webSocket?.accept();
  response.webSocket?.close(1000);
  return response;
}
