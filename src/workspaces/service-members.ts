import { insufficient, type Role } from "../auth/access";
import { randomToken, sha256Hex } from "../platform/crypto";
import { AppError } from "../platform/errors";
import type { BareListQuery } from "../platform/pagination";
import { directory, type Runtime } from "../platform/runtime";
import { closeMemberSockets } from "../realtime/publish";
import {
  acceptInvitation,
  deleteMember,
  insertMember,
  listMembers,
  MAX_MEMBERS,
  type Member,
  selectMember,
  updateRole,
} from "./store-members";

export type { Member } from "./store-members";

/** An invitation can be accepted for this long. */
const INVITATION_MS = 7 * 86_400_000;

/** Who does something to the members of a workspace, in what role. */
export interface Actor {
  userId: string;
  role: Role;
}

const ownersOnly = () => new AppError("forbidden", insufficient("members.manage_owners"));

export function pageMembers(
  rt: Runtime,
  workspaceId: string,
  page: BareListQuery,
): Promise<{ rows: Member[]; total: number }> {
  return listMembers(directory(rt), workspaceId, page);
}

/**
 * Adds the address: a user who proved it becomes a member at once, anybody else is invited, with a token that is shown
 * once and stored hashed. An address that is there already is a 409 with the member's id. Only owners add owners.
 */
export async function addMember(
  rt: Runtime,
  workspaceId: string,
  actor: Actor,
  input: { email: string; role: Role },
): Promise<{ member: Member; invitationToken: string | null }> {
  if (input.role === "OWNER" && actor.role !== "OWNER") throw ownersOnly();
  const token = randomToken("inv_");
  const now = rt.clock();
  const result = await insertMember(directory(rt), {
    workspaceId,
    id: rt.newId(),
    email: input.email,
    role: input.role,
    invitedBy: actor.userId,
    invitationHash: await sha256Hex(token),
    invitationExpiresAt: now + INVITATION_MS,
    now,
  });
  if (!result) throw new AppError("conflict", `A workspace has at most ${MAX_MEMBERS} members`);
  const { member, added } = result;
  if (!added) {
    throw new AppError("already_exists", "This address is a member or invited already", { extra: { id: member.id } });
  }
  return { member, invitationToken: member.status === "invited" ? token : null };
}

/** Only an owner makes or unmakes owners, and the last one stays. Open sockets of the member close: their rights changed. */
export async function changeRole(
  rt: Runtime,
  workspaceId: string,
  actor: Actor,
  memberId: string,
  role: Role,
): Promise<Member> {
  const db = directory(rt);
  const member = await updateRole(db, workspaceId, actor.userId, memberId, role);
  if (!member) throw refusal(await selectMember(db, workspaceId, memberId), actor, role);
  if (member.userId !== null) await closeMemberSockets(rt, workspaceId, member.userId);
  return member;
}

/** Removes a member or withdraws an invitation. Their next call finds no workspace, their open sockets close. */
export async function removeMember(rt: Runtime, workspaceId: string, actor: Actor, memberId: string): Promise<void> {
  const db = directory(rt);
  const member = await deleteMember(db, workspaceId, actor.userId, memberId);
  if (!member) throw refusal(await selectMember(db, workspaceId, memberId), actor, null);
  if (member.userId !== null) await closeMemberSockets(rt, workspaceId, member.userId);
}

/** Why a member could not be touched, told from the row that stands there now. */
function refusal(member: Member | null, actor: Actor, role: Role | null): AppError {
  if (!member) return new AppError("not_found", "Resource not found");
  if (role === "OWNER" || actor.role !== "OWNER") return ownersOnly();
  return new AppError("conflict", "A workspace keeps at least one owner");
}

/** The signed-in user takes up an invitation to their own address. Works once. */
export async function takeInvitation(rt: Runtime, userId: string, token: string): Promise<Member> {
  const member = await acceptInvitation(directory(rt), await sha256Hex(token), userId, rt.clock());
  if (!member) {
    throw new AppError("not_found", "No open invitation for your address: it was used, has expired, or is another's");
  }
  return member;
}
