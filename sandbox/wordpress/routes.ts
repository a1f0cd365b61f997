import { Hono } from "hono";
import { z } from "zod";
import type { SandboxEnv } from "../env";
import { type Site, type SiteRecord, siteNamed, siteOrder, sites } from "./site";

/** Orders, and what sites were asked: `/sandbox/wordpress`. */
export const wordpressControl = new Hono<{ Bindings: SandboxEnv }>();

wordpressControl.post("/", async (c) => {
  const parsed = siteOrder.safeParse(await c.req.json());
  if (!parsed.success) return c.json({ error: z.prettifyError(parsed.error) }, 400);
  siteNamed(parsed.data.site).order(parsed.data);
  return c.json({ site: parsed.data.site });
});

wordpressControl.get("/", (c) => c.json({ calls: sites.get(c.req.query("site") ?? "")?.calls ?? [] }));

const HEADERS = { "Content-Type": "application/json; charset=UTF-8" };

/** One call of a site: `path` begins with `/wp-json`. Throws where the connection is to break. */
export async function wordpress(request: Request, name: string, path: string): Promise<Response> {
  const url = new URL(request.url);
  const site = sites.get(name);
  if (!site) return new Response("There is no such site", { status: 404 });
  const authorization = request.headers.get("Authorization");
  const call = { path, query: Object.fromEntries(url.searchParams), authorization, status: 0, at: Date.now() };
  site.calls.push(call);
  const response = await answer(site, path, url.searchParams, authorization);
  call.status = response.status;
  return response;
}

async function answer(
  site: Site,
  path: string,
  query: URLSearchParams,
  authorization: string | null,
): Promise<Response> {
  const fault = site.draw();
  switch (fault?.kind) {
    case "rate_limit":
      return refusal(429, "too_many_requests", "Too many requests.", fault.retry_after ?? 1);
    case "error":
      return refusal(fault.status, "internal_server_error", "There has been a critical error.", fault.retry_after);
    case "broken_json":
      return new Response("<br />\n<b>Warning</b>: Undefined array key in functions.php on line 7<br />\n[{", {
        headers: HEADERS,
      });
    case "reset":
      throw Object.assign(new Error("Network connection lost."), { retryable: true });
    case "slow":
      await scheduler.wait(fault.ms);
      break;
    case "shrink":
      site.remove(fault.ids);
      break;
  }
  if (site.user !== null && authorization !== basic(`${site.user}:${site.secret ?? ""}`)) {
    return path.startsWith("/wp-json/wc/")
      ? refusal(401, "woocommerce_rest_cannot_view", "Sorry, you cannot list resources.")
      : refusal(401, "rest_forbidden", "Sorry, you are not allowed to do that.");
  }
  switch (path) {
    case "/wp-json/wc/v3/customers":
      return collection(ordered(site.customers, query), query, { beyond: "empty" });
    case "/wp-json/wp/v2/users":
      return collection(ordered(site.users, query), query, { beyond: "empty" });
    case "/wp-json/gf/v2/entries":
      return entriesOf(site.entries, query);
    case "/wp-json/custom/v1/leads":
      return collection(changedSince(site.leads, query), query, { beyond: "refused" });
    default:
      return refusal(404, "rest_no_route", "No route was found matching the URL and request method.");
  }
}

/** Basic authentication in UTF-8, as PHP compares it. */
function basic(pair: string): string {
  return `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(pair)))}`;
}

function refusal(status: number, code: string, message: string, retryAfter?: number): Response {
  const headers = retryAfter === undefined ? HEADERS : { ...HEADERS, "Retry-After": String(retryAfter) };
  return new Response(JSON.stringify({ code, message, data: { status } }), { status, headers });
}

const DESCENDING = "desc";

/** WooCommerce and users: `orderby=id`, else by name; `order=asc` unless said otherwise. */
function ordered(records: readonly SiteRecord[], query: URLSearchParams): SiteRecord[] {
  const up =
    query.get("orderby") === "id"
      ? records.toSorted((a, b) => Number(a.id) - Number(b.id))
      : records.toSorted((a, b) => (String(a.name ?? a.email) < String(b.name ?? b.email) ? -1 : 1));
  return query.get("order") === DESCENDING ? up.reverse() : up;
}

function changedSince(records: readonly SiteRecord[], query: URLSearchParams): SiteRecord[] {
  const since = query.get("modified_after") ?? query.get("after");
  return since === null
    ? [...records]
    : records.filter(({ modified }) => Date.parse(String(modified)) > Date.parse(since));
}

/** A page with the headers of the REST API. A page behind the last is a 400 of posts, and empty elsewhere. */
function collection(
  records: readonly SiteRecord[],
  query: URLSearchParams,
  { beyond }: { beyond: "empty" | "refused" },
): Response {
  const perPage = Number(query.get("per_page") ?? 10);
  if (!Number.isInteger(perPage) || perPage < 1 || perPage > 100) {
    return refusal(400, "rest_invalid_param", "Invalid parameter(s): per_page");
  }
  const page = Number(query.get("page") ?? 1);
  const total = records.length;
  const pages = Math.ceil(total / perPage);
  if (beyond === "refused" && page > Math.max(1, pages)) {
    return refusal(
      400,
      "rest_post_invalid_page_number",
      "The page number requested is larger than the number of pages available.",
    );
  }
  const start = query.has("offset") ? Number(query.get("offset")) : (page - 1) * perPage;
  const base = `https://wordpress.example.com/?${query}`;
  const link = (target: number, rel: string) => `<${base}&page=${target}>; rel="${rel}"`;
  const links = [...(page > 1 ? [link(page - 1, "prev")] : []), ...(page < pages ? [link(page + 1, "next")] : [])];
  return new Response(JSON.stringify(records.slice(start, start + perPage)), {
    headers: {
      ...HEADERS,
      "X-WP-Total": String(total),
      "X-WP-TotalPages": String(pages),
      Date: new Date().toUTCString(),
      ...(links.length === 0 ? {} : { Link: links.join(", ") }),
    },
  });
}

const search = z.looseObject({
  field_filters: z.array(z.object({ key: z.string(), operator: z.string(), value: z.string() })).default([]),
});

/** Gravity Forms: newest first unless sorted, `paging[…]`, `search` as JSON; ids are texts, and no headers tell counts. */
function entriesOf(records: readonly SiteRecord[], query: URLSearchParams): Response {
  const { field_filters } = search.parse(JSON.parse(query.get("search") ?? "{}"));
  const after = Math.max(
    0,
    ...field_filters.flatMap(({ key, operator, value }) => (key === "id" && operator === ">" ? [Number(value)] : [])),
  );
  const forms = [...query].flatMap(([name, value]) => (name.startsWith("form_ids[") ? [value] : []));
  const found = records
    .filter(({ id, form_id }) => Number(id) > after && (forms.length === 0 || forms.includes(String(form_id))))
    .toSorted((a, b) => Number(a.id) - Number(b.id));
  if (query.get("sorting[direction]") !== "ASC") found.reverse();
  const size = Number(query.get("paging[page_size]") ?? 10);
  const start = (Number(query.get("paging[current_page]") ?? 1) - 1) * size;
  const entries = found.slice(start, start + size).map((entry) => ({ ...entry, id: String(entry.id) }));
  return new Response(JSON.stringify({ total_count: found.length, entries }), { headers: HEADERS });
}
