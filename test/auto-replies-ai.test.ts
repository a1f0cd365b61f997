import { env } from "cloudflare:workers";
import { describe, expect, it, vi } from "vitest";
import { chatsHolding } from "./support/assistant";
import { DeliveryWorld } from "./support/endpoints";
import { memberWithRole } from "./support/identity";
import { deliver } from "./support/pipeline";

vi.setConfig({ testTimeout: 60_000 });

const KEY = "sk-test-0123456789";
const PATH = "/api/auto-replies/assistant";

async function world(key = KEY): Promise<DeliveryWorld> {
  const at = await DeliveryWorld.create();
  at.now = Date.now();
  const body = {
    workspace_id: at.workspace.workspaceId,
    base_url: "https://ai.example.com/v1/",
    model: "small",
    api_key: key,
  };
  const response = await at.call("PUT", PATH, body);
  if (response.status !== 200) throw new Error(await response.text());
  return at;
}

async function rule(
  at: DeliveryWorld,
  answer: Record<string, unknown> = {},
  more: Record<string, unknown> = {},
): Promise<string> {
  const body = {
    workspace_id: at.workspace.workspaceId,
    name: "Assistant",
    match: { kind: "any" },
    answer: { kind: "ai", system_prompt: "You help {{contact.name|people}}.", ...answer },
    ...more,
  };
  const response = await at.call("POST", "/api/auto-replies", body);
  if (response.status !== 201) throw new Error(await response.text());
  return (await response.json<{ id: string }>()).id;
}

async function sent(at: DeliveryWorld): Promise<string[]> {
  const rows = await at.rows<{ content: string }>(
    "SELECT content FROM messages WHERE workspace_id = ?1 AND direction = 'outbound' ORDER BY id",
  );
  return rows.map(({ content }) => JSON.parse(content).body);
}

async function say(at: DeliveryWorld, person: string, ...texts: string[]): Promise<void> {
  await at.write(person, ...texts);
  await at.run();
}

async function lastFiring(at: DeliveryWorld, id: string) {
  const response = await at.call("GET", `/api/auto-replies/${id}/firings`);
  return (await response.json<{ data: { status: string; error: string | null }[] }>()).data[0];
}

async function handovers(at: DeliveryWorld) {
  const response = await at.call("GET", `/api/auto-replies/handovers?workspace_id=${at.workspace.workspaceId}`);
  return (await response.json<{ data: { conversation_id: string; reason: string }[] }>()).data;
}

