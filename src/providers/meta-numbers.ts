import { z } from "zod";
import { requireSetting } from "../platform/config";
import type { Runtime } from "../platform/runtime";
import { callGraph } from "./graph";
import { resultOf } from "./meta-results";
import { messageLimitOf } from "./meta-tiers";
import type { Connection, NumberInfo, ProviderResult } from "./provider";

/** Business accounts of a token that are searched for a number; a token of an agency may see many. */
const MAX_ACCOUNTS_SEARCHED = 10;

/** Versions before v24.0 do not know the field that replaced `messaging_limit_tier`, and refuse to be asked for it. */
function limitField(version: string): string {
  const major = Number(/^v(\d+)/.exec(version)?.[1]);
  return major >= 24 ? "whatsapp_business_manager_messaging_limit" : "messaging_limit_tier";
}

const numberSchema = z.object({
  display_phone_number: z.string().min(1),
  verified_name: z.string().nullish(),
  quality_rating: z.string().nullish(),
  status: z.string().nullish(),
  throughput: z
    .object({ level: z.string().min(1) })
    .optional()
    .catch(undefined),
  whatsapp_business_manager_messaging_limit: z.unknown().optional(),
  messaging_limit_tier: z.unknown().optional(),
});

/**
 * Everything that is kept of a number, and with it the proof that the token works for it. What the app's own
 * settings are needed for (the business account, the token's end) is left out where they are missing.
 */
export async function describeMetaNumber(rt: Runtime, connection: Connection): Promise<ProviderResult<NumberInfo>> {
  const fields = ["display_phone_number", "verified_name", "quality_rating", "status", "throughput"];
  const [answer, token] = await Promise.all([
    callGraph(rt, {
      method: "GET",
      path: [connection.providerNumberId],
      query: { fields: [...fields, limitField(rt.config.WHATSAPP_API_VERSION)].join(",") },
      accessToken: connection.accessToken,
    }),
    inspectToken(rt, connection.accessToken),
  ]);
  const number = resultOf(answer, (body) => numberSchema.safeParse(body).data);
  if (!number.ok) return number;
  const businessId = connection.businessId ?? (await findBusiness(rt, connection, token?.businessIds ?? []));
  return { ok: true, value: numberInfo(number.value, businessId, token?.expiresAt) };
}

function numberInfo(
  number: z.output<typeof numberSchema>,
  businessId: string | null,
  tokenExpiresAt: number | null | undefined,
): NumberInfo {
  const limit = number.whatsapp_business_manager_messaging_limit ?? number.messaging_limit_tier;
  return {
    phoneNumber: `+${number.display_phone_number.replaceAll(/\D/g, "")}`,
    verifiedName: number.verified_name ?? null,
    qualityRating: qualityOf(number.quality_rating),
    messageLimit: messageLimitOf(limit) ?? null,
    tier: number.throughput?.level ?? "STANDARD",
    status: metaNumberStatus(number.status ?? null),
    providerStatus: number.status ?? null,
    businessId,
    tokenExpiresAt,
  };
}

function qualityOf(rating: string | null | undefined): NumberInfo["qualityRating"] {
  return rating === "GREEN" || rating === "YELLOW" || rating === "RED" ? rating : "UNKNOWN";
}

/** CONNECTED sends; PENDING and UNVERIFIED may one day; anything else (BANNED, MIGRATED, …) does not (contract 13). */
export function metaNumberStatus(status: string | null): NumberInfo["status"] {
  switch (status) {
    case "CONNECTED":
      return "active";
    case "PENDING":
    case "UNVERIFIED":
      return "pending";
    default:
      return "disabled";
  }
}

const debugSchema = z.object({
  data: z.object({
    is_valid: z.boolean().optional(),
    expires_at: z.number().optional(),
    granular_scopes: z
      .array(z.object({ scope: z.string(), target_ids: z.array(z.coerce.string()).optional() }))
      .optional()
      .catch(undefined),
  }),
});

