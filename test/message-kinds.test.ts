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

describe("retrying a failed message", () => {
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
