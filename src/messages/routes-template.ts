import type { z } from "@hono/zod-openapi";
import { enterCharging, type WorkspaceScope } from "../auth/guard";
import type { PhoneNumber } from "../phone-numbers/service";
import { createRouter } from "../platform/app";
import { invalidField } from "../platform/errors";
import { templateContent, templateForSend, unsendable } from "../templates/service";
import { sendTemplateBody } from "./schema-template";
import { send, sendOperation } from "./send-route";

const sendTemplate = sendOperation(
  "/api/messages/send/template",
  "Send a template, its parameters checked before anything leaves",
  sendTemplateBody,
);

type SendTemplate = z.output<typeof sendTemplateBody>;

/** What the number's template makes of the parameters; a 422 names what is wrong with either. */
async function payloadOf({ rt, db }: WorkspaceScope, body: SendTemplate, number: PhoneNumber) {
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
  return filling;
}

export const messageTemplateRoutes = createRouter().openapi(sendTemplate, async (c) => {
  const body = c.req.valid("json");
  const scope = await enterCharging(c, "messages.send", body.workspace_id);
  const prepare = (number: PhoneNumber) => payloadOf(scope, body, number);
  return c.json(await send(c, scope, body, { type: "template", content: {}, prepare }), 201);
});
