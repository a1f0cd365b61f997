import { consume } from "./consumer";
import { runCron } from "./cron";

export { ApiQuota } from "../durable-objects/api-quota";
export { Conversation } from "../durable-objects/conversation";
export { SenderGate } from "../durable-objects/sender-gate";
export { WorkspaceHub } from "../durable-objects/workspace-hub";

export default {
  // Loaded by the first request: objects, queues and crons start without the API's few hundred schemas.
  fetch: async (request, env, ctx) => (await import("./api")).api.fetch(request, env, ctx),
  queue: (batch, env) => consume(batch, env),
  scheduled: (controller, env) => runCron(controller, env),
} satisfies ExportedHandler<Env>;
