import type { z } from "@hono/zod-openapi";
import { type AppContext, createRouter } from "../platform/app";
import { requireSetting } from "../platform/config";
import { AppError } from "../platform/errors";
import { authenticateUser } from "./guard";
import { operation } from "./operation";
import {
  emailSignIn,
  emailSignUp,
  githubSignIn,
  googleSignIn,
  providerQuery,
  refreshAnswer,
  refreshBody,
  type SocialProvider,
  signInAnswer,
  signInBody,
  signUpAnswer,
  signUpBody,
  userAnswer,
  verifyEmailBody,
} from "./schema";
import {
  currentUser,
  refreshWithSession,
  refreshWithToken,
  requestVerification,
  type SignedIn,
  signIn,
  signOut,
  signUp,
  socialUser,
  spendSocialSignIn,
  startSession,
  verifyEmail,
} from "./service";
import { githubAccount, googleAccount } from "./social";
import type { SocialAccount, User } from "./store";

const json = <T extends z.ZodType>(schema: T, description: string) => ({
  description,
  content: { "application/json": { schema } },
});

const body = <T extends z.ZodType>(schema: T) => ({ required: true, content: { "application/json": { schema } } });

const signUpRoute = operation({ kind: "public" }, ["forbidden", "already_exists", "not_configured", "rate_limited"], {
  method: "post",
  path: "/api/auth/signup",
  tags: ["Authentication"],
  summary: "Create a user account",
  request: { query: providerQuery, body: body(signUpBody) },
  responses: { 200: json(signUpAnswer, "The account") },
});

const signInRoute = operation(
  { kind: "public" },
  ["unauthenticated", "forbidden", "not_found", "not_configured", "rate_limited", "provider_unavailable"],
  {
    method: "post",
    path: "/api/auth/signin",
    tags: ["Authentication"],
    summary: "Sign in",
    description: "At most 10 a minute per account and per network address.",
    request: { query: providerQuery, body: body(signInBody) },
    responses: { 200: json(signInAnswer, "Tokens of a new session") },
  },
);

const refreshRoute = operation({ kind: "signed", by: "refresh_token" }, ["forbidden", "rate_limited"], {
  method: "post",
  path: "/api/auth/refresh",
  tags: ["Authentication"],
  summary: "Exchange a refresh token, or a valid access token, for new ones",
  description:
    "A refresh token works once; for 30 seconds more it answers the same successor. Any later use ends the session.",
  request: { body: { content: { "application/json": { schema: refreshBody } } } },
  responses: { 200: json(refreshAnswer, "New tokens of the same session") },
});

const meRoute = operation({ kind: "user" }, [], {
  method: "get",
  path: "/api/auth/me",
  tags: ["Authentication"],
  summary: "The signed-in user",
  responses: { 200: json(userAnswer, "The user") },
});

const signOutRoute = operation({ kind: "user" }, [], {
  method: "post",
  path: "/api/auth/signout",
  tags: ["Authentication"],
  summary: "End this session",
  responses: { 204: { description: "The session has ended; its tokens are worth nothing" } },
});

const verifyEmailRoute = operation({ kind: "signed", by: "link" }, ["unauthenticated"], {
  method: "post",
  path: "/api/auth/verify-email",
  tags: ["Authentication"],
  summary: "Prove an e-mail address with the token of the mailed link",
  request: { body: body(verifyEmailBody) },
  responses: { 200: json(userAnswer, "The user, now verified") },
});

const sendVerificationRoute = operation({ kind: "user" }, ["not_configured", "provider_unavailable"], {
  method: "post",
  path: "/api/auth/verify-email/send",
  tags: ["Authentication"],
  summary: "Have the verification mail sent again",
  responses: { 202: { description: "The mail was handed over" } },
});

/** The fields of one provider's form of a call; what is wrong with them is a 422 like any other body's. */
function formOf<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const fields = result.error.issues.map((issue) => ({ loc: ["body", ...issue.path.map(String)], msg: issue.message }));
  throw new AppError("validation", fields[0]?.msg ?? "Not valid", { fields });
}

