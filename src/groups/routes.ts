import type { z } from "@hono/zod-openapi";
import type { Permission } from "../auth/access";
import { enterItem, enterReading, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { type AppContext, createRouter } from "../platform/app";
import { isoSeconds } from "../platform/clock";
import { AppError } from "../platform/errors";
import { pageBody, pageQuery } from "../platform/pagination";
import {
  changeGroupBody,
  createGroupBody,
  groupList,
  groupListQuery,
  groupParams,
  groupResource,
  memberList,
  memberParams,
  type memberResource,
  membersBody,
} from "./schema";
import {
  addMembers,
  changeGroup,
  createGroup,
  type Group,
  type GroupMember,
  pageGroups,
  pageMembers,
  removeGroup,
  removeMembers,
  selectGroup,
} from "./service";

const tags = ["Groups"];
const path = "/api/groups";
const itemPath = `${path}/{id}` as const;
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });
const body = <T extends z.ZodType>(schema: T) => ({ required: true, content: json(schema) });
const answer = (description: string) => ({ description, content: json(groupResource) });
const READ = { kind: "workspace", permission: "groups.read" } as const;
const MANAGE = { kind: "workspace", permission: "groups.manage" } as const;

const createRoute = operation(MANAGE, [], {
  method: "post",
  path,
  tags,
  summary: "Make a group of contacts",
  request: { body: body(createGroupBody) },
  responses: { 201: answer("The group") },
});

const listRoute = operation(READ, [], {
  method: "get",
  path,
  tags,
  summary: "The groups of a workspace, newest first",
  request: { query: groupListQuery },
  responses: { 200: { description: "A page of them", content: json(groupList) } },
});

const getRoute = operation({ ...READ, item: true }, [], {
  method: "get",
  path: itemPath,
  tags,
  summary: "One group",
  request: { params: groupParams },
  responses: { 200: answer("The group") },
});

const changeRoute = operation({ ...MANAGE, item: true }, ["conflict"], {
  method: "patch",
  path: itemPath,
  tags,
  summary: "Change a group's name, capacity or automatic filling",
  request: { params: groupParams, body: body(changeGroupBody) },
  responses: { 200: answer("The group") },
});

const deleteRoute = operation({ ...MANAGE, item: true }, ["conflict"], {
  method: "delete",
  path: itemPath,
  tags,
  summary: "Delete an empty group",
  request: { params: groupParams },
  responses: { 204: { description: "It is gone" } },
});

const membersRoute = operation({ ...READ, item: true }, [], {
  method: "get",
  path: `${itemPath}/members`,
  tags,
  summary: "The members of a group, the newest contacts first",
  request: { params: groupParams, query: pageQuery },
  responses: { 200: { description: "A page of them", content: json(memberList) } },
});

const addRoute = operation({ ...MANAGE, item: true }, ["conflict"], {
  method: "post",
  path: `${itemPath}/members`,
  tags,
  summary: "Add contacts to a group",
  description: "All of them or none; those who are in it already stay.",
  request: { params: groupParams, body: body(membersBody) },
  responses: { 200: answer("The group as it is now") },
});

const removeManyRoute = operation({ ...MANAGE, item: true }, [], {
  method: "post",
  path: `${itemPath}/members/remove`,
  tags,
  summary: "Take contacts out of a group",
  description: "Those who are not in it make no difference.",
  request: { params: groupParams, body: body(membersBody) },
  responses: { 200: answer("The group as it is now") },
});

const removeRoute = operation({ ...MANAGE, item: true }, [], {
  method: "delete",
  path: `${itemPath}/members/{contact_id}`,
  tags,
  summary: "Take one contact out of a group",
  request: { params: memberParams },
  responses: { 204: { description: "The contact is not in it any more" } },
});

function shape(group: Group): z.input<typeof groupResource> {
  return {
    id: group.id,
    workspace_id: group.workspaceId,
    name: group.name,
    capacity: group.capacity,
    size: group.size,
    auto_fill: group.autoFill,
    created_at: isoSeconds(group.createdAt),
    updated_at: isoSeconds(group.updatedAt),
  };
}

function shapeMember(member: GroupMember): z.input<typeof memberResource> {
  return {
    contact_id: member.contactId,
    phone_number: member.phoneNumber,
    name: member.name,
    opted_in: member.optedIn,
    added_at: isoSeconds(member.addedAt),
  };
}

/** Enters the workspace that holds the group: one that is not the caller's is a 404. */
function enterGroup(c: AppContext, permission: Permission, id: string) {
  return enterItem(c, permission, id, (db, workspaceIds) => selectGroup(db, workspaceIds, id));
}

export const groupRoutes = createRouter()
  .openapi(createRoute, async (c) => {
    const input = c.req.valid("json");
    const scope = await enterWorkspace(c, "groups.manage", input.workspace_id);
    const group = await createGroup(scope, { name: input.name, capacity: input.capacity, autoFill: input.auto_fill });
    rememberBookmark(c, scope);
    return c.json(shape(group), 201);
  })
  .openapi(listRoute, async (c) => {
    const query = c.req.valid("query");
    const { scope, found } = await enterReading(c, "groups.read", query.workspace_id, (own) =>
      pageGroups(own.db, own.workspaceId, query),
    );
    rememberBookmark(c, scope);
    return c.json(pageBody(found, query, shape), 200);
  })
  .openapi(getRoute, async (c) => {
    const { scope, item } = await enterGroup(c, "groups.read", c.req.valid("param").id);
    rememberBookmark(c, scope);
    return c.json(shape(item), 200);
  })
  .openapi(changeRoute, async (c) => {
    const { scope, item } = await enterGroup(c, "groups.manage", c.req.valid("param").id);
    const { name, capacity, auto_fill } = c.req.valid("json");
    const group = await changeGroup(scope, item, { name, capacity, autoFill: auto_fill });
    rememberBookmark(c, scope);
    return c.json(shape(group), 200);
  })
  .openapi(deleteRoute, async (c) => {
    const { scope, item } = await enterGroup(c, "groups.manage", c.req.valid("param").id);
    await removeGroup(scope, item);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  })
  .openapi(membersRoute, async (c) => {
    const query = c.req.valid("query");
    const { scope, item } = await enterGroup(c, "groups.read", c.req.valid("param").id);
    const page = await pageMembers(scope.db, item, query);
    rememberBookmark(c, scope);
    return c.json(pageBody(page, query, shapeMember), 200);
  })
  .openapi(addRoute, async (c) => {
    const { scope, item } = await enterGroup(c, "groups.manage", c.req.valid("param").id);
    const group = await addMembers(scope, item, c.req.valid("json").contact_ids);
    rememberBookmark(c, scope);
    return c.json(shape(group), 200);
  })
  .openapi(removeManyRoute, async (c) => {
    const { scope, item } = await enterGroup(c, "groups.manage", c.req.valid("param").id);
    await removeMembers(scope, item, c.req.valid("json").contact_ids);
    const group = await selectGroup(scope.db, [item.workspaceId], item.id);
    if (!group) throw new AppError("not_found", "Resource not found");
    rememberBookmark(c, scope);
    return c.json(shape(group), 200);
  })
  .openapi(removeRoute, async (c) => {
    const { id, contact_id } = c.req.valid("param");
    const { scope, item } = await enterGroup(c, "groups.manage", id);
    if ((await removeMembers(scope, item, [contact_id])) === 0) throw new AppError("not_found", "Resource not found");
    rememberBookmark(c, scope);
    return c.body(null, 204);
  });
