import { metaMediaLimit } from "./meta-media";
import type { MediaLimit } from "./provider";

/** Characters (facts 3.1). */
const MAX_CAPTION = 3000;
const WITHOUT_CAPTION = new Set(["audio", "sticker"]);

/** WhatsApp's own types and sizes hold behind Infobip too; only its captions are longer (facts 3.1). */
export function infobipMediaLimit(file: {
  messageType: string;
  mimeType: string;
  size: number;
  caption: string | null;
}): MediaLimit | null {
  const limit = metaMediaLimit({ ...file, caption: null });
  if (limit !== null) return { ...limit, reason: limit.reason.replace(/^Meta/, "Infobip") };
  const { caption, messageType } = file;
  if (caption === null || caption === "") return null;
  if (WITHOUT_CAPTION.has(messageType)) {
    return { field: "caption", limit: 0, reason: `Infobip carries no caption with ${messageType} messages` };
  }
  if ([...caption].length <= MAX_CAPTION) return null;
  return { field: "caption", limit: MAX_CAPTION, reason: `Infobip takes captions of up to ${MAX_CAPTION} characters` };
}
