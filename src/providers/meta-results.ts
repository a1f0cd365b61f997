import type { GraphAnswer } from "./graph";
import { classify, providerError } from "./meta-errors";
import type { ProviderResult } from "./provider";

/**
 * An answer as the result of a management call. A refusal is what repeating would get again; a rate limit, an outage
 * or a lost answer is "not now". `read` makes the value of a body, or null for a body that says nothing of use.
 */
export function resultOf<T>(answer: GraphAnswer, read: (body: unknown) => T | undefined): ProviderResult<T> {
  switch (answer.kind) {
    case "ok": {
      const value = read(answer.body);
      return value === undefined
        ? { ok: false, refused: false, reason: "The provider's answer could not be read" }
        : { ok: true, value };
    }
    case "error": {
      const kind = classify(answer.error, answer.status);
      // Code 1 is "invalid request or server error": the status says which.
      const passing = kind === "transient" || kind === null || (kind === "once" && answer.status >= 500);
      return passing
        ? { ok: false, refused: false, reason: answer.error.title }
        : { ok: false, refused: true, error: providerError(answer.error) };
    }
    case "refused":
      return { ok: false, refused: false, reason: `The provider answered ${answer.status}` };
    case "lost":
      return { ok: false, refused: false, reason: answer.reason };
  }
}
