import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { consume } from "../src/consumer";
import { newUuid } from "../src/platform/ids";
import { newWorkspace } from "./support/identity";
import {
  about,
  ago,
  changedNumber,
  digits,
  expectExactCounts,
  inboxOf,
  jobOf,
  message,
  receive,
  runMerges,
  says,
  shuffled,
  status,
  wamid,
} from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, heldQueues, messageRow, sendJob, untilStatus } from "./support/pipeline";

async function ready(shard = 0) {
  const workspace = await newWorkspace({ shard });
  const number = await registerNumber(workspace);
  const { env: held, held: queues } = heldQueues();
  return { workspace, number, inbox: inboxOf(workspace.workspaceId), held, queues };
}

/** Lets the consumers of a race settle; a batch that must come again does, as the queue would bring it. */
async function settleAll(batches: readonly (readonly object[])[], held: Env, attempts: number[] = []): Promise<void> {
  const outcomes = await Promise.all(
    batches.map((bodies, place) =>
      deliver(
        "inbound",
        bodies.map((body) => jobOf(body)),
        { env: held, attempts: attempts[place] ?? 1 },
      ),
    ),
  );
  for (const [place, outcome] of outcomes.entries()) {
    if (outcome.retryMessages.length > 0 || outcome.retryBatch.retry) {
      await receive(batches[place] ?? [], { env: held, attempts: 2 });
    }
  }
}

/** An environment in which something else happens after the n-th round trip to a shard. */
function interrupted(base: Env, after: number, happening: () => Promise<unknown>): Env {
  let trips = 0;
  const target = base.SHARD_0;
  const shard = {
    withSession: (start: string) => {
      const session = target.withSession(start);
      return {
        prepare: (sql: string) => session.prepare(sql),
        getBookmark: () => session.getBookmark(),
        batch: async (statements: D1PreparedStatement[]) => {
          const results = await session.batch(statements);
          trips += 1;
          if (trips === after) await happening();
          return results;
        },
      };
    },
  };
  return { ...base, SHARD_0: shard } as unknown as Env;
}

/** A database that answers nothing but this. */
function failing(message: string): D1Database {
  const fail = () => Promise.reject(new Error(message));
  const statement = { bind: () => statement, all: fail, run: fail, raw: fail, first: fail };
  const session = { prepare: () => statement, batch: fail, getBookmark: () => null };
  return { withSession: () => session } as unknown as D1Database;
}

describe("eight consumers at once", () => {
  it("over shuffled, doubled batches, some of them for the second time: each message once, every count exact", async () => {
    for (const seed of [1, 2, 3]) {
      const { workspace, number, inbox, held, queues } = await ready();
      const people = Array.from({ length: 5 }, digits);
      const sent = await Promise.all(
        people.map(async (wa) => {
          const body = { phone_number_id: number.id, to: `+${wa}`, text: "Hello" };
          const response = await workspace.call("POST", "/api/messages/send/text", body);
          const { id } = await response.json<{ id: string }>();
          const row = await untilStatus(id, workspace.workspaceId, "sent");
          return { id, wa: String(row.wa_message_id) };
        }),
      );
      const target = `wamid.race.${seed}.0.0`;
      const bodies = [
        ...people.flatMap((wa, n) =>
          [0, 1, 2, 3].map((k) =>
            says(number, k % 2 ? { wa, user: `US.${wa}` } : { wa }, {
              id: `wamid.race.${seed}.${n}.${k}`,
              at: ago(60 - k),
            }),
          ),
        ),
        ...sent.flatMap(({ id, wa }) =>
          ["sent", "delivered", "read"].map((name, k) =>
            about(number, { statuses: [status(wa, name, { callback: `${id}.1`, at: ago(30 - k) })] }),
          ),
        ),
        about(number, {
          messages: [message({ wa: people[0] }, { type: "reaction", reaction: { message_id: target, emoji: "👍" } })],
        }),
        about(number, { unheard_of: seed }, "a_field_of_next_year"),
      ];
      const batches = Array.from({ length: 8 }, (_, n) => shuffled([...bodies, ...bodies], seed * 10 + n));
      await settleAll(batches, held, [1, 2, 1, 2, 1, 2, 1, 2]);
      await runMerges(queues);
      const messages = await inbox.messages();
      expect(messages.filter((m) => m.direction === "inbound")).toHaveLength(20);
      for (const { id } of sent) {
        expect(await messageRow(id, workspace.workspaceId)).toMatchObject({ status: "read", read_at: ago(28) });
      }
      expect(await inbox.contacts()).toHaveLength(5);
      expect(await inbox.conversations()).toHaveLength(5);
      expect((await inbox.conversations()).map((v) => [v.message_count, v.unread_count])).toEqual(
        Array(5).fill([5, 4]),
      );
      expect(await inbox.references()).toHaveLength(1);
      expect(await inbox.events()).toHaveLength(1);
      await expectExactCounts(workspace.workspaceId);
    }
  });

  it("that meet the same new people under different names end with one contact each", async () => {
    for (const seed of [1, 2, 3, 4]) {
      const { workspace, number, inbox, held, queues } = await ready();
      const people = Array.from({ length: 4 }, () => ({ wa: digits(), user: `US.${newUuid().replaceAll("-", "")}` }));
      const bodies = people.flatMap(({ wa, user }) => [
        says(number, { wa }, { id: `wamid.a.${wa}`, at: ago(9) }),
        says(number, { user }, { id: `wamid.b.${wa}`, at: ago(8) }),
        says(number, { wa, user }, { id: `wamid.c.${wa}`, at: ago(7) }),
      ]);
      // Each batch by itself, all at once: they read before any of them has written.
      await settleAll(
        shuffled(bodies, seed).map((body) => [body]),
        held,
      );
      await runMerges(queues);
      expect(await inbox.contacts()).toHaveLength(4);
      expect((await inbox.conversations()).map((v) => [v.message_count, v.unread_count])).toEqual(
        Array(4).fill([3, 3]),
      );
      await expectExactCounts(workspace.workspaceId);
    }
  });
});

