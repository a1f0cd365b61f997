import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, vi } from "vitest";
import { api } from "../../src/api";
import type { WebhookJob } from "../../src/inbound/jobs";
import type { PhoneNumber } from "../../src/phone-numbers/service";
import { hmacSha256, toHex, utf8 } from "../../src/platform/crypto";
import { deliver, heldQueues } from "./pipeline";
import { webhookJob } from "./webhooks";

/** The app secret of vitest.config.ts. */
export const APP_SECRET = "test-app-secret-1234567890";
export const PREVIOUS_APP_SECRET = "test-app-secret-previous-1234";

export interface Change {
  field?: string;
  value: unknown;
}

type Receiver = Pick<PhoneNumber, "providerNumberId" | "businessId" | "phoneNumber">;

/** A POST of these changes, in one entry. */
export function post(businessId: string | null, ...changes: Change[]): object {
  return {
    object: "whatsapp_business_account",
    entry: [{ id: businessId ?? "0", changes: changes.map(({ field = "messages", value }) => ({ field, value })) }],
  };
}

/** A change of one number: `value` with the metadata that names it. */
export function change(number: Receiver, value: Record<string, unknown>, field = "messages"): Change {
  const metadata = { display_phone_number: number.phoneNumber, phone_number_id: number.providerNumberId };
  return { field, value: { messaging_product: "whatsapp", metadata, ...value } };
}

/** A POST of one change of one number. */
export function about(number: Receiver, value: Record<string, unknown>, field = "messages"): object {
  return post(number.businessId, change(number, value, field));
}

/** Who wrote: digits, a user id, or both. */
export interface Sender {
  wa?: string;
  user?: string;
  parent?: string;
  name?: string;
  username?: string;
}

function ids({ wa, user, parent }: Sender) {
  return {
    ...(wa === undefined ? {} : { from: wa }),
    ...(user === undefined ? {} : { from_user_id: user }),
    ...(parent === undefined ? {} : { from_parent_user_id: parent }),
  };
}

export function contact({ wa, user, parent, name, username }: Sender) {
  return {
    profile: { ...(name === undefined ? {} : { name }), ...(username === undefined ? {} : { username }) },
    ...(wa === undefined ? {} : { wa_id: wa }),
    ...(user === undefined ? {} : { user_id: user }),
    ...(parent === undefined ? {} : { parent_user_id: parent }),
  };
}

let counter = 0;

export function wamid(): string {
  counter += 1;
  return `wamid.test-${counter}-${crypto.randomUUID()}`;
}

/** Digits of a customer nobody else is. */
export function digits(): string {
  counter += 1;
  return `1202${String(Date.now() % 1e5).padStart(5, "0")}${String(counter).padStart(4, "0")}`;
}

const LOADED = Math.floor(Date.now() / 1000) * 1000;

/** A time in whole seconds, as providers tell it, in ms: `minutes` before this file of tests began. */
export function ago(minutes: number): number {
  return LOADED - minutes * 60_000;
}

export interface Said {
  id?: string;
  /** ms */
  at?: number;
  type?: string;
  [member: string]: unknown;
}

/** One message item as Meta writes it; a text unless `type` says otherwise. */
export function message(sender: Sender, { id = wamid(), at = ago(0), type = "text", ...rest }: Said = {}) {
  const payload = type === "text" && !("text" in rest) ? { text: { body: "Hello" } } : {};
  return { ...ids(sender), id, timestamp: String(at / 1000), type, ...payload, ...rest };
}

/** A POST of one message with its contact. */
export function says(number: Receiver, sender: Sender, said: Said | string = {}): object {
  const rest = typeof said === "string" ? { text: { body: said } } : said;
  return about(number, { contacts: [contact(sender)], messages: [message(sender, rest)] });
}

/** One status item. */
export function status(
  wa: string,
  name: string,
  { at = ago(0), callback, ...rest }: { at?: number; callback?: string; [member: string]: unknown } = {},
) {
  return {
    id: wa,
    status: name,
    timestamp: String(at / 1000),
    ...(callback === undefined ? {} : { biz_opaque_callback_data: callback }),
    ...rest,
  };
}

/** A system message: this number is somebody else's name now. */
export function changedNumber(number: Receiver, from: string, to: string, at: number, more: object = {}): object {
  const system = { body: `${from} is ${to}`, type: "user_changed_number", wa_id: to, ...more };
  return about(number, { messages: [message({ wa: from }, { type: "system", system, at })] });
}

/** Hands bodies to the consumer, each as one queue message; fails the test when the batch is not settled. */
export async function receive(bodies: readonly object[], options: Parameters<typeof deliver>[2] = {}): Promise<void> {
  const result = await deliver("inbound", bodies.map(webhookJob), options);
  expect(result.retryBatch.retry).toBe(false);
  expect(result.retryMessages).toEqual([]);
}

/** The queue message of a body that came in on a connection's own address. */
export function jobOf(body: unknown, source: Partial<WebhookJob> = {}): WebhookJob {
  return { ...webhookJob({}), body: typeof body === "string" ? body : JSON.stringify(body), ...source } as WebhookJob;
}

export async function signature(body: string | Uint8Array<ArrayBuffer>, secret = APP_SECRET): Promise<string> {
  return `sha256=${toHex(await hmacSha256(secret, typeof body === "string" ? utf8(body) : body))}`;
}

