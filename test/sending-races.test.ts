import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { registerNumber } from "./support/numbers";
import { eventually } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { newPerson, type Waiting, World } from "./support/world";

// A second each, alone; several on a machine that runs other tests as well.
vi.setConfig({ testTimeout: 30_000 });

const MINUTE = 60_000;

let world: World;

beforeEach(async () => {
  await sandbox.reset();
  world = await World.create();
});

afterEach(async () => {
  await world.retire();
});

function shuffled<T>(list: readonly T[]): T[] {
  return list
    .map((item) => ({ item, place: Math.random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}

/** A number fast enough that its own limit does not order what should race. */
async function unlimited(): Promise<void> {
  await world.database.prepare("UPDATE phone_numbers SET tier = 'HIGH' WHERE id = ?1").bind(world.number.id).run();
}

/** `per` messages to each of `people` persons, interleaved; what each must get, in order. */
async function acceptMany(people: number, per: number): Promise<Map<string, string[]>> {
  const wanted = new Map(Array.from({ length: people }, () => [newPerson(), [] as string[]]));
  for (let n = 0; n < per; n += 1) {
    for (const [to, texts] of wanted) {
      texts.push(`${n}`);
      await world.accept(to, `${n}`);
    }
  }
  return wanted;
}

async function expectDelivered(wanted: Map<string, string[]>): Promise<void> {
  await world.expectNoneTwice();
  for (const [to, texts] of wanted) expect(await world.receivedBy(to)).toEqual(texts);
}

describe("eight consumers at once", () => {
  it.each([1, 2])(
    "over shuffled and doubled batches (delivered for the %i. time), sweeps at the same time",
    async (attempts) => {
      await unlimited();
      const wanted = await acceptMany(12, 5);
      const jobs = world.take().map((job) => ({ ...job, attempts }));
      expect(jobs).toHaveLength(60);
      await Promise.all([
        ...Array.from({ length: 8 }, (_, n) =>
          world.deliver(shuffled([...jobs, ...jobs.slice(n, n + 20)]), { size: 40 }),
        ),
        world.sweep(),
        world.sweep(),
      ]);
      await world.drain();
      await expectDelivered(wanted);
      for (const row of await world.messages()) expect(row).toMatchObject({ status: "sent", open: null, claim: null });
    },
  );

  it("of a number at its own limit", async () => {
    const wanted = await acceptMany(10, 4);
    const jobs = world.take();
    await Promise.all(Array.from({ length: 8 }, () => world.deliver(shuffled(jobs), { size: 15 })));
    await world.drain();
    await expectDelivered(wanted);
  });

  it("while their statuses arrive, doubled and shuffled: nothing goes back", async () => {
    await unlimited();
    const wanted = await acceptMany(8, 3);
    const jobs = world.take();
    const racing = Promise.all(Array.from({ length: 8 }, () => world.deliver(shuffled(jobs), { size: 10 })));
    for (let n = 0; n < 5; n += 1) await sandbox.flush({ order: "shuffle", duplicate: 2, batch: 7, concurrency: 4 });
    await racing;
    await world.drain();
    await sandbox.flush({ order: "reverse", batch: 20 });
    await expectDelivered(wanted);
    await eventually(async () => {
      for (const row of await world.messages()) {
        expect(row).toMatchObject({ status: "read", open: null, claim: null, wa_message_id: expect.any(String) });
        expect([row.sent_at, row.delivered_at, row.read_at]).not.toContain(null);
      }
    });
  });

  it("some of which lose their provider's answers", async () => {
    await unlimited();
    await sandbox.faults(
      { kind: "drop_after_accept", rate: 0.3 },
      { kind: "error", code: 131000, rate: 0.2, count: 20 },
    );
    const wanted = await acceptMany(10, 4);
    const jobs = world.take();
    await Promise.all(Array.from({ length: 8 }, () => world.deliver(shuffled(jobs), { size: 20 })));
    await world.drain();
    await expectDelivered(wanted);
    await sandbox.flush({ batch: 100 });
    await eventually(async () => {
      for (const row of await world.messages()) expect(row.status).toBe("read");
    });
  });
});

describe("sweeps", () => {
  it("at once send nothing twice and lose nothing", async () => {
    const wanted = await acceptMany(10, 3);
    world.waiting = [];
    world.now += 3 * MINUTE;
    await Promise.all(Array.from({ length: 4 }, () => world.sweep()));
    // Only whose turn it is: one of each conversation, and twice at the most.
    expect(world.waiting.length).toBeGreaterThanOrEqual(10);
    expect(world.waiting.length).toBeLessThanOrEqual(20);
    await Promise.all([world.deliver(shuffled(world.take())), world.sweep(), world.sweep()]);
    await world.drain();
    await expectDelivered(wanted);
  });

  it("do not enqueue a backlog again every minute", async () => {
    await acceptMany(5, 1);
    world.waiting = [];
    world.now += 2 * MINUTE;
    await world.sweep();
    expect(world.waiting).toHaveLength(5);
    world.now += 30_000;
    await world.sweep();
    expect(world.waiting).toHaveLength(5);
  });

  it("bring a lost message however many wait that cannot go: of a suspended workspace, of a blocked number", async () => {
    const suspended = await World.create();
    const blocked = await World.create();
    for (const other of [suspended, blocked]) await seedWaiting(other, 600);
    await suspended.database
      .prepare("UPDATE workspace_states SET status = 'suspended' WHERE workspace_id = ?1")
      .bind(suspended.workspace.workspaceId)
      .run();
    await blocked.database
      .prepare("UPDATE phone_numbers SET blocked_reason = 'Account locked' WHERE id = ?1")
      .bind(blocked.number.id)
      .run();
    const late = await World.create();
    const { id } = await late.accept(newPerson(), "lost");
    late.waiting = [];
    late.now += 2 * MINUTE;
    await late.sweep();
    const found = late.waiting.map((message) => message.body as { id: string; workspaceId: string });
    expect(found.map((job) => job.id)).toContain(id);
    expect(found.filter((job) => job.workspaceId === suspended.workspace.workspaceId)).toEqual([]);
    const probes = found.filter((job) => job.workspaceId === blocked.workspace.workspaceId);
    expect(probes.length).toBeGreaterThan(0);
    expect(probes.length).toBeLessThanOrEqual(5);
    for (const other of [suspended, blocked, late]) await other.retire();
  });

  it("go on although one number's gate does not answer", async () => {
    const broken = await registerNumber(world.workspace);
    const [ana, ben, cleo] = [newPerson(), newPerson(), newPerson()];
    const stuck = await world.accept(ana, "a1", { phoneNumberId: broken.id });
    const claimed = await world.accept(ben, "b1");
    await leaveClaimed([stuck.id, claimed.id]);
    const lost = await world.accept(cleo, "c1");
    world.waiting = [];
    world.now += 3 * MINUTE;
    const gates = withGate(broken.id, { journaled: () => Promise.reject(new Error("down")) });
    await world.sweep(gates);
    expect(world.waiting.map((message) => (message.body as { id: string }).id).toSorted()).toEqual(
      [claimed.id, lost.id].toSorted(),
    );
    await world.drain();
    for (const to of [ana, ben, cleo])
      expect(await world.receivedBy(to).then((texts) => texts.length)).toBe(to === ana ? 0 : 1);
    expect((await sandbox.accepted({ phone_number_id: broken.providerNumberId })).total).toBe(1);
  });

  it("take claims older than the journal for called: better unknown than twice", async () => {
    const { id } = await world.accept(newPerson(), "old");
    await leaveClaimed([id]);
    world.now += 6 * 3_600_000;
    await world.sweep();
    expect(await world.message(id)).toMatchObject({ status: "sending", open: null, ambiguous_at: expect.any(Number) });
  });

  it("wake those behind a message whose holder died in its call", async () => {
    const to = newPerson();
    const first = await world.accept(to, "a1");
    await world.accept(to, "a2");
    const gate = env.SENDER_GATE.getByName(`${world.workspace.workspaceId}:${world.number.id}`);
    await leaveClaimed([first.id]);
    await gate.begin([`${first.id}.1`], world.now);
    world.waiting = [];
    world.now += 2 * MINUTE;
    await world.sweep();
    await world.deliver(world.take());
    expect(await world.receivedBy(to)).toEqual(["a2"]);
  });
});

/** Messages as a consumer leaves them that dies right after its claim. */
async function leaveClaimed(ids: readonly string[]): Promise<void> {
  await world.database
    .prepare(
      "UPDATE messages SET status = 'sending', claim = 'gone', lease_until = ?2, attempts = attempts + 1 WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(JSON.stringify(ids), world.now + 90_000)
    .run();
}

/** A world's environment in which some calls of one number's gate are answered by the test. */
function withGate(numberId: string, answers: Record<string, (...args: never[]) => Promise<unknown>>): Env {
  return {
    ...world.env,
    SENDER_GATE: {
      getByName: (name: string) => {
        const gate = world.env.SENDER_GATE.getByName(name) as unknown as Record<string, (...args: never[]) => unknown>;
        if (!name.endsWith(numberId)) return gate;
        return new Proxy(gate, {
          get: (_target, method) =>
            typeof method === "string" && answers[method]
              ? answers[method]
              : (...args: never[]) => gate[String(method)]?.(...args),
        });
      },
    },
  } as unknown as Env;
}

/** Old queued messages in as many conversations, whose jobs were lost. */
async function seedWaiting(other: World, count: number): Promise<void> {
  const ids = Array.from({ length: count }, () => other.runtime.newId());
  await other.database
    .prepare(
      `INSERT INTO messages (workspace_id, id, phone_number_id, conversation_id, contact_id, direction, origin, type, content, status, to_number,
         lane, open, seq, not_before, expires_at, attempts, failures, at, received_at, position, created_at)
       SELECT ?2, j.value, ?3, 'c' || j.key, 'p' || j.key, 'outbound', 'api', 'text', '{"body":"old"}', 'queued', '+12025550000',
         'chat', 1, ?4, ?4, ?4 + 86400000, 0, 0, ?4, ?4, 0, ?4 FROM json_each(?1) j`,
    )
    .bind(JSON.stringify(ids), other.workspace.workspaceId, other.number.id, other.now - 10 * MINUTE)
    .run();
}

describe("a consumer that is slower than its lease", () => {
  /** Runs `meanwhile` after the provider has answered the first call, and before the consumer hears of it. */
  async function slowCall(meanwhile: () => Promise<void>): Promise<void> {
    let first = true;
    world.onCall = async (go) => {
      if (!first) return go();
      first = false;
      const answer = await go().catch((error: unknown) => error);
      await meanwhile();
      if (answer instanceof Response) return answer;
      throw answer;
    };
    await world.deliver(world.take());
  }

  it("and whose message the sweep gave up: its answer counts, and nobody else sends it", async () => {
    const to = newPerson();
    const { id } = await world.accept(to, "slow");
    const jobs = [...world.waiting];
    await slowCall(async () => {
      world.now += 2 * MINUTE;
      await world.sweep();
      expect(await world.message(id)).toMatchObject({ status: "sending", ambiguous_at: expect.any(Number) });
      await world.deliver([...world.take(), ...jobs]);
    });
    expect(await world.message(id)).toMatchObject({ status: "sent", ambiguous_at: null, open: null });
    await world.drain();
    expect(await world.receivedBy(to)).toEqual(["slow"]);
  });

  it("and that was refused: the refusal is known, not guessed at", async () => {
    const [ana, ben] = [newPerson(), newPerson()];
    await sandbox.faults({ kind: "error", code: 131026, to: ana.slice(1) });
    const { id } = await world.accept(ana, "no");
    await slowCall(async () => {
      world.now += 2 * MINUTE;
      await world.sweep();
    });
    const row = await world.message(id);
    expect(row).toMatchObject({ status: "failed", ambiguous_at: null });
    expect(JSON.parse(String(row.error))).toMatchObject({ code: 131026 });
    await sandbox.faults({ kind: "error", code: 131000, to: ben.slice(1), count: 1 });
    await world.accept(ben, "again");
    await slowCall(async () => {
      world.now += 2 * MINUTE;
      await world.sweep();
    });
    await world.drain();
    expect(await world.receivedBy(ben)).toEqual(["again"]);
    expect((await world.messages()).at(-1)).toMatchObject({ status: "sent", attempts: 2, ambiguous_at: null });
  });

  it("before its call: it makes none, whoever holds the message now", async () => {
    const to = newPerson();
    await world.accept(to, "once");
    const batch = world.take();
    const slow = withGate(world.number.id, {
      begin: async () => {
        // Its note in the journal is lost on the way; the sweep finds the claim never called, and another one sends it.
        world.now += 2 * MINUTE;
        await world.sweep();
        await world.deliver(world.take());
        expect(await world.receivedBy(to)).toEqual(["once"]);
      },
    });
    await world.deliver(batch, { env: slow });
    await world.drain();
    expect(await world.receivedBy(to)).toEqual(["once"]);
    expect((await world.messages())[0]).toMatchObject({ status: "sent", attempts: 2 });
  });

  it("with calls left when its time is over: the rest goes with the next batch", async () => {
    const to = newPerson();
    for (let n = 0; n < 20; n += 1) await world.accept(to, `${n}`);
    world.onCall = (go) => {
      world.now += 14_000;
      return go();
    };
    await world.deliver(world.take());
    // 90 s of lease, less twice the time-out: what would have begun later did not.
    expect(world.calls.length).toBeLessThanOrEqual(7);
    const rows = await world.messages();
    expect(rows.filter((row) => row.status === "sending")).toEqual([]);
    world.onCall = (go) => go();
    await world.drain();
    expect(await world.receivedBy(to)).toEqual(Array.from({ length: 20 }, (_, n) => `${n}`));
    expect(world.waiting).toEqual([]);
  });
});

describe("a status that is faster than the answer", () => {
  it("is not lowered by it, and its message is not sent again", async () => {
    const to = newPerson();
    const { id } = await world.accept(to, "fast");
    const jobs = [...world.waiting];
    world.onCall = async (go) => {
      const answer = await go();
      await sandbox.flush();
      await eventually(async () => expect(await world.message(id)).toMatchObject({ status: "read", open: null }));
      await world.deliver(jobs);
      return answer;
    };
    await world.deliver(world.take());
    const row = await world.message(id);
    expect(row).toMatchObject({ status: "read", open: null, claim: null, wa_message_id: expect.any(String) });
    expect(world.calls).toEqual(["fast"]);
  });

  it("settles a message that waits for its next attempt, and those behind it go on", async () => {
    const to = newPerson();
    const first = await world.accept(to, "a1");
    await world.accept(to, "a2");
    // Meta says 500 although it took the message.
    world.onCall = async (go, text) => {
      const answer = await go();
      if (text !== "a1") return answer;
      return Response.json({ error: { code: 131000, message: "(#131000) Something went wrong" } }, { status: 500 });
    };
    await world.deliver(world.take());
    expect(await world.message(first.id)).toMatchObject({ status: "queued", failures: 1 });
    await sandbox.flush();
    await eventually(async () => expect(await world.message(first.id)).toMatchObject({ status: "read", open: null }));
    await world.drain();
    expect(await world.receivedBy(to)).toEqual(["a1", "a2"]);
  });
});

describe("what does not answer", () => {
  it("takes nothing with it: the journal of one number", async () => {
    const broken = await registerNumber(world.workspace);
    const [ana, ben] = [newPerson(), newPerson()];
    for (const text of ["a1", "a2"]) await world.accept(ana, text, { phoneNumberId: broken.id });
    for (const text of ["b1", "b2"]) await world.accept(ben, text);
    let times = 0;
    const gates = withGate(broken.id, {
      begin: () => {
        times += 1;
        return Promise.reject(new Error("down"));
      },
    });
    await world.deliver(world.take(), { env: gates });
    expect(times).toBe(1);
    expect(await world.receivedBy(ben)).toEqual(["b1", "b2"]);
    const rows = await world.messages();
    expect(rows.map((row) => row.status).toSorted()).toEqual(["queued", "queued", "sent", "sent"]);
    await world.drain();
    expect((await sandbox.accepted({ phone_number_id: broken.providerNumberId })).data.map((m) => m.body.text)).toEqual(
      [{ body: "a1" }, { body: "a2" }],
    );
  });

  it("comes again alone: the gate of one number", async () => {
    const broken = await registerNumber(world.workspace);
    const to = newPerson();
    await world.accept(newPerson(), "waits", { phoneNumberId: broken.id });
    await world.accept(to, "goes");
    await world.deliver(world.take(), {
      env: withGate(broken.id, { reserve: () => Promise.reject(new Error("down")) }),
    });
    expect(await world.receivedBy(to)).toEqual(["goes"]);
    expect(world.waiting).toMatchObject([{ attempts: 2, body: { phoneNumberId: broken.id } }]);
    await world.drain();
    expect((await sandbox.accepted({ phone_number_id: broken.providerNumberId })).total).toBe(1);
  });

  it("is asked again: the database, when results are stored", async () => {
    const to = newPerson();
    await world.accept(to, "a1");
    await world.accept(to, "a2");
    const { id } = await world.accept(newPerson(), "refused");
    await sandbox.faults({ kind: "error", code: 131026, to: String((await world.message(id)).to_number).slice(1) });
    let failures = 0;
    await world.deliver(world.take(), {
      env: failingBatches((sql) => {
        if (!/UPDATE OR IGNORE messages/.test(sql) || failures === 2) return false;
        failures += 1;
        return true;
      }),
    });
    expect(failures).toBe(2);
    expect((await world.messages()).map((row) => row.status)).toEqual(["sent", "sent", "failed"]);
    expect(world.calls).toHaveLength(3);
  });

  it("leaves messages to their statuses: the database, for good", async () => {
    const { id } = await world.accept(newPerson(), "a1");
    await world.deliver(world.take(), { env: failingBatches((sql) => /UPDATE OR IGNORE messages/.test(sql)) });
    expect(await world.message(id)).toMatchObject({ status: "sending", claim: expect.any(String) });
    await world.drain();
    expect(world.calls).toHaveLength(1);
    await sandbox.flush();
    await eventually(async () => expect(await world.message(id)).toMatchObject({ status: "read" }));
  });

  it("costs its message nothing: a provider's id that another message has already", async () => {
    const [ana, ben] = [newPerson(), newPerson()];
    const first = await world.accept(ana, "a1");
    const second = await world.accept(ben, "b1");
    world.onCall = async (go, text) => {
      const answer = await go();
      if (text !== "a1") return answer;
      const body = (await answer.json()) as { messages: { id: string }[] };
      // The same message has come back as an echo of the phone's own app.
      await world.database
        .prepare("UPDATE messages SET wa_message_id = ?2 WHERE id = ?1")
        .bind(echo.id, body.messages[0]?.id)
        .run();
      return Response.json(body);
    };
    const echo = await world.accept(ana, "echo", { scheduledAt: world.now + 86_400_000 });
    await world.deliver(world.take());
    for (const { id } of [first, second]) expect(await world.message(id)).toMatchObject({ status: "sent", open: null });
    expect(await world.message(second.id)).toMatchObject({ wa_message_id: expect.any(String) });
  });

  it("keeps no result from being stored: the queue, the hub, the merge queue", async () => {
    const to = newPerson();
    for (const text of ["a1", "a2"]) await world.accept(to, text);
    const down = () => Promise.reject(new Error("down"));
    const broken = {
      ...world.env,
      OUTBOUND: { send: down, sendBatch: down },
      BULK: { send: down, sendBatch: down },
      WORKSPACE_HUB: { getByName: () => ({ publish: down }) },
    } as unknown as Env;
    await world.deliver(world.take(), { env: broken });
    expect((await world.messages()).map((row) => row.status)).toEqual(["sent", "sent"]);
    expect(world.waiting).toEqual([]);
  });
});

/** A world's environment whose shard refuses the batches that `fails` picks by their first statement. */
function failingBatches(fails: (sql: string) => boolean): Env {
  const shard = world.env.SHARD_0;
  return {
    ...world.env,
    SHARD_0: {
      withSession: (start?: string) => {
        const session = shard.withSession(start);
        const first: string[] = [];
        return {
          prepare: (sql: string) => {
            first.push(sql);
            return session.prepare(sql);
          },
          getBookmark: () => session.getBookmark(),
          batch: (statements: D1PreparedStatement[]) => {
            const [sql = ""] = first.splice(0);
            return fails(sql)
              ? Promise.reject(new Error("D1_ERROR: Network connection lost."))
              : session.batch(statements);
          },
        };
      },
    },
  } as unknown as Env;
}

describe("a cancellation", () => {
  it("and the consumer: either it was cancelled and not sent, or it was sent and the answer is 409", async () => {
    const outcomes = new Set<number>();
    for (let n = 0; n < 12; n += 1) {
      const to = newPerson();
      const { id } = await world.accept(to, "planned", { scheduledAt: world.now + 1000 });
      world.now += 1000;
      const jobs: Waiting[] = world.take();
      const cancel = () => world.call("DELETE", `/api/messages/${id}`);
      const racing = n % 2 === 0 ? [cancel(), world.deliver(jobs)] : [world.deliver(jobs), cancel()];
      const answers = await Promise.all(racing);
      const status = answers.find((answer) => answer instanceof Response)?.status ?? 0;
      outcomes.add(status);
      await world.drain(1);
      const sent = await world.receivedBy(to);
      if (status === 204) {
        expect(sent).toEqual([]);
        expect(await world.message(id)).toMatchObject({ status: "cancelled", open: null });
      } else {
        expect(status).toBe(409);
        expect(sent).toEqual(["planned"]);
      }
    }
    expect([...outcomes].every((status) => status === 204 || status === 409)).toBe(true);
  });
});
