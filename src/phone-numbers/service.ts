import { isoMillis } from "../platform/clock";
import { open, type SealContext, seal } from "../platform/crypto";
import type { Db } from "../platform/d1";
import { AppError } from "../platform/errors";
import { errorFields, log } from "../platform/log";
import { directory, type Runtime, shard, shardNumbers } from "../platform/runtime";
import type { Connection, NumberInfo, ProviderResult } from "../providers/provider";
import { providerFor } from "../providers/registry";
import { publishEvents } from "../realtime/publish";
import { reopenGate } from "./service-pipeline";
import {
  type NumberFacts,
  type PhoneNumber,
  pageShardNumbers,
  selectDefaultNumber,
  selectNumberByAnyId,
  updateFacts,
  updateNumber,
} from "./store";
import { updateProviderNumber } from "./store-directory";

export type { PhoneNumber } from "./store";

function tokenContext(workspaceId: string, id: string): SealContext {
  return { table: "phone_numbers", column: "access_token_sealed", workspaceId, rowId: id };
}

/** Seals a provider's token for one number: the text opens nowhere else. */
export function sealToken(rt: Runtime, workspaceId: string, id: string, token: string): Promise<string> {
  const keys = { current: rt.config.SECRET_KEY, previous: rt.config.SECRET_KEY_PREVIOUS };
  return seal(keys, tokenContext(workspaceId, id), token);
}

/**
 * What a provider call of this number needs, its token opened. Throws for a number without a token, which only a
 * deleted one is, and for a token sealed with a master secret that is gone.
 */
export async function openConnection(rt: Runtime, number: PhoneNumber): Promise<Connection> {
  if (number.accessTokenSealed === null) throw new Error("The phone number has no access token");
  const keys = { current: rt.config.SECRET_KEY, previous: rt.config.SECRET_KEY_PREVIOUS };
  return {
    provider: number.provider,
    providerNumberId: number.providerNumberId,
    businessId: number.businessId,
    accessToken: await open(keys, tokenContext(number.workspaceId, number.id), number.accessTokenSealed),
    phoneNumber: number.phoneNumber,
    apiBase: number.apiBase,
  };
}

/**
 * The live number a call means: our id or the provider's id of a number in this workspace; null asks for the default
 * one (set, else the oldest active). Answers null when there is none; the caller decides how that is refused, and
 * looks at `status`.
 */
export function resolveNumber(db: Db, workspaceId: string, id: string | null): Promise<PhoneNumber | null> {
  return id === null ? selectDefaultNumber(db, workspaceId) : selectNumberByAnyId(db, workspaceId, id);
}

/** The value of a management call; a refusal is a 400 in the provider's words, an outage a 502. */
export function accepted<T>(result: ProviderResult<T>): T {
  if (result.ok) return result.value;
  if (!result.refused) throw new AppError("provider_unavailable", result.reason);
  const { code, title, details } = result.error;
  throw new AppError("provider_refused", details === null ? title : `${title}: ${details}`, {
    extra: { provider_error: { code, title, details } },
  });
}

/** Shows a number's new state to whoever looks at the workspace. */
export async function announceNumber(rt: Runtime, db: Db, number: PhoneNumber): Promise<void> {
  const event = {
    type: "phone_number.updated" as const,
    phone_number_id: number.id,
    status: number.status,
    blocked_reason: number.blockedReason,
    at: isoMillis(number.updatedAt),
  };
  try {
    await publishEvents(rt, number.workspaceId, `number:${number.id}:${number.updatedAt}`, [event], db.bookmark);
  } catch (error) {
    // The row says it already; a browser that missed the event sees it with its next fetch.
    log("warn", "live.publish_failed", { workspace_id: number.workspaceId, ...errorFields(error) });
  }
}

/** What webhooks are routed by follows what the provider said: a business account that was not known, another number. */
export async function routeByFacts(rt: Runtime, number: PhoneNumber, info: NumberInfo): Promise<void> {
  const businessId = number.businessId === null && info.businessId !== null ? info.businessId : undefined;
  const phoneDigits = info.phoneNumber === number.phoneNumber ? undefined : info.phoneNumber.slice(1);
  await updateProviderNumber(directory(rt), number.id, { businessId, phoneDigits });
}

/**
 * Asks the provider about a number and stores what it says. A number whose sends waited because the provider refused
 * them gets its gate opened once the provider calls it connected. Throws `provider_refused`, `provider_unavailable`,
 * and `not_found` when the number was deleted meanwhile.
 */