describe("an assistant", () => {
  it("is shown the system prompt and the last messages, and its answer is sent", async () => {
    const at = await world();
    const id = await rule(at, { max_tokens: 77, history: 3, temperature: 0.5 });
    const mark = crypto.randomUUID();
    const person = at.person();
    await say(at, person, `One ${mark}`);
    await say(at, person, `Two ${mark}`);
    expect(await sent(at)).toEqual([`You said: One ${mark}`, `You said: Two ${mark}`]);
    const chats = await chatsHolding(mark);
    expect(chats).toHaveLength(2);
    expect(chats[1]?.authorization).toBe(`Bearer ${KEY}`);
    expect(chats[1]?.body).toMatchObject({
      model: "small",
      max_tokens: 77,
      temperature: 0.5,
      messages: [
        { role: "system", content: "You help Ann." },
        { role: "user", content: `One ${mark}` },
        { role: "assistant", content: `You said: One ${mark}` },
        { role: "user", content: `Two ${mark}` },
      ],
    });
    expect(await lastFiring(at, id)).toMatchObject({ status: "sent", error: null });
  });

  it("is asked in a job of its own: neither the webhook nor the other answers wait for it", async () => {
    const at = await world();
    await rule(at);
    const mark = crypto.randomUUID();
    await at.write(at.person(), mark);
    const [run] = at.held.splice(0);
    await deliver("deliveries", [run?.body], { env: at.env, overrides: at.overrides });
    expect(await chatsHolding(mark)).toEqual([]);
    expect(at.held).toMatchObject([{ body: { kind: "auto_reply.ask" } }]);
    await at.run();
    expect(await chatsHolding(mark)).toHaveLength(1);
  });

  it("answers once, though it is asked twice and says something else the second time", async () => {
    const at = await world();
    const id = await rule(at);
    await at.write(at.person(), "Hello");
    const [run] = at.held.splice(0);
    await deliver("deliveries", [run?.body], { env: at.env, overrides: at.overrides });
    const [ask] = at.held.splice(0);
    let asked = 0;
    const overrides = {
      ...at.overrides,
      fetch: (async () => {
        asked += 1;
        return Response.json({ choices: [{ message: { content: `Answer ${asked}` } }] });
      }) as typeof fetch,
    };
    await deliver("deliveries", [ask?.body], { env: at.env, overrides });
    await env.SHARD_0.prepare("UPDATE auto_reply_firings SET status = 'pending' WHERE workspace_id = ?1")
      .bind(at.workspace.workspaceId)
      .run();
    await deliver("deliveries", [ask?.body], { env: at.env, overrides, attempts: 2 });
    expect(asked).toBe(2);
    expect(await sent(at)).toEqual(["Answer 1"]);
    expect(await lastFiring(at, id)).toMatchObject({ status: "sent" });
  });

  it.each([
    ["!fail", "answered 500"],
    ["!garbage", "not understood"],
    ["!nothing", "said nothing"],
    ["!slow", "No answer within 1 seconds"],
  ])("that fails (%s) hands over to people, and keeps quiet until they give back", async (text, why) => {
    const at = await world();
    const id = await rule(at, { timeout_seconds: 1, handover: { message: "One moment, {{contact.name}}." } });
    const person = at.person();
    await say(at, person, text);
    expect(await sent(at)).toEqual(["One moment, Ann."]);
    expect(await lastFiring(at, id)).toMatchObject({ status: "handed_over", error: expect.stringContaining(why) });
    const [handover] = await handovers(at);
    expect(handover?.reason).toContain(why);
    await say(at, person, "Hello?");
    expect(await sent(at)).toHaveLength(1);
    await say(at, at.person(), "Somebody else");
    expect(await sent(at)).toHaveLength(2);
    expect((await at.call("DELETE", `/api/auto-replies/handovers/${handover?.conversation_id}`)).status).toBe(204);
    await say(at, person, "Hello again");
    expect(await sent(at)).toContain("You said: Hello again");
  });

  it("whose key is refused, or that nobody set, hands over too", async () => {
    const at = await world("sk-refused");
    const id = await rule(at);
    await say(at, at.person(), "Hello");
    expect(await lastFiring(at, id)).toMatchObject({ status: "handed_over", error: "The assistant answered 401" });
    expect((await at.call("DELETE", `${PATH}?workspace_id=${at.workspace.workspaceId}`)).status).toBe(204);
    await say(at, at.person(), "Hello");
    expect(await lastFiring(at, id)).toMatchObject({
      status: "handed_over",
      error: "No assistant is set for this workspace",
    });
    expect(await sent(at)).toEqual([]);
  });

  it("hands over when it is asked to: by its own judgement, or by the rule's words without being asked", async () => {
    const at = await world();
    const id = await rule(at, { handover: { texts: ["agent"], message: "People are coming.", minutes: 30 } });
    const mark = crypto.randomUUID();
    await say(at, at.person(), `I want a human ${mark}`);
    expect(await lastFiring(at, id)).toMatchObject({ status: "handed_over", error: "Asked for people" });
    expect(await chatsHolding(mark)).toHaveLength(1);
    const other = crypto.randomUUID();
    const person = at.person();
    await say(at, person, `An AGENT, please! ${other}`);
    expect(await chatsHolding(other)).toEqual([]);
    expect(await sent(at)).toEqual(["People are coming.", "People are coming."]);
    expect(await handovers(at)).toHaveLength(2);
    // It ends by itself.
    at.now += 31 * 60_000;
    expect(await handovers(at)).toHaveLength(2);
    await env.SHARD_0.prepare("UPDATE auto_reply_handovers SET until = ?2 WHERE workspace_id = ?1")
      .bind(at.workspace.workspaceId, Date.now())
      .run();
    expect(await handovers(at)).toEqual([]);
  });

  it("says nothing when an agent was faster, or the person has opted out meanwhile", async () => {
    const at = await world();
    const id = await rule(at, {}, { quiet_minutes: 30 });
    const person = at.person();
    for (const meanwhile of ["agent", "stop"]) {
      await at.write(person, `Hello ${meanwhile}`);
      const [run] = at.held.splice(0);
      await deliver("deliveries", [run?.body], { env: at.env, overrides: at.overrides });
      const [ask] = at.held.splice(0);
      expect(ask?.body).toMatchObject({ kind: "auto_reply.ask" });
      const overrides = {
        ...at.overrides,
        fetch: (async (input: string, init: RequestInit) => {
          if (meanwhile === "stop") await at.write(person, "STOP");
          else {
            const [row] = await at.rows<{ id: string }>("SELECT id FROM conversations WHERE workspace_id = ?1");
            const body = { workspace_id: at.workspace.workspaceId, conversation_id: row?.id, text: "Ann here" };
            expect((await at.call("POST", "/api/messages/send/text", body)).status).toBe(201);
          }
          return fetch(input, init);
        }) as typeof fetch,
      };
      await deliver("deliveries", [ask?.body], { env: at.env, overrides });
      expect(await lastFiring(at, id)).toMatchObject({ status: "skipped" });
      expect(await sent(at)).toEqual(["Ann here"]);
      // Only an agent within the quiet time holds the rule back.
      await env.SHARD_0.prepare(
        "UPDATE messages SET at = at - 7200000 WHERE workspace_id = ?1 AND direction = 'outbound'",
      )
        .bind(at.workspace.workspaceId)
        .run();
    }
  });
});

