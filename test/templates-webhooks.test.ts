import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { createRuntime, shard } from "../src/platform/runtime";
import { templateStatements } from "../src/templates/service-webhooks";
import { graph } from "./support/graph";
import { newWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { deliver, fireCron } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { type Account, approved, type Body, bodyOf, make, withAccount } from "./support/templates";
import { webhookJob } from "./support/webhooks";

const PATH = "/api/templates";

beforeEach(async () => {
  await sandbox.reset();
});

const get = async (account: Pick<Account, "workspace">, id: unknown) =>
  bodyOf(await account.workspace.call("GET", `${PATH}/${id}`), 200);

/** Delivers what the provider has to say, and waits until the template shows it. */
async function told(account: Account, id: unknown, expected: Body): Promise<Body> {
  await sandbox.flush();
  return vi.waitFor(
    async () => {
      const template = await get(account, id);
      expect(template).toMatchObject(expected);
      return template;
    },
    { timeout: 5_000, interval: 20 },
  );
}

interface Notice {
  field: string;
  value: Body;
  /** Seconds. */
  time?: number;
}

/** A POST about templates of an account, as Meta writes it. */
function notices(businessId: string, ...list: Notice[]): object {
  return {
    object: "whatsapp_business_account",
    entry: list.map(({ field, value, time }) => ({
      id: businessId,
      time: time ?? Math.floor(Date.now() / 1000),
      changes: [{ field, value }],
    })),
  };
}

const status = (template: Body, event: string, extra: Body = {}, time?: number): Notice => ({
  field: "message_template_status_update",
  value: {
    event,
    message_template_id: Number(template.meta_template_id),
    message_template_name: template.name,
    message_template_language: "en-US",
    reason: "NONE",
    ...extra,
  },
  ...(time === undefined ? {} : { time }),
});

/** Hands webhooks to the consumer as the queue would. */
async function arrive(...bodies: object[]): Promise<void> {
  const result = await deliver("inbound", bodies.map(webhookJob));
  expect(result.retryBatch.retry).toBe(false);
}

describe("a review", () => {
  it("shows on the template, with its reason", async () => {
    const account = await withAccount();
    const made = await make(account);
    await sandbox.review(String(made.meta_template_id), "APPROVED");
    await told(account, made.id, { status: "APPROVED", provider_status: "APPROVED", rejection_reason: null });
    const other = await make(account, { name: "rejected_one" });
    await sandbox.review(String(other.meta_template_id), "REJECTED", "TAG_CONTENT_MISMATCH");
    await told(account, other.id, { status: "REJECTED", rejection_reason: "TAG_CONTENT_MISMATCH" });
    expect(await get(account, made.id)).toMatchObject({ status: "APPROVED" });
  });

  it("explains a rejection, a pause and what ends it", async () => {
    const account = await withAccount();
    const made = await approved(account);
    const said = async (event: string, extra: Body) => {
      await arrive(notices(account.businessId, status(made, event, extra)));
      return get(account, made.id);
    };
    const rejection_info = { reason: "Variables stand at the end", recommendation: "Put a word behind them" };
    expect(await said("REJECTED", { reason: "INVALID_FORMAT", rejection_info })).toMatchObject({
      status: "REJECTED",
      rejection_reason: "INVALID_FORMAT: Variables stand at the end: Put a word behind them",
    });
    const other_info = { title: "FIRST_PAUSE", description: "People reported it; paused for 3 hours" };
    expect(await said("LOCKED", { other_info })).toMatchObject({
      status: "PENDING",
      provider_status: "PAUSED",
      rejection_reason: null,
      status_note: "FIRST_PAUSE: People reported it; paused for 3 hours",
    });
    expect(await said("FLAGGED", {})).toMatchObject({ status: "APPROVED", provider_status: "FLAGGED" });
    expect(await said("DISABLED", { disable_info: { disable_date: 1 } })).toMatchObject({
      status: "REJECTED",
      provider_status: "DISABLED",
      rejection_reason: "DISABLED",
    });
    expect(await said("REINSTATED", {})).toMatchObject({
      status: "APPROVED",
      rejection_reason: null,
      status_note: null,
    });
  });

  it("is the latest word, however often and in whatever order webhooks come", async () => {
    const account = await withAccount();
    const made = await make(account);
    const now = Math.floor(Date.now() / 1000);
    const story = ["APPROVED", "FLAGGED", "PAUSED", "APPROVED", "DISABLED"].map((event, place) =>
      notices(account.businessId, status(made, event, {}, now + place)),
    );
    for (const order of [
      [4, 0, 2, 1, 3],
      [0, 4, 3, 2, 1],
      [2, 2, 4, 4, 0],
    ]) {
      await arrive(...order.map((place) => story[place] ?? {}));
      expect(await get(account, made.id)).toMatchObject({ status: "REJECTED", provider_status: "DISABLED" });
    }
    for (const place of [3, 1]) await arrive(story[place] ?? {});
    expect(await get(account, made.id)).toMatchObject({ provider_status: "DISABLED" });
    // Two words of one second: the later one of the POST.
    await arrive(
      notices(account.businessId, status(made, "PAUSED", {}, now + 9), status(made, "APPROVED", {}, now + 9)),
    );
    expect(await get(account, made.id)).toMatchObject({ provider_status: "APPROVED" });
  });

  it("stands when an answer that was asked for before it comes after it", async () => {
    const account = await withAccount();
    const made = await make(account);
    const soon = Math.floor(Date.now() / 1000) + 30;
    await arrive(notices(account.businessId, status(made, "APPROVED", {}, soon)));
    const asked = await bodyOf(await account.workspace.call("PATCH", `${PATH}/${made.id}`, { status: "PENDING" }), 200);
    expect(asked).toMatchObject({ status: "APPROVED", status_note: "The provider says APPROVED, not PENDING" });
  });

  it("that comes before the answer of the call that made it is not lost", async () => {
    const account = await withAccount();
    await sandbox.faults({ kind: "drop_after_accept", on: "other", count: 1 });
    const made = await make(account);
    expect(made.meta_template_id).toBeNull();
    const { data } = await sandbox.templates();
    const id = String(data[0]?.id);
    await sandbox.review(id, "APPROVED");
    await told(account, made.id, { status: "APPROVED", meta_template_id: id, status_note: null });
    await fireCron("* * * * *", Date.now() + 3_600_000);
    expect(await get(account, made.id)).toMatchObject({ status: "APPROVED", meta_template_id: id });
    expect((await sandbox.templates()).data).toHaveLength(1);
  });

  it("of a template that was deleted does not touch the one that has its name now", async () => {
    const account = await withAccount();
    const first = await make(account);
    await account.workspace.call("DELETE", `${PATH}/${first.id}`);
    await arrive(notices(account.businessId, status(first, "DELETED")));
    expect((await account.workspace.call("GET", `${PATH}/${first.id}`)).status).toBe(404);
    await sandbox.faults({ kind: "reset", on: "other", count: 1 });
    const second = await make(account);
    await arrive(notices(account.businessId, status(first, "APPROVED", { message_template_language: "en" })));
    expect(await get(account, second.id)).toMatchObject({ status: "PENDING", meta_template_id: null });
  });
});

describe("other news of a template", () => {
  it("its quality and its category, with what is announced", async () => {
    const account = await withAccount();
    const made = await approved(account);
    const base = {
      message_template_id: Number(made.meta_template_id),
      message_template_name: "welcome_message",
      message_template_language: "en-US",
    };
    const quality = (score: string): Notice => ({
      field: "message_template_quality_update",
      value: { ...base, previous_quality_score: "GREEN", new_quality_score: score },
    });
    await arrive(notices(account.businessId, quality("YELLOW")));
    expect(await get(account, made.id)).toMatchObject({ quality_score: "YELLOW", status: "APPROVED" });
    const announced = { new_category: "UTILITY", correct_category: "MARKETING", category_update_timestamp: 1746169200 };
    await arrive(notices(account.businessId, { field: "template_category_update", value: { ...base, ...announced } }));
    expect(await get(account, made.id)).toMatchObject({
      category: "UTILITY",
      status_note: "The provider will make its category MARKETING on 2025-05-02T07:00:00Z",
    });
    const done = { previous_category: "UTILITY", new_category: "MARKETING" };
    await arrive(notices(account.businessId, { field: "template_category_update", value: { ...base, ...done } }));
    expect(await get(account, made.id)).toMatchObject({ category: "MARKETING", quality_score: "YELLOW" });
  });

  it("its texts at once, the rest of an edit within a minute", async () => {
    const account = await withAccount();
    const made = await approved(account, {
      components: {
        header: { format: "IMAGE", example: { header_handle: ["h"] } },
        body: { text: "Hello {{1}}, welcome!" },
        buttons: [{ type: "QUICK_REPLY", text: "Thanks" }],
      },
    });
    const edited = [
      { type: "BODY", text: "Hello {{1}}, come in!", example: { body_text: [["Ana"]] } },
      { type: "FOOTER", text: 'It\'s "us"' },
      { type: "BUTTONS", buttons: [{ type: "QUICK_REPLY", text: "Bye" }] },
    ];
    await graph("POST", `/${made.meta_template_id}`, { components: edited }, account.token);
    await arrive(
      notices(account.businessId, {
        field: "message_template_components_update",
        value: {
          message_template_id: Number(made.meta_template_id),
          message_template_name: "welcome_message",
          message_template_language: "en",
          message_template_element: "Hello {{1}}, come in!",
          message_template_footer: 'It\'s "us"',
        },
      }),
    );
    expect((await get(account, made.id)).components).toEqual({
      header: { format: "IMAGE", example: { header_handle: ["h"] } },
      body: { text: "Hello {{1}}, come in!", example: { body_text: [["Sample 1"]] } },
      footer: { text: 'It\'s "us"' },
      buttons: [{ type: "QUICK_REPLY", text: "Thanks" }],
    });
    await fireCron("* * * * *", Date.now() + 1_000);
    expect(await get(account, made.id)).toMatchObject({ status: "PENDING" });
    expect((await get(account, made.id)).components).toEqual({
      body: { text: "Hello {{1}}, come in!", example: { body_text: [["Ana"]] } },
      footer: { text: 'It\'s "us"' },
      buttons: [{ type: "QUICK_REPLY", text: "Bye" }],
    });
  });
});

describe("whose template it is", () => {
  it("every workspace with a number of the account hears of it, and nobody else", async () => {
    const account = await withAccount();
    const made = await make(account);
    const partner = await newWorkspace({ shard: 1 });
    const number = await registerNumber(partner, { business_id: account.businessId, access_token: account.token });
    await bodyOf(await partner.call("POST", `${PATH}/sync`, { phone_number_id: number.id }), 200);
    const [theirs] = (await bodyOf(await partner.call("GET", PATH), 200)).data as Body[];
    const stranger = await withAccount();
    const foreign = await make(stranger, { name: "foreign" });
    // An account that names another's template changes nothing of it.
    await arrive(notices(account.businessId, status(foreign, "DISABLED")));
    const second = await withAccount(account.workspace);
    const sibling = await make(second, { name: "sibling" });
    await arrive(notices(account.businessId, status(sibling, "DISABLED")));
    expect(await get(second, sibling.id)).toMatchObject({ status: "PENDING", provider_status: "PENDING" });
    expect(await get(stranger, foreign.id)).toMatchObject({ status: "PENDING", provider_status: "PENDING" });
    await arrive(notices(account.businessId, status(made, "APPROVED")));
    expect(await get(account, made.id)).toMatchObject({ status: "APPROVED" });
    expect(await get({ workspace: partner }, theirs?.id)).toMatchObject({ status: "APPROVED" });
    expect(theirs?.id).not.toBe(made.id);
  });

  it("a batch about many templates costs no more than their rows", async () => {
    const account = await withAccount();
    await env.SHARD_0.prepare(
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
       INSERT INTO templates (workspace_id, id, phone_number_id, business_id, name, language, category, parameter_format, components,
         status, meta_template_id, attempts, created_at, updated_at)
       SELECT ?1, printf('01900000-0000-7000-8000-%012x', i), ?2, ?3, 'seed_' || i, 'en', 'UTILITY', 'POSITIONAL', '{}', 'PENDING',
         printf('9%015d', i), 0, 0, 0 FROM n`,
    )
      .bind(account.workspace.workspaceId, account.number.id, account.businessId)
      .run();
    const db = shard(createRuntime(env), 0);
    const updates = Array.from({ length: 100 }, (_, n) => ({
      workspaceId: account.workspace.workspaceId,
      businessId: account.businessId,
      receivedAt: Date.now(),
      position: n,
      update: {
        id: `9${String(n + 1).padStart(15, "0")}`,
        name: `seed_${n + 1}`,
        language: "en",
        at: null,
        status: { word: "APPROVED", reason: null },
        qualityScore: "GREEN",
        category: { now: "UTILITY", announced: null },
        texts: null,
      },
    }));
    await db.batch(templateStatements(updates, Date.now()));
    expect(db.cost.rowsRead).toBeLessThanOrEqual(100 * 15);
    const { n } = (await db.first<{ n: number }>(
      "SELECT count(*) AS n FROM templates WHERE workspace_id = ?1 AND status = 'APPROVED' AND quality_score = 'GREEN'",
      account.workspace.workspaceId,
    )) ?? { n: 0 };
    expect(n).toBe(100);
  });
});
