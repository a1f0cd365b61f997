import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { CampaignFeed, type FeedOrder } from "../durable-objects/campaign-feed";
import { Gate } from "../durable-objects/gate";
import { GateTimers } from "../durable-objects/gate-timers";
import { shareOut } from "../src/campaigns/service-feed";
import { newUuid } from "../src/platform/ids";

const PER_SECOND = 80;
const T0 = Date.parse("2099-06-01T12:00:00Z");
const ORDER: FeedOrder = { v: 1, kind: "campaign.feed", phoneNumberId: "n", workspaceId: "w", shard: 0 };

function withGate<T>(use: (gate: Gate) => T | Promise<T>): Promise<T> {
  const stub = env.SENDER_GATE.getByName(`share-test:${newUuid()}`);
  return runInDurableObject(stub, (_object, state) => use(new Gate(state.storage)));
}

describe("what a gate leaves to campaigns", () => {
  it("is four fifths of what the number can send in the time that passed, and no more after a long silence", () =>
    withGate((gate) => {
      expect(gate.share(PER_SECOND, T0)).toEqual({ count: 64, closed: null });
      expect(gate.share(PER_SECOND, T0).count).toBe(0);
      expect(gate.share(PER_SECOND, T0 + 1000).count).toBe(64);
      expect(gate.share(PER_SECOND, T0 + 3000).count).toBe(128);
      expect(gate.share(PER_SECOND, T0 + 3_600_000).count).toBe(5 * 64);
    }));

  it("is nothing while the provider says too fast, and less for a minute after", () =>
    withGate((gate) => {
      gate.share(PER_SECOND, T0);
      gate.throttled(T0 + 2000, T0);
      expect(gate.share(PER_SECOND, T0 + 1000).count).toBe(0);
      // Half the rate, of which three fifths.
      expect(gate.share(PER_SECOND, T0 + 3000).count).toBe(72);
      expect(gate.share(PER_SECOND, T0 + 4000).count).toBe(24);
      gate.share(PER_SECOND, T0 + 61_000);
      expect(gate.share(PER_SECOND, T0 + 62_000).count).toBe(64);
    }));

  it("is less by what waits for the number already, or uses its throughput up", () =>
    withGate((gate) => {
      gate.share(PER_SECOND, T0);
      gate.reserve(140, PER_SECOND, T0 + 1000, 300_000);
      // 40 wait for the half second after.
      expect(gate.share(PER_SECOND, T0 + 1100).count).toBeLessThanOrEqual(70 - 32);
      gate.count(500, PER_SECOND, T0 + 2000);
      expect(gate.share(PER_SECOND, T0 + 2000).count).toBe(0);
    }));

  it("is nothing behind a closed gate, with the reason", () =>
    withGate((gate) => {
      gate.close({ reason: "Account locked", probeAt: T0 });
      expect(gate.share(PER_SECOND, T0)).toEqual({ count: 0, closed: { reason: "Account locked", probeAt: T0 } });
    }));

  it("is given to a slow number too", () =>
    withGate((gate) => {
      let given = 0;
      for (let second = 0; second < 20; second += 1) given += gate.share(1, T0 + second * 1000).count;
      expect(given).toBeGreaterThanOrEqual(12);
      expect(given).toBeLessThanOrEqual(17);
    }));
});

describe("turns of several campaigns", () => {
  it.each([
    [[10, 10], 10, [5, 5]],
    [[2, 100], 10, [2, 8]],
    [[0, 3, 0], 10, [0, 3, 0]],
    [[5, 5, 5], 2, [1, 1, 0]],
    [[1, 1, 1], 0, [0, 0, 0]],
    [[], 5, []],
    [[1, 50, 50], 20, [1, 10, 9]],
  ])("%j share %i as %j", (waiting, room, shares) => {
    expect(shareOut(waiting, room)).toEqual(shares);
  });
});

describe("the jobs of a feed", () => {
  /** A feed on the storage of a real object, whose jobs are kept. */
  function withFeed(
    use: (feed: CampaignFeed, given: FeedOrder[], pass: (now: number) => Promise<number>) => Promise<void>,
    give?: () => Promise<void>,
  ): Promise<void> {
    const stub = env.SENDER_GATE.getByName(`feed-test:${newUuid()}`);
    return runInDurableObject(stub, async (_object, state) => {
      const given: FeedOrder[] = [];
      const timers = new GateTimers(state.storage);
      const feed = new CampaignFeed(
        state.storage,
        timers,
        give ??
          (async (order) => {
            given.push(order);
          }),
      );
      const pass = async (now: number) => {
        for (const timer of timers.take(now)) await feed.onTimer(timer, now);
        return timers.at("feed") ?? -1;
      };
      await use(feed, given, pass);
      timers.clear("feed");
    });
  }

  it("come one at a time: the next when the consumer wants it, or after half a minute without a word", () =>
    withFeed(async (feed, given, pass) => {
      await feed.begin(ORDER, T0);
      expect(await pass(T0)).toBe(T0 + 30_000);
      expect(given).toEqual([ORDER]);
      await pass(T0 + 29_999);
      expect(given).toHaveLength(1);
      await feed.reported(1000, T0 + 500);
      await pass(T0 + 1499);
      expect(given).toHaveLength(1);
      await pass(T0 + 1500);
      expect(given).toHaveLength(2);
      await pass(T0 + 31_500);
      expect(given).toHaveLength(3);
      await feed.reported(null, T0 + 31_600);
      expect(await pass(T0 + 90_000)).toBe(-1);
      expect(given).toHaveLength(3);
    }));

  it("begin again when somebody says so, or when the gate opens for a number that had some", () =>
    withFeed(async (feed, given, pass) => {
      await feed.resume(T0);
      await pass(T0);
      expect(given).toEqual([]);
      await feed.begin(ORDER, T0);
      await pass(T0);
      await feed.reported(null, T0);
      await feed.resume(T0 + 5000);
      await pass(T0 + 5000);
      expect(given).toHaveLength(2);
    }));

  it("that the queue does not take come again", () =>
    withFeed(
      async (feed, _given, pass) => {
        await feed.begin(ORDER, T0);
        expect(await pass(T0)).toBe(T0 + 30_000);
      },
      async () => {
        throw new Error("The queue is down");
      },
    ));

  it("survive the object, beside its journal's own timer", async () => {
    const name = `feed-object:${newUuid()}`;
    const stub = env.SENDER_GATE.getByName(name);
    await stub.begin(["a.1"], T0);
    // An order that the consumer knows nothing of ends among the dead letters, where nobody minds it.
    await stub.beginFeed({ ...ORDER, workspaceId: newUuid(), phoneNumberId: newUuid() });
    await stub.feedReported(3_600_000);
    await evictDurableObject(stub);
    const alarm = await runInDurableObject(stub, (_object, state) => state.storage.getAlarm());
    expect(alarm).not.toBeNull();
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(await stub.journaled(["a.1"])).toEqual(["a.1"]);
    const next = await runInDurableObject(stub, (_object, state) => state.storage.getAlarm());
    expect(next).toBeGreaterThan(Date.now());
  });
});
