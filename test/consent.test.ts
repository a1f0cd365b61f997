import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { acceptMessage } from "../src/messages/service";
import { createRuntime, shard } from "../src/platform/runtime";
import { newWorkspace } from "./support/identity";
import { about, ago, digits, inboxOf, message, post, receive, runMerges, says, shuffled, wamid } from "./support/inbox";
import { registerNumber } from "./support/numbers";
import { deliver, heldQueues, messageRow, sendJob } from "./support/pipeline";

async function ready(settings: Record<string, unknown> = {}) {
  const workspace = await newWorkspace({ settings });
  const number = await registerNumber(workspace);
  const inbox = inboxOf(workspace.workspaceId);
  return { workspace, number, inbox, consent: async () => consentOf((await inbox.contacts())[0]) };
}

function consentOf(contact: Record<string, unknown> | undefined) {
  return {
    opted_in: contact?.opted_in,
    opted_out_at: contact?.opted_out_at,
    consent_at: contact?.consent_at,
    proof: contact?.consent_proof === null ? null : JSON.parse(String(contact?.consent_proof)),
  };
}

type World = Awaited<ReturnType<typeof ready>>;

function preference(
  number: World["number"],
  wa: string,
  value: string,
  at: number,
  detail = "As the person chose",
): object {
  const item = { wa_id: wa, category: "marketing_messages", value, detail, timestamp: at / 1000 };
  return about(number, { user_preferences: [item] }, "user_preferences");
}

describe("a word", () => {
  it.each([
    "STOP",
    "stop",
    " Stop. ",
    "Unsubscribe",
    "BAJA",
    "Abmelden",
    "arrêt",
    "СТОП",
    "退订",
    "停止",
    "إيقاف",
    "수신거부",
    "berhenti",
  ])("%s ends marketing, with its proof", async (word) => {
    const { number, consent } = await ready();
    const [wa, id] = [digits(), wamid()];
    await receive([says(number, { wa }, { id, at: ago(5), text: { body: word } })]);
    expect(await consent()).toEqual({
      opted_in: 0,
      opted_out_at: ago(5),
      consent_at: ago(5),
      proof: { source: "keyword", reference: id, at: ago(5) },
    });
  });

  it.each(["START", "alta", "подписаться", "订阅", "개시가 아닌 말"])(
    "%s: words of joining reverse it, others do not",
    async (word) => {
      const { number, consent } = await ready();
      const wa = digits();
      await receive([says(number, { wa }, { at: ago(5), text: { body: "STOP" } })]);
      const id = wamid();
      await receive([says(number, { wa }, { id, at: ago(4), text: { body: word } })]);
      const joined = word !== "개시가 아닌 말";
      expect(await consent()).toMatchObject(
        joined
          ? { opted_in: 1, opted_out_at: null, proof: { source: "keyword", reference: id, at: ago(4) } }
          : { opted_in: 0, opted_out_at: ago(5) },
      );
    },
  );

  it("must be all that is said", async () => {
    const { number, consent } = await ready();
    const wa = digits();
    for (const text of ["please stop", "STOP it", "non-stop", "don't unsubscribe me", "stop stop", ""]) {
      await receive([says(number, { wa }, { text: { body: text } })]);
    }
    expect(await consent()).toEqual({ opted_in: 0, opted_out_at: null, consent_at: null, proof: null });
  });

  it("counts on a template's button that says it, not in a caption, nor on a button of a conversation", async () => {
    const { number, consent } = await ready();
    const wa = digits();
    await receive([
      says(number, { wa }, { at: ago(9), type: "image", image: { id: "1", caption: "STOP" } }),
      says(number, { wa }, { at: ago(9), type: "location", location: { latitude: 1, longitude: 2, name: "STOP" } }),
    ]);
    expect((await consent()).opted_out_at).toBeNull();
    await receive([says(number, { wa }, { at: ago(8), type: "button", button: { text: "STOP", payload: "x" } })]);
    expect((await consent()).opted_out_at).toBe(ago(8));
    await receive([says(number, { wa }, { at: ago(7), type: "button", button: { text: "Start", payload: "y" } })]);
    expect(await consent()).toMatchObject({ opted_in: 1, opted_out_at: null });
    // "Cancel" my order, not my consent.
    const reply = { type: "button_reply", button_reply: { id: "7", title: "Cancel" } };
    await receive([says(number, { wa }, { at: ago(6), type: "interactive", interactive: reply })]);
    expect(await consent()).toMatchObject({ opted_in: 1, consent_at: ago(7) });
  });

  it("is the workspace's own where it chose its words", async () => {
    const { number, consent } = await ready({ opt_out_words: ["basta"], opt_in_words: ["dai"] });
    const wa = digits();
    await receive([says(number, { wa }, { at: ago(5), text: { body: "STOP" } })]);
    expect((await consent()).opted_out_at).toBeNull();
    await receive([says(number, { wa }, { at: ago(4), text: { body: "Basta!" } })]);
    expect((await consent()).opted_out_at).toBe(ago(4));
    await receive([says(number, { wa }, { at: ago(3), text: { body: "dai" } })]);
    expect(await consent()).toMatchObject({ opted_in: 1, opted_out_at: null });
  });

  it("of one workspace says nothing in another", async () => {
    const [one, two] = [await ready(), await ready()];
    const wa = digits();
    await receive([
      says(one.number, { wa }, { text: { body: "STOP" } }),
      says(two.number, { wa }, { text: { body: "hello" } }),
    ]);
    expect((await one.consent()).opted_out_at).not.toBeNull();
    expect((await two.consent()).opted_out_at).toBeNull();
  });
});