describe("between what a batch reads and what it writes", () => {
  it("somebody else may make the same person, by any of their names", async () => {
    const { workspace, number, inbox, held, queues } = await ready();
    const [wa, user] = [digits(), `US.${newUuid().replaceAll("-", "")}`];
    const meanwhile = interrupted(held, 1, async () => {
      await receive([says(number, { wa }, { id: "wamid.m1", at: ago(5) })], { env: held });
      await receive([says(number, { user }, { id: "wamid.m2", at: ago(4) })], { env: held });
    });
    await receive([says(number, { wa, user }, { id: "wamid.m3", at: ago(3) })], { env: meanwhile });
    expect(queues.get("BULK")?.length).toBeGreaterThan(0);
    await runMerges(queues);
    expect(await inbox.contacts()).toMatchObject([{ wa_id: wa, user_id: user }]);
    expect(await inbox.conversations()).toMatchObject([{ message_count: 3, unread_count: 3 }]);
    await expectExactCounts(workspace.workspaceId);
  });

  it("a number may change: the message is not lost, and comes to who sent it", async () => {
    const { workspace, number, inbox, held, queues } = await ready();
    const [old, now] = [digits(), digits()];
    await receive([says(number, { wa: old, name: "Ana" }, { at: ago(60) })], { env: held });
    const late = says(number, { wa: old, name: "Ana" }, { id: "wamid.late", at: ago(55) });
    const meanwhile = interrupted(held, 1, () => receive([changedNumber(number, old, now, ago(50))], { env: held }));
    await settleAll([[late]], meanwhile);
    await runMerges(queues);
    expect(await inbox.contacts()).toMatchObject([{ name: "Ana", wa_id: now }]);
    expect((await inbox.messages()).map((m) => m.wa_message_id)).toContain("wamid.late");
    expect(await inbox.conversations()).toMatchObject([{ message_count: 2 }]);
    await expectExactCounts(workspace.workspaceId);
  });

  it("the sender may be merged away: nothing is left with who is gone", async () => {
    const { workspace, number, inbox, held, queues } = await ready();
    const [wa, user] = [digits(), `US.${newUuid().replaceAll("-", "")}`];
    await receive([says(number, { wa }, { at: ago(60) })], { env: held });
    await receive([says(number, { user }, { at: ago(59) })], { env: held });
    const meanwhile = interrupted(held, 1, async () => {
      await receive([says(number, { wa, user }, { at: ago(40) })], { env: held });
      await runMerges(queues);
    });
    // The batch learns a third name for the contact that is merged away while it works.
    await receive([says(number, { user, parent: `US.ENT.${wa}` }, { id: "wamid.meanwhile", at: ago(50) })], {
      env: meanwhile,
    });
    await runMerges(queues);
    const [person, ...others] = await inbox.contacts();
    expect(others).toEqual([]);
    expect((await inbox.messages()).every((m) => m.contact_id === person?.id)).toBe(true);
    expect((await inbox.identities()).every((i) => i.contact_id === person?.id)).toBe(true);
    expect(await inbox.conversations()).toMatchObject([{ message_count: 4, unread_count: 4 }]);
    await expectExactCounts(workspace.workspaceId);
  });
});

