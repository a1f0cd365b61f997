import { OpenAPIHono, z } from "@hono/zod-openapi";
import type { Context, ErrorHandler, MiddlewareHandler, NotFoundHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import { HTTPException } from "hono/http-exception";
import { routePath } from "hono/route";
import { AppError, ERRORS, type ErrorCode, type FieldError } from "./errors";
import { newUuid } from "./ids";
import { errorFields, log } from "./log";
import { createRuntime, type Runtime } from "./runtime";

declare module "hono" {
  interface ContextVariableMap {
    rt: Runtime;
    requestId: string;
    /** Headers that several layers add to whatever answer leaves: bookmark, rate limits. */
    answerHeaders: Map<string, string>;
  }
}

export interface AppEnv {
  Bindings: Env;
}

export type AppContext = Context<AppEnv>;

/** The body of every refusal on the Reference, Automation and Desk surfaces. */
export const errorBody = z
  .object({
    detail: z.union([
      z.string(),
      z.array(
        z.object({
          loc: z.array(z.union([z.string(), z.number()])),
          msg: z.string(),
          type: z.literal("value_error"),
        }),
      ),
    ]),
    code: z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]),
    request_id: z.string(),
  })
  .loose()
  .openapi("Error");

const PLACES = {
  json: "body",
  form: "body",
  query: "query",
  param: "path",
  header: "header",
  cookie: "cookie",
} as const;

/** A slice's router. Paths answer with and without trailing slash; a body that does not parse is a 422 naming fields. */
export function createRouter(): OpenAPIHono<AppEnv> {
  return new OpenAPIHono<AppEnv>({
    strict: false,
    defaultHook: (result) => {
      if (result.success) return;
      const place = PLACES[result.target as keyof typeof PLACES] ?? result.target;
      const fields: FieldError[] = result.error.issues.map((issue) => ({
        loc: [place, ...issue.path.map((part) => (typeof part === "number" ? part : String(part)))],
        msg: issue.message,
      }));
      throw new AppError("validation", fields[0]?.msg ?? "Not valid", { fields });
    },
  });
}

const EXPOSED = [
  "X-Total-Count",
  "X-Request-Id",
  "X-D1-Bookmark",
  "RateLimit-Limit",
  "RateLimit-Remaining",
  "RateLimit-Reset",
  "Retry-After",
  "Idempotency-Replayed",
  "ETag",
  "Content-Range",
  "Content-Disposition",
  "Repr-Digest",
];

/** Any origin, without credentials (contract 4): keys travel in headers, the cookie session is same-origin only. */
export const anyOrigin: MiddlewareHandler<AppEnv> = cors({
  origin: "*",
  allowMethods: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
  allowHeaders: [
    "Authorization",
    "Content-Type",
    "X-API-Key",
    "X-Workspace-Id",
    "Idempotency-Key",
    "X-D1-Bookmark",
    "Last-Event-ID",
    "If-None-Match",
    "Range",
  ],
  exposeHeaders: EXPOSED,
  maxAge: 86_400,
});

/** Refuses bodies over `maxBytes` while reading, whether or not a length was declared. */
export function bounded(maxBytes: number): MiddlewareHandler<AppEnv> {
  return bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      throw new AppError("too_large", `The body is larger than ${maxBytes} bytes`);
    },
  });
}

function framed(isLogged: (status: number) => boolean): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const requestId = newUuid();
    c.set("requestId", requestId);
    c.set("answerHeaders", new Map([["X-Request-Id", requestId]]));
    const startedAt = Date.now();
    await next();
    // A WebSocket upgrade's headers cannot be changed.
    if (c.res.status !== 101) {
      for (const [name, value] of c.var.answerHeaders) c.res.headers.set(name, value);
      // Answers carry tokens and customers' words: no cache on the way keeps one, unless its route says otherwise.
      if (!c.res.headers.has("Cache-Control")) c.res.headers.set("Cache-Control", "no-store");
    }
    if (!isLogged(c.res.status)) return;
    log("info", "request", {
      request_id: requestId,
      method: c.req.method,
      path: routePath(c, -1),
      status: c.res.status,
      ms: Date.now() - startedAt,
    });
  };
}

/** Request id, one log line, and the headers that layers added. Runs first, so that whatever fails has an id. */
export const frame = framed(() => true);

/**
 * The frame of what providers post: most of the traffic, and a line costs twice its D1 reads. What was taken is logged
 * with its queue batch; only refusals have a line of their own.
 */
export const deliveryFrame = framed((status) => status >= 400);

/** Reads the settings. Inside of `frame` and CORS: a misconfigured deployment's refusal is an answer like any other. */
export const withRuntime: MiddlewareHandler<AppEnv> = async (c, next) => {
  c.set("rt", createRuntime(c.env));
  await next();
};

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/** What is at no path is a 404; what is at the path for other methods only is a 405 that names them. */
export function unknownRoute(app: OpenAPIHono<AppEnv>): NotFoundHandler<AppEnv> {
  return (c) => {
    const allowed = METHODS.filter((method) =>
      // Middleware is registered for every method, as ALL.
      app.router.match(method, c.req.path)[0].some(([[, route]]) => route.method === method),
    );
    if (allowed.length === 0) throw new AppError("not_found", "Resource not found");
    c.var.answerHeaders.set("Allow", allowed.join(", "));
    throw new AppError("method_not_allowed", `This path takes ${allowed.join(", ")}`);
  };
}

/** Turns whatever was thrown into an AppError; what nobody foresaw says nothing of itself to the caller. */
function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (error instanceof HTTPException && error.status < 500) {
    if (error.status === 413) return new AppError("too_large", "The body is too large");
    if (error.status === 415) {
      return new AppError("unsupported_media_type", "The Content-Type is not one that this operation takes");
    }
    return new AppError("malformed", error.message || "The request could not be read");
  }
  return new AppError("internal", "Internal server error", { cause: error });
}

/** Answers `{detail, code, request_id}`. */
export const referenceErrors: ErrorHandler<AppEnv> = (thrown, c) => {
  const error = toAppError(thrown);
  const requestId = c.var.requestId ?? newUuid();
  if (error.status >= 500) {
    log("error", "request.failed", {
      request_id: requestId,
      path: routePath(c, -1),
      code: error.code,
      ...errorFields(error.code === "internal" ? error.cause : error),
    });
  }
  const detail = error.fields
    ? error.fields.map((field) => ({ loc: field.loc, msg: field.msg, type: "value_error" as const }))
    : error.message;
  if (error.retryAfter !== undefined) c.header("Retry-After", String(Math.ceil(error.retryAfter)));
  if (error.status === 401) c.header("WWW-Authenticate", "Bearer");
  const body = { detail, code: error.code, request_id: requestId, ...error.extra };
  return c.body(JSON.stringify(body), error.status as 400, { "Content-Type": "application/json" });
};
