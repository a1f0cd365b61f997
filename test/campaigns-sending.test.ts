import { afterEach, describe, expect, it, vi } from "vitest";
import { Meter, meteredEnv } from "../bench/meter";
import { CampaignWorld } from "./support/campaigns";
import { deliver, eventually } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { openFeed } from "./support/sockets";

vi.setConfig({ testTimeout: 60_000 });

let world: CampaignWorld;

afterEach(async () => {
  await world.retire();
  await sandbox.reset();
});

async function expectOnceEach(people: readonly { digits: string }[]): Promise<void> {
  const times = await world.acceptedByPerson();
  expect([...times.keys()].toSorted()).toEqual(people.map(({ digits }) => digits).toSorted());
  expect([...times].filter(([, n]) => n > 1)).toEqual([]);
}

async function sentOf(id: string): Promise<number> {
  return (await world.recipients(id)).filter((row) => row.message_status === "sent").length;
}

describe("a campaign that is sent", () => {
  it("goes once to everybody who opted in, with what was known of them, and ends with exact counts", async () => {
    world = await CampaignWorld.open();
    const people = await world.contacts(150);
    await world.contacts(5, { optedIn: false, from: 1000 });
    const id = await world.campaign();
    const started = await world.verb(id, "start");
    expect(started).toMatchObject({ status: "sending", total_contacts: 150, sent_count: 0 });
    // Renamed after the start: what was known then is what is said.
    await world.database
      .prepare("UPDATE contacts SET name = 'Changed' WHERE workspace_id = ?1")
      .bind(world.workspace.workspaceId)
      .run();
    await world.drain(5);
    expect(await world.shown(id)).toMatchObject({
      status: "completed",
      total_contacts: 150,
      sent_count: 150,
      failed_count: 0,
      skipped_count: 0,
      pending_count: 0,
    });
    await expectOnceEach(people);
    const { data } = await world.accepted();
    const first = data.find((message) => message.recipient === people[0]?.digits);
    expect(first?.body.template).toMatchObject({
      name: "summer_sale",
      components: [{ type: "body", parameters: [{ type: "text", text: "Person 0" }] }],
    });
    await world.expectCountsOfRows(id);
  });

  it("takes no more than the number can send, and keeps a part of that for replies", async () => {
    world = await CampaignWorld.open();
    await world.contacts(400);
    const id = await world.campaign();
    await world.verb(id, "start");
    const made: number[] = [];
    for (let second = 0; second < 6; second += 1) {
      await world.second();
      made.push((await world.messages()).length);
    }
    expect(made[0]).toBe(64);
    for (const [place, n] of made.entries()) expect(n - (made[place - 1] ?? 0)).toBeLessThanOrEqual(64);
    expect(made.at(-1)).toBe(6 * 64);
    // A reply that comes now leaves at once.
    const reply = await world.accept("+4930999", "hello");
    await world.deliver(world.take().filter(({ queue }) => queue === "outbound"));
    expect(await world.message(reply.id)).toMatchObject({ status: "sent" });
  });

  it("makes no heap where the provider is slow: what is in flight is bounded", async () => {
    world = await CampaignWorld.open();
    await world.contacts(500);
    const id = await world.campaign();
    await world.verb(id, "start");
    for (let second = 0; second < 12; second += 1) {
      await world.deliver(world.take().filter(({ queue }) => queue === "bulk"));
      world.now += 1000;
    }
    expect((await world.messages()).length).toBe(320);
    await world.drain(5);
    expect(await world.row(id)).toMatchObject({ status: "completed", sent_count: 500 });
  });

  it("leaves out whoever opted out, went, or became somebody else since it started", async () => {
    world = await CampaignWorld.open();
    const people = await world.contacts(6);
    const id = await world.campaign();
    await world.verb(id, "start");
    const [out, gone, loser, winner, late] = people.map((person) => person.id);
    const set = (sql: string, contact: string | undefined) =>
      world.database
        .prepare(`UPDATE contacts SET ${sql} WHERE id = ?1`)
        .bind(contact ?? "")
        .run();
    await set("opted_in = 0, opted_out_at = 5", out);
    await set("deleted_at = 5", gone);
    await set(`deleted_at = 5, merged_into = '${winner}'`, loser);
    // Between being taken and being sent, the claim refuses.
    await world.deliver(world.take());
    await set("opted_in = 0, opted_out_at = 5", late);
    await world.drain(3);
    const rows = new Map((await world.recipients(id)).map((row) => [row.contact_id, row]));
    expect(rows.get(out)).toMatchObject({ state: "skipped", reason: "opted_out" });
    expect(rows.get(gone)).toMatchObject({ state: "skipped", reason: "deleted" });
    expect(rows.get(loser)).toMatchObject({ state: "skipped", reason: "duplicate" });
    expect(rows.get(winner)).toMatchObject({ state: "taken", message_status: "sent" });
    expect(rows.get(late)).toMatchObject({ state: "taken", message_status: "failed" });
    expect(await world.row(id)).toMatchObject({
      status: "completed",
      total_contacts: 3,
      sent_count: 2,
      failed_count: 1,
      skipped_count: 3,
    });
    await expectOnceEach(people.filter((person) => [winner, people[5]?.id].includes(person.id)));
  });

  it("does not go twice to one person of two contacts that were both in it", async () => {
    world = await CampaignWorld.open();
    const [a, b] = await world.contacts(2);
    const id = await world.campaign();
    await world.verb(id, "start");
    const [third] = await world.contacts(1, { from: 10 });
    await world.database
      .prepare("UPDATE contacts SET deleted_at = 5, merged_into = ?1 WHERE id IN (?2, ?3)")
      .bind(third?.id, a?.id, b?.id)
      .run();
    await world.drain(3);
    await expectOnceEach(third ? [third] : []);
    expect(await world.row(id)).toMatchObject({ status: "completed", sent_count: 1, skipped_count: 1 });
  });

  it("goes once to everybody when a dozen turns are taken at once, each of which may take all", async () => {
    world = await CampaignWorld.open();
    const people = await world.contacts(200);
    const id = await world.campaign();
    await world.verb(id, "start");
    world.forgetful = true;
    const [feed] = world.take();
    for (let round = 0; feed && round < 4; round += 1) {
      await Promise.all(Array.from({ length: 12 }, () => world.deliver([feed])));
    }
    expect((await world.recipients(id)).filter((row) => row.state === "taken")).toHaveLength(200);
    expect(await world.messages()).toHaveLength(200);
    await world.drain(5);
    await expectOnceEach(people);
    await world.expectCountsOfRows(id);
  });

  it("comes back to whoever waits before its place, however that came to be", async () => {
    world = await CampaignWorld.open();
    const people = await world.contacts(10);
    const id = await world.campaign();
    await world.verb(id, "start");
    await world.database
      .prepare("UPDATE campaigns SET feed_place = ?1 WHERE id = ?2")
      .bind(people.at(-1)?.id, id)
      .run();
    await world.drain(3);
    await expectOnceEach(people);
    expect(await world.row(id)).toMatchObject({ status: "completed", sent_count: 10 });
  });

  it("is shown live as progress, and its messages are not", async () => {
    world = await CampaignWorld.open();
    await world.contacts(3);
    const socket = await openFeed(world.workspace, world.workspace.workspaceId);
    await socket.next((frame) => frame.type === "hello");
    const id = await world.campaign();
    await world.verb(id, "start");
    await world.drain(3);
    interface Shown {
      type: string;
      campaign_id?: string;
      status?: string;
      sent_count?: number;
    }
    const events = () => socket.frames.flatMap((frame) => (frame.events ?? []) as Shown[]);
    await eventually(() => expect(events().at(-1)?.status).toBe("completed"));
    expect(events().every((event) => event.type === "campaign.progress" && event.campaign_id === id)).toBe(true);
    expect(events().map((event) => event.status)).toEqual(["sending", "completed"]);
    expect(events().at(-1)).toMatchObject({ total_contacts: 3, sent_count: 3, pending_count: 0 });
    socket.close();
  });
});

