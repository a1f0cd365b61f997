/** What happens to the connection instead of, or before, the answer. */
export type ConnectionFault = { kind: "cut" } | { kind: "hold"; ms: number } | { kind: "slow"; ms: number };

/** What the state object answers to every command: plain values, because classes do not survive the call. */
export interface Answer {
  status: number;
  json: string;
  /** Seconds, sent as `Retry-After`. */
  retryAfter: number | null;
  fault: ConnectionFault | null;
}

export function answer(body: unknown, status = 200): Answer {
  return { status, json: JSON.stringify(body), retryAfter: null, fault: null };
}

/** A refusal of the control API, which is ours: no provider error body. */
export class ControlError extends Error {
  readonly status: number;

  constructor(message: string, status = 400) {
    super(message);
    this.status = status;
  }
}
