import type { OpenAPIHono } from "@hono/zod-openapi";
import { operation } from "../auth/operation";
import { type AppContext, type AppEnv, createRouter } from "../platform/app";
import { sha256Hex, utf8 } from "../platform/crypto";
import { DOCUMENT } from "./info";
import { renderPage, STYLE } from "./page";

const tags = ["Documentation"];

const unchanged = { 304: { description: "As it was when `If-None-Match` was taken from an `ETag`" } };

const documentRoute = operation({ kind: "public" }, [], {
  method: "get",
  path: "/openapi.json",
  tags,
  summary: "This API as an OpenAPI 3.1 document",
  description: "Each operation says who may call it: `x-access`, `x-permission`, `x-roles`, `x-api-key`.",
  responses: {
    200: {
      description: "The document",
      content: { "application/json": { schema: { type: "object", additionalProperties: true } } },
    },
    ...unchanged,
  },
});

const pageRoute = operation({ kind: "public" }, [], {
  method: "get",
  path: "/docs",
  tags,
  summary: "This API as a readable page",
  responses: {
    200: { description: "The page", content: { "text/html": { schema: { type: "string" } } } },
    ...unchanged,
  },
});

interface Built {
  body: string;
  etag: string;
}

async function built(body: string): Promise<Built> {
  return { body, etag: `"${(await sha256Hex(body)).slice(0, 32)}"` };
}

/** Proxies that compress on the way mark our ETag weak. */
function isKnown(c: AppContext, etag: string): boolean {
  const known = (c.req.header("if-none-match") ?? "").split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  return known.includes(etag);
}

function answer(c: AppContext, { body, etag }: Built, headers: Record<string, string>): Response {
  const caching = { ETag: etag, "Cache-Control": "public, max-age=300" };
  if (isKnown(c, etag)) return c.body(null, 304, caching);
  return c.body(body, 200, { ...caching, ...headers });
}

/** The description of everything mounted on `app`, built once per isolate: building costs more than serving. */
export function docsRoutes(app: OpenAPIHono<AppEnv>) {
  const document = () => app.getOpenAPI31Document(DOCUMENT);
  let asJson: Built | undefined;
  let asPage: (Built & { policy: string }) | undefined;

  const page = async () => {
    const digest = await crypto.subtle.digest("SHA-256", utf8(STYLE));
    const style = btoa(String.fromCharCode(...new Uint8Array(digest)));
    const policy = `default-src 'none'; style-src 'sha256-${style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
    return { ...(await built(renderPage(document()))), policy };
  };

  return createRouter()
    .openapi(documentRoute, async (c) => {
      asJson ??= await built(JSON.stringify(document()));
      return answer(c, asJson, { "Content-Type": "application/json" });
    })
    .openapi(pageRoute, async (c) => {
      asPage ??= await page();
      const { policy, ...rest } = asPage;
      return answer(c, rest, {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
      });
    });
}