describe("a pause", () => {
  it("takes effect at once: what waits in the queue waits for the campaign, and goes once when it goes on", async () => {
    world = await CampaignWorld.open();
    const people = await world.contacts(200);
    const id = await world.campaign();
    await world.verb(id, "start");
    await world.second();
    await world.deliver(world.take().filter(({ queue }) => queue === "bulk"));
    const queued = world.waiting.filter(({ queue }) => queue === "outbound");
    expect(queued.length).toBe(64);
    const paused = await world.verb(id, "pause");
    expect(paused).toMatchObject({ status: "scheduled", sent_count: 64, pending_count: 136 });
    await world.pass(3);
    expect((await world.acceptedByPerson()).size).toBe(64);
    expect((await world.recipients(id)).filter((row) => row.state === "waiting")).toHaveLength(136);
    await world.verb(id, "start");
    await world.drain(5);
    await world.deliver(queued);
    await expectOnceEach(people);
    expect(await world.shown(id)).toMatchObject({ status: "completed", total_contacts: 200, sent_count: 200 });
    await world.expectCountsOfRows(id);
  });

  it("and start, from many sides at once, neither double nor lose anybody", async () => {
    world = await CampaignWorld.open();
    const people = await world.contacts(120);
    const id = await world.campaign();
    await world.verb(id, "start");
    for (let round = 0; round < 6; round += 1) {
      const jobs = world.take();
      const feed = jobs.filter(({ queue }) => queue === "bulk");
      await Promise.all([
        world.deliver(jobs),
        world.deliver(feed),
        world.timed("POST", `/api/campaigns/${id}/pause`),
        world.timed("POST", `/api/campaigns/${id}/pause`),
        world.deliver(feed),
      ]);
      const answers = await Promise.all([1, 2].map(() => world.timed("POST", `/api/campaigns/${id}/start`)));
      const begun = answers.map(({ status }) => status).toSorted();
      if ((await world.row(id)).status === "sending") expect(begun[1]).toBe(409);
      world.now += 1000;
    }
    await world.drain(5);
    await expectOnceEach(people);
    expect(await world.row(id)).toMatchObject({ status: "completed", sent_count: 120 });
  });
});

