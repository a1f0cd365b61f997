/** Calls to 360dialog: Meta's Cloud API behind another host and header, without version or number in the path (facts 2). */
import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { exchange, type GraphAnswer, type GraphRequest } from "./graph";
import { resultOf } from "./meta-results";
import type { Connection, ProviderError, ProviderResult, SendOutcome } from "./provider";
import { parseProviderJson } from "./provider-json";

export interface Dialog360Call extends Pick<GraphRequest, "method" | "body" | "stream" | "timeout"> {
  /** Path parts; each is encoded. */
  path: readonly string[];
  query?: Readonly<Record<string, string>>;
}

/** The header that carries a number's key. */
export function dialog360Credentials(connection: Connection): Record<string, string> {
  return { "D360-API-KEY": connection.accessToken };
}

/** One call with the number's key. Never throws. */
export function call360(rt: Runtime, connection: Connection, call: Dialog360Call): Promise<GraphAnswer> {
  const { path, query = {}, ...rest } = call;
  const url = new URL(rt.config.DIALOG360_URL);
  url.pathname = `${url.pathname.replace(/\/$/, "")}${path.map((part) => `/${encodeURIComponent(part)}`).join("")}`;
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  const headers = new Headers(dialog360Credentials(connection));
  return exchange(rt, { ...rest, url, headers, secrets: [connection.accessToken] });
}

/** 360dialog's own refusals, which are no errors of Meta's: `{meta: {…}}` of old, `{error: "…"}`, or a bare text. */
const ownError = z.union([
  z
    .object({ meta: z.object({ developer_message: z.string().min(1) }) })
    .transform((body) => body.meta.developer_message),
  z.object({ error: z.string().min(1) }).transform((body) => body.error),
  z.object({ message: z.string().min(1) }).transform((body) => body.message),
  z.object({ detail: z.string().min(1) }).transform((body) => body.detail),
]);

function textOf(text: string): string {
  try {
    return ownError.safeParse(parseProviderJson(text)).data ?? text;
  } catch (error) {
    if (error instanceof SyntaxError) return text;
    throw error;
  }
}

/** What 360dialog itself refused, before Meta saw it. */
interface OwnRefusal {
  kind: "throttled" | "blocked:number" | "blocked:account" | "permanent";
  error: ProviderError;
}

/**
 * A refusal of 360dialog's own by its words (facts 2): a rate is a 400 there as well as a 429, a key that is wrong or
 * an endpoint that is blocked stops the number, a disabled or unpaid account everything of it.
 */
function ownRefusal(answer: Extract<GraphAnswer, { kind: "refused" }>): OwnRefusal {
  const said = textOf(answer.text);
  const { status } = answer;
  const error = (retryable: boolean): ProviderError => ({
    code: `http_${status}`,
    title: said === "" ? `360dialog answered ${status}` : said.slice(0, 200),
    details: null,
    retryable,
  });
  if (status === 429 || /rate limit/i.test(said)) return { kind: "throttled", error: error(true) };
  if (status === 401 || status === 403) return { kind: "blocked:number", error: error(true) };
  if (status === 402 || /payment|has been disabled/i.test(said)) return { kind: "blocked:account", error: error(true) };
  return { kind: "permanent", error: error(false) };
}

/** The outcome of a refusal of 360dialog's own; null when the answer is another one, which Meta's rules cover. */
export function ownOutcome(
  answer: GraphAnswer,
): Exclude<SendOutcome, { kind: "sent" | "ambiguous" | "repeat" }> | null {
  if (answer.kind !== "refused") return null;
  const { kind, error } = ownRefusal(answer);
  switch (kind) {
    case "throttled":
      return { kind: "transient", error, retryAfter: answer.retryAfter, throttled: true };
    case "blocked:number":
      return { kind: "blocked", scope: "number", error };
    case "blocked:account":
      return { kind: "blocked", scope: "account", error };
    case "permanent":
      return { kind: "permanent", error };
  }
}

/** An answer as the result of a management call: a wrong key is a refusal, a rate limit is "not now". */
export function result360<T>(answer: GraphAnswer, read: (body: unknown) => T | undefined): ProviderResult<T> {
  if (answer.kind !== "refused") return resultOf(answer, read);
  const { kind, error } = ownRefusal(answer);
  return kind === "throttled"
    ? { ok: false, refused: false, reason: error.title }
    : { ok: false, refused: true, error };
}
