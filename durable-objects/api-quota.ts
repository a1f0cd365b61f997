import { DurableObject } from "cloudflare:workers";

export class ApiQuota extends DurableObject<Env> {
  async take(windows: { seconds: number; limit: number }[], _now: number) {
    const first = windows[0];
    return { allowed: true, limit: first?.limit ?? 0, remaining: first?.limit ?? 0, reset: first?.seconds ?? 0 };
  }
}
