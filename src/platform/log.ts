type LogFields = Record<string, string | number | boolean | null | undefined>;

/**
 * One JSON object per line. Callers pass path templates, ids and counts only: never bodies, tokens, full phone
 * numbers, or concrete URLs (tickets and signatures stand in URLs).
 */
export function log(level: "info" | "warn" | "error", event: string, fields: LogFields = {}): void {
  const line = { level, event, ...fields };
  switch (level) {
    case "info":
      console.log(JSON.stringify(line));
      return;
    case "warn":
      console.warn(JSON.stringify(line));
      return;
    case "error":
      console.error(JSON.stringify(line));
      return;
  }
}

/** What may be said of an error in a log: its class and message, cut, without values a body may have carried. */
export function errorFields(error: unknown): { error: string; cause?: string } {
  if (!(error instanceof Error)) return { error: "a value that is no Error was thrown" };
  const cause = error.cause instanceof Error ? `${error.cause.name}: ${error.cause.message}`.slice(0, 300) : undefined;
  const text = `${error.name}: ${error.message}`.slice(0, 300);
  return cause === undefined ? { error: text } : { error: text, cause };
}
