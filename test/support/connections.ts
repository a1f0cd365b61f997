import { expect } from "vitest";
import type { ProviderName } from "../../src/providers/provider";
import { newWorkspace, type TestWorkspace } from "./identity";
import { freshProviderNumberId } from "./numbers";

export const PROVIDERS = ["meta", "360dialog", "infobip"] as const satisfies readonly ProviderName[];

/** A number as the API shows it. */
export interface Connected {
  id: string;
  provider: ProviderName;
  phone_number: string;
  phone_number_id: string;
  business_id: string | null;
  status: string;
  webhook_url: string;
  last_webhook_at: string | null;
  blocked_reason: string | null;
  subscription: { subscribed: boolean; reason: string | null };
}

/** What somebody enters to connect a number of a provider. `digits` is the number, and its id. */
export function registrationOf(provider: ProviderName, digits: string): Record<string, unknown> {
  switch (provider) {
    case "meta":
      return { provider, phone_number_id: digits, access_token: `EAA${digits}` };
    case "360dialog":
      return { provider, phone_number: `+${digits}`, access_token: `d360-${digits}` };
    case "infobip":
      return {
        provider,
        phone_number: `+${digits}`,
        access_token: `ib-${digits}`,
        base_url: "https://abc12.api.infobip.com",
      };
  }
}

/** Connects a number through the API, as its owner does. */
export async function connect(
  provider: ProviderName,
  given?: TestWorkspace,
): Promise<{ workspace: TestWorkspace; number: Connected }> {
  const workspace = given ?? (await newWorkspace());
  const body = { workspace_id: workspace.workspaceId, ...registrationOf(provider, freshProviderNumberId()) };
  const response = await workspace.call("POST", "/api/phone-numbers", body);
  const text = await response.text();
  expect(response.status, text).toBe(201);
  return { workspace, number: JSON.parse(text) };
}
