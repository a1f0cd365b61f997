import { anyOrigin, bounded, createRouter, frame, referenceErrors } from "./platform/app";
import { AppError } from "./platform/errors";

/** JSON bodies are small; uploads and webhooks set their own bounds. */
const JSON_LIMIT = 1024 * 1024;

const app = createRouter();
app.onError(referenceErrors);
app.notFound(() => {
  throw new AppError("not_found", "Resource not found");
});
app.use(frame, anyOrigin);
app.use("/api/*", bounded(JSON_LIMIT));

export const api = app;
export type Api = typeof api;
