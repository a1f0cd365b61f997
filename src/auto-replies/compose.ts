/** A rule's answer as a message to one person. */
import { z } from "zod";
import type { SendIntent } from "../messages/service";
import { sendInteractiveBody } from "../messages/service-interactive";
import { resolveNumber } from "../phone-numbers/service";
import type { Db } from "../platform/d1";
import { unreachable } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import { templateContent, templateForSend, unsendable } from "../templates/service";
import { fillPlaces, type KnownContact } from "./fields";
import type { Answer } from "./schema";

type Payload = Pick<SendIntent, "type" | "content" | "category"> & { ttl?: number };
export type Composed = { ok: true; payload: Payload } | { ok: false; reason: string };

/** The kinds of answer that are composed without asking anybody. */
export type PlainAnswer = Exclude<Answer, { kind: "ai" }>;

const textLimit = z.string().min(1).max(4096);

/** Fills an answer in; not ok where what comes out cannot be sent. May ask the provider about a template. */
export async function compose(
  rt: Runtime,
  db: Db,
  where: { workspaceId: string; phoneNumberId: string },
  answer: PlainAnswer,
  contact: KnownContact,
): Promise<Composed> {
  const filled = fillPlaces(answer, contact);
  switch (filled.kind) {
    case "text": {
      if (!textLimit.safeParse(filled.text).success) return { ok: false, reason: "The text is empty or too long" };
      const preview = filled.preview_url === undefined ? {} : { preview_url: filled.preview_url };
      return message("text", { body: filled.text, ...preview });
    }
    case "media": {
      const { media_id, media_type, caption, filename } = filled;
      const content = {
        media_id,
        ...(caption === undefined || caption === "" ? {} : { caption }),
        ...(filename === undefined ? {} : { filename }),
      };
      return message(media_type, content);
    }
    case "interactive": {
      // A name may have made a title longer than it may be.
      const checked = sendInteractiveBody.shape.interactive.safeParse(filled.interactive);
      if (!checked.success) return { ok: false, reason: checked.error.issues[0]?.message ?? "It cannot be sent" };
      return message("interactive", checked.data);
    }
    case "template": {
      const number = await resolveNumber(db, where.workspaceId, where.phoneNumberId);
      if (!number) return { ok: false, reason: "The phone number is gone" };
      const { template_name: name, template_language: language } = filled;
      const template = await templateForSend(rt, db, number, name, language);
      if (!template) return { ok: false, reason: `There is no template ${name} in ${language}` };
      const refusal = unsendable(template);
      if (refusal !== null) return { ok: false, reason: refusal };
      const filling = templateContent(template, filled.components);
      if (!filling.ok) return { ok: false, reason: filling.msg };
      const { content, category, ttl } = filling;
      return { ok: true, payload: { type: "template", content, category, ...(ttl === null ? {} : { ttl }) } };
    }
    default:
      return unreachable(filled);
  }
}

function message(type: string, content: Record<string, unknown>): Composed {
  return { ok: true, payload: { type, content, category: null } };
}
