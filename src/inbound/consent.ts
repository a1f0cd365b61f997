import type { InboundMessage } from "../providers/provider";
import { isOneOf, readSettings } from "../workspaces/service";

/** Whether a text is a workspace's word for leaving or joining its marketing; null for everything else (product 3.10). */
export function consentWord(text: string, settingsJson: string | undefined): "out" | "in" | null {
  const settings = readSettings(settingsJson ?? "{}");
  if (isOneOf(text, settings.optOutWords)) return "out";
  if (isOneOf(text, settings.optInWords)) return "in";
  return null;
}

/**
 * What a person said in so many words: written, or on the button of a template, which is how marketing offers to leave.
 * Buttons of a conversation mean what the conversation is about: "Cancel" there may be about a parcel.
 */
export function saidText({ type, content }: InboundMessage): string | null {
  const said = type === "text" ? content.body : type === "button" ? content.text : null;
  return typeof said === "string" ? said : null;
}
