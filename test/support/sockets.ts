import { exports } from "cloudflare:workers";
import { expect, vi } from "vitest";
import { z } from "zod";

/** A client of a live socket: what it got, how it was closed. */
export interface TestSocket {
  /** Every frame so far, parsed. */
  frames: LooseFrame[];
  /** Null while open. */
  closed: { code: number; reason: string } | null;
  send(frame: unknown): void;
  /** As it is: text or bytes. */
  sendRaw(data: string | ArrayBuffer): void;
  close(): void;
  /** Waits for the first frame that fits and answers it. */
  next(fits: (frame: LooseFrame) => boolean): Promise<LooseFrame>;
  /** Waits for the close. */
  ended(): Promise<{ code: number; reason: string }>;
}

const looseFrame = z.looseObject({ type: z.string() });
export type LooseFrame = z.infer<typeof looseFrame>;

/** One WebSocket upgrade to the Worker. */
export function upgrade(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return exports.default.fetch(`http://switchboard.test${path}`, { headers: { Upgrade: "websocket", ...headers } });
}

/** Opens a live socket; fails the test when it is refused. */
export async function openSocket(path: string, headers: Record<string, string> = {}): Promise<TestSocket> {
  const response = await upgrade(path, headers);
  expect(response.status, response.webSocket ? "" : await response.clone().text()).toBe(101);
  const socket = response.webSocket;
  if (!socket) throw new Error("A 101 without a socket");
  const client: TestSocket = {
    frames: [],
    closed: null,
    send: (frame) => socket.send(JSON.stringify(frame)),
    sendRaw: (data) => socket.send(data),
    close: () => socket.close(1000),
    next: async (fits) => {
      await vi.waitUntil(() => client.frames.some(fits), { timeout: 5000 });
      const found = client.frames.find(fits);
      if (!found) throw new Error("The frame is gone");
      return found;
    },
    ended: async () => {
      await vi.waitUntil(() => client.closed !== null, { timeout: 5000 });
      return client.closed ?? { code: 0, reason: "" };
    },
  };
  socket.addEventListener("message", ({ data }) => {
    client.frames.push(looseFrame.parse(JSON.parse(String(data))));
  });
  socket.addEventListener("close", ({ code, reason }) => {
    client.closed = { code, reason };
  });
  socket.accept();
  return client;
}

const ticketAnswer = z.object({ ticket: z.string(), expires_at: z.string() });

/** A ticket of that user or key (a `call` of test/support/identity). */
export async function makeTicket(
  call: (method: string, path: string, body?: unknown) => Promise<Response>,
  workspaceId: string,
  conversationId?: string,
): Promise<string> {
  const response = await call("POST", "/api/realtime/tickets", {
    workspace_id: workspaceId,
    ...(conversationId === undefined ? {} : { conversation_id: conversationId }),
  });
  expect(response.status).toBe(201);
  return ticketAnswer.parse(await response.json()).ticket;
}

/** The workspace's feed, as a browser opens it. */
export async function openFeed(
  caller: { call: (method: string, path: string, body?: unknown) => Promise<Response> },
  workspaceId: string,
  since?: number,
): Promise<TestSocket> {
  const ticket = await makeTicket(caller.call, workspaceId);
  const query = since === undefined ? "" : `&since=${since}`;
  return openSocket(`/api/workspaces/${workspaceId}/live?ticket=${ticket}${query}`);
}

/** One conversation, as an agent opens it. */
export async function openConversation(
  caller: { call: (method: string, path: string, body?: unknown) => Promise<Response> },
  workspaceId: string,
  conversationId: string,
): Promise<TestSocket> {
  const ticket = await makeTicket(caller.call, workspaceId, conversationId);
  return openSocket(`/api/conversations/${conversationId}/live?ticket=${ticket}`);
}

/** The events of all frames a socket got, in order. */
export function eventsOf(socket: TestSocket): LooseFrame[] {
  const withEvents = z.looseObject({ type: z.literal("events"), events: z.array(looseFrame) });
  return socket.frames.flatMap((frame) => {
    const parsed = withEvents.safeParse(frame);
    return parsed.success ? parsed.data.events : [];
  });
}
