/** What the pipelines need of a number: its gate, its speed, and whether the provider lets it send. */
import type { SenderGate } from "../../durable-objects/sender-gate";
import { isoMillis } from "../platform/clock";
import { type MasterKeys, open, type SealContext, seal } from "../platform/crypto";
import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { directory, type Runtime, shard } from "../platform/runtime";
import { publishEvents } from "../realtime/publish";
import type { PhoneNumber } from "./store";
import { selectNumbersById, updateBlocked } from "./store-pipeline";

export { touchNumbers, updateNumberFacts } from "./store-pipeline";

/** The number's gate object. Its name begins with the workspace, so two tenants never share one. */
export function gateOf(rt: Runtime, workspaceId: string, phoneNumberId: string): DurableObjectStub<SenderGate> {
  return rt.env.SENDER_GATE.getByName(`${workspaceId}:${phoneNumberId}`);
}

function appSecretContext(workspaceId: string, phoneNumberId: string): SealContext {
  return { table: "provider_numbers", column: "app_secret_sealed", workspaceId, rowId: phoneNumberId };
}

/** Seals a number's own app secret. */
export function sealAppSecret(
  rt: Runtime,
  workspaceId: string,
  phoneNumberId: string,
  secret: string,
): Promise<string> {
  return seal(masterKeys(rt), appSecretContext(workspaceId, phoneNumberId), secret);
}

function masterKeys(rt: Runtime): MasterKeys {
  return { current: rt.config.SECRET_KEY, previous: rt.config.SECRET_KEY_PREVIOUS };
}

/**
 * The secrets that sign what arrives at a number's own webhook address: its own app's, if it has one. One indexed read,
 * and only after the deployment's own secrets did not fit.
 */
export async function webhookSecrets(rt: Runtime, phoneNumberId: string): Promise<string[]> {
  const row = await directory(rt).first<{ workspace_id: string; app_secret_sealed: string | null }>(
    "SELECT workspace_id, app_secret_sealed FROM provider_numbers WHERE phone_number_id = ?1",
    phoneNumberId,
  );
  if (!row?.app_secret_sealed) return [];
  return [await open(masterKeys(rt), appSecretContext(row.workspace_id, phoneNumberId), row.app_secret_sealed)];
}

/** Messages per second, in and out together (Meta: throughput; STANDARD 80, HIGH 1,000). */
export function messagesPerSecond(number: PhoneNumber): number {
  return number.tier === "HIGH" ? 1000 : 80;
}

/** Live numbers by id. */
export async function numbersById(
  db: Db,
  keys: readonly { workspaceId: string; id: string }[],
): Promise<Map<string, PhoneNumber>> {
  return new Map((await selectNumbersById(db, keys)).map((number) => [number.id, number]));
}

/** Tells the workspace that a number is blocked by its provider (`reason`) or sends again (null). */
export async function noteBlocked(
  rt: Runtime,
  shardNumber: number,
  number: PhoneNumber,
  reason: string | null,
): Promise<void> {
  const now = rt.clock();
  const db = shard(rt, shardNumber);
  if (!(await updateBlocked(db, number.workspaceId, number.id, reason, now))) return;
  const event = {
    type: "phone_number.updated" as const,
    phone_number_id: number.id,
    status: number.status,
    blocked_reason: reason,
    at: isoMillis(now),
  };
  try {
    await publishEvents(rt, number.workspaceId, `blocked:${number.id}:${now}`, [event], db.bookmark);
  } catch (error) {
    // The row says it already; a browser that missed the event sees it with its next fetch.
    log("warn", "live.publish_failed", { workspace_id: number.workspaceId, ...errorFields(error) });
  }
}

/** Opens a number's gate after its owner did something about it: a new token, a sync that finds it connected. */
export async function reopenGate(rt: Runtime, shardNumber: number, number: PhoneNumber): Promise<void> {
  await gateOf(rt, number.workspaceId, number.id).reopen();
  await noteBlocked(rt, shardNumber, number, null);
}