describe("a campaign that is cancelled", () => {
  it("sends nothing more, takes what waits out of the queue, and keeps its counts", async () => {
    world = await CampaignWorld.open();
    await world.contacts(200);
    const id = await world.campaign();
    await world.verb(id, "start");
    await world.second();
    await world.deliver(world.take().filter(({ queue }) => queue === "bulk"));
    const cancelled = await world.verb(id, "cancel");
    expect(cancelled).toMatchObject({ status: "cancelled", sent_count: 64, pending_count: 0 });
    await world.pass(2);
    expect((await world.acceptedByPerson()).size).toBe(64);
    for (const verb of ["start", "pause", "cancel", "retry-failed"]) await world.verb(id, verb, undefined, {}, 409);
    const { total } = (await (await world.timed("GET", `/api/campaigns/${id}/recipients?status=cancelled`)).json()) as {
      total: number;
    };
    expect(total).toBe(136);
  });
});

describe("two campaigns of one number", () => {
  it("share it evenly, whichever began first and however large it is", async () => {
    world = await CampaignWorld.open();
    await world.contacts(300, { tags: ["many"] });
    await world.contacts(60, { from: 1000, tags: ["few"] });
    const many = await world.campaign({ audience: { tags: ["many"] } });
    await world.verb(many, "start");
    await world.second();
    const before = await sentOf(many);
    expect(before).toBe(64);
    const few = await world.campaign({ audience: { tags: ["few"] } });
    await world.verb(few, "start");
    await world.second();
    expect(await sentOf(few)).toBe(32);
    expect(await sentOf(many)).toBe(before + 32);
    await world.second();
    // The small one is done; what it leaves goes to the other.
    expect(await sentOf(few)).toBe(60);
    expect(await sentOf(many)).toBe(before + 68);
    await world.drain(3);
    expect(await world.row(many)).toMatchObject({ status: "completed", sent_count: 300 });
    expect(await world.row(few)).toMatchObject({ status: "completed", sent_count: 60 });
  });

  it("may have the same person, who gets both", async () => {
    world = await CampaignWorld.open();
    const [person] = await world.contacts(1);
    const ids = [await world.campaign(), await world.campaign()];
    for (const id of ids) await world.verb(id, "start");
    await world.drain(3);
    expect((await world.acceptedByPerson()).get(person?.digits ?? "")).toBe(2);
    const thread = await world.database
      .prepare("SELECT message_count FROM conversations WHERE workspace_id = ?1")
      .bind(world.workspace.workspaceId)
      .all();
    expect(thread.results).toEqual([{ message_count: 2 }]);
  });
});