describe("merges", () => {
  it("while messages arrive and leave lose none and cross none", async () => {
    for (const seed of [1, 2, 3]) {
      const { workspace, number, inbox, held, queues } = await ready();
      const [wa, user, stranger] = [digits(), `US.${newUuid().replaceAll("-", "")}`, digits()];
      await receive([says(number, { wa }, { at: ago(90) })], { env: held });
      await receive([says(number, { user }, { at: ago(89) }), says(number, { wa: stranger }, { at: ago(88) })], {
        env: held,
      });
      await receive([says(number, { wa, user }, { at: ago(80) })], { env: held });
      const [job] = (queues.get("BULK") ?? []).splice(0);
      const [thread] = await inbox.conversations();
      const sends = [1, 2, 3].map(async () => {
        const response = await workspace.call("POST", "/api/messages/send/text", {
          conversation_id: thread?.id,
          text: "Meanwhile",
        });
        expect(response.status).toBe(201);
        return response.json<{ id: string }>();
      });
      const bodies = Array.from({ length: 12 }, (_, n) =>
        says(number, n % 3 === 0 ? { wa } : n % 3 === 1 ? { user } : { wa: stranger }, {
          id: `wamid.merge.${seed}.${n}`,
          at: ago(70 - n),
        }),
      );
      await Promise.all([
        deliver("bulk", [job?.body, job?.body], { env: held }),
        settleAll(
          shuffled(bodies, seed).map((body) => [body]),
          held,
        ),
        ...sends,
      ]);
      await runMerges(queues);
      await deliver("bulk", [{ ...(job?.body as object), again: true }], { env: held });
      for (const sent of await Promise.all(sends)) await untilStatus(sent.id, workspace.workspaceId, "sent");
      const contacts = await inbox.contacts();
      expect(contacts).toHaveLength(2);
      const strange = contacts.find((c) => c.wa_id === stranger)?.id;
      const messages = await inbox.messages();
      expect(messages).toHaveLength(4 + 12 + 3);
      for (const m of messages) expect(m.contact_id === strange).toBe(m.from_number === `+${stranger}`);
      expect((await inbox.conversations()).map((v) => v.message_count).sort((a, b) => Number(a) - Number(b))).toEqual([
        5, 14,
      ]);
      await expectExactCounts(workspace.workspaceId);
    }
  });
});

describe("a status that is faster than the result of its send", () => {
  it.each(["delivered", "read", "sent", "failed"])(
    "%s settles the message, and the result that comes later does not undo it",
    async (said) => {
      const { workspace, number, held } = await ready();
      const wa = digits();
      const response = await workspace.call("POST", "/api/messages/send/text", {
        phone_number_id: number.id,
        to: `+${wa}`,
        text: "Quick",
        scheduled_at: new Date(Date.now() + 3_600_000).toISOString(),
      });
      const accepted = await response.json<{ id: string; workspace_id: string; phone_number_id: string }>();
      const id = wamid();
      const later = Date.now() + 3_700_000;
      const errors = said === "failed" ? { errors: [{ code: 131026, title: "Undeliverable" }] } : {};
      const fetched: number[] = [];
      const provider = (async () => {
        fetched.push(1);
        await receive([about(number, { statuses: [status(id, said, { callback: `${accepted.id}.1`, ...errors })] })], {
          env: held,
        });
        return Response.json({
          messaging_product: "whatsapp",
          contacts: [{ input: wa, wa_id: wa }],
          messages: [{ id }],
        });
      }) as typeof fetch;
      await deliver("outbound", [sendJob(accepted)], { env: held, overrides: { clock: () => later, fetch: provider } });
      const row = await messageRow(accepted.id, workspace.workspaceId);
      expect(row).toMatchObject({ status: said, wa_message_id: id, open: null, claim: null });
      await deliver("outbound", [sendJob(accepted)], {
        env: held,
        attempts: 2,
        overrides: { clock: () => later + 200_000, fetch: provider },
      });
      expect(fetched).toHaveLength(1);
    },
  );
});

