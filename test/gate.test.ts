import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { Gate } from "../durable-objects/gate";
import { newUuid } from "../src/platform/ids";

const PER_SECOND = 80;
const PROBE = 300_000;
const T0 = Date.parse("2026-06-01T12:00:00Z");

/** A gate of a number nobody else has, on the storage of a real object. */
function withGate<T>(use: (gate: Gate) => T | Promise<T>): Promise<T> {
  const stub = env.SENDER_GATE.getByName(`gate-test:${newUuid()}`);
  return runInDurableObject(stub, (_object, state) => use(new Gate(state.storage)));
}

describe("the throughput of a number", () => {
  it("lets a full queue batch pass at once and no more than 80 a second after it", () =>
    withGate((gate) => {
      expect(gate.reserve(100, PER_SECOND, T0, PROBE)).toEqual({ granted: 100, wait: 0, closed: null });
      expect(gate.reserve(100, PER_SECOND, T0, PROBE)).toMatchObject({ granted: 0, wait: 1250 });
      expect(gate.reserve(10, PER_SECOND, T0 + 125, PROBE).granted).toBe(10);
      expect(gate.reserve(1, PER_SECOND, T0 + 125, PROBE).granted).toBe(0);
      // A rest of whatever length fills the bucket and not more.
      expect(gate.reserve(500, PER_SECOND, T0 + 3_600_000, PROBE).granted).toBe(100);
    }));

  it("gives a rush of 2,000 messages each its own time, so that they are not written to the queue again and again", () =>
    withGate((gate) => {
      interface Batch {
        due: number;
        left: number;
      }
      let waiting: Batch[] = Array.from({ length: 20 }, () => ({ due: T0, left: 100 }));
      const granted: { at: number; n: number }[] = [];
      let handedBack = 0;
      while (waiting.length > 0) {
        const [next, ...others] = waiting.toSorted((a, b) => a.due - b.due);
        if (!next) break;
        const answer = gate.reserve(next.left, PER_SECOND, next.due, PROBE);
        granted.push({ at: next.due, n: answer.granted });
        const left = next.left - answer.granted;
        handedBack += left;
        // The queue delays by whole seconds.
        waiting = left === 0 ? others : [...others, { due: next.due + Math.ceil(answer.wait / 1000) * 1000, left }];
      }
      const total = granted.reduce((sum, { n }) => sum + n, 0);
      expect(total).toBe(2000);
      const last = Math.max(...granted.map(({ at }) => at));
      // 1,900 at 80/s take 24 s.
      expect(last - T0).toBeLessThanOrEqual(32_000);
      expect(handedBack).toBeLessThanOrEqual(2 * 2000);
      for (const { at } of granted) {
        const inSecond = granted.filter((g) => g.at > at - 1000 && g.at <= at).reduce((sum, { n }) => sum + n, 0);
        expect(inSecond).toBeLessThanOrEqual(180);
      }
    }));

  it("counts what comes in, and makes senders wait for that too", () =>
    withGate((gate) => {
      gate.reserve(100, PER_SECOND, T0, PROBE);
      gate.count(500, PER_SECOND, T0);
      // At most a second of debt: 80 owed and 1 wanted.
      expect(gate.reserve(1, PER_SECOND, T0, PROBE)).toMatchObject({ granted: 0, wait: Math.ceil((81 * 1000) / 80) });
      expect(gate.reserve(1, PER_SECOND, T0 + 1100, PROBE).granted).toBe(1);
    }));

  it("gains nothing by a clock that goes back, and does not stand still because one went ahead", () =>
    withGate((gate) => {
      gate.reserve(100, PER_SECOND, T0, PROBE);
      expect(gate.reserve(10, PER_SECOND, T0 - 2000, PROBE).granted).toBe(0);
      expect(gate.reserve(10, PER_SECOND, T0 - 1000, PROBE).granted).toBe(0);
      expect(gate.reserve(1, PER_SECOND, T0, PROBE).granted).toBe(0);
      // A caller an hour ahead; everybody else goes on all the same.
      gate.reserve(100, PER_SECOND, T0 + 3_600_000, PROBE);
      expect(gate.reserve(1, PER_SECOND, T0 + 1000, PROBE).wait).toBeLessThan(5_000);
      expect(gate.reserve(10, PER_SECOND, T0 + 3000, PROBE).granted).toBe(10);
    }));

  it("stops while the provider says so, and runs at half its rate for a minute after", () =>
    withGate((gate) => {
      gate.throttled(T0 + 10_000, T0);
      expect(gate.reserve(10, PER_SECOND, T0 + 5000, PROBE)).toMatchObject({ granted: 0 });
      expect(gate.reserve(10, PER_SECOND, T0 + 9_999, PROBE).granted).toBe(0);
      expect(gate.reserve(200, PER_SECOND, T0 + 10_000, PROBE).granted).toBe(50);
      expect(gate.reserve(200, PER_SECOND, T0 + 11_000, PROBE).granted).toBe(40);
      expect(gate.reserve(200, PER_SECOND, T0 + 70_000, PROBE).granted).toBe(100);
    }));

  it("never comes to a halt, however slow the number", () =>
    withGate((gate) => {
      gate.throttled(T0, T0);
      let granted = 0;
      for (let second = 0; second < 20; second += 1) granted += gate.reserve(1, 1, T0 + second * 1000, PROBE).granted;
      expect(granted).toBeGreaterThanOrEqual(18);
    }));
});

