import { Hono } from "hono";
import { z } from "zod";
import type { SandboxEnv } from "./env";

/**
 * An OpenAI-compatible `POST /v1/chat/completions`, as far as a client of plain chats and tools meets it. It answers by
 * what the last message says, so that no order has to be given for it: see `said`. What it was asked lives as long as
 * the process.
 */
const message = z.looseObject({ role: z.string(), content: z.string().nullish() });
const asked = z.looseObject({
  model: z.string().min(1),
  messages: z.array(message).min(1),
  max_tokens: z.int().min(1).optional(),
  max_completion_tokens: z.int().min(1).optional(),
  tools: z
    .array(z.looseObject({ type: z.literal("function"), function: z.looseObject({ name: z.string() }) }))
    .optional(),
});

interface Asked {
  authorization: string | null;
  body: z.output<typeof asked>;
  at: number;
}

const MOST = 1000;
const calls: Asked[] = [];

/** What was asked: `/sandbox/ai`. */
export const aiControl = new Hono<{ Bindings: SandboxEnv }>();

aiControl.get("/", (c) => {
  const holding = c.req.query("holding") ?? "";
  return c.json({ data: calls.filter(({ body }) => JSON.stringify(body).includes(holding)) });
});

const REFUSED_KEY = "sk-refused";

/** Answers one chat. */
export async function chat(request: Request): Promise<Response> {
  const url = new URL(request.url);
  if (request.method !== "POST" || !url.pathname.endsWith("/chat/completions"))
    return failure(404, "Unknown request URL");
  const authorization = request.headers.get("Authorization");
  if (authorization === null || authorization === `Bearer ${REFUSED_KEY}`)
    return failure(401, "Incorrect API key provided");
  const parsed = asked.safeParse(await request.json());
  if (!parsed.success) return failure(400, z.prettifyError(parsed.error));
  const { data: body } = parsed;
  calls.push({ authorization, body, at: Date.now() });
  if (calls.length > MOST) calls.shift();
  const last = body.messages.at(-1)?.content ?? "";
  return said(last, body);
}

/**
 * `!fail` is a 500, `!slow` never comes in time, `!nothing` is an empty answer, `!garbage` is no JSON, `!long` is cut by
 * the token limit; asking for a human calls the first tool, if there is one. Everything else is echoed.
 */
async function said(last: string, body: z.output<typeof asked>): Promise<Response> {
  if (last.includes("!fail")) return failure(500, "The server had an error");
  if (last.includes("!garbage")) return new Response("<html>", { headers: { "Content-Type": "text/html" } });
  if (last.includes("!slow")) await scheduler.wait(60_000);
  const tool = body.tools?.[0]?.function.name;
  if (/\bhuman\b/i.test(last) && tool !== undefined) {
    const call = {
      id: "call_1",
      type: "function",
      function: { name: tool, arguments: '{"reason":"asked for a person"}' },
    };
    return choice({ role: "assistant", content: null, tool_calls: [call] }, "tool_calls");
  }
  if (last.includes("!nothing")) return choice({ role: "assistant", content: "" }, "stop");
  if (last.includes("!long")) return choice({ role: "assistant", content: "This answer ends in the mid" }, "length");
  return choice({ role: "assistant", content: `You said: ${last}` }, "stop");
}

function choice(reply: Record<string, unknown>, reason: string): Response {
  return Response.json({
    id: `chatcmpl-${crypto.randomUUID()}`,
    object: "chat.completion",
    created: Math.floor(Date.now() / 1000),
    model: "sandbox",
    choices: [{ index: 0, message: reply, finish_reason: reason }],
    usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
  });
}

function failure(status: number, text: string): Response {
  return Response.json({ error: { message: text, type: "invalid_request_error", code: null } }, { status });
}