describe("a part of the world that does not answer", () => {
  it("one shard: what is of it comes again, the rest of the batch is done", async () => {
    const [here, there] = [await ready(0), await ready(1)];
    const jobs = [
      jobOf(says(here.number, { wa: digits() })),
      jobOf(says(there.number, { wa: digits() })),
      jobOf(says(here.number, { wa: digits() })),
    ];
    for (const reason of ["D1_ERROR: Network connection lost.", "D1 DB is overloaded. Requests queued for too long."]) {
      const broken = { ...here.held, SHARD_1: failing(reason) } as unknown as Env;
      const result = await deliver("inbound", jobs, { env: broken });
      expect(result.retryBatch.retry).toBe(false);
      expect(result.retryMessages).toHaveLength(1);
      expect(await here.inbox.messages()).toHaveLength(2);
    }
    await deliver("inbound", [jobs[1]], { env: here.held, attempts: 3 });
    const stored = await env.SHARD_1.prepare("SELECT count(*) AS n FROM messages WHERE workspace_id = ?1")
      .bind(there.workspace.workspaceId)
      .first("n");
    expect(stored).toBe(1);
  });

  it("the directory: everything comes again, and nothing was done by halves", async () => {
    const { number, inbox, held } = await ready();
    const jobs = [jobOf(says(number, { wa: digits() })), jobOf(says(number, { wa: digits() }))];
    const result = await deliver("inbound", jobs, {
      env: { ...held, DIRECTORY: failing("D1_ERROR: storage caused object to be reset") } as unknown as Env,
    });
    expect(result.retryMessages).toHaveLength(2);
    expect(await inbox.messages()).toEqual([]);
    await deliver("inbound", jobs, { env: held, attempts: 2 });
    expect(await inbox.messages()).toHaveLength(2);
  });

  it("the bucket: only what lies in it comes again", async () => {
    const { number, inbox, held } = await ready();
    const { body: _body, ...pointer } = jobOf("") as unknown as Record<string, unknown>;
    const key = `webhooks/${newUuid()}.json`;
    await env.MEDIA.put(key, JSON.stringify(says(number, { wa: digits() })));
    const jobs = [jobOf(says(number, { wa: digits() })), { ...pointer, r2Key: key }];
    const down = {
      get: () => Promise.reject(new Error("R2 is down")),
      put: () => Promise.reject(new Error("R2 is down")),
    };
    const result = await deliver("inbound", jobs, { env: { ...held, MEDIA: down } as unknown as Env });
    expect(result.retryMessages).toHaveLength(1);
    expect(await inbox.messages()).toHaveLength(1);
    await deliver("inbound", [jobs[1]], { env: held, attempts: 2 });
    expect(await inbox.messages()).toHaveLength(2);
  });

  it("a workspace's hub: the others are shown theirs, and the batch comes again for that one", async () => {
    const [one, two] = [await ready(), await ready()];
    const told: string[] = [];
    const hubs = {
      getByName: (name: string) => ({
        publish: async () => {
          told.push(name);
          if (name === one.workspace.workspaceId) throw new Error("The object was reset");
          return { seq: 1, viewed: [] };
        },
      }),
    };
    const jobs = [jobOf(says(one.number, { wa: digits() })), jobOf(says(two.number, { wa: digits() }))];
    const result = await deliver("inbound", jobs, { env: { ...one.held, WORKSPACE_HUB: hubs } as unknown as Env });
    expect(result.retryMessages).toHaveLength(2);
    expect(new Set(told)).toEqual(new Set([one.workspace.workspaceId, two.workspace.workspaceId]));
    expect(await one.inbox.messages()).toHaveLength(1);
  });

  it("for a day: the retries last longer than 24 hours, whatever the jitter", async () => {
    const { number, held } = await ready();
    const broken = { ...held, DIRECTORY: failing("D1_ERROR: Network connection lost.") } as unknown as Env;
    let least = 0;
    for (let attempts = 1; attempts <= 100; attempts += 1) {
      const delays: number[] = [];
      const job = {
        id: "1",
        timestamp: new Date(),
        attempts,
        body: jobOf(says(number, { wa: digits() })),
        ack: () => {},
      };
      const retry = (options?: QueueRetryOptions) => delays.push(options?.delaySeconds ?? 0);
      const batch = { queue: "inbound", messages: [{ ...job, retry }], ackAll: () => {}, retryAll: retry };
      await consume(batch as unknown as MessageBatch<unknown>, broken);
      expect(delays).toHaveLength(1);
      expect(delays[0]).toBeGreaterThan(0);
      expect(delays[0]).toBeLessThanOrEqual(86_400);
      least += delays[0] ?? 0;
    }
    expect(least).toBeGreaterThan(24 * 3600);
  });
});
