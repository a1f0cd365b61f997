import { open, type SealContext, seal } from "../platform/crypto";
import type { Db } from "../platform/d1";
import type { Runtime } from "../platform/runtime";
import type { Connection } from "../providers/provider";
import { type PhoneNumber, selectDefaultNumber, selectNumberByAnyId } from "./store";

export type { PhoneNumber } from "./store";

function tokenContext(workspaceId: string, id: string): SealContext {
  return { table: "phone_numbers", column: "access_token_sealed", workspaceId, rowId: id };
}

/** Seals a provider's token for one number: the text opens nowhere else. */
export function sealToken(rt: Runtime, workspaceId: string, id: string, token: string): Promise<string> {
  const keys = { current: rt.config.SECRET_KEY, previous: rt.config.SECRET_KEY_PREVIOUS };
  return seal(keys, tokenContext(workspaceId, id), token);
}

/**
 * What a provider call of this number needs, its token opened. Throws for a number without a token, which only a
 * deleted one is, and for a token sealed with a master secret that is gone.
 */
export async function openConnection(rt: Runtime, number: PhoneNumber): Promise<Connection> {
  if (number.accessTokenSealed === null) throw new Error("The phone number has no access token");
  const keys = { current: rt.config.SECRET_KEY, previous: rt.config.SECRET_KEY_PREVIOUS };
  return {
    provider: number.provider,
    providerNumberId: number.providerNumberId,
    businessId: number.businessId,
    accessToken: await open(keys, tokenContext(number.workspaceId, number.id), number.accessTokenSealed),
  };
}

/**
 * The live number a call means: our id or the provider's id of a number in this workspace; null asks for the default
 * one (set, else the oldest active). Answers null when there is none; the caller decides how that is refused, and
 * looks at `status`.
 */
export function resolveNumber(db: Db, workspaceId: string, id: string | null): Promise<PhoneNumber | null> {
  return id === null ? selectDefaultNumber(db, workspaceId) : selectNumberByAnyId(db, workspaceId, id);
}
