import { createMessageBatch } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { consume } from "../src/consumer";
import { type Crash, type CrashingRun, crashingRun } from "./support/crash";
import { eventually, fireCron } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { newPerson, type Waiting, World } from "./support/world";

// A second each, alone; several on a machine that runs other tests as well.
vi.setConfig({ testTimeout: 30_000 });

/** Dozens of runs, each of a second. */
const LONG = { timeout: 180_000 };

let world: World;

beforeEach(async () => {
  world = await World.create();
});

afterEach(async () => {
  await world.retire();
});

/** Runs a scenario with a crash before and after its every effect, until a run gets through. */
async function everyCrash(scenario: (crash: Crash) => Promise<CrashingRun>): Promise<number> {
  let runs = 0;
  for (const when of ["before", "after"] as const) {
    for (let at = 0; ; at += 1) {
      const run = await scenario({ at, when });
      runs += 1;
      if (!run.crashed()) break;
      if (at > 200) throw new Error("The scenario never ends");
    }
  }
  return runs;
}

/** The consumer gets the batch and dies with it: nothing of it is acknowledged. */
async function consumeAndDie(batch: readonly Waiting[], crash: Crash): Promise<CrashingRun> {
  const run = crashingRun(world.env, crash);
  const messages = batch.map((message, n) => ({
    id: `c${n}`,
    timestamp: new Date(world.now),
    attempts: message.attempts,
    body: message.body,
  }));
  await consume(createMessageBatch("outbound", messages), run.env, { clock: world.clock, fetch: run.fetch });
  return run;
}

/** Sends three texts to Ana and two to Ben, and says who got what. */
async function acceptFive() {
  const ana = newPerson();
  const ben = newPerson();
  const ids: string[] = [];
  for (const [to, text] of [
    [ana, "a1"],
    [ben, "b1"],
    [ana, "a2"],
    [ben, "b2"],
    [ana, "a3"],
  ] as const) {
    ids.push((await world.accept(to, text)).id);
  }
  return { ana, ben, ids };
}

async function rowsOf(ids: readonly string[]) {
  return (await world.messages()).filter((row) => ids.includes(String(row.id)));
}

function codeOf(row: Record<string, unknown>): unknown {
  return row.error === null ? null : (JSON.parse(String(row.error)) as { code?: unknown }).code;
}

/**
 * After a crash: the queue delivers again, the sweeps run past the leases, statuses come late, and at last the clock of
 * what nobody told ends. Checks the promise at every stage.
 */
async function recoverAndCheck(sent: { ana: string; ben: string; ids: string[] }, again: readonly Waiting[]) {
  await world.deliver(again.map((message) => ({ ...message, attempts: 2 })));
  await world.drain();
  const { counts } = await world.accepted();
  const times = (id: unknown) => counts.by_message[String(id)] ?? 0;
  // No status has come yet: what was called, and of which nobody knows, waits visibly and is not sent again.
  for (const row of await rowsOf(sent.ids)) {
    expect(times(row.id)).toBeLessThanOrEqual(1);
    expect(row.status === "sent" || (row.status === "sending" && row.ambiguous_at !== null)).toBe(true);
    if (row.status === "sent") expect(times(row.id)).toBe(1);
  }
  // Their statuses come, late: whatever was accepted is known then.
  await sandbox.flush({ batch: 100 });
  await eventually(async () => {
    for (const row of await rowsOf(sent.ids)) if (times(row.id) === 1) expect(row.status).toBe("read");
  });
  // Of the others no status ever comes, though those of other messages do.
  await world.passWithStatuses(12);
  for (const row of await rowsOf(sent.ids)) {
    if (times(row.id) === 1) continue;
    expect(row).toMatchObject({ status: "failed", open: null, ambiguous_at: null });
    expect(codeOf(row)).toBe("outcome_unknown");
  }
  await world.expectNoneTwice();
  const inOrder = (texts: string[]) => expect(texts).toEqual([...texts].sort());
  inOrder(await world.receivedBy(sent.ana));
  inOrder(await world.receivedBy(sent.ben));
}