describe("a campaign pauses by itself, and says why", () => {
  async function running(people: number): Promise<string> {
    world = await CampaignWorld.open();
    await world.contacts(people);
    const id = await world.campaign();
    await world.verb(id, "start");
    await world.second();
    return id;
  }

  it("when its template is paused by the provider; and goes on when somebody starts it again", async () => {
    const id = await running(150);
    // As its webhook leaves it.
    const provider = (status: string, word: string) =>
      world.database
        .prepare("UPDATE templates SET status = ?2, provider_status = ?3 WHERE id = ?1")
        .bind(world.template.id, status, word)
        .run();
    await provider("PENDING", "PAUSED");
    await world.pass(2);
    const shown = await world.shown(id);
    expect(shown).toMatchObject({ status: "scheduled", sent_count: 64 });
    expect(shown.pause_reason).toContain("PAUSED");
    await world.verb(id, "start", undefined, {}, 422);
    await provider("APPROVED", "APPROVED");
    await world.verb(id, "start");
    await world.drain(3);
    expect(await world.row(id)).toMatchObject({ status: "completed", sent_count: 150, pause_reason: null });
  });

  it("when the number's quality turns RED; who starts it on a RED number wants it so", async () => {
    const id = await running(150);
    await world.database
      .prepare("UPDATE phone_numbers SET quality_rating = 'RED' WHERE id = ?1")
      .bind(world.number.id)
      .run();
    await world.pass(1);
    expect(await world.shown(id)).toMatchObject({
      status: "scheduled",
      sent_count: 64,
      pause_reason: "The quality rating of the phone number turned RED",
    });
    await world.verb(id, "start");
    await world.drain(3);
    expect(await world.row(id)).toMatchObject({ status: "completed", sent_count: 150 });
  });

  it("but waits while its number is blocked, and goes on when that is over", async () => {
    world = await CampaignWorld.open({ settings: { blockedProbe: 120_000 } });
    await world.contacts(150);
    const id = await world.campaign();
    await world.verb(id, "start");
    await sandbox.faults({ kind: "error", code: 190, rate: 1, phone_number_id: world.number.providerNumberId });
    await world.pass(4);
    const held = await world.shown(id);
    expect(held).toMatchObject({ status: "sending", sent_count: 0, failed_count: 0, pending_count: 150 });
    expect((await world.messages()).length).toBeLessThanOrEqual(64);
    await sandbox.clearFaults();
    await world.drain(15);
    expect(await world.row(id)).toMatchObject({ status: "completed", sent_count: 150, failed_count: 0 });
    await world.expectNoneTwice();
  });
});

