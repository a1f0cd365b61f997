import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { decodeJwt, exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from "jose";
import { afterEach, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { api } from "../src/api";
import { signEmailToken } from "../src/auth/mail";
import { checkPassword, hashPassword } from "../src/auth/passwords";
import { purgeSessions, refreshWithToken, signIn, startSession } from "../src/auth/service";
import { selectUser } from "../src/auth/store";
import { signAccessToken } from "../src/auth/tokens";
import { deriveKey, sha256Hex, verifyHmacSha256 } from "../src/platform/crypto";
import { newUuid } from "../src/platform/ids";
import { createRuntime, directory } from "../src/platform/runtime";
import { call, newSession, newUser, newWorkspace, type TestUser, testRuntime } from "./support/identity";

const PASSWORD = "SecurePassword123!";
const signedInShape = z.object({
  user_id: z.uuid(),
  access_token: z.string(),
  refresh_token: z.string(),
  token_type: z.literal("bearer"),
  expires_in: z.int(),
});
const pairShape = signedInShape.omit({ user_id: true });

let lastAddress = 0;
/** A network address nobody used in this file: sign-ins are limited per address. */
function fromNewAddress(): Record<string, string> {
  lastAddress += 1;
  return { "CF-Connecting-IP": `198.51.100.${lastAddress}` };
}

const newEmail = () => `person-${newUuid()}@example.com`;

/** The Worker with other settings. */
function callWith(vars: Record<string, string>, method: string, path: string, body?: unknown, token?: string) {
  const headers = { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const request = new Request(`http://switchboard.test${path}`, {
    method,
    headers: { ...fromNewAddress(), ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return api.fetch(request, { ...env, ...vars }, createExecutionContext());
}

/** A user with a password, written as a row, so that a test hashes only where it signs in. */
let sharedHash: string | undefined;
async function userWithPassword(options: { verified?: boolean } = {}): Promise<TestUser> {
  sharedHash ??= hashPassword(PASSWORD);
  const user = await newUser(options);
  await env.DIRECTORY.prepare("UPDATE users SET password_hash = ?2 WHERE id = ?1").bind(user.userId, sharedHash).run();
  return user;
}

/** A session with its refresh token, without hashing. */
async function sessionOf(user: TestUser, clock = Date.now) {
  const rt = testRuntime({ clock });
  const row = await selectUser(directory(rt), user.userId);
  if (!row) throw new Error("The test user is missing");
  return startSession(rt, row, null);
}

const me = (token: string) => call("GET", "/api/auth/me", undefined, { Authorization: `Bearer ${token}` });
const refresh = (refreshToken: string) => call("POST", "/api/auth/refresh", { refresh_token: refreshToken });

afterEach(() => {
  vi.restoreAllMocks();
});

describe("sign-up and sign-in, as documented", () => {
  it("signs up, signs in, tells who is signed in, and signs out", async () => {
    const email = `User-${newUuid()}@Example.com`;
    const signUp = await call(
      "POST",
      "/api/auth/signup",
      { email, password: PASSWORD, name: "John Doe" },
      fromNewAddress(),
    );
    expect(signUp.status).toBe(200);
    const account = await signUp.json<Record<string, unknown>>();
    expect(account).toEqual({ user_id: expect.any(String), name: "John Doe", email: email.toLowerCase() });

    const signIn = await call("POST", "/api/auth/signin/", { email, password: PASSWORD }, fromNewAddress());
    expect(signIn.status).toBe(200);
    const tokens = signedInShape.parse(await signIn.json());
    expect(tokens.user_id).toBe(account.user_id);
    expect(tokens.expires_in).toBe(3600);

    const whoami = await me(tokens.access_token);
    expect(whoami.status).toBe(200);
    expect(await whoami.json()).toEqual({
      id: account.user_id,
      email: email.toLowerCase(),
      name: "John Doe",
      email_verified: false,
    });

    const signOut = await call("POST", "/api/auth/signout", undefined, {
      Authorization: `Bearer ${tokens.access_token}`,
    });
    expect(signOut.status).toBe(204);
    expect((await me(tokens.access_token)).status).toBe(401);
    expect((await refresh(tokens.refresh_token)).status).toBe(401);
  });

  it("keeps no password and no refresh token in the clear", async () => {
    const user = await userWithPassword();
    const tokens = await sessionOf(user);
    const dump = JSON.stringify([
      await env.DIRECTORY.prepare("SELECT * FROM users WHERE id = ?1").bind(user.userId).all(),
      await env.DIRECTORY.prepare("SELECT * FROM sessions WHERE user_id = ?1").bind(user.userId).all(),
      await env.DIRECTORY.prepare("SELECT * FROM refresh_tokens").all(),
    ]);
    expect(dump).toContain("scrypt$16384$8$5$");
    expect(dump).not.toContain(PASSWORD);
    expect(dump).not.toContain(tokens.refreshToken);
    expect(dump).toContain(await sha256Hex(tokens.refreshToken));
  });

  it.each([
    [{ email: "not-an-address", password: PASSWORD }, ["body", "email"], "Invalid email format"],
    [{ password: PASSWORD }, ["body", "email"], "Invalid email format"],
    [{ email: 7, password: PASSWORD }, ["body", "email"], "Invalid email format"],
    [{ email: "a@example.com", password: "short" }, ["body", "password"], "Password must have at least 8 characters"],
    [
      { email: "a@example.com", password: "x".repeat(257) },
      ["body", "password"],
      "Password must have at most 256 characters",
    ],
  ])("refuses %j as a 422 that names the field", async (body, loc, msg) => {
    const response = await call("POST", "/api/auth/signup", body, fromNewAddress());
    expect(response.status).toBe(422);
    expect(await response.json()).toMatchObject({ detail: [{ loc, msg, type: "value_error" }], code: "validation" });
  });

  it("refuses an unknown provider, and a body that is no JSON", async () => {
    const unknown = await call("POST", "/api/auth/signin?provider=Myspace", { email: "a@example.com", password: "x" });
    expect(unknown.status).toBe(422);
    const malformed = await call("POST", "/api/auth/signin", "{", { "Content-Type": "application/json" });
    expect(malformed.status).toBe(400);
  });

  it("answers 409 with the account's id for an address that is taken, whatever its case", async () => {
    const user = await newUser();
    const body = { email: user.email.toUpperCase(), password: PASSWORD };
    const response = await call("POST", "/api/auth/signup", body, fromNewAddress());
    expect(response.status).toBe(409);
    expect(await response.json()).toMatchObject({ code: "already_exists", id: user.userId });
  });

  it("lets one of two simultaneous sign-ups of an address win", async () => {
    const email = newEmail();
    const headers = fromNewAddress();
    const answers = await Promise.all(
      [1, 2].map(() => call("POST", "/api/auth/signup", { email, password: PASSWORD }, headers)),
    );
    expect(answers.map((a) => a.status).sort()).toEqual([200, 409]);
  });

  it("carries a workspace of the sign-in as a claim, and 404s a foreign one", async () => {
    const user = await userWithPassword();
    const own = await newWorkspace();
    const foreign = await newWorkspace();
    await env.DIRECTORY.prepare("UPDATE members SET user_id = ?1 WHERE id = ?2").bind(user.userId, own.memberId).run();
    const body = { email: user.email, password: PASSWORD };
    const headers = fromNewAddress();
    const good = await call("POST", "/api/auth/signin", { ...body, workspace_id: own.workspaceId }, headers);
    expect(decodeJwt(signedInShape.parse(await good.json()).access_token).workspace_id).toBe(own.workspaceId);
    const bad = await call("POST", "/api/auth/signin", { ...body, workspace_id: foreign.workspaceId }, headers);
    expect(bad.status).toBe(404);
    expect(await bad.json()).toMatchObject({ detail: "Workspace not found" });
  });

  it("takes sign-ups as SIGNUP says: none when closed, invited addresses with their token when by invitation", async () => {
    const closed = await callWith({ SIGNUP: "closed" }, "POST", "/api/auth/signup", {
      email: newEmail(),
      password: PASSWORD,
    });
    expect(closed.status).toBe(403);

    const workspace = await newWorkspace();
    const email = newEmail();
    const invited = await workspace.call("POST", `/api/workspaces/${workspace.workspaceId}/members`, {
      user_email: email,
      role: "MEMBER",
    });
    const { invitation_url } = await invited.json<{ invitation_url: string }>();
    const token = new URL(invitation_url).hash.slice(1);
    const byInvitation = (address: string, invitation?: string) =>
      callWith({ SIGNUP: "invite" }, "POST", "/api/auth/signup", {
        email: address,
        password: PASSWORD,
        invitation_token: invitation,
      });
    expect((await byInvitation(email)).status).toBe(403);
    expect((await byInvitation(email, "inv_wrong")).status).toBe(403);
    expect((await byInvitation(newEmail(), token)).status).toBe(403);
    expect((await byInvitation(email, token)).status).toBe(200);
  });
});

describe("what a stranger learns from a sign-in", () => {
  it("is the same text for a wrong password, an unknown address and an account without password", async () => {
    const known = await userWithPassword();
    const social = await newUser();
    const headers = fromNewAddress();
    const attempts = [known.email, newEmail(), social.email].map((email) => ({ email, password: "wrong" }));
    for (const body of attempts) {
      const response = await call("POST", "/api/auth/signin", body, headers);
      expect(response.status).toBe(401);
      expect(await response.json()).toMatchObject({ detail: "Invalid credentials", code: "unauthenticated" });
    }
  });

  it("is not told by the time it takes", async () => {
    const known = await userWithPassword();
    const timed = async (email: string) => {
      const startedAt = Date.now();
      await call("POST", "/api/auth/signin", { email, password: "wrong" }, fromNewAddress());
      return Date.now() - startedAt;
    };
    const wrong: number[] = [];
    const unknown: number[] = [];
    for (let i = 0; i < 3; i += 1) {
      wrong.push(await timed(known.email));
      unknown.push(await timed(newEmail()));
    }
    const median = (values: number[]) => values.sort((a, b) => a - b)[1] ?? 0;
    // A hash takes over 50 ms, everything else a few: without the hash `unknown` would be a small part of `wrong`.
    expect(median(wrong)).toBeGreaterThan(20);
    expect(median(unknown)).toBeGreaterThan(median(wrong) / 3);
    expect(median(unknown)).toBeLessThan(median(wrong) * 3);
  }, 30_000);

  it("limits sign-ins of one account to 10 a minute, from wherever they come, the right password too", async () => {
    const user = await userWithPassword();
    const rt = testRuntime({ clock: () => 1_800_000_000_000 });
    const attempt = (password: string, address: string, clock = rt) =>
      signIn(clock, { email: user.email, password, workspaceId: null }, address);
    for (let i = 0; i < 10; i += 1) {
      await expect(attempt("wrong", `203.0.113.${i}`)).rejects.toMatchObject({ code: "unauthenticated" });
    }
    await expect(attempt(PASSWORD, "203.0.113.99")).rejects.toMatchObject({ code: "rate_limited", retryAfter: 60 });
    const later = testRuntime({ clock: () => 1_800_000_060_000 });
    await expect(attempt(PASSWORD, "203.0.113.99", later)).resolves.toMatchObject({ userId: user.userId });
    // Eleven hashes on a busy machine.
  }, 30_000);

  /** Counts against the network address and costs no hash. */
  const socialAttempt = (headers: Record<string, string>) =>
    call("POST", "/api/auth/signin?provider=Google", { id_token: "x" }, headers);
  const passwordAttempt = (headers: Record<string, string>) =>
    call("POST", "/api/auth/signin", { email: newEmail(), password: "wrong" }, headers);

  it("limits sign-ins of one network address to 10 a minute, whichever accounts they try", async () => {
    const minute = Math.floor(Date.now() / 60_000) * 60_000;
    vi.spyOn(Date, "now").mockReturnValue(minute + 20_000);
    const headers = fromNewAddress();
    for (let i = 0; i < 7; i += 1) expect((await socialAttempt(headers)).status).toBe(401);
    for (let i = 0; i < 3; i += 1) expect((await passwordAttempt(headers)).status).toBe(401);
    const refused = await passwordAttempt(headers);
    expect(refused.status).toBe(429);
    expect(refused.headers.get("Retry-After")).toBe("40");
    expect(await refused.json()).toMatchObject({
      detail: "Rate limit exceeded. Please try again later.",
      code: "rate_limited",
    });
    expect((await passwordAttempt(fromNewAddress())).status).toBe(401);
  });

  it("counts the addresses of one IPv6 subscriber (a /64) as one", async () => {
    vi.spyOn(Date, "now").mockReturnValue(Math.floor(Date.now() / 60_000) * 60_000 + 20_000);
    const from = (address: string) => ({ "CF-Connecting-IP": address });
    for (let i = 1; i <= 10; i += 1) expect((await socialAttempt(from(`2001:db8:0:7::${i}`))).status).toBe(401);
    expect((await socialAttempt(from("2001:0DB8:0000:0007:aaaa:bbbb:cccc:dddd"))).status).toBe(429);
    expect((await socialAttempt(from("2001:db8:0:8::1"))).status).toBe(401);
  });
});

describe("access tokens", () => {
  async function forged(
    user: TestUser,
    sign: (claims: SignJWT) => Promise<string>,
    over: Record<string, unknown> = {},
  ) {
    const claims = { iss: "switchboard", aud: "switchboard-api", sub: user.userId, sid: user.sessionId, ...over };
    return sign(new SignJWT(claims).setIssuedAt().setExpirationTime("1h"));
  }

  it("live for one hour", async () => {
    const user = await newUser();
    const signedAgo = (seconds: number) =>
      signAccessToken(testRuntime({ clock: () => Date.now() - seconds * 1000 }), { ...user, workspaceId: null });
    expect((await me(await signedAgo(3590))).status).toBe(200);
    const expired = await me(await signedAgo(3601));
    expect(expired.status).toBe(401);
    expect(expired.headers.get("WWW-Authenticate")).toBe("Bearer");
    expect(await expired.json()).toMatchObject({ detail: "Invalid credentials", code: "unauthenticated" });
  });

  it("are refused when anything about them was changed or made elsewhere", async () => {
    const user = await newUser();
    const other = await newUser();
    const secret = await deriveKey(env.SECRET_KEY, "jwt");
    const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true });
    const hs256 = (key: Uint8Array | CryptoKey) => (jwt: SignJWT) =>
      jwt.setProtectedHeader({ alg: "HS256", typ: "JWT" }).sign(key);
    expect((await me(await forged(user, hs256(secret)))).status).toBe(200);

    const [header = "", payload = "", signature = ""] = user.token.split(".");
    const otherPayload = other.token.split(".")[1] ?? "";
    const publicBytes = new TextEncoder().encode(JSON.stringify(await exportJWK(publicKey)));
    const bad: Record<string, string> = {
      "alg none": new UnsecuredJWT({ sid: user.sessionId })
        .setSubject(user.userId)
        .setIssuer("switchboard")
        .setAudience("switchboard-api")
        .setExpirationTime("1h")
        .encode(),
      "alg none over a good signature": `${btoa('{"alg":"none"}').replaceAll("=", "")}.${payload}.${signature}`,
      "RS256 by a key of the attacker": await forged(user, (jwt) =>
        jwt.setProtectedHeader({ alg: "RS256" }).sign(privateKey),
      ),
      "HS256 with a public key as the secret": await forged(user, hs256(publicBytes)),
      "HS512 with our own key": await forged(user, (jwt) =>
        jwt.setProtectedHeader({ alg: "HS512" }).sign(new Uint8Array([...secret, ...secret])),
      ),
      "the master secret itself": await forged(user, hs256(new TextEncoder().encode(env.SECRET_KEY))),
      "the key of another purpose": await forged(user, hs256(await deriveKey(env.SECRET_KEY, "email"))),
      "another deployment's secret": await forged(user, hs256(await deriveKey(`${env.SECRET_KEY}x`, "jwt"))),
      "another issuer": await forged(user, hs256(secret), { iss: "someone" }),
      "another audience": await forged(user, hs256(secret), { aud: "switchboard-email" }),
      "no session": await forged(user, hs256(secret), { sid: undefined }),
      "a session of somebody else": await forged(user, hs256(secret), { sid: other.sessionId }),
      "a payload that was exchanged": `${header}.${otherPayload}.${signature}`,
      "a signature that was cut": `${header}.${payload}.${signature.slice(0, -2)}`,
      "a signature that was turned": `${header}.${payload}.${[...signature].reverse().join("")}`,
      "an e-mail link": await signEmailToken(testRuntime(), user.userId, user.email),
      nothing: "x",
    };
    for (const [what, token] of Object.entries(bad)) {
      expect((await me(token)).status, what).toBe(401);
    }
  });

  it("never outlive their expiry claim, and must have one", async () => {
    const user = await newUser();
    const secret = await deriveKey(env.SECRET_KEY, "jwt");
    const eternal = await new SignJWT({
      iss: "switchboard",
      aud: "switchboard-api",
      sub: user.userId,
      sid: user.sessionId,
    })
      .setProtectedHeader({ alg: "HS256" })
      .sign(secret);
    expect((await me(eternal)).status).toBe(401);
  });

  it("of before a rotation of SECRET_KEY are good while it is SECRET_KEY_PREVIOUS", async () => {
    const user = await newUser();
    const rotated = { SECRET_KEY: "another-master-secret-0123456789-qwertyuiop" };
    const previous = { ...rotated, SECRET_KEY_PREVIOUS: env.SECRET_KEY };
    expect((await callWith(previous, "GET", "/api/auth/me", undefined, user.token)).status).toBe(200);
    expect((await callWith(rotated, "GET", "/api/auth/me", undefined, user.token)).status).toBe(401);
  });

  it("are asked for, and an API key is no user", async () => {
    const anonymous = await call("GET", "/api/auth/me");
    expect(anonymous.status).toBe(401);
    const workspace = await newWorkspace();
    expect((await workspace.callWithKey("GET", "/api/auth/me")).status).toBe(403);
    expect((await call("GET", "/api/auth/me", undefined, { Authorization: "Basic eDp5" })).status).toBe(401);
  });
});

describe("refresh", () => {
  it("answers a new pair for the refresh token, and the new one goes on", async () => {
    const user = await newUser();
    const first = await sessionOf(user);
    const answer = await refresh(first.refreshToken);
    expect(answer.status).toBe(200);
    const second = pairShape.parse(await answer.json());
    expect(second.refresh_token).not.toBe(first.refreshToken);
    expect((await me(second.access_token)).status).toBe(200);
    expect((await refresh(second.refresh_token)).status).toBe(200);
  });

  it("answers the same successor for 30 s to whoever comes second", async () => {
    const user = await newUser();
    const { refreshToken } = await sessionOf(user);
    const now = Date.now();
    const at = (ms: number) => testRuntime({ clock: () => now + ms });
    const first = await refreshWithToken(at(0), refreshToken);
    const second = await refreshWithToken(at(29_999), refreshToken);
    expect(second.refreshToken).toBe(first.refreshToken);
    // Two at the very same moment get one successor, too.
    const [a, b] = await Promise.all([
      refreshWithToken(at(31_000), first.refreshToken),
      refreshWithToken(at(31_000), first.refreshToken),
    ]);
    expect(a?.refreshToken).toBe(b?.refreshToken);
  });

  it("revokes the family when a used token comes back after 30 s", async () => {
    const user = await newUser();
    const { refreshToken, accessToken } = await sessionOf(user);
    const now = Date.now();
    const at = (ms: number) => testRuntime({ clock: () => now + ms });
    const thief = await refreshWithToken(at(0), refreshToken);
    await expect(refreshWithToken(at(30_000), refreshToken)).rejects.toMatchObject({ code: "unauthenticated" });
    expect((await refresh(thief.refreshToken)).status).toBe(401);
    expect((await me(thief.accessToken)).status).toBe(401);
    expect((await me(accessToken)).status).toBe(401);
    // The user's other sessions go on.
    expect((await me(user.token)).status).toBe(200);
  });

  it("takes a valid access token, as documented, with or without naming JSON, inside the same session", async () => {
    const user = await newUser();
    const plain = await user.call("POST", "/api/auth/refresh");
    const json = await user.call("POST", "/api/auth/refresh", "", { "Content-Type": "application/json" });
    const object = await user.call("POST", "/api/auth/refresh", {});
    for (const response of [plain, json, object]) {
      expect(response.status).toBe(200);
      const pair = pairShape.parse(await response.json());
      expect(decodeJwt(pair.access_token).sid).toBe(user.sessionId);
      expect((await refresh(pair.refresh_token)).status).toBe(200);
    }
  });

  it("never moves the end of the session", async () => {
    const user = await newUser();
    const now = Date.now();
    const day = 86_400_000;
    let { refreshToken } = await sessionOf(user, () => now);
    for (const days of [10, 20, 29.99]) {
      const rt = testRuntime({ clock: () => now + days * day });
      const next = await refreshWithToken(rt, refreshToken);
      refreshToken = next.refreshToken;
      if (days > 29) expect(next.expiresIn).toBeLessThan(900);
    }
    const after = testRuntime({ clock: () => now + 30 * day });
    await expect(refreshWithToken(after, refreshToken)).rejects.toMatchObject({ code: "unauthenticated" });
  });

  it("refuses what it never gave, and a call with nothing", async () => {
    expect((await refresh("rt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")).status).toBe(401);
    expect((await refresh("nonsense")).status).toBe(401);
    expect((await call("POST", "/api/auth/refresh")).status).toBe(401);
    const user = await newUser();
    const bad = await call("POST", "/api/auth/refresh", { refresh_token: "nonsense" }, { Authorization: user.token });
    expect(bad.status).toBe(401);
  });

  it("ends with a session that ended", async () => {
    const user = await newUser();
    const { sessionId, token } = await newSession(user.userId);
    await env.DIRECTORY.prepare("UPDATE sessions SET expires_at = ?2 WHERE id = ?1")
      .bind(sessionId, Date.now() - 1)
      .run();
    expect((await me(token)).status).toBe(401);
    expect((await call("POST", "/api/auth/refresh", {}, { Authorization: `Bearer ${token}` })).status).toBe(401);
  });
});

describe("Google and GitHub", () => {
  const CERTS = "https://www.googleapis.com/oauth2/v3/certs";
  const googleKeys = generateKeyPair("RS256", { extractable: true });

  /** Answers outgoing calls by address; anything else fails the test. */
  function outgoing(answers: Record<string, (init: RequestInit) => Response | Promise<Response>>) {
    return vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
      const url = input instanceof Request ? input.url : String(input);
      const answer = answers[url];
      if (!answer) throw new Error(`Unexpected call to ${url}`);
      return answer(init ?? {});
    });
  }

  async function certs(): Promise<Response> {
    const { publicKey } = await googleKeys;
    return Response.json({ keys: [{ ...(await exportJWK(publicKey)), kid: "g1", alg: "RS256", use: "sig" }] });
  }

  async function idToken(claims: Record<string, unknown>, kid = "g1") {
    const { privateKey } = await googleKeys;
    return new SignJWT({ email_verified: true, name: "Gil Google", ...claims })
      .setProtectedHeader({ alg: "RS256", kid })
      .setIssuer(typeof claims.iss === "string" ? claims.iss : "https://accounts.google.com")
      .setAudience(typeof claims.aud === "string" ? claims.aud : "test-google-client")
      .setExpirationTime(typeof claims.exp === "number" ? claims.exp : "5m")
      .sign(privateKey);
  }

  const google = (id_token: string) => call("POST", "/api/auth/signin?provider=Google", { id_token }, fromNewAddress());

  it("signs in with a Google ID token; the account is verified and found again by its subject", async () => {
    outgoing({ [CERTS]: certs });
    const email = newEmail();
    const sub = newUuid();
    const first = await google(await idToken({ sub, email: email.toUpperCase() }));
    expect(first.status).toBe(200);
    const tokens = signedInShape.parse(await first.json());
    expect(await (await me(tokens.access_token)).json()).toEqual({
      id: tokens.user_id,
      email,
      name: "Gil Google",
      email_verified: true,
    });
    const again = await google(await idToken({ sub, email: newEmail(), iss: "accounts.google.com" }));
    expect(signedInShape.parse(await again.json()).user_id).toBe(tokens.user_id);
  });

  it("refuses an ID token that is not Google's for us, now, about a verified address", async () => {
    outgoing({ [CERTS]: certs });
    const { privateKey } = await generateKeyPair("RS256");
    const claims = () => ({ sub: newUuid(), email: newEmail() });
    const bad: Record<string, string> = {
      "for another client": await idToken({ ...claims(), aud: "another-client" }),
      "from another issuer": await idToken({ ...claims(), iss: "https://evil.example" }),
      expired: await idToken({ ...claims(), exp: Math.floor(Date.now() / 1000) - 10 }),
      "address not verified": await idToken({ ...claims(), email_verified: false }),
      "no address": await idToken({ sub: newUuid() }),
      "unknown key": await idToken(claims(), "g2"),
      "signed by somebody else": await new SignJWT({ ...claims(), email_verified: true })
        .setProtectedHeader({ alg: "RS256", kid: "g1" })
        .setIssuer("https://accounts.google.com")
        .setAudience("test-google-client")
        .setExpirationTime("5m")
        .sign(privateKey),
      unsigned: new UnsecuredJWT(claims()).setIssuer("https://accounts.google.com").setExpirationTime("5m").encode(),
      nonsense: "x.y.z",
    };
    for (const [what, token] of Object.entries(bad)) {
      const response = await google(token);
      expect(response.status, what).toBe(401);
      expect(await response.json(), what).toMatchObject({ detail: "Invalid credentials" });
    }
  });

  it("says when Google does not answer", async () => {
    const elsewhere = { GOOGLE_CERTS_URL: "https://google.test/certs" };
    const answers: Record<string, () => Response> = {
      "https://google.test/certs": () => new Response("down", { status: 503 }),
    };
    outgoing(answers);
    const body = { id_token: await idToken({ sub: newUuid(), email: newEmail() }) };
    const down = await callWith(elsewhere, "POST", "/api/auth/signin?provider=Google", body);
    expect(down.status).toBe(502);
    answers["https://google.test/certs"] = () => {
      throw new TypeError("network");
    };
    expect((await callWith(elsewhere, "POST", "/api/auth/signin?provider=Google", body)).status).toBe(502);
  });

  it("takes an unproved account from whoever made it: its password and sessions end", async () => {
    outgoing({ [CERTS]: certs });
    const squatter = await userWithPassword({ verified: false });
    const { refreshToken } = await sessionOf(squatter);
    const response = await google(await idToken({ sub: newUuid(), email: squatter.email }));
    const tokens = signedInShape.parse(await response.json());
    expect(tokens.user_id).toBe(squatter.userId);
    expect((await me(tokens.access_token)).status).toBe(200);
    expect((await me(squatter.token)).status).toBe(401);
    expect((await refresh(refreshToken)).status).toBe(401);
    const password = { email: squatter.email, password: PASSWORD };
    expect((await call("POST", "/api/auth/signin", password, fromNewAddress())).status).toBe(401);
  });

  it("leaves a proved account its password and sessions", async () => {
    outgoing({ [CERTS]: certs });
    const user = await userWithPassword();
    const response = await google(await idToken({ sub: newUuid(), email: user.email }));
    expect(signedInShape.parse(await response.json()).user_id).toBe(user.userId);
    expect((await me(user.token)).status).toBe(200);
    const password = { email: user.email, password: PASSWORD };
    expect((await call("POST", "/api/auth/signin", password, fromNewAddress())).status).toBe(200);
  });

  const githubAnswers = (emails: unknown) => ({
    "https://github.com/login/oauth/access_token": (init: RequestInit) => {
      const { code, client_id, client_secret } = JSON.parse(String(init.body));
      const good = code === "good" && client_id === "test-github-client" && client_secret === "test-github-secret";
      return Response.json(good ? { access_token: "gho_1", scope: "user:email" } : { error: "bad_verification_code" });
    },
    "https://api.github.com/user": (init: RequestInit) =>
      new Headers(init.headers).get("Authorization") === "Bearer gho_1" && new Headers(init.headers).get("User-Agent")
        ? Response.json({ id: 583231, login: "octocat", name: null })
        : new Response("", { status: 401 }),
    "https://api.github.com/user/emails": () => Response.json(emails),
  });
  const github = (code: string) => call("POST", "/api/auth/signin?provider=GitHub", { code }, fromNewAddress());

  it("signs up and in with a GitHub code, by the verified primary address", async () => {
    const email = newEmail();
    outgoing(
      githubAnswers([
        { email: newEmail(), primary: false, verified: true },
        { email, primary: true, verified: true },
      ]),
    );
    const signUp = await call("POST", "/api/auth/signup?provider=GitHub", { code: "good" }, fromNewAddress());
    expect(signUp.status).toBe(200);
    const account = await signUp.json<{ user_id: string }>();
    expect(account).toEqual({ user_id: expect.any(String), name: "octocat", email });
    const signedIn = await github("good");
    expect(signedInShape.parse(await signedIn.json()).user_id).toBe(account.user_id);
  });

  it("refuses a used code, and an account without a verified address", async () => {
    outgoing(githubAnswers([{ email: newEmail(), primary: true, verified: false }]));
    const used = await github("used");
    expect(used.status).toBe(401);
    expect(await used.json()).toMatchObject({ detail: "Invalid credentials" });
    expect((await github("good")).status).toBe(400);
  });

  it("names the setting that is missing", async () => {
    for (const [vars, provider, body, setting] of [
      [{ GOOGLE_CLIENT_ID: "" }, "Google", { id_token: "x" }, "GOOGLE_CLIENT_ID"],
      [{ GITHUB_CLIENT_ID: "" }, "GitHub", { code: "x" }, "GITHUB_CLIENT_ID"],
      [{ GITHUB_CLIENT_SECRET: "" }, "GitHub", { code: "x" }, "GITHUB_CLIENT_SECRET"],
    ] as const) {
      const response = await callWith(vars, "POST", `/api/auth/signin?provider=${provider}`, body);
      expect(response.status).toBe(400);
      expect((await response.json<{ detail: string }>()).detail).toContain(setting);
    }
  });

  it("makes no account where sign-up is closed, and signs known ones in", async () => {
    outgoing({ [CERTS]: certs });
    const known = await newUser();
    const attempt = async (email: string) =>
      callWith({ SIGNUP: "closed" }, "POST", "/api/auth/signin?provider=Google", {
        id_token: await idToken({ sub: newUuid(), email }),
      });
    expect((await attempt(newEmail())).status).toBe(403);
    expect((await attempt(known.email)).status).toBe(200);
  });
});

describe("proving an address", () => {
  const HOOK = { MAIL_HOOK_URL: "https://mail.test/hook", MAIL_HOOK_SECRET: "mail-hook-secret" };
  const mailShape = z.object({
    kind: z.literal("verify-email"),
    to: z.string(),
    url: z.url(),
    token: z.string(),
    expires_at: z.string(),
  });

  it("hands the operator's hook a signed link at sign-up; its token verifies the account", async () => {
    const deliveries: { body: string; headers: Headers }[] = [];
    vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
      expect(String(input)).toBe(HOOK.MAIL_HOOK_URL);
      deliveries.push({ body: String(init?.body), headers: new Headers(init?.headers) });
      return new Response(null, { status: 204 });
    });
    const email = newEmail();
    const signUp = await callWith(HOOK, "POST", "/api/auth/signup", { email, password: PASSWORD });
    expect(signUp.status).toBe(200);
    const [delivery] = deliveries;
    if (!delivery) throw new Error("Nothing was delivered");
    const mail = mailShape.parse(JSON.parse(delivery.body));
    expect(mail.to).toBe(email);
    expect(mail.url).toBe(`http://switchboard.test/app/verify-email#${mail.token}`);
    const signed = `${delivery.headers.get("webhook-id")}.${delivery.headers.get("webhook-timestamp")}.${delivery.body}`;
    const mac = Uint8Array.from(atob((delivery.headers.get("webhook-signature") ?? "").replace("v1,", "")), (c) =>
      c.charCodeAt(0),
    );
    expect(await verifyHmacSha256(HOOK.MAIL_HOOK_SECRET, signed, mac)).toBe(true);

    const verified = await call("POST", "/api/auth/verify-email", { token: mail.token });
    expect(verified.status).toBe(200);
    expect(await verified.json()).toMatchObject({ email, email_verified: true });
  });

  it("signs up also when the hook is down; the mail can be asked for again, three times an hour", async () => {
    const hook = vi.spyOn(globalThis, "fetch").mockImplementation(async () => new Response("", { status: 500 }));
    const email = newEmail();
    expect((await callWith(HOOK, "POST", "/api/auth/signup", { email, password: PASSWORD })).status).toBe(200);
    const user = await newUser({ verified: false });
    vi.spyOn(Date, "now").mockReturnValue(Math.floor(Date.now() / 3_600_000) * 3_600_000 + 1_800_000);
    const again = () => callWith(HOOK, "POST", "/api/auth/verify-email/send", undefined, user.token);
    expect((await again()).status).toBe(502);
    hook.mockImplementation(async () => new Response(null, { status: 204 }));
    expect((await again()).status).toBe(202);
    expect((await again()).status).toBe(202);
    expect((await again()).status).toBe(429);
    expect((await user.call("POST", "/api/auth/verify-email/send")).status).toBe(400);
  });

  it("refuses a link that is old, changed, of another address, or no link at all", async () => {
    const user = await newUser({ verified: false });
    const old = testRuntime({ clock: () => Date.now() - 49 * 3_600_000 });
    const good = await signEmailToken(testRuntime(), user.userId, user.email);
    const [header, , signature] = good.split(".");
    const otherPayload = (await signEmailToken(testRuntime(), newUuid(), user.email)).split(".")[1];
    const foreign = createRuntime({ ...env, SECRET_KEY: "another-master-secret-0123456789-qwertyuiop" });
    for (const token of [
      await signEmailToken(old, user.userId, user.email),
      await signEmailToken(testRuntime(), user.userId, newEmail()),
      await signEmailToken(foreign, user.userId, user.email),
      `${header}.${otherPayload}.${signature}`,
      user.token,
      "x",
    ]) {
      expect((await call("POST", "/api/auth/verify-email", { token })).status).toBe(401);
    }
    expect(await (await user.call("GET", "/api/auth/me")).json()).toMatchObject({ email_verified: false });
  });
});

