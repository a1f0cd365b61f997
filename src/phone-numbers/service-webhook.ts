/** A number's own webhook address: where its provider posts, and the secret by which it proves itself there. */
import type { WorkspaceScope } from "../auth/guard";
import { deriveKey, hmacSha256, safeEqual, toBase64Url } from "../platform/crypto";
import { AppError } from "../platform/errors";
import { directory, type Runtime } from "../platform/runtime";
import type { Connection, WebhookTarget } from "../providers/provider";
import { providerFor } from "../providers/registry";
import { openConnection, type PhoneNumber } from "./service";
import { updateWebhookOrigin } from "./store-account";
import { rotateWebhook, selectWebhookVersion } from "./store-directory";

export { WEBHOOK_SECRET_HEADER } from "../providers/dialog360-numbers";

const PREFIX = "whs";

/** How long the secret before the current one is still taken, in ms: what a provider repeats may carry it. */
export const ROTATION_GRACE = 86_400_000;

async function secretOf(master: string, phoneNumberId: string, version: number): Promise<string> {
  const key = await deriveKey(master, "connection");
  const mark = await hmacSha256(key, `webhook\n${phoneNumberId}\n${version}`);
  return `${PREFIX}_${version}_${toBase64Url(mark)}`;
}

/** The webhook secret of a connection in one version: derived, never stored (contract 24). */
export function webhookSecret(rt: Runtime, phoneNumberId: string, version: number): Promise<string> {
  return secretOf(rt.config.SECRET_KEY, phoneNumberId, version);
}

/**
 * The version of which a connection's secret this is; null when it is none of this connection's. Reads nothing: whether
 * that version still counts is decided where the number is looked up anyway. Constant time; a secret of the master
 * secret that is being rotated out counts too.
 */
export async function verifyWebhookSecret(rt: Runtime, phoneNumberId: string, given: string): Promise<number | null> {
  const version = Number(/^whs_([1-9]\d{0,8})_/.exec(given)?.[1] ?? Number.NaN);
  if (Number.isNaN(version)) return null;
  for (const master of [rt.config.SECRET_KEY, rt.config.SECRET_KEY_PREVIOUS]) {
    if (master !== undefined && (await safeEqual(await secretOf(master, phoneNumberId, version), given)))
      return version;
  }
  return null;
}

/** Where a number's provider posts its webhooks. */
export function webhookUrl(origin: string, number: Pick<PhoneNumber, "provider" | "id">): string {
  return `${origin}/webhooks/${number.provider}/${number.id}`;
}

/** Address and proof of a number's webhooks, as its provider is told them. */
export async function webhookTarget(
  rt: Runtime,
  origin: string,
  number: Pick<PhoneNumber, "provider" | "id">,
  version: number,
): Promise<WebhookTarget> {
  return { url: webhookUrl(origin, number), user: number.id, secret: await webhookSecret(rt, number.id, version) };
}

/** Whether the provider will send the number's webhooks, and its reason if not: not fatal. */
export interface Subscription {
  subscribed: boolean;
  reason: string | null;
}

/** Asks a provider for a number's webhooks. A refusal is told, not thrown. */
export async function subscribeNumber(
  rt: Runtime,
  connection: Connection,
  target: WebhookTarget,
): Promise<Subscription> {
  const answer = await providerFor(rt, connection.provider).subscribe(connection, target);
  return { subscribed: answer.ok, reason: answer.ok ? null : answer.refused ? answer.error.title : answer.reason };
}

/**
 * Subscribes a number's webhooks again, or configures its address anew at the provider; `rotate` gives it a new secret
 * first. The one before is taken for a day more, because what the provider repeats may carry it.
 */
export async function configureWebhook(
  scope: WorkspaceScope,
  number: PhoneNumber,
  options: { origin: string; rotate: boolean },
): Promise<{ number: PhoneNumber; subscription: Subscription; target: WebhookTarget }> {
  const { rt, db } = scope;
  const connection = await openConnection(rt, number);
  const versions = directory(rt);
  const version = options.rotate
    ? await rotateWebhook(versions, number.id, rt.clock())
    : await selectWebhookVersion(versions, number.id);
  if (version === null) throw new AppError("not_found", "Resource not found");
  await updateWebhookOrigin(db, number, options.origin, rt.clock());
  const target = await webhookTarget(rt, options.origin, number, version);
  const subscription = await subscribeNumber(rt, connection, target);
  return { number: { ...number, webhookOrigin: options.origin }, subscription, target };
}
