import { createRoute, type RouteConfig } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import { type AppEnv, errorBody } from "../platform/app";
import { ERRORS, type ErrorCode } from "../platform/errors";
import { type Access, PERMISSIONS } from "./access";
import { authenticate } from "./guard";

const requireCaller: MiddlewareHandler<AppEnv> = async (c, next) => {
  await authenticate(c);
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

/**
 * `createRoute` with its protection and the refusals that follow from it. `errors` names further refusals of the
 * operation itself. The operation must call the matching guard (`auth/guard`); the isolation test proves it did.
 */
export function operation<const R extends DeclaredRoute>(access: Access, errors: readonly ErrorCode[], route: R) {
  const guarded: ErrorCode[] = ["malformed", "validation", "internal", "overloaded", ...errors];
  if (access.kind !== "public") guarded.push("unauthenticated");
  if (access.kind === "workspace") guarded.push("forbidden", "not_found", "rate_limited");
  if (access.kind === "user") guarded.push("rate_limited");
  const codes = [...new Set(guarded)].filter((code) => !(ERRORS[code].status in route.responses));
  const credentials = access.kind === "user" || access.kind === "workspace";
  // Of the declared type, so that handlers and typed clients know the path, inputs and answers of each operation.
  const full: R = {
    ...route,
    // Who calls is settled before what they say is looked at: a stranger learns nothing from a validation error.
    middleware: access.kind === "user" || access.kind === "workspace" ? [requireCaller] : [],
    responses: { ...errorResponses(codes), ...route.responses } as R["responses"],
    ...(credentials ? { security: [{ bearer: [] }, ...(access.kind === "workspace" ? [{ apiKey: [] }] : [])] } : {}),
    "x-access": access.kind,
    ...(access.kind === "signed" ? { "x-signed-by": access.by } : {}),
    ...(access.kind === "workspace"
      ? { "x-permission": access.permission, "x-roles": PERMISSIONS[access.permission], "x-item": access.item ?? false }
      : {}),
  };
  return createRoute<R["path"], R>(full);
}
