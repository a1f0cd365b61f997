import { authRoutes } from "./auth/routes";
import { conversationRoutes } from "./conversations/routes";
import { docsRoutes } from "./docs/routes";
import { inboundRoutes } from "./inbound/routes";
import { webhookRoutes } from "./inbound/routes-webhook";
import { messageRoutes } from "./messages/routes";
import { phoneNumberRoutes } from "./phone-numbers/routes";
import { anyOrigin, bounded, createRouter, frame, referenceErrors, unknownRoute, withRuntime } from "./platform/app";
import { realtimeRoutes } from "./realtime/routes";
import { workspaceRoutes } from "./workspaces/routes";
import { memberRoutes } from "./workspaces/routes-members";

/** JSON bodies are small; uploads and webhooks set their own bounds. */
const JSON_LIMIT = 1024 * 1024;

const app = createRouter();
app.onError(referenceErrors);
app.notFound(unknownRoute(app));
app.route("/", webhookRoutes);
app.use(frame, anyOrigin, withRuntime);
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
  .route("/", inboundRoutes)
  .route("/", realtimeRoutes)
  .route("/", docsRoutes(app));
export type Api = typeof api;
