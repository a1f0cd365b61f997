const MAX = 120;

function text(value: unknown): string | null {
  return typeof value === "string" && value.trim() !== "" ? value.trim().slice(0, MAX) : null;
}

function member(value: unknown, ...path: string[]): unknown {
  let current = value;
  for (const key of path) {
    if (typeof current !== "object" || current === null) return undefined;
    current = (current as Record<string, unknown>)[key];
  }
  return current;
}

/** One line of what a message says, for the inbox and for notifications; the type in brackets when it has no text. */
export function previewOf(type: string, content: Record<string, unknown>): string {
  const said =
    text(content.body) ??
    text(content.caption) ??
    text(content.text) ??
    text(member(content, "body", "text")) ??
    text(member(content, "button_reply", "title")) ??
    text(member(content, "list_reply", "title")) ??
    text(content.filename) ??
    text(content.emoji) ??
    text(content.name);
  return said ?? `[${type}]`;
}
