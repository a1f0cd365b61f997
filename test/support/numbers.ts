import { env } from "cloudflare:workers";
import { type PhoneNumber, sealToken } from "../../src/phone-numbers/service";
import { insertNumber } from "../../src/phone-numbers/store";
import { insertProviderNumber } from "../../src/phone-numbers/store-directory";
import { createRuntime, directory, shard } from "../../src/platform/runtime";

let counter = 0;

/** A provider number id nobody else in this test file has: digits, as Meta's. */
export function freshProviderNumberId(): string {
  counter += 1;
  return `10${String(Date.now()).slice(-9)}${String(counter).padStart(4, "0")}`;
}

/**
 * An active number in a workspace, of Meta unless another provider is named, written straight into both databases. Its token is "sandbox-token" and its
 * number is "+" and the provider's id, as the sandbox shows it (contract 32).
 */
export async function registerNumber(
  workspace: { workspaceId: string; shard?: number },
  options: {
    provider_number_id?: string;
    business_id?: string;
    phone_number?: string;
    access_token?: string;
    status?: PhoneNumber["status"];
    is_default?: boolean;
    provider?: PhoneNumber["provider"];
  } = {},
): Promise<PhoneNumber> {
  const rt = createRuntime(env);
  const id = rt.newId();
  const now = rt.clock();
  const providerNumberId = options.provider_number_id ?? freshProviderNumberId();
  const shardNumber = workspace.shard ?? 0;
  const phoneNumber = options.phone_number ?? `+${providerNumberId}`;
  const provider = options.provider ?? "meta";
  const businessId = options.business_id ?? `2${providerNumberId}`;
  const row: PhoneNumber = {
    workspaceId: workspace.workspaceId,
    id,
    provider,
    providerNumberId,
    businessId,
    portfolioId: null,
    phoneNumber,
    displayName: "Test number",
    verifiedName: "Test number",
    qualityRating: "GREEN",
    messageLimit: 1000,
    tier: "STANDARD",
    status: options.status ?? "active",
    providerStatus: "CONNECTED",
    disabledByUs: options.status === "disabled",
    isDefault: options.is_default ?? false,
    accessTokenSealed: await sealToken(rt, workspace.workspaceId, id, options.access_token ?? "sandbox-token"),
    tokenExpiresAt: null,
    blockedReason: null,
    blockedAt: null,
    lastStatusAt: null,
    lastWebhookAt: null,
    verifiedAt: now,
    syncedAt: now,
    createdAt: now,
    updatedAt: now,
    deletedAt: null,
    apiBase: null,
    webhookOrigin: "https://switchboard.test",
  };
  await insertProviderNumber(directory(rt), {
    provider,
    providerNumberId,
    workspaceId: workspace.workspaceId,
    shard: shardNumber,
    phoneNumberId: id,
    businessId,
    phoneDigits: phoneNumber.slice(1),
    appSecretSealed: null,
    createdAt: now,
    webhookVersion: 1,
    webhookRotatedAt: null,
  });
  await insertNumber(shard(rt, shardNumber), row);
  return row;
}
