import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { QuotaWindows } from "../durable-objects/quota-windows";
import { newUuid } from "../src/platform/ids";
import { planWindows, takeQuota } from "../src/workspaces/quota";
import { memberWithRole, newUser, newWorkspace, testRuntime } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { newPerson } from "./support/world";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** 12:30 UTC of a day to come (no alarm set for it rings by itself): 30 minutes before the hour ends, 11.5 hours before the day does. */
const HALF_PAST_NOON = 40_000 * DAY + 12.5 * HOUR;

const headersOf = (response: Response) => ({
  limit: response.headers.get("RateLimit-Limit"),
  remaining: response.headers.get("RateLimit-Remaining"),
  reset: response.headers.get("RateLimit-Reset"),
  retryAfter: response.headers.get("Retry-After"),
});

afterEach(() => {
  vi.restoreAllMocks();
});

describe("counting", () => {
  const windows = [
    { seconds: 3600, limit: 3 },
    { seconds: 86_400, limit: 5 },
  ];

  it("lets exactly the limit through, then refuses until the hour is over", () => {
    const quota = new QuotaWindows();
    const at = HALF_PAST_NOON;
    expect([1, 2, 3].map(() => quota.take(windows, at).remaining)).toEqual([2, 1, 0]);
    expect(quota.take(windows, at)).toEqual({ allowed: false, limit: 3, remaining: 0, reset: 1800 });
    expect(quota.take(windows, at + 1_799_999)).toMatchObject({ allowed: false, reset: 1 });
    expect(quota.take(windows, at + 1_800_000)).toMatchObject({ allowed: true });
  });

  it("does not count what it refuses", () => {
    const quota = new QuotaWindows();
    for (let i = 0; i < 3; i += 1) quota.take(windows, HALF_PAST_NOON);
    for (let i = 0; i < 50; i += 1) quota.take(windows, HALF_PAST_NOON);
    // Three of the day's five are used, so two are left in the next hour.
    expect(quota.take(windows, HALF_PAST_NOON + HOUR)).toMatchObject({ allowed: true, limit: 5, remaining: 1 });
    expect(quota.take(windows, HALF_PAST_NOON + HOUR)).toMatchObject({ allowed: true, limit: 5, remaining: 0 });
  });

  it("refuses by the day while the hour has room, and names the day's end", () => {
    const quota = new QuotaWindows();
    for (let i = 0; i < 3; i += 1) quota.take(windows, HALF_PAST_NOON);
    for (let i = 0; i < 2; i += 1) quota.take(windows, HALF_PAST_NOON + HOUR);
    expect(quota.take(windows, HALF_PAST_NOON + 2 * HOUR)).toEqual({
      allowed: false,
      limit: 5,
      remaining: 0,
      reset: 9.5 * 3600,
    });
    expect(quota.take(windows, HALF_PAST_NOON + 11.5 * HOUR)).toMatchObject({ allowed: true, remaining: 2, limit: 3 });
  });

  it("names the later end when both are full", () => {
    const quota = new QuotaWindows();
    const both = [
      { seconds: 3600, limit: 1 },
      { seconds: 86_400, limit: 1 },
    ];
    quota.take(both, HALF_PAST_NOON);
    expect(quota.take(both, HALF_PAST_NOON)).toMatchObject({ allowed: false, reset: 11.5 * 3600 });
  });

  it("follows a plan that changes, at once, both ways", () => {
    const quota = new QuotaWindows();
    const plan = (limit: number) => [{ seconds: 3600, limit }];
    for (let i = 0; i < 3; i += 1) quota.take(plan(3), HALF_PAST_NOON);
    expect(quota.take(plan(10), HALF_PAST_NOON)).toMatchObject({ allowed: true, limit: 10, remaining: 6 });
    expect(quota.take(plan(2), HALF_PAST_NOON)).toMatchObject({ allowed: false, limit: 2, remaining: 0 });
  });

  it("counts a caller whose clock is a little behind in the newer window", () => {
    const quota = new QuotaWindows();
    const one = [{ seconds: 3600, limit: 2 }];
    const turn = HALF_PAST_NOON + HOUR / 2;
    quota.take(one, turn);
    quota.take(one, turn - 5);
    expect(quota.take(one, turn + 1)).toMatchObject({ allowed: false });
  });
});

