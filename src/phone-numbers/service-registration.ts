/** Connecting a number, changing its connection, and letting it go. */
import type { WorkspaceScope } from "../auth/guard";
import { AppError, invalidField } from "../platform/errors";
import { directory, type Runtime, shard } from "../platform/runtime";
import { infobipBase } from "../providers/infobip-http";
import type { Connection } from "../providers/provider";
import { providerFor } from "../providers/registry";
import type { NumberChange, Registration } from "./schema";
import { accepted, announceNumber, openConnection, routeByFacts, sealToken } from "./service";
import { reopenGate, sealAppSecret } from "./service-pipeline";
import { type Subscription, subscribeNumber, webhookTarget } from "./service-webhook";
import {
  insertNumber,
  isNumberLive,
  type NumberUpdate,
  type PhoneNumber,
  selectEarlierNumber,
  softDeleteNumber,
  updateNumber,
} from "./store";
import {
  deleteProviderNumber,
  insertProviderNumber,
  isWorkspaceLive,
  type ProviderNumber,
  replaceProviderNumber,
  selectProviderNumber,
  selectWebhookVersion,
  updateProviderNumber,
} from "./store-directory";

/** A claim without a live number after this long was left behind by a crash: the number is free. */
const ABANDONED_AFTER = 60_000;

export interface Registered {
  number: PhoneNumber;
  subscription: Subscription;
}

/**
 * Connects a number: the provider says whether the credentials are good for it, the directory whether it is free, in
 * that order, so that nobody learns of a number they have no token for. A number that was deleted here comes back under
 * its old id. `origin` is where its provider finds this deployment. Throws `provider_refused`, `provider_unavailable`,
 * `number_in_use`, and 422 for an id that is not the one the credentials are for.
 */
export async function registerNumber(scope: WorkspaceScope, input: Registration, origin: string): Promise<Registered> {
  const { rt, db, workspaceId } = scope;
  const { provider: name, access_token: accessToken } = input;
  const given = givenId(input);
  if (given !== null) refuseLive(await selectEarlierNumber(db, workspaceId, name, given));
  const provider = providerFor(rt, name);
  const asked: Connection = {
    provider: name,
    providerNumberId: given ?? "",
    businessId: input.business_id ?? null,
    accessToken,
    phoneNumber: input.phone_number ?? null,
    apiBase: input.base_url === undefined ? null : infobipBase(input.base_url),
  };
  const info = accepted(await provider.describeNumber(asked));
  const providerNumberId = info.providerNumberId ?? asked.providerNumberId;
  if (given !== null && given !== providerNumberId) {
    throw invalidField(["body", "phone_number_id"], `The key is for another number, ${providerNumberId}`);
  }
  const connection = { ...asked, providerNumberId, businessId: info.businessId };
  const earlier = await selectEarlierNumber(db, workspaceId, name, providerNumberId);
  refuseLive(earlier);
  const now = rt.clock();
  const claim: ProviderNumber = {
    provider: name,
    providerNumberId,
    workspaceId,
    shard: scope.membership.shard,
    phoneNumberId: earlier?.id ?? rt.newId(),
    businessId: info.businessId,
    phoneDigits: info.phoneNumber.slice(1),
    appSecretSealed: null,
    createdAt: now,
    webhookVersion: 1,
    webhookRotatedAt: null,
  };
  const id = await claimNumber(rt, claim);
  const number: PhoneNumber = {
    workspaceId,
    id,
    provider: name,
    providerNumberId,
    businessId: info.businessId,
    portfolioId: null,
    phoneNumber: info.phoneNumber,
    displayName: input.display_name ?? info.verifiedName ?? info.phoneNumber,
    verifiedName: info.verifiedName,
    qualityRating: info.qualityRating,
    messageLimit: info.messageLimit,
    tier: info.tier,
    status: info.status,
    providerStatus: info.providerStatus,
    disabledByUs: false,
    isDefault: false,
    accessTokenSealed: await sealToken(rt, workspaceId, id, accessToken),
    tokenExpiresAt: info.tokenExpiresAt ?? null,
    blockedReason: null,
    blockedAt: null,
    lastStatusAt: null,
    lastWebhookAt: null,
    verifiedAt: info.status === "active" ? now : null,
    syncedAt: now,
    createdAt: now,
    updatedAt: now,
    deletedAt: null,
    apiBase: connection.apiBase ?? null,
    webhookOrigin: origin,
  };
  if (!(await insertNumber(db, number))) throw inUse(id);
  await updateProviderNumber(directory(rt), id, {
    // Of a claim that was there already.
    businessId: id === claim.phoneNumberId ? undefined : claim.businessId,
    phoneDigits: id === claim.phoneNumberId ? undefined : claim.phoneDigits,
    appSecretSealed:
      input.app_secret === undefined ? undefined : await sealAppSecret(rt, workspaceId, id, input.app_secret),
  });
  // Its gate may still be closed from an earlier life.
  if (earlier) await reopenGate(rt, scope.membership.shard, number);
  const version = (await selectWebhookVersion(directory(rt), id)) ?? claim.webhookVersion;
  const subscription = await subscribeNumber(rt, connection, await webhookTarget(rt, origin, number, version));
  await announceNumber(rt, db, number);
  return { number, subscription };
}

/** The provider's id as the caller knows it: Infobip's is the number itself. */
function givenId(input: Registration): string | null {
  if (input.phone_number_id !== undefined) return input.phone_number_id;
  return input.provider === "infobip" && input.phone_number !== undefined ? input.phone_number.slice(1) : null;
}

