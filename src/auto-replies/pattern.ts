/** RE2 patterns: matched in time linear to the text, whatever the pattern, so that no rule can hold a Worker. */
import { RE2JS } from "re2js";

/** Instructions. Time is linear in the program too, and repetitions multiply it. */
const MAX_PROGRAM = 2_000;

const compiled = new Map<string, RE2JS>();
const MAX_COMPILED = 500;

/** The compiled pattern, or what is wrong with it. */
export function compilePattern(
  pattern: string,
  caseSensitive: boolean,
): { ok: true; test(text: string): boolean } | { ok: false; msg: string } {
  const key = `${caseSensitive ? "s" : "i"}${pattern}`;
  const known = compiled.get(key);
  if (known) return { ok: true, test: (text) => known.test(text) };
  try {
    const made = RE2JS.compile(pattern, caseSensitive ? 0 : RE2JS.CASE_INSENSITIVE);
    if (made.programSize() > MAX_PROGRAM) return { ok: false, msg: "The pattern repeats too much" };
    if (compiled.size >= MAX_COMPILED) compiled.clear();
    compiled.set(key, made);
    return { ok: true, test: (text) => made.test(text) };
  } catch (error) {
    // Patterns with backreferences or look-around are none of RE2's: they could not be matched in linear time.
    return { ok: false, msg: `Not a pattern of RE2: ${error instanceof Error ? error.message : "unknown"}` };
  }
}
