/**
 * An assistant's answer: asked in a job of its own, accepted under the key of its firing. Whatever goes wrong, people
 * take over.
 */
import { previewOf } from "../messages/service-preview";
import { isoMillis } from "../platform/clock";
import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { publishEvents } from "../realtime/publish";
import { type Asked, ask, type Turn } from "./ask";
import { fillPlaces } from "./fields";
import { fits } from "./match";
import type { AiAnswer } from "./schema";
import { openAssistantKey } from "./service-assistant";
import type { AskJob } from "./service-order";
import { accept, sendAnswer } from "./service-run";
import { selectAssistant, selectRule } from "./store";
import {
  type Candidate,
  type Firing,
  type Message,
  selectCandidates,
  selectFiring,
  selectHistory,
  settleFiring,
  settleHandedOver,
} from "./store-firings";

/** WhatsApp's limit of a text (facts 1.2). */
const MAX_TEXT = 4096;
/** Characters of one message of the history. */
const MAX_TURN = 4000;
const MINUTE = 60_000;

/** Runs a job. Throws when a database or queue does not answer. */
export async function answerByAssistant(rt: Runtime, job: AskJob): Promise<void> {
  const db = shard(rt, job.shard);
  const { workspaceId, ruleId, messageId } = job;
  const firing = await selectFiring(db, { workspaceId, ruleId, inboundId: messageId });
  if (firing?.status !== "pending") return;
  const [rule, { candidates }] = await Promise.all([
    selectRule(db, [workspaceId], ruleId),
    selectCandidates(db, workspaceId, [messageId], rt.clock()),
  ]);
  const [candidate] = candidates;
  if (!rule?.enabled || rule.answer.kind !== "ai" || !candidate) return skip(db, firing, "The rule or message is gone");
  const { answer } = rule;
  const asked = await turnTo(rt, db, candidate, answer);
  const reason = await isTooLate(rt, db, candidate, rule.quiet);
  if (reason !== null) return skip(db, firing, reason);
  switch (asked.kind) {
    case "said": {
      const content = { body: asked.text.slice(0, MAX_TEXT) };
      return sendAnswer(rt, db, job.shard, firing, { ok: true, payload: { type: "text", content, category: null } });
    }
    case "hands_over":
      return handOver(rt, db, job.shard, { firing, candidate, answer, reason: "Asked for people" });
    case "failed":
      return handOver(rt, db, job.shard, { firing, candidate, answer, reason: asked.reason });
  }
}

function skip(db: Db, firing: Firing, error: string): Promise<void> {
  return settleFiring(db, firing, { status: "skipped", messageId: null, error });
}

/** Asks, unless the person asked for people in the rule's own words. */
async function turnTo(rt: Runtime, db: Db, { message, contact }: Candidate, answer: AiAnswer): Promise<Asked> {
  const { texts } = answer.handover;
  const said = { type: message.type, content: message.content, at: message.at, first: false };
  if (texts && fits({ kind: "keyword", texts, case_sensitive: false }, said)) return { kind: "hands_over" };
  const assistant = await selectAssistant(db, message.workspaceId);
  if (!assistant) return { kind: "failed", reason: "No assistant is set for this workspace" };
  let key: string;
  try {
    key = await openAssistantKey(rt, assistant);
  } catch (error) {
    log("error", "auto_replies.key_unreadable", { workspace_id: message.workspaceId, ...errorFields(error) });
    return { kind: "failed", reason: "The assistant's key cannot be read: set it again" };
  }
  const history = await selectHistory(db, message, answer.history);
  return ask(rt, assistant, key, fillPlaces(answer, contact), history.map(toTurn));
}

function toTurn({ direction, type, content }: Message): Turn {
  const said = typeof content.body === "string" ? content.body : (content.text ?? previewOf(type, content));
  return { role: direction === "inbound" ? "user" : "assistant", content: String(said).slice(0, MAX_TURN) };
}

/** Why an answer that took its time is not wanted any more: an agent was faster, or people have taken over. */
async function isTooLate(rt: Runtime, db: Db, before: Candidate, quiet: number): Promise<string | null> {
  const now = rt.clock();
  const { candidates } = await selectCandidates(db, before.message.workspaceId, [before.message.id], now);
  const [candidate] = candidates;
  if (!candidate || candidate.excluded) return "The person opted out";
  if (candidate.handedOverUntil !== null) return "People have taken over";
  if (quiet > 0 && (candidate.agentAt ?? 0) > before.message.at) return "An agent answered";
  return null;
}

/** People take over: rules keep quiet in this conversation, whoever looks at the inbox sees it, and the person is told. */
async function handOver(
  rt: Runtime,
  db: Db,
  shardNumber: number,
  { firing, candidate, answer, reason }: { firing: Firing; candidate: Candidate; answer: AiAnswer; reason: string },
): Promise<void> {
  const now = rt.clock();
  const { workspaceId, conversationId } = firing;
  const { message: words, minutes } = answer.handover;
  let messageId: string | null = null;
  if (words !== undefined) {
    const content = { body: fillPlaces(words, candidate.contact).slice(0, MAX_TEXT) };
    const told = await accept(rt, db, shardNumber, firing, { type: "text", content, category: null }, ":handover");
    messageId = told.ok ? told.messageId : null;
  }
  await settleHandedOver(db, firing, { reason, messageId, at: now, until: now + minutes * MINUTE });
  const at = isoMillis(now);
  const event = {
    type: "conversation.updated" as const,
    conversation_id: conversationId,
    unread_count: null,
    at,
  };
  try {
    await publishEvents(rt, workspaceId, `handover:${firing.ruleId}:${firing.inboundId}`, [event], db.bookmark);
  } catch (error) {
    // The list of hand-overs has it.
    log("warn", "live.publish_failed", { workspace_id: workspaceId, ...errorFields(error) });
  }
}
