import { env } from "cloudflare:workers";
import { describe, expect, it, vi } from "vitest";
import { eraseFirings } from "../src/auto-replies/service-erase";
import { insertFiring, selectCandidates } from "../src/auto-replies/store-firings";
import { createRuntime, shard } from "../src/platform/runtime";
import { crashingRun } from "./support/crash";
import { DeliveryWorld } from "./support/endpoints";
import { memberWithRole, newWorkspace } from "./support/identity";
import { about, contact, message, receive, says } from "./support/inbox";
import { deliver } from "./support/pipeline";

vi.setConfig({ testTimeout: 60_000 });

interface Rule {
  id: string;
  position: number;
  [member: string]: unknown;
}

const hello = { kind: "text", text: "Hello {{contact.first_name|there}}!" };

async function world(options: Parameters<typeof newWorkspace>[0] = {}): Promise<DeliveryWorld> {
  const made = await DeliveryWorld.create(options);
  made.now = Date.now();
  return made;
}

async function rule(at: DeliveryWorld, more: Record<string, unknown> = {}): Promise<Rule> {
  const body = { workspace_id: at.workspace.workspaceId, name: "Rule", match: { kind: "any" }, answer: hello, ...more };
  const response = await at.call("POST", "/api/auto-replies", body);
  if (response.status !== 201) throw new Error(await response.text());
  return response.json<Rule>();
}

interface Sent {
  id: string;
  type: string;
  content: Record<string, unknown>;
  conversation_id: string;
}

/** What was accepted to be sent, oldest first. */
async function answers(at: DeliveryWorld): Promise<Sent[]> {
  const rows = await at.rows<{ id: string; type: string; content: string; conversation_id: string }>(
    "SELECT id, type, content, conversation_id FROM messages WHERE workspace_id = ?1 AND direction = 'outbound' AND origin = 'api' ORDER BY id",
  );
  return rows.map((row) => ({ ...row, content: JSON.parse(row.content) }));
}

const textsOf = async (at: DeliveryWorld) => (await answers(at)).map(({ content }) => content.body);

async function firings(at: DeliveryWorld, id: string) {
  const response = await at.call("GET", `/api/auto-replies/${id}/firings`);
  return response.json<{
    data: { status: string; message_id: string | null; error: string | null }[];
    total: number;
  }>();
}

/** A person writes, and what that orders is done. */
async function say(at: DeliveryWorld, person: string, ...texts: string[]): Promise<void> {
  await at.write(person, ...texts);
  await at.run();
}

async function hear(at: DeliveryWorld, body: object): Promise<void> {
  await receive([body], { env: at.env, overrides: at.overrides });
  await at.run();
}

