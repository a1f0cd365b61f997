/** What a number's provider cannot carry is refused while the caller waits, with nothing queued (contract 15). */
import type { PhoneNumber } from "../phone-numbers/service";
import { AppError } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import { providerFor } from "../providers/registry";

/** Throws 422 `provider_limit` naming provider, limit and field for a kind of message that the provider lacks. */
export function checkKind(
  rt: Runtime,
  number: PhoneNumber,
  message: { type: string; content: Record<string, unknown> },
): void {
  const limit = providerFor(rt, number.provider).sendLimit(message);
  if (limit === null) return;
  throw new AppError("provider_limit", limit.reason, {
    fields: [{ loc: ["body", limit.field], msg: limit.reason }],
    extra: { provider: number.provider, limit: limit.limit, field: limit.field },
  });
}
