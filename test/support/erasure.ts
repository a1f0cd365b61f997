import { env } from "cloudflare:workers";
import { expect } from "vitest";
import type { TestWorkspace } from "./identity";
import { inboxOf } from "./inbox";
import { deliver, heldQueues } from "./pipeline";

export type Row = Record<string, unknown>;

export async function json(response: Response, status: number): Promise<Row> {
  const text = await response.text();
  expect(response.status, text).toBe(status);
  return JSON.parse(text);
}

/** Every row of every table of the shard, as text, without what names the tables' own columns. */
export async function dumpOf(database: D1Database, workspaceId: string): Promise<string> {
  const { results: tables } = await database
    .prepare(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_cf%' ESCAPE '\\' AND name NOT LIKE 'contacts_fts%' AND name NOT LIKE 'd1_%'",
    )
    .all<{ name: string }>();
  const rows = await Promise.all(
    tables.map(async ({ name }) => {
      const all = (await database.prepare(`SELECT * FROM ${name}`).all<Row>()).results;
      return all.filter((row) => row.workspace_id === undefined || row.workspace_id === workspaceId);
    }),
  );
  return JSON.stringify(rows);
}

/** Everything in the bucket that can be this workspace's. */
export async function bucketDump(): Promise<string> {
  const { objects } = await env.MEDIA.list();
  const bodies = await Promise.all(
    objects.map(async ({ key }) => `${key} ${await (await env.MEDIA.get(key))?.text()}`),
  );
  return bodies.join("\n");
}

export async function order(workspace: TestWorkspace, contactId: string): Promise<Row> {
  return json(await workspace.call("POST", `/api/contacts/${contactId}/erase`), 202);
}

export function jobOf(workspace: TestWorkspace, contactId: string) {
  return { v: 1, kind: "contact.erase", workspaceId: workspace.workspaceId, shard: workspace.shard, id: contactId };
}

/** Runs an erasure to the end of its second look, whatever its jobs' delays are. */
export async function runToEnd(workspace: TestWorkspace, contactId: string): Promise<Row> {
  for (let runs = 0; runs < 40; runs += 1) {
    const { env: held } = heldQueues();
    const result = await deliver("bulk", [jobOf(workspace, contactId)], { env: held });
    expect(result.retryBatch.retry).toBe(false);
    const row = await erasureRow(workspace.workspaceId, contactId);
    if (row.due_at === null) return row;
  }
  throw new Error("The erasure does not end");
}

export async function erasureRow(workspaceId: string, contactId: string): Promise<Row> {
  const row = await env.SHARD_0.prepare("SELECT * FROM contact_erasures WHERE workspace_id = ?1 AND id = ?2")
    .bind(workspaceId, contactId)
    .first<Row>();
  if (!row) throw new Error("No such erasure");
  return row;
}

export async function contactOf(workspaceId: string, wa: string): Promise<string> {
  const found = (await inboxOf(workspaceId).contacts()).find((row) => row.wa_id === wa);
  if (!found) throw new Error("No such contact");
  return String(found.id);
}

/** The first whole second that is later than now, in ms: what is said then was said after everything before. */
export function soon(): number {
  return (Math.floor(Date.now() / 1000) + 1) * 1000;
}
