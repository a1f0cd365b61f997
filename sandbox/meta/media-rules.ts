import { GraphError } from "./graph-error";

const KB = 1024;
const MB = 1024 * KB;

interface MediaRule {
  /** The message type that carries it. */
  type: "audio" | "image" | "video" | "document" | "sticker";
  limit: number;
}

const audio = { type: "audio", limit: 16 * MB } as const;
const image = { type: "image", limit: 5 * MB } as const;
const video = { type: "video", limit: 16 * MB } as const;
const document = { type: "document", limit: 100 * MB } as const;

/** MIME types Meta takes, with the size limit of each. */
const RULES: Record<string, MediaRule> = {
  "audio/aac": audio,
  "audio/amr": audio,
  "audio/mpeg": audio,
  "audio/mp4": audio,
  "audio/ogg": audio,
  "image/jpeg": image,
  "image/png": image,
  "video/mp4": video,
  "video/3gpp": video,
  "text/plain": document,
  "application/pdf": document,
  "application/msword": document,
  "application/vnd.ms-excel": document,
  "application/vnd.ms-powerpoint": document,
  "application/vnd.openxmlformats-officedocument.wordprocessingml.document": document,
  "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": document,
  "application/vnd.openxmlformats-officedocument.presentationml.presentation": document,
  "image/webp": { type: "sticker", limit: 500 * KB },
};

/** Refuses what Meta does not store. `mime` may carry parameters (`audio/ogg; codecs=opus`). */
export function checkUpload(mime: string, size: number): void {
  const rule = RULES[baseType(mime)];
  if (!rule) {
    throw new GraphError(100, {
      message: `(#100) Param file must be a file with one of the following types: ${Object.keys(RULES).join(", ")}. Received file of type '${mime}'.`,
    });
  }
  if (size === 0 || size > rule.limit) {
    throw new GraphError(131053, {
      details: `File of type '${mime}' must have 1 to ${rule.limit} bytes, but has ${size}.`,
    });
  }
}

/** Whether a message of this type can carry the file. Documents carry anything. */
export function fits(messageType: string, mime: string): boolean {
  return messageType === "document" || RULES[baseType(mime)]?.type === messageType;
}

function baseType(mime: string): string {
  return (mime.split(";")[0] ?? "").trim().toLowerCase();
}