describe("the newest word stands", () => {
  it("whatever the order in which they come, in one batch or several", async () => {
    for (const seed of [1, 2, 3, 4, 5, 6]) {
      const { number, consent } = await ready();
      const wa = digits();
      const user = `US.${wa}`;
      // By different names of the same person, which only the last one ties together.
      const bodies = [
        says(number, { wa, user }, { at: ago(40) }),
        says(number, { wa }, { at: ago(30), text: { body: "STOP" } }),
        says(number, { user }, { at: ago(20), text: { body: "START" } }),
        says(number, { wa }, { at: ago(10), text: { body: "STOP" } }),
        preference(number, wa, "resume", ago(5)),
      ];
      const all = shuffled([...bodies, ...bodies], seed);
      const { env: held, held: queues } = heldQueues();
      for (let start = 0; start < all.length; start += seed) {
        await receive(all.slice(start, start + seed), { env: held });
        await runMerges(queues);
      }
      expect(await consent(), `seed ${seed}`).toMatchObject({ opted_in: 1, opted_out_at: null, consent_at: ago(5) });
    }
  });

  it("and of two of the same second that of leaving, in any order", async () => {
    for (const words of [
      ["STOP", "START"],
      ["START", "STOP"],
    ]) {
      for (const batched of [true, false]) {
        const { number, consent } = await ready();
        const wa = digits();
        const bodies = words.map((body) => says(number, { wa }, { at: ago(3), text: { body } }));
        if (batched) await receive(bodies);
        else for (const body of bodies) await receive([body]);
        expect(await consent()).toMatchObject({ opted_in: 0, opted_out_at: ago(3) });
      }
    }
  });

  it("an older one changes nothing, and repeating the same writes nothing", async () => {
    const { number, inbox, consent } = await ready();
    const wa = digits();
    const stop = says(number, { wa }, { id: wamid(), at: ago(5), text: { body: "STOP" } });
    await receive([stop]);
    await receive([says(number, { wa }, { at: ago(50), text: { body: "START" } })]);
    expect((await consent()).opted_out_at).toBe(ago(5));
    const [before] = await inbox.contacts();
    await receive([stop], { attempts: 2, overrides: { clock: () => Date.now() + 60_000 } });
    expect((await inbox.contacts())[0]?.updated_at).toBe(before?.updated_at);
  });
});