describe("a rule", () => {
  it("answers a person in their conversation, with their name, and the firing is recorded", async () => {
    const at = await world();
    const { id } = await rule(at);
    await say(at, at.person(), "Hi");
    const [answer, ...more] = await answers(at);
    expect(more).toEqual([]);
    expect(answer).toMatchObject({ type: "text", content: { body: "Hello Ann!" } });
    expect(await firings(at, id)).toMatchObject({
      total: 1,
      data: [{ status: "sent", message_id: answer?.id, error: null }],
    });
  });

  it.each([
    ["keyword", { texts: ["price list"] }, ["Your PRICE, list?", "the price  list"], ["pricelist", "my price listing"]],
    ["exact", { texts: ["Menu"] }, ["menu", "  MENU "], ["the menu", "menus"]],
    ["contains", { texts: ["refund"] }, ["norefunds", "A Refund please"], ["re fund"]],
    ["starts_with", { texts: ["order"], case_sensitive: true }, ["order 5"], ["Order 5", "my order"]],
    ["pattern", { pattern: "^order\\s+#?(\\d{3,})$" }, ["Order 1234", "order  #555"], ["order 12", "an order 1234"]],
  ])("by %s fits what it should and nothing else", async (kind, match, fitting, others) => {
    const at = await world();
    await rule(at, { match: { kind, ...match } });
    for (const text of fitting) await say(at, at.person(), text);
    expect(await answers(at)).toHaveLength(fitting.length);
    for (const text of others) await say(at, at.person(), text);
    expect(await answers(at)).toHaveLength(fitting.length);
  });

  it("with a pattern that holds other engines for years answers at once", async () => {
    const at = await world();
    await rule(at, { match: { kind: "pattern", pattern: "^(a+)+$" } });
    const startedAt = Date.now();
    await say(at, at.person(), `${"a".repeat(4000)}b`);
    expect(Date.now() - startedAt).toBeLessThan(5000);
    expect(await answers(at)).toEqual([]);
  });

  it("by the id of a button, a list row or a template's button", async () => {
    const at = await world();
    await rule(at, { match: { kind: "reply_id", ids: ["yes"] } });
    const tap = (type: string, payload: Record<string, unknown>) => {
      const sender = { wa: at.person(), name: "Ann" };
      return hear(at, says(at.number, sender, { type, at: Math.floor(at.now / 1000) * 1000, [type]: payload }));
    };
    await tap("interactive", { type: "button_reply", button_reply: { id: "yes", title: "Yes" } });
    await tap("interactive", { type: "list_reply", list_reply: { id: "yes", title: "Yes" } });
    await tap("button", { payload: "yes", text: "Yes" });
    await tap("interactive", { type: "button_reply", button_reply: { id: "no", title: "yes" } });
    expect(await answers(at)).toHaveLength(3);
  });

  it("for first messages answers the first only, though three come at once", async () => {
    const at = await world();
    await rule(at, { match: { kind: "first_message" } });
    const person = at.person();
    await say(at, person, "One", "Two", "Three");
    await say(at, person, "Four");
    expect(await answers(at)).toHaveLength(1);
  });

  it("outside business hours knows the time zone, daylight saving and midnight", async () => {
    const at = await world();
    const office = {
      kind: "outside_hours",
      time_zone: "Europe/Berlin",
      hours: [{ days: ["mon", "fri"], from: "09:00", to: "17:00" }],
    };
    const { id } = await rule(at, { match: office });
    const bar = {
      kind: "outside_hours",
      time_zone: "America/New_York",
      hours: [{ days: ["fri"], from: "20:00", to: "02:00" }],
    };
    const night = await rule(at, { match: bar });
    const fitsAt = async (rule_id: string, time: string) => {
      const response = await at.call("POST", "/api/auto-replies/test", {
        workspace_id: at.workspace.workspaceId,
        rule_id,
        text: "Hi",
        at: time,
      });
      return (await response.json<{ rule_id: string | null }>()).rule_id === rule_id;
    };
    // A Monday in winter (UTC+1) and one in summer (UTC+2).
    expect(await fitsAt(id, "2026-01-05T07:59:00Z")).toBe(true);
    expect(await fitsAt(id, "2026-01-05T08:00:00Z")).toBe(false);
    expect(await fitsAt(id, "2026-01-05T16:00:00Z")).toBe(true);
    expect(await fitsAt(id, "2026-07-06T07:00:00Z")).toBe(false);
    expect(await fitsAt(id, "2026-07-07T10:00:00Z")).toBe(true);
    // Friday night in New York (UTC-5): open from Saturday 01:00 to 07:00 UTC.
    expect(await fitsAt(night.id, "2026-01-10T00:59:00Z")).toBe(true);
    expect(await fitsAt(night.id, "2026-01-10T01:00:00Z")).toBe(false);
    expect(await fitsAt(night.id, "2026-01-10T06:59:00Z")).toBe(false);
    expect(await fitsAt(night.id, "2026-01-10T07:00:00Z")).toBe(true);
  });

  it("is looked at in order, and the first that fits decides", async () => {
    const at = await world();
    const general = await rule(at, { name: "General", answer: { kind: "text", text: "General" } });
    const special = await rule(at, {
      name: "Special",
      match: { kind: "exact", texts: ["vip"] },
      answer: { kind: "text", text: "Special" },
    });
    await say(at, at.person(), "vip");
    const path = "/api/auto-replies/order";
    const workspace_id = at.workspace.workspaceId;
    const ordered = await at.call("PUT", path, { workspace_id, ids: [special.id] });
    expect((await ordered.json<{ data: Rule[] }>()).data.map(({ id }) => id)).toEqual([special.id, general.id]);
    await say(at, at.person(), "vip");
    await say(at, at.person(), "else");
    await at.call("PATCH", `/api/auto-replies/${special.id}`, { enabled: false });
    await say(at, at.person(), "vip");
    expect(await textsOf(at)).toEqual(["General", "Special", "General", "General"]);
    expect((await at.call("PUT", path, { workspace_id, ids: [special.id, special.id] })).status).toBe(422);
  });

  it("of one number leaves the others alone", async () => {
    const at = await world();
    const other = await DeliveryWorld.create();
    await rule(at, { phone_number_id: at.number.id });
    expect(
      (
        await at.call("POST", "/api/auto-replies", {
          name: "X",
          match: { kind: "any" },
          answer: hello,
          phone_number_id: other.number.id,
        })
      ).status,
    ).toBe(422);
    await say(at, at.person(), "Hi");
    expect(await answers(at)).toHaveLength(1);
  });

  it("answers with buttons and templates too, and says why where it cannot", async () => {
    const at = await world();
    const interactive = {
      type: "button",
      body: { text: "Hi {{contact.name}}" },
      action: { buttons: [{ type: "reply", reply: { id: "a", title: "Go" } }] },
    };
    await rule(at, { match: { kind: "exact", texts: ["buttons"] }, answer: { kind: "interactive", interactive } });
    const template = { kind: "template", template_name: "no_such_template", template_language: "en" };
    const missing = await rule(at, { match: { kind: "exact", texts: ["template"] }, answer: template });
    const media = {
      kind: "media",
      media_type: "image",
      media_id: "019f0000-0000-7000-8000-000000000000",
      caption: "For {{contact.name}}",
    };
    const gone = await rule(at, { match: { kind: "exact", texts: ["media"] }, answer: media });
    for (const text of ["buttons", "template", "media"]) await say(at, at.person(), text);
    expect(await answers(at)).toMatchObject([{ type: "interactive", content: { body: { text: "Hi Ann" } } }]);
    for (const { id } of [missing, gone]) {
      expect(await firings(at, id)).toMatchObject({
        data: [{ status: "failed", message_id: null, error: expect.any(String) }],
      });
    }
  });
});

