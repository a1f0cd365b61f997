import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import type { MergeJob } from "../src/contacts/jobs";
import { newUuid } from "../src/platform/ids";
import { type Crash, crashingRun } from "./support/crash";
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
  postSigned,
  runMerges,
  says,
  status,
  wamid,
} from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, heldQueues, untilStatus } from "./support/pipeline";

/** Dozens of runs, each of a tenth of a second. */
const LONG = { timeout: 120_000 };

/** Runs a scenario with a crash before and after its every effect, until a run gets through. Answers the effects. */
async function everyCrash(
  scenario: (crash: Crash) => Promise<{ crashed: boolean; effects: string[] }>,
): Promise<string[]> {
  let effects: string[] = [];
  for (const when of ["before", "after"] as const) {
    for (let at = 0; ; at += 1) {
      const run = await scenario({ at, when });
      effects = run.effects;
      if (!run.crashed) break;
      if (at > 200) throw new Error("The scenario never ends");
    }
  }
  return effects;
}

/** Queues that keep what they get, and hubs that note under which keys they were told what. */
function observed() {
  const { env: held, held: queues } = heldQueues();
  const published: { key: string; events: { type: string }[] }[] = [];
  const hubs = {
    getByName: (name: string) => {
      const hub = env.WORKSPACE_HUB.getByName(name);
      return {
        publish: (write: { key: string; events: { type: string }[] }) => {
          published.push(write);
          return hub.publish(write as Parameters<typeof hub.publish>[0]);
        },
      };
    },
  };
  return { env: { ...held, WORKSPACE_HUB: hubs } as unknown as Env, queues, published };
}

const POISON = "wamid.poison";

beforeAll(async () => {
  await env.SHARD_0.prepare(
    `CREATE TRIGGER poisoned BEFORE INSERT ON messages WHEN NEW.wa_message_id LIKE '${POISON}%' BEGIN SELECT RAISE(ABORT, 'poisoned'); END`,
  ).run();
});

/** Everything a batch can hold: both shards, old and new people, every kind of row, poison, and what is nobody's. */
async function world() {
  const [here, there] = [await newWorkspace(), await newWorkspace({ shard: 1 })];
  const [number, far] = [await registerNumber(here), await registerNumber(there)];
  const [ana, ben, moved, now, stranger] = [digits(), digits(), digits(), digits(), digits()];
  const sent = await here.call("POST", "/api/messages/send/text", {
    phone_number_id: number.id,
    to: `+${ana}`,
    text: "Hello",
  });
  const { id } = await sent.json<{ id: string }>();
  const { wa_message_id } = await untilStatus(id, here.workspaceId, "sent");
  await deliver("inbound", [
    jobOf(says(number, { wa: ben, name: "Ben" }, { id: wamid(), at: ago(90) })),
    jobOf(says(number, { user: `US.${ben}` }, { id: wamid(), at: ago(89) })),
    jobOf(says(number, { wa: moved, name: "Moved" }, { id: wamid(), at: ago(88) })),
    jobOf(says(number, { wa: now, name: "Moved" }, { id: wamid(), at: ago(45) })),
  ]);
  const target = wamid();
  const large = `webhooks/${newUuid()}.json`;
  await env.MEDIA.put(
    large,
    JSON.stringify(says(number, { wa: ana }, { id: wamid(), text: { body: "z".repeat(70_000) } })),
  );
  const { body: _body, ...pointer } = jobOf("") as unknown as Record<string, unknown>;
  const jobs = [
    jobOf(
      about(number, {
        statuses: [
          status(String(wa_message_id), "delivered", { callback: `${id}.1`, at: ago(5) }),
          status(String(wa_message_id), "read", { callback: `${id}.1`, at: ago(4) }),
        ],
      }),
    ),
    jobOf(says(number, { wa: ana, name: "Ana" }, { id: target, at: ago(9) })),
    jobOf(about(number, { messages: [message({ wa: ana }, { id: wamid(), at: ago(8), text: { body: "STOP" } })] })),
    jobOf(
      about(number, {
        messages: [
          message({ wa: ana }, { type: "reaction", at: ago(7), reaction: { message_id: target, emoji: "👍" } }),
        ],
      }),
    ),
    // Two contacts turn out to be one person, by their names and by a change of number.
    jobOf(says(number, { wa: ben, user: `US.${ben}` }, { id: wamid(), at: ago(6) })),
    jobOf(changedNumber(number, moved, now, ago(50))),
    jobOf(says(number, { wa: now }, { id: wamid(), at: ago(40) })),
    jobOf(about(number, { messages: [message({ wa: ana }, { id: `${POISON}.${newUuid()}` })] })),
    jobOf(about(number, { unheard_of: 1 }, "a_field_of_next_year")),
    jobOf(about({ ...number, providerNumberId: `9${stranger}` }, { messages: [message({ wa: stranger })] })),
    jobOf(says(far, { wa: ana, name: "Ana over there" }, { id: wamid(), at: ago(3) })),
    { ...pointer, r2Key: large },
  ];
  return { here, there, number, ana, ben, now, id, jobs };
}