export async function syncNumber(rt: Runtime, shardNumber: number, db: Db, number: PhoneNumber): Promise<PhoneNumber> {
  const connection = await openConnection(rt, number);
  const info = accepted(await providerFor(rt, number.provider).describeNumber(connection));
  const facts = { workspaceId: number.workspaceId, id: number.id, info };
  const synced = await updateNumber(db, number, { set: {}, facts, isDefault: null }, rt.clock());
  if (!synced) throw new AppError("not_found", "Resource not found");
  await routeByFacts(rt, number, info);
  if (number.blockedReason !== null && info.status === "active") {
    await reopenGate(rt, shardNumber, number);
    return { ...synced, blockedReason: null };
  }
  if (synced.status !== number.status) await announceNumber(rt, db, synced);
  return synced;
}

/** Numbers read and written at a time by the nightly sync, and calls made to the provider at once. */
const SYNC_PAGE = 100;
const SYNC_CALLS = 5;

/** Tokens that end within this time are warned of. */
const WARN_BEFORE = 7 * 86_400_000;

/**
 * Cron, nightly: what the provider says of every number. One that the provider refuses, or does not answer for, stays
 * as it is until somebody looks: sending tells its owner. Two round trips per page of 100.
 */
export async function syncAllNumbers(rt: Runtime): Promise<void> {
  for (const { workspaceId, phoneNumberId, tokenExpiresAt } of await expiringTokens(rt)) {
    const days = Math.floor((tokenExpiresAt - rt.clock()) / 86_400_000);
    log("warn", "token.expiring", { workspace_id: workspaceId, phone_number_id: phoneNumberId, days });
  }
  const counts = { synced: 0, refused: 0, unanswered: 0 };
  for (const shardNumber of shardNumbers(rt.env)) {
    const db = shard(rt, shardNumber);
    for await (const page of pagesOfShard(db)) {
      const facts: NumberFacts[] = [];
      for (let at = 0; at < page.length; at += SYNC_CALLS) {
        const wave = page.slice(at, at + SYNC_CALLS);
        const answers = await Promise.all(wave.map((number) => describe(rt, number)));
        for (const [place, answer] of answers.entries()) {
          const number = wave[place];
          if (!number) continue;
          if (answer.ok) {
            facts.push({ workspaceId: number.workspaceId, id: number.id, info: answer.value });
            await routeByFacts(rt, number, answer.value);
          }
          counts[answer.ok ? "synced" : answer.refused ? "refused" : "unanswered"] += 1;
        }
      }
      await db.batch(updateFacts(facts, rt.clock()));
    }
  }
  log("info", "numbers.synced", counts);
}

async function* pagesOfShard(db: Db): AsyncGenerator<PhoneNumber[]> {
  let after = { workspaceId: "", id: "" };
  for (;;) {
    const page = await pageShardNumbers(db, after, SYNC_PAGE);
    const last = page.at(-1);
    if (!last) return;
    yield page;
    after = { workspaceId: last.workspaceId, id: last.id };
  }
}

/** One number whose token cannot be opened any more must not keep the others from their turn. */
async function describe(rt: Runtime, number: PhoneNumber): Promise<ProviderResult<NumberInfo>> {
  try {
    return await providerFor(rt, number.provider).describeNumber(await openConnection(rt, number));
  } catch (error) {
    log("error", "number.sync_failed", {
      workspace_id: number.workspaceId,
      phone_number_id: number.id,
      ...errorFields(error),
    });
    return { ok: false, refused: false, reason: "The number could not be asked about" };
  }
}

export interface ExpiringToken {
  shard: number;
  workspaceId: string;
  phoneNumberId: string;
  tokenExpiresAt: number;
}

/** Tokens of live numbers that end within `within` ms, or have ended, over all shards. */
export async function expiringTokens(rt: Runtime, within = WARN_BEFORE): Promise<ExpiringToken[]> {
  const until = rt.clock() + within;
  const expiring: ExpiringToken[] = [];
  for (const shardNumber of shardNumbers(rt.env)) {
    for await (const page of pagesOfShard(shard(rt, shardNumber))) {
      for (const { workspaceId, id, tokenExpiresAt } of page) {
        if (tokenExpiresAt === null || tokenExpiresAt > until) continue;
        expiring.push({ shard: shardNumber, workspaceId, phoneNumberId: id, tokenExpiresAt });
      }
    }
  }
  return expiring;
}
