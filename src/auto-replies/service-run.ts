/**
 * Answering messages: the first rule that fits decides, one conditional insert lets it, and the message is accepted
 * under a key made of rule and message. Every step may run twice.
 */
import { acceptMessage, type Message } from "../messages/service";
import type { Db } from "../platform/d1";
import { AppError } from "../platform/errors";
import { log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { type Composed, compose } from "./compose";
import { fits } from "./match";
import { type AskJob, isAnswerable, type RunJob } from "./service-order";
import type { Rule } from "./store";
import {
  answerKey,
  BRAKE_FIRINGS,
  type Candidate,
  type Firing,
  insertFiring,
  selectCandidates,
  settleFiring,
} from "./store-firings";

/** An answer that could not leave within this time is no answer any more. ms */
const ANSWER_TTL = 3_600_000;

/** Runs a job. Throws when a database or queue does not answer. */
export async function answerMessages(rt: Runtime, job: RunJob): Promise<void> {
  const db = shard(rt, job.shard);
  const { rules, candidates } = await selectCandidates(db, job.workspaceId, job.messageIds, rt.clock());
  // What this job answered a person before counts too.
  const answered = new Map<string, number>();
  for (const candidate of candidates) {
    const { contactId } = candidate.message;
    const before = answered.get(contactId) ?? 0;
    const done = await answerOne(rt, db, job, rules, { ...candidate, recent: candidate.recent + before });
    if (done) answered.set(contactId, before + 1);
  }
}

async function answerOne(
  rt: Runtime,
  db: Db,
  job: RunJob,
  rules: readonly Rule[],
  candidate: Candidate,
): Promise<boolean> {
  const now = rt.clock();
  const rule = ruleFor(rules, candidate, now);
  if (!rule) return false;
  const firing = await insertFiring(db, rule, candidate.message, now);
  if (firing?.status !== "pending") return false;
  const { answer } = rule;
  if (answer.kind === "ai") {
    const { workspaceId, shard: number } = job;
    const ask = { v: 1, kind: "auto_reply.ask", workspaceId, shard: number } as const;
    await rt.env.DELIVERIES.send({ ...ask, ruleId: rule.id, messageId: candidate.message.id } satisfies AskJob);
    return true;
  }
  const composed = await refusable(() => compose(rt, db, candidate.message, answer, candidate.contact));
  await sendAnswer(rt, db, job.shard, firing, composed);
  return true;
}

/** The rule that answers, if any may. One that has begun to, goes on, whatever has changed since. */
function ruleFor(rules: readonly Rule[], candidate: Candidate, now: number): Rule | null {
  const { message, answeredBy } = candidate;
  if (answeredBy !== null) {
    if (answeredBy.status !== "pending") return null;
    return rules.find((rule) => rule.id === answeredBy.ruleId) ?? null;
  }
  if (!isAnswerable(message, now) || candidate.excluded || candidate.handedOverUntil !== null) return null;
  if (candidate.recent >= BRAKE_FIRINGS) {
    log("warn", "auto_replies.braked", { workspace_id: message.workspaceId, contact_id: message.contactId });
    return null;
  }
  const rule = chooseRule(rules, message, candidate.first);
  if (!rule || (candidate.agentAt !== null && candidate.agentAt > now - rule.quiet)) return null;
  return rule;
}

/** The first rule that fits a message. */
function chooseRule(
  rules: readonly Rule[],
  { phoneNumberId, type, content, at }: Pick<Message, "phoneNumberId" | "type" | "content" | "at">,
  first: boolean,
): Rule | null {
  const own = rules.filter((rule) => rule.phoneNumberId === null || rule.phoneNumberId === phoneNumberId);
  return own.find((rule) => fits(rule.match, { type, content, at, first })) ?? null;
}

/** Accepts an answer and notes what became of it. */
export async function sendAnswer(
  rt: Runtime,
  db: Db,
  shardNumber: number,
  firing: Firing,
  composed: Composed,
): Promise<void> {
  const sent = composed.ok ? await accept(rt, db, shardNumber, firing, composed.payload) : composed;
  await settleFiring(db, firing, {
    status: sent.ok ? "sent" : "failed",
    messageId: sent.ok ? sent.messageId : null,
    error: sent.ok ? null : sent.reason,
  });
}

type Accepted = { ok: true; messageId: string } | { ok: false; reason: string };

/**
 * The message of a firing, accepted once however often this runs. A refusal is an answer, not an error. `suffix` tells a
 * second message of the same firing apart.
 */
export async function accept(
  rt: Runtime,
  db: Db,
  shardNumber: number,
  { workspaceId, ruleId, inboundId, conversationId }: Firing,
  payload: (Composed & { ok: true })["payload"],
  suffix = "",
): Promise<Accepted> {
  const key = `${answerKey(ruleId, inboundId)}${suffix}`;
  return refusable(async () => {
    const { message } = await acceptMessage(
      { rt, db, workspaceId, shard: shardNumber },
      {
        phoneNumberId: null,
        to: null,
        contactId: null,
        conversationId,
        type: payload.type,
        content: payload.content,
        category: payload.category,
        replyTo: null,
        scheduledAt: null,
        ttl: payload.ttl ?? ANSWER_TTL,
      },
      // The same firing is the same request, even where an assistant found other words the second time.
      { key, hash: key },
    );
    return { ok: true as const, messageId: message.id };
  });
}

/** What the product refuses for good is a reason; an overload, and what is nobody's refusal, is thrown. */
async function refusable<T>(work: () => Promise<T>): Promise<T | { ok: false; reason: string }> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AppError && error.status < 500) return { ok: false, reason: error.message };
    throw error;
  }
}
