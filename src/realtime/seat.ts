import { z } from "zod";
import { keyMay, type Permission, ROLES, roleMay } from "../auth/access";
import type { WorkspaceEvent } from "./events";

/** Who sits behind a socket. */
export const seatSchema = z.object({
  workspace_id: z.string(),
  /** Null for the workspace's API key. */
  user_id: z.string().nullable(),
  /** Null for the workspace's API key, which sees what an ADMIN sees. */
  role: z.enum(ROLES).nullable(),
});

export type Seat = z.infer<typeof seatSchema>;

/** Whose sockets are meant: one member's, those of the API key, or all of a workspace. */
export type SocketOwner = `user:${string}` | "key" | "all";

export function ownerOf(seat: Seat): SocketOwner {
  return seat.user_id === null ? "key" : `user:${seat.user_id}`;
}

/**
 * Who sees which event live: exactly who may read the same thing over the API. A compile error here means that a new
 * event has no audience yet.
 */
const AUDIENCE: Record<WorkspaceEvent["type"], Permission> = {
  "message.created": "messages.read",
  "message.status": "messages.read",
  "message.event": "messages.read",
  "conversation.updated": "conversations.read",
  "phone_number.updated": "phone_numbers.read",
  "import.progress": "contacts.read",
  "webhook_event.created": "webhook_events.read",
};

export function maySee(role: Seat["role"], type: WorkspaceEvent["type"]): boolean {
  const permission = AUDIENCE[type];
  return role === null ? keyMay(permission) : roleMay(role, permission);
}

/** A thread and the object that shows it. */
export const threadSchema = z.object({
  workspace_id: z.string(),
  conversation_id: z.string(),
  object: z.string(),
});

export type Thread = z.infer<typeof threadSchema>;

/** What the Worker tells a live object when it opens a socket, after all that can be checked without it. */
const connectSchema = z.object({
  seat: seatSchema,
  /** When the caller's right was checked (ms): later than the last time the owner's sockets were closed, or refused. */
  issued_at: z.int(),
  /** Kept by the object until it expires, so that it opens one socket only. Null when a credential came instead. */
  ticket: z.object({ id: z.string(), expires_at: z.int() }).nullable(),
  /** The last number a returning client saw. */
  since: z.int().min(0).nullable(),
  /** For a Conversation: the thread the socket looks at. */
  thread: threadSchema.nullable(),
});

export type LiveConnect = z.infer<typeof connectSchema>;

const HEADER = "X-Live-Connect";

/** The upgrade request to a live object. None of the client's own headers travel with it. */
export function upgradeRequest(connect: LiveConnect): Request {
  return new Request("https://live.internal/", {
    headers: { Upgrade: "websocket", [HEADER]: JSON.stringify(connect) },
  });
}

/** Throws when the request was not made by `upgradeRequest`: only our own Worker reaches the objects. */
export function readConnect(request: Request): LiveConnect {
  return connectSchema.parse(JSON.parse(request.headers.get(HEADER) ?? "null"));
}