describe("the assistant's settings", () => {
  it("show no key, keep it sealed, and are for admins", async () => {
    const at = await world();
    const shown = await at.call("GET", `${PATH}?workspace_id=${at.workspace.workspaceId}`);
    const text = await shown.text();
    expect(JSON.parse(text)).toMatchObject({
      base_url: "https://ai.example.com/v1/",
      model: "small",
      token_parameter: "max_tokens",
    });
    expect(text).not.toContain(KEY);
    const [row] = await at.rows<{ api_key_sealed: string }>(
      "SELECT * FROM auto_reply_assistants WHERE workspace_id = ?1",
    );
    expect(JSON.stringify(row)).not.toContain(KEY);
    const member = await memberWithRole(at.workspace, "MEMBER");
    expect((await at.call("GET", PATH, undefined, member.token)).status).toBe(403);
  });

  it("of another workspace do not open with a copied key", async () => {
    const [at, other] = await Promise.all([world(), world("sk-of-somebody-else")]);
    await env.SHARD_0.prepare(
      `UPDATE auto_reply_assistants SET api_key_sealed = (SELECT o.api_key_sealed FROM auto_reply_assistants o WHERE o.workspace_id = ?2)
       WHERE workspace_id = ?1`,
    )
      .bind(at.workspace.workspaceId, other.workspace.workspaceId)
      .run();
    const id = await rule(at);
    await say(at, at.person(), "Hello");
    expect(await lastFiring(at, id)).toMatchObject({
      status: "handed_over",
      error: expect.stringContaining("cannot be read"),
    });
  });

  it.each(["http://ai.example.com/v1", "https://10.0.0.1/v1", "https://localhost/v1", "https://ollama/v1"])(
    "refuse %s",
    async (base_url) => {
      const at = await DeliveryWorld.create();
      const body = { workspace_id: at.workspace.workspaceId, base_url, model: "m", api_key: "k" };
      const response = await at.call("PUT", PATH, body);
      expect(response.status).toBe(422);
      expect(await response.json()).toMatchObject({ detail: [{ loc: ["body", "base_url"] }] });
    },
  );
});
