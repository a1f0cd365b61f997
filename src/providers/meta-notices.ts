import type { Change, ListName } from "./meta-envelope";
import { templateUpdateOf } from "./meta-template-notices";
import { messageLimitOf } from "./meta-tiers";
import type { EventFields } from "./meta-webhook";
import type { InboundEvent, NoticeTopic } from "./provider";
import { type JsonObject, textOf } from "./provider-json";

/**
 * Fields whose value is one notice. `standby` copies messages that another app is answering: they are shown as the
 * notice they are, so that nothing of ours answers them too.
 */
const TOPICS: Readonly<Record<string, NoticeTopic>> = {
  message_template_status_update: "template_status",
  message_template_quality_update: "template_quality",
  message_template_components_update: "template_components",
  template_category_update: "template_category",
  template_correct_category_detection: "template_category",
  phone_number_name_update: "phone_name",
  phone_number_quality_update: "phone_quality",
  business_capability_update: "capability",
  account_update: "account",
  account_alerts: "account_alert",
  account_review_update: "account_review",
  account_settings_update: "account_settings",
  business_status_update: "account",
  business_username_updates: "username",
  calls: "call",
  flows: "flow",
  group_lifecycle_update: "group",
  group_participants_update: "group",
  group_settings_update: "group",
  group_status_update: "group",
  messaging_handovers: "handover",
  standby: "handover",
  security: "security",
  partner_solutions: "partner",
  payment_configuration_update: "payment",
  automatic_events: "automatic",
  tracking_events: "other",
  consumer_profile: "other",
};

/** Lists whose every element is a notice. */
const LIST_TOPICS: Partial<Record<ListName, NoticeTopic>> = { groups: "group", calls: "call", errors: "error" };

/** A change that is one item: a notice where its field is known, else a text that says why it is nothing known. */
export function wholeChangeEvent(change: Change): EventFields | string {
  const topic = Object.hasOwn(TOPICS, change.field) ? TOPICS[change.field] : undefined;
  if (!topic) {
    const named = Object.keys(change.value).some((member) => member !== "messaging_product" && member !== "metadata");
    return named ? `The field ${change.field} is not known in this form` : `The field ${change.field} says nothing`;
  }
  return {
    kind: "notice",
    topic,
    field: change.field,
    numberUpdate: numberUpdateOf(topic, change.value),
    templateUpdate: templateUpdateOf(topic, change.value, change.entry.at),
  };
}

/** An element of a list of notices; null when the list is of something else. */
export function listedNotice(list: ListName, field: string): EventFields | null {
  const topic = LIST_TOPICS[list];
  return topic ? { kind: "notice", topic, field: `${field}.${list}`, numberUpdate: null } : null;
}

type NumberUpdate = Extract<InboundEvent, { kind: "notice" }>["numberUpdate"];

/** What a notice changes on the number; null when nothing. */
function numberUpdateOf(topic: NoticeTopic, value: JsonObject): NumberUpdate {
  switch (topic) {
    case "phone_name": {
      const name = textOf(value.requested_verified_name);
      return value.decision === "APPROVED" && name !== null ? { verifiedName: name } : null;
    }
    case "phone_quality": {
      const limit = messageLimitOf(value.max_daily_conversations_per_business ?? value.current_limit);
      const update = {
        ...(limit === undefined ? {} : { messageLimit: limit }),
        // 1,000 messages/s instead of 80.
        ...(value.event === "THROUGHPUT_UPGRADE" ? { tier: "HIGH" } : {}),
      };
      return Object.keys(update).length > 0 ? update : null;
    }
    case "capability": {
      // Per business portfolio since v24.0, per number before.
      const limit = messageLimitOf(
        value.max_daily_conversations_per_business ?? value.max_daily_conversation_per_phone,
      );
      return limit === undefined ? null : { messageLimit: limit };
    }
    default:
      return null;
  }
}
