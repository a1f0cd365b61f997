import { eq, type InferSelectModel } from "drizzle-orm";
import { type Db, fromRow, type Statement, statement } from "../platform/d1";
import type { SocialProvider } from "./schema";
import { refreshTokens, sessions, users } from "./tables";

export type User = InferSelectModel<typeof users>;
export type Session = InferSelectModel<typeof sessions>;
type RefreshToken = InferSelectModel<typeof refreshTokens>;

/** Which new accounts the deployment takes: any, or those whose address was invited with this token. */
export type Admission = { kind: "open" } | { kind: "invited"; invitationHash: string };

const USER_COLUMNS = "id, email, name, password_hash, email_verified, created_at, updated_at";

/** `?1` the address, `?2` 1 where anyone may come, `?3` the invitation's hash, `?4` now. */
const ADMITTED = `(?2 = 1 OR EXISTS (SELECT 1 FROM members WHERE invitation_hash = ?3 AND email = ?1
  AND status = 'invited' AND invitation_expires_at > ?4))`;

function admissionParams(email: string, admission: Admission, now: number): [string, number, string, number] {
  return admission.kind === "open" ? [email, 1, "", now] : [email, 0, admission.invitationHash, now];
}

/**
 * Stores a user unless the address is taken. `holder` is the id of whoever has the address now, null when the
 * deployment does not take this account.
 */
export async function insertUser(
  db: Db,
  user: User,
  admission: Admission,
): Promise<{ admitted: boolean; holder: string | null }> {
  const admitted = admissionParams(user.email, admission, user.createdAt);
  const [, rows] = await db.batch([
    statement(
      `INSERT INTO users (${USER_COLUMNS}) SELECT ?5, ?1, ?6, ?7, ?8, ?4, ?4 WHERE ${ADMITTED} ON CONFLICT (email) DO NOTHING`,
      ...admitted,
      user.id,
      user.name,
      user.passwordHash,
      Number(user.emailVerified),
    ),
    statement(`SELECT ${ADMITTED} AS admitted, (SELECT id FROM users WHERE email = ?1) AS holder`, ...admitted),
  ]);
  const row = rows?.results[0] as { admitted: number; holder: string | null } | undefined;
  return { admitted: row?.admitted === 1, holder: row?.holder ?? null };
}

export async function selectUser(db: Db, id: string): Promise<User | null> {
  const [user] = await db.orm.select().from(users).where(eq(users.id, id)).limit(1);
  return user ?? null;
}

/** By lower-cased address: one of the named reads without a workspace (contract 5). */
export async function selectUserByEmail(db: Db, email: string): Promise<User | null> {
  const [user] = await db.orm.select().from(users).where(eq(users.email, email)).limit(1);
  return user ?? null;
}

export async function markEmailVerified(db: Db, id: string, email: string, now: number): Promise<User | null> {
  const row = await db.first(
    `UPDATE users SET email_verified = 1, updated_at = ?3 WHERE id = ?1 AND email = ?2 RETURNING ${USER_COLUMNS}`,
    id,
    email,
    now,
  );
  return row ? fromRow(users, row) : null;
}

export interface SocialAccount {
  provider: SocialProvider;
  subject: string;
  /** Verified by the provider, lower-cased. */
  email: string;
  name: string | null;
}

/**
 * The user of an account at Google or GitHub, in one transaction: the linked one; else the one with that address; else
 * a new one, if the deployment admits it (null when not). An account with that address that never proved it may be
 * somebody else's: it loses its password and its sessions before it is handed over.
 */
export async function upsertSocialUser(
  db: Db,
  account: SocialAccount,
  newId: string,
  admission: Admission | null,
  now: number,
): Promise<User | null> {
  const { provider, subject, email } = account;
  const unlinked = "NOT EXISTS (SELECT 1 FROM user_identities WHERE provider = ?2 AND subject = ?3)";
  const statements: Statement[] = [
    statement(
      `UPDATE sessions SET revoked_at = ?4 WHERE revoked_at IS NULL AND ${unlinked}
         AND user_id = (SELECT id FROM users WHERE email = ?1 AND email_verified = 0)`,
      email,
      provider,
      subject,
      now,
    ),
    statement(
      `UPDATE users SET password_hash = NULL, email_verified = 1, updated_at = ?4
       WHERE email = ?1 AND email_verified = 0 AND ${unlinked}`,
      email,
      provider,
      subject,
      now,
    ),
  ];
  if (admission) {
    statements.push(
      statement(
        `INSERT INTO users (${USER_COLUMNS}) SELECT ?5, ?1, ?6, NULL, 1, ?4, ?4 WHERE ${ADMITTED}
           AND NOT EXISTS (SELECT 1 FROM user_identities WHERE provider = ?7 AND subject = ?8)
         ON CONFLICT (email) DO NOTHING`,
        ...admissionParams(email, admission, now),
        newId,
        account.name,
        provider,
        subject,
      ),
    );
  }
  statements.push(
    statement(
      `INSERT INTO user_identities (provider, subject, user_id, created_at)
       SELECT ?2, ?3, id, ?4 FROM users WHERE email = ?1 ON CONFLICT DO NOTHING`,
      email,
      provider,
      subject,
      now,
    ),
    statement(
      `SELECT ${USER_COLUMNS} FROM users
       WHERE id = (SELECT user_id FROM user_identities WHERE provider = ?1 AND subject = ?2)`,
      provider,
      subject,
    ),
  );
  const row = (await db.batch(statements)).at(-1)?.results[0];
  return row ? fromRow(users, row) : null;
}

