import type { z } from "@hono/zod-openapi";
import { enterWorkspace, type WorkspaceScope } from "../auth/guard";
import { resolveNumber } from "../phone-numbers/service";
import { createRouter } from "../platform/app";
import { AppError, invalidField } from "../platform/errors";
import { templateContent, templateForSend, unsendable } from "../templates/service";
import { sendTemplateBody } from "./schema-template";
import { type Payload, send, sendOperation } from "./send-route";
import { selectForTemplateSend } from "./store-template";

const sendTemplate = sendOperation(
  "/api/messages/send/template",
  "Send a template, its parameters checked before anything leaves",
  sendTemplateBody,
);

type SendTemplate = z.output<typeof sendTemplateBody>;

/** ms a key must stay in use for its first answer to be given again: longer than a request takes. */
const HELD = 60_000;

/** What the template makes of the parameters; a 422 names what is wrong with either. */
async function payloadOf(scope: WorkspaceScope, body: SendTemplate, key: string | null): Promise<Payload> {
  const { rt, db, workspaceId } = scope;
  const conversationId = body.conversation_id ?? null;
  const asked = { conversationId, key, heldUntil: rt.clock() + HELD };
  const [reads, named] = await Promise.all([
    conversationId === null && key === null ? null : selectForTemplateSend(db, workspaceId, asked),
    conversationId === null ? resolveNumber(db, workspaceId, body.phone_number_id ?? null) : null,
  ]);
  // The same call gets its first answer again, whatever became of the template: nothing of this is stored or sent.
  if (reads?.keyHeld) return { type: "template", content: {} };
  const number = conversationId === null ? named : await numberOf(scope, reads?.conversationNumberId ?? null);
  if (!number) throw invalidField(["body", "phone_number_id"], "Phone number not found in this workspace");
  const { template_name: name, template_language: language } = body;
  const template = await templateForSend(rt, db, number, name, language);
  if (!template) {
    throw invalidField(
      ["body", "template_name"],
      `There is no template ${name} in ${language} that this number can send`,
    );
  }
  const refusal = unsendable(template);
  if (refusal !== null) throw invalidField(["body", "template_name"], refusal);
  const filling = templateContent(template, body.components);
  if (!filling.ok) throw invalidField(["body", "components", ...filling.field], filling.msg);
  const { content, category, ttl } = filling;
  return { type: "template", content, category, ...(ttl === null ? {} : { ttl }) };
}

/** A conversation's own number, whichever the caller names. */
function numberOf({ db, workspaceId }: WorkspaceScope, phoneNumberId: string | null) {
  if (phoneNumberId === null) throw new AppError("not_found", "Conversation not found");
  return resolveNumber(db, workspaceId, phoneNumberId);
}

export const messageTemplateRoutes = createRouter().openapi(sendTemplate, async (c) => {
  const body = c.req.valid("json");
  const scope = await enterWorkspace(c, "messages.send", body.workspace_id);
  const payload = await payloadOf(scope, body, c.req.header("idempotency-key") ?? null);
  return c.json(await send(c, scope, body, payload), 201);
});
