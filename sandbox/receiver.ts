import { Hono } from "hono";
import { z } from "zod";
import type { SandboxEnv } from "./env";

/**
 * Somebody else's server: takes whatever is posted to it, remembers it, and answers as ordered. What it knows lives as
 * long as the process, per path, so that tests do not meet.
 */
const reply = z.object({
  status: z.int().min(200).max(599).default(200),
  body: z.string().default("ok"),
  headers: z.record(z.string(), z.string()).default({}),
  /** ms before it answers. */
  delay: z.int().min(0).max(120_000).default(0),
  /** How often; without it, for ever. */
  count: z.int().min(1).optional(),
  /** Only bodies that hold this text. */
  holding: z.string().optional(),
  /** The connection breaks instead. */
  broken: z.boolean().default(false),
});

const order = z.object({ path: z.string().startsWith("/"), replies: z.array(reply) });

type Reply = z.output<typeof reply>;

interface Received {
  method: string;
  url: string;
  path: string;
  headers: Record<string, string>;
  body: string;
  at: number;
}

const MOST = 5000;
const received: Received[] = [];
const orders = new Map<string, Reply[]>();

/** Orders and what was received: `/sandbox/receiver`. */
export const receiverControl = new Hono<{ Bindings: SandboxEnv }>();

receiverControl.post("/", async (c) => {
  const parsed = order.safeParse(await c.req.json());
  if (!parsed.success) return c.json({ error: z.prettifyError(parsed.error) }, 400);
  orders.set(parsed.data.path, [...parsed.data.replies]);
  return c.json({ path: parsed.data.path, replies: parsed.data.replies.length });
});

receiverControl.get("/", (c) => {
  const path = c.req.query("path");
  return c.json({ data: received.filter((call) => path === undefined || call.path === path) });
});

receiverControl.delete("/", (c) => {
  const path = c.req.query("path");
  const kept = path === undefined ? [] : received.filter((call) => call.path !== path);
  received.splice(0, received.length, ...kept);
  if (path === undefined) orders.clear();
  else orders.delete(path);
  return c.json({ forgotten: true });
});

/** Takes one call. Throws where the connection is to break. */
export async function receive(request: Request): Promise<Response> {
  const url = new URL(request.url);
  const body = await request.text();
  received.push({
    method: request.method,
    url: request.url,
    path: url.pathname,
    headers: Object.fromEntries(request.headers),
    body,
    at: Date.now(),
  });
  if (received.length > MOST) received.shift();
  const answer = take(url.pathname, body);
  if (answer.delay > 0) await scheduler.wait(answer.delay);
  if (answer.broken) throw Object.assign(new Error("Network connection lost."), { retryable: true });
  const bare = answer.status === 204 || answer.status === 304;
  return new Response(bare ? null : answer.body, { status: answer.status, headers: answer.headers });
}

/** The first order that fits, once less; without one it says yes. */
function take(path: string, body: string): Reply {
  const list = orders.get(path) ?? [];
  const place = list.findIndex((candidate) => candidate.holding === undefined || body.includes(candidate.holding));
  const found = list[place];
  if (!found) return reply.parse({});
  if (found.count === undefined) return found;
  if (found.count === 1) list.splice(place, 1);
  else list[place] = { ...found, count: found.count - 1 };
  return found;
}
