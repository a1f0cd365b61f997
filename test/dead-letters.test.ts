import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { newUuid } from "../src/platform/ids";
import { memberWithRole, newWorkspace, type TestWorkspace } from "./support/identity";
import {
  about,
  change,
  digits,
  expectExactCounts,
  inboxOf,
  jobOf,
  message,
  post,
  receive,
  says,
} from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, fireCron, heldQueues } from "./support/pipeline";

async function ready() {
  const workspace = await newWorkspace();
  const number = await registerNumber(workspace);
  return { workspace, number, inbox: inboxOf(workspace.workspaceId) };
}

interface Letter {
  id: string;
  queue: string;
  reason: string;
  created_at: string;
  replayed_at: string | null;
}

async function letters(workspace: TestWorkspace, query = "") {
  const response = await workspace.call("GET", `/api/dead-letters?workspace_id=${workspace.workspaceId}${query}`);
  expect(response.status).toBe(200);
  return response.json<{ data: Letter[]; total: number; next_cursor: string | null }>();
}

/** Makes a row of this provider id impossible to store until the cause is taken away. */
async function poison(wamid: string): Promise<() => Promise<unknown>> {
  const name = `poison_${newUuid().replaceAll("-", "")}`;
  await env.SHARD_0.prepare(
    `CREATE TRIGGER ${name} BEFORE INSERT ON messages WHEN NEW.wa_message_id = '${wamid}' BEGIN SELECT RAISE(ABORT, 'poisoned'); END`,
  ).run();
  return () => env.SHARD_0.prepare(`DROP TRIGGER ${name}`).run();
}

describe("a row that cannot be stored", () => {
  it("among 99 good ones becomes a dead letter alone, and is stored when it is replayed after the cause is gone", async () => {
    const { workspace, number, inbox } = await ready();
    const people = Array.from({ length: 10 }, digits);
    const bad = `wamid.bad.${newUuid()}`;
    const cure = await poison(bad);
    const jobs = Array.from({ length: 100 }, (_, n) =>
      jobOf(says(number, { wa: people[n % 10] }, { id: n === 57 ? bad : `wamid.good.${newUuid()}` })),
    );
    const settle = async (attempts: number) => {
      const result = await deliver("inbound", jobs, { attempts });
      expect(result.retryMessages).toEqual([]);
    };
    await settle(1);
    expect(await inbox.messages()).toHaveLength(99);
    await expectExactCounts(workspace.workspaceId);
    const { data, total } = await letters(workspace);
    expect(total).toBe(1);
    expect(data).toMatchObject([
      { queue: "inbound", reason: "A message event could not be stored", replayed_at: null },
    ]);

    // The queue brings the batch again: the same letter.
    await settle(2);
    expect((await letters(workspace)).total).toBe(1);

    // Replayed too early it is dead again, and waits again.
    const replay = () => workspace.call("POST", `/api/dead-letters/${data[0]?.id}/replay`);
    expect(await (await replay()).json()).toMatchObject({ id: data[0]?.id });
    await expect.poll(async () => (await letters(workspace)).data[0]?.replayed_at, { timeout: 10_000 }).toBeNull();

    await cure();
    const response = await replay();
    expect(response.status).toBe(200);
    expect((await response.json<Letter>()).replayed_at).not.toBeNull();
    await expect.poll(async () => (await inbox.messages()).length, { timeout: 10_000 }).toBe(100);
    expect((await inbox.messages()).map((m) => m.wa_message_id)).toContain(bad);
    expect((await letters(workspace)).data[0]?.replayed_at).not.toBeNull();
    await expectExactCounts(workspace.workspaceId);
  });

  it("in one POST with others costs them nothing, two of them in one part are one letter", async () => {
    const { workspace, number, inbox } = await ready();
    const [one, two] = [`wamid.bad.${newUuid()}`, `wamid.bad.${newUuid()}`];
    await poison(one);
    await poison(two);
    const wa = digits();
    const items = [
      message({ wa }),
      message({ wa }, { id: one }),
      message({ wa }),
      message({ wa }, { id: two }),
      message({ wa }),
    ];
    await receive([about(number, { messages: items })]);
    expect(await inbox.messages()).toHaveLength(3);
    expect((await letters(workspace)).total).toBe(1);
    await expectExactCounts(workspace.workspaceId);
  });

  it("too large for a row is one too, though it came whole", async () => {
    const { workspace, number, inbox } = await ready();
    const key = `webhooks/${newUuid()}.json`;
    const huge = says(number, { wa: digits() }, { text: { body: "h".repeat(2_100_000) } });
    await env.MEDIA.put(key, JSON.stringify(huge));
    const { body: _body, ...pointer } = jobOf("") as unknown as Record<string, unknown>;
    const result = await deliver("inbound", [{ ...pointer, r2Key: key }, jobOf(says(number, { wa: digits() }))]);
    expect(result.retryMessages).toEqual([]);
    expect(await inbox.messages()).toHaveLength(1);
    expect((await letters(workspace)).data).toMatchObject([{ reason: "A message event could not be stored" }]);
  });

  it("of many in one batch never runs an invocation out of statements", async () => {
    const { workspace, number, inbox } = await ready();
    await env.SHARD_0.prepare(
      `CREATE TRIGGER many_poisoned BEFORE INSERT ON messages WHEN NEW.wa_message_id LIKE 'wamid.plague.%' BEGIN SELECT RAISE(ABORT, 'poisoned'); END`,
    ).run();
    const bodies = Array.from({ length: 100 }, (_, n) =>
      jobOf(says(number, { wa: digits() }, { id: `wamid.plague.${n}` })),
    );
    let statements = 0;
    const counting = {
      withSession: (start: string) => {
        const session = env.SHARD_0.withSession(start);
        return {
          prepare: (sql: string) => session.prepare(sql),
          getBookmark: () => session.getBookmark(),
          batch: (list: D1PreparedStatement[]) => {
            statements += list.length;
            return session.batch(list);
          },
        };
      },
    };
    const { env: held } = heldQueues();
    const result = await deliver("inbound", bodies, { env: { ...held, SHARD_0: counting } as unknown as Env });
    expect(statements).toBeLessThan(1000);
    // What there was no room for comes again; what was singled out does not.
    expect(result.retryMessages.length).toBeGreaterThan(0);
    expect(result.retryMessages.length).toBeLessThan(100);
    expect((await letters(workspace)).total).toBe(100 - result.retryMessages.length);
    await env.SHARD_0.prepare("DROP TRIGGER many_poisoned").run();
    await deliver("inbound", bodies, { env: held, attempts: 2 });
    expect(await inbox.messages()).toHaveLength(100);
  });
});