/** Who calls, as Cloudflare saw it. Calls that come another way share one name, and so one limit. */
function networkAddress(c: AppContext): string {
  return c.req.header("cf-connecting-ip") ?? "unknown";
}

function originOf(c: AppContext): string {
  return new URL(c.req.url).origin;
}

/** The account a social credential stands for, with the members that every provider's form shares. */
async function socialAccount(c: AppContext, provider: SocialProvider, value: unknown) {
  const { rt } = c.var;
  let account: () => Promise<SocialAccount>;
  let shared: { workspace_id?: string | null; invitation_token?: string | null };
  switch (provider) {
    case "Google": {
      requireSetting(rt.config, "GOOGLE_CLIENT_ID");
      const form = formOf(googleSignIn, value);
      account = () => googleAccount(rt, form.id_token);
      shared = form;
      break;
    }
    case "GitHub": {
      requireSetting(rt.config, "GITHUB_CLIENT_ID");
      requireSetting(rt.config, "GITHUB_CLIENT_SECRET");
      const form = formOf(githubSignIn, value);
      account = () => githubAccount(rt, form.code);
      shared = form;
      break;
    }
  }
  await spendSocialSignIn(rt, networkAddress(c));
  const user = await socialUser(rt, await account(), shared.invitation_token ?? null);
  return { user, workspaceId: shared.workspace_id ?? null };
}

function tokensBody(signed: SignedIn) {
  return {
    access_token: signed.accessToken,
    refresh_token: signed.refreshToken,
    token_type: "bearer" as const,
    expires_in: signed.expiresIn,
  };
}

function userBody(user: User) {
  return { id: user.id, email: user.email, name: user.name, email_verified: user.emailVerified };
}

export const authRoutes = createRouter()
  .openapi(signUpRoute, async (c) => {
    const { provider } = c.req.valid("query");
    const value = c.req.valid("json");
    let user: User;
    if (provider === "Email") {
      const { email, password, name, invitation_token } = formOf(emailSignUp, value);
      const input = { email, password, name: name ?? null, invitationToken: invitation_token ?? null };
      user = await signUp(c.var.rt, input, networkAddress(c), originOf(c));
    } else {
      ({ user } = await socialAccount(c, provider, value));
    }
    return c.json({ user_id: user.id, name: user.name, email: user.email }, 200);
  })
  .openapi(signInRoute, async (c) => {
    const { provider } = c.req.valid("query");
    const value = c.req.valid("json");
    let signed: SignedIn;
    if (provider === "Email") {
      const { email, password, workspace_id } = formOf(emailSignIn, value);
      signed = await signIn(c.var.rt, { email, password, workspaceId: workspace_id ?? null }, networkAddress(c));
    } else {
      const { user, workspaceId } = await socialAccount(c, provider, value);
      signed = await startSession(c.var.rt, user, workspaceId);
    }
    return c.json({ user_id: signed.userId, ...tokensBody(signed) }, 200);
  })
  .openapi(refreshRoute, async (c) => {
    const token = c.req.valid("json").refresh_token;
    if (token !== undefined) return c.json(tokensBody(await refreshWithToken(c.var.rt, token)), 200);
    const { sessionId } = await authenticateUser(c);
    return c.json(tokensBody(await refreshWithSession(c.var.rt, sessionId)), 200);
  })
  .openapi(meRoute, async (c) => {
    const { userId } = await authenticateUser(c);
    return c.json(userBody(await currentUser(c.var.rt, userId)), 200);
  })
  .openapi(signOutRoute, async (c) => {
    const { sessionId } = await authenticateUser(c);
    await signOut(c.var.rt, sessionId);
    return c.body(null, 204);
  })
  .openapi(verifyEmailRoute, async (c) => {
    return c.json(userBody(await verifyEmail(c.var.rt, c.req.valid("json").token)), 200);
  })
  .openapi(sendVerificationRoute, async (c) => {
    const { userId } = await authenticateUser(c);
    await requestVerification(c.var.rt, userId, originOf(c));
    return c.body(null, 202);
  });