type World = Awaited<ReturnType<typeof world>>;

async function expectSettled({ here, there, ana, ben, now, id }: World): Promise<void> {
  const inbox = inboxOf(here.workspaceId);
  const messages = await inbox.messages();
  // 1 sent; before: 4; now: Ana 2 and the large one, Ben 1, Moved 1.
  expect(messages).toHaveLength(1 + 4 + 5);
  expect(messages.find((m) => m.id === id)).toMatchObject({ status: "read", delivered_at: ago(5), read_at: ago(4) });
  const contacts = await inbox.contacts();
  expect(contacts.map((c) => [c.name, c.wa_id]).sort()).toEqual(
    [
      ["Ana", ana],
      ["Ben", ben],
      ["Moved", now],
    ].sort(),
  );
  expect(contacts.find((c) => c.name === "Ana")).toMatchObject({ opted_out_at: ago(8) });
  expect(contacts.find((c) => c.name === "Ben")).toMatchObject({ user_id: `US.${ben}` });
  expect((await inbox.conversations()).map((v) => v.message_count).sort()).toEqual([3, 3, 4]);
  expect((await inbox.references()).map((e) => e.kind)).toEqual(["reaction"]);
  expect((await inbox.events()).map((e) => e.kind).sort()).toEqual(["identity_change", "unknown"]);
  await expectExactCounts(here.workspaceId);
  const letters = await env.SHARD_0.prepare("SELECT * FROM dead_letters WHERE workspace_id = ?1")
    .bind(here.workspaceId)
    .all();
  expect(letters.results).toHaveLength(1);
  expect(await env.MEDIA.head(String(letters.results[0]?.r2_key))).not.toBeNull();
  const far = await env.SHARD_1.prepare("SELECT count(*) AS n FROM messages WHERE workspace_id = ?1")
    .bind(there.workspaceId)
    .first("n");
  expect(far).toBe(1);
}

