import { isOneOf, readSettings } from "../workspaces/settings";

/** Whether a text is a workspace's word for leaving or joining its marketing; null for everything else (product 3.10). */
export function consentWord(text: string, settingsJson: string | undefined): "out" | "in" | null {
  const settings = readSettings(settingsJson ?? "{}");
  if (isOneOf(text, settings.optOutWords)) return "out";
  if (isOneOf(text, settings.optInWords)) return "in";
  return null;
}
