import { GraphError } from "./graph-error";

/** How long a token with SHORT in it lives, and one that an exchange gave (seconds). */
export const SHORT_TOKEN_SECONDS = 3_600;
export const LONG_TOKEN_SECONDS = 5_184_000;

/**
 * Any token is taken, except the ones that carry one of these words (upper case). The list is documented in README.md.
 * Throws what Meta answers for a token of that kind.
 */
export function checkToken(token: string | null): string {
  if (token === null || token === "") {
    throw new GraphError(2500, {
      message: "An active access token must be used to query information about the current user.",
    });
  }
  if (token.includes("EXPIRED")) {
    throw new GraphError(190, {
      message: "Error validating access token: Session has expired on Thursday, 01-Jan-26 00:00:00 PST.",
      subcode: 463,
    });
  }
  if (token.includes("REVOKED")) {
    throw new GraphError(190, {
      message: "Error validating access token: The session has been invalidated because the user changed the password.",
      subcode: 460,
    });
  }
  if (token.includes("INVALID"))
    throw new GraphError(190, { message: "Invalid OAuth access token - Cannot parse access token" });
  if (token.includes("NOPERMISSION")) throw new GraphError(10);
  return token;
}

/** `Authorization: Bearer …`, or `access_token` in the query: Meta takes both. */
export function bearerToken(authorization: string | undefined, query: string | undefined): string | null {
  const match = /^(?:Bearer|OAuth)\s+(\S+)\s*$/i.exec(authorization ?? "");
  return match?.[1] ?? query ?? null;
}
