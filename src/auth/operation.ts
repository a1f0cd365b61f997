import { createRoute, type RouteConfig } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import { type AppEnv, errorBody } from "../platform/app";
import { ERRORS, type ErrorCode, unreachable } from "../platform/errors";
import { type Access, keyMay, PERMISSIONS } from "./access";
import { authenticate } from "./guard";

const requireCaller: MiddlewareHandler<AppEnv> = async (c, next) => {
  await authenticate(c);
  await next();
};

/** Many clients name JSON on every call, also where they send nothing: then there is no body to parse. */
const noBodyIsNoJson: MiddlewareHandler<AppEnv> = async (c, next) => {
  if (c.req.raw.body === null || c.req.header("content-length") === "0") {
    const headers = new Headers(c.req.raw.headers);
    headers.delete("content-type");
    c.req.raw = new Request(c.req.url, { method: c.req.method, headers });
  }
  await next();
};

type DeclaredRoute = Omit<RouteConfig, "security">;

const jsonError = { "application/json": { schema: errorBody } };

function errorResponses(
  codes: readonly ErrorCode[],
): Record<number, { description: string; content: typeof jsonError }> {
  const responses: Record<number, { description: string; content: typeof jsonError }> = {};
  for (const code of codes) {
    const { status, title } = ERRORS[code];
    const before = responses[status];
    responses[status] = { description: before ? `${before.description}; ${title}` : title, content: jsonError };
  }
  return responses;
}

/** The refusals that follow from how an operation is protected and what it takes. */
function refusalsOf(access: Access, request: DeclaredRoute["request"]): ErrorCode[] {
  const codes: ErrorCode[] = ["internal", "overloaded"];
  if (request) codes.push("validation");
  if (request?.body) codes.push("malformed", "too_large", "unsupported_media_type");
  switch (access.kind) {
    case "public":
      return codes;
    case "signed":
      return [...codes, "unauthenticated"];
    case "user":
      return [...codes, "unauthenticated", "forbidden", "rate_limited"];
    case "workspace":
      return [...codes, "unauthenticated", "forbidden", "not_found", "rate_limited"];
    default:
      return unreachable(access);
  }
}

/**
 * `createRoute` with its protection and the refusals that follow from it. `errors` names further refusals of the
 * operation itself. The operation must call the matching guard (`auth/guard`); the isolation test proves it did.
 */
export function operation<const R extends DeclaredRoute>(access: Access, errors: readonly ErrorCode[], route: R) {
  const refusals = new Set([...refusalsOf(access, route.request), ...errors]);
  const codes = [...refusals].filter((code) => !(ERRORS[code].status in route.responses));
  const credentials = access.kind === "user" || access.kind === "workspace";
  const forKeys = access.kind === "workspace" && keyMay(access.permission);
  const body = route.request?.body;
  // Of the declared type, so that handlers and typed clients know the path, inputs and answers of each operation.
  const full: R = {
    ...route,
    // Who calls is settled before what they say is looked at: a stranger learns nothing from a validation error.
    middleware: [...(credentials ? [requireCaller] : []), ...(body && !body.required ? [noBodyIsNoJson] : [])],
    responses: { ...errorResponses(codes), ...route.responses } as R["responses"],
    ...(credentials ? { security: [{ bearer: [] }, ...(forKeys ? [{ apiKey: [] }] : [])] } : {}),
    "x-access": access.kind,
    ...(access.kind === "signed" ? { "x-signed-by": access.by } : {}),
    ...(access.kind === "workspace"
      ? {
          "x-permission": access.permission,
          "x-roles": PERMISSIONS[access.permission],
          "x-api-key": forKeys,
          "x-item": access.item ?? false,
        }
      : {}),
  };
  return createRoute<R["path"], R>(full);
}
