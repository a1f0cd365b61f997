import type { Caller, Membership, WorkspaceScope } from "../auth/guard";
import { sha256Hex } from "../platform/crypto";
import { AppError } from "../platform/errors";
import { directory, type Runtime } from "../platform/runtime";
import { conversationObject } from "./publish";
import { type LiveConnect, type Seat, upgradeRequest } from "./seat";
import { findHolder, findThread } from "./store";
import { readClaims, STREAM_TOKEN_LIFETIME, signClaims, TICKET_LIFETIME, type TicketClaims } from "./tickets";

export function seatOf(scope: WorkspaceScope): Seat {
  const { caller, membership, workspaceId } = scope;
  return { workspace_id: workspaceId, user_id: caller.kind === "user" ? caller.userId : null, role: membership.role };
}

/**
 * A signed ticket for one socket: of the workspace, or of one conversation of it. The caller's role is in it, so that
 * connecting reads no database. Throws `not_found` for a conversation that is not in the workspace.
 */
export async function makeTicket(
  scope: WorkspaceScope,
  conversationId: string | undefined,
): Promise<{ ticket: string; expiresAt: number }> {
  const { rt } = scope;
  const now = rt.clock();
  const expiresAt = now + TICKET_LIFETIME;
  const conversation = conversationId === undefined ? null : await threadOf(scope, conversationId);
  const ticket = await signClaims(rt, {
    kind: "ticket",
    id: rt.newId(),
    seat: seatOf(scope),
    conversation,
    issued_at: now,
    expires_at: expiresAt,
  });
  return { ticket, expiresAt };
}

async function threadOf(scope: WorkspaceScope, conversationId: string): Promise<TicketClaims["conversation"]> {
  const thread = await findThread(scope.db, scope.workspaceId, conversationId);
  if (!thread) throw new AppError("not_found", "Resource not found");
  return {
    id: conversationId,
    thread: {
      workspace_id: scope.workspaceId,
      conversation_id: thread.id,
      object: conversationObject(scope.workspaceId, thread.phoneNumberId, thread.peer),
    },
  };
}

/**
 * A token that reads the event stream of one workspace for an hour, any number of times: EventSource cannot send
 * headers and reconnects with the same address. `credential` is the one of this call.
 */
export async function makeStreamToken(
  scope: WorkspaceScope,
  credential: string,
): Promise<{ token: string; expiresAt: number }> {
  const { rt, caller, workspaceId } = scope;
  const expiresAt = rt.clock() + STREAM_TOKEN_LIFETIME;
  const holder =
    caller.kind === "user"
      ? { user_id: caller.userId, session_id: caller.sessionId }
      : { key_fingerprint: (await sha256Hex(credential)).slice(0, 16) };
  const claims = { kind: "stream" as const, workspace_id: workspaceId, holder, expires_at: expiresAt };
  return { token: await signClaims(rt, claims), expiresAt };
}

/** Who calls with a stream token: the holder, in that one workspace. Throws `forbidden` when it is not good any more. */
export async function callerOfStreamToken(rt: Runtime, token: string, workspaceId: string): Promise<Caller> {
  const claims = await readClaims(rt, token);
  if (claims?.kind !== "stream" || claims.workspace_id !== workspaceId) {
    throw new AppError("forbidden", "The stream token is expired, altered or for another workspace");
  }
  const held = await findHolder(directory(rt), claims, rt.clock());
  if (!held) throw new AppError("forbidden", "The access this stream token stands for has ended");
  const membership: Membership = { workspaceId, ...held };
  const { holder } = claims;
  if (!("user_id" in holder)) return { kind: "key", memberships: [membership] };
  return {
    kind: "user",
    userId: holder.user_id,
    sessionId: holder.session_id,
    workspaceClaim: workspaceId,
    memberships: [membership],
  };
}

/** The claims of a ticket for this very target. Throws `forbidden`; whether it was used only its object knows. */
export async function readTicket(
  rt: Runtime,
  ticket: string,
  target: { workspaceId: string } | { conversationId: string },
): Promise<TicketClaims> {
  const claims = await readClaims(rt, ticket);
  const fits =
    claims?.kind === "ticket" &&
    ("workspaceId" in target
      ? claims.conversation === null && claims.seat.workspace_id === target.workspaceId
      : claims.conversation?.id === target.conversationId);
  if (!fits) throw new AppError("forbidden", "The ticket is expired, altered or for something else");
  return claims;
}

/** Opens the socket at the workspace's hub or at the conversation. Throws `forbidden` for a used ticket. */
export async function openSocket(rt: Runtime, connect: LiveConnect): Promise<Response> {
  const object = connect.thread
    ? rt.env.CONVERSATION.getByName(connect.thread.object)
    : rt.env.WORKSPACE_HUB.getByName(connect.seat.workspace_id);
  const response = await object.fetch(upgradeRequest(connect));
  switch (response.status) {
    case 101:
      return response;
    case 403:
      throw new AppError("forbidden", "The ticket was used, or the access it stands for has ended");
    case 429:
      throw new AppError("rate_limited", "Too many open live connections", { retryAfter: 30 });
    default:
      throw new Error(`A live object answered an upgrade with ${response.status}`);
  }
}
