import { open, randomToken, type SealContext, seal, sha256Hex } from "../platform/crypto";
import { AppError } from "../platform/errors";
import { directory, type Runtime } from "../platform/runtime";
import { MAIL_WINDOWS, SIGN_IN_WINDOWS, SIGN_UP_WINDOWS, spendQuota } from "../workspaces/quota";
import { sendVerification, verifyEmailToken } from "./mail";
import { checkPassword, hashPassword } from "./passwords";
import {
  type Admission,
  addRefreshToken,
  deleteSessionsBelow,
  insertSession,
  insertUser,
  markEmailVerified,
  revokeSession,
  rotateRefreshToken,
  type Session,
  type SocialAccount,
  selectUser,
  selectUserByEmail,
  type User,
  upsertSocialUser,
} from "./store";
import { ACCESS_TOKEN_SECONDS, SESSION_MS, signAccessToken } from "./tokens";

/** Two tabs may refresh at once: for this long the used token answers the successor it was exchanged for. */
const REUSE_GRACE = 30_000;
const REFRESH_TOKEN = /^rt_[A-Za-z0-9_-]{43}$/;

export interface SignedIn {
  userId: string;
  accessToken: string;
  refreshToken: string;
  /** Seconds. */
  expiresIn: number;
}

const invalidCredentials = () => new AppError("unauthenticated", "Invalid credentials");

/** One call against a network address (an IPv6 subscriber is a /64), before anything costly is done for it. */
async function spendAddress(rt: Runtime, act: "signin" | "signup", address: string): Promise<void> {
  const windows = act === "signin" ? SIGN_IN_WINDOWS : SIGN_UP_WINDOWS;
  await spendQuota(rt, `${act}:address:${await sha256Hex(subscriber(address))}`, windows);
}

function subscriber(address: string): string {
  if (!address.includes(":") || address.includes(".")) return address;
  const [head = "", tail] = address.toLowerCase().split("::");
  const left = head.split(":").filter((group) => group !== "");
  const right = tail === undefined ? [] : tail.split(":").filter((group) => group !== "");
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  const groups = [...left, ...Array<string>(Math.max(0, zeros)).fill("0"), ...right];
  return groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":");
}

/** Which accounts the deployment takes now, null for none. */
async function admission(rt: Runtime, invitationToken: string | null): Promise<Admission | null> {
  switch (rt.config.SIGNUP) {
    case "open":
      return { kind: "open" };
    case "invite":
      return { kind: "invited", invitationHash: await sha256Hex(invitationToken ?? "") };
    case "closed":
      return null;
  }
}

function notAdmitted(rt: Runtime): AppError {
  return rt.config.SIGNUP === "invite"
    ? new AppError("forbidden", "Sign-up is by invitation: send the invitation_token of an invitation to this address")
    : new AppError("forbidden", "Sign-up is closed");
}

/**
 * Makes an account with a password. A taken address is a 409 with the holder's id. The address stays unverified until
 * its owner follows the link that the operator's mail hook delivers; `origin` is the deployment's own.
 */
export async function signUp(
  rt: Runtime,
  input: { email: string; password: string; name: string | null; invitationToken: string | null },
  address: string,
  origin: string,
): Promise<User> {
  const allowed = await admission(rt, input.invitationToken);
  if (!allowed) throw notAdmitted(rt);
  await spendAddress(rt, "signup", address);
  const now = rt.clock();
  const user: User = {
    id: rt.newId(),
    email: input.email,
    name: input.name,
    passwordHash: hashPassword(input.password),
    emailVerified: false,
    createdAt: now,
    updatedAt: now,
  };
  const { admitted, holder } = await insertUser(directory(rt), user, allowed);
  if (!admitted) throw notAdmitted(rt);
  if (holder !== user.id) {
    throw new AppError("already_exists", "An account with this e-mail address exists already", {
      extra: { id: holder },
    });
  }
  await sendVerification(rt, user, origin);
  return user;
}

/**
 * Signs in with a password. The same text, after the same work, whether the account is missing, has no password, or has
 * another one. Limited per network address and per account before anything is hashed.
 */
export async function signIn(
  rt: Runtime,
  input: { email: string; password: string; workspaceId: string | null },
  address: string,
): Promise<SignedIn> {
  await spendAddress(rt, "signin", address);
  await spendQuota(rt, `signin:account:${await sha256Hex(input.email)}`, SIGN_IN_WINDOWS);
  const user = await selectUserByEmail(directory(rt), input.email);
  if (!checkPassword(input.password, user?.passwordHash ?? null) || !user) throw invalidCredentials();
  return startSession(rt, user, input.workspaceId);
}

/** The user of an account that Google or GitHub vouches for; made when new and the deployment takes new accounts. */
export async function socialUser(rt: Runtime, account: SocialAccount, invitationToken: string | null): Promise<User> {
  const allowed = await admission(rt, invitationToken);
  const user = await upsertSocialUser(directory(rt), account, rt.newId(), allowed, rt.clock());
  if (!user) throw notAdmitted(rt);
  return user;
}

/** Limits how often one network address may have a social credential checked: each costs calls to the provider. */
export function spendSocialSignIn(rt: Runtime, address: string): Promise<void> {
  return spendAddress(rt, "signin", address);
}

