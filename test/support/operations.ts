import { createExecutionContext } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { z } from "zod";
import { api } from "../../src/api";
import { signEmailToken } from "../../src/auth/mail";
import { signUp, startSession } from "../../src/auth/service";
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
import { CAMPAIGN_CASES, newCampaigns, type WorldCampaigns } from "./operations-campaigns";
import { MEDIA_CASES, newMedia, type WorldMedia } from "./operations-media";
import { sandbox } from "./sandbox";

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
  /** Its last attempt failed. */
  failedMessageId: string;
  deadLetterId: string;
  webhookEventId: string;
  /** Approved, with one variable. */
  templateId: string;
  templateName: string;
  campaigns: WorldCampaigns;
  media: WorldMedia;
  /** Finished, with one row refused. */
  importId: string;
  /** Of somebody who was erased. */
  erasedContactId: string;
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

const PASSWORD = "correct horse battery staple";

function workspacePath(world: World): Call {
  return { params: { workspace_id: world.owner.workspaceId } };
}

const messagePath = ({ messageId }: World): Call => ({ params: { message_id: messageId } });
const conversationPath = ({ conversationId }: World): Call => ({ params: { id: conversationId } });
const numberPath = ({ phoneNumberId }: World): Call => ({ params: { phone_number_id: phoneNumberId } });
const contactPath = ({ contactId }: World): Call => ({ params: { contact_id: contactId } });
const importPath = ({ importId }: World): Call => ({ params: { import_id: importId } });
const templatePath = ({ templateId }: World): Call => ({ params: { template_id: templateId } });
const listOf = ({ owner }: World): Call => ({ query: { workspace_id: owner.workspaceId } });
const memberPath = ({ owner, member }: World): Call => ({
  params: { workspace_id: owner.workspaceId, member_id: member.memberId },
});

/** A message planned for next week, of one kind. */
const planned =
  (content: Record<string, unknown> | ((world: World) => Record<string, unknown>)) =>
  (world: World): Call => ({
    body: {
      workspace_id: world.owner.workspaceId,
      phone_number_id: world.phoneNumberId,
      to: "+12025550147",
      scheduled_at: nextWeek(),
      ...(typeof content === "function" ? content(world) : content),
    },
  });

const BOUNDARY = "----isolation";
/** A form with one file. */
function form(fileName: string, content: string): Call {
  const head = `--${BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="${fileName}"\r\n\r\n`;
  return {
    body: `${head}${content}\r\n--${BOUNDARY}--\r\n`,
    headers: { "Content-Type": `multipart/form-data; boundary=${BOUNDARY}` },
  };
}

let people = 0;
/** A number nobody has yet. */
function freshPhone(): string {
  people += 1;
  return `+1202${String(Date.now()).slice(-5)}${String(people).padStart(3, "0")}`;
}

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

