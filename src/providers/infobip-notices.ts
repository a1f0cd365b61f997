/** Bodies of Infobip's that are one event: preferences, templates, identities, payments. */
import { infobipScore } from "./infobip-templates";
import { infobipPerson, infobipTime } from "./infobip-values";
import type { EventFields } from "./meta-webhook";
import type { TemplateUpdate } from "./provider";
import { isObject, type JsonObject, textOf } from "./provider-json";

/** What such a body is; a text says why it is nothing known. */
export function infobipNotice(body: JsonObject, content: JsonObject, receivedAt: number): EventFields | string {
  if (isObject(body.change)) return templateNotice(body, body.change);
  if (content.notificationMessagesStatus !== undefined) return preference(body, content, receivedAt);
  switch (content.type) {
    case "user_identity_changed":
      // Somebody else may hold the phone now. The number stays the same, and so does the contact.
      return { kind: "notice", topic: "identity_check", field: "identity_change", numberUpdate: null };
    case "payment":
      return { kind: "notice", topic: "payment", field: "payment", numberUpdate: null };
    default:
      return "The event is of no known kind";
  }
}

function preference(body: JsonObject, content: JsonObject, receivedAt: number): EventFields | string {
  const sender = infobipPerson(content.from, content.contact);
  if (sender.waId === null && sender.userId === null) return "The preference does not say whose it is";
  const marketing = content.notificationMessagesStatus;
  if (marketing !== "stop" && marketing !== "resume") return "The preference has a value that is not known";
  const at = infobipTime(body.createdAt) ?? receivedAt;
  return { kind: "preference", sender, marketing, detail: textOf(content.description), at };
}

function templateNotice(body: JsonObject, change: JsonObject): EventFields | string {
  const id = textOf(body.messageTemplateId);
  if (id === null) return "The event names no template";
  const update: TemplateUpdate = {
    id,
    name: textOf(body.messageTemplateName),
    language: textOf(body.messageTemplateLanguage)?.replace("-", "_") ?? null,
    at: infobipTime(body.timestamp),
    status: null,
    qualityScore: null,
    category: null,
    texts: null,
  };
  switch (change.type) {
    case "TEMPLATE_STATUS_UPDATE": {
      const word = textOf(change.newStatus);
      if (word === null) return "The event has no status";
      const reason = textOf(change.reason);
      const status = { word, reason: reason === "NONE" ? null : reason };
      return notice("template_status", "template.status", { ...update, status });
    }
    case "TEMPLATE_QUALITY_UPDATE":
      return notice("template_quality", "template.quality", {
        ...update,
        qualityScore: infobipScore(textOf(change.newQualityScore)),
      });
    case "TEMPLATE_CATEGORY_UPDATE": {
      const now = textOf(change.newCategory);
      if (now === null) return "The event has no category";
      return notice("template_category", "template.category", { ...update, category: { now, announced: null } });
    }
    default:
      return "The template's change is not known";
  }
}

function notice(
  topic: "template_status" | "template_quality" | "template_category",
  field: string,
  templateUpdate: TemplateUpdate,
): EventFields {
  return { kind: "notice", topic, field, numberUpdate: null, templateUpdate };
}
