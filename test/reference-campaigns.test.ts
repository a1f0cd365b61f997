import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { newUuid } from "../src/platform/ids";
import campaignsFile from "./fixtures/reference/campaigns.json";
import contactsFile from "./fixtures/reference/contacts.json";
import { eventually } from "./support/pipeline";
import {
  differences,
  type Example,
  example,
  examplesOf,
  jsonOf,
  type Known,
  partOf,
  textOf,
} from "./support/reference";
import { answered, FORMS, run, send, sendBody } from "./support/reference-calls";
import { describeEndpoints } from "./support/reference-endpoints";
import { sandbox } from "./support/sandbox";
import { approved, withAccount } from "./support/templates";

const campaigns = examplesOf(campaignsFile);
const create = example(campaigns, "Create Campaign");
const list = example(campaigns, "List Campaigns");
const get = example(campaigns, "Get Campaign");
const update = example(campaigns, "Update Campaign");
const start = example(campaigns, "Start Campaign");
const pause = example(campaigns, "Pause Campaign");

// An AGENT has nothing to do with campaigns.
describeEndpoints(campaigns, Object.keys(campaigns));

afterEach(() => sandbox.clearFaults());

const identified = z.looseObject({ id: z.uuid() });
const printed = z.looseObject({ workspace_id: z.string(), template_id: z.string() });

/** A workspace with a number and an approved template that needs no parameters. */
async function ready() {
  const account = await withAccount();
  const template = await approved(account, { components: { body: { text: "Hello, welcome to our service!" } } });
  const { workspace, number } = account;
  const known: Known = {
    "workspace-uuid": workspace.workspaceId,
    "phone-uuid": number.id,
    "template-uuid": identified.parse(template).id,
  };
  return { workspace, number, known };
}

/** The printed campaign. */
async function created() {
  const { workspace, number, known } = await ready();
  const answer = identified.parse(await answered(await send(create, known, workspace.token), create, known));
  const own: Known = { ...known, "campaign-uuid": answer.id, "{campaign_id}": answer.id };
  return { workspace, number, known: own, answer };
}

/** The same, and the contact of the document's own for it to go to. */
async function withContact() {
  const campaign = await created();
  const contact = example(examplesOf(contactsFile), "Create Contact");
  await answered(await send(contact, campaign.known, campaign.workspace.token), contact, campaign.known);
  return campaign;
}

/** From which statuses to which, as an example's note says. */
function changeOf(found: Example): { from: string[]; to: string } {
  const [note] = partOf(found, "notes");
  const [, from = "", to = ""] = /^Changes status from (.+) to `(\w+)`/.exec(note?.text ?? "") ?? [];
  return { from: [...from.matchAll(/`(\w+)`/g)].map(([, status]) => status ?? ""), to };
}