describe("the object", () => {
  // Long windows: no test is cut in two by the end of one.
  const windows = [{ seconds: 10 * 86_400, limit: 100 }];
  const rt = testRuntime();
  const take = (subject: string) => takeQuota(rt, subject, windows);

  it("counts simultaneous calls each once", async () => {
    const subject = newUuid();
    const answers = await Promise.all(Array.from({ length: 120 }, () => take(subject)));
    expect(answers.filter((a) => a.allowed)).toHaveLength(100);
    expect(new Set(answers.filter((a) => a.allowed).map((a) => a.remaining)).size).toBe(100);
  });

  it("still knows after an eviction what its alarm wrote down", async () => {
    const subject = newUuid();
    const stub = env.API_QUOTA.getByName(subject);
    for (let i = 0; i < 7; i += 1) await take(subject);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    await evictDurableObject(stub);
    expect(await take(subject)).toMatchObject({ allowed: true, remaining: 92 });
  });

  it("writes nothing per call: one alarm for many calls, one row when it rings", async () => {
    const subject = newUuid();
    const stub = env.API_QUOTA.getByName(subject);
    for (let i = 0; i < 20; i += 1) await take(subject);
    const before = await runInDurableObject(stub, async (_, state) => ({
      stored: [...state.storage.kv.list()].length,
      alarm: await state.storage.getAlarm(),
    }));
    expect(before.stored).toBe(0);
    expect((before.alarm ?? 0) - Date.now()).toBeLessThanOrEqual(10_000);
    await runDurableObjectAlarm(stub);
    expect(await runInDurableObject(stub, (_, state) => [...state.storage.kv.list()].length)).toBe(1);
  });

  it("leaves nothing behind when its windows have ended", async () => {
    const clock = vi.spyOn(Date, "now").mockReturnValue(HALF_PAST_NOON);
    const subject = newUuid();
    const stub = env.API_QUOTA.getByName(subject);
    const left = () =>
      runInDurableObject(stub, async (_, state) => ({
        stored: [...state.storage.kv.list()].length,
        alarm: await state.storage.getAlarm(),
      }));
    await takeQuota(rt, subject, [{ seconds: 3600, limit: 100 }]);
    await runDurableObjectAlarm(stub);
    // The next alarm is the one that removes the count, when its hour is over.
    expect(await left()).toEqual({ stored: 1, alarm: HALF_PAST_NOON + HOUR / 2 });
    clock.mockReturnValue(HALF_PAST_NOON + HOUR / 2);
    await runInDurableObject(stub, (instance) => instance.alarm());
    expect(await left()).toEqual({ stored: 0, alarm: null });
  });

  it("refuses a call it cannot count", async () => {
    const broken = testRuntime({
      clock: () => {
        throw new Error("no clock");
      },
    });
    await expect(takeQuota(broken, newUuid(), windows)).rejects.toMatchObject({ code: "overloaded" });
  });
});