describe("what the queues gave up on", () => {
  it("is a dead letter of every workspace it concerns, and goes back to its queue when one of them replays it", async () => {
    const [one, two] = [await ready(), await ready()];
    const wa = digits();
    const body = post(
      one.number.businessId,
      change(one.number, { messages: [message({ wa })] }),
      change(two.number, { messages: [message({ wa })] }),
    );
    await deliver("dead-letters", [jobOf(body)]);
    expect((await letters(one.workspace)).total).toBe(1);
    expect((await letters(two.workspace)).data).toMatchObject([
      { queue: "inbound", reason: "The queue gave up after its last retry" },
    ]);
    const [letter] = (await letters(one.workspace)).data;
    expect((await one.workspace.call("POST", `/api/dead-letters/${letter?.id}/replay`)).status).toBe(200);
    await expect.poll(async () => (await two.inbox.messages()).length, { timeout: 10_000 }).toBe(1);
    expect(await one.inbox.messages()).toHaveLength(1);
    expect((await letters(two.workspace)).data[0]?.replayed_at).toBeNull();
  });

  it("of the other queues are their workspace's, and go back there", async () => {
    const { workspace, number } = await ready();
    const id = newUuid();
    await deliver("dead-letters", [
      { v: 1, kind: "message.send", workspaceId: workspace.workspaceId, shard: 0, phoneNumberId: number.id, id },
      {
        v: 1,
        kind: "contact.merge",
        workspaceId: workspace.workspaceId,
        shard: 0,
        contactIds: [newUuid(), newUuid()],
        again: false,
      },
    ]);
    const { data } = await letters(workspace);
    expect(data.map((letter) => letter.queue).sort()).toEqual(["bulk", "outbound"]);
    for (const { id: letter } of data) {
      expect((await workspace.call("POST", `/api/dead-letters/${letter}/replay`)).status).toBe(200);
    }
    expect((await letters(workspace)).data.every((letter) => letter.replayed_at !== null)).toBe(true);
  });

  it("is in the bucket first, whatever database does not answer, and all of it", async () => {
    const { number } = await ready();
    const { env: held } = heldQueues();
    const kept: string[] = [];
    const bucket = {
      put: async (key: string, text: string) => void kept.push(`${key} ${text}`),
      get: async () => null,
    };
    const down = {
      withSession: () => {
        throw new Error("D1 is down");
      },
    };
    const broken = { ...held, MEDIA: bucket, DIRECTORY: down, SHARD_0: down } as unknown as Env;
    const jobs = [jobOf(says(number, { wa: digits() })), { something: "else" }, "not even an object"];
    const result = await deliver("dead-letters", jobs, { env: broken });
    expect(result.retryBatch.retry).toBe(true);
    expect(kept[0]).toMatch(/^dead-letters\/.*webhook\.part/);
  });

  it("and is no work of ours, or of nobody, is kept for the operator", async () => {
    const before = (await env.MEDIA.list({ prefix: "dead-letters/" })).objects.length;
    const foreign = { providerNumberId: "404", businessId: "404", phoneNumber: "+404" };
    const { body: _body, ...pointer } = jobOf("") as unknown as Record<string, unknown>;
    const result = await deliver("dead-letters", [
      { odd: true },
      jobOf(says(foreign, { wa: digits() })),
      { ...pointer, r2Key: "webhooks/gone.json" },
    ]);
    expect(result.retryBatch.retry).toBe(false);
    expect((await env.MEDIA.list({ prefix: "dead-letters/" })).objects.length).toBe(before + 3);
  });
});

