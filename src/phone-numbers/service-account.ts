/** The provider's account that holds a number. */

import type { Db } from "../platform/d1";
import { AppError } from "../platform/errors";
import { directory, type Runtime } from "../platform/runtime";
import type { ProviderResult } from "../providers/provider";
import { providerFor } from "../providers/registry";
import { accepted, openConnection, type PhoneNumber } from "./service";
import { updateBusinessAccount } from "./store-account";
import { updateProviderNumber } from "./store-directory";

/** Meta's ids are digits. Whatever else was given at registration is nobody's account. */
function isAccountId(number: PhoneNumber): boolean {
  return number.businessId !== null && (number.provider !== "meta" || /^\d+$/.test(number.businessId));
}

/** The account of a number: as it is kept, else as its token says (then null when the token says none). */
export async function accountOf(rt: Runtime, db: Db, number: PhoneNumber): Promise<ProviderResult<string | null>> {
  if (isAccountId(number)) return { ok: true, value: number.businessId };
  const connection = { ...(await openConnection(rt, number)), businessId: null };
  const described = await providerFor(rt, number.provider).describeNumber(connection);
  if (!described.ok) return described;
  const { businessId } = described.value;
  if (businessId !== null) {
    await updateBusinessAccount(db, number, businessId, rt.clock());
    await updateProviderNumber(directory(rt), number.id, { businessId });
  }
  return { ok: true, value: businessId };
}

/**
 * The number with its business account: templates and their webhooks belong to that. One that is missing, or cannot be
 * one, is learnt from the token (contract 13) and kept. Throws `provider_refused`, `provider_unavailable`, and
 * `bad_request` when the token does not say either.
 */
export async function withAccount(
  rt: Runtime,
  db: Db,
  number: PhoneNumber,
): Promise<PhoneNumber & { businessId: string }> {
  const businessId = accepted(await accountOf(rt, db, number));
  if (businessId === null) {
    throw new AppError(
      "bad_request",
      "The business account of the phone number is not known: register it with its business_id",
    );
  }
  return { ...number, businessId };
}
