import { MAX_FILE_NAME } from "./schema";

/** Control characters, and the marks that turn the direction of text: both make names look like others. */
const UNSEEN = /[\p{Cc}\u200E\u200F\u202A-\u202E\u2066-\u2069]/gu;

/** A name as it is kept: without folders and unseen characters, cut in its middle if it is long; null when nothing is left. */
export function cleanFileName(name: string | null): string | null {
  const last = (name ?? "").split(/[\\/]/).at(-1) ?? "";
  const clean = last.toWellFormed().replace(UNSEEN, "").trim();
  if (clean === "" || clean === "." || clean === "..") return null;
  if (clean.length <= MAX_FILE_NAME) return clean;
  const extension = /\.[^.]{1,10}$/.exec(clean)?.[0] ?? "";
  return clean.slice(0, MAX_FILE_NAME - extension.length).toWellFormed() + extension;
}
