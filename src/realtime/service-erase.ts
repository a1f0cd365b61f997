/** The live objects of people who are erased. */
import { callObject } from "../platform/objects";
import type { Runtime } from "../platform/runtime";
import { conversationObject } from "./publish";

/** What the hub must forget: whole threads, and single messages of other threads. */
export interface Forgotten {
  conversations: string[];
  messages: string[];
}

/** Takes events out of what a returning client is shown. May run twice. */
export async function forgetShown(rt: Runtime, workspaceId: string, forgotten: Forgotten): Promise<void> {
  if (forgotten.conversations.length + forgotten.messages.length === 0) return;
  await callObject(() => rt.env.WORKSPACE_HUB.getByName(workspaceId).forget(forgotten));
}

/** Ends the object of one thread: whoever looks at it is sent away. */
export async function forgetThread(
  rt: Runtime,
  workspaceId: string,
  thread: { phoneNumberId: string; peer: string },
): Promise<void> {
  const object = conversationObject(workspaceId, thread.phoneNumberId, thread.peer);
  await callObject(() => rt.env.CONVERSATION.getByName(object).forget());
}
