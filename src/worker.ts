import { api } from "./api";
import { consume } from "./consumer";
import { runCron } from "./cron";

export { ApiQuota } from "../durable-objects/api-quota";
export { Conversation } from "../durable-objects/conversation";
export { SenderGate } from "../durable-objects/sender-gate";
export { WorkspaceHub } from "../durable-objects/workspace-hub";

export default {
  fetch: (request, env, ctx) => api.fetch(request, env, ctx),
  queue: (batch, env) => consume(batch, env),
  scheduled: (controller, env) => runCron(controller, env),
} satisfies ExportedHandler<Env>;