interface TokenFacts {
  /** ms; null: never. */
  expiresAt: number | null | undefined;
  businessIds: string[];
}

/** What the app may learn of a token; null without the app's settings, or when Meta does not say. Never a refusal. */
async function inspectToken(rt: Runtime, token: string): Promise<TokenFacts | null> {
  const { META_APP_ID: id, META_APP_SECRET: secret } = rt.config;
  if (id === undefined || secret === undefined) return null;
  const answer = await callGraph(rt, {
    method: "GET",
    path: ["debug_token"],
    query: { input_token: token },
    accessToken: `${id}|${secret}`,
    secrets: [token, secret],
  });
  if (answer.kind !== "ok") return null;
  const facts = debugSchema.safeParse(answer.body);
  if (!facts.success || facts.data.data.is_valid === false) return null;
  const { expires_at: expires, granular_scopes: scopes } = facts.data.data;
  const management = (scopes ?? []).filter((scope) => scope.scope.startsWith("whatsapp_business_"));
  return {
    expiresAt: expires === undefined ? undefined : expires === 0 ? null : expires * 1000,
    businessIds: [...new Set(management.flatMap((scope) => scope.target_ids ?? []))],
  };
}

const numbersSchema = z.object({ data: z.array(z.object({ id: z.coerce.string() })) });

/** Which of the token's business accounts holds the number; the only one needs no asking. */
async function findBusiness(rt: Runtime, connection: Connection, candidates: string[]): Promise<string | null> {
  if (candidates.length <= 1) return candidates[0] ?? null;
  for (const businessId of candidates.slice(0, MAX_ACCOUNTS_SEARCHED)) {
    const answer = await callGraph(rt, {
      method: "GET",
      path: [businessId, "phone_numbers"],
      query: { fields: "id", limit: "100" },
      accessToken: connection.accessToken,
    });
    const numbers = answer.kind === "ok" ? numbersSchema.safeParse(answer.body).data : undefined;
    if (numbers?.data.some((number) => number.id === connection.providerNumberId)) return businessId;
  }
  return null;
}

/** Subscribes the app to the business account's webhooks; Meta answers a repetition the same. */
export async function subscribeMetaApp(rt: Runtime, connection: Connection): Promise<ProviderResult<null>> {
  if (connection.businessId === null) {
    return { ok: false, refused: false, reason: "The business account of the number is not known" };
  }
  const answer = await callGraph(rt, {
    method: "POST",
    path: [connection.businessId, "subscribed_apps"],
    accessToken: connection.accessToken,
  });
  return resultOf(answer, () => null);
}

const exchangedSchema = z.object({ access_token: z.string().min(1), expires_in: z.number().positive().optional() });

/**
 * A long-lived token (about 60 days) for a short-lived one. A token that never ends comes back as it is. Throws
 * `not_configured` naming the setting that is missing: only the app itself may exchange.
 */
export async function exchangeMetaToken(
  rt: Runtime,
  connection: Connection,
): Promise<ProviderResult<{ accessToken: string; expiresAt: number | null }>> {
  const id = requireSetting(rt.config, "META_APP_ID");
  const secret = requireSetting(rt.config, "META_APP_SECRET");
  const facts = await inspectToken(rt, connection.accessToken);
  if (facts?.expiresAt === null) return { ok: true, value: { accessToken: connection.accessToken, expiresAt: null } };
  // Meta takes these in the query only.
  const answer = await callGraph(rt, {
    method: "GET",
    path: ["oauth", "access_token"],
    query: {
      grant_type: "fb_exchange_token",
      client_id: id,
      client_secret: secret,
      fb_exchange_token: connection.accessToken,
    },
    accessToken: null,
    secrets: [connection.accessToken, secret],
  });
  return resultOf(answer, (body) => {
    const token = exchangedSchema.safeParse(body).data;
    if (!token) return undefined;
    const expiresAt = token.expires_in === undefined ? null : rt.clock() + token.expires_in * 1000;
    return { accessToken: token.access_token, expiresAt };
  });
}