function insertRefreshToken(hash: string, sessionId: string, now: number): Statement {
  return statement(
    `INSERT INTO refresh_tokens (hash, session_id, created_at)
     SELECT ?1, id, ?3 FROM sessions WHERE id = ?2 AND revoked_at IS NULL AND expires_at > ?3`,
    hash,
    sessionId,
    now,
  );
}

/**
 * Opens a session with its first refresh token, if the user still has the password that was checked and is a member of
 * the workspace the sign-in names. Answers whether it did.
 */
export async function insertSession(
  db: Db,
  session: Session,
  refreshHash: string,
  passwordHash: string | null,
): Promise<boolean> {
  const [inserted] = await db.batch([
    statement(
      `INSERT INTO sessions (id, user_id, workspace_id, expires_at, revoked_at, created_at)
       SELECT ?1, u.id, ?3, ?4, NULL, ?5 FROM users u WHERE u.id = ?2 AND u.password_hash IS ?6
         AND (?3 IS NULL OR EXISTS (SELECT 1 FROM members m JOIN workspaces w ON w.id = m.workspace_id
           WHERE m.user_id = ?2 AND m.workspace_id = ?3 AND m.status = 'active' AND w.deleted_at IS NULL))`,
      session.id,
      session.userId,
      session.workspaceId,
      session.expiresAt,
      session.createdAt,
      passwordHash,
    ),
    insertRefreshToken(refreshHash, session.id, session.createdAt),
  ]);
  return inserted?.meta.changes === 1;
}

/** Another refresh token of a living session. */
export async function addRefreshToken(db: Db, hash: string, sessionId: string, now: number): Promise<Session | null> {
  const [, rows] = await db.batch([
    insertRefreshToken(hash, sessionId, now),
    statement(
      `SELECT id, user_id, workspace_id, expires_at, revoked_at, created_at FROM sessions
       WHERE id = ?1 AND revoked_at IS NULL AND expires_at > ?2`,
      sessionId,
      now,
    ),
  ]);
  const row = rows?.results[0];
  return row ? fromRow(sessions, row) : null;
}

/**
 * Exchanges a refresh token for its successor, once: of two calls at the same time one rotates and the other finds
 * what it rotated to. Null for a token nobody was given.
 */
export async function rotateRefreshToken(
  db: Db,
  hash: string,
  successor: { hash: string; sealed: string },
  now: number,
): Promise<{ token: RefreshToken; session: Session } | null> {
  const [, , tokenRows, sessionRows] = await db.batch([
    statement(
      `UPDATE refresh_tokens SET used_at = ?2, successor_sealed = ?3 WHERE hash = ?1 AND used_at IS NULL
         AND EXISTS (SELECT 1 FROM sessions s WHERE s.id = session_id AND s.revoked_at IS NULL AND s.expires_at > ?2)`,
      hash,
      now,
      successor.sealed,
    ),
    statement(
      `INSERT INTO refresh_tokens (hash, session_id, created_at)
       SELECT ?2, session_id, ?3 FROM refresh_tokens WHERE hash = ?1 AND successor_sealed = ?4`,
      hash,
      successor.hash,
      now,
      successor.sealed,
    ),
    statement("SELECT * FROM refresh_tokens WHERE hash = ?1", hash),
    statement("SELECT * FROM sessions WHERE id = (SELECT session_id FROM refresh_tokens WHERE hash = ?1)", hash),
  ]);
  const token = tokenRows?.results[0];
  const session = sessionRows?.results[0];
  return token && session ? { token: fromRow(refreshTokens, token), session: fromRow(sessions, session) } : null;
}

export async function revokeSession(db: Db, id: string, now: number): Promise<void> {
  await db.run("UPDATE sessions SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL", id, now);
}

/**
 * Removes up to `limit` sessions below an id, with their refresh tokens; answers how many. Ids begin with the time they
 * were made, so "long ended" is a range of the primary key and needs no index of its own.
 */
export async function deleteSessionsBelow(db: Db, id: string, limit: number): Promise<number> {
  const range = "SELECT id FROM sessions WHERE id < ?1 ORDER BY id LIMIT ?2";
  const [, removed] = await db.batch([
    statement(`DELETE FROM refresh_tokens WHERE session_id IN (${range})`, id, limit),
    statement(`DELETE FROM sessions WHERE id IN (${range})`, id, limit),
  ]);
  return removed?.meta.changes ?? 0;
}