describe("passwords", () => {
  it("are salted, and equal in any Unicode form", () => {
    const hash = hashPassword("Pässword-1");
    expect(hashPassword("Pässword-1")).not.toBe(hash);
    expect(checkPassword("Pässword-1".normalize("NFD"), hash)).toBe(true);
    expect(checkPassword("Passwort-1", hash)).toBe(false);
  });

  it("check false against nothing, and against a hash of unknown form", () => {
    expect(checkPassword("", null)).toBe(false);
    expect(checkPassword("", "scrypt$1$1$1$$")).toBe(false);
  });
});

it("purges at night the sessions past their end, and their refresh tokens, and no others", async () => {
  const user = await newUser();
  const longAgo = Date.now() - 31 * 86_400_000;
  const hex = longAgo.toString(16).padStart(12, "0");
  const oldId = `${hex.slice(0, 8)}-${hex.slice(8)}-7abc-8abc-${newUuid().slice(-12)}`;
  await env.DIRECTORY.batch([
    env.DIRECTORY.prepare(
      "INSERT INTO sessions (id, user_id, workspace_id, expires_at, revoked_at, created_at) VALUES (?1, ?2, NULL, ?3, NULL, ?4)",
    ).bind(oldId, user.userId, longAgo + 30 * 86_400_000, longAgo),
    env.DIRECTORY.prepare("INSERT INTO refresh_tokens (hash, session_id, created_at) VALUES (?1, ?2, ?3)").bind(
      newUuid(),
      oldId,
      longAgo,
    ),
  ]);
  const living = await sessionOf(user);
  expect(await purgeSessions(testRuntime())).toBe(1);
  const left = await env.DIRECTORY.prepare("SELECT id FROM sessions WHERE user_id = ?1").bind(user.userId).all();
  expect(left.results.map((row) => row.id)).not.toContain(oldId);
  expect(left.results).toHaveLength(2);
  const orphan = await env.DIRECTORY.prepare("SELECT count(*) AS n FROM refresh_tokens WHERE session_id = ?1")
    .bind(oldId)
    .first("n");
  expect(orphan).toBe(0);
  expect((await refresh(living.refreshToken)).status).toBe(200);
});
