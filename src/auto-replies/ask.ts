/** One call of an OpenAI-compatible `POST /chat/completions`. */
import { z } from "zod";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { safeFetch, UnsafeAddress } from "../platform/safe-fetch";
import type { AiAnswer } from "./schema";
import type { Assistant } from "./store";

/** What is read of an answer, in bytes: many times what the token limit allows. */
const ANSWER_BYTES = 262_144;

/** The tool by which the assistant itself gives up. */
const HAND_OVER = "hand_over_to_people";

export interface Turn {
  role: "user" | "assistant";
  content: string;
}

export type Asked =
  | { kind: "said"; text: string }
  /** The assistant asked for people. */
  | { kind: "hands_over" }
  | { kind: "failed"; reason: string };

const completion = z.object({
  choices: z
    .array(
      z.object({
        message: z.object({
          content: z.string().nullish(),
          tool_calls: z.array(z.object({ function: z.object({ name: z.string() }) })).nullish(),
        }),
      }),
    )
    .min(1),
});

const tools = [
  {
    type: "function",
    function: {
      name: HAND_OVER,
      description: "Call this when the customer asks for a person, or when you cannot help.",
      parameters: { type: "object", properties: {} },
    },
  },
];

/** Asks for the next message of a conversation. Never throws: whatever goes wrong is a reason to hand over. */
export async function ask(
  rt: Runtime,
  assistant: Pick<Assistant, "baseUrl" | "model" | "tokenParameter" | "ownHost" | "workspaceId">,
  apiKey: string,
  { system_prompt, max_tokens, temperature, timeout_seconds }: AiAnswer,
  turns: readonly Turn[],
): Promise<Asked> {
  try {
    const answer = await safeFetch(rt, `${assistant.baseUrl.replace(/\/+$/, "")}/chat/completions`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      secretHeaders: { Authorization: `Bearer ${apiKey}` },
      body: JSON.stringify({
        model: assistant.model,
        messages: [{ role: "system", content: system_prompt }, ...turns],
        [assistant.tokenParameter]: max_tokens,
        ...(temperature === undefined ? {} : { temperature }),
        tools,
      }),
      timeout: timeout_seconds * 1000,
      maxBytes: ANSWER_BYTES,
      redirects: "refuse",
      ownHosts: [assistant.ownHost],
    });
    if (answer.status !== 200) return { kind: "failed", reason: `The assistant answered ${answer.status}` };
    return said(new TextDecoder().decode(answer.body));
  } catch (error) {
    if (error instanceof UnsafeAddress) return { kind: "failed", reason: `Not called: ${error.message}` };
    const late = error instanceof Error && error.name === "TimeoutError";
    log("info", "auto_replies.unanswered", { workspace_id: assistant.workspaceId, ...errorFields(error) });
    return {
      kind: "failed",
      reason: late ? `No answer within ${timeout_seconds} seconds` : "The assistant could not be reached",
    };
  }
}

function said(body: string): Asked {
  const parsed = completion.safeParse(toJson(body));
  const message = parsed.data?.choices[0]?.message;
  if (!message) return { kind: "failed", reason: "The assistant's answer was not understood" };
  if (message.tool_calls?.some((call) => call.function.name === HAND_OVER)) return { kind: "hands_over" };
  const text = message.content?.trim() ?? "";
  return text === "" ? { kind: "failed", reason: "The assistant said nothing" } : { kind: "said", text };
}

function toJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
