import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { newWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { untilStatus } from "./support/pipeline";
import { sandbox } from "./support/sandbox";

async function ready() {
  const workspace = await newWorkspace();
  const number = await registerNumber(workspace);
  const send = (kind: string, body: Record<string, unknown>) =>
    workspace.call("POST", `/api/messages/send/${kind}`, {
      workspace_id: workspace.workspaceId,
      phone_number_id: number.id,
      to: "+12025550123",
      ...body,
    });
  return { workspace, number, send };
}

async function accepted(response: Response): Promise<{ id: string; type: string; content: Record<string, unknown> }> {
  const text = await response.text();
  expect(response.status, text).toBe(201);
  return JSON.parse(text);
}

async function refusedField(response: Response): Promise<(string | number)[]> {
  const text = await response.text();
  expect(response.status, text).toBe(422);
  return JSON.parse(text).detail[0].loc;
}

const BUTTONS = {
  type: "button",
  body: { text: "Which day?" },
  action: { buttons: [{ type: "reply", reply: { id: "mon", title: "Monday" } }] },
};

describe("sends of every kind", () => {
  it("reach the provider as it takes them", async () => {
    const { workspace, number, send } = await ready();
    const kinds: [string, Record<string, unknown>][] = [
      ["location", { latitude: 33.98, longitude: 35.61, name: "Jounieh", address: "Lebanon" }],
      ["interactive", { interactive: BUTTONS }],
      [
        "interactive",
        {
          interactive: {
            type: "list",
            body: { text: "Choose" },
            action: {
              button: "Open",
              sections: [{ title: "A", rows: [{ id: "1", title: "One", description: "first" }] }],
            },
          },
        },
      ],
      [
        "interactive",
        {
          interactive: {
            type: "cta_url",
            body: { text: "See" },
            action: { parameters: { display_text: "Open", url: "https://example.com/a" } },
          },
        },
      ],
      [
        "interactive",
        {
          interactive: {
            type: "flow",
            body: { text: "Form" },
            action: { parameters: { flow_id: "77", flow_cta: "Start" } },
          },
        },
      ],
      ["interactive", { interactive: { type: "location_request_message", body: { text: "Where are you?" } } }],
      [
        "contacts",
        {
          contacts: [
            { name: { formatted_name: "Ana B", first_name: "Ana" }, phones: [{ phone: "+12025550188", type: "WORK" }] },
          ],
        },
      ],
    ];
    for (const [kind, body] of kinds) {
      const message = await accepted(await send(kind, body));
      const row = await untilStatus(message.id, workspace.workspaceId, "sent", "failed");
      expect(row.status, `${kind}: ${String(row.error)}`).toBe("sent");
    }
    const { data } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(data.map((m) => m.type)).toEqual([
      "location",
      "interactive",
      "interactive",
      "interactive",
      "interactive",
      "interactive",
      "contacts",
    ]);
    expect(data[0]?.body.location).toMatchObject({ latitude: 33.98, longitude: 35.61, name: "Jounieh" });
  });

  it("react to a message by our id or the provider's, and take it back", async () => {
    const { workspace, number, send } = await ready();
    const text = await accepted(await send("text", { text: "Hi" }));
    const row = await untilStatus(text.id, workspace.workspaceId, "sent");
    for (const [message_id, emoji] of [
      [text.id, "👍🏽"],
      [row.wa_message_id, ""],
    ]) {
      const reaction = await accepted(await send("reaction", { message_id, emoji }));
      await untilStatus(reaction.id, workspace.workspaceId, "sent");
    }
    const { data } = await sandbox.accepted({ phone_number_id: number.providerNumberId, type: "reaction" });
    expect(data.map((m) => m.body.reaction)).toEqual([
      { message_id: row.wa_message_id, emoji: "👍🏽" },
      { message_id: row.wa_message_id, emoji: "" },
    ]);
  });

  it("react only within the thread they are sent to", async () => {
    const { workspace, send } = await ready();
    const text = await accepted(await send("text", { text: "Hi" }));
    await untilStatus(text.id, workspace.workspaceId, "sent");
    const other = (await (await workspace.call("POST", "/api/contacts", { phone_number: "+12025550177" })).json()) as {
      id: string;
    };
    const wrong = [{ to: undefined, contact_id: other.id }, { phone_number_id: (await registerNumber(workspace)).id }];
    for (const body of wrong) {
      const response = await send("reaction", { message_id: text.id, emoji: "👍", ...body });
      expect(await refusedField(response)).toEqual(["body", "message_id"]);
    }
    const planned = await accepted(
      await send("text", { text: "Later", scheduled_at: new Date(Date.now() + 3_600_000).toISOString() }),
    );
    for (const message_id of [planned.id, crypto.randomUUID()]) {
      expect(await refusedField(await send("reaction", { message_id, emoji: "👍" }))).toEqual(["body", "message_id"]);
    }
  });

  it("name the field that is beyond the provider's limits", async () => {
    const { send } = await ready();
    const wrong: [string, Record<string, unknown>, (string | number)[]][] = [
      ["location", { latitude: 90.5, longitude: 0 }, ["body", "latitude"]],
      ["location", { latitude: 0, longitude: -180.5 }, ["body", "longitude"]],
      ["reaction", { message_id: "wamid.x", emoji: "ok" }, ["body", "emoji"]],
      ["reaction", { message_id: "wamid.x", emoji: "👍👍" }, ["body", "emoji"]],
      ["contacts", { contacts: [] }, ["body", "contacts"]],
      ["contacts", { contacts: [{ name: {} }] }, ["body", "contacts", 0, "name", "formatted_name"]],
      [
        "interactive",
        { interactive: { ...BUTTONS, action: { buttons: [{ reply: { id: "a", title: "x".repeat(21) } }] } } },
        ["body", "interactive", "action", "buttons", 0, "reply", "title"],
      ],
      [
        "interactive",
        { interactive: { ...BUTTONS, body: { text: "x".repeat(1025) } } },
        ["body", "interactive", "body", "text"],
      ],
      ["text", { text: "x".repeat(4097) }, ["body", "text"]],
    ];
    for (const [kind, body, loc] of wrong) expect(await refusedField(await send(kind, body)), kind).toEqual(loc);
  });
});

const KINDS: [string, Record<string, unknown>][] = [
  ["location", { latitude: -90, longitude: 180 }],
  ["interactive", { interactive: BUTTONS }],
  ["contacts", { contacts: [{ name: { formatted_name: "Ana B" } }] }],
  ["reaction", { message_id: "wamid.some-message", emoji: "🏴\u{E0067}\u{E0062}\u{E0073}\u{E0063}\u{E0074}\u{E007F}" }],
];

describe.each(KINDS)("a %s", (kind, content) => {
  it("is sent once under one key, and another body under it is refused", async () => {
    const { workspace, number, send } = await ready();
    const call = (body: Record<string, unknown>) =>
      workspace.call(
        "POST",
        `/api/messages/send/${kind}`,
        { workspace_id: workspace.workspaceId, phone_number_id: number.id, to: "+12025550123", ...body },
        { "Idempotency-Key": "once" },
      );
    const [first, second] = await Promise.all([call(content), call(content)]);
    const message = await accepted(first);
    expect((await accepted(second)).id).toBe(message.id);
    await untilStatus(message.id, workspace.workspaceId, "sent");
    expect((await call({ ...content, to: "+12025550124" })).status).toBe(409);
    const { counts } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(counts.by_message).toEqual({ [message.id]: 1 });
    // The same under no key is another message.
    expect((await accepted(await send(kind, content))).id).not.toBe(message.id);
  });

  it("can be planned, and quotes what it answers", async () => {
    const { workspace, number, send } = await ready();
    const text = await accepted(await send("text", { text: "Question?" }));
    const asked = await untilStatus(text.id, workspace.workspaceId, "sent");
    const at = new Date(Date.now() + 3_600_000).toISOString();
    const planned = await send(kind, { ...content, scheduled_at: at });
    expect(await accepted(planned)).toMatchObject({ status: "scheduled", type: kind });
    expect(await refusedField(await send(kind, { ...content, scheduled_at: "2020-01-01T00:00:00Z" }))).toEqual([
      "body",
      "scheduled_at",
    ]);
    expect(await refusedField(await send(kind, { ...content, contact_id: crypto.randomUUID() }))).toEqual([
      "body",
      "to",
    ]);
    expect(await refusedField(await send(kind, { ...content, to: "12025550123" }))).toEqual(["body", "to"]);
    // A reaction is about a message already.
    if (kind === "reaction") return;
    const answer = await accepted(await send(kind, { ...content, reply_to: text.id }));
    await untilStatus(answer.id, workspace.workspaceId, "sent");
    const { data } = await sandbox.accepted({ phone_number_id: number.providerNumberId, type: kind });
    expect(data.at(-1)?.body.context).toEqual({ message_id: asked.wa_message_id });
    expect(await refusedField(await send(kind, { ...content, reply_to: crypto.randomUUID() }))).toEqual([
      "body",
      "reply_to",
    ]);
  });
});

describe("interactive messages", () => {
  const list = (sections: unknown[]) => ({
    type: "list",
    body: { text: "Choose" },
    action: { button: "Open", sections },
  });
  const rows = (count: number, first = 0) =>
    Array.from({ length: count }, (_, n) => ({ id: `r${first + n}`, title: `Row ${first + n}` }));
  const button = (id: string, title: string) => ({ type: "reply", reply: { id, title } });
  const wrong: [string, Record<string, unknown>, (string | number)[]][] = [
    [
      "four buttons",
      { ...BUTTONS, action: { buttons: [1, 2, 3, 4].map((n) => button(`b${n}`, `B${n}`)) } },
      ["action", "buttons"],
    ],
    ["no button", { ...BUTTONS, action: { buttons: [] } }, ["action", "buttons"]],
    [
      "two buttons of one id",
      { ...BUTTONS, action: { buttons: [button("b", "One"), button("b", "Two")] } },
      ["action", "buttons"],
    ],
    ["a long footer", { ...BUTTONS, footer: { text: "x".repeat(61) } }, ["footer", "text"]],
    ["a long header", { ...BUTTONS, header: { type: "text", text: "x".repeat(61) } }, ["header", "text"]],
    [
      "a header with two sources",
      { ...BUTTONS, header: { type: "image", image: { id: "1", link: "https://a.example/b.png" } } },
      ["header", "image"],
    ],
    [
      "eleven rows in all",
      list([
        { title: "A", rows: rows(6) },
        { title: "B", rows: rows(5, 6) },
      ]),
      ["action", "sections"],
    ],
    [
      "rows of one id",
      list([
        { title: "A", rows: rows(2) },
        { title: "B", rows: rows(1) },
      ]),
      ["action", "sections"],
    ],
    ["sections without titles", list([{ rows: rows(1) }, { rows: rows(1, 1) }]), ["action", "sections"]],
    [
      "a long description",
      list([{ rows: [{ id: "1", title: "A", description: "x".repeat(73) }] }]),
      ["action", "sections", 0, "rows", 0, "description"],
    ],
    [
      "a link that is none",
      {
        type: "cta_url",
        body: { text: "See" },
        action: { parameters: { display_text: "Open", url: "javascript:alert(1)" } },
      },
      ["action", "parameters", "url"],
    ],
    [
      "a flow named twice",
      { type: "flow", body: { text: "F" }, action: { parameters: { flow_id: "1", flow_name: "n", flow_cta: "Go" } } },
      ["action", "parameters"],
    ],
    ["a location request without text", { type: "location_request_message", body: { text: "" } }, ["body", "text"]],
    ["a type nobody knows", { type: "carousel", body: { text: "x" } }, ["type"]],
  ];

  it("with something the provider would refuse are refused at that place, and nothing is stored", async () => {
    const { workspace, send } = await ready();
    for (const [what, interactive, loc] of wrong) {
      expect(await refusedField(await send("interactive", { interactive })), what).toEqual([
        "body",
        "interactive",
        ...loc,
      ]);
    }
    const page = await (await workspace.call("GET", "/api/messages")).json();
    expect(page).toMatchObject({ total: 0 });
  });
});

describe("retrying a failed message", () => {
  it("is done once under one key, and the key is free again where nothing was retried", async () => {
    const { workspace, number, send } = await ready();
    await sandbox.faults({ kind: "error", code: 131009, count: 1, phone_number_id: number.providerNumberId });
    const message = await accepted(await send("text", { text: "Try" }));
    await untilStatus(message.id, workspace.workspaceId, "failed");
    const retry = (id: string, key: string) =>
      workspace.call("POST", `/api/messages/${id}/retry`, undefined, { "Idempotency-Key": key });
    const both = await Promise.all([retry(message.id, "again"), retry(message.id, "again")]);
    expect(both.map((response) => response.status)).toEqual([200, 200]);
    await untilStatus(message.id, workspace.workspaceId, "sent");
    const replayed = await retry(message.id, "again");
    expect(replayed.status).toBe(200);
    expect(replayed.headers.get("idempotency-replayed")).toBe("true");
    expect((await retry(message.id, "other")).status).toBe(409);
    const second = await accepted(await send("text", { text: "Sent at once" }));
    expect((await retry(second.id, "again")).status).toBe(409);
    const { counts } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(counts.by_callback[`${message.id}.2`]).toBe(1);
    expect(counts.by_callback[`${message.id}.3`]).toBeUndefined();
    // Refused as not failed, the key stayed free for a retry that does something.
    await env.SHARD_0.prepare("UPDATE messages SET status = 'failed', open = NULL WHERE id = ?1").bind(second.id).run();
    expect((await retry(second.id, "other")).status).toBe(200);
  });

  it("sends it once more as a new attempt, and only when it has failed", async () => {
    const { workspace, number, send } = await ready();
    await sandbox.faults({ kind: "error", code: 131009, count: 1, phone_number_id: number.providerNumberId });
    const message = await accepted(await send("text", { text: "Try" }));
    const failed = await untilStatus(message.id, workspace.workspaceId, "failed");
    expect(JSON.parse(String(failed.error)).code).toBe(131009);
    expect((await workspace.call("POST", `/api/messages/${message.id}/retry`)).status).toBe(200);
    await untilStatus(message.id, workspace.workspaceId, "sent");
    expect((await workspace.call("POST", `/api/messages/${message.id}/retry`)).status).toBe(409);
    const { counts } = await sandbox.accepted({ phone_number_id: number.providerNumberId });
    expect(counts.by_message[message.id]).toBe(1);
    expect(counts.by_callback[`${message.id}.2`]).toBe(1);
  });
});
