import { z } from "zod";
import { liveFrame } from "./events";

/** Frames of the live sockets: what a client may send and what it gets. The events themselves are in `events.ts`. */

/** First frame: what follows continues after `seq`, so a client that drops at once can resume from here. */
export const helloFrame = z.object({ type: z.literal("hello"), seq: z.int() });

/** Too much was missed, or what was missed is gone: fetch afresh; what follows continues after `seq`. */
export const resyncFrame = z.object({ type: z.literal("resync"), seq: z.int() });

export const pongFrame = z.object({ type: z.literal("pong") });

/** Everybody who looks at the conversation, each member once, by id. A `typing` that is not repeated ends after 10 seconds. */
export const presenceFrame = z.object({
  type: z.literal("presence"),
  agents: z.array(z.object({ user_id: z.string(), typing: z.boolean() })),
});

export const hubServerFrame = z.discriminatedUnion("type", [helloFrame, liveFrame, resyncFrame, pongFrame]);
export const conversationServerFrame = z.discriminatedUnion("type", [helloFrame, liveFrame, presenceFrame, pongFrame]);

export const pingFrame = z.strictObject({ type: z.literal("ping") });

/** Repeat it every few seconds while somebody types. */
export const typingFrame = z.strictObject({ type: z.literal("typing"), on: z.boolean() });

export const hubClientFrame = z.discriminatedUnion("type", [pingFrame]);
export const conversationClientFrame = z.discriminatedUnion("type", [pingFrame, typingFrame]);

export type ServerFrame = z.infer<typeof hubServerFrame> | z.infer<typeof conversationServerFrame>;

/** The spelling of a ping that the platform answers without waking the object, and its answer. */
export const PING = '{"type":"ping"}';
export const PONG = '{"type":"pong"}';

/** A client frame may have this many bytes. */
const MAX_FRAME_BYTES = 4096;

/** A client may send this many frames per 10 seconds. */
export const MAX_FRAMES = 40;
export const FRAME_WINDOW = 10_000;

/** A socket lives this long (ms); then the client makes a new ticket and resumes. */
export const SOCKET_LIFETIME = 30 * 60_000;

/** Typing that is not repeated is over after this time (ms). */
export const TYPING_LASTS = 10_000;

/** Why a socket was closed. The first four are RFC 6455's, the others ours. */
export const CLOSE = {
  binary: { code: 1003, reason: "Send text frames" },
  malformed: { code: 1007, reason: "The frame is not one of the documented ones" },
  tooMany: { code: 1008, reason: `More than ${MAX_FRAMES} frames in 10 seconds` },
  oversized: { code: 1009, reason: `A frame may have ${MAX_FRAME_BYTES} bytes` },
  renew: { code: 4001, reason: "renew" },
  ended: { code: 4003, reason: "Access changed: ask for a new ticket" },
} as const;

export type Close = (typeof CLOSE)[keyof typeof CLOSE];

/** A client frame, or why the socket must be closed. */
export function readFrame<T extends z.ZodType>(
  schema: T,
  message: string | ArrayBuffer,
): { frame: z.output<T>; close: null } | { frame: null; close: Close } {
  if (typeof message !== "string") return { frame: null, close: CLOSE.binary };
  // A UTF-16 unit is at most three bytes of UTF-8, so nearly all frames are settled without encoding.
  if (message.length > MAX_FRAME_BYTES) return { frame: null, close: CLOSE.oversized };
  if (message.length * 3 > MAX_FRAME_BYTES && new TextEncoder().encode(message).byteLength > MAX_FRAME_BYTES) {
    return { frame: null, close: CLOSE.oversized };
  }
  let json: unknown;
  try {
    json = JSON.parse(message);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return { frame: null, close: CLOSE.malformed };
  }
  const parsed = schema.safeParse(json);
  return parsed.success ? { frame: parsed.data, close: null } : { frame: null, close: CLOSE.malformed };
}
