import type { InboundMessage } from "../providers/provider";
import { isOneOf, readSettings } from "../workspaces/service";

/** Whether a text is a workspace's word for leaving or joining its marketing; null for everything else (product 3.10). */
export function consentWord(text: string, settingsJson: string | undefined): "out" | "in" | null {
  const settings = readSettings(settingsJson ?? "{}");
  if (isOneOf(text, settings.optOutWords)) return "out";
  if (isOneOf(text, settings.optInWords)) return "in";
  return null;
}

/** What a person said in so many words: written, or on the button they pressed; null for everything else. */
export function saidText({ type, content }: InboundMessage): string | null {
  switch (type) {
    case "text":
      return textOf(content.body);
    case "button":
      return textOf(content.text);
    case "interactive":
      return titleOf(content.button_reply) ?? titleOf(content.list_reply);
    default:
      return null;
  }
}

function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function titleOf(reply: unknown): string | null {
  return typeof reply === "object" && reply !== null && "title" in reply ? textOf(reply.title) : null;
}
