import { afterEach, describe, expect, it, vi } from "vitest";
import { CampaignWorld } from "./support/campaigns";
import { type Crash, crashingRun } from "./support/crash";
import { eventually } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import type { Waiting } from "./support/world";

vi.setConfig({ testTimeout: 180_000 });

const RECIPIENTS = 2000;

let world: CampaignWorld;

afterEach(async () => {
  await world.retire();
  await sandbox.reset();
});

/** Numbers from 0 to 1 that are the same at every run of a seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

function codeOf(row: Record<string, unknown>): unknown {
  return row.message_error === null ? null : (JSON.parse(String(row.message_error)) as { code?: unknown }).code;
}

describe("2,000 recipients through faults, crashes, redelivery and pauses", () => {
  it("each gets it once or is failed with a reason, and the counts are those of the rows", async () => {
    const chance = random(20241);
    world = await CampaignWorld.open({ settings: { providerTimeout: 100 } });
    const phone = { phone_number_id: world.number.providerNumberId };
    const people = await world.contacts(RECIPIENTS);
    const id = await world.campaign();
    await sandbox.faults(
      { kind: "rate_limit", retry_after: 1, rate: 0.003, seed: 1, ...phone },
      { kind: "error", code: 131000, rate: 0.02, seed: 2, ...phone },
      { kind: "error", code: 131016, rate: 0.02, seed: 3, ...phone },
      { kind: "error", code: 2, http_status: 500, rate: 0.01, seed: 8, ...phone },
      { kind: "reset", rate: 0.01, seed: 4, ...phone },
      { kind: "timeout", ms: 150, rate: 0.002, seed: 5, ...phone },
      { kind: "drop_after_accept", rate: 0.015, seed: 6, ...phone },
      { kind: "error", code: 131026, rate: 0.02, seed: 7, ...phone },
    );
    await world.verb(id, "start");

    const seen = { killed: 0, redelivered: 0, pauses: 0, crons: 0 };
    const old: Waiting[] = [];
    const crash = (): Crash => ({ at: Math.floor(chance() * 12), when: chance() < 0.5 ? "before" : "after" });
    /** Delivers a batch, now and then to a consumer that dies of it, now and then twice at once. */
    const hand = async (batch: readonly Waiting[]): Promise<void> => {
      if (batch.length === 0) return;
      old.push(...batch.slice(0, 20));
      const kill = chance() < 0.15 ? crashingRun(world.env, crash()) : null;
      const again = chance() < 0.1;
      const copies = batch.map((message) => ({ ...message, attempts: 2 }));
      await Promise.all([
        world.deliver(batch, kill ? { env: kill.env } : {}),
        ...(again ? [world.deliver(copies, { size: 37 })] : []),
      ]);
      if (kill?.crashed()) seen.killed += 1;
      if (again) seen.redelivered += 1;
    };

    const end = world.now + 120 * 60_000;
    while (world.now < end) {
      world.forgetful = chance() < 0.3;
      const due = world.take();
      for (const [, batch] of Map.groupBy(due, ({ queue }) => queue)) await hand(batch);
      if (chance() < 0.05) await hand(old.splice(Math.floor(chance() * old.length), 30));
      if (chance() < 0.04) {
        const paused = await world.timed("POST", `/api/campaigns/${id}/pause`);
        if (paused.status === 200) {
          seen.pauses += 1;
          const seconds = Math.floor(chance() * 4);
          for (let second = 0; second < seconds; second += 1) {
            await hand(world.take());
            world.now += 1000;
          }
          await world.verb(id, "start");
        }
      }
      if (due.length > 0) continue;
      const tick = (Math.floor(world.now / 60_000) + 1) * 60_000;
      world.now = Math.min(tick, ...world.waiting.map(({ dueAt }) => Math.max(dueAt, world.now)));
      if (world.now === tick) {
        seen.crons += 1;
        const kill = chance() < 0.3 ? crashingRun(world.env, crash()) : null;
        await world.sweep(kill?.env ?? world.env).catch(() => undefined);
      }
      // Only what nobody knows of is left then: its fate is in nobody's hands.
      if (world.now === tick && !(await world.hasWork(id))) break;
    }

    await sandbox.clearFaults();
    await sandbox.flush({ batch: 500, order: "shuffle", duplicate: 2, seed: 9 });
    const accepted = (await world.accepted()).counts.by_message;
    await eventually(async () => {
      for (const row of await world.recipients(id)) {
        if (accepted[String(row.message_id)] === 1) expect(row.message_status).toBe("read");
      }
    });
    await world.passWithStatuses(13);

    // Else this test would look at nothing.
    expect(seen.killed).toBeGreaterThan(5);
    expect(seen.redelivered).toBeGreaterThan(3);
    expect(seen.pauses).toBeGreaterThan(1);
    const times = await world.acceptedByPerson();
    expect([...times].filter(([, n]) => n > 1)).toEqual([]);
    const rows = await world.recipients(id);
    expect(rows).toHaveLength(RECIPIENTS);
    const got = people.filter(({ digits }) => times.has(digits)).map(({ id }) => id);
    const byStatus = Map.groupBy(rows, (row) => `${row.state} ${row.message_status}`);
    expect([...byStatus.keys()].toSorted()).toEqual(["taken failed", "taken read"]);
    // Whoever got it is known as sent; whoever did not is failed, with a reason that says so.
    expect(
      byStatus
        .get("taken read")
        ?.map((row) => row.contact_id)
        .toSorted(),
    ).toEqual(got.toSorted());
    for (const row of byStatus.get("taken failed") ?? []) {
      expect(["outcome_unknown", "131026", "131000", "131016", "130429", "2"]).toContain(String(codeOf(row)));
    }
    expect(got.length).toBeGreaterThan(RECIPIENTS * 0.9);
    const shown = await world.shown(id);
    expect(shown).toMatchObject({ status: "completed", total_contacts: RECIPIENTS, pending_count: 0 });
    await world.expectCountsOfRows(id);

    // The failed ones once more: they alone, and those nobody knows of not.
    const unknown = rows.filter((row) => codeOf(row) === "outcome_unknown").length;
    await world.verb(id, "retry-failed");
    await world.drain(10);
    await sandbox.flush({ batch: 500 });
    const after = await world.acceptedByPerson();
    expect([...after].filter(([, n]) => n > 1)).toEqual([]);
    expect(after.size).toBe(RECIPIENTS - unknown);
    expect(await world.row(id)).toMatchObject({ status: "completed", failed_count: unknown });
  });
});