/** A new session of a user, in one workspace when named (404 when the user is no member of it). */
export async function startSession(rt: Runtime, user: User, workspaceId: string | null): Promise<SignedIn> {
  const now = rt.clock();
  const session: Session = {
    id: rt.newId(),
    userId: user.id,
    workspaceId,
    expiresAt: now + SESSION_MS,
    revokedAt: null,
    createdAt: now,
  };
  const refreshToken = randomToken("rt_");
  const hash = await sha256Hex(refreshToken);
  if (!(await insertSession(directory(rt), session, hash, user.passwordHash))) {
    if (workspaceId !== null) throw new AppError("not_found", "Workspace not found");
    // The password changed between the check and this line.
    throw invalidCredentials();
  }
  return signedIn(rt, session, refreshToken);
}

async function signedIn(rt: Runtime, session: Session, refreshToken: string): Promise<SignedIn> {
  const { id, userId, workspaceId, expiresAt } = session;
  return {
    userId,
    accessToken: await signAccessToken(rt, { userId, sessionId: id, workspaceId }),
    refreshToken,
    expiresIn: Math.min(ACCESS_TOKEN_SECONDS, Math.floor((expiresAt - rt.clock()) / 1000)),
  };
}

function successorContext(hash: string): SealContext {
  return { table: "refresh_tokens", column: "successor_sealed", workspaceId: "", rowId: hash };
}

/**
 * Exchanges a refresh token for a new pair. The one before stays good for 30 s and answers the same successor; a later
 * use means that two parties hold it, and ends the session for both.
 */
export async function refreshWithToken(rt: Runtime, refreshToken: string): Promise<SignedIn> {
  if (!REFRESH_TOKEN.test(refreshToken)) throw invalidCredentials();
  const keys = { current: rt.config.SECRET_KEY, previous: rt.config.SECRET_KEY_PREVIOUS };
  const db = directory(rt);
  const now = rt.clock();
  const hash = await sha256Hex(refreshToken);
  const successor = randomToken("rt_");
  const sealed = await seal(keys, successorContext(hash), successor);
  const rotated = await rotateRefreshToken(db, hash, { hash: await sha256Hex(successor), sealed }, now);
  if (!rotated) throw invalidCredentials();
  const { token, session } = rotated;
  if (session.revokedAt !== null || session.expiresAt <= now) throw invalidCredentials();
  if (token.successorSealed === sealed) return signedIn(rt, session, successor);
  if (token.usedAt !== null && token.successorSealed !== null && now < token.usedAt + REUSE_GRACE) {
    return signedIn(rt, session, await open(keys, successorContext(hash), token.successorSealed));
  }
  await revokeSession(db, session.id, now);
  throw invalidCredentials();
}

/** The documented refresh with a valid access token: a new pair that ends with the same session. */
export async function refreshWithSession(rt: Runtime, sessionId: string): Promise<SignedIn> {
  const refreshToken = randomToken("rt_");
  const session = await addRefreshToken(directory(rt), await sha256Hex(refreshToken), sessionId, rt.clock());
  if (!session) throw invalidCredentials();
  return signedIn(rt, session, refreshToken);
}

/** Ends a session: its access and refresh tokens are worth nothing from the next call on. */
export async function signOut(rt: Runtime, sessionId: string): Promise<void> {
  await revokeSession(directory(rt), sessionId, rt.clock());
}

export async function currentUser(rt: Runtime, userId: string): Promise<User> {
  const user = await selectUser(directory(rt), userId);
  if (!user) throw invalidCredentials();
  return user;
}

/** Marks the address verified that a signed link names. Following it twice changes nothing. */
export async function verifyEmail(rt: Runtime, token: string): Promise<User> {
  const { userId, email } = await verifyEmailToken(rt, token);
  const user = await markEmailVerified(directory(rt), userId, email, rt.clock());
  if (!user) throw new AppError("unauthenticated", "The link is not valid or has expired");
  return user;
}

/** Sends the verification mail again, three times an hour at most. Nothing happens for a verified account. */
export async function requestVerification(rt: Runtime, userId: string, origin: string): Promise<void> {
  if (rt.config.MAIL_HOOK_URL === undefined) {
    throw new AppError("not_configured", "The setting MAIL_HOOK_URL of this deployment is missing");
  }
  const user = await currentUser(rt, userId);
  if (user.emailVerified) return;
  await spendQuota(rt, `mail:${userId}`, MAIL_WINDOWS);
  if (!(await sendVerification(rt, user, origin))) {
    throw new AppError("provider_unavailable", "The mail could not be handed over, try again later");
  }
}

/** Nightly: removes sessions past their absolute end, with their refresh tokens. Answers how many. */
export async function purgeSessions(rt: Runtime): Promise<number> {
  const db = directory(rt);
  const oldest = firstIdOf(rt.clock() - SESSION_MS);
  const limit = 1000;
  let removed = 0;
  // A night's worth; what is left over is the next night's.
  for (let round = 0; round < 500; round += 1) {
    const n = await deleteSessionsBelow(db, oldest, limit);
    removed += n;
    if (n < limit) break;
  }
  return removed;
}

/** The smallest UUIDv7 of a moment: its first 48 bits are the milliseconds (RFC 9562 §5.7). */
function firstIdOf(ms: number): string {
  const hex = Math.max(0, ms).toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}
