import type { WorkspaceEvent } from "./events";

/**
 * The events of one write as a screen needs them: of each conversation the last `conversation.updated`, of each
 * message the furthest `message.status` (pipeline 21). Order is that of the last mention; everything else is kept.
 */
export function coalesce(events: readonly WorkspaceEvent[]): WorkspaceEvent[] {
  const kept = new Map<string, WorkspaceEvent>();
  for (const [position, event] of events.entries()) {
    const key = keyOf(event, position);
    const before = kept.get(key);
    if (before?.type === "message.status" && event.type === "message.status") {
      if (before.message.rank > event.message.rank) continue;
    }
    kept.delete(key);
    kept.set(key, event);
  }
  return [...kept.values()];
}

function keyOf(event: WorkspaceEvent, position: number): string {
  if (event.type === "conversation.updated") return `conversation ${event.conversation_id}`;
  if (event.type === "message.status") return `message ${event.message.id}`;
  return `event ${position}`;
}

/** The conversation an event happened in, null for what happened to the workspace. */
export function conversationOf(event: WorkspaceEvent): string | null {
  switch (event.type) {
    case "message.created":
    case "message.status":
      return event.message.conversation_id;
    case "message.event":
    case "conversation.updated":
      return event.conversation_id;
    case "phone_number.updated":
    case "import.progress":
    case "webhook_event.created":
      return null;
  }
}