describe("a crash of the consumer", () => {
  it(
    "between any two steps loses nothing and doubles nothing; what is shown is shown under the same keys",
    LONG,
    async () => {
      const unroutedBefore =
        (await env.DIRECTORY.prepare("SELECT count(*) AS n FROM unrouted_events").first<number>("n")) ?? 0;
      let scenarios = 0;
      const effects = await everyCrash(async (crash) => {
        scenarios += 1;
        const scene = await world();
        const first = observed();
        const run = crashingRun(first.env, crash);
        await deliver("inbound", scene.jobs, { env: run.env });
        const again = observed();
        const result = await deliver("inbound", scene.jobs, { env: again.env, attempts: 2 });
        expect(result.retryBatch.retry).toBe(false);
        expect(result.retryMessages).toEqual([]);
        for (const [name, list] of first.queues) again.queues.get(name)?.push(...list);
        await runMerges(again.queues);
        try {
          await expectSettled(scene);
        } catch (error) {
          throw new Error(`After a crash ${crash.when} effect ${crash.at} (${run.effects.at(-1)})`, { cause: error });
        }
        // Every new message was shown in the end; a hub that was told before the crash was told the same again.
        const created = again.published.flatMap(({ events }) => events.filter((e) => e.type === "message.created"));
        expect(created.length).toBeGreaterThanOrEqual(6);
        const keys = new Set(again.published.map(({ key }) => key));
        const told = first.published.filter(({ key }) => key.startsWith("in:"));
        for (const { key } of told) expect(keys, "the same write has the same key").toContain(key);
        return { crashed: run.crashed(), effects: run.effects };
      });
      // The walk went through all that a batch does.
      for (const name of [
        "MEDIA.get",
        "DIRECTORY.batch",
        "SHARD_0.batch",
        "SHARD_1.batch",
        "MEDIA.put",
        "BULK.send",
        "WORKSPACE_HUB.publish",
      ]) {
        expect(effects, name).toContain(name);
      }
      const unrouted =
        (await env.DIRECTORY.prepare("SELECT count(*) AS n FROM unrouted_events").first<number>("n")) ?? 0;
      expect(unrouted - unroutedBefore).toBe(scenarios);
    },
  );

  it("while two contacts are merged leaves one, with everything", LONG, async () => {
    const effects = await everyCrash(async (crash) => {
      const workspace = await newWorkspace();
      const number = await registerNumber(workspace);
      const [wa, user] = [digits(), `US.${digits()}`];
      const { env: held, held: queues } = heldQueues();
      const many = Array.from({ length: 1100 }, (_, n) =>
        message({ user }, { id: `wamid.${user}.${n}`, at: ago(90) + n * 1000 }),
      );
      await deliver(
        "inbound",
        [jobOf(says(number, { wa }, { at: ago(99) })), jobOf(about(number, { messages: many }))],
        { env: held },
      );
      await deliver("inbound", [jobOf(says(number, { wa, user }, { at: ago(50) }))], { env: held });
      const [job] = (queues.get("BULK") ?? []).splice(0) as { body: MergeJob }[];
      if (!job) throw new Error("No merge was ordered");
      const run = crashingRun(held, crash);
      await deliver("bulk", [job.body], { env: run.env });
      await deliver("bulk", [job.body], { env: held, attempts: 2 });
      await runMerges(queues);
      expect(await inboxOf(workspace.workspaceId).contacts()).toHaveLength(1);
      expect(await inboxOf(workspace.workspaceId).conversations()).toMatchObject([
        { message_count: 1102, unread_count: 1102 },
      ]);
      await expectExactCounts(workspace.workspaceId);
      return { crashed: run.crashed(), effects: run.effects };
    });
    expect(effects.filter((name) => name === "SHARD_0.batch").length).toBeGreaterThan(2);
  });

  it("while a dead letter is written leaves one letter", LONG, async () => {
    const effects = await everyCrash(async (crash) => {
      const workspace = await newWorkspace();
      const number = await registerNumber(workspace);
      const job = jobOf(says(number, { wa: digits() }));
      const run = crashingRun(heldQueues().env, crash);
      const timestamp = new Date(ago(1));
      await deliver("dead-letters", [job], { env: run.env, timestamp });
      const result = await deliver("dead-letters", [job], { attempts: 2, timestamp });
      expect(result.retryBatch.retry).toBe(false);
      const response = await workspace.call("GET", `/api/dead-letters?workspace_id=${workspace.workspaceId}`);
      expect(await response.json()).toMatchObject({ total: 1, data: [{ queue: "inbound", replayed_at: null }] });
      return { crashed: run.crashed(), effects: run.effects };
    });
    expect(effects[0]).toBe("MEDIA.put");
  });
});

describe("a crash of the request", () => {
  it("between any two steps is no 200 unless everything is queued", LONG, async () => {
    const items = [1, 2, 3].map((n) =>
      message({ wa: digits() }, { id: `wamid.post.${n}`, text: { body: "w".repeat(n === 2 ? 90_000 : 50_000) } }),
    );
    const number = { providerNumberId: "12345", businessId: "1", phoneNumber: "+12345" };
    const body = JSON.stringify(about(number, { messages: items }));
    const effects = await everyCrash(async (crash) => {
      const { env: held, held: queues } = heldQueues();
      const run = crashingRun(held, crash);
      const response = await postSigned(body, { appEnv: run.env });
      const queued = (queues.get("INBOUND") ?? []).map((job) => (job.body as { firstPosition: number }).firstPosition);
      if (response.status === 200) expect(queued).toEqual([0, 1, 2]);
      else expect(response.status).toBe(500);
      return { crashed: run.crashed(), effects: run.effects };
    });
    expect(effects).toEqual(["MEDIA.put", "INBOUND.sendBatch"]);
  });
});
