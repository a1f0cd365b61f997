/** SQL of rules, hand-overs and assistants. */
import type { InferSelectModel } from "drizzle-orm";
import { z } from "zod";
import { columnsOf, type Db, fromRow, type Statement, statement } from "../platform/d1";
import { decodeCursor, encodeCursor, type Page, type PageQuery } from "../platform/pagination";
import { autoReplies, autoReplyAssistants, autoReplyHandovers } from "./tables";

export type Rule = InferSelectModel<typeof autoReplies>;
export type Assistant = InferSelectModel<typeof autoReplyAssistants>;
export type Handover = InferSelectModel<typeof autoReplyHandovers>;

/** Each message is held against all of them. */
export const MAX_RULES = 100;

const RULE = columnsOf(autoReplies, "r");

export function toRule(row: Record<string, unknown>): Rule {
  return fromRow(autoReplies, row);
}

/** Stores a rule behind the others; null when the workspace has as many as it may. */
export async function insertRule(db: Db, rule: Omit<Rule, "position">): Promise<Rule | null> {
  const row = await db.first(
    `INSERT INTO auto_replies (workspace_id, id, name, phone_number_id, position, enabled, match, answer, cooldown, daily_limit, quiet, created_at, updated_at)
     SELECT ?1, ?2, ?3, ?4, COALESCE((SELECT max(k.position) FROM auto_replies k WHERE k.workspace_id = ?1), 0) + 1, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11
     WHERE (SELECT count(*) FROM auto_replies k WHERE k.workspace_id = ?1) < ${MAX_RULES} RETURNING *`,
    rule.workspaceId,
    rule.id,
    rule.name,
    rule.phoneNumberId,
    Number(rule.enabled),
    JSON.stringify(rule.match),
    JSON.stringify(rule.answer),
    rule.cooldown,
    rule.dailyLimit,
    rule.quiet,
    rule.createdAt,
  );
  return row && toRule(row);
}

/** Members left out stay; null is a value where a column takes it. */
export type RuleChange = Partial<
  Pick<Rule, "name" | "phoneNumberId" | "enabled" | "match" | "answer" | "cooldown" | "dailyLimit" | "quiet">
>;

/** Changes a rule; null when it is gone. */
export async function updateRule(
  db: Db,
  { workspaceId, id }: Rule,
  change: RuleChange,
  now: number,
): Promise<Rule | null> {
  const row = await db.first(
    `UPDATE auto_replies SET name = COALESCE(?3, name), phone_number_id = iif(?4, ?5, phone_number_id), enabled = COALESCE(?6, enabled),
       match = COALESCE(?7, match), answer = COALESCE(?8, answer), cooldown = COALESCE(?9, cooldown),
       daily_limit = iif(?10, ?11, daily_limit), quiet = COALESCE(?12, quiet), updated_at = ?13
     WHERE workspace_id = ?1 AND id = ?2 RETURNING *`,
    workspaceId,
    id,
    change.name ?? null,
    change.phoneNumberId === undefined ? 0 : 1,
    change.phoneNumberId ?? null,
    change.enabled === undefined ? null : Number(change.enabled),
    change.match ? JSON.stringify(change.match) : null,
    change.answer ? JSON.stringify(change.answer) : null,
    change.cooldown ?? null,
    change.dailyLimit === undefined ? 0 : 1,
    change.dailyLimit ?? null,
    change.quiet ?? null,
    now,
  );
  return row && toRule(row);
}

/** Puts the named rules first, in this order; the others keep theirs behind them. */
export async function updateOrder(db: Db, workspaceId: string, ids: readonly string[], now: number): Promise<Rule[]> {
  await db.batch([
    statement(
      `UPDATE auto_replies AS r SET position = p.place, updated_at = ?3
       FROM (SELECT k.id AS id, row_number() OVER (ORDER BY j.key IS NULL, j.key, k.position, k.id) AS place
         FROM auto_replies k LEFT JOIN json_each(?2) j ON j.value = k.id WHERE k.workspace_id = ?1) p
       WHERE r.workspace_id = ?1 AND r.id = p.id AND r.position <> p.place`,
      workspaceId,
      JSON.stringify(ids),
      now,
    ),
  ]);
  return selectRules(db, workspaceId);
}

export async function deleteRule(db: Db, { workspaceId, id }: Rule): Promise<void> {
  await db.run("DELETE FROM auto_replies WHERE workspace_id = ?1 AND id = ?2", workspaceId, id);
}

