import type { Db } from "../platform/d1";
import type { Runtime } from "../platform/runtime";
import type { MergeJob } from "./jobs";
import { type Identity, insertIdentities, selectOwners } from "./store";

export { type Contact, type Identity, type IdentityKind, insertIdentities, selectOwners } from "./store";

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
  const rows = learned.flatMap((l): (Identity & { contactId: string })[] => [
    ...(l.waId === null
      ? []
      : [{ workspaceId: l.workspaceId, kind: "wa" as const, value: l.waId, contactId: l.contactId }]),
    ...(l.userId === null
      ? []
      : [{ workspaceId: l.workspaceId, kind: "user" as const, value: l.userId, contactId: l.contactId }]),
  ]);
  if (rows.length === 0) return;
  await db.batch([insertIdentities(rows)]);
  const owners = await selectOwners(db, rows);
  await orderMerges(
    rt,
    rows.flatMap((row) => {
      const owner = owners.find(
        (o) => o.workspaceId === row.workspaceId && o.kind === row.kind && o.value === row.value,
      );
      if (!owner || owner.contactId === row.contactId) return [];
      return [
        {
          workspaceId: row.workspaceId,
          shard: shardNumber,
          contactIds: [row.contactId, owner.contactId] as [string, string],
        },
      ];
    }),
  );
}

/** Orders that pairs of contacts become one. Ordering a pair twice does no harm. */
export async function orderMerges(rt: Runtime, pairs: readonly Omit<MergeJob, "v" | "kind">[]): Promise<void> {
  for (const pair of pairs) {
    await rt.env.BULK.send({ v: 1, kind: "contact.merge", ...pair } satisfies MergeJob);
  }
}
