import { timeOf } from "./meta-envelope";
import { reasonOf } from "./meta-templates";
import type { NoticeTopic, TemplateUpdate } from "./provider";
import { type JsonObject, objectOf, textOf } from "./provider-json";

/**
 * What a notice says of a template; null when it is about none, or does not say which. Quality and status notices
 * write the language with a hyphen (`en-US`), everything else with an underscore.
 */
export function templateUpdateOf(topic: NoticeTopic, value: JsonObject, at: number | null): TemplateUpdate | null {
  const id = textOf(value.message_template_id);
  if (id === null) return null;
  const update: TemplateUpdate = {
    id,
    name: textOf(value.message_template_name),
    language: textOf(value.message_template_language)?.replace("-", "_") ?? null,
    at,
    status: null,
    qualityScore: null,
    category: null,
    texts: null,
  };
  switch (topic) {
    case "template_status": {
      const word = textOf(value.event);
      return word === null ? null : { ...update, status: statusOf(word, value) };
    }
    case "template_quality": {
      const score = textOf(value.new_quality_score);
      return score === null ? null : { ...update, qualityScore: score };
    }
    case "template_category": {
      const now = textOf(value.new_category);
      return now === null ? null : { ...update, category: { now, announced: announcedOf(now, value) } };
    }
    case "template_components":
      return {
        ...update,
        texts: {
          header: textOf(value.message_template_title),
          body: textOf(value.message_template_element),
          footer: textOf(value.message_template_footer),
        },
      };
    default:
      return null;
  }
}

/** Titles of a lock: what became of the template, which the event LOCKED does not say. */
const LOCKS: Readonly<Record<string, string>> = {
  FIRST_PAUSE: "PAUSED",
  SECOND_PAUSE: "PAUSED",
  RATE_LIMITING_PAUSE: "PAUSED",
  DISABLED: "DISABLED",
  UNPAUSE: "APPROVED",
};

function statusOf(event: string, value: JsonObject): { word: string; reason: string | null } {
  const rejection = objectOf(value.rejection_info);
  const lock = objectOf(value.other_info);
  const title = textOf(lock.title);
  const said = [
    reasonOf(textOf(value.reason)),
    textOf(rejection.reason),
    textOf(rejection.recommendation),
    title,
    textOf(lock.description),
  ].filter((part) => part !== null);
  const word = event === "LOCKED" && title !== null ? (LOCKS[title] ?? event) : event;
  return { word, reason: said.length === 0 ? null : said.join(": ").slice(0, 1000) };
}

/** A change that is only announced names the category of now as the new one, and the coming one as the correct one. */
function announcedOf(now: string, value: JsonObject): { category: string; at: number | null } | null {
  const coming = textOf(value.correct_category);
  return coming === null || coming === now ? null : { category: coming, at: timeOf(value.category_update_timestamp) };
}
