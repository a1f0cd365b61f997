import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { memberWithRole, newWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { eventually, fireCron } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { type Account, approved, type Body, bodyOf, make, refusedAt, withAccount } from "./support/templates";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

let account: Account;
let template: Body;

beforeEach(async () => {
  await sandbox.reset();
  account = await withAccount();
  template = await approved(account);
});

const ITEMS = "/api/campaigns";

/** The documented request (003, Create Campaign). */
function summerSale(extra: Body = {}): Body {
  return {
    workspace_id: account.workspace.workspaceId,
    phone_number_id: account.number.id,
    template_id: template.id,
    name: "Summer Sale 2024",
    ...extra,
  };
}

const params = { template_params: { body: [{ type: "text", text: "{{contact.name|there}}" }] } };

async function made(extra: Body = {}): Promise<string> {
  return String((await bodyOf(await account.workspace.call("POST", ITEMS, summerSale(extra)), 201)).id);
}

function call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Response> {
  return account.workspace.call(method, `${ITEMS}${path}`, body, headers);
}

async function contact(extra: Body = {}): Promise<string> {
  const digits = String(crypto.getRandomValues(new Uint32Array(1))[0])
    .padStart(10, "0")
    .slice(0, 9);
  const body = { workspace_id: account.workspace.workspaceId, phone_number: `+49${digits}`, ...extra };
  return String((await bodyOf(await account.workspace.call("POST", "/api/contacts", body), 201)).id);
}

describe("a campaign as documented", () => {
  it("is made as a draft, listed, read, changed and deleted", async () => {
    const created = await bodyOf(await call("POST", "", summerSale()), 201);
    expect(created).toMatchObject({
      workspace_id: account.workspace.workspaceId,
      phone_number_id: account.number.id,
      template_id: template.id,
      name: "Summer Sale 2024",
      total_contacts: 0,
      sent_count: 0,
      delivered_count: 0,
      read_count: 0,
      failed_count: 0,
      status: "draft",
    });
    await made({ template_id: undefined, name: "Another" });
    const list = await bodyOf(await call("GET", `?workspace_id=${account.workspace.workspaceId}&limit=1`), 200);
    expect(list).toMatchObject({ total: 2, limit: 1, offset: 0, data: [{ name: "Another", template_id: null }] });
    const next = await bodyOf(await call("GET", `?limit=1&cursor=${list.next_cursor}`), 200);
    expect(next).toMatchObject({ data: [{ id: created.id }], next_cursor: null });
    const changed = await bodyOf(
      await call("PATCH", `/${created.id}`, { name: "Updated Campaign Name", status: "scheduled" }),
      200,
    );
    expect(changed).toMatchObject({ name: "Updated Campaign Name", status: "scheduled", scheduled_at: null });
    expect(await bodyOf(await call("GET", `/${created.id}`), 200)).toEqual(changed);
    const scheduled = await bodyOf(await call("GET", "?status=scheduled"), 200);
    expect(scheduled).toMatchObject({ total: 1, data: [{ id: created.id }] });
    expect((await call("DELETE", `/${created.id}`)).status).toBe(204);
    expect((await call("GET", `/${created.id}`)).status).toBe(404);
    expect(await bodyOf(await call("GET", ""), 200)).toMatchObject({ total: 1 });
    expect(await bodyOf(await call("GET", "?status=scheduled"), 200)).toMatchObject({ total: 0, data: [] });
  });

  it("starts, sends to whoever opted in, by the number's own pace, and is completed", async () => {
    const people = await Promise.all([contact({ name: "Ana" }), contact({ name: "Ben" }), contact()]);
    await contact({ opted_in: false });
    const id = await made(params);
    const started = await bodyOf(await call("POST", `/${id}/start`), 200);
    expect(started).toMatchObject({ status: "sending", total_contacts: 3, paused_at: null });
    await eventually(async () => {
      expect(await bodyOf(await call("GET", `/${id}`), 200)).toMatchObject({ status: "completed", sent_count: 3 });
    });
    const { data } = await sandbox.accepted({ phone_number_id: account.number.providerNumberId });
    expect(data).toHaveLength(3);
    await sandbox.flush();
    await eventually(async () => {
      const now = await bodyOf(await call("GET", `/${id}`), 200);
      expect(now).toMatchObject({ status: "completed", sent_count: 3, delivered_count: 3, read_count: 3 });
    });
    const recipients = await bodyOf(await call("GET", `/${id}/recipients?status=read`), 200);
    expect(recipients.total).toBe(3);
    expect((recipients.data as Body[]).map((one) => one.contact_id).toSorted()).toEqual(people.toSorted());
    expect((await call("POST", `/${id}/start`)).status).toBe(409);
    expect((await call("POST", `/${id}/pause`)).status).toBe(409);
    expect((await call("POST", `/${id}/cancel`)).status).toBe(409);
  });
});

describe("what a campaign may be", () => {
  it.each([
    ["an unknown number", { phone_number_id: "01900000-0000-7000-8000-000000000000" }, ["body", "phone_number_id"]],
    ["an unknown template", { template_id: "01900000-0000-7000-8000-000000000000" }, ["body", "template_id"]],
    [
      "groups, which nobody has yet",
      { audience: { group_ids: ["01900000-0000-7000-8000-000000000000"] } },
      ["body", "audience", "group_ids"],
    ],
    ["two audiences", { audience: { all: true, tags: ["vip"] } }, ["body", "audience"]],
    ["nobody", { audience: { contact_ids: [] } }, ["body", "audience", "contact_ids"]],
    [
      "a field nobody has",
      { template_params: { body: [{ type: "text", text: "{{contact.iban}}" }] } },
      ["body", "template_params"],
    ],
    [
      "parameters that are nested without end",
      { template_params: { body: JSON.parse(`${"[".repeat(5000)}${"]".repeat(5000)}`) } },
      ["body", "template_params"],
    ],
    ["a date that is over", { scheduled_at: "2024-01-01T00:00:00Z" }, ["body", "scheduled_at"]],
    ["no name", { name: " " }, ["body", "name"]],
  ])("not %s", async (_, extra, loc) => {
    const refused = await refusedAt(await call("POST", "", summerSale(extra)));
    expect(refused.slice(0, loc.length)).toEqual(loc.slice(0, refused.length));
    expect((await bodyOf(await call("GET", ""), 200)).total).toBe(0);
  });

  it("of another workspace's template or number is refused as one that does not exist", async () => {
    const other = await withAccount();
    const theirs = await approved(other, { name: "theirs" });
    expect(await refusedAt(await call("POST", "", summerSale({ template_id: theirs.id })))).toEqual([
      "body",
      "template_id",
    ]);
    expect(await refusedAt(await call("POST", "", summerSale({ phone_number_id: other.number.id })))).toEqual([
      "body",
      "phone_number_id",
    ]);
  });

  it("says at its start what is missing", async () => {
    const bare = await made({ template_id: undefined });
    expect(await refusedAt(await call("POST", `/${bare}/start`))).toEqual(["body", "template_id"]);
    const unfilled = await made();
    expect((await refusedAt(await call("POST", `/${unfilled}/start`))).slice(0, 2)).toEqual([
      "body",
      "template_params",
    ]);
    const waiting = await make(account, { name: "waiting" });
    const unapproved = await made({ template_id: waiting.id, ...params });
    expect(await refusedAt(await call("POST", `/${unapproved}/start`))).toEqual(["body", "template_id"]);
    const foreign = await registerNumber(account.workspace, { access_token: "EAAother" });
    const elsewhere = await made({ phone_number_id: foreign.id, ...params });
    expect(await refusedAt(await call("POST", `/${elsewhere}/start`))).toEqual(["body", "template_id"]);
    const disabled = await registerNumber(account.workspace, { status: "disabled", business_id: account.businessId });
    const silent = await made({ phone_number_id: disabled.id, ...params });
    expect((await call("POST", `/${silent}/start`)).status).toBe(409);
    for (const id of [bare, unfilled, unapproved, elsewhere, silent]) {
      expect(await bodyOf(await call("GET", `/${id}`), 200)).toMatchObject({ status: "draft", started_at: null });
    }
  });

  it("changes as a draft or scheduled one, and only in its name once it began", async () => {
    const id = await made();
    const patch = (body: Body) => call("PATCH", `/${id}`, body);
    expect(await bodyOf(await patch({ status: "scheduled" }), 200)).toMatchObject({ status: "scheduled" });
    expect(await bodyOf(await patch({ status: "draft" }), 200)).toMatchObject({ status: "draft" });
    for (const status of ["sending", "completed", "failed", "cancelled"])
      expect((await patch({ status })).status).toBe(409);
    const at = "2099-01-01T09:00:00Z";
    expect(await bodyOf(await patch({ ...params, audience: { all: true }, scheduled_at: at }), 200)).toMatchObject({
      status: "scheduled",
      scheduled_at: at,
      audience: { all: true },
    });
    expect(await bodyOf(await patch({ scheduled_at: null, audience: null }), 200)).toMatchObject({
      status: "scheduled",
      scheduled_at: null,
      audience: null,
    });
    await contact({ name: "Ana" });
    await bodyOf(await call("POST", `/${id}/start`), 200);
    for (const change of [
      { audience: { all: true } },
      { template_id: null },
      { scheduled_at: at },
      { status: "draft" },
    ]) {
      expect((await patch(change)).status, JSON.stringify(change)).toBe(409);
    }
    expect(await bodyOf(await patch({ name: "Renamed" }), 200)).toMatchObject({ name: "Renamed" });
    expect((await patch({})).status).toBe(200);
  });

  it("is paused by PATCH as by its verb, is not deleted while it sends, and goes on by start", async () => {
    await contact({ name: "Ana" });
    const id = await made(params);
    // Nothing of it gets through, so that it is not over.
    await sandbox.faults({ kind: "error", code: 131016, rate: 1, phone_number_id: account.number.providerNumberId });
    await bodyOf(await call("POST", `/${id}/start`), 200);
    expect((await call("DELETE", `/${id}`)).status).toBe(409);
    const paused = await bodyOf(await call("PATCH", `/${id}`, { status: "scheduled", name: "Held" }), 200);
    expect(paused).toMatchObject({ status: "scheduled", name: "Held", pause_reason: null });
    expect(paused.paused_at).not.toBeNull();
    expect((await call("POST", `/${id}/pause`)).status).toBe(409);
    await sandbox.clearFaults();
    expect(await bodyOf(await call("POST", `/${id}/start`), 200)).toMatchObject({ status: "sending", paused_at: null });
    await eventually(async () => {
      expect(await bodyOf(await call("GET", `/${id}`), 200)).toMatchObject({ status: "completed", sent_count: 1 });
    });
    const { data } = await sandbox.accepted({ phone_number_id: account.number.providerNumberId });
    expect(data).toHaveLength(1);
    expect((await call("DELETE", `/${id}`)).status).toBe(204);
  });
});

describe("who is meant", () => {
  it("is estimated before it starts: who, and who not and why", async () => {
    const ana = await contact({ name: "Ana", tags: ["vip"] });
    const nameless = await contact({ tags: ["vip"] });
    const silent = await contact({ name: "Carl", tags: ["vip"], opted_in: false });
    const gone = await contact({ name: "Dora", tags: ["vip"] });
    await account.workspace.call("DELETE", `/api/contacts/${gone}`);
    await env.SHARD_0.prepare("UPDATE contacts SET opted_in = 0, opted_out_at = NULL WHERE id = ?1")
      .bind(await contact({ name: "Eve", tags: ["vip"] }))
      .run();
    const nobody = "01900000-0000-7000-8000-000000000000";
    const id = await made({
      template_params: { body: [{ type: "text", text: "{{contact.name}}" }] },
      audience: { contact_ids: [ana, ana, nameless, silent, gone, nobody] },
    });
    const estimate = async (body?: Body) =>
      bodyOf(await (body ? call("POST", `/${id}/estimate`, body) : call("GET", `/${id}/estimate`)), 200);
    expect(await estimate()).toMatchObject({
      audience_size: 6,
      recipients: 1,
      skipped: { deleted: 2, opted_out: 1, missing_parameter: 1, duplicate: 1 },
      skipped_count: 5,
      is_lower_bound: false,
      seconds: 1,
    });
    // A tag means who has it; a text for people without a name leaves nobody out for that.
    expect(await estimate({ audience: { tags: ["vip"] }, ...params })).toMatchObject({
      audience_size: 4,
      recipients: 2,
      skipped: { opted_out: 1, not_opted_in: 1 },
    });
    // Without an audience: those who opted in, and nobody is left out.
    expect(await estimate({ audience: null, ...params })).toMatchObject({
      audience_size: 2,
      recipients: 2,
      skipped: {},
    });
    expect(await estimate({ audience: { all: true }, ...params })).toMatchObject({ audience_size: 4, recipients: 2 });
    expect((await bodyOf(await call("GET", `/${id}`), 200)).audience).toMatchObject({
      contact_ids: [ana, ana, nameless, silent, gone, nobody],
    });

    // And that is what happens.
    await bodyOf(await call("POST", `/${id}/start`), 200);
    const recipients = await bodyOf(await call("GET", `/${id}/recipients`), 200);
    expect(recipients.total).toBe(5);
    const told = Object.fromEntries(
      (recipients.data as Body[]).map((one) => [one.contact_id, one.status === "skipped" ? one.reason : "meant"]),
    );
    expect(told).toEqual({
      [ana]: "meant",
      [nameless]: "missing_parameter",
      [silent]: "opted_out",
      [gone]: "deleted",
      [nobody]: "deleted",
    });
  });

  it("of a campaign that is no marketing needs no consent", async () => {
    template = await approved(account, {
      name: "your_order",
      category: "UTILITY",
      components: { body: { text: "Dear {{1}}, your order is ready." } },
    });
    await contact({ opted_in: false });
    await contact();
    const id = await made({ audience: { all: true }, ...params });
    expect(await bodyOf(await call("GET", `/${id}/estimate`), 200)).toMatchObject({ recipients: 2, skipped: {} });
  });
});

describe("calls that are repeated", () => {
  it("with their key start once, and say so", async () => {
    await contact();
    const id = await made(params);
    const key = { "Idempotency-Key": `start-${id}` };
    const first = await call("POST", `/${id}/start`, undefined, key);
    expect(first.status).toBe(200);
    const second = await call("POST", `/${id}/start`, undefined, key);
    expect(await bodyOf(second, 200)).toMatchObject({ id });
    expect(second.headers.get("Idempotency-Replayed")).toBe("true");
    const other = await made(params);
    expect((await call("POST", `/${other}/start`, undefined, key)).status).toBe(409);
    await eventually(async () => {
      expect((await bodyOf(await call("GET", `/${id}`), 200)).status).toBe("completed");
    });
    const { data } = await sandbox.accepted({ phone_number_id: account.number.providerNumberId });
    expect(data).toHaveLength(1);
  });

  it("give back a key that started nothing", async () => {
    await contact();
    const id = await made();
    const key = { "Idempotency-Key": `again-${id}` };
    expect((await call("POST", `/${id}/start`, undefined, key)).status).toBe(422);
    await bodyOf(await call("PATCH", `/${id}`, params), 200);
    expect((await call("POST", `/${id}/start`, undefined, key)).status).toBe(200);
  });

  it("send one test message", async () => {
    const ana = await contact({ name: "Ana" });
    const id = await made({ template_params: { body: [{ type: "text", text: "{{contact.name}}" }] } });
    const key = { "Idempotency-Key": `test-${id}` };
    const sent = await bodyOf(await call("POST", `/${id}/test-send`, { contact_id: ana }, key), 201);
    expect(sent).toMatchObject({
      type: "template",
      status: "queued",
      content: { text: "Hello Ana, welcome to our service!" },
    });
    const again = await call("POST", `/${id}/test-send`, { contact_id: ana }, key);
    expect(await bodyOf(again, 201)).toEqual(sent);
    expect((await call("POST", `/${id}/test-send`, { to: "+4930123" }, key)).status).toBe(409);
    // Nobody is known by this number, and nothing is said for people without a name.
    expect(await refusedAt(await call("POST", `/${id}/test-send`, { to: "+493012345678" }))).toEqual(["body", "to"]);
    expect(await refusedAt(await call("POST", `/${id}/test-send`, {}))).toEqual(["body", "to"]);
    expect(await bodyOf(await call("GET", `/${id}`), 200)).toMatchObject({ status: "draft", total_contacts: 0 });
  });
});

describe("a planned campaign", () => {
  it("is started by the cron when its time has come, unless it has no date or was paused", async () => {
    await contact();
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const planned = await made({ ...params, scheduled_at: soon });
    const dateless = await made({ ...params, name: "Dateless" });
    await call("PATCH", `/${dateless}`, { status: "scheduled" });
    const paused = await made({ ...params, name: "Paused", scheduled_at: soon });
    await env.SHARD_0.prepare("UPDATE campaigns SET paused_at = 1 WHERE id = ?1").bind(paused).run();
    const broken = await made({ name: "Broken", scheduled_at: soon });
    const states = async () =>
      Promise.all(
        [planned, dateless, paused, broken].map(async (id) => (await bodyOf(await call("GET", `/${id}`), 200)).status),
      );
    await fireCron("* * * * *", Date.now());
    expect(await states()).toEqual(["scheduled", "scheduled", "scheduled", "scheduled"]);
    const then = Date.now() + 3_660_000;
    await Promise.all([fireCron("* * * * *", then), fireCron("* * * * *", then)]);
    expect((await states()).slice(1)).toEqual(["scheduled", "scheduled", "scheduled"]);
    expect(["sending", "completed"]).toContain((await states())[0]);
    const held = await bodyOf(await call("GET", `/${broken}`), 200);
    expect(held.pause_reason).toMatch(/^It could not be started: /);
    // Put right and planned anew, it is held back no more.
    const later = new Date(Date.now() + 7_200_000).toISOString();
    const again = await bodyOf(await call("PATCH", `/${broken}`, { ...params, scheduled_at: later }), 200);
    expect(again).toMatchObject({ status: "scheduled", paused_at: null, pause_reason: null });
    await eventually(async () => {
      const { data } = await sandbox.accepted({ phone_number_id: account.number.providerNumberId });
      expect(data).toHaveLength(1);
    });
  });
});

describe("who may", () => {
  it("is every member but agents, and an API key", async () => {
    const id = await made();
    const member = await memberWithRole(account.workspace, "MEMBER");
    const agent = await memberWithRole(account.workspace, "AGENT");
    const stranger = await newWorkspace();
    const calls: [string, string, unknown?][] = [
      ["GET", `?workspace_id=${account.workspace.workspaceId}`],
      ["GET", `/${id}`],
      ["GET", `/${id}/recipients`],
      ["GET", `/${id}/estimate`],
      ["POST", `/${id}/estimate`, {}],
      ["PATCH", `/${id}`, { name: "Renamed" }],
    ];
    for (const [method, path, body] of calls) {
      expect((await member.call(method, `${ITEMS}${path}`, body)).status, path).toBe(200);
      expect((await account.workspace.callWithKey(method, `${ITEMS}${path}`, body)).status, path).toBe(200);
      expect((await agent.call(method, `${ITEMS}${path}`, body)).status, path).toBe(403);
      expect((await stranger.call(method, `${ITEMS}${path}`, body)).status, path).toBe(404);
    }
    for (const verb of ["start", "pause", "cancel", "retry-failed", "test-send"]) {
      const body = verb === "test-send" ? { to: "+4930123456" } : undefined;
      expect((await agent.call("POST", `${ITEMS}/${id}/${verb}`, body)).status, verb).toBe(403);
      expect((await stranger.call("POST", `${ITEMS}/${id}/${verb}`, body)).status, verb).toBe(404);
    }
    expect((await agent.call("POST", ITEMS, summerSale())).status).toBe(403);
    expect((await agent.call("DELETE", `${ITEMS}/${id}`)).status).toBe(403);
    expect((await stranger.call("DELETE", `${ITEMS}/${id}`)).status).toBe(404);
  });
});
