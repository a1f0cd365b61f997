import { z } from "@hono/zod-openapi";

/** The type of an outbound message and what it carries, neutral of the provider. Inbound rows keep the provider's own. */
export const textContent = z.object({ body: z.string().min(1).max(4096), preview_url: z.boolean().optional() });

export type MessageContent = Record<string, unknown>;
