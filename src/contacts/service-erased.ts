/**
 * Recognising an erased person when something old of them comes again: a webhook delivered twice, a job tried again, a
 * dead letter replayed. What is kept is a keyed hash of each of their names, so that the table tells nobody who it was.
 */
import { deriveKey, hmacSha256, toBase64Url } from "../platform/crypto";
import { type Runtime, shard } from "../platform/runtime";
import { deleteMarks, type NameHash } from "./store-erased";
import { numberVariants } from "./variants";

export { numbersInMessageId } from "./erase-names";
export { type NameHash, selectMarks, toMark } from "./store-erased";

/**
 * ms for which marks are kept. A webhook may wait four days in its queue, then 30 days as a dead letter that can be
 * replayed, and the lifecycle of the bucket removes by the day.
 */
export const MARKS_KEPT = 35 * 86_400_000;

/**
 * The marks of an erased person's names, in every spelling. A number is one name, whether a provider calls it a phone
 * number or a WhatsApp id, and no other kind of id looks like one, so the kind is no part of the hash.
 */
export async function marksOf(rt: Runtime, workspaceId: string, names: readonly string[]): Promise<NameHash[]> {
  const spelled = new Set(names.flatMap((name) => (/^\d+$/.test(name) ? [name, ...numberVariants(name)] : [name])));
  return Promise.all([...spelled].map((name) => hashOf(rt.config.SECRET_KEY, workspaceId, name)));
}

/** By which marks a name may be known: made with the current master secret or with the previous one. */
export function hashesOf(rt: Runtime, workspaceId: string, name: string): Promise<NameHash[]> {
  const masters = [rt.config.SECRET_KEY, rt.config.SECRET_KEY_PREVIOUS].filter((master) => master !== undefined);
  return Promise.all(masters.map((master) => hashOf(master, workspaceId, name)));
}

async function hashOf(master: string, workspaceId: string, name: string): Promise<NameHash> {
  const digest = await hmacSha256(await deriveKey(master, "erasure"), `${workspaceId}\n${name.replace(/^\+/, "")}`);
  return { ws: workspaceId, h: toBase64Url(digest) };
}

/** Nightly, per shard. */
export function purgeMarks(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  return deleteMarks(shard(rt, shardNumber), now);
}
