import { authRoutes } from "./auth/routes";
import { autoReplyRoutes } from "./auto-replies/routes";
import { assistantRoutes } from "./auto-replies/routes-assistant";
import { contactRoutes } from "./contacts/routes";
import { conversationRoutes } from "./conversations/routes";
import { docsRoutes } from "./docs/routes";
import { groupRoutes } from "./groups/routes";
import { importRoutes } from "./imports/routes";
import { inboundRoutes } from "./inbound/routes";
import { webhookRoutes } from "./inbound/routes-webhook";
import { mediaRoutes } from "./media/routes";
import { mediaFileRoutes } from "./media/routes-files";
import { mediaUploadRoutes } from "./media/routes-uploads";
import { messageRoutes } from "./messages/routes";
import { messageKindRoutes } from "./messages/routes-kinds";
import { messageMediaRoutes } from "./messages/routes-media";
import { messageTemplateRoutes } from "./messages/routes-template";
import { phoneNumberRoutes } from "./phone-numbers/routes";
import { anyOrigin, bounded, createRouter, frame, referenceErrors, unknownRoute, withRuntime } from "./platform/app";
import { realtimeRoutes } from "./realtime/routes";
import { statusRoutes } from "./statuses/routes";
import { templateRoutes } from "./templates/routes";
import { webhookEndpointRoutes } from "./webhook-endpoints/routes";
import { wordpressRoutes } from "./wordpress/routes";
import { workspaceRoutes } from "./workspaces/routes";
import { memberRoutes } from "./workspaces/routes-members";

/** JSON bodies are small; uploads and webhooks set their own bounds. */
const JSON_LIMIT = 1024 * 1024;

/** Bodies that are files: read piece by piece, each within its own bounds. */
const FILES = /^\/api\/(media(\/uploads\/[^/]+\/parts\/[^/]+)?|contacts\/import)\/?$/;

const app = createRouter();
app.onError(referenceErrors);
app.notFound(unknownRoute(app));
app.route("/", webhookRoutes);
app.use(frame, anyOrigin, withRuntime);
const boundedJson = bounded(JSON_LIMIT);
app.use("/api/*", (c, next) => (FILES.test(c.req.path) ? next() : boundedJson(c, next)));
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
  .route("/", messageKindRoutes)
  .route("/", messageMediaRoutes)
  .route("/", messageTemplateRoutes)
  .route("/", templateRoutes)
  .route("/", mediaUploadRoutes)
  .route("/", mediaRoutes)
  .route("/", mediaFileRoutes)
  .route("/", importRoutes)
  .route("/", contactRoutes)
  .route("/", groupRoutes)
  .route("/", statusRoutes)
  .route("/", wordpressRoutes)
  .route("/", conversationRoutes)
  .route("/", inboundRoutes)
  .route("/", webhookEndpointRoutes)
  .route("/", assistantRoutes)
  .route("/", autoReplyRoutes)
  .route("/", realtimeRoutes)
  .route("/", docsRoutes(app));
export type Api = typeof api;
