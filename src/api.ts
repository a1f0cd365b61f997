import { authRoutes } from "./auth/routes";
import { conversationRoutes } from "./conversations/routes";
import { inboundRoutes } from "./inbound/routes";
import { webhookRoutes } from "./inbound/routes-webhook";
import { messageRoutes } from "./messages/routes";
import { phoneNumberRoutes } from "./phone-numbers/routes";
import { anyOrigin, bounded, createRouter, frame, referenceErrors } from "./platform/app";
import { AppError } from "./platform/errors";
import { realtimeRoutes } from "./realtime/routes";
import { workspaceRoutes } from "./workspaces/routes";
import { memberRoutes } from "./workspaces/routes-members";

/** JSON bodies are small; uploads and webhooks set their own bounds. */
const JSON_LIMIT = 1024 * 1024;

const app = createRouter();
app.onError(referenceErrors);
app.notFound(() => {
  throw new AppError("not_found", "Resource not found");
});
app.use(frame, anyOrigin);
app.use("/api/*", bounded(JSON_LIMIT));
app.openAPIRegistry.registerComponent("securitySchemes", "bearer", {
  type: "http",
  scheme: "bearer",
  description: "A user's access token (JWT), or a workspace's API key (`wsk_…`).",
});
app.openAPIRegistry.registerComponent("securitySchemes", "apiKey", {
  type: "apiKey",
  in: "header",
  name: "X-API-Key",
  description: "A workspace's API key.",
});

export const api = app
  .route("/", authRoutes)
  .route("/", workspaceRoutes)
  .route("/", memberRoutes)
  .route("/", phoneNumberRoutes)
  .route("/", messageRoutes)
  .route("/", conversationRoutes)
  .route("/", webhookRoutes)
  .route("/", inboundRoutes)
  .route("/", realtimeRoutes);
export type Api = typeof api;

let document: string | undefined;

/** The OpenAPI 3.1 document, built at the first request that asks for it: building costs more than serving. */
export function openApiDocument(): string {
  document ??= JSON.stringify(
    api.getOpenAPI31Document({
      openapi: "3.1.0",
      info: {
        title: "Switchboard",
        version: "1.0.0",
        description:
          "A WhatsApp Business platform at the edge. Every path answers with and without a trailing slash; every answer carries `X-Request-Id`; " +
          "answers of a workspace carry `X-D1-Bookmark`, and a request that sends it back never reads older data.",
      },
    }),
  );
  return document;
}

app.get("/openapi.json", (c) => c.body(openApiDocument(), 200, { "Content-Type": "application/json" }));
