/** The verbs of groups. */
import type { WorkspaceScope } from "../auth/guard";
import { AppError, invalidField } from "../platform/errors";
import { deleteGroup, type Group, type GroupChange, hasTaken, insertGroup, selectGroup, updateGroup } from "./store";
import { deleteMembers, insertMembers } from "./store-members";

export { type Group, pageGroups, selectGroup } from "./store";
export { type GroupMember, pageMembers } from "./store-members";

type Scope = Pick<WorkspaceScope, "rt" | "db" | "workspaceId">;

/** Makes a group. */
export function createGroup(
  { rt, db, workspaceId }: Scope,
  given: { name: string; capacity: number; autoFill: boolean },
): Promise<Group> {
  return insertGroup(db, { workspaceId, id: rt.newId(), ...given }, rt.clock());
}

/**
 * Changes a group. 409 when it has more members than the new capacity, or would become automatic while a member is in
 * another automatic group; 404 when it is gone.
 */
export async function changeGroup({ rt, db }: Scope, group: Group, change: GroupChange): Promise<Group> {
  const changed = await updateGroup(db, group, change, rt.clock());
  if (changed) return changed;
  const now = await selectGroup(db, [group.workspaceId], group.id);
  if (!now) throw gone();
  if (change.capacity !== undefined && now.size > change.capacity) {
    throw new AppError("conflict", `The group has ${now.size} members`);
  }
  if (await hasTaken(db, group)) {
    throw new AppError("conflict", "A member is in another automatic group: a contact is in at most one");
  }
  throw new AppError("overloaded", "The group changed meanwhile, try again", { retryAfter: 1 });
}

/** Deletes a group. 409 while it has members; 404 when it is gone. */
export async function removeGroup({ db }: Pick<Scope, "db">, group: Group): Promise<void> {
  if (await deleteGroup(db, group)) return;
  const now = await selectGroup(db, [group.workspaceId], group.id);
  if (!now) throw gone();
  throw new AppError("conflict", `The group has ${now.size} members: only an empty group can be deleted`);
}

/**
 * Adds contacts to a group, all or none; those who are in it already stay. 422 naming contacts that are not there, 409
 * when they do not fit or are in another automatic group.
 */
export async function addMembers({ rt, db }: Scope, group: Group, contactIds: readonly string[]): Promise<Group> {
  const result = await insertMembers(db, group, contactIds, rt.clock());
  switch (result.kind) {
    case "added":
      return result.group;
    case "unknown":
      throw invalidField(["body", "contact_ids", result.places[0] ?? 0], "Contact not found");
    case "elsewhere":
      throw new AppError("conflict", "A contact is in another automatic group: it is in at most one", {
        extra: { contact_ids: result.places.flatMap((place) => contactIds[place] ?? []) },
      });
    case "full":
      throw new AppError("conflict", `The group has room for ${result.room} more, not for ${result.wanted}`);
    case "gone":
      throw gone();
  }
}

/** Takes contacts out of a group; answers how many were in it. */
export function removeMembers({ db }: Pick<Scope, "db">, group: Group, contactIds: readonly string[]): Promise<number> {
  return deleteMembers(db, group, contactIds);
}

function gone(): AppError {
  return new AppError("not_found", "Resource not found");
}
