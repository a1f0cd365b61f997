/** A workspace's OpenAI-compatible endpoint: its key is sealed and never shown. */
import type { z } from "@hono/zod-openapi";
import type { WorkspaceScope } from "../auth/guard";
import { open, type SealContext, seal } from "../platform/crypto";
import { invalidField } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import { checkAddress, UnsafeAddress } from "../platform/safe-fetch";
import type { assistantBody } from "./schema";
import { type Assistant, upsertAssistant } from "./store";

function contextOf(workspaceId: string): SealContext {
  return { table: "auto_reply_assistants", column: "api_key_sealed", workspaceId, rowId: workspaceId };
}

/** Sets the endpoint. `ownHost` is the name this deployment was called by. */
export async function setAssistant(
  { rt, db, workspaceId }: WorkspaceScope,
  body: z.output<typeof assistantBody>,
  ownHost: string,
): Promise<Assistant> {
  try {
    checkAddress(body.base_url, { privateHosts: rt.config.PRIVATE_FETCH_HOSTS, ownHosts: [ownHost] });
  } catch (error) {
    if (error instanceof UnsafeAddress) throw invalidField(["body", "base_url"], error.message);
    throw error;
  }
  const keys = { current: rt.config.SECRET_KEY, previous: rt.config.SECRET_KEY_PREVIOUS };
  const assistant: Assistant = {
    workspaceId,
    baseUrl: body.base_url,
    model: body.model,
    tokenParameter: body.token_parameter,
    apiKeySealed: await seal(keys, contextOf(workspaceId), body.api_key),
    ownHost,
    updatedAt: rt.clock(),
  };
  await upsertAssistant(db, assistant);
  return assistant;
}

/** The key in plain. Throws when it was sealed with a secret that is not configured any more. */
export function openAssistantKey(rt: Runtime, { workspaceId, apiKeySealed }: Assistant): Promise<string> {
  const keys = { current: rt.config.SECRET_KEY, previous: rt.config.SECRET_KEY_PREVIOUS };
  return open(keys, contextOf(workspaceId), apiKeySealed);
}