describe("plan limits over HTTP", () => {
  it("counts key and JWT calls of a workspace together, shows them, and refuses the 101st of an hour", async () => {
    vi.spyOn(Date, "now").mockReturnValue(Math.floor(Date.now() / DAY) * DAY + 12.5 * HOUR);
    const free = await newWorkspace({ plan: "free" });
    const path = `/api/workspaces/${free.workspaceId}`;
    const first = await free.call("GET", path);
    expect(headersOf(first)).toEqual({ limit: "100", remaining: "99", reset: "1800", retryAfter: null });
    expect(headersOf(await free.callWithKey("GET", path)).remaining).toBe("98");

    const rt = testRuntime();
    for (let i = 0; i < 97; i += 1) await takeQuota(rt, free.workspaceId, planWindows("free", rt.config));
    const last = await free.call("GET", path);
    expect(last.status).toBe(200);
    expect(headersOf(last).remaining).toBe("0");

    const refused = await free.call("GET", path);
    expect(refused.status).toBe(429);
    expect(headersOf(refused)).toEqual({ limit: "100", remaining: "0", reset: "1800", retryAfter: "1800" });
    expect(await refused.json()).toMatchObject({
      detail: "Rate limit exceeded. Please try again later.",
      code: "rate_limited",
    });
    expect((await free.callWithKey("GET", path)).status).toBe(429);

    await env.DIRECTORY.prepare("UPDATE workspaces SET plan = 'pro' WHERE id = ?1").bind(free.workspaceId).run();
    expect(headersOf(await free.call("GET", path))).toMatchObject({ limit: "1000", remaining: "899" });
  });

  it("neither sends, stores nor shows anything for a call it refuses, though reads run beside the charge", async () => {
    vi.spyOn(Date, "now").mockReturnValue(Math.floor(Date.now() / DAY) * DAY + 12.5 * HOUR);
    const free = await newWorkspace({ plan: "free" });
    const number = await registerNumber(free);
    const send = () =>
      free.callWithKey("POST", "/api/messages/send/text", { phone_number_id: number.id, to: newPerson(), text: "x" });
    const { id } = await (await send()).json<{ id: string }>();
    const rt = testRuntime();
    for (let i = 0; i < 100; i += 1) await takeQuota(rt, free.workspaceId, planWindows("free", rt.config));
    const calls = [
      send,
      () => free.callWithKey("GET", "/api/messages"),
      () => free.callWithKey("GET", "/api/conversations"),
      () => free.callWithKey("GET", `/api/messages/${id}`),
      () => free.callWithKey("GET", `/api/messages/${crypto.randomUUID()}`),
      () => free.call("GET", `/api/messages/${id}`),
      () => free.callWithKey("DELETE", `/api/messages/${id}`),
    ];
    for (const call of calls) {
      const refused = await call();
      expect(refused.status).toBe(429);
      expect(await refused.json()).toMatchObject({ code: "rate_limited" });
    }
    const stored = await env.SHARD_0.prepare("SELECT count(*) AS n FROM messages WHERE workspace_id = ?1")
      .bind(free.workspaceId)
      .first<{ n: number }>();
    expect(stored?.n).toBe(1);
  });

  it("refuses the 1,001st call of a day though the hour is new", async () => {
    const noon = Math.floor(Date.now() / DAY) * DAY + 12 * HOUR;
    const clock = vi.spyOn(Date, "now").mockReturnValue(noon);
    const free = await newWorkspace({ plan: "free" });
    const rt = testRuntime();
    for (let hour = 0; hour < 10; hour += 1) {
      clock.mockReturnValue(noon + hour * HOUR);
      const windows = planWindows("free", rt.config);
      await Promise.all(Array.from({ length: 100 }, () => takeQuota(rt, free.workspaceId, windows)));
    }
    clock.mockReturnValue(noon + 10 * HOUR);
    const refused = await free.callWithKey("GET", `/api/workspaces/${free.workspaceId}`);
    expect(refused.status).toBe(429);
    expect(headersOf(refused)).toEqual({ limit: "1000", remaining: "0", reset: "7200", retryAfter: "7200" });
  });

  it("is charged after membership and role are known: strangers and mistakes cost the workspace nothing", async () => {
    const workspace = await newWorkspace({ plan: "free" });
    const agent = await memberWithRole(workspace, "AGENT");
    const stranger = await newWorkspace();
    const path = `/api/workspaces/${workspace.workspaceId}`;
    expect((await stranger.call("GET", path)).status).toBe(404);
    expect((await agent.call("PATCH", path, { name: "x" })).status).toBe(403);
    expect(headersOf(await workspace.call("GET", path)).remaining).toBe("99");
  });

  it("counts calls that name no workspace against the user", async () => {
    vi.spyOn(Date, "now").mockReturnValue(Math.floor(Date.now() / 60_000) * 60_000 + 15_000);
    const user = await newUser();
    await user.call("GET", "/api/workspaces");
    const second = await user.call("GET", "/api/auth/me");
    expect(headersOf(second)).toEqual({ limit: "600", remaining: "598", reset: "45", retryAfter: null });
  });

  it("gives enterprise what the operator configured", () => {
    const { config } = testRuntime();
    expect(planWindows("enterprise", { ...config, ENTERPRISE_HOURLY: 7, ENTERPRISE_DAILY: 9 })).toEqual([
      { seconds: 3600, limit: 7 },
      { seconds: 86_400, limit: 9 },
    ]);
  });
});
