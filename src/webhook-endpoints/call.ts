/** One signed call of an endpoint (https://www.standardwebhooks.com). */
import { hmacSha256 } from "../platform/crypto";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { safeFetch, UnsafeAddress } from "../platform/safe-fetch";
import type { Endpoint } from "./store";

/** What is read of an answer, and kept of it and of what was sent. Bytes, characters. */
const ANSWER_BYTES = 1024;
const KEPT_BODY = 8192;

/** A `Retry-After` beyond this is not believed. ms */
const LONGEST_PAUSE = 86_400_000;

export interface CallOutcome {
  ok: boolean;
  status: number | null;
  /** What went wrong, for whoever looks at the log. */
  error: string | null;
  /** ms */
  duration: number;
  answer: string | null;
  /** ms the endpoint asked to be left alone; null when it did not. */
  retryAfter: number | null;
  /** 410: it wants nothing any more. */
  gone: boolean;
}

/** `whsec_` and base64: the key of the signature. */
async function signature(secret: string, id: string, timestamp: number, body: string): Promise<string> {
  const key = Uint8Array.from(atob(secret.replace(/^whsec_/, "")), (char) => char.charCodeAt(0));
  const signed = await hmacSha256(key, `${id}.${timestamp}.${body}`);
  return `v1,${btoa(String.fromCharCode(...signed))}`;
}

/** Posts a body. Any 2xx within the time is success; redirects are not followed. Never throws. */
export async function callEndpoint(
  rt: Runtime,
  endpoint: Pick<Endpoint, "url" | "ownHost" | "workspaceId" | "id">,
  secret: string,
  event: { id: string; body: string },
): Promise<CallOutcome> {
  const startedAt = Date.now();
  const timestamp = Math.floor(rt.clock() / 1000);
  const failed = { ok: false, status: null, answer: null, retryAfter: null, gone: false };
  try {
    const answer = await safeFetch(rt, endpoint.url, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "User-Agent": "Switchboard-Webhooks/1",
        "webhook-id": event.id,
        "webhook-timestamp": String(timestamp),
        "webhook-signature": await signature(secret, event.id, timestamp, event.body),
      },
      body: event.body,
      timeout: rt.config.PIPELINE.providerTimeout,
      maxBytes: ANSWER_BYTES,
      redirects: "refuse",
      ownHosts: [endpoint.ownHost],
    });
    const ok = answer.status >= 200 && answer.status < 300;
    return {
      ok,
      status: answer.status,
      error: ok ? null : describe(answer.status),
      duration: Date.now() - startedAt,
      answer: new TextDecoder().decode(answer.body),
      retryAfter: ok ? null : pause(answer.headers.get("Retry-After"), rt.clock()),
      gone: answer.status === 410,
    };
  } catch (error) {
    const duration = Date.now() - startedAt;
    if (error instanceof UnsafeAddress) return { ...failed, error: `Not called: ${error.message}`, duration };
    const late = error instanceof Error && error.name === "TimeoutError";
    log("info", "webhooks.unanswered", { workspace_id: endpoint.workspaceId, id: endpoint.id, ...errorFields(error) });
    const seconds = rt.config.PIPELINE.providerTimeout / 1000;
    return {
      ...failed,
      error: late ? `No answer within ${seconds} seconds` : "The connection could not be made, or broke",
      duration,
    };
  }
}

function describe(status: number): string {
  if (status >= 300 && status < 400) return `Answered ${status}: redirects are not followed`;
  return `Answered ${status}`;
}

/** `Retry-After` in ms: seconds, or a date. */
function pause(header: string | null, now: number): number | null {
  if (header === null) return null;
  const until = /^\d{1,9}$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isFinite(until) && until > 0 ? Math.min(until, LONGEST_PAUSE) : null;
}

/** A body as the log keeps it. */
export function kept(body: string): string {
  return body.slice(0, KEPT_BODY);
}
