/** How a file is answered to a browser (architecture 4): nothing of it can run, and nobody else keeps it. */
import { kindOfMime } from "./kinds";
import type { Disposition } from "./links";
import type { Media } from "./store";

/** Strong: it is the content's own hash. */
export function entityTag(media: Media): string {
  return `"${media.sha256}"`;
}

/** Pictures (not drawings, which can hold scripts), sound and video may be shown; everything else is saved. */
function maySee({ mimeType }: Media): boolean {
  return /^(image|audio|video)\//i.test(mimeType) && !/^image\/svg/i.test(mimeType);
}

/** Headers of every answer about a file's bytes, but for their length. */
export function fileHeaders(media: Media, asked: Disposition): Record<string, string> {
  const disposition = asked === "inline" && maySee(media) ? "inline" : "attachment";
  return {
    "Content-Type": media.mimeType,
    "Content-Disposition": `${disposition}; ${nameParameters(media)}`,
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    // A browser may keep it, and asks each time whether the file is still there.
    "Cache-Control": "private, no-cache",
    "Referrer-Policy": "no-referrer",
    "Accept-Ranges": "bytes",
    ETag: entityTag(media),
  };
}

/** RFC 6266: the name in ASCII for old readers, and as it is. */
function nameParameters(media: Media): string {
  const extension = kindOfMime(media.mimeType)?.extensions[0];
  const name = media.fileName ?? (extension === undefined ? "file" : `file.${extension}`);
  const ascii = name.replace(/[^\x20-\x7e]|["\\%]/g, "_");
  const encoded = encodeURIComponent(name).replace(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `filename="${ascii}"; filename*=UTF-8''${encoded}`;
}