describe("those who failed", () => {
  it("are tried again alone, and those nobody knows of only when asked", async () => {
    world = await CampaignWorld.open({ settings: { providerTimeout: 100 } });
    const people = await world.contacts(40);
    const phone = { phone_number_id: world.number.providerNumberId };
    await sandbox.faults(
      { kind: "error", code: 131026, count: 5, ...phone },
      { kind: "reset", count: 3, skip: 10, ...phone },
    );
    const id = await world.campaign();
    await world.verb(id, "start");
    await world.drain(2);
    await world.passWithStatuses(14);
    expect(await world.row(id)).toMatchObject({ status: "completed", sent_count: 32, failed_count: 8 });
    const key = { "Idempotency-Key": `retry-${id}` };
    expect(await world.verb(id, "retry-failed", {}, key)).toMatchObject({ status: "sending" });
    await world.verb(id, "retry-failed", {}, key);
    await world.drain(3);
    expect(await world.row(id)).toMatchObject({ status: "completed", sent_count: 37, failed_count: 3 });
    await world.verb(id, "retry-failed", {}, key);
    expect(await world.row(id)).toMatchObject({ status: "completed" });
    await world.verb(id, "retry-failed", { include_unknown: true });
    await world.drain(3);
    expect(await world.row(id)).toMatchObject({ status: "completed", sent_count: 40, failed_count: 0 });
    await expectOnceEach(people);
  });

  it("end a campaign of whom nobody got it as failed, with the reasons", async () => {
    world = await CampaignWorld.open();
    await world.contacts(3);
    await sandbox.faults({ kind: "error", code: 131026, rate: 1, phone_number_id: world.number.providerNumberId });
    const id = await world.campaign();
    await world.verb(id, "start");
    await world.drain(3);
    expect(await world.shown(id)).toMatchObject({ status: "failed", total_contacts: 3, failed_count: 3 });
    const page = (await (await world.timed("GET", `/api/campaigns/${id}/recipients?status=failed`)).json()) as {
      data: { reason: string; error: { code: number } }[];
    };
    expect(page.data.map(({ error }) => error.code)).toEqual([131026, 131026, 131026]);
    expect(page.data[0]?.reason).toBeTruthy();
  });

  it("are not sent to again when the first message got through after all", async () => {
    world = await CampaignWorld.open();
    const [person] = await world.contacts(1);
    await sandbox.faults({ kind: "error", code: 131026, count: 1, phone_number_id: world.number.providerNumberId });
    const id = await world.campaign();
    await world.verb(id, "start");
    await world.drain(3);
    expect(await world.row(id)).toMatchObject({ status: "failed" });
    await world.verb(id, "retry-failed");
    // Between being found and being taken, a status says that it was delivered.
    await world.database
      .prepare("UPDATE messages SET status = 'delivered' WHERE workspace_id = ?1")
      .bind(world.workspace.workspaceId)
      .run();
    await world.drain(3);
    expect(await world.row(id)).toMatchObject({ status: "completed", sent_count: 1, delivered_count: 1 });
    expect((await world.acceptedByPerson()).get(person?.digits ?? "")).toBeUndefined();
  });
});

describe("what it costs", () => {
  it("is one row to be a recipient, one to be taken, and the message as any other", async () => {
    world = await CampaignWorld.open();
    await world.contacts(64);
    const id = await world.campaign();
    // They have written before: their threads exist.
    const first = await world.campaign();
    await world.verb(first, "start");
    await world.drain(3);
    const meter = new Meter();
    const metered = meteredEnv(world.env, meter);
    const database = `SHARD_${world.workspace.shard}`;
    await world.timed("POST", `/api/campaigns/${id}/start`, undefined, {}, metered);
    const frozen = meter.rowsWritten(database);
    expect(frozen).toBeLessThanOrEqual(64 + 20);
    meter.reset();
    world.now += 1000;
    const feed = world.take().filter(({ queue }) => queue === "bulk");
    await deliver("bulk", [feed[0]?.body], { env: metered, overrides: world.overrides });
    expect(await world.messages()).toHaveLength(128);
    const perRecipient = meter.rowsWritten(database) / 64;
    // 1 for the recipient, 3 for the message and its indexes, 2 for the head of the thread and its place in the inbox.
    expect(perRecipient).toBeLessThanOrEqual(6.5);
    expect(meter.rowsRead(database) / 64).toBeLessThanOrEqual(60);
    expect(meter.trips(database)).toBeLessThanOrEqual(8);
  });
});