/** One request to the app, in an environment whose queues keep what they get. */
export async function request(
  method: string,
  path: string,
  init: RequestInit = {},
  appEnv: Env = heldQueues().env,
): Promise<Response> {
  const ctx = createExecutionContext();
  const response = await api.fetch(new Request(`https://switchboard.test${path}`, { method, ...init }), appEnv, ctx);
  await waitOnExecutionContext(ctx);
  return response;
}

/** A signed POST of a text. */
export async function postSigned(
  body: string,
  { path = "/webhook", secret = APP_SECRET, appEnv }: { path?: string; secret?: string; appEnv?: Env } = {},
): Promise<Response> {
  const headers = { "X-Hub-Signature-256": await signature(body, secret) };
  return request("POST", path, { headers, body }, appEnv);
}

type Row = Record<string, unknown>;

async function rows(sql: string, ...params: unknown[]): Promise<Row[]> {
  return (
    await env.SHARD_0.prepare(sql)
      .bind(...params)
      .all<Row>()
  ).results;
}

/** What a workspace of shard 0 holds, read past the app. */
export function inboxOf(workspaceId: string) {
  return {
    messages: () =>
      rows(
        "SELECT * FROM messages WHERE workspace_id = ?1 ORDER BY conversation_id, at, received_at, position, id",
        workspaceId,
      ),
    /** Live contacts. */
    contacts: () =>
      rows("SELECT * FROM contacts WHERE workspace_id = ?1 AND merged_into IS NULL ORDER BY row_id", workspaceId),
    allContacts: () => rows("SELECT * FROM contacts WHERE workspace_id = ?1 ORDER BY row_id", workspaceId),
    identities: () =>
      rows("SELECT * FROM contact_identities WHERE workspace_id = ?1 ORDER BY kind, value", workspaceId),
    conversations: () =>
      rows("SELECT * FROM conversations WHERE workspace_id = ?1 AND merged_into IS NULL ORDER BY id", workspaceId),
    events: () => rows("SELECT * FROM webhook_events WHERE workspace_id = ?1 ORDER BY received_at, id", workspaceId),
    references: () =>
      rows("SELECT * FROM message_events WHERE workspace_id = ?1 ORDER BY target, kind, actor", workspaceId),
    totals: async () =>
      Object.fromEntries(
        (await rows("SELECT list, n FROM list_totals WHERE workspace_id = ?1", workspaceId)).map((row) => [
          row.list,
          row.n,
        ]),
      ),
  };
}

/** Counts that are kept must be counts that are true. */
export async function expectExactCounts(workspaceId: string): Promise<void> {
  const counted = await rows(
    `SELECT v.id, v.message_count, v.unread_count, v.last_message_id,
       (SELECT count(*) FROM messages m WHERE m.workspace_id = ?1 AND m.conversation_id = v.id) AS messages,
       (SELECT count(*) FROM messages m WHERE m.workspace_id = ?1 AND m.conversation_id = v.id AND m.origin = 'live' AND m.status = 'delivered') AS unread,
       (SELECT m.id FROM messages m WHERE m.workspace_id = ?1 AND m.conversation_id = v.id
        ORDER BY m.at DESC, m.received_at DESC, m.position DESC, m.id DESC LIMIT 1) AS newest
     FROM conversations v WHERE v.workspace_id = ?1`,
    workspaceId,
  );
  for (const row of counted) {
    expect(row.message_count, "messages of a thread").toBe(row.messages);
    expect(row.unread_count, "unread messages of a thread").toBe(row.unread);
  }
  const totals = await inboxOf(workspaceId).totals();
  const inbox = inboxOf(workspaceId);
  expect(totals.messages ?? 0).toBe((await inbox.messages()).length);
  expect(totals.contacts ?? 0).toBe((await inbox.contacts()).length);
  expect(totals.conversations ?? 0).toBe((await inbox.conversations()).length);
  expect(totals.webhook_events ?? 0).toBe((await inbox.events()).length);
}

/** Runs the merges that were ordered, until no more are. */
export async function runMerges(held: Map<string, { body: unknown }[]>): Promise<number> {
  const queue = held.get("BULK") ?? [];
  let runs = 0;
  while (queue.length > 0) {
    const jobs = queue.splice(0).filter(({ body }) => (body as { again: boolean }).again === false);
    for (const { body } of jobs) {
      const { env: merging, held: more } = heldQueues();
      const result = await deliver("bulk", [body], { env: merging });
      expect(result.retryBatch.retry).toBe(false);
      queue.push(...(more.get("BULK") ?? []));
      runs += 1;
    }
  }
  return runs;
}

/** A repeatable shuffle. */
export function shuffled<T>(list: readonly T[], seed: number): T[] {
  const copy = [...list];
  let state = seed || 1;
  for (let place = copy.length - 1; place > 0; place -= 1) {
    state = (state * 48_271) % 2_147_483_647;
    const other = state % (place + 1);
    [copy[place], copy[other]] = [copy[other] as T, copy[place] as T];
  }
  return copy;
}

/** Waits for something another isolate does. */
export function eventually<T>(check: () => Promise<T>): Promise<T> {
  return vi.waitFor(check, { timeout: 10_000, interval: 20 });
}
