import { z } from "@hono/zod-openapi";
import { credential, enterWorkspace, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { type AppContext, createRouter } from "../platform/app";
import { isoSeconds } from "../platform/clock";
import { AppError } from "../platform/errors";
import { uuidSchema } from "../platform/ids";
import { liveFrame, workspaceEvent } from "./events";
import {
  conversationClientFrame,
  conversationServerFrame,
  helloFrame,
  hubClientFrame,
  hubServerFrame,
  pingFrame,
  pongFrame,
  presenceFrame,
  resyncFrame,
  typingFrame,
} from "./frames";
import { callerOfStreamToken, makeStreamToken, makeTicket, openSocket, readTicket, seatOf } from "./service";
import { eventStream } from "./stream";

const pathId = z.object({ id: uuidSchema });

/** A frame's number, as text. */
const seqText = z
  .string()
  .regex(/^(0|[1-9]\d{0,14})$/, "Must be the number of a frame")
  .transform(Number);

const since = seqText.optional().openapi({
  type: "integer",
  description: "The last `seq` this client saw. Up to 500 missed frames are sent again; more, or a gap: `resync`.",
});

const ticketText = z
  .string()
  .max(4096)
  .optional()
  .openapi({ param: { required: true }, description: "Of `POST /api/realtime/tickets`; works once, for 30 seconds." });

const upgradeAnswer = { 101: { description: "The socket is open; its frames are described in this operation." } };

const CLOSES =
  "Close codes: 1003 a binary frame, 1007 a frame that is not one of those, 1008 more than 40 frames in 10 seconds, " +
  "1009 a frame over 4096 bytes, 4001 after 30 minutes (make a new ticket, resume with `since`), 4003 access changed.";

const ticketRoute = operation({ kind: "workspace", permission: "realtime.connect" }, [], {
  method: "post",
  path: "/api/realtime/tickets",
  tags: ["Realtime"],
  summary: "Make a ticket that opens one live socket",
  description: "Without `conversation_id` for the workspace's feed, with it for that conversation (typing, presence).",
  request: {
    body: {
      required: true,
      content: {
        "application/json": {
          schema: z.object({ workspace_id: uuidSchema, conversation_id: uuidSchema.optional() }),
        },
      },
    },
  },
  responses: {
    201: {
      description: "The ticket",
      content: {
        "application/json": {
          schema: z.object({ ticket: z.string(), expires_at: z.iso.datetime() }).openapi("LiveTicket"),
        },
      },
    },
  },
});

const streamTokenRoute = operation({ kind: "workspace", permission: "realtime.connect" }, [], {
  method: "post",
  path: "/api/realtime/stream-tokens",
  tags: ["Realtime"],
  summary: "Make a token that reads the event stream for an hour",
  description:
    "For EventSource, which cannot send headers. Ends early with the session, membership or key it came from.",
  request: {
    body: {
      required: true,
      content: { "application/json": { schema: z.object({ workspace_id: uuidSchema }) } },
    },
  },
  responses: {
    201: {
      description: "The token",
      content: {
        "application/json": {
          schema: z.object({ stream_token: z.string(), expires_at: z.iso.datetime() }).openapi("StreamToken"),
        },
      },
    },
  },
});

const hubRoute = operation({ kind: "signed", by: "ticket" }, ["bad_request", "forbidden", "rate_limited"], {
  method: "get",
  path: "/api/workspaces/{id}/live",
  tags: ["Realtime"],
  summary: "WebSocket: everything that happens in a workspace",
  description: `The server sends \`LiveHubFrame\`, the client \`LiveHubClientFrame\`. ${CLOSES}`,
  request: { params: pathId, query: z.object({ ticket: ticketText, since }) },
  responses: upgradeAnswer,
});

const conversationRoute = operation({ kind: "signed", by: "ticket" }, ["bad_request", "forbidden", "rate_limited"], {
  method: "get",
  path: "/api/conversations/{id}/live",
  tags: ["Realtime"],
  summary: "WebSocket: one conversation, with presence and typing",
  description: `The server sends \`LiveConversationFrame\`, the client \`LiveConversationClientFrame\`. ${CLOSES}`,
  request: { params: pathId, query: z.object({ ticket: ticketText }) },
  responses: upgradeAnswer,
});

const streamRoute = operation({ kind: "workspace", permission: "realtime.connect" }, [], {
  method: "get",
  path: "/api/workspaces/{id}/events",
  tags: ["Realtime"],
  summary: "Server-sent events: everything that happens in a workspace",
  description:
    "One event per `LiveHubFrame`, named by its `type`, with its `seq` as id. `Last-Event-ID` resumes like `since`.",
  request: {
    params: pathId,
    query: z.object({
      since,
      stream_token: z.string().max(4096).optional().openapi({
        description: "Instead of a header, for EventSource; of `POST /api/realtime/stream-tokens`.",
      }),
    }),
    headers: z.object({ "last-event-id": seqText.optional().openapi({ type: "integer" }) }),
  },
  responses: {
    200: {
      description: "The stream",
      content: { "text/event-stream": { schema: z.string() } },
    },
  },
});

const router = createRouter();

for (const [id, schema] of Object.entries({
  LiveEvent: workspaceEvent,
  LiveEvents: liveFrame,
  LiveHello: helloFrame,
  LiveResync: resyncFrame,
  LivePong: pongFrame,
  LivePresence: presenceFrame,
  LivePing: pingFrame,
  LiveTyping: typingFrame,
  LiveHubFrame: hubServerFrame,
  LiveHubClientFrame: hubClientFrame,
  LiveConversationFrame: conversationServerFrame,
  LiveConversationClientFrame: conversationClientFrame,
})) {
  router.openAPIRegistry.register(id, schema);
}

// Before the operation asks who calls: a stream token is a credential for this one path.
router.use("/api/workspaces/:id/events", async (c, next) => {
  const token = c.req.query("stream_token");
  if (token !== undefined && credential(c) === null) {
    refuseForeignOrigin(c);
    c.set("caller", await callerOfStreamToken(c.var.rt, token, c.req.param("id").toLowerCase()));
  }
  await next();
});

export const realtimeRoutes = router
  .openapi(ticketRoute, async (c) => {
    const { workspace_id, conversation_id } = c.req.valid("json");
    const scope = await enterWorkspace(c, "realtime.connect", workspace_id);
    const { ticket, expiresAt } = await makeTicket(scope, conversation_id);
    rememberBookmark(c, scope);
    return c.json({ ticket, expires_at: isoSeconds(expiresAt) }, 201);
  })
  .openapi(streamTokenRoute, async (c) => {
    const { workspace_id } = c.req.valid("json");
    const scope = await enterWorkspace(c, "realtime.connect", workspace_id);
    const { token, expiresAt } = await makeStreamToken(scope, credential(c) ?? "");
    return c.json({ stream_token: token, expires_at: isoSeconds(expiresAt) }, 201);
  })
  .openapi(hubRoute, async (c) => {
    const { since: last = null } = c.req.valid("query");
    const claims = await readTicket(c.var.rt, presented(c), { workspaceId: c.req.valid("param").id });
    const { id, seat, issued_at, expires_at } = claims;
    requireUpgrade(c);
    return openSocket(c.var.rt, { seat, issued_at, ticket: { id, expires_at }, since: last, thread: null });
  })
  .openapi(conversationRoute, async (c) => {
    const claims = await readTicket(c.var.rt, presented(c), { conversationId: c.req.valid("param").id });
    const { id, seat, issued_at, expires_at, conversation } = claims;
    requireUpgrade(c);
    const thread = conversation?.thread ?? null;
    return openSocket(c.var.rt, { seat, issued_at, ticket: { id, expires_at }, since: null, thread });
  })
  .openapi(streamRoute, async (c) => {
    const scope = await enterWorkspace(c, "realtime.connect", c.req.valid("param").id);
    const last = c.req.valid("header")["last-event-id"] ?? c.req.valid("query").since ?? null;
    const connect = { seat: seatOf(scope), issued_at: c.var.rt.clock(), ticket: null, since: last, thread: null };
    const { webSocket } = await openSocket(c.var.rt, connect);
    if (!webSocket) throw new Error("An upgrade answers with a socket");
    return eventStream(webSocket);
  });

/** The ticket of an upgrade. A call without one is a 401, a page that may not open sockets a 403. */
function presented(c: AppContext): string {
  const ticket = c.req.query("ticket");
  if (ticket === undefined) throw new AppError("unauthenticated", "Invalid credentials");
  refuseForeignOrigin(c);
  return ticket;
}

/** Browsers name the page that opens a socket; a credential that stands in an address is taken from our own pages only. */
function refuseForeignOrigin(c: AppContext): void {
  const origin = c.req.header("origin");
  if (origin === undefined || origin === new URL(c.req.url).origin) return;
  if (c.var.rt.config.LIVE_ORIGINS.includes(origin)) return;
  throw new AppError("forbidden", "This origin may not open live connections");
}

function requireUpgrade(c: AppContext): void {
  if (c.req.header("upgrade")?.toLowerCase() !== "websocket") {
    throw new AppError("bad_request", "Open this address as a WebSocket");
  }
}
