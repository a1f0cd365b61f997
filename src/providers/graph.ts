import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import type { MetaError } from "./meta-errors";
import { parseProviderJson } from "./provider-json";

/** Meta's answers are a few hundred bytes; a page of 100 templates is the largest that is asked for. */
const MAX_ANSWER_BYTES = 256 * 1024;

/**
 * What came back of a call. `lost`: nobody knows whether it arrived, because no answer came or none that Meta's API
 * gives. `refused` without an `error` of Meta's: something on the way said no, so it did not arrive.
 */
export type GraphAnswer =
  | { kind: "ok"; body: unknown }
  | { kind: "error"; status: number; error: MetaError; retryAfter: number | null }
  | { kind: "refused"; status: number; retryAfter: number | null; text: string }
  | { kind: "lost"; reason: string };

export interface GraphCall {
  method: "GET" | "POST" | "DELETE";
  /** Path parts below the version; each is encoded. */
  path: readonly string[];
  query?: Readonly<Record<string, string>>;
  body?: unknown;
  /** A body that is no JSON, such as a file on its way through. */
  stream?: { contentType: string; body: ReadableStream<Uint8Array> };
  /** ms; `providerTimeout` unless given. */
  timeout?: number;
  /** Null for the token endpoint, which is asked with the app's own secret. */
  accessToken: string | null;
  /** Further secrets the call carries: what Meta repeats of them is blotted out. */
  secrets?: readonly string[];
}

/** One call to a provider that answers as the Graph API does, whatever its host and credentials. */
export interface GraphRequest {
  method: "GET" | "POST" | "DELETE";
  url: URL;
  /** The credentials; what kind of body it is is added. */
  headers: Headers;
  body?: unknown;
  stream?: { contentType: string; body: ReadableStream<Uint8Array> };
  /** ms; `providerTimeout` unless given. */
  timeout?: number | undefined;
  /** What must not come back in an answer's texts. */
  secrets: readonly string[];
}

/** One call to Meta's Graph API. The token travels in the header only. Never throws. */
export async function callGraph(rt: Runtime, call: GraphCall): Promise<GraphAnswer> {
  const url = new URL(`${rt.config.META_GRAPH_URL}/${rt.config.WHATSAPP_API_VERSION}`);
  url.pathname += call.path.map((part) => `/${encodeURIComponent(part)}`).join("");
  for (const [name, value] of Object.entries(call.query ?? {})) url.searchParams.set(name, value);
  const headers = new Headers();
  if (call.accessToken !== null) headers.set("Authorization", `Bearer ${call.accessToken}`);
  const { method, body, stream, timeout } = call;
  const secrets = [...(call.secrets ?? []), ...(call.accessToken === null ? [] : [call.accessToken])];
  return exchange(rt, { method, url, headers, body, ...(stream ? { stream } : {}), timeout, secrets });
}

/**
 * Makes a call and reads its answer. Redirects are not followed, the answer is bounded in time and size, and nothing of
 * the call is logged. Never throws.
 */
export async function exchange(rt: Runtime, call: GraphRequest): Promise<GraphAnswer> {
  const headers = new Headers(call.headers);
  headers.set("Accept", "application/json");
  if (call.stream) headers.set("Content-Type", call.stream.contentType);
  else if (call.body !== undefined) headers.set("Content-Type", "application/json");
  let response: Response;
  let text: string;
  try {
    response = await rt.fetch(call.url.toString(), {
      method: call.method,
      headers,
      body: call.stream?.body ?? (call.body === undefined ? undefined : JSON.stringify(call.body)),
      redirect: "manual",
      signal: AbortSignal.timeout(call.timeout ?? rt.config.PIPELINE.providerTimeout),
    });
    text = await readBounded(response);
  } catch (error) {
    // DNS failures and refused connections look like connections that broke after the request was sent.
    return { kind: "lost", reason: lossReason(error) };
  }
  return interpret(response, text, call.secrets, rt.clock());
}

export function lossReason(error: unknown): string {
  if (error instanceof Error && (error.name === "TimeoutError" || error.name === "AbortError")) {
    return "The provider did not answer in time";
  }
  if (error instanceof AnswerTooLarge) return "The provider's answer was too large to read";
  return "The connection to the provider failed";
}

class AnswerTooLarge extends Error {}

export async function readBounded(response: Response): Promise<string> {
  if (!response.body) return "";
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  for await (const chunk of response.body) {
    size += chunk.byteLength;
    // Leaving the loop cancels the stream.
    if (size > MAX_ANSWER_BYTES) throw new AnswerTooLarge();
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

const errorSchema = z.object({
  error: z.object({
    code: z.union([
      z.int(),
      z
        .string()
        .regex(/^\d{1,9}$/)
        .transform(Number),
    ]),
    message: z.string().optional(),
    error_user_title: z.string().optional(),
    error_user_msg: z.string().optional(),
    error_data: z.unknown().optional(),
    is_transient: z.boolean().optional().catch(undefined),
  }),
});

const detailsSchema = z.object({ details: z.string().min(1) });

function interpret(response: Response, text: string, secrets: readonly string[], now: number): GraphAnswer {
  const { status } = response;
  const body = readJson(text);
  const refusal = errorSchema.safeParse(body);
  const retryAfter = retryAfterOf(response.headers.get("Retry-After"), now);
  if (refusal.success) {
    const { error } = refusal.data;
    const details = detailsSchema.safeParse(error.error_data);
    return {
      kind: "error",
      status,
      retryAfter,
      error: {
        code: error.code,
        title: shown(error.error_user_title ?? error.message ?? "The provider refused", secrets),
        details: shownOrNull(details.success ? details.data.details : error.error_user_msg, secrets),
        transient: error.is_transient === true,
      },
    };
  }
  if (status >= 200 && status < 300) {
    return body === undefined
      ? { kind: "lost", reason: "The provider's answer could not be read" }
      : { kind: "ok", body };
  }
  // 408 and 499 are said of requests that may have been passed on.
  if (status >= 500 || status === 408 || status === 499) {
    return { kind: "lost", reason: `The provider answered ${status} without an error of its API` };
  }
  return { kind: "refused", status, retryAfter, text: shown(text, secrets) };
}

export function readJson(text: string): unknown {
  try {
    return parseProviderJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** A provider's text as it may be kept. Meta repeats a malformed token ("Malformed access token EAA…"): it must not be stored or shown. */
export function shown(text: string, secrets: readonly string[]): string {
  const safe = secrets.filter((secret) => secret !== "").reduce((t, secret) => t.replaceAll(secret, "[secret]"), text);
  return safe.replace(/^\(#\d+\)\s*/, "").slice(0, 500);
}

function shownOrNull(text: string | undefined, secrets: readonly string[]): string | null {
  return text === undefined || text === "" ? null : shown(text, secrets);
}

/** `Retry-After` in seconds or as a date, in ms from now; null when absent or unreadable. */
export function retryAfterOf(header: string | null, now: number): number | null {
  if (header === null) return null;
  const text = header.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}
