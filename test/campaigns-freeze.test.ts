import { createMessageBatch } from "cloudflare:test";
import { afterEach, describe, expect, it, vi } from "vitest";
import { STEP } from "../src/campaigns/store-audience";
import { consume } from "../src/consumer";
import { CampaignWorld } from "./support/campaigns";
import { crashingRun } from "./support/crash";
import { fireCron } from "./support/pipeline";
import { sandbox } from "./support/sandbox";

vi.setConfig({ testTimeout: 120_000 });

let world: CampaignWorld;

afterEach(async () => {
  await world.retire();
  await sandbox.reset();
});

const PEOPLE = 3 * STEP + 10;

async function frozen(id: string) {
  const { results } = await world.database
    .prepare(
      "SELECT contact_id, state, reason, fields FROM campaign_recipients WHERE workspace_id = ?1 AND campaign_id = ?2",
    )
    .bind(world.workspace.workspaceId, id)
    .all<{ contact_id: string; state: string; reason: string | null; fields: string | null }>();
  return results;
}

/** The jobs that prepare a campaign; those that send it are left alone. */
function preparing() {
  const due = world.take();
  world.waiting = [];
  return due.filter(({ body }) => (body as { kind: string }).kind === "campaign.run");
}

describe("an audience of several steps", () => {
  it("is frozen exactly, with what is known of each, whoever comes or changes meanwhile", async () => {
    world = await CampaignWorld.open();
    const people = await world.contacts(PEOPLE);
    await world.contacts(20, { optedIn: false, from: 90_000 });
    const id = await world.campaign();
    const started = await world.verb(id, "start");
    expect(started).toMatchObject({ status: "sending", preparing: true });
    expect(await frozen(id)).toHaveLength(STEP);
    // Somebody who comes now is not meant; the first are renamed, which changes nothing of what was frozen of them.
    world.now += 10_000;
    await world.contacts(5, { from: 95_000 });
    await world.database
      .prepare("UPDATE contacts SET name = 'Changed' WHERE workspace_id = ?1 AND id <= ?2")
      .bind(world.workspace.workspaceId, people[9]?.id ?? "")
      .run();
    await world.deliver(preparing());
    const rows = await frozen(id);
    expect(rows.map((row) => row.contact_id).toSorted()).toEqual(people.map((person) => person.id).toSorted());
    expect(new Set(rows.map((row) => row.state))).toEqual(new Set(["waiting"]));
    const fields = new Map(rows.map((row) => [row.contact_id, JSON.parse(row.fields ?? "null")]));
    for (const person of people) expect(fields.get(person.id)).toEqual({ name: person.name });
    expect(await world.row(id)).toMatchObject({ phase: null, total_contacts: PEOPLE, skipped_count: 0 });
  });

  it("is frozen once, wherever the job dies, and by two jobs at once", async () => {
    world = await CampaignWorld.open();
    const people = await world.contacts(PEOPLE);
    let crashes = 0;
    for (const when of ["before", "after"] as const) {
      for (let at = 0; ; at += 1) {
        const id = await world.campaign();
        await world.verb(id, "start");
        const [job] = preparing();
        const run = crashingRun(world.env, { at, when });
        const messages = [{ id: "c0", timestamp: new Date(world.now), attempts: 1, body: job?.body }];
        await consume(createMessageBatch("bulk", messages), run.env, world.overrides);
        world.waiting = [];
        if (run.crashed() && job) await Promise.all([world.deliver([job]), world.deliver([job])]);
        const rows = await frozen(id);
        expect(rows).toHaveLength(people.length);
        expect(await world.row(id)).toMatchObject({ phase: null, status: "sending", total_contacts: PEOPLE });
        await world.verb(id, "cancel");
        if (!run.crashed()) break;
        crashes += 1;
        if (at > 50) throw new Error("The scenario never ends");
      }
    }
    expect(crashes).toBeGreaterThan(8);
  });

  it("goes on by the cron when its job was lost, and after a pause where it was", async () => {
    world = await CampaignWorld.open();
    await world.contacts(PEOPLE);
    const id = await world.campaign();
    await world.verb(id, "start");
    expect(preparing()).toHaveLength(1);
    await world.verb(id, "pause");
    world.now += 120_000;
    await fireCron("* * * * *", world.now, { env: world.env });
    expect(preparing()).toHaveLength(0);
    expect(await frozen(id)).toHaveLength(STEP);
    expect(await world.verb(id, "start")).toMatchObject({ status: "sending", preparing: true });
    expect(await frozen(id)).toHaveLength(2 * STEP);
    preparing();
    world.now += 120_000;
    await fireCron("* * * * *", world.now, { env: world.env });
    await world.deliver(preparing());
    expect(await frozen(id)).toHaveLength(PEOPLE);
    expect(await world.row(id)).toMatchObject({ phase: null, total_contacts: PEOPLE });
  });

  it("by tag means who has all of the tags, by id each of those named once", async () => {
    world = await CampaignWorld.open();
    const both = await world.contacts(STEP + 5, { tags: ["vip", "Köln"] });
    await world.contacts(30, { tags: ["vip"], from: 50_000 });
    const nameless = await world.contacts(2, { tags: ["vip", "Köln"], name: null, from: 60_000 });
    const byTag = await world.campaign({
      audience: { tags: ["Köln", "vip"] },
      template_params: { body: [{ type: "text", text: "{{contact.first_name}}" }] },
    });
    await world.verb(byTag, "start");
    await world.deliver(preparing());
    const rows = await frozen(byTag);
    expect(rows).toHaveLength(both.length + 2);
    expect(
      rows
        .filter((row) => row.state === "skipped")
        .map((row) => [row.contact_id, row.reason])
        .toSorted(),
    ).toEqual(nameless.map((person) => [person.id, "missing_parameter"]).toSorted());
    expect(JSON.parse(rows.find((row) => row.state === "waiting")?.fields ?? "")).toEqual({ first_name: "Person" });
    const ids = both.slice(0, 3).map((person) => person.id);
    const byId = await world.campaign({ audience: { contact_ids: [...ids, ...ids] } });
    await world.verb(byId, "start");
    expect((await frozen(byId)).map((row) => row.contact_id).toSorted()).toEqual(ids.toSorted());
  });
});
