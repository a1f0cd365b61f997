/** What messages show of their files. */
import type { Db } from "../platform/d1";
import { downloadPath } from "./links";
import { isMediaType, mediaIdOf, providerMediaIdOf } from "./references";
import type { MediaType, MessageMedia } from "./schema";
import { type Media, type MediaKey, selectByKeys } from "./store";

interface Carrier {
  id: string;
  workspaceId: string;
  phoneNumberId: string;
  type: string;
  content: Record<string, unknown>;
}

function keyOf(message: Carrier): MediaKey | null {
  const id = mediaIdOf(message);
  if (id !== null) return { workspaceId: message.workspaceId, id: id.toLowerCase() };
  const providerMediaId = providerMediaIdOf(message);
  if (providerMediaId === null) return null;
  return { workspaceId: message.workspaceId, phoneNumberId: message.phoneNumberId, providerMediaId };
}

/** The files of a page of messages, by message id; one read where any message has one, none otherwise. */
export async function mediaOfMessages(
  db: Db,
  messages: readonly Carrier[],
): Promise<ReadonlyMap<string, MessageMedia>> {
  const keys = new Map(messages.flatMap((message) => [[message.id, keyOf(message)] as const].filter(([, key]) => key)));
  const wanted = [...keys.values()].filter((key) => key !== null);
  if (wanted.length === 0) return new Map();
  const files = await selectByKeys(db, wanted);
  const shown = new Map<string, MessageMedia>();
  for (const message of messages) {
    const key = keys.get(message.id);
    if (key) shown.set(message.id, shape(message, files.find((file) => matches(file, key)) ?? null));
  }
  return shown;
}

function matches(file: Media, key: MediaKey): boolean {
  if (file.workspaceId !== key.workspaceId) return false;
  if ("id" in key) return file.id === key.id;
  return file.phoneNumberId === key.phoneNumberId && file.providerMediaId === key.providerMediaId;
}

/** A file that nobody stored yet is on its way, or will be once the queue comes to it. */
function shape(message: Carrier, file: Media | null): MessageMedia {
  const type: MediaType = file?.type ?? (isMediaType(message.type) ? message.type : "image");
  const told = (name: string): string | null => {
    const value = message.content[name];
    return typeof value === "string" ? value : null;
  };
  const id = file && file.deletedAt === null ? file.id : null;
  return {
    id,
    url: id !== null && file?.status === "ready" ? downloadPath(id) : null,
    status: file === null ? (mediaIdOf(message) === null ? "pending" : "deleted") : statusOf(file),
    type,
    mime_type: file?.mimeType ?? told("mime_type"),
    file_name: file?.fileName ?? told("filename"),
    file_size: file?.fileSize ?? null,
    sha256: file?.sha256 ?? null,
    error: file?.status === "ready" ? null : (file?.error ?? null),
  };
}

function statusOf(file: Media): MessageMedia["status"] {
  return file.deletedAt === null ? file.status : "deleted";
}
