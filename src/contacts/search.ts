/** What a list of contacts asks for, as one full-text expression (pipeline 18). */
export interface ContactFilter {
  tags: readonly string[];
  optedIn: boolean | null;
  search: string | null;
}

/** Whether the list is driven by the full-text index rather than by age. */
export function isFiltered(filter: ContactFilter): boolean {
  return filter.tags.length > 0 || filter.optedIn !== null || searchTokens(filter.search).length > 0;
}

/**
 * The MATCH expression of a filter within one workspace. Every part is a quoted token made here, never text of the
 * caller's with a meaning of its own.
 */
export function matchOf(workspaceId: string, filter: ContactFilter): string {
  const parts = [`w : "${workspaceId.replaceAll("-", "")}"`];
  if (filter.optedIn !== null) parts.push(`flags : "${filter.optedIn ? "in" : "out"}"`);
  for (const tag of filter.tags) parts.push(`tags : "${tagToken(tag)}"`);
  for (const token of searchTokens(filter.search)) parts.push(`{name phone} : "${token}" *`);
  return parts.join(" AND ");
}

/** As the trigger writes it: SQLite's hex() of the tag's UTF-8. */
function tagToken(tag: string): string {
  return `t${[...new TextEncoder().encode(tag)].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

const PHONE_LIKE = /^\+?[\d\s().-]+$/;

/** Words of a search; what looks like a number is one, whatever it was grouped with. */
function searchTokens(search: string | null): string[] {
  const text = search?.trim() ?? "";
  if (PHONE_LIKE.test(text)) {
    const digits = text.replace(/\D/g, "");
    return digits === "" ? [] : [digits];
  }
  return (text.match(/[\p{L}\p{N}]+/gu) ?? []).slice(0, 8);
}
