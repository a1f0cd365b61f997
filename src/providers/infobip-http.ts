/** Calls to Infobip's WhatsApp API, and what its answers mean (facts 3). */
import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { lossReason, readBounded, readJson, retryAfterOf, shown } from "./graph";
import type { Connection, ProviderError, ProviderResult } from "./provider";
import { isObject, listOf, objectOf, textOf } from "./provider-json";

/** Infobip's own host: every account has a name of its own under it. Credentials go nowhere else. */
const HOST = /^(?:[a-z0-9-]+\.)?api\.infobip\.com$/;

/** An account's address, or null for one that is not Infobip's. */
export function infobipBase(text: string): string | null {
  const url = URL.parse(text.includes("://") ? text : `https://${text}`);
  if (url?.protocol !== "https:" || url.port !== "" || !HOST.test(url.hostname)) return null;
  return `https://${url.hostname}`;
}

/** Where a connection's calls go: its account, unless the deployment has another Infobip altogether (a sandbox). */
export function baseOf(rt: Runtime, connection: Connection): string {
  const configured = rt.config.INFOBIP_URL;
  if (infobipBase(configured) === null) return configured;
  return connection.apiBase ? (infobipBase(connection.apiBase) ?? configured) : configured;
}

export function infobipCredentials(connection: Connection): Record<string, string> {
  return { Authorization: `App ${connection.accessToken}` };
}

/** `lost`: nobody knows whether the call arrived. */
export type InfobipAnswer =
  | { kind: "ok"; body: unknown; headers: Headers }
  | { kind: "error"; status: number; error: ProviderError; retryAfter: number | null }
  | { kind: "lost"; reason: string };

export interface InfobipCall {
  method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path parts; each is encoded. */
  path: readonly string[];
  query?: Readonly<Record<string, string>>;
  body?: unknown;
}

export function urlOf(rt: Runtime, connection: Connection, path: readonly string[]): URL {
  return new URL(`${baseOf(rt, connection)}${path.map((part) => `/${encodeURIComponent(part)}`).join("")}`);
}

/** One call with the account's key. Redirects are not followed; the answer is bounded in time and size. Never throws. */
export async function callInfobip(rt: Runtime, connection: Connection, call: InfobipCall): Promise<InfobipAnswer> {
  const url = urlOf(rt, connection, call.path);
  for (const [name, value] of Object.entries(call.query ?? {})) url.searchParams.set(name, value);
  const headers = new Headers({ ...infobipCredentials(connection), Accept: "application/json" });
  if (call.body !== undefined) headers.set("Content-Type", "application/json");
  let response: Response;
  let text: string;
  try {
    response = await rt.fetch(url.toString(), {
      method: call.method,
      headers,
      body: call.body === undefined ? undefined : JSON.stringify(call.body),
      redirect: "manual",
      signal: AbortSignal.timeout(rt.config.PIPELINE.providerTimeout),
    });
    text = await readBounded(response);
  } catch (error) {
    return { kind: "lost", reason: lossReason(error) };
  }
  const { status } = response;
  const body = text === "" ? null : readJson(text);
  if (status >= 200 && status < 300) {
    return body === undefined
      ? { kind: "lost", reason: "The provider's answer could not be read" }
      : { kind: "ok", body, headers: response.headers };
  }
  if (status >= 500 || status === 408 || status === 499) {
    return { kind: "lost", reason: `The provider answered ${status}` };
  }
  const retryAfter = retryAfterOf(response.headers.get("Retry-After"), rt.clock());
  return { kind: "error", status, error: errorOf(status, body, [connection.accessToken]), retryAfter };
}

const classicError = z.object({
  requestError: z.object({
    serviceException: z.object({
      messageId: z.string().min(1),
      text: z.string().optional(),
      validationErrors: z.unknown().optional(),
    }),
  }),
});
const newerError = z.object({
  errorCode: z.string().min(1),
  description: z.string().optional(),
  action: z.string().optional(),
  violations: z.array(z.unknown()).optional(),
});

/** Infobip writes errors in two ways (facts 3.2). */
function errorOf(status: number, body: unknown, secrets: readonly string[]): ProviderError {
  const retryable = status === 429;
  const classic = classicError.safeParse(body).data?.requestError.serviceException;
  if (classic) {
    const { messageId: code, text, validationErrors } = classic;
    return { code, title: shown(text ?? code, secrets), details: detailsOf(validationErrors, secrets), retryable };
  }
  const newer = newerError.safeParse(body).data;
  if (newer) {
    const { errorCode: code, description, violations } = newer;
    return { code, title: shown(description ?? code, secrets), details: detailsOf(violations, secrets), retryable };
  }
  return { code: `http_${status}`, title: `The provider answered ${status}`, details: null, retryable };
}

/** `{"content.text": ["must not be blank"]}`, or a list of `{property, violation}`, in one line. */
function detailsOf(said: unknown, secrets: readonly string[]): string | null {
  const parts = isObject(said)
    ? Object.entries(said).map(([field, texts]) => `${field}: ${listOf(texts).map(String).join(", ") || String(texts)}`)
    : listOf(said).map((one) => {
        const { property, violation } = objectOf(one);
        return [textOf(property), textOf(violation)].filter((part) => part !== null).join(": ");
      });
  const text = parts.filter((part) => part !== "").join("; ");
  return text === "" ? null : shown(text, secrets);
}

/** An answer as the result of a management call. `read` makes the value of a body; undefined: it says nothing of use. */
export function resultOf<T>(
  answer: InfobipAnswer,
  read: (body: unknown, headers: Headers) => T | undefined,
): ProviderResult<T> {
  switch (answer.kind) {
    case "ok": {
      const value = read(answer.body, answer.headers);
      return value === undefined
        ? { ok: false, refused: false, reason: "The provider's answer could not be read" }
        : { ok: true, value };
    }
    case "error":
      return answer.status === 429
        ? { ok: false, refused: false, reason: answer.error.title }
        : { ok: false, refused: true, error: answer.error };
    case "lost":
      return { ok: false, refused: false, reason: answer.reason };
  }
}
