import { errors, jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { deriveKey } from "../platform/crypto";
import { AppError } from "../platform/errors";
import type { Runtime } from "../platform/runtime";

const ISSUER = "switchboard";
const AUDIENCE = "switchboard-api";

/** Access tokens live one hour. */
export const ACCESS_TOKEN_SECONDS = 3600;

const claimsSchema = z.object({
  sub: z.string(),
  sid: z.string(),
  workspace_id: z.string().optional(),
});

export interface AccessClaims {
  userId: string;
  sessionId: string;
  workspaceId: string | null;
}

/** A session ends for good this long after its sign-in, however often it is refreshed. */
export const SESSION_MS = 30 * 86_400_000;

export async function signAccessToken(rt: Runtime, claims: AccessClaims): Promise<string> {
  const now = Math.floor(rt.clock() / 1000);
  const token = new SignJWT({
    sid: claims.sessionId,
    ...(claims.workspaceId === null ? {} : { workspace_id: claims.workspaceId }),
  })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setSubject(claims.userId)
    .setIssuer(ISSUER)
    .setAudience(AUDIENCE)
    .setIssuedAt(now)
    .setExpirationTime(now + ACCESS_TOKEN_SECONDS);
  return token.sign(await deriveKey(rt.config.SECRET_KEY, "jwt"));
}

/**
 * The claims of a good token, else a 401 that does not say what was wrong. The algorithm is pinned: a token that
 * names another one (or `none`) is refused before its signature is looked at.
 */
export async function verifyAccessToken(rt: Runtime, token: string): Promise<AccessClaims> {
  const masters = [rt.config.SECRET_KEY, rt.config.SECRET_KEY_PREVIOUS];
  for (const master of masters) {
    if (master === undefined) continue;
    try {
      const { payload } = await jwtVerify(token, await deriveKey(master, "jwt"), {
        algorithms: ["HS256"],
        issuer: ISSUER,
        audience: AUDIENCE,
        requiredClaims: ["exp", "sub", "sid"],
        currentDate: new Date(rt.clock()),
      });
      const claims = claimsSchema.safeParse(payload);
      if (!claims.success) break;
      return {
        userId: claims.data.sub,
        sessionId: claims.data.sid,
        workspaceId: claims.data.workspace_id ?? null,
      };
    } catch (error) {
      // A wrong signature may be the previous master's; anything else jose says is a refusal.
      if (!(error instanceof errors.JOSEError)) throw error;
    }
  }
  throw new AppError("unauthenticated", "Invalid credentials");
}
