import { env } from "cloudflare:workers";
import { describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { newWorkspace } from "./support/identity";
import { registerNumber } from "./support/numbers";
import { untilStatus } from "./support/pipeline";
import { sandbox } from "./support/sandbox";
import { eventsOf, openFeed } from "./support/sockets";

async function body<T = Record<string, unknown>>(response: Response, status: number): Promise<T> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text) as T;
}

describe("the main job, through HTTP, queue, provider, webhook, database, objects and a socket", () => {
  it("sends a text and shows queued, sent, delivered, read; then a customer's text and picture arrive", async () => {
    const workspace = await newWorkspace();
    const number = await registerNumber(workspace);
    const feed = await openFeed(workspace, workspace.workspaceId);

    const sent = await body<{ id: string; conversation_id: string; contact_id: string }>(
      await workspace.call("POST", "/api/messages/send/text", {
        workspace_id: workspace.workspaceId,
        phone_number_id: number.id,
        to: "+12025550101",
        text: "Hello from the edge",
      }),
      201,
    );
    await untilStatus(sent.id, workspace.workspaceId, "sent");
    const report = await sandbox.flush();
    expect(report.pending).toBe(0);
    await untilStatus(sent.id, workspace.workspaceId, "read");
    const message = await body(await workspace.call("GET", `/api/messages/${sent.id}`), 200);
    expect(message).toMatchObject({ status: "read", content: { body: "Hello from the edge" }, error: null });
    expect(message.sent_at).not.toBeNull();
    expect(message.delivered_at).not.toBeNull();
    expect(message.read_at).not.toBeNull();
    expect(message.pricing).not.toBeNull();
    const status = await body(await workspace.call("GET", `/api/messages/${sent.id}/status/`), 200);
    expect(status).toMatchObject({ id: sent.id, status: "read", wa_message_id: message.wa_message_id });

    await sandbox.customerSends("+12025550101", {
      to: number.providerNumberId,
      type: "text",
      text: { body: "Hi! Thanks." },
      profile_name: "Ana",
    });
    await sandbox.customerSends("+12025550101", {
      to: number.providerNumberId,
      type: "image",
      image: { caption: "Look" },
    });
    await sandbox.flush();
    const thread = await vi.waitFor(async () => {
      const page = await body<{ data: Record<string, unknown>[]; total: number }>(
        await workspace.call("GET", `/api/conversations/${sent.conversation_id}/messages`),
        200,
      );
      expect(page.data).toHaveLength(3);
      return page;
    });
    expect(thread.total).toBe(3);
    expect(thread.data.map((m) => m.type).sort()).toEqual(["image", "text", "text"]);
    const picture = thread.data.find((m) => m.type === "image");
    expect(picture).toMatchObject({
      direction: "inbound",
      status: "delivered",
      from_number: "+12025550101",
      contact_id: sent.contact_id,
    });
    expect(picture?.content).toMatchObject({ id: expect.stringMatching(/^\d+$/), caption: "Look" });

    const conversation = await body(await workspace.call("GET", `/api/conversations/${sent.conversation_id}`), 200);
    expect(conversation).toMatchObject({
      unread_count: 2,
      message_count: 3,
      contact: { name: "Ana", phone_number: "+12025550101" },
    });

    const shown = z.object({ message: z.object({ id: z.string(), status: z.string(), direction: z.string() }) });
    await vi.waitFor(() => {
      const messages = eventsOf(feed).flatMap((event) => shown.safeParse(event).data?.message ?? []);
      const mine = messages.filter((m) => m.id === sent.id).map((m) => m.status);
      expect(mine).toEqual(expect.arrayContaining(["queued", "sent", "read"]));
      expect(messages.filter((m) => m.direction === "inbound")).toHaveLength(2);
    });

    const read = await body(
      await workspace.call("POST", `/api/conversations/${sent.conversation_id}/read`, { typing: true }),
      200,
    );
    expect(read).toMatchObject({ unread_count: 0, receipt: "sent" });
    expect((await sandbox.reads()).data.at(-1)).toMatchObject({
      phone_number_id: number.providerNumberId,
      typing: true,
    });
    const left = await env.SHARD_0.prepare(
      "SELECT count(*) AS n FROM messages WHERE workspace_id = ?1 AND direction = 'inbound' AND status <> 'read'",
    )
      .bind(workspace.workspaceId)
      .first("n");
    expect(left).toBe(0);
  });
});
