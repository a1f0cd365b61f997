import type { Db } from "../platform/d1";
import type { Runtime } from "../platform/runtime";
import type { MergePair } from "./service-merge";
import { insertIdentities, type OwnedIdentity, selectOwners, toOwner } from "./store";

export { type Identity, type IdentityKind, type OwnedIdentity, selectOwners, toOwner } from "./store";
export { numberVariants } from "./variants";

/** What a provider's answer told of a contact beyond what we called it by. */
export interface LearnedIdentity {
  workspaceId: string;
  contactId: string;
  /** Digits: Brazil, Mexico and Argentina answer with another number than was called. */
  waId: string | null;
  userId: string | null;
}

/** Keeps what was learned; where it belongs to another contact, the two are one person and a merge is ordered. */
export async function learnIdentities(
  rt: Runtime,
  shardNumber: number,
  db: Db,
  learned: readonly LearnedIdentity[],
): Promise<void> {
  const rows = learned.flatMap(({ workspaceId, contactId, waId, userId }): OwnedIdentity[] => [
    ...(waId === null ? [] : [{ workspaceId, kind: "wa" as const, value: waId, contactId, since: null }]),
    ...(userId === null ? [] : [{ workspaceId, kind: "user" as const, value: userId, contactId, since: null }]),
  ]);
  const results = await db.batch([...insertIdentities(rows), ...selectOwners(rows)]);
  const owners = results.flatMap((result) => result.results.map(toOwner));
  await orderMerges(
    rt,
    rows.flatMap((row) => {
      const owner = owners.find(
        (o) => o.workspaceId === row.workspaceId && o.kind === row.kind && o.value === row.value,
      );
      if (!owner || owner.contactId === row.contactId) return [];
      return [{ workspaceId: row.workspaceId, shard: shardNumber, contactIds: [row.contactId, owner.contactId] }];
    }),
  );
}

/** Orders that pairs of contacts become one. Ordering a pair twice does no harm. */
export async function orderMerges(rt: Runtime, pairs: readonly MergePair[]): Promise<void> {
  for (const pair of pairs) await rt.env.BULK.send({ v: 1, kind: "contact.merge", ...pair, again: false });
}