describe("limits", () => {
  it("a cool-down is each person's own, and eight deliveries of one message at once are one answer", async () => {
    const at = await world();
    await rule(at, { cooldown_seconds: 3600 });
    const [ann, bob] = [at.person(), at.person()];
    await at.write(ann, "One");
    const jobs = at.held.splice(0).map(({ body }) => body);
    await Promise.all(
      Array.from({ length: 8 }, () =>
        deliver("deliveries", jobs, { env: at.env, overrides: at.overrides, attempts: 2 }),
      ),
    );
    await say(at, ann, "Two");
    await say(at, bob, "Three");
    expect(await answers(at)).toHaveLength(2);
    at.now += 3_601_000;
    await at.writeAll([]);
    await hear(at, says(at.number, { wa: ann, name: "Ann" }, { at: Math.floor(at.now / 1000) * 1000 }));
    expect(await answers(at)).toHaveLength(3);
  });

  it("two messages of one person at once pass a cool-down once", async () => {
    const at = await world();
    await rule(at, { cooldown_seconds: 3600 });
    const person = at.person();
    await at.write(person, "One");
    await at.write(person, "Two");
    const jobs = at.held.splice(0).map(({ body }) => body);
    expect(jobs).toHaveLength(2);
    await Promise.all(jobs.map((job) => deliver("deliveries", [job], { env: at.env, overrides: at.overrides })));
    expect(await answers(at)).toHaveLength(1);
  });

  it("a daily limit is kept by all people together", async () => {
    const at = await world();
    const { id } = await rule(at, { daily_limit: 3 });
    await at.writeAll(Array.from({ length: 10 }, (_, n) => [at.person(), `M${n}`]));
    await at.run();
    expect(await answers(at)).toHaveLength(3);
    expect((await firings(at, id)).total).toBe(3);
  });

  it("a redelivery of the webhook, or of the job, never answers twice", async () => {
    const at = await world();
    const { id } = await rule(at);
    const body = says(at.number, { wa: at.person(), name: "Ann" }, { at: Math.floor(at.now / 1000) * 1000 });
    await receive([body], { env: at.env, overrides: at.overrides });
    const jobs = at.held.map(({ body: job }) => job);
    await at.run();
    await receive([body], { env: at.env, overrides: at.overrides, attempts: 2 });
    await deliver("deliveries", jobs, { env: at.env, overrides: at.overrides, attempts: 3 });
    await at.run();
    expect(await answers(at)).toHaveLength(1);
    // Nor does another rule, when the first one has gone meanwhile.
    await at.call("PATCH", `/api/auto-replies/${id}`, { enabled: false });
    await rule(at, { answer: { kind: "text", text: "Another" } });
    await deliver("deliveries", jobs, { env: at.env, overrides: at.overrides, attempts: 4 });
    expect(await textsOf(at)).toEqual(["Hello Ann!"]);
  });

  it("two rules that both mean to answer one message, at once or later, do so once", async () => {
    const at = await world();
    await rule(at);
    await rule(at, { answer: { kind: "text", text: "Another" } });
    await at.write(at.person(), "Hi");
    const [row] = await at.rows<{ id: string }>("SELECT id FROM messages WHERE workspace_id = ?1");
    const db = shard(createRuntime(at.env), 0);
    const { rules, candidates } = await selectCandidates(db, at.workspace.workspaceId, [row?.id ?? ""], at.now);
    const [candidate] = candidates;
    if (!candidate) throw new Error("The message is not there");
    const firings = await Promise.all(rules.map((one) => insertFiring(db, one, candidate.message, at.now)));
    expect(rules).toHaveLength(2);
    expect(firings.filter((firing) => firing !== null)).toHaveLength(1);
  });

  it("a crash between the firing and the answer, or between the answer and its note, answers once", async () => {
    const at = await world();
    const { id } = await rule(at);
    await at.write(at.person(), "Hi");
    const jobs = at.held.splice(0).map(({ body }) => body);
    const again = () => deliver("deliveries", jobs, { env: at.env, overrides: at.overrides, attempts: 2 });
    await again();
    const [sent] = await answers(at);
    // The note is lost: the firing still says pending.
    await env.SHARD_0.prepare(
      "UPDATE auto_reply_firings SET status = 'pending', message_id = NULL WHERE workspace_id = ?1",
    )
      .bind(at.workspace.workspaceId)
      .run();
    await again();
    expect(await answers(at)).toHaveLength(1);
    expect(await firings(at, id)).toMatchObject({ total: 1, data: [{ status: "sent", message_id: sent?.id }] });
  });

  it.each([1, 2, 3, 4, 5, 6])(
    "a crash at effect %i of the job is made good by its redelivery: one answer",
    async (step) => {
      const at = await world();
      await rule(at);
      await at.write(at.person(), "Hi");
      const jobs = at.held.splice(0).map(({ body }) => body);
      const run = crashingRun(at.env, { at: step, when: "after" });
      const result = await deliver("deliveries", jobs, {
        env: run.env,
        overrides: { ...at.overrides, fetch: run.fetch },
      });
      expect(run.crashed()).toBe(true);
      await deliver("deliveries", jobs, { env: at.env, overrides: at.overrides, attempts: 2 });
      expect(await answers(at)).toHaveLength(1);
      // What the crash took away before the end was handed back to the queue, unless nothing was left to do.
      expect([0, 1]).toContain(result.retryMessages.length);
      const [firing] = await at.rows<{ status: string }>(
        "SELECT status FROM auto_reply_firings WHERE workspace_id = ?1",
      );
      expect(firing?.status).toBe("sent");
    },
  );
});

