import { z } from "zod";

/** The flags Cloudflare sets on errors of object calls: a restarted object may be called again, a busy one may not. */
const repeatable = z.object({ retryable: z.literal(true), overloaded: z.literal(false).optional() });

/** Calls an object, once more when the platform says so. Only for calls that may run twice. */
export async function callObject<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!repeatable.safeParse(error).success) throw error;
    return call();
  }
}
