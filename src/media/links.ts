/** Signed addresses of files: whoever has one may read that file until it ends, and nothing else. */
import { deriveKey, fromBase64Url, hmacSha256, toBase64Url, verifyHmacSha256 } from "../platform/crypto";
import type { Runtime } from "../platform/runtime";

/** Whether a browser may show the file, or must save it. */
export type Disposition = "inline" | "attachment";

export interface FileLink {
  workspaceId: string;
  mediaId: string;
  /** Which database knows the file. */
  shard: number;
  /** Seconds since the epoch. */
  expires: number;
  disposition: Disposition;
}

/** Where a file lies, without a signature. */
export function filePath(workspaceId: string, mediaId: string): string {
  return `/media/${workspaceId}/${mediaId}`;
}

/** Where a caller with credentials is sent on to a signed address. */
export function downloadPath(mediaId: string): string {
  return `/api/media/${mediaId}/download`;
}

function signedText(link: FileLink): string {
  return ["v1", link.workspaceId, link.mediaId, link.shard, link.expires, link.disposition].join("\n");
}

/** Path and query of a signed address. */
export async function signLink(rt: Runtime, link: FileLink): Promise<string> {
  const key = await deriveKey(rt.config.SECRET_KEY, "media-url");
  const query = new URLSearchParams({
    shard: String(link.shard),
    expires: String(link.expires),
    disposition: link.disposition,
    signature: toBase64Url(await hmacSha256(key, signedText(link))),
  });
  return `${filePath(link.workspaceId, link.mediaId)}?${query}`;
}

/**
 * The link that an address is, or null for one that was tampered with, is not signed, or has ended. A signature of the
 * previous master secret counts, so that a rotation breaks no picture on a screen.
 */
export async function verifyLink(
  rt: Runtime,
  path: { workspaceId: string; mediaId: string },
  query: Readonly<Record<string, string>>,
): Promise<FileLink | null> {
  const { shard = "", expires = "", disposition = "", signature = "" } = query;
  if (!/^\d{1,4}$/.test(shard) || !/^\d{1,12}$/.test(expires)) return null;
  if (disposition !== "inline" && disposition !== "attachment") return null;
  const link: FileLink = { ...path, shard: Number(shard), expires: Number(expires), disposition };
  const given = fromBase64Url(signature);
  // Base64 has several spellings of the same bytes; only ours is the one that was given out.
  if (!given || given.length === 0 || toBase64Url(given) !== signature) return null;
  for (const master of [rt.config.SECRET_KEY, rt.config.SECRET_KEY_PREVIOUS]) {
    if (master === undefined) continue;
    const genuine = await verifyHmacSha256(await deriveKey(master, "media-url"), signedText(link), given);
    if (genuine) return link.expires * 1000 > rt.clock() ? link : null;
  }
  return null;
}