describe("who is not answered", () => {
  it("people who opted out, or just do; groups; history; echoes; reactions; what is unsupported or old; our own numbers", async () => {
    const at = await world();
    await rule(at);
    const now = Math.floor(at.now / 1000) * 1000;
    const out = at.person();
    await say(at, out, "STOP");
    await say(at, out, "Hello?");
    const old = { wa: at.person(), name: "Ann" };
    await hear(at, says(at.number, old, { at: now - 16 * 60_000 }));
    const sender = { wa: at.person(), name: "Ann" };
    await hear(
      at,
      says(at.number, sender, { type: "reaction", at: now, reaction: { message_id: "wamid.x", emoji: "👍" } }),
    );
    await hear(
      at,
      says(at.number, sender, {
        type: "unsupported",
        at: now,
        unsupported: {},
        errors: [{ code: 131051, title: "no" }],
      }),
    );
    await hear(at, says(at.number, sender, { at: now, group_id: "12036304" }));
    await hear(at, says(at.number, { wa: at.number.phoneNumber.slice(1), name: "Us" }, { at: now }));
    const echo = {
      from: at.number.phoneNumber.slice(1),
      to: at.person(),
      id: `wamid.e-${now}`,
      timestamp: String(now / 1000),
      type: "text",
      text: { body: "From the phone" },
    };
    await hear(at, about(at.number, { message_echoes: [echo] }, "smb_message_echoes"));
    const thread = {
      id: at.person(),
      messages: [{ ...message({ wa: at.person() }, { at: now }), history_context: { status: "read" } }],
    };
    await hear(
      at,
      about(
        at.number,
        { history: [{ metadata: { phase: 0 }, threads: [thread] }], contacts: [contact(sender)] },
        "history",
      ),
    );
    expect(await answers(at)).toEqual([]);
    await say(at, at.person(), "A person");
    expect(await answers(at)).toHaveLength(1);
  });

  it("a machine that answers our answers is left alone after a few", async () => {
    const at = await world();
    await rule(at);
    const machine = at.person();
    for (let round = 0; round < 15; round += 1) {
      await say(at, machine, `I am away (${round})`);
      at.now += 2_000;
    }
    expect(await answers(at)).toHaveLength(10);
    // Many people at once are no machine; one who writes as much as a machine at once is.
    await at.writeAll(Array.from({ length: 15 }, (_, n) => [at.person(), `Person ${n}`]));
    await at.run();
    expect(await answers(at)).toHaveLength(25);
    const burst = at.person();
    await say(at, burst, ...Array.from({ length: 15 }, (_, n) => `Burst ${n}`));
    expect(await answers(at)).toHaveLength(35);
  });

  it("a conversation that an agent has just answered, until the quiet is over; answers of rules are no agent's", async () => {
    const at = await world();
    await rule(at, { quiet_minutes: 10 });
    const person = at.person();
    await say(at, person, "One");
    await say(at, person, "Two");
    expect(await answers(at)).toHaveLength(2);
    const [{ conversation_id = "" } = {}] = await answers(at);
    await at.call("POST", "/api/messages/send/text", {
      workspace_id: at.workspace.workspaceId,
      conversation_id,
      text: "Ann here",
    });
    expect(await answers(at)).toHaveLength(3);
    await say(at, person, "Three");
    expect(await answers(at)).toHaveLength(3);
    await say(at, at.person(), "Somebody else");
    expect(await answers(at)).toHaveLength(4);
    at.now = Date.now() + 11 * 60_000;
    await hear(at, says(at.number, { wa: person, name: "Ann" }, { at: Math.floor(at.now / 1000) * 1000 }));
    expect(await answers(at)).toHaveLength(5);
  });

  it("workspaces without rules, and disabled ones: nothing is ordered at all", async () => {
    const at = await world();
    await at.write(at.person(), "Hi");
    expect(at.held).toEqual([]);
    await rule(at, { enabled: false });
    await at.write(at.person(), "Hi");
    expect(at.held).toEqual([]);
  });
});

