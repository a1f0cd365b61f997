/** Calls of a WordPress site. */
import { z } from "zod";
import { utf8 } from "../platform/crypto";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { type SafeAnswer, safeFetch, UnsafeAddress } from "../platform/safe-fetch";
import type { SitePage } from "./reading";

export interface Credentials {
  user: string;
  secret: string;
}

export interface Site {
  url: string;
  ownHost: string;
  credentials: Credentials | null;
}

export type SiteAnswer =
  | ({ kind: "page" /** ms of the site's clock; null when it does not say. */; date: number | null } & SitePage)
  /** There is no such page of the list. */
  | { kind: "beyond" }
  /** Somebody has to act: at the site, or on the source. */
  | { kind: "refused"; message: string }
  /** May work later. `retryAfter`: ms the site asked for; null when it did not. */
  | { kind: "later"; message: string; retryAfter: number | null };

/** A hundred customers with everything that plug-ins add to them. Bytes. */
const MAX_BODY = 8 * 1024 * 1024;
/** A longer wait is not believed. ms */
const LONGEST_WAIT = 3_600_000;
const SHOWN = 300;

/** Reads one page. Never throws for what a site does. */
export async function readSite(rt: Runtime, site: Site, path: string): Promise<SiteAnswer> {
  try {
    const answer = await safeFetch(rt, site.url.replace(/\/+$/, "") + path, {
      headers: { Accept: "application/json", "User-Agent": "Switchboard/1" },
      ...(site.credentials === null ? {} : { secretHeaders: { Authorization: basic(site.credentials) } }),
      timeout: rt.config.PIPELINE.providerTimeout,
      maxBytes: MAX_BODY,
      ownHosts: [site.ownHost],
    });
    return judge(answer, rt.clock());
  } catch (error) {
    if (error instanceof UnsafeAddress) return { kind: "refused", message: `Not called: ${error.message}` };
    const late = error instanceof Error && error.name === "TimeoutError";
    log("info", "wordpress.unanswered", errorFields(error));
    const seconds = rt.config.PIPELINE.providerTimeout / 1000;
    return {
      kind: "later",
      message: late ? `No answer within ${seconds} seconds` : "The connection could not be made, or broke",
      retryAfter: null,
    };
  }
}

function basic({ user, secret }: Credentials): string {
  return `Basic ${btoa(String.fromCharCode(...utf8(`${user}:${secret}`)))}`;
}

const wpError = z.looseObject({ code: z.string(), message: z.string().optional() });

function judge(answer: SafeAnswer, now: number): SiteAnswer {
  const { status, headers } = answer;
  const body = jsonOf(answer);
  if (status === 200) {
    if (answer.cut) return { kind: "refused", message: `A page is larger than ${MAX_BODY / 1024 / 1024} MB` };
    // A plug-in's warning before the JSON, or half an answer.
    if (body === undefined) return { kind: "later", message: "The answer is not JSON", retryAfter: null };
    return {
      kind: "page",
      body,
      total: countOf(headers, "X-WP-Total"),
      totalPages: countOf(headers, "X-WP-TotalPages"),
      date: dateOf(headers),
    };
  }
  const error = wpError.safeParse(body).data;
  if (status === 400 && error?.code === "rest_post_invalid_page_number") return { kind: "beyond" };
  const said = error ? `: ${error.code}${error.message === undefined ? "" : `, ${error.message}`}` : "";
  const message = `The site answered ${status}${said}`.slice(0, SHOWN);
  if (status === 429 || status === 408 || status >= 500) {
    return { kind: "later", message, retryAfter: waitOf(headers.get("Retry-After"), now) };
  }
  return { kind: "refused", message };
}

function jsonOf({ body }: SafeAnswer): unknown {
  try {
    // WordPress files saved with a byte order mark put one before every answer; decoding drops it.
    return JSON.parse(new TextDecoder().decode(body));
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function countOf(headers: Headers, name: string): number | null {
  const text = headers.get(name) ?? "";
  return /^\d{1,9}$/.test(text) ? Number(text) : null;
}

function dateOf(headers: Headers): number | null {
  const at = Date.parse(headers.get("Date") ?? "");
  return Number.isFinite(at) ? at : null;
}

/** `Retry-After`: seconds, or a date. */
function waitOf(header: string | null, now: number): number | null {
  if (header === null) return null;
  const wait = /^\d{1,9}$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isFinite(wait) && wait > 0 ? Math.min(wait, LONGEST_WAIT) : null;
}