describe("a closed gate", () => {
  it("lets one message try when its time has come, and another one when the first could not be used", () =>
    withGate((gate) => {
      gate.close({ reason: "Account locked", probeAt: T0 + PROBE });
      expect(gate.reserve(100, PER_SECOND, T0, PROBE)).toMatchObject({
        granted: 0,
        closed: { reason: "Account locked" },
      });
      expect(gate.reserve(100, PER_SECOND, T0 + PROBE, PROBE)).toMatchObject({ granted: 1 });
      expect(gate.reserve(100, PER_SECOND, T0 + PROBE + 1, PROBE)).toMatchObject({ granted: 0 });
      gate.returnProbe(T0 + PROBE + 2);
      expect(gate.reserve(100, PER_SECOND, T0 + PROBE + 2, PROBE)).toMatchObject({ granted: 1 });
      expect(gate.reopen()).toBe(true);
      expect(gate.reopen()).toBe(false);
      gate.returnProbe(T0 + PROBE + 3);
      expect(gate.reserve(50, PER_SECOND, T0 + PROBE + 3, PROBE)).toEqual({ granted: 50, wait: 0, closed: null });
    }));

  it("stays closed, and its journal readable, when the object is evicted", async () => {
    const stub = env.SENDER_GATE.getByName(`gate-test:${newUuid()}`);
    await stub.begin(["a.1", "b.1"], T0);
    await stub.begin(["a.2"], T0);
    await stub.close({ reason: "Account locked", probeAt: T0 + PROBE });
    await evictDurableObject(stub);
    expect((await stub.journaled(["a.1", "a.2", "a.3", "b.1", "c.1"])).toSorted()).toEqual(["a.1", "a.2", "b.1"]);
    expect(await stub.reserve(1, PER_SECOND, T0, PROBE)).toMatchObject({ granted: 0 });
  });

  it("forgets the journal only when no lease can be decided by it any more", () =>
    withGate(async (gate) => {
      await gate.begin(["old.1"], T0);
      await gate.begin(["new.1"], T0 + 3_600_000);
      await gate.prune(T0 + 5 * 3_600_000);
      expect(gate.journaled(["old.1", "new.1"]).toSorted()).toEqual(["new.1", "old.1"]);
      await gate.prune(T0 + 6 * 3_600_000 + 1);
      expect(gate.journaled(["old.1", "new.1"])).toEqual(["new.1"]);
    }));
});
