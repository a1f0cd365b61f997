import { z } from "@hono/zod-openapi";
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

/** Sign-ins per account and per address (issue 2 §3), counted before the password is hashed. */
export const SIGN_IN_WINDOWS: QuotaWindow[] = [{ seconds: 60, limit: 10 }];

/** Sign-ups per address: each costs a password hash. */
export const SIGN_UP_WINDOWS: QuotaWindow[] = [{ seconds: 60, limit: 60 }];

/** Verification mails of one user: the address may be somebody else's. */
export const MAIL_WINDOWS: QuotaWindow[] = [{ seconds: 3600, limit: 3 }];

export interface QuotaAnswer {
  allowed: boolean;
  /** Of the window with the least room left. */
  limit: number;
  remaining: number;
  /** Seconds until that window resets. */
  reset: number;
}

/**
 * Counts one call against `subject` (a workspace id, `user:<id>`, `signin:<hash>`). When the object cannot answer, the
 * call is refused as `overloaded`: an uncounted call is never let through.
 */
export async function takeQuota(rt: Runtime, subject: string, windows: QuotaWindow[]): Promise<QuotaAnswer> {
  const take = () => rt.env.API_QUOTA.getByName(subject).take(windows, rt.clock());
  try {
    return await take().catch((error: unknown) => {
      if (mayRepeat(error)) return take();
      throw error;
    });
  } catch (error) {
    throw new AppError("overloaded", "Try again later", { cause: error, retryAfter: 1 });
  }
}

/** The flags Cloudflare sets on errors of object calls: a restarted object may be called again, a busy one may not. */
const objectError = z.object({ retryable: z.literal(true), overloaded: z.literal(false).optional() });

function mayRepeat(error: unknown): boolean {
  return objectError.safeParse(error).success;
}

/** Counts one call and refuses it with the documented 429 when the windows are full. */
export async function spendQuota(rt: Runtime, subject: string, windows: QuotaWindow[]): Promise<void> {
  const answer = await takeQuota(rt, subject, windows);
  if (!answer.allowed) throw rateLimited(answer);
}

/** The documented 429, with `Retry-After`. */
export function rateLimited(answer: QuotaAnswer): AppError {
  return new AppError("rate_limited", "Rate limit exceeded. Please try again later.", { retryAfter: answer.reset });
}