describe("a campaign", () => {
  it("Create Campaign answers as printed; Get Campaign the same", async () => {
    const { workspace, known, answer } = await created();
    expect(await answered(await send(get, known, workspace.token), get)).toEqual(answer);
  });

  it("Create Campaign: the template is optional", async () => {
    const { workspace, known } = await ready();
    const { template_id: _, ...body } = printed.parse(jsonOf(partOf(create, "request")));
    const response = await sendBody(create, known, workspace.token, body);
    await answered(response, create, known, { template_id: null });
  });

  it("List Campaigns: with its workspace alone, and with every parameter", async () => {
    const { workspace, known, answer } = await created();
    const query = { workspace_id: workspace.workspaceId };
    const one = { ...list, response: undefined };
    const queries: Record<string, string>[] = [query, { ...query, status: "draft", limit: "20", offset: "0" }];
    for (const asked of queries) {
      const page = await answered(await send(list, known, workspace.token, asked), one);
      expect(page).toEqual({ data: [answer], total: 1, limit: 20, offset: 0, next_cursor: null });
    }
    const page = await send(list, known, workspace.token, { ...query, status: "sending" });
    expect(await page.json()).toMatchObject({ data: [], total: 0 });
  });

  it("List Campaigns shows one that is half done as printed", async () => {
    const { workspace, known } = await created();
    await halfDone(workspace.workspaceId, textOf(known, "phone-uuid"), textOf(known, "campaign-uuid"));
    await answered(await send(get, known, workspace.token), get);
    const query = { workspace_id: workspace.workspaceId, status: "sending" };
    await answered(await send(list, known, workspace.token, query), list, known);
  });

  it("Update Campaign, all fields optional", async () => {
    const { workspace, known, answer } = await created();
    const changed = await answered(await send(update, known, workspace.token), update);
    expect(differences(jsonOf(partOf(update, "request")), changed, known)).toEqual([]);
    const same = await answered(await sendBody(update, known, workspace.token, {}), update);
    expect(same).toMatchObject({ id: answer.id, name: "Updated Campaign Name", status: "scheduled" });
  });

  it("Delete Campaign", async () => {
    const { workspace, known } = await created();
    const remove = example(campaigns, "Delete Campaign");
    expect(await answered(await send(remove, known, workspace.token), remove)).toBeNull();
    expect((await send(get, known, workspace.token)).status).toBe(404);
    const page = await send(list, known, workspace.token, { workspace_id: workspace.workspaceId });
    expect(await page.json()).toMatchObject({ data: [], total: 0 });
  });

  it.each(FORMS)("Start Campaign from draft: it sends, and is completed (%s)", async (form) => {
    const { workspace, number, known } = await withContact();
    expect(changeOf(start).from).toContain("draft");
    const answer = await answered(await run(form, start, known, workspace.token), start);
    expect(answer).toMatchObject({ id: known["campaign-uuid"], status: changeOf(start).to, total_contacts: 1 });
    await eventually(async () => {
      const shown = await answered(await send(get, known, workspace.token), get);
      expect(shown).toMatchObject({ status: "completed", total_contacts: 1, sent_count: 1, failed_count: 0 });
    });
    const { data } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(data.map(({ recipient, type }) => ({ recipient, type }))).toEqual([
      { recipient: "1234567890", type: "template" },
    ]);
  });

  it("Start Campaign from scheduled; Pause Campaign, and start again", async () => {
    const { workspace, number, known } = await withContact();
    // So that it is not over before it is paused.
    await sandbox.faults({ kind: "rate_limit", phone_number_id: number.providerNumberId, retry_after: 60 });
    const scheduled = await answered(await send(update, known, workspace.token), update);
    expect(changeOf(start)).toEqual({ from: ["draft", "scheduled"], to: "sending" });
    expect(scheduled).toMatchObject({ status: changeOf(start).from[1] });
    const started = await answered(await send(start, known, workspace.token), start);
    expect(started).toMatchObject({ status: changeOf(start).to, paused_at: null });
    const paused = await answered(await send(pause, known, workspace.token), pause);
    expect(changeOf(pause)).toEqual({ from: ["sending"], to: "scheduled" });
    expect(paused).toMatchObject({ status: changeOf(pause).to, paused_at: expect.any(String) });
    expect((await send(pause, known, workspace.token)).status).toBe(409);
    const again = await answered(await send(start, known, workspace.token), start);
    expect(again).toMatchObject({ status: changeOf(start).to, paused_at: null });
  });
});

/** The state the list prints, as rows: 1,000 recipients, of whom 500 were sent to, 450 reached, and 200 have read it. */
async function halfDone(workspaceId: string, numberId: string, campaignId: string): Promise<void> {
  const people = Array.from({ length: 1000 }, (_, n) => ({
    contact: newUuid(),
    message: n < 500 ? newUuid() : null,
    status: n < 200 ? "read" : n < 450 ? "delivered" : "sent",
  }));
  const rows = JSON.stringify(people);
  await env.SHARD_0.batch([
    env.SHARD_0.prepare(
      `INSERT INTO messages (workspace_id, id, phone_number_id, conversation_id, contact_id, direction, origin, type, content, status,
         lane, seq, not_before, attempts, failures, at, received_at, position, created_at)
       SELECT ?1, value ->> 'message', ?2, value ->> 'contact', value ->> 'contact', 'outbound', 'api', 'template', '{}', value ->> 'status',
         'bulk', 1, 0, 1, 0, ?4, ?4, 0, ?4 FROM json_each(?3) WHERE value ->> 'message' IS NOT NULL`,
    ).bind(workspaceId, numberId, rows, Date.now()),
    env.SHARD_0.prepare(
      `INSERT INTO campaign_recipients (workspace_id, campaign_id, contact_id, state, message_id)
       SELECT ?1, ?2, value ->> 'contact', CASE WHEN value ->> 'message' IS NULL THEN 'waiting' ELSE 'taken' END, value ->> 'message'
       FROM json_each(?3)`,
    ).bind(workspaceId, campaignId, rows),
    env.SHARD_0.prepare(
      "UPDATE campaigns SET status = 'sending', started_at = ?3 WHERE workspace_id = ?1 AND id = ?2",
    ).bind(workspaceId, campaignId, Date.now()),
  ]);
}