export const CASES: Record<string, OperationCase> = {
  ...CAMPAIGN_CASES,
  ...MEDIA_CASES,
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
  "POST /api/messages/send/location": { status: 201, call: planned({ latitude: 33.98, longitude: 35.61 }) },
  "POST /api/messages/send/reaction": { status: 201, call: planned({ message_id: "wamid.some-message", emoji: "👍" }) },
  "POST /api/messages/send/interactive": {
    status: 201,
    call: planned({
      interactive: {
        type: "button",
        body: { text: "Which day?" },
        action: { buttons: [{ type: "reply", reply: { id: "mon", title: "Monday" } }] },
      },
    }),
  },
  "POST /api/messages/send/contacts": {
    status: 201,
    call: planned({ contacts: [{ name: { formatted_name: "Ana B" }, phones: [{ phone: "+12025550188" }] }] }),
  },
  "POST /api/messages/send/template": {
    status: 201,
    call: planned(({ templateName }) => ({
      template_name: templateName,
      template_language: "en",
      components: { body: [{ type: "text", text: "John" }] },
    })),
  },
  "POST /api/messages/{message_id}/retry": {
    status: 200,
    call: ({ failedMessageId }) => ({ params: { message_id: failedMessageId } }),
    once: true,
  },
  "GET /api/messages": { status: 200, call: listOf },
  "GET /api/messages/{message_id}": { status: 200, call: messagePath },
  "GET /api/messages/{message_id}/status": { status: 200, call: messagePath },
  "DELETE /api/messages/{message_id}": { status: 204, call: messagePath, once: true },

  "POST /api/contacts": {
    status: 201,
    call: ({ owner }) => ({ body: { workspace_id: owner.workspaceId, phone_number: freshPhone(), name: "John Doe" } }),
  },
  "GET /api/contacts": { status: 200, call: listOf },
  "GET /api/contacts/export": { status: 200, call: listOf },
  "GET /api/contacts/{contact_id}": { status: 200, call: contactPath },
  "PATCH /api/contacts/{contact_id}": {
    status: 200,
    call: (world) => ({ ...contactPath(world), body: { name: "Jane Doe" } }),
  },
  "DELETE /api/contacts/{contact_id}": { status: 204, call: contactPath, once: true },
  "POST /api/contacts/{contact_id}/erase": { status: 202, call: contactPath, once: true },
  "GET /api/contacts/{contact_id}/erasure": {
    status: 200,
    call: ({ erasedContactId }) => ({ params: { contact_id: erasedContactId } }),
  },
  "POST /api/contacts/import": {
    status: 200,
    call: (world) => ({ ...listOf(world), ...form("contacts.csv", `phone,name\n${freshPhone()},Imported\n`) }),
  },
  "GET /api/contacts/imports/{import_id}": { status: 200, call: importPath },
  "GET /api/contacts/imports/{import_id}/rejected": { status: 200, call: importPath },

  "POST /api/templates": {
    status: 201,
    call: ({ owner, phoneNumberId }) => ({
      body: {
        workspace_id: owner.workspaceId,
        phone_number_id: phoneNumberId,
        name: `made_${newUuid().replaceAll("-", "_")}`,
        category: "MARKETING",
        language: "en",
        components: { body: { text: "Hello {{1}}, welcome!" } },
      },
    }),
  },
  "GET /api/templates": { status: 200, call: listOf },
  "POST /api/templates/sync": {
    status: 200,
    call: ({ owner, phoneNumberId }) => ({
      body: { workspace_id: owner.workspaceId, phone_number_id: phoneNumberId },
    }),
  },
  "GET /api/templates/{template_id}": { status: 200, call: templatePath },
  "PATCH /api/templates/{template_id}": {
    status: 200,
    call: (world) => ({ ...templatePath(world), body: { status: "APPROVED" } }),
    once: true,
  },
  "DELETE /api/templates/{template_id}": { status: 204, call: templatePath, once: true },
  "POST /api/templates/{template_id}/preview": {
    status: 200,
    call: (world) => ({ ...templatePath(world), body: { components: { body: [{ type: "text", text: "John" }] } } }),
  },

  "GET /api/conversations": { status: 200, call: listOf },
  "GET /api/conversations/{id}": { status: 200, call: conversationPath },
  "GET /api/conversations/{id}/messages": { status: 200, call: conversationPath },
  "POST /api/conversations/{id}/read": { status: 200, call: conversationPath },

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

const sent = z.object({ id: z.string(), conversation_id: z.string(), contact_id: z.string() });

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
  const message = sent.parse(await response.json());
  const { templateName, templateId, importId } = await moreOf(owner, number.id);
  const database = owner.shard === 0 ? env.SHARD_0 : env.SHARD_1;
  const deadLetterId = newUuid();
  const webhookEventId = newUuid();
  const erasedContactId = newUuid();
  const failedMessageId = newUuid();
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
    database
      .prepare(
        `INSERT INTO contact_erasures (workspace_id, id, status, look, phase, unsettled, contacts, threads, names, messages, files, events, created_at, updated_at, completed_at)
         VALUES (?1, ?2, 'completed', 3, 'live', 0, '[]', '[]', '[]', 1, 0, 0, ?3, ?3, ?3)`,
      )
      .bind(owner.workspaceId, erasedContactId, Date.now()),
    // Of another thread and number than the lists are asked about.
    database
      .prepare(
        `INSERT INTO messages (workspace_id, id, phone_number_id, conversation_id, contact_id, direction, origin, type, content, status, to_number, lane, seq,
           not_before, attempts, failures, at, received_at, position, created_at, failed_at)
         VALUES (?1, ?2, ?3, ?3, ?3, 'outbound', 'api', 'text', '{"body":"Lost"}', 'failed', '+12025550102', 'chat', 0, 0, 1, 0, ?4, ?4, 0, ?4, ?4)`,
      )
      .bind(owner.workspaceId, failedMessageId, newUuid(), Date.now()),
    database
      .prepare(
        "UPDATE templates SET status = 'APPROVED', provider_status = 'APPROVED' WHERE workspace_id = ? AND id = ?",
      )
      .bind(owner.workspaceId, templateId),
  ]);
  return {
    owner,
    member,
    phoneNumberId: number.id,
    contactId: message.contact_id,
    conversationId: message.conversation_id,
    messageId: message.id,
    failedMessageId,
    deadLetterId,
    webhookEventId,
    templateId,
    templateName,
    campaigns: await newCampaigns(owner, number.id, templateId),
    media: await newMedia(owner),
    importId,
    erasedContactId,
  };
}

const identified = z.object({ id: z.string() });
const submitted = identified.extend({ meta_template_id: z.string() });

/** A template and an import. */
async function moreOf(owner: TestWorkspace, phoneNumberId: string) {
  const named = { workspace_id: owner.workspaceId, phone_number_id: phoneNumberId };
  const templateName = `welcome_${newUuid().replaceAll("-", "_")}`;
  const template = await owner.call("POST", "/api/templates", {
    ...named,
    name: templateName,
    category: "MARKETING",
    language: "en",
    components: { body: { text: "Hello {{1}}, welcome!" } },
  });
  const { id, meta_template_id } = submitted.parse(await template.json());
  await sandbox.review(meta_template_id, "APPROVED");
  const { body, headers } = form("contacts.csv", "phone,name\n+12025550109,Ann\nnobody,Nobody\n");
  const path = `/api/contacts/import?workspace_id=${owner.workspaceId}`;
  const imported = await exports.default.fetch(`http://switchboard.test${path}`, {
    method: "POST",
    headers: { ...headers, Authorization: `Bearer ${owner.token}` },
    body: z.string().parse(body),
  });
  if (imported.status !== 200) throw new Error(`Not imported: ${await imported.text()}`);
  const database = owner.shard === 0 ? env.SHARD_0 : env.SHARD_1;
  const row = await database.prepare("SELECT id FROM imports WHERE workspace_id = ?").bind(owner.workspaceId).first();
  return {
    templateName,
    templateId: id,
    importId: identified.parse(row).id,
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
  const request = new Request(`http://switchboard.test${path}${query}`, {
    method: operation.method,
    headers,
    body,
    redirect: "manual",
  });
  const response = settings
    ? await api.fetch(request, { ...env, ...settings }, createExecutionContext())
    : await exports.default.fetch(request);
  response.webSocket?.accept();
  response.webSocket?.close(1000);
  return response;
}
