import type { Clock, Storage } from "../state/storage";
import type { Accounts } from "./accounts";
import { GraphError } from "./graph-error";
import { checkToken } from "./tokens";

const SCOPES = ["whatsapp_business_management", "whatsapp_business_messaging", "business_management"];

/** `GET /oauth/access_token`: a code, a token or the app's own credentials for a token. */
export function accessToken(
  storage: Storage,
  accounts: Accounts,
  appSecret: string,
  params: Record<string, unknown>,
): Record<string, unknown> {
  const { client_id: clientId, client_secret: secret } = params;
  if (typeof clientId !== "string" || !/^\d+$/.test(clientId)) {
    throw new GraphError(101, { message: "Missing client_id parameter." });
  }
  if (secret !== appSecret) throw new GraphError(1, { message: "Error validating client secret." });
  if (params.grant_type === "client_credentials") {
    return { access_token: `${clientId}|${crypto.randomUUID().replaceAll("-", "")}`, token_type: "bearer" };
  }
  if (params.grant_type === "fb_exchange_token") return exchange(accounts, params.fb_exchange_token);
  const code = params.code;
  if (typeof code !== "string" || code === "") throw new GraphError(100, { message: "Missing authorization code" });
  if (code.includes("EXPIRED")) {
    throw new GraphError(100, { message: "This authorization code has expired.", subcode: 36007 });
  }
  const key = `code:${code}`;
  if (storage.kv.get(key))
    throw new GraphError(100, { message: "This authorization code has been used.", subcode: 36009 });
  storage.kv.put(key, true);
  const { token } = accounts.issueToken(null);
  return { access_token: token, token_type: "bearer" };
}

/** A token that never expires comes back as it is, without `expires_in`. */
function exchange(accounts: Accounts, given: unknown): Record<string, unknown> {
  const token = checkToken(typeof given === "string" ? given : null);
  const record = accounts.token(token);
  if (record.expiresAt === null) return { access_token: token, token_type: "bearer" };
  const issued = accounts.issueToken(record.wabaId);
  return { access_token: issued.token, token_type: "bearer", expires_in: issued.expiresIn };
}

/** `GET /debug_token`: what a token may do and which business accounts it reaches. A bad one is described, not refused. */
export function debugToken(accounts: Accounts, clock: Clock, appId: string, inputToken: unknown): unknown {
  if (typeof inputToken !== "string" || inputToken === "") {
    throw new GraphError(100, { message: "(#100) The parameter input_token is required." });
  }
  try {
    checkToken(inputToken);
  } catch (error) {
    if (!(error instanceof GraphError) || error.code !== 190) throw error;
    return {
      data: {
        app_id: appId,
        type: "USER",
        is_valid: false,
        scopes: [],
        error: { code: error.code, message: error.message },
      },
    };
  }
  const { wabaId, issuedAt, expiresAt } = accounts.token(inputToken);
  return {
    data: {
      app_id: appId,
      type: expiresAt === null ? "SYSTEM_USER" : "USER",
      application: "Switchboard",
      data_access_expires_at: 0,
      expires_at: expiresAt === null ? 0 : Math.floor(expiresAt / 1000),
      is_valid: expiresAt === null || expiresAt > clock(),
      issued_at: Math.floor(issuedAt / 1000),
      scopes: SCOPES,
      granular_scopes: SCOPES.slice(0, 2).map((scope) => ({ scope, target_ids: [wabaId] })),
      user_id: "122100000000000001",
    },
  };
}
