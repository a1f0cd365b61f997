import type { z } from "@hono/zod-openapi";
import type { Access } from "../auth/access";
import { rememberBookmark, type WorkspaceScope } from "../auth/guard";
import { operation } from "../auth/operation";
import type { AppContext } from "../platform/app";
import { idempotencyHeader, requestHash } from "../platform/idempotency";
import { messageResource, type sendBase } from "./schema";
import { acceptMessage, type Message, type SendScope } from "./service";
import { shapeAccepted } from "./service-shape";

/** How every send is protected. */
export const SEND_ACCESS = { kind: "workspace", permission: "messages.send" } as const satisfies Access;

/** The operation of one kind of send: same header, same answer, its own body. */
export function sendOperation<P extends string, B extends z.ZodType>(path: P, summary: string, body: B) {
  return sendOperationAnswering(path, summary, body, messageResource);
}

/** The same for a send whose answer has members of its own. */
export function sendOperationAnswering<P extends string, B extends z.ZodType, A extends z.ZodType>(
  path: P,
  summary: string,
  body: B,
  answer: A,
) {
  return operation(SEND_ACCESS, ["conflict", "idempotency_conflict", "provider_limit"], {
    method: "post",
    path,
    tags: ["Messages"],
    summary,
    description:
      "Answers at once; the message is then sent once, or `failed` with a reason. Follow it by `GET` or live.",
    request: {
      headers: idempotencyHeader,
      body: { required: true, content: { "application/json": { schema: body } } },
    },
    responses: { 201: { description: "Accepted", content: { "application/json": { schema: answer } } } },
  });
}

/** A scope whose charge may still be on its way (`enterCharging`). */
type Sender = WorkspaceScope & { charged?: Promise<void> };

export function sendScope({ rt, workspaceId, membership, db, charged }: Sender): SendScope {
  return { rt, workspaceId, shard: membership.shard, db, allowed: charged };
}

/** What a send carries, besides the members every send has. */
export interface Payload {
  type: string;
  content: Record<string, unknown>;
  category?: Message["category"];
  /** ms */
  ttl?: number;
}

/** Accepts one send and answers the message as accepted, whether now or under the same key before. */
export async function send(
  c: AppContext,
  scope: Sender,
  body: z.output<typeof sendBase>,
  payload: Payload,
): Promise<z.input<typeof messageResource>> {
  const key = c.req.header("idempotency-key");
  const claim = key === undefined ? null : { key, hash: await requestHash(c.req.path.replace(/\/$/, ""), body) };
  const { message, replayed } = await acceptMessage(
    sendScope(scope),
    {
      phoneNumberId: body.phone_number_id ?? null,
      to: body.to ?? null,
      contactId: body.contact_id ?? null,
      conversationId: body.conversation_id ?? null,
      type: payload.type,
      content: payload.content,
      category: payload.category ?? null,
      replyTo: body.reply_to ?? null,
      scheduledAt: body.scheduled_at ?? null,
      ttl: payload.ttl ?? null,
    },
    claim,
  );
  if (replayed) c.var.answerHeaders.set("Idempotency-Replayed", "true");
  rememberBookmark(c, scope);
  return shapeAccepted(message);
}
