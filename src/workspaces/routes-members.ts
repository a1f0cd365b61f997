import type { z } from "@hono/zod-openapi";
import { insufficient } from "../auth/access";
import { authenticateUser, enterWorkspace, type WorkspaceScope } from "../auth/guard";
import { operation } from "../auth/operation";
import { createRouter } from "../platform/app";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import { AppError } from "../platform/errors";
import { bareListQuery } from "../platform/pagination";
import {
  acceptInvitationBody,
  addedMemberAnswer,
  addMemberBody,
  changeRoleBody,
  memberAnswer,
  memberParams,
  workspaceParams,
} from "./schema";
import {
  type Actor,
  addMember,
  changeRole,
  type Member,
  pageMembers,
  removeMember,
  takeInvitation,
} from "./service-members";

const tags = ["Workspaces"];

const listRoute = operation({ kind: "workspace", permission: "members.read" }, [], {
  method: "get",
  path: "/api/workspaces/{workspace_id}/members",
  tags,
  summary: "The members of a workspace",
  request: { params: workspaceParams, query: bareListQuery },
  responses: {
    200: {
      description: "All of them, invited ones too; how many in `X-Total-Count`",
      content: { "application/json": { schema: memberAnswer.array() } },
    },
  },
});

const addRoute = operation({ kind: "workspace", permission: "members.manage" }, ["already_exists", "conflict"], {
  method: "post",
  path: "/api/workspaces/{workspace_id}/members",
  tags,
  summary: "Add a member by e-mail address",
  description:
    "A user with that verified address is a member at once; otherwise the answer holds an invitation, once. No mail is sent.",
  request: {
    params: workspaceParams,
    body: { required: true, content: { "application/json": { schema: addMemberBody } } },
  },
  responses: {
    200: { description: "The member", content: { "application/json": { schema: addedMemberAnswer } } },
  },
});

const changeRoute = operation({ kind: "workspace", permission: "members.manage" }, ["conflict"], {
  method: "patch",
  path: "/api/workspaces/{workspace_id}/members/{member_id}",
  tags,
  summary: "Change a member's role",
  description: "Only owners make and unmake owners; the last owner stays one.",
  request: {
    params: memberParams,
    body: { required: true, content: { "application/json": { schema: changeRoleBody } } },
  },
  responses: { 200: { description: "The member", content: { "application/json": { schema: memberAnswer } } } },
});

const removeRoute = operation({ kind: "workspace", permission: "members.manage" }, ["conflict"], {
  method: "delete",
  path: "/api/workspaces/{workspace_id}/members/{member_id}",
  tags,
  summary: "Remove a member or withdraw an invitation",
  request: { params: memberParams },
  responses: { 204: { description: "Removed; their live connections are closed" } },
});

const acceptRoute = operation({ kind: "user" }, ["not_found"], {
  method: "post",
  path: "/api/workspaces/invitations/accept",
  tags,
  summary: "Accept an invitation to your own address",
  request: { body: { required: true, content: { "application/json": { schema: acceptInvitationBody } } } },
  responses: { 200: { description: "Your membership", content: { "application/json": { schema: memberAnswer } } } },
});

function memberBody(member: Member): z.input<typeof memberAnswer> {
  return {
    id: member.id,
    workspace_id: member.workspaceId,
    user_id: member.userId,
    email: member.email,
    role: member.role,
    status: member.status,
    joined_at: isoSecondsOrNull(member.joinedAt),
    created_at: isoSeconds(member.createdAt),
  };
}

/** Members are managed by members: an API key has no role among them. */
function actorOf({ caller, membership }: WorkspaceScope): Actor {
  if (caller.kind !== "user" || membership.role === null) {
    throw new AppError("forbidden", insufficient("members.manage"));
  }
  return { userId: caller.userId, role: membership.role };
}

export const memberRoutes = createRouter()
  .openapi(acceptRoute, async (c) => {
    const { userId } = await authenticateUser(c);
    return c.json(memberBody(await takeInvitation(c.var.rt, userId, c.req.valid("json").token)), 200);
  })
  .openapi(listRoute, async (c) => {
    const scope = await enterWorkspace(c, "members.read", c.req.valid("param").workspace_id);
    const { rows, total } = await pageMembers(c.var.rt, scope.workspaceId, c.req.valid("query"));
    c.header("X-Total-Count", String(total));
    return c.json(rows.map(memberBody), 200);
  })
  .openapi(addRoute, async (c) => {
    const scope = await enterWorkspace(c, "members.manage", c.req.valid("param").workspace_id);
    const { user_email, role } = c.req.valid("json");
    const input = { email: user_email, role };
    const { member, invitationToken } = await addMember(c.var.rt, scope.workspaceId, actorOf(scope), input);
    // In the fragment: it stays out of logs and referrers.
    const url = `${new URL(c.req.url).origin}/app/invitations#${invitationToken}`;
    return c.json({ ...memberBody(member), ...(invitationToken === null ? {} : { invitation_url: url }) }, 200);
  })
  .openapi(changeRoute, async (c) => {
    const { workspace_id, member_id } = c.req.valid("param");
    const scope = await enterWorkspace(c, "members.manage", workspace_id);
    const { role } = c.req.valid("json");
    return c.json(memberBody(await changeRole(c.var.rt, scope.workspaceId, actorOf(scope), member_id, role)), 200);
  })
  .openapi(removeRoute, async (c) => {
    const { workspace_id, member_id } = c.req.valid("param");
    const scope = await enterWorkspace(c, "members.manage", workspace_id);
    await removeMember(c.var.rt, scope.workspaceId, actorOf(scope), member_id);
    return c.body(null, 204);
  });