describe("rules over the API", () => {
  it("are made, listed, changed, deleted and tested by members, not by agents or strangers", async () => {
    const at = await world();
    const made = await rule(at, { cooldown_seconds: 60, daily_limit: 5 });
    const path = `/api/auto-replies/${made.id}`;
    expect(made).toMatchObject({ position: 1, enabled: true, cooldown_seconds: 60, daily_limit: 5, quiet_minutes: 30 });
    const changed = await at.call("PATCH", path, {
      name: "New",
      daily_limit: null,
      match: { kind: "exact", texts: ["x"] },
    });
    expect(await changed.json()).toMatchObject({
      name: "New",
      daily_limit: null,
      cooldown_seconds: 60,
      match: { kind: "exact" },
    });
    const [member, agent] = await Promise.all([
      memberWithRole(at.workspace, "MEMBER"),
      memberWithRole(at.workspace, "AGENT"),
    ]);
    expect((await at.call("GET", path, undefined, member.token)).status).toBe(200);
    expect((await at.call("GET", path, undefined, agent.token)).status).toBe(403);
    expect((await at.call("GET", path, undefined, (await newWorkspace()).token)).status).toBe(404);
    const list = await at.call("GET", `/api/auto-replies?workspace_id=${at.workspace.workspaceId}&limit=1`);
    expect(await list.json()).toMatchObject({ total: 1, data: [{ id: made.id }], next_cursor: null });
    expect((await at.call("DELETE", path)).status).toBe(204);
    expect((await at.call("GET", path)).status).toBe(404);
  });

  it.each([
    [{ match: { kind: "pattern", pattern: "(" } }, "RE2"],
    [{ match: { kind: "pattern", pattern: "(?=look)ahead" } }, "RE2"],
    [{ match: { kind: "pattern", pattern: "(a{100}){100}" } }, ""],
    [{ match: { kind: "outside_hours", time_zone: "Mars/Olympus", hours: [] } }, "time zone"],
    [{ answer: { kind: "text", text: "Hi {{contact.shoe_size}}" } }, "Nothing is known"],
    [
      {
        answer: { kind: "interactive", interactive: { type: "button", body: { text: "x" }, action: { buttons: [] } } },
      },
      "at least one",
    ],
    [{ answer: { kind: "shout" } }, ""],
  ])("with %j are refused", async (more, why) => {
    const at = await world();
    const body = {
      workspace_id: at.workspace.workspaceId,
      name: "Rule",
      match: { kind: "any" },
      answer: hello,
      ...more,
    };
    const response = await at.call("POST", "/api/auto-replies", body);
    expect(response.status).toBe(422);
    expect(await response.text()).toContain(why);
  });

  it("forget whom they answered when a person is erased", async () => {
    const at = await world();
    const { id } = await rule(at);
    await say(at, at.person(), "Forget me");
    await say(at, at.person(), "Keep me");
    const db = shard(createRuntime(env), 0);
    const [contact] = await at.rows<{ id: string }>(
      "SELECT id FROM contacts WHERE workspace_id = ?1 ORDER BY row_id LIMIT 1",
    );
    await eraseFirings(db, at.workspace.workspaceId, { contactIds: [contact?.id ?? ""], conversationIds: [] });
    expect((await firings(at, id)).total).toBe(1);
    expect(
      await at.rows(`SELECT * FROM auto_reply_firings WHERE workspace_id = ?1 AND contact_id = '${contact?.id}'`),
    ).toEqual([]);
  });

  it("can be tried without anything being sent", async () => {
    const at = await world();
    const first = await rule(at, { name: "Price", match: { kind: "keyword", texts: ["price"] } });
    const second = await rule(at, { name: "Off", enabled: false });
    await at.write(at.person(), "Who am I");
    const [known] = await at.rows<{ id: string }>("SELECT id FROM contacts WHERE workspace_id = ?1");
    const ask = async (more: Record<string, unknown>) => {
      const response = await at.call("POST", "/api/auto-replies/test", {
        workspace_id: at.workspace.workspaceId,
        ...more,
      });
      return response.json();
    };
    expect(await ask({ text: "What is the price?", contact_id: known?.id })).toEqual({
      rule_id: first.id,
      answer: { kind: "text", text: "Hello Ann!" },
      considered: [{ rule_id: first.id, name: "Price", matched: true }],
    });
    expect(await ask({ text: "Hi" })).toMatchObject({ rule_id: null, answer: null });
    expect(await ask({ text: "Hi", rule_id: second.id })).toMatchObject({
      rule_id: second.id,
      answer: { text: "Hello there!" },
    });
    expect(await answers(at)).toEqual([]);
    expect((await firings(at, first.id)).total).toBe(0);
  });
});
