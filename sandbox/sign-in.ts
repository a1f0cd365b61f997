import { Hono } from "hono";
import type { SandboxEnv } from "./env";

/**
 * GitHub's and Google's side of social sign-in, as far as the app asks. A code `sandbox-<login>` is the verified account
 * of that login; GitHub's answer to any other code, and Google having no key that fits, are refusals as those give them.
 */
export const signIn = new Hono<{ Bindings: SandboxEnv }>();

const CODE = /^sandbox-([a-z0-9-]{1,39})$/;

signIn.post("/login/oauth/access_token", async (c) => {
  const { code } = await c.req.json<{ code?: unknown }>();
  if (typeof code !== "string" || !CODE.test(code)) {
    return c.json({
      error: "bad_verification_code",
      error_description: "The code passed is incorrect or expired.",
    });
  }
  return c.json({ access_token: code, token_type: "bearer", scope: "user:email" });
});
signIn.get("/user", (c) => {
  const login = loginOf(c.req.header("authorization"));
  return login === null ? badCredentials() : c.json({ id: numberOf(login), login, name: null });
});
signIn.get("/user/emails", (c) => {
  const login = loginOf(c.req.header("authorization"));
  if (login === null) return badCredentials();
  return c.json([{ email: `${login}@example.com`, primary: true, verified: true, visibility: null }]);
});
signIn.get("/oauth2/v3/certs", (c) => c.json({ keys: [] }));

/** The paths above: in development they share an address with everything else the sandbox is. */
export function isSignInPath(path: string): boolean {
  return signIn.routes.some((route) => route.path === path);
}

function loginOf(authorization: string | undefined): string | null {
  return CODE.exec(authorization?.replace(/^Bearer /, "") ?? "")?.[1] ?? null;
}

/** The same login has the same id, as at GitHub. */
function numberOf(login: string): number {
  return [...login].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 1_000_000_007, 7);
}

function badCredentials(): Response {
  return Response.json({ message: "Bad credentials" }, { status: 401 });
}
