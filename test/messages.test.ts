import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { newWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { untilStatus } from "./support/pipeline";

async function ready(options: Parameters<typeof newWorkspace>[0] = {}) {
  const workspace = await newWorkspace(options);
  const number = await registerNumber(workspace);
  return { workspace, number };
}

describe("sending a text", () => {
  it("answers the documented fields and reaches the provider", async () => {
    const { workspace, number } = await ready();
    const response = await workspace.call("POST", "/api/messages/send/text", {
      workspace_id: workspace.workspaceId,
      phone_number_id: number.id,
      to: "+1234567890",
      text: "Hello! Thanks for contacting us.",
    });
    expect(response.status, await response.clone().text()).toBe(201);
    const message = (await response.json()) as { id: string; status: string };
    expect(message).toMatchObject({
      workspace_id: workspace.workspaceId,
      phone_number_id: number.id,
      direction: "outbound",
      from_number: number.phoneNumber,
      to_number: "+1234567890",
      type: "text",
      status: "queued",
      wa_message_id: null,
    });
    const row = await untilStatus(message.id, workspace.workspaceId, "sent");
    expect(row.wa_message_id).toMatch(/^wamid\./);
    expect(row.open).toBeNull();
    expect(await env.SHARD_0.prepare("SELECT n FROM list_totals WHERE workspace_id = ?1 AND list = 'messages'").bind(workspace.workspaceId).first("n")).toBe(1);
  });
});