describe("a preference", () => {
  it("stops and resumes marketing, with its proof, also of somebody who never wrote", async () => {
    const { number, inbox, consent } = await ready();
    const wa = digits();
    await receive([preference(number, wa, "stop", ago(5), "User wants to stop")]);
    expect(await consent()).toEqual({
      opted_in: 0,
      opted_out_at: ago(5),
      consent_at: ago(5),
      proof: { source: "preference", reference: "User wants to stop", at: ago(5) },
    });
    expect(await inbox.conversations()).toEqual([]);
    for (const [value, at] of [
      ["resume", ago(4)],
      ["stop", ago(3)],
      ["signup", ago(2)],
    ] as const) {
      await receive([preference(number, wa, value, at)]);
      expect((await consent()).opted_in, value).toBe(value === "stop" ? 0 : 1);
    }
    expect((await inbox.events()).map((e) => e.kind)).toEqual(Array(4).fill("preference"));
  });

  it("with a value or category nobody knows is kept as unknown and changes nothing", async () => {
    const { number, inbox, consent } = await ready();
    const wa = digits();
    await receive([says(number, { wa })]);
    const odd = { wa_id: wa, category: "something_else", value: "stop", timestamp: 1 };
    await receive([
      preference(number, wa, "maybe", ago(1)),
      about(number, { user_preferences: [odd] }, "user_preferences"),
    ]);
    expect((await inbox.events()).map((e) => e.kind)).toEqual(["unknown", "unknown"]);
    expect((await consent()).consent_at).toBeNull();
  });

  it("that names only the account counts for its workspaces", async () => {
    const { number, consent } = await ready();
    const item = { wa_id: digits(), category: "marketing_messages", value: "stop", timestamp: ago(5) / 1000 };
    await receive([post(number.businessId, { field: "user_preferences", value: { user_preferences: [item] } })]);
    expect((await consent()).opted_out_at).toBe(ago(5));
  });
});

describe("a recorded opt-out", () => {
  const marketing = async (world: World, to: string, scheduledAt: number | null = null) => {
    const rt = createRuntime(heldQueues().env);
    const scope = { rt, workspaceId: world.workspace.workspaceId, shard: 0, db: shard(rt, 0) };
    const intent = {
      phoneNumberId: world.number.id,
      to: `+${to}`,
      contactId: null,
      conversationId: null,
      type: "text",
      content: { body: "An offer" },
      category: "marketing" as const,
      replyTo: null,
      scheduledAt,
      ttl: null,
    };
    return acceptMessage(scope, intent, null);
  };

  it("refuses marketing at once, and lets every answer through", async () => {
    const world = await ready();
    const wa = digits();
    await receive([says(world.number, { wa }, { text: { body: "STOP" } })]);
    await expect(marketing(world, wa)).rejects.toMatchObject({ code: "conflict" });
    const body = { phone_number_id: world.number.id, to: `+${wa}`, text: "You are off the list." };
    expect((await world.workspace.call("POST", "/api/messages/send/text", body)).status).toBe(201);
  });

  it("that comes while a marketing message waits fails it when it is claimed, before it reaches the provider", async () => {
    const world = await ready();
    const wa = digits();
    await receive([says(world.number, { wa })]);
    const { message: waiting } = await marketing(world, wa);
    await receive([says(world.number, { wa }, { text: { body: "STOP" } })]);
    await deliver("outbound", [
      sendJob({ workspace_id: waiting.workspaceId, phone_number_id: waiting.phoneNumberId, id: waiting.id }),
    ]);
    const row = await messageRow(waiting.id, waiting.workspaceId);
    expect(row).toMatchObject({ status: "failed", open: null });
    expect(JSON.parse(String(row.error))).toMatchObject({ code: "opted_out" });
    const sent = await env.SHARD_0.prepare(
      "SELECT count(*) AS n FROM messages WHERE id = ?1 AND wa_message_id IS NOT NULL",
    )
      .bind(waiting.id)
      .first("n");
    expect(sent).toBe(0);
  });

  it("is shown with a message about it that can be found", async () => {
    const world = await ready();
    const [wa, id] = [digits(), wamid()];
    await receive([about(world.number, { messages: [message({ wa }, { id, text: { body: "stop" } })] })]);
    const { proof } = await world.consent();
    expect((await world.inbox.messages()).map((m) => m.wa_message_id)).toContain(proof.reference);
  });
});
