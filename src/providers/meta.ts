import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { callGraph, type GraphAnswer } from "./graph";
import { classify, type MetaError, providerError, waitAfter } from "./meta-errors";
import {
  downloadMetaMedia,
  META_UPLOADS_LIVE,
  metaForgotFile,
  metaMediaInfo,
  metaMediaLimit,
  postMetaMedia,
} from "./meta-media";
import { describeMetaNumber, exchangeMetaToken, metaNumberStatus, subscribeMetaApp } from "./meta-numbers";
import { messageBody, readBody } from "./meta-requests";
import { resultOf } from "./meta-results";
import {
  createMetaTemplate,
  deleteMetaTemplate,
  editMetaTemplate,
  getMetaTemplate,
  listMetaTemplates,
} from "./meta-templates";
import type {
  Connection,
  OutgoingFile,
  Provider,
  ProviderError,
  SendOutcome,
  SendRequest,
  UploadOutcome,
} from "./provider";

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
    mediaLimit: metaMediaLimit,
    uploadsLive: META_UPLOADS_LIVE,
    uploadMedia: (connection, file, timeout) => upload(rt, connection, file, timeout),
    forgotFile: metaForgotFile,
    mediaInfo: (connection, providerMediaId) => metaMediaInfo(rt, connection, providerMediaId),
    downloadMedia: (connection, url, timeout) => downloadMetaMedia(rt, connection, url, timeout),
    createTemplate: (connection, draft) => createMetaTemplate(rt, connection, draft),
    listTemplates: (connection, query) => listMetaTemplates(rt, connection, query),
    getTemplate: (connection, id) => getMetaTemplate(rt, connection, id),
    editTemplate: (connection, id, change) => editMetaTemplate(rt, connection, id, change),
    deleteTemplate: (connection, template) => deleteMetaTemplate(rt, connection, template),
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

/** An upload whose answer was lost is one to repeat: at worst Meta holds the file twice. */
async function upload(
  rt: Runtime,
  connection: Connection,
  file: OutgoingFile,
  timeout: number,
): Promise<UploadOutcome> {
  const answer = await postMetaMedia(rt, connection, file, timeout);
  switch (answer.kind) {
    case "ok": {
      const body = uploadedSchema.safeParse(answer.body);
      if (body.success) return { kind: "uploaded", providerMediaId: body.data.id };
      return {
        kind: "transient",
        error: ours("provider_unavailable", "The provider named no file", true),
        retryAfter: null,
      };
    }
    case "error": {
      const outcome = refusedByMeta(answer.error, answer.status, answer.retryAfter, 1);
      if (outcome.kind !== "ambiguous" && outcome.kind !== "sent") return outcome;
      return { kind: "transient", error: providerError(answer.error), retryAfter: answer.retryAfter };
    }
    case "refused": {
      const error = ours(
        "provider_unavailable",
        `Something between here and the provider answered ${answer.status}`,
        true,
      );
      return { kind: "transient", error, retryAfter: answer.retryAfter };
    }
    case "lost":
      return { kind: "transient", error: ours("provider_unavailable", answer.reason, true), retryAfter: null };
  }
}

const uploadedSchema = z.object({ id: z.union([z.string().min(1), z.int().transform(String)]) });

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
