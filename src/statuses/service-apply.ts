/** Telling providers what is due. */
import { openConnection } from "../phone-numbers/service";
import { numbersById } from "../phone-numbers/service-pipeline";
import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { providerFor } from "../providers/registry";
import { orderApply, type StatusJob } from "./service-jobs";
import { type AboutStatus, claimNext, isActive, type Outcome, storeOutcome, takeLooks } from "./store";

/** Statuses of one number that one job sets: what an outage kept back. */
const PER_JOB = 20;
/** Rows that the cron takes up at a time. */
const LOOKS = 500;
/** How long the provider may fail before a status is given up, and the longest pause between two tries. ms */
const GIVEN_UP = 24 * 3_600_000;
const LONGEST_PAUSE = 15 * 60_000;

/** Sets what is due of a number, oldest first. Throws when the database does not answer. */
export async function applyDue(rt: Runtime, job: StatusJob): Promise<void> {
  const db = shard(rt, job.shard);
  for (let n = 0; n < PER_JOB; n += 1) {
    const now = rt.clock();
    const until = now + rt.config.PIPELINE.lease;
    const claimed = await claimNext(db, job, { token: rt.newId(), until, now });
    if (!claimed) return;
    const outcome = await tell(rt, db, claimed);
    await storeOutcome(db, claimed, outcome, rt.clock());
    if (outcome.kind === "again") return orderApply(rt, job, outcome.at - rt.clock());
  }
  await orderApply(rt, job, 0);
}

async function tell(rt: Runtime, db: Db, status: AboutStatus): Promise<Outcome> {
  const number = (await numbersById(db, [{ workspaceId: status.workspaceId, id: status.phoneNumberId }])).get(
    status.phoneNumberId,
  );
  if (!number) return failed("number_gone", "The phone number was removed");
  if (number.status === "disabled") return failed("number_disabled", "The phone number is disabled");
  if (!(await isActive(db, status.workspaceId))) return failed("workspace_suspended", "The workspace is suspended");
  try {
    const result = await providerFor(rt, number.provider).setAbout(await openConnection(rt, number), status.text);
    if (result.ok) return { kind: "applied" };
    if (!result.refused) return again(rt, status, { code: "provider_unavailable", message: result.reason });
    const { code, title, details, retryable } = result.error;
    const error = { code, message: details === null ? title : `${title}: ${details}` };
    return retryable ? again(rt, status, error) : { kind: "failed", error };
  } catch (error) {
    // A token that does not open keeps the other statuses of the batch from nothing, and is told like any failure.
    log("error", "status.apply_failed", { workspace_id: status.workspaceId, ...errorFields(error) });
    return again(rt, status, { code: "internal", message: "The provider could not be called" });
  }
}

function failed(code: string, message: string): Outcome {
  return { kind: "failed", error: { code, message } };
}

/** Late rather than never: tried again for a day. */
function again(rt: Runtime, status: AboutStatus, error: { code: number | string; message: string }): Outcome {
  const now = rt.clock();
  if (now > status.at + GIVEN_UP) return { kind: "failed", error };
  const pause = rt.config.PIPELINE.backoffBase * 2 ** Math.min(status.attempts - 1, 20);
  return { kind: "again", at: now + Math.min(LONGEST_PAUSE, pause), error };
}

/** Cron, per shard: what is due beyond the queue's reach in the next two minutes, and what no job came for. */
export async function attendStatuses(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  for (const wake of await takeLooks(shard(rt, shardNumber), now, LOOKS)) {
    const { workspaceId, phoneNumberId, notBefore } = wake;
    await orderApply(rt, { workspaceId, shard: shardNumber, phoneNumberId }, notBefore - now);
  }
}
