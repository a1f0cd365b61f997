/** Whether a rule fits a message: pure, and linear in the message's length. */
import { unreachable } from "../platform/errors";
import { isOpen } from "./hours";
import { compilePattern } from "./pattern";
import type { Match } from "./schema";

/** What is looked at of a message. */
export interface Said {
  type: string;
  content: Record<string, unknown>;
  /** ms, the provider's time. */
  at: number;
  /** Nothing came from this person before, in this conversation. */
  first: boolean;
}

/** Longer texts are looked at up to here. */
const MAX_LOOKED_AT = 4096;

/** What a person said in words: written, under a file, or on the button they tapped. */
function textOf({ type, content }: Said): string | null {
  const said =
    type === "text" ? content.body : type === "button" ? content.text : (content.caption ?? titleOf(content));
  return typeof said === "string" && said.trim() !== "" ? said.slice(0, MAX_LOOKED_AT) : null;
}

/** The id of the button or list row that was tapped; of a template's button, its payload. */
function replyIdOf({ type, content }: Said): string | null {
  const id = type === "button" ? content.payload : (chosen(content)?.id ?? null);
  return typeof id === "string" ? id : null;
}

function titleOf(content: Record<string, unknown>): unknown {
  return chosen(content)?.title;
}

function chosen(content: Record<string, unknown>): { id?: unknown; title?: unknown } | null {
  const reply = content.button_reply ?? content.list_reply;
  return typeof reply === "object" && reply !== null ? reply : null;
}

/** Whether what was said is what a rule answers to. */
export function fits(match: Match, said: Said): boolean {
  switch (match.kind) {
    case "any":
      return true;
    case "first_message":
      return said.first;
    case "outside_hours":
      return !isOpen(said.at, match.time_zone, match.hours);
    case "reply_id": {
      const id = replyIdOf(said);
      return id !== null && match.ids.includes(id);
    }
    case "pattern": {
      const text = textOf(said);
      const compiled = compilePattern(match.pattern, match.case_sensitive);
      return text !== null && compiled.ok && compiled.test(text);
    }
    case "exact":
    case "contains":
    case "starts_with":
    case "keyword": {
      const text = textOf(said);
      if (text === null) return false;
      const looked = plain(text, match.case_sensitive);
      return match.texts.some((wanted) => compare(match.kind, looked, plain(wanted, match.case_sensitive)));
    }
    default:
      return unreachable(match);
  }
}

function compare(kind: "exact" | "contains" | "starts_with" | "keyword", text: string, wanted: string): boolean {
  switch (kind) {
    case "exact":
      return text === wanted;
    case "contains":
      return text.includes(wanted);
    case "starts_with":
      return text.startsWith(wanted);
    case "keyword":
      return words(text).includes(words(wanted));
    default:
      return unreachable(kind);
  }
}

function plain(text: string, caseSensitive: boolean): string {
  const tidy = text.normalize("NFKC").trim().replace(/\s+/gu, " ");
  return caseSensitive ? tidy : tidy.toLowerCase();
}

/** Its words, each between spaces; punctuation and pictures divide. */
function words(text: string): string {
  return ` ${(text.match(/[\p{L}\p{N}\p{M}_]+/gu) ?? []).join(" ")} `;
}
