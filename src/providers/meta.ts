import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { callGraph, type GraphAnswer } from "./graph";
import { classify, type MetaError, providerError, waitAfter } from "./meta-errors";
import { describeMetaNumber, exchangeMetaToken, metaNumberStatus, subscribeMetaApp } from "./meta-numbers";
import { messageBody, readBody } from "./meta-requests";
import { resultOf } from "./meta-results";
import type { Connection, Provider, ProviderError, SendOutcome, SendRequest } from "./provider";

/** Meta's Cloud API (graph.facebook.com). */
export function metaProvider(rt: Runtime): Provider {
  return {
    name: "meta",
    statusOf: metaNumberStatus,
    send: (connection, request) => send(rt, connection, request),
    markRead: async (connection, waMessageId, typing) =>
      resultOf(await post(rt, connection, readBody(waMessageId, typing)), () => null),
    describeNumber: (connection) => describeMetaNumber(rt, connection),
    subscribe: (connection) => subscribeMetaApp(rt, connection),
    exchangeToken: (connection) => exchangeMetaToken(rt, connection),
  };
}

function post(rt: Runtime, connection: Connection, body: unknown): Promise<GraphAnswer> {
  return callGraph(rt, {
    method: "POST",
    path: [connection.providerNumberId, "messages"],
    body,
    accessToken: connection.accessToken,
  });
}

async function send(rt: Runtime, connection: Connection, request: SendRequest): Promise<SendOutcome> {
  const message = messageBody(request);
  if (!message.ok) return { kind: "permanent", error: ours("invalid_content", message.reason, false) };
  const answer = await post(rt, connection, message.body);
  switch (answer.kind) {
    case "ok":
      return accepted(answer.body);
    case "error":
      return refusedByMeta(answer.error, answer.status, answer.retryAfter, attemptOf(request));
    case "refused":
      return {
        kind: "transient",
        error: ours("provider_unavailable", `Something between here and the provider answered ${answer.status}`, true),
        retryAfter: answer.retryAfter,
      };
    case "lost":
      return { kind: "ambiguous", error: ours("outcome_unknown", answer.reason, true) };
  }
}

const acceptedSchema = z.object({
  messages: z.array(z.object({ id: z.string().min(1), message_status: z.string().optional() })).min(1),
  contacts: z
    .array(z.object({ wa_id: z.string().min(1).optional(), user_id: z.string().min(1).optional() }))
    .optional()
    .catch(undefined),
});

/** A 200 that names no message may still have sent one: nobody knows until its status comes. */
function accepted(body: unknown): SendOutcome {
  const answer = acceptedSchema.safeParse(body);
  const message = answer.data?.messages[0];
  if (!message) return { kind: "ambiguous", error: ours("outcome_unknown", "The provider named no message id", true) };
  const contact = answer.data?.contacts?.[0];
  return {
    kind: "sent",
    waMessageId: message.id,
    waId: contact?.wa_id ?? null,
    userId: contact?.user_id ?? null,
    // Templates only: accepted, but paced or waiting for a quality check.
    held: message.message_status !== undefined && message.message_status !== "accepted",
  };
}

function refusedByMeta(error: MetaError, status: number, retryAfter: number | null, attempt: number): SendOutcome {
  const shown = providerError(error);
  const kind = classify(error, status);
  switch (kind) {
    case "permanent":
      return { kind: "permanent", error: shown };
    case "once":
      return attempt > 1
        ? { kind: "permanent", error: { ...shown, retryable: false } }
        : { kind: "transient", error: shown, retryAfter };
    case "transient":
      return { kind: "transient", error: shown, retryAfter: retryAfter ?? waitAfter(error.code, attempt) };
    case "blocked:number":
      return { kind: "blocked", scope: "number", error: shown };
    case "blocked:account":
      return { kind: "blocked", scope: "account", error: shown };
    case null:
      return { kind: "ambiguous", error: shown };
  }
}

/** How often the message has been tried, this time included: by its refusals, else by `<message id>.<attempt>`. */
function attemptOf({ callbackId, failures }: SendRequest): number {
  if (failures !== undefined) return failures + 1;
  const match = /\.(\d{1,3})$/.exec(callbackId);
  return match ? Math.max(1, Number(match[1])) : 1;
}

const TITLES = {
  invalid_content: "The message cannot be sent",
  provider_unavailable: "The provider could not be reached",
  outcome_unknown: "Nobody knows whether the message arrived",
} as const;

/** An error that is not Meta's own. */
function ours(code: keyof typeof TITLES, details: string, retryable: boolean): ProviderError {
  return { code, title: TITLES[code], details, retryable };
}