describe("a part whose body is gone from the bucket", () => {
  it("is kept as a dead letter and keeps no neighbour waiting", async () => {
    const { number, inbox } = await ready();
    const { body: _body, ...pointer } = jobOf("") as unknown as Record<string, unknown>;
    const result = await deliver("inbound", [
      { ...pointer, r2Key: "webhooks/never-was.json" },
      jobOf(says(number, { wa: digits() })),
    ]);
    expect(result.retryMessages).toEqual([]);
    expect(await inbox.messages()).toHaveLength(1);
  });
});

describe("a queue message that is no job", () => {
  it("is kept, and its neighbours are handled", async () => {
    const { number, inbox } = await ready();
    const before = (await env.MEDIA.list({ prefix: "dead-letters/" })).objects.length;
    await deliver("inbound", [{ v: 2, kind: "webhook.part" }, jobOf(says(number, { wa: digits() })), null]);
    expect(await inbox.messages()).toHaveLength(1);
    expect((await env.MEDIA.list({ prefix: "dead-letters/" })).objects.length).toBe(before + 2);
  });
});

describe("dead letters over the API", () => {
  it("are listed newest first, page by page, with their exact number", async () => {
    const { workspace, number } = await ready();
    for (let n = 0; n < 7; n += 1) {
      await deliver("dead-letters", [jobOf(says(number, { wa: digits() }))], {
        timestamp: new Date(Date.now() - n * 60_000),
      });
    }
    const seen: Letter[] = [];
    for (let cursor: string | null = ""; cursor !== null; ) {
      const page = await letters(workspace, `&limit=3${cursor === "" ? "" : `&cursor=${cursor}`}`);
      expect(page.total).toBe(7);
      seen.push(...page.data);
      cursor = page.next_cursor;
    }
    expect(new Set(seen.map((letter) => letter.id)).size).toBe(7);
    expect(seen.map((letter) => letter.created_at)).toEqual(
      seen
        .map((letter) => letter.created_at)
        .sort()
        .reverse(),
    );
  });

  it("are nobody else's: a foreign one is 404, a member or agent may not see or replay them", async () => {
    const [one, two] = [await ready(), await ready()];
    await deliver("dead-letters", [jobOf(says(one.number, { wa: digits() }))]);
    const [letter] = (await letters(one.workspace)).data;
    expect((await two.workspace.call("POST", `/api/dead-letters/${letter?.id}/replay`)).status).toBe(404);
    expect((await letters(two.workspace)).total).toBe(0);
    const agent = await memberWithRole(one.workspace, "AGENT");
    expect((await agent.call("POST", `/api/dead-letters/${letter?.id}/replay`)).status).toBe(403);
    expect((await agent.call("GET", `/api/dead-letters?workspace_id=${one.workspace.workspaceId}`)).status).toBe(403);
  });

  it("whose body has expired cannot be replayed, and says so", async () => {
    const { workspace, number } = await ready();
    await deliver("dead-letters", [jobOf(says(number, { wa: digits() }))]);
    const [letter] = (await letters(workspace)).data;
    await env.MEDIA.delete(`dead-letters/${letter?.id}.json`);
    const response = await workspace.call("POST", `/api/dead-letters/${letter?.id}/replay`);
    expect(response.status).toBe(404);
    expect((await letters(workspace)).data[0]?.replayed_at).toBeNull();
  });

  it("and stored events go after 30 days, and the totals with them", async () => {
    const { workspace, number, inbox } = await ready();
    await receive([about(number, { x: 1 }, "a_field_of_next_year")]);
    await deliver("dead-letters", [jobOf(says(number, { wa: digits() }))]);
    const old = Date.now() - 31 * 86_400_000;
    await env.SHARD_0.batch([
      env.SHARD_0.prepare("UPDATE webhook_events SET received_at = ?2 WHERE workspace_id = ?1").bind(
        workspace.workspaceId,
        old,
      ),
      env.SHARD_0.prepare("UPDATE dead_letters SET created_at = ?2 WHERE workspace_id = ?1").bind(
        workspace.workspaceId,
        old,
      ),
    ]);
    await receive([about(number, { x: 2 }, "a_field_of_next_year")]);
    await fireCron("0 3 * * *");
    expect(await inbox.events()).toHaveLength(1);
    expect((await letters(workspace)).total).toBe(0);
    await expectExactCounts(workspace.workspaceId);
  });
});