/** One rule by id among several workspaces of one shard. */
export async function selectRule(db: Db, workspaceIds: readonly string[], id: string): Promise<Rule | null> {
  const row = await db.first(
    `SELECT ${RULE} FROM auto_replies r WHERE (r.workspace_id, r.id) IN (SELECT j.value, ?2 FROM json_each(?1) j)`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && toRule(row);
}

/** The rules of a workspace in their order. */
export function rulesOf(workspaceId: string): Statement {
  return statement(
    `SELECT ${RULE} FROM auto_replies r WHERE r.workspace_id = ?1 ORDER BY r.position, r.id`,
    workspaceId,
  );
}

export async function selectRules(db: Db, workspaceId: string): Promise<Rule[]> {
  const [result] = await db.batch([rulesOf(workspaceId)]);
  return (result?.results ?? []).map(toRule);
}

/** The rules in their order, page by page. They are few, so they are counted. */
export async function pageRules(db: Db, workspaceId: string, query: PageQuery): Promise<Page<Rule>> {
  const all = await selectRules(db, workspaceId);
  const start = query.cursor === undefined ? query.offset : decodeCursor(query.cursor, z.tuple([z.int()]))[0];
  const end = start + query.limit;
  return {
    rows: all.slice(start, end),
    total: all.length,
    totalIsLowerBound: false,
    nextCursor: end < all.length ? encodeCursor([end]) : null,
  };
}

/** Which of these workspaces have rules at all. For a batch that writes what they may answer. */
export function selectAnswering(workspaceIds: readonly string[]): Statement {
  return statement(
    `SELECT j.value AS workspace_id FROM json_each(?1) j
     WHERE EXISTS (SELECT 1 FROM auto_replies r WHERE r.workspace_id = j.value AND r.enabled = 1)`,
    JSON.stringify([...new Set(workspaceIds)]),
  );
}

export async function selectAssistant(db: Db, workspaceId: string): Promise<Assistant | null> {
  const row = await db.first(
    `SELECT ${columnsOf(autoReplyAssistants, "a")} FROM auto_reply_assistants a WHERE a.workspace_id = ?1`,
    workspaceId,
  );
  return row && fromRow(autoReplyAssistants, row);
}

export async function upsertAssistant(db: Db, row: Assistant): Promise<void> {
  await db.run(
    `INSERT INTO auto_reply_assistants (workspace_id, base_url, model, token_parameter, api_key_sealed, own_host, updated_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
     ON CONFLICT (workspace_id) DO UPDATE SET base_url = excluded.base_url, model = excluded.model, token_parameter = excluded.token_parameter,
       api_key_sealed = excluded.api_key_sealed, own_host = excluded.own_host, updated_at = excluded.updated_at`,
    row.workspaceId,
    row.baseUrl,
    row.model,
    row.tokenParameter,
    row.apiKeySealed,
    row.ownHost,
    row.updatedAt,
  );
}

/** Whether there was one. */
export async function deleteAssistant(db: Db, workspaceId: string): Promise<boolean> {
  return (await db.run("DELETE FROM auto_reply_assistants WHERE workspace_id = ?1", workspaceId)) > 0;
}

/** Conversations that people have taken over, newest first. */
export async function pageHandovers(
  db: Db,
  workspaceId: string,
  now: number,
  query: PageQuery,
): Promise<Page<Handover>> {
  const start = query.cursor === undefined ? query.offset : decodeCursor(query.cursor, z.tuple([z.int()]))[0];
  const [rows, total] = await db.batch([
    statement(
      `SELECT ${columnsOf(autoReplyHandovers, "h")} FROM auto_reply_handovers h WHERE h.workspace_id = ?1 AND h.until > ?2
       ORDER BY h.at DESC, h.conversation_id LIMIT ${query.limit + 1} OFFSET ?3`,
      workspaceId,
      now,
      start,
    ),
    statement(
      "SELECT count(*) AS n FROM auto_reply_handovers h WHERE h.workspace_id = ?1 AND h.until > ?2",
      workspaceId,
      now,
    ),
  ]);
  const found = (rows?.results ?? []).map((row) => fromRow(autoReplyHandovers, row));
  return {
    rows: found.slice(0, query.limit),
    total: z.object({ n: z.number() }).parse(total?.results[0]).n,
    totalIsLowerBound: false,
    nextCursor: found.length > query.limit ? encodeCursor([start + query.limit]) : null,
  };
}

/** A hand-over by its conversation, among several workspaces of one shard. */
export async function selectHandover(db: Db, workspaceIds: readonly string[], id: string): Promise<Handover | null> {
  const row = await db.first(
    `SELECT ${columnsOf(autoReplyHandovers, "h")} FROM auto_reply_handovers h
     WHERE (h.workspace_id, h.conversation_id) IN (SELECT j.value, ?2 FROM json_each(?1) j)`,
    JSON.stringify(workspaceIds),
    id,
  );
  return row && fromRow(autoReplyHandovers, row);
}

export async function deleteHandover(db: Db, { workspaceId, conversationId }: Handover): Promise<void> {
  await db.run(
    "DELETE FROM auto_reply_handovers WHERE workspace_id = ?1 AND conversation_id = ?2",
    workspaceId,
    conversationId,
  );
}
