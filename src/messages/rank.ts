import type { MESSAGE_STATUSES } from "./tables";

export type MessageStatus = (typeof MESSAGE_STATUSES)[number];

/** Our own code for a call whose fate nobody ever told; a positive status still settles it (pipeline 12). */
export const OUTCOME_UNKNOWN = "outcome_unknown";

const RANK: Record<MessageStatus, number> = {
  scheduled: 0,
  queued: 1,
  sending: 2,
  sent: 4,
  failed: 5,
  cancelled: 5,
  delivered: 6,
  read: 7,
};

/** How far a message has come. A later event with a lower rank changes nothing on screen (pipeline 21). */
export function rankOf(status: MessageStatus, errorCode: number | string | null): number {
  return status === "failed" && errorCode === OUTCOME_UNKNOWN ? 3 : RANK[status];
}
