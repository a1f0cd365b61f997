import { log } from "../platform/log";
import { callObject } from "../platform/objects";
import type { Runtime } from "../platform/runtime";
import { coalesce, conversationOf } from "./coalesce";
import type { LiveFrame, WorkspaceEvent } from "./events";
import type { SocketOwner } from "./seat";

/** The typed client of the live objects: nobody else calls them. */

/** The name of a pair's Conversation object. It begins with the workspace, so names of two tenants never meet. */
export function conversationObject(workspaceId: string, phoneNumberId: string, peer: string): string {
  return `${workspaceId}:${phoneNumberId}:${peer}`;
}

export interface Admission {
  /** Orders the sends of one pair: grows with every admission. */
  seq: number;
  /** The earliest time (ms) the provider's pair limit allows this send. */
  notBefore: number;
}

/**
 * Gives a send its place in its conversation and the earliest time it may leave (1 per 6 s, burst 45 unless
 * configured otherwise). Never throws: an object that cannot answer must not refuse a message, so the time itself
 * is the place then and the provider's own limit the limit (pipeline 1).
 */
export async function admitSend(rt: Runtime, object: string, now: number): Promise<Admission> {
  const { pairInterval, pairBurst } = rt.config.PIPELINE;
  try {
    return await rt.env.CONVERSATION.getByName(object).admit(now, pairInterval, pairBurst);
  } catch (error) {
    log("warn", "conversation.admit_failed", { error: error instanceof Error ? error.name : "unknown" });
    return { seq: now, notBefore: now };
  }
}

/**
 * Shows what one write did: to the workspace's hub, then to those conversations that somebody looks at.
 *
 * `publishKey` names the write: published again with the same key, nobody sees it twice, and whoever missed it the
 * first time gets it. `bookmark` is the D1 bookmark of the write. Throws when an object cannot be reached, so that
 * the caller's own retry decides.
 */
export async function publishEvents(
  rt: Runtime,
  workspaceId: string,
  publishKey: string,
  events: readonly WorkspaceEvent[],
  bookmark: string | null,
): Promise<void> {
  if (events.length === 0) return;
  const shown = coalesce(events);
  const { seq, viewed } = await callObject(() =>
    rt.env.WORKSPACE_HUB.getByName(workspaceId).publish({ key: publishKey, events: shown, bookmark }),
  );
  await Promise.all(
    viewed.map((thread) => {
      const events = shown.filter((event) => conversationOf(event) === thread.conversation_id);
      const frame: LiveFrame = { type: "events", seq, bookmark, events };
      const conversation = rt.env.CONVERSATION.getByName(thread.object);
      return callObject(() => conversation.publish({ workspace_id: workspaceId, ...thread }, frame));
    }),
  );
}

/** Closes every socket of a member who was removed or got another role; tickets made before do not open again. */
export function closeMemberSockets(rt: Runtime, workspaceId: string, userId: string): Promise<void> {
  return closeSockets(rt, workspaceId, `user:${userId}`);
}

/** Closes the sockets that were opened with the workspace's API key, when it is rotated. */
export function closeKeySockets(rt: Runtime, workspaceId: string): Promise<void> {
  return closeSockets(rt, workspaceId, "key");
}

/** Closes every socket of a workspace that is deleted or suspended. */
export function closeWorkspaceSockets(rt: Runtime, workspaceId: string): Promise<void> {
  return closeSockets(rt, workspaceId, "all");
}

async function closeSockets(rt: Runtime, workspaceId: string, owner: SocketOwner): Promise<void> {
  const { objects } = await callObject(() => rt.env.WORKSPACE_HUB.getByName(workspaceId).closeSockets(owner));
  await Promise.all(
    objects.map((object) => callObject(() => rt.env.CONVERSATION.getByName(object).closeSockets(owner))),
  );
}