describe("a crash between every two steps of sending", () => {
  it("of the consumer: nothing is accepted twice, nothing is missing but what was in flight", LONG, async () => {
    const unknown: number[] = [];
    const runs = await everyCrash(async (crash) => {
      const sent = await acceptFive();
      const batch = world.take();
      expect(batch).toHaveLength(5);
      const run = await consumeAndDie(batch, crash);
      await recoverAndCheck(sent, run.crashed() ? batch : []);
      const lost = (await rowsOf(sent.ids)).filter((row) => row.status === "failed").length;
      // A wave holds one message of each conversation: no more than these were in flight.
      expect(lost).toBeLessThanOrEqual(2);
      if (!run.crashed()) expect(lost).toBe(0);
      unknown.push(lost);
      await world.retire();
      return run;
    });
    expect(runs).toBeGreaterThan(20);
    // Some crash did meet a call before it arrived: else this test would look at nothing.
    expect(unknown.some((n) => n > 0)).toBe(true);
  });

  it(
    "of the API: a caller who repeats the call with its key sends one message, one who does not at most one",
    LONG,
    async () => {
      for (const repeats of [true, false]) {
        await everyCrash(async (crash) => {
          const to = newPerson();
          const run = crashingRun(world.env, crash);
          const body = {
            workspace_id: world.workspace.workspaceId,
            phone_number_id: world.number.id,
            to,
            text: "once",
          };
          const headers = { "Idempotency-Key": `key-${to}` };
          const answer = await world.call("POST", "/api/messages/send/text", body, headers, run.env);
          if (!run.crashed()) expect(answer.status).toBe(201);
          if (repeats) expect((await world.call("POST", "/api/messages/send/text", body, headers)).status).toBe(201);
          world.now = Math.max(world.now, Date.now());
          const mine = (await world.messages()).filter((row) => row.to_number === to);
          expect(mine.length).toBeLessThanOrEqual(1);
          if (repeats || !run.crashed()) expect(mine).toHaveLength(1);
          await world.drain();
          // What is stored is a promise, whether or not its caller ever heard of it.
          expect(await world.receivedBy(to)).toEqual(mine.map(() => "once"));
          return run;
        });
      }
      await world.expectNoneTwice();
    },
  );

  it("of the sweep: the next one finishes what it left", LONG, async () => {
    await everyCrash(async (crash) => {
      const [ana, ben, cleo, dora] = [newPerson(), newPerson(), newPerson(), newPerson()];
      // Ana's were called by a consumer that died before it stored anything; Ben's were claimed and not called yet.
      const called = await world.accept(ana, "a1");
      const behind = await world.accept(ana, "a2");
      await consumeAndDie(world.take(), { at: "fetch", when: "after" });
      const claimed = await world.accept(ben, "b1");
      await consumeAndDie(world.take(), { at: "SENDER_GATE.begin", when: "before" });
      // Cleo's job was lost, Dora's was planned and its job was lost.
      const lost = await world.accept(cleo, "c1");
      const planned = await world.accept(dora, "d1", { scheduledAt: world.now + 30_000 });
      world.waiting = [];
      world.now += 3 * 60_000;
      const run = crashingRun(world.env, crash);
      const fired = fireCron("* * * * *", world.now, { env: run.env });
      await fired.catch(() => undefined);
      await world.drain();
      for (const [to, texts] of [
        [ana, ["a1", "a2"]],
        [ben, ["b1"]],
        [cleo, ["c1"]],
        [dora, ["d1"]],
      ] as const) {
        expect(await world.receivedBy(to)).toEqual(texts);
      }
      expect(await world.message(called.id)).toMatchObject({ status: "sending", open: null });
      for (const { id } of [behind, claimed, lost, planned])
        expect(await world.message(id)).toMatchObject({ status: "sent" });
      await world.expectNoneTwice();
      await world.retire();
      return run;
    });
  });
});
