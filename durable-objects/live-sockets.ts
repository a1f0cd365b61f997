import { z } from "zod";
import type { Clock } from "../src/platform/clock";
import { errorFields, log } from "../src/platform/log";
import {
  CLOSE,
  type Close,
  FRAME_WINDOW,
  MAX_FRAMES,
  PING,
  PONG,
  readFrame,
  type ServerFrame,
  SOCKET_LIFETIME,
} from "../src/realtime/frames";
import { type LiveConnect, ownerOf, type Seat, type SocketOwner, seatSchema, threadSchema } from "../src/realtime/seat";

/** Everything known of a socket. It stands in the socket's attachment and nowhere else: fields die with hibernation. */
const attachmentSchema = z.object({
  seat: seatSchema,
  expires_at: z.int(),
  thread: threadSchema.nullable(),
  /** Client frames since `window_at`. */
  window_at: z.int(),
  frames: z.int(),
  typing_until: z.int(),
  /** The last published writes it was shown, so that a repeated publish is not shown twice. */
  seen: z.array(z.int()),
});

type Attachment = z.infer<typeof attachmentSchema>;

export interface LiveSocket {
  readonly socket: WebSocket;
  readonly state: Attachment;
}

/** How many sockets an object holds; the platform's own bound is 32,768. */
const MAX_SOCKETS = 2000;
const MAX_SOCKETS_PER_OWNER = 50;

/** The hibernating sockets of one live object: who sits there, what they may send, and when they must go. */
export class LiveSockets {
  readonly #ctx: DurableObjectState;
  readonly #clock: Clock;

  constructor(ctx: DurableObjectState, clock: Clock) {
    this.#ctx = ctx;
    this.#clock = clock;
    // Answered by the platform without waking the object.
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair(PING, PONG));
  }

  hasRoom(seat: Seat): boolean {
    return (
      this.#ctx.getWebSockets().length < MAX_SOCKETS &&
      this.#ctx.getWebSockets(ownerOf(seat)).length < MAX_SOCKETS_PER_OWNER
    );
  }

  /** Takes a new socket; answers the client's end and ours. Nothing runs between accepting it and the answer. */
  async open(connect: LiveConnect): Promise<{ client: WebSocket; opened: WebSocket }> {
    const now = this.#clock();
    await this.#wakeAt(now + SOCKET_LIFETIME);
    const { 0: client, 1: opened } = new WebSocketPair();
    const state: Attachment = {
      seat: connect.seat,
      expires_at: now + SOCKET_LIFETIME,
      thread: connect.thread,
      window_at: now,
      frames: 0,
      typing_until: 0,
      seen: [],
    };
    this.#ctx.acceptWebSocket(opened, [ownerOf(connect.seat)]);
    opened.serializeAttachment(state);
    return { client, opened };
  }

  /** Those that are open and not past their time. */
  all(): LiveSocket[] {
    const now = this.#clock();
    return this.#ctx
      .getWebSockets()
      .filter((socket) => socket.readyState === WebSocket.OPEN)
      .map((socket) => ({ socket, state: read(socket) }))
      .filter(({ state }) => state.expires_at > now);
  }

  /** The client's frame, or null after closing a socket that broke the rules or is past its time. */
  receive<T extends z.ZodType>(socket: WebSocket, message: string | ArrayBuffer, schema: T): z.output<T> | null {
    const now = this.#clock();
    const state = read(socket);
    if (state.expires_at <= now) return closed(socket, CLOSE.renew);
    const fresh = now - state.window_at >= FRAME_WINDOW;
    const frames = fresh ? 1 : state.frames + 1;
    if (frames > MAX_FRAMES) return closed(socket, CLOSE.tooMany);
    remember(socket, { frames, window_at: fresh ? now : state.window_at });
    const { frame, close } = readFrame(schema, message);
    return close ? closed(socket, close) : frame;
  }

  closeOf(owner: SocketOwner): void {
    const sockets = owner === "all" ? this.#ctx.getWebSockets() : this.#ctx.getWebSockets(owner);
    for (const socket of sockets) closed(socket, CLOSE.ended);
  }

  /** Closes what is past its time and plans the next look. Called by the object's alarm. */
  async expire(): Promise<void> {
    const now = this.#clock();
    let next = Number.POSITIVE_INFINITY;
    for (const socket of this.#ctx.getWebSockets()) {
      const { expires_at } = read(socket);
      if (expires_at <= now) closed(socket, CLOSE.renew);
      else next = Math.min(next, expires_at);
    }
    if (Number.isFinite(next)) await this.#ctx.storage.setAlarm(next);
  }

  /** All sockets live equally long, so an alarm that is set already comes first; setting one costs a row. */
  async #wakeAt(time: number): Promise<void> {
    if ((await this.#ctx.storage.getAlarm()) === null) await this.#ctx.storage.setAlarm(time);
  }
}

export function read(socket: WebSocket): Attachment {
  return attachmentSchema.parse(socket.deserializeAttachment());
}

export function remember(socket: WebSocket, change: Partial<Attachment>): void {
  socket.serializeAttachment({ ...read(socket), ...change });
}

/**
 * Sends a frame, as an object or as text made once for many sockets. A socket that breaks under it misses the frame and
 * resumes; the others must get theirs.
 */
export function send(socket: WebSocket, frame: ServerFrame | string): void {
  if (socket.readyState !== WebSocket.OPEN) return;
  try {
    socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
  } catch (error) {
    log("warn", "live.send_failed", errorFields(error));
  }
}

function closed(socket: WebSocket, close: Close): null {
  if (socket.readyState === WebSocket.OPEN) socket.close(close.code, close.reason);
  return null;
}
