import type { Config } from "../platform/config";
import { AppError } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import type { Plan } from "./schema";

/** Calls allowed per window. */
export interface QuotaWindow {
  seconds: number;
  limit: number;
}

/** The documented plan limits; enterprise numbers come from the operator (contract 8). */
export function planWindows(plan: Plan, config: Config): QuotaWindow[] {
  switch (plan) {
    case "free":
      return [
        { seconds: 3600, limit: 100 },
        { seconds: 86_400, limit: 1000 },
      ];
    case "pro":
      return [
        { seconds: 3600, limit: 1000 },
        { seconds: 86_400, limit: 10_000 },
      ];
    case "enterprise":
      return [
        { seconds: 3600, limit: config.ENTERPRISE_HOURLY },
        { seconds: 86_400, limit: config.ENTERPRISE_DAILY },
      ];
  }
}

/** Calls of a user that name no workspace (sign-out, creating workspaces). */
export const USER_WINDOWS: QuotaWindow[] = [{ seconds: 60, limit: 600 }];

export interface QuotaAnswer {
  allowed: boolean;
  /** Of the window that is closest to its end. */
  limit: number;
  remaining: number;
  /** Seconds until that window resets. */
  reset: number;
}

/** Counts one call against `subject` (a workspace id, `user:<id>`, `signin:<hash>`). */
export function takeQuota(rt: Runtime, subject: string, windows: QuotaWindow[]): Promise<QuotaAnswer> {
  return rt.env.API_QUOTA.getByName(subject).take(windows, rt.clock());
}

/** The documented 429, with `Retry-After`. */
export function rateLimited(answer: QuotaAnswer): AppError {
  return new AppError("rate_limited", "Rate limit exceeded. Please try again later.", { retryAfter: answer.reset });
}
