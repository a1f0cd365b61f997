import { errors, jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { deriveKey, hmacSha256 } from "../platform/crypto";
import { AppError } from "../platform/errors";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";

/** A verification link is good for two days. */
const LINK_SECONDS = 48 * 3600;
const ISSUER = "switchboard";
const AUDIENCE = "switchboard-email";
const TIMEOUT = 5_000;

const claimsSchema = z.object({ sub: z.string(), email: z.string() });

/** The token of a link that proves an address: whoever holds it read the mail. */
export async function signEmailToken(rt: Runtime, userId: string, email: string): Promise<string> {
  const now = Math.floor(rt.clock() / 1000);
  return new SignJWT({ email })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setSubject(userId)
    .setIssuer(ISSUER)
    .setAudience(AUDIENCE)
    .setIssuedAt(now)
    .setExpirationTime(now + LINK_SECONDS)
    .sign(await deriveKey(rt.config.SECRET_KEY, "email"));
}

/** Whose address a link's token proves, or a 401. Links of before a rotation of the master secret stay good. */
export async function verifyEmailToken(rt: Runtime, token: string): Promise<{ userId: string; email: string }> {
  for (const master of [rt.config.SECRET_KEY, rt.config.SECRET_KEY_PREVIOUS]) {
    if (master === undefined) continue;
    try {
      const { payload } = await jwtVerify(token, await deriveKey(master, "email"), {
        algorithms: ["HS256"],
        issuer: ISSUER,
        audience: AUDIENCE,
        requiredClaims: ["exp", "sub"],
        currentDate: new Date(rt.clock()),
      });
      const claims = claimsSchema.safeParse(payload);
      if (claims.success) return { userId: claims.data.sub, email: claims.data.email };
      break;
    } catch (error) {
      if (!(error instanceof errors.JOSEError)) throw error;
    }
  }
  throw new AppError("unauthenticated", "The link is not valid or has expired");
}

/**
 * Hands the operator's mail hook a verification link to deliver: a POST of `{kind, to, name, url, token, expires_at}`,
 * signed in the Standard Webhooks form when `MAIL_HOOK_SECRET` is set. Answers whether the hook took it; the product
 * sends no mail itself, and without a hook accounts stay unverified (contract 21). `origin` is the deployment's own.
 */
export async function sendVerification(
  rt: Runtime,
  user: { id: string; email: string; name: string | null },
  origin: string,
): Promise<boolean> {
  const hook = rt.config.MAIL_HOOK_URL;
  if (hook === undefined) return false;
  const token = await signEmailToken(rt, user.id, user.email);
  const body = JSON.stringify({
    kind: "verify-email",
    to: user.email,
    name: user.name,
    // In the fragment: it stays out of logs and referrers.
    url: `${origin}/app/verify-email#${token}`,
    token,
    expires_at: new Date((Math.floor(rt.clock() / 1000) + LINK_SECONDS) * 1000).toISOString(),
  });
  try {
    const response = await rt.fetch(hook, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...(await signature(rt, body)) },
      body,
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT),
    });
    await response.body?.cancel();
    if (!response.ok) log("warn", "mail_hook.refused", { status: response.status });
    return response.ok;
  } catch (error) {
    // The account exists all the same; its owner can ask for the mail again.
    log("warn", "mail_hook.failed", errorFields(error));
    return false;
  }
}

/** https://www.standardwebhooks.com: HMAC over `id.timestamp.body`; a `whsec_` secret is base64 of the key. */
async function signature(rt: Runtime, body: string): Promise<Record<string, string>> {
  const secret = rt.config.MAIL_HOOK_SECRET;
  if (secret === undefined) return {};
  const id = rt.newId();
  const timestamp = String(Math.floor(rt.clock() / 1000));
  const key = secret.startsWith("whsec_") ? Uint8Array.from(atob(secret.slice(6)), (c) => c.charCodeAt(0)) : secret;
  const mac = await hmacSha256(key, `${id}.${timestamp}.${body}`);
  return {
    "webhook-id": id,
    "webhook-timestamp": timestamp,
    "webhook-signature": `v1,${btoa(String.fromCharCode(...mac))}`,
  };
}
