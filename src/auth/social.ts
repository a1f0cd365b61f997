import { createRemoteJWKSet, customFetch, errors, type JWKSCacheInput, jwksCache, jwtVerify } from "jose";
import { z } from "zod";
import { requireSetting } from "../platform/config";
import { AppError } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import { emailSchema } from "./schema";
import type { SocialAccount } from "./store";

/** How long a sign-in provider may take to answer one call, in ms. */
const TIMEOUT = 8_000;
const MAX_ANSWER_BYTES = 256 * 1024;

function refused(cause?: unknown): AppError {
  return new AppError("unauthenticated", "Invalid credentials", { cause });
}

function unreachableProvider(name: string, cause: unknown): AppError {
  return new AppError("provider_unavailable", `${name} did not answer`, { cause });
}

/** Google's keys, kept ten minutes per isolate and address. jose asks again for an unknown key, at most every 30 s. */
const keyCaches = new Map<string, JWKSCacheInput>();

/** https://developers.google.com/identity/openid-connect/openid-connect#validatinganidtoken names both issuers. */
const GOOGLE_ISSUERS = ["https://accounts.google.com", "accounts.google.com"];

const googleClaims = z.object({
  sub: z.string().min(1).max(255),
  email: emailSchema,
  // Some of Google's libraries print the claim as text.
  email_verified: z.union([z.literal(true), z.literal("true")]),
  name: z.string().max(200).optional(),
});

/**
 * The account an ID token of Google names: signed by one of Google's keys with RS256, made for our client id, not
 * expired, its address verified. Everything else is a 401; keys that cannot be fetched are a 502.
 */
export async function googleAccount(rt: Runtime, idToken: string): Promise<SocialAccount> {
  const audience = requireSetting(rt.config, "GOOGLE_CLIENT_ID");
  const certs = rt.config.GOOGLE_CERTS_URL;
  const cache = keyCaches.get(certs) ?? {};
  keyCaches.set(certs, cache);
  const keys = createRemoteJWKSet(new URL(certs), {
    [customFetch]: fetchOf(rt, "Google"),
    [jwksCache]: cache,
    timeoutDuration: TIMEOUT,
  });
  try {
    const { payload } = await jwtVerify(idToken, keys, {
      algorithms: ["RS256"],
      issuer: GOOGLE_ISSUERS,
      audience,
      requiredClaims: ["exp", "sub"],
      currentDate: new Date(rt.clock()),
    });
    const claims = googleClaims.safeParse(payload);
    if (!claims.success) throw refused(claims.error);
    const { sub, email, name } = claims.data;
    return { provider: "Google", subject: sub, email, name: name ?? null };
  } catch (error) {
    if (error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid) {
      throw unreachableProvider("Google", error);
    }
    // The class itself, not one of its kinds: jose's word for keys that could not be fetched or read.
    if (error instanceof errors.JOSEError && error.constructor === errors.JOSEError) {
      throw unreachableProvider("Google", error);
    }
    if (error instanceof errors.JOSEError) throw refused(error);
    throw error;
  }
}

const githubToken = z.object({ access_token: z.string().min(1) });
const githubRefusal = z.object({ error: z.string() });
const githubUser = z.object({ id: z.int(), login: z.string(), name: z.string().nullish() });
const githubEmails = z.array(z.object({ email: z.string(), primary: z.boolean(), verified: z.boolean() }));

/**
 * The account behind the code of GitHub's redirect. Its address is the primary one if GitHub verified it; the sign-in
 * page must ask for the scope `user:email`. A code GitHub does not know is a 401.
 */
export async function githubAccount(rt: Runtime, code: string): Promise<SocialAccount> {
  const { GITHUB_URL, GITHUB_API_URL } = rt.config;
  const exchange = await githubJson(rt, `${GITHUB_URL}/login/oauth/access_token`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      client_id: requireSetting(rt.config, "GITHUB_CLIENT_ID"),
      client_secret: requireSetting(rt.config, "GITHUB_CLIENT_SECRET"),
      code,
    }),
  });
  // GitHub answers 200 with `error` for a code that is wrong, used or older than ten minutes.
  if (githubRefusal.safeParse(exchange).success) throw refused();
  const authorization = { Authorization: `Bearer ${shaped(githubToken, exchange).access_token}` };
  const [user, emails] = await Promise.all([
    githubJson(rt, `${GITHUB_API_URL}/user`, { headers: authorization }),
    githubJson(rt, `${GITHUB_API_URL}/user/emails`, { headers: authorization }),
  ]);
  const { id, login, name } = shaped(githubUser, user);
  const primary = shaped(githubEmails, emails).find((entry) => entry.primary && entry.verified);
  const email = emailSchema.safeParse(primary?.email);
  if (!email.success) throw new AppError("bad_request", "The GitHub account has no verified primary e-mail address");
  return { provider: "GitHub", subject: String(id), email: email.data, name: (name ?? login).slice(0, 200) };
}

function shaped<T extends z.ZodType>(schema: T, answer: unknown): z.output<T> {
  const result = schema.safeParse(answer);
  if (!result.success) throw unreachableProvider("GitHub", result.error);
  return result.data;
}

async function githubJson(rt: Runtime, url: string, init: RequestInit): Promise<unknown> {
  const headers = new Headers(init.headers);
  headers.set("Accept", "application/json");
  // GitHub refuses calls that name no agent.
  headers.set("User-Agent", "switchboard");
  const response = await fetchOf(rt, "GitHub")(url, {
    ...init,
    headers,
    redirect: "manual",
    signal: AbortSignal.timeout(TIMEOUT),
  });
  if (!response.ok) throw unreachableProvider("GitHub", new Error(`GitHub answered ${response.status}`));
  try {
    return await response.json();
  } catch (error) {
    throw unreachableProvider("GitHub", error);
  }
}

type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** The runtime's fetch for one sign-in provider: it not answering is a 502, and an answer's size is bounded. */
function fetchOf(rt: Runtime, name: string): Fetch {
  return async (url, init) => {
    let response: Response;
    try {
      response = await rt.fetch(url, init);
    } catch (error) {
      throw unreachableProvider(name, error);
    }
    return new Response(response.body?.pipeThrough(boundedBytes(name)) ?? null, response);
  };
}

function boundedBytes(name: string): TransformStream<Uint8Array, Uint8Array> {
  let seen = 0;
  return new TransformStream({
    transform(chunk, controller) {
      seen += chunk.byteLength;
      if (seen > MAX_ANSWER_BYTES) controller.error(new Error(`${name} answered more than ${MAX_ANSWER_BYTES} bytes`));
      else controller.enqueue(chunk);
    },
  });
}
