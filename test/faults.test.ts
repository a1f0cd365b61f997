import { afterEach, describe, expect, it, vi } from "vitest";
import { eventually } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { newPerson, World } from "./support/world";

// A second each, alone; several on a machine that runs other tests as well.
vi.setConfig({ testTimeout: 30_000 });

const MESSAGES = 500;
const PEOPLE = 50;

let world: World;

afterEach(async () => {
  await sandbox.reset();
  await world.retire();
});

function errorCode(row: Record<string, unknown>): unknown {
  return row.error === null ? null : (JSON.parse(String(row.error)) as { code: unknown }).code;
}

describe("500 messages through a provider that fails three calls in ten", () => {
  it("all end sent or rightly failed, none twice, in the order of their conversations", {
    timeout: 60_000,
  }, async () => {
    world = await World.create({ settings: { providerTimeout: 100 } });
    const phone = { phone_number_id: world.number.providerNumberId };
    // Seeds, so that a run that fails can be run again. Together they hit 30 % of the calls.
    await sandbox.faults(
      { kind: "rate_limit", retry_after: 1, rate: 0.04, seed: 1, ...phone },
      { kind: "error", code: 131000, rate: 0.08, seed: 2, ...phone },
      { kind: "error", code: 131016, rate: 0.05, seed: 3, ...phone },
      { kind: "reset", rate: 0.05, seed: 4, ...phone },
      { kind: "timeout", ms: 300, rate: 0.03, seed: 5, ...phone },
      { kind: "drop_after_accept", rate: 0.05, seed: 6, ...phone },
      { kind: "error", code: 131026, rate: 0.02, seed: 7, ...phone },
    );
    const people = Array.from({ length: PEOPLE }, newPerson);
    const ids: string[] = [];
    for (let n = 0; n < MESSAGES; n += PEOPLE) {
      const accepted = await Promise.all(people.map((to) => world.accept(to, String(n).padStart(3, "0"))));
      ids.push(...accepted.map(({ id }) => id));
    }
    await world.drain(60);

    const before = await world.messages();
    expect(before).toHaveLength(MESSAGES);
    expect(before.filter((row) => row.open !== null)).toEqual([]);
    await world.expectNoneTwice();
    await sandbox.clearFaults();
    await sandbox.flush({ batch: 500 });
    const { counts, data } = await world.accepted();
    const arrived = (row: Record<string, unknown>) => counts.by_message[String(row.id)] === 1;
    await eventually(async () => {
      for (const row of await world.messages()) if (arrived(row)) expect(row.status).toBe("read");
    });
    await world.passWithStatuses(12);

    const rows = await world.messages();
    const { faults } = await sandbox.stats();
    for (const row of rows) {
      expect(row).toMatchObject({ open: null, ambiguous_at: null, claim: null, lease_until: null });
      if (arrived(row)) expect(row).toMatchObject({ status: "read", error: null });
      else expect(row.status).toBe("failed");
    }
    const failed = Object.groupBy(
      rows.filter((row) => row.status === "failed"),
      (row) => String(errorCode(row)),
    );
    // Lost on the way and never heard of again; refused for good; and nothing else but what failed eight times.
    expect(failed.outcome_unknown?.length).toBe((faults.reset ?? 0) + (faults.timeout ?? 0));
    for (const code of Object.keys(failed))
      expect(["outcome_unknown", "131026", "131000", "131016", "130429"]).toContain(code);
    expect(failed["131026"]?.length).toBeGreaterThan(0);
    for (const row of [...(failed["131000"] ?? []), ...(failed["131016"] ?? []), ...(failed["130429"] ?? [])]) {
      expect(row.failures).toBe(7);
    }
    for (const kind of ["rate_limit", "error", "reset", "timeout", "drop_after_accept"])
      expect(faults[kind]).toBeGreaterThan(0);
    const hit = Object.values(faults).reduce((sum, n) => sum + n, 0);
    expect(hit / world.calls.length).toBeGreaterThan(0.2);

    expect(data.length).toBeGreaterThan(MESSAGES * 0.8);
    for (const to of people) {
      const texts = await world.receivedBy(to);
      expect(texts).toEqual(texts.toSorted());
    }
    expect(new Set(ids).size).toBe(MESSAGES);
  });
});
