import { z } from "zod";
import type { AccountRecord, Accounts } from "./accounts";
import { GraphError } from "./graph-error";

/** Fetches an address of the app: through its binding in tests, over the network in development. */
export type Fetcher = (url: string, init: RequestInit) => Promise<Response>;

const overrideSchema = z.object({
  override_callback_uri: z.url({ protocol: /^https?$/ }),
  verify_token: z.string().min(1),
});

const subscriptionSchema = z.object({
  object: z.literal("whatsapp_business_account"),
  callback_url: z.url({ protocol: /^https?$/ }),
  verify_token: z.string().min(1),
  fields: z.union([z.string(), z.array(z.string())]).default("messages"),
});

export type Subscription = z.output<typeof subscriptionSchema>;

/** The GET with `hub.challenge` that proves an address; throws 2200 when the answer is not the challenge. */
async function challenge(fetcher: Fetcher, callback: string, verifyToken: string): Promise<void> {
  const expected = String(1_000_000_000 + Math.floor(Math.random() * 1_000_000_000));
  const url = new URL(callback);
  url.searchParams.set("hub.mode", "subscribe");
  url.searchParams.set("hub.challenge", expected);
  url.searchParams.set("hub.verify_token", verifyToken);
  let found = "no answer";
  try {
    const response = await fetcher(url.toString(), { redirect: "manual", signal: AbortSignal.timeout(10_000) });
    const text = await response.text();
    if (response.status === 200 && text === expected) return;
    found = `HTTP Status Code = ${response.status}`;
  } catch (error) {
    found = String(error);
  }
  throw new GraphError(2200, {
    message: `(#2200) Callback verification failed with the following errors: ${found}; the challenge was not returned`,
  });
}

export async function subscribeApp(fetcher: Fetcher, params: Record<string, unknown>): Promise<Subscription> {
  const parsed = subscriptionSchema.safeParse(params);
  if (!parsed.success) {
    throw new GraphError(100, {
      message: `(#100) The parameter ${String(parsed.error.issues[0]?.path[0])} is required.`,
    });
  }
  await challenge(fetcher, parsed.data.callback_url, parsed.data.verify_token);
  return parsed.data;
}

/** The override in a body: the proven one, or null when the body clears it. */
export async function provenOverride(fetcher: Fetcher, params: unknown): Promise<AccountRecord["override"]> {
  const given = z.looseObject({ override_callback_uri: z.string().optional() }).safeParse(params);
  if (!given.success || !given.data.override_callback_uri) return null;
  const parsed = overrideSchema.safeParse(params);
  if (!parsed.success) {
    throw new GraphError(100, { message: `(#100) Param ${String(parsed.error.issues[0]?.path[0])} is not valid.` });
  }
  await challenge(fetcher, parsed.data.override_callback_uri, parsed.data.verify_token);
  return parsed.data;
}

export function showSubscribedApps(accounts: Accounts, wabaId: string, token: string, appId: string): unknown {
  const { subscribed, override } = accounts.account(wabaId, token);
  if (!subscribed) return { data: [] };
  const app = { link: `https://www.facebook.com/games/?app_id=${appId}`, name: "Switchboard", id: appId };
  return {
    data: [
      {
        whatsapp_business_api_data: app,
        ...(override ? { override_callback_uri: override.override_callback_uri } : {}),
      },
    ],
  };
}
