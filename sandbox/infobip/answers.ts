import { type Answer, answer } from "../answer";

const NAMES: Record<number, string> = {
  400: "BAD_REQUEST",
  401: "UNAUTHORIZED",
  403: "FORBIDDEN",
  404: "NOT_FOUND",
  429: "TOO_MANY_REQUESTS",
  500: "GENERAL_ERROR",
};

/** A refusal as Infobip answers it. Turned into an answer before it leaves the state object. */
export class InfobipError extends Error {
  constructor(
    readonly status: number,
    text: string,
    readonly fields: Record<string, string[]> | null = null,
    readonly retryAfter: number | null = null,
  ) {
    super(text);
  }

  answer(): Answer {
    const validationErrors = this.fields === null ? {} : { validationErrors: this.fields };
    const messageId = NAMES[this.status] ?? "GENERAL_ERROR";
    const body = { requestError: { serviceException: { messageId, text: this.message, ...validationErrors } } };
    return { ...answer(body, this.status), retryAfter: this.retryAfter };
  }
}

export interface Status {
  groupId: number;
  groupName: string;
  id: number;
  name: string;
  description: string;
}

export const ENROUTE: Status = {
  groupId: 1,
  groupName: "PENDING",
  id: 7,
  name: "PENDING_ENROUTE",
  description: "Message sent to next instance",
};

export const TO_HANDSET: Status = {
  groupId: 3,
  groupName: "DELIVERED",
  id: 5,
  name: "DELIVERED_TO_HANDSET",
  description: "Message delivered to handset",
};

const REJECTIONS: Record<number, string> = {
  12: "REJECTED_NOT_ENOUGH_CREDITS",
  13: "REJECTED_SENDER",
  18: "REJECTED_DESTINATION_NOT_REGISTERED",
  20: "REJECTED_FLOODING_FILTER",
  21: "REJECTED_SYSTEM_ERROR",
  23: "REJECTED_DUPLICATE_MESSAGE_ID",
  52: "REJECTED_DESTINATION",
};

export function rejected(id: number): Status {
  const name = REJECTIONS[id] ?? `REJECTED_${id}`;
  return { groupId: 5, groupName: "REJECTED", id, name, description: `The sandbox rejects with ${id}` };
}