function refuseLive(earlier: PhoneNumber | null): void {
  if (earlier && earlier.deletedAt === null) throw inUse(earlier.id);
}

function inUse(id: string | null): AppError {
  return new AppError("number_in_use", "The phone number is registered already", id === null ? {} : { extra: { id } });
}

/**
 * Claims the provider's number in the directory; answers the id its row must have. The claim and the row live in two
 * databases, and a crash may come between: a claim of our own workspace is taken up under its id, so that two calls
 * at once make one row; a foreign one only when nothing stands behind it any more.
 */
async function claimNumber(rt: Runtime, claim: ProviderNumber): Promise<string> {
  const db = directory(rt);
  if (await insertProviderNumber(db, claim)) return claim.phoneNumberId;
  const holder = await selectProviderNumber(db, claim.provider, claim.providerNumberId);
  if (holder?.workspaceId === claim.workspaceId) return holder.phoneNumberId;
  if (holder && (await isHeld(rt, holder))) throw inUse(null);
  if (!(await replaceProviderNumber(db, claim, holder?.phoneNumberId ?? ""))) throw inUse(null);
  return claim.phoneNumberId;
}

/** Whether a workspace has this number, or is about to: its row may be a moment away. */
async function isHeld(rt: Runtime, holder: ProviderNumber): Promise<boolean> {
  if (!(await isWorkspaceLive(directory(rt), holder.workspaceId))) return false;
  if (holder.createdAt > rt.clock() - ABANDONED_AFTER) return true;
  return isNumberLive(shard(rt, holder.shard), holder.workspaceId, holder.phoneNumberId);
}

/**
 * Changes a number. A new token is tried at the provider first, and opens the gate if the old one had closed it.
 * Throws `provider_refused`, `provider_unavailable`, and `not_found` when the number was deleted meanwhile.
 */
export async function changeNumber(
  scope: WorkspaceScope,
  number: PhoneNumber,
  change: NumberChange,
): Promise<PhoneNumber> {
  const { rt, db, workspaceId } = scope;
  const provider = providerFor(rt, number.provider);
  const set: NumberUpdate = { displayName: change.display_name };
  const info =
    change.access_token === undefined
      ? null
      : accepted(
          await provider.describeNumber({
            provider: number.provider,
            providerNumberId: number.providerNumberId,
            businessId: number.businessId,
            accessToken: change.access_token,
            phoneNumber: number.phoneNumber,
            apiBase: number.apiBase,
          }),
        );
  if (info?.providerNumberId !== undefined && info.providerNumberId !== number.providerNumberId) {
    throw invalidField(["body", "access_token"], `The key is for another number, ${info.providerNumberId}`);
  }
  if (change.access_token !== undefined && info) {
    set.accessTokenSealed = await sealToken(rt, workspaceId, number.id, change.access_token);
    // The end of the old token says nothing of the new one.
    set.tokenExpiresAt = info.tokenExpiresAt ?? null;
  }
  if (change.status !== undefined) {
    set.disabledByUs = change.status === "disabled";
    set.status = set.disabledByUs ? "disabled" : provider.statusOf(number.providerStatus);
  }
  const facts = info && { workspaceId, id: number.id, info };
  const changed = await updateNumber(db, number, { set, facts, isDefault: change.is_default ?? null }, rt.clock());
  if (!changed) throw new AppError("not_found", "Resource not found");
  if (info) await routeByFacts(rt, number, info);
  if (change.app_secret !== undefined) {
    const appSecretSealed = change.app_secret && (await sealAppSecret(rt, workspaceId, number.id, change.app_secret));
    await updateProviderNumber(directory(rt), number.id, { appSecretSealed });
  }
  if (info) return reopened(scope, changed);
  if (changed.status !== number.status) await announceNumber(rt, db, changed);
  return changed;
}

/** After a token that works: what waited behind the old one may go. */
async function reopened(scope: WorkspaceScope, number: PhoneNumber): Promise<PhoneNumber> {
  await reopenGate(scope.rt, scope.membership.shard, number);
  return { ...number, blockedReason: null, blockedAt: null };
}

/**
 * Exchanges the number's token for a long-lived one. A token that never ends stays. Throws `not_configured` without
 * the app's settings, `provider_refused`, `provider_unavailable`, `not_found`.
 */
export async function exchangeNumberToken(scope: WorkspaceScope, number: PhoneNumber): Promise<PhoneNumber> {
  const { rt, db } = scope;
  const connection = await openConnection(rt, number);
  const token = accepted(await providerFor(rt, number.provider).exchangeToken(connection));
  const set: NumberUpdate = {
    tokenExpiresAt: token.expiresAt,
    accessTokenSealed:
      token.accessToken === connection.accessToken
        ? undefined
        : await sealToken(rt, number.workspaceId, number.id, token.accessToken),
  };
  const changed = await updateNumber(db, number, { set, facts: null, isDefault: null }, rt.clock());
  if (!changed) throw new AppError("not_found", "Resource not found");
  return set.accessTokenSealed === undefined ? changed : reopened(scope, changed);
}

/**
 * Deletes a number softly and frees it at the provider's id. A crash between the two leaves a claim without a number,
 * which the next registration takes over.
 */
export async function removeNumber(scope: WorkspaceScope, number: PhoneNumber): Promise<void> {
  const { rt, db } = scope;
  const now = rt.clock();
  if (!(await softDeleteNumber(db, number.workspaceId, number.id, now))) {
    throw new AppError("not_found", "Resource not found");
  }
  await deleteProviderNumber(directory(rt), number.id);
  await announceNumber(rt, db, { ...number, status: "disabled", updatedAt: now });
}
