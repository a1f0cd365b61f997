/** The verbs of statuses. What is published is the line "About" of the profile: providers have no stories (product 3.2). */
import type { WorkspaceScope } from "../auth/guard";
import { resolveNumber } from "../phone-numbers/service";
import { AppError, invalidField } from "../platform/errors";
import { type IdempotencyClaim, requestHash } from "../platform/idempotency";
import { MAX_DELAY_MS, orderApply } from "./service-jobs";
import {
  type AboutStatus,
  type InsertResult,
  insertStatus,
  isActive,
  selectHeld,
  selectStatus,
  updateCancelled,
} from "./store";

export { type AboutStatus, pageStatuses, selectStatus } from "./store";

type Scope = Pick<WorkspaceScope, "rt" | "db" | "workspaceId" | "caller"> & {
  membership: Pick<WorkspaceScope["membership"], "shard">;
};

/** ms */
const SCHEDULE_HORIZON = 366 * 86_400_000;
/** A status due later than the queue can wait is enqueued this long before, with its exact delay. ms */
const AHEAD = 120_000;
/** When the cron looks at one whose job should have come. ms */
const LOST_AFTER = 60_000;

export interface StatusIntent {
  text: string;
  /** ms; null sets it at once. */
  scheduledAt: number | null;
  /** Ours, or the provider's id; null means the default number. */
  phoneNumberId: string | null;
  /** Whether a time that has passed is at once (Automation, contract 2) instead of a 422. */
  pastIsNow: boolean;
}

/**
 * Plans a status, or sets it at once. `key` is the call's idempotency key. 422 for a time in the past or too far away
 * and for a number that is not there or disabled; 409 in a suspended workspace and for a key of another call.
 */
export async function createStatus(scope: Scope, intent: StatusIntent, key: string | null): Promise<AboutStatus> {
  const { rt, db, workspaceId, caller, membership } = scope;
  const now = rt.clock();
  const id = rt.newId();
  const claim: IdempotencyClaim | null =
    key === null ? null : { workspaceId, key, hash: await requestHash("statuses.create", intent), ref: id };
  const [number, active, held] = await Promise.all([
    resolveNumber(db, workspaceId, intent.phoneNumberId),
    isActive(db, workspaceId),
    claim && selectHeld(db, claim, now),
  ]);
  // A call that is repeated gets its first answer, though the time it names has passed by now.
  if (held) return answerOf(held);
  const at = intent.scheduledAt ?? now;
  if (at <= now && intent.scheduledAt !== null && !intent.pastIsNow) {
    throw invalidField(["body", "scheduled_at"], "Must be in the future");
  }
  if (at > now + SCHEDULE_HORIZON) throw invalidField(["body", "scheduled_at"], "Must be within a year");
  if (!number) {
    const missing =
      intent.phoneNumberId === null
        ? "This workspace has no active phone number"
        : "Phone number not found in this workspace";
    throw invalidField(["body", "phone_number_id"], missing);
  }
  if (number.status === "disabled") throw invalidField(["body", "phone_number_id"], "The phone number is disabled");
  if (!active) throw new AppError("conflict", "The workspace is suspended");
  const result = await insertStatus(
    db,
    {
      workspaceId,
      id,
      phoneNumberId: number.id,
      text: intent.text,
      at: Math.max(at, now),
      scheduledAt: intent.scheduledAt,
      lookAt: at - now > MAX_DELAY_MS ? at - AHEAD : Math.max(at, now) + LOST_AFTER,
      createdBy: caller.kind === "user" ? caller.userId : null,
    },
    claim,
    now,
  );
  if (result.kind === "created") {
    await orderApply(rt, { workspaceId, shard: membership.shard, phoneNumberId: number.id }, at - now);
  }
  return answerOf(result);
}

function answerOf(result: InsertResult): AboutStatus {
  switch (result.kind) {
    case "created":
    case "replayed":
      return result.status;
    case "key_conflict":
      throw new AppError("idempotency_conflict", "The idempotency key was used with another body");
    case "gone":
      throw new AppError("conflict", "What the first call with this key made does not exist any more");
  }
}

/** Cancels a status. 409 once it is set, or while the provider is being told. */
export async function cancelStatus({ rt, db }: Pick<Scope, "rt" | "db">, status: AboutStatus): Promise<AboutStatus> {
  const cancelled = await updateCancelled(db, status, rt.clock());
  if (cancelled) return cancelled;
  const now = await selectStatus(db, [status.workspaceId], status.id);
  if (now?.status === "cancelled") return now;
  throw new AppError("conflict", `Only scheduled statuses can be cancelled; this one is ${now?.status ?? "gone"}`);
}
