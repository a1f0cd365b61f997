import type { InferSelectModel } from "drizzle-orm";
import type { Role } from "../auth/access";
import { columnsOf, type Db, fromRow, statement } from "../platform/d1";
import type { BareListQuery } from "../platform/pagination";
import { members } from "./tables";

export type Member = InferSelectModel<typeof members>;

const COLUMNS = columnsOf(members, "members");

/** Members and invitations one workspace may have. */
export const MAX_MEMBERS = 1_000;

export async function listMembers(
  db: Db,
  workspaceId: string,
  page: BareListQuery,
): Promise<{ rows: Member[]; total: number }> {
  const [rows, count] = await db.batch([
    statement(
      `SELECT ${COLUMNS} FROM members WHERE workspace_id = ?1 ORDER BY id LIMIT ?2 OFFSET ?3`,
      workspaceId,
      page.limit ?? -1,
      page.offset,
    ),
    statement("SELECT count(*) AS total FROM members WHERE workspace_id = ?1", workspaceId),
  ]);
  return {
    rows: (rows?.results ?? []).map((row) => fromRow(members, row)),
    total: Number(count?.results[0]?.total ?? 0),
  };
}

export async function selectMember(db: Db, workspaceId: string, id: string): Promise<Member | null> {
  const row = await db.first(`SELECT ${COLUMNS} FROM members WHERE workspace_id = ?1 AND id = ?2`, workspaceId, id);
  return row ? fromRow(members, row) : null;
}

/** `?1` the workspace, `?2` the acting user: whether that user owns the workspace at this moment. */
const ACTOR_OWNS = `EXISTS (SELECT 1 FROM members a WHERE a.workspace_id = ?1 AND a.user_id = ?2
  AND a.role = 'OWNER' AND a.status = 'active')`;

export interface NewMember {
  workspaceId: string;
  id: string;
  email: string;
  role: Role;
  invitedBy: string;
  invitationHash: string;
  invitationExpiresAt: number;
  now: number;
}

/**
 * Adds an address: a user who proved it is a member at once, anybody else is invited. An address that was invited and
 * let the invitation expire is invited again. Answers the row that stands there now and whether this call put it there;
 * null when the workspace is full, or the actor is no owner (any more) and the role is.
 */
export async function insertMember(db: Db, row: NewMember): Promise<{ member: Member; added: boolean } | null> {
  const [inserted, rows] = await db.batch([
    statement(
      `INSERT INTO members (workspace_id, id, user_id, email, role, status, invitation_hash, invitation_expires_at,
         invited_by, joined_at, created_at)
       SELECT ?1, ?3, u.id, ?4, ?5, iif(u.id IS NULL, 'invited', 'active'), iif(u.id IS NULL, ?6, NULL),
         iif(u.id IS NULL, ?7, NULL), ?2, iif(u.id IS NULL, NULL, ?8), ?8
       FROM (SELECT 1) LEFT JOIN users u ON u.email = ?4 AND u.email_verified = 1
       WHERE (SELECT count(*) FROM members n WHERE n.workspace_id = ?1) < ?9 AND (?5 <> 'OWNER' OR ${ACTOR_OWNS})
       ON CONFLICT (workspace_id, email) DO UPDATE
         SET user_id = excluded.user_id, role = excluded.role, status = excluded.status,
           invitation_hash = excluded.invitation_hash, invitation_expires_at = excluded.invitation_expires_at,
           invited_by = excluded.invited_by, joined_at = excluded.joined_at
         WHERE members.status = 'invited' AND members.invitation_expires_at <= ?8
           AND (members.role <> 'OWNER' OR ${ACTOR_OWNS})`,
      row.workspaceId,
      row.invitedBy,
      row.id,
      row.email,
      row.role,
      row.invitationHash,
      row.invitationExpiresAt,
      row.now,
      MAX_MEMBERS,
    ),
    statement(`SELECT ${COLUMNS} FROM members WHERE workspace_id = ?1 AND email = ?2`, row.workspaceId, row.email),
  ]);
  const stored = rows?.results[0];
  return stored ? { member: fromRow(members, stored), added: inserted?.meta.changes === 1 } : null;
}

/**
 * `?3` the member. Only an owner touches an owner, and never the last one: both are looked up inside the statement that
 * changes the row, so two owners who demote each other at once leave one.
 */
const MAY_TOUCH = `(members.role <> 'OWNER' OR (${ACTOR_OWNS} AND EXISTS (SELECT 1 FROM members o
  WHERE o.workspace_id = ?1 AND o.role = 'OWNER' AND o.status = 'active' AND o.id <> ?3)))`;

/** Null when the member is not there or may not be touched. Staying an owner is never refused to an owner. */
export async function updateRole(
  db: Db,
  workspaceId: string,
  actor: string,
  id: string,
  role: Role,
): Promise<Member | null> {
  const row = await db.first(
    `UPDATE members SET role = ?4 WHERE workspace_id = ?1 AND id = ?3
       AND iif(?4 = 'OWNER', ${ACTOR_OWNS}, ${MAY_TOUCH}) RETURNING ${COLUMNS}`,
    workspaceId,
    actor,
    id,
    role,
  );
  return row ? fromRow(members, row) : null;
}

/** The member that was removed, null when it is not there or may not be touched. */
export async function deleteMember(db: Db, workspaceId: string, actor: string, id: string): Promise<Member | null> {
  const row = await db.first(
    `DELETE FROM members WHERE workspace_id = ?1 AND id = ?3 AND ${MAY_TOUCH} RETURNING ${COLUMNS}`,
    workspaceId,
    actor,
    id,
  );
  return row ? fromRow(members, row) : null;
}

/** Makes the invited address's own user a member. Null for a token that is unknown, used, expired, or another's. */
export async function acceptInvitation(
  db: Db,
  invitationHash: string,
  userId: string,
  now: number,
): Promise<Member | null> {
  const row = await db.first(
    `UPDATE members SET status = 'active', user_id = ?2, joined_at = ?3, invitation_hash = NULL,
       invitation_expires_at = NULL
     WHERE invitation_hash = ?1 AND status = 'invited' AND invitation_expires_at > ?3
       AND email = (SELECT email FROM users WHERE id = ?2)
       AND EXISTS (SELECT 1 FROM workspaces w WHERE w.id = workspace_id AND w.deleted_at IS NULL)
     RETURNING ${COLUMNS}`,
    invitationHash,
    userId,
    now,
  );
  return row ? fromRow(members, row) : null;
}
