import { checkFiles } from "../media/service-limits";
import { type PhoneNumber, resolveNumber } from "../phone-numbers/service";
import { isoMillis } from "../platform/clock";
import type { Db } from "../platform/d1";
import { AppError, invalidField } from "../platform/errors";
import type { IdempotencyClaim } from "../platform/idempotency";
import { isUuid } from "../platform/ids";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { admitSend, conversationObject, publishEvents } from "../realtime/publish";
import { readSettings } from "../workspaces/service";
import { enqueueSends } from "./jobs";
import type { MessageContent } from "./schema";
import { announceStatuses } from "./service-announce";
import { checkKind } from "./service-limits";
import { previewOf } from "./service-preview";
import { messageView } from "./service-view";
import {
  type Acceptance,
  insertAccepted,
  type KnownRecipient,
  type Message,
  type RecipientKey,
  type RecipientReads,
  selectMessage,
  selectRecipient,
} from "./store";
import { updateCancelled } from "./store-sending";

export {
  type Message,
  selectMessage,
  toMessage,
} from "./store";
export { type MessageFilter, pageMessages, selectMessageEvents } from "./store-pages";

/** A person may be written to freely this long after their last message (facts 1.9). */
const SERVICE_WINDOW = 24 * 3_600_000;

/** A later time is a mistake of units rather than a plan. */
const SCHEDULE_HORIZON = 366 * 24 * 3_600_000;

/** A message somebody wants sent. */
export interface SendIntent {
  phoneNumberId: string | null;
  to: string | null;
  contactId: string | null;
  conversationId: string | null;
  type: string;
  content: MessageContent;
  category: Message["category"];
  replyTo: string | null;
  /** ms */
  scheduledAt: number | null;
  /** ms the message may wait before it expires; the default is 24 hours. */
  ttl: number | null;
}

/** Where a send happens. */
export interface SendScope {
  rt: Runtime;
  workspaceId: string;
  shard: number;
  db: Db;
  /** Rejects when the caller's plan is used up. Awaited with the first reads: nothing is stored or sent before. */
  allowed?: Promise<void> | undefined;
}

/**
 * Accepts a message: from here on it is a promise, sent once or `failed` with a reason. Answers the stored message and
 * whether the same call under the same key had been accepted before. Refuses with 422 what can never be sent, with 404
 * an unknown contact or conversation, with 409 a suspended workspace or a key used for something else.
 */
export async function acceptMessage(
  scope: SendScope,
  intent: SendIntent,
  key: { key: string; hash: string } | null,
): Promise<{ message: Message; replayed: boolean }> {
  const { rt, db, workspaceId } = scope;
  const now = rt.clock();
  const recipientKey = recipientKeyOf(intent);
  if (!recipientKey) {
    await scope.allowed;
    throw invalidField(["body", "to"], "Exactly one of to, contact_id and conversation_id is needed");
  }
  const [reads, named] = await Promise.all([
    selectRecipient(
      db,
      workspaceId,
      recipientKey,
      intent.replyTo !== null && isUuid(intent.replyTo) ? intent.replyTo : null,
      key && { key: key.key, now },
    ),
    recipientKey.kind === "conversation" ? null : resolveNumber(db, workspaceId, intent.phoneNumberId),
    scope.allowed,
  ]);
  // Before anything is looked at that may have changed since: the same call gets the first answer again, though its
  // planned time has passed by now or its number was disabled. And a repeated call takes none of the pair's pace.
  if (key && reads.holder) return replay(reads.holder, key.hash);
  if (intent.scheduledAt !== null && intent.scheduledAt <= now) {
    throw invalidField(["body", "scheduled_at"], "Must be in the future");
  }
  if (intent.scheduledAt !== null && intent.scheduledAt > now + SCHEDULE_HORIZON) {
    throw invalidField(["body", "scheduled_at"], "Must be within a year");
  }
  if (recipientKey.kind === "conversation" && !reads.conversation)
    throw new AppError("not_found", "Conversation not found");
  if (recipientKey.kind === "contact" && !reads.recipient) throw new AppError("not_found", "Contact not found");
  const number = reads.conversation ? await resolveNumber(db, workspaceId, reads.conversation.phoneNumberId) : named;
  if (!number) {
    const missing =
      intent.phoneNumberId === null
        ? "This workspace has no active phone number"
        : "Phone number not found in this workspace";
    throw invalidField(["body", "phone_number_id"], missing);
  }
  if (reads.conversation && intent.phoneNumberId !== null && !isNamed(number, intent.phoneNumberId)) {
    throw invalidField(["body", "phone_number_id"], "The conversation belongs to another phone number");
  }
  if (number.status === "disabled") throw invalidField(["body", "phone_number_id"], "The phone number is disabled");
  if (reads.workspace?.status !== "active") throw new AppError("conflict", "The workspace is suspended");
  checkKind(rt, number, intent);
  await checkFiles(rt, db, number, intent);
  const replyTo = replyTarget(intent.replyTo, reads.repliedTo, number.id, reads.recipient);
  checkConsent(intent, reads.recipient);
  const thread = reads.recipient?.threads.find((t) => t.phoneNumberId === number.id) ?? null;
  if (readSettings(reads.workspace.settings).enforceServiceWindow && intent.type !== "template") {
    const open = (thread?.lastInboundAt ?? 0) > now - SERVICE_WINDOW;
    if (!open) throw new AppError("conflict", "The service window is closed: send a template");
  }

  const address = addressOf(intent, reads.recipient);
  const peer = thread?.peer ?? address.to?.slice(1) ?? address.user ?? address.group ?? "";
  const sendAt = intent.scheduledAt ?? now;
  // A planned message takes its turn where it is due, not where it was planned, and none of today's pace of the pair.
  const admission =
    intent.scheduledAt === null
      ? await admitSend(rt, conversationObject(workspaceId, number.id, peer), now)
      : { seq: sendAt, notBefore: sendAt };
  const id = rt.newId();
  const claim: IdempotencyClaim | null = key && { workspaceId, ...key, ref: id };
  const acceptance: Acceptance = {
    message: {
      workspaceId,
      id,
      phoneNumberId: number.id,
      conversationId: thread?.id ?? "",
      contactId: reads.recipient?.contactId ?? "",
      direction: "outbound",
      origin: "api",
      type: intent.type,
      content: address.group === null ? intent.content : { ...intent.content, group_id: address.group },
      status: intent.scheduledAt === null ? "queued" : "scheduled",
      waMessageId: null,
      toNumber: address.to,
      toUser: address.user,
      fromNumber: number.phoneNumber,
      replyTo,
      category: intent.category,
      lane: "chat",
      open: intent.scheduledAt === null ? 1 : null,
      seq: admission.seq,
      notBefore: admission.notBefore,
      expiresAt: sendAt + (intent.ttl ?? rt.config.PIPELINE.messageTtl),
      scheduledAt: intent.scheduledAt,
      leaseUntil: null,
      claim: null,
      attempts: 0,
      failures: 0,
      ambiguousAt: null,
      unknownMs: null,
      resentAt: null,
      error: null,
      pricing: null,
      at: now,
      receivedAt: now,
      position: 0,
      createdAt: now,
      sentAt: null,
      deliveredAt: null,
      readAt: null,
      failedAt: null,
    },
    preview: previewOf(intent.type, intent.content),
    newContact:
      reads.recipient || intent.to === null
        ? null
        : { id: rt.newId(), phoneNumber: intent.to, digits: intent.to.slice(1) },
    conversation: { id: rt.newId(), peer },
    claim,
  };
  const result = await insertAccepted(db, acceptance, now);
  switch (result.kind) {
    case "key_conflict":
      throw keyConflict();
    case "gone":
      throw messageGone();
    case "replayed":
      return { message: result.message, replayed: true };
    case "accepted":
      await announceAccepted(scope, result.message, now);
      return { message: result.message, replayed: false };
  }
}

/** Null unless exactly one of the three ways to name a recipient is used. */
function recipientKeyOf(intent: SendIntent): RecipientKey | null {
  const named = [intent.to, intent.contactId, intent.conversationId].filter((value) => value !== null);
  if (named.length !== 1) return null;
  if (intent.to !== null) return { kind: "phone", digits: intent.to.slice(1) };
  if (intent.contactId !== null) return { kind: "contact", id: intent.contactId };
  return { kind: "conversation", id: intent.conversationId ?? "" };
}

/** The answer to a call whose key is held already. */
function replay(
  holder: { hash: string; message: Message | null },
  hash: string,
): { message: Message; replayed: boolean } {
  if (holder.hash !== hash) throw keyConflict();
  if (!holder.message) throw messageGone();
  return { message: holder.message, replayed: true };
}

function keyConflict(): AppError {
  return new AppError("idempotency_conflict", "This idempotency key was used with another request");
}

function messageGone(): AppError {
  return new AppError("conflict", "The message of this idempotency key does not exist any more");
}

/** Whether a call that names `id` (ours or the provider's) means this number. */
function isNamed(number: PhoneNumber, id: string): boolean {
  return id.toLowerCase() === number.id || id === number.providerNumberId;
}

/**
 * The provider's id of the message that is quoted. One named by our id must have been sent, in this conversation:
 * nobody could see a quote of another one. A provider's id may be of before the number came here, and is passed on.
 */
function replyTarget(
  asked: string | null,
  stored: RecipientReads["repliedTo"],
  phoneNumberId: string,
  recipient: KnownRecipient | null,
): string | null {
  if (asked === null || !isUuid(asked)) return asked;
  if (!stored) throw invalidField(["body", "reply_to"], "Message not found in this workspace");
  if (stored.phoneNumberId !== phoneNumberId || stored.contactId !== recipient?.contactId) {
    throw invalidField(["body", "reply_to"], "That message belongs to another conversation");
  }
  if (stored.waMessageId === null) throw invalidField(["body", "reply_to"], "That message has not been sent yet");
  return stored.waMessageId;
}

/** Single sends are refused only on a recorded opt-out of marketing (contract 18): answers to people always go. */
function checkConsent(intent: SendIntent, recipient: KnownRecipient | null): void {
  if (intent.category !== "marketing" || recipient?.optedOutAt == null) return;
  throw new AppError("conflict", "The contact opted out of marketing");
}

/** What the provider is told to send to: the number that was asked for, else what the contact is known by. */
function addressOf(
  intent: SendIntent,
  recipient: KnownRecipient | null,
): { to: string | null; user: string | null; group: string | null } {
  if (intent.to !== null) return { to: intent.to, user: null, group: null };
  if (!recipient) throw new AppError("not_found", "Contact not found");
  if (recipient.kind === "group") {
    const group = recipient.threads[0]?.peer.replace(/^group-/, "") ?? null;
    return { to: null, user: null, group };
  }
  const to = recipient.phoneNumber ?? (recipient.waId === null ? null : `+${recipient.waId}`);
  if (to !== null) return { to, user: null, group: null };
  if (recipient.userId !== null) return { to: null, user: recipient.userId, group: null };
  throw invalidField(["body", "contact_id"], "The contact has neither a phone number nor a user id");
}

/** The job and the live event; neither is needed for the promise, so neither can break it. */
async function announceAccepted(scope: SendScope, message: Message, now: number): Promise<void> {
  const { rt, workspaceId, db } = scope;
  const event = { type: "message.created" as const, message: messageView(message, now), at: isoMillis(now) };
  await Promise.all([
    enqueueSends(rt, [
      {
        job: { workspaceId, shard: scope.shard, phoneNumberId: message.phoneNumberId, id: message.id },
        delayMs: message.notBefore - now,
      },
    ]),
    publishEvents(rt, workspaceId, `new:${message.id}`, [event], db.bookmark).catch((error) => {
      log("warn", "live.publish_failed", { workspace_id: workspaceId, ...errorFields(error) });
    }),
  ]);
}

/** Cancels a planned message, until somebody claims it; 409 once it is on its way (or was cancelled before). */
export async function cancelMessage(scope: SendScope, message: Message): Promise<Message> {
  const { rt, db } = scope;
  const done = await updateCancelled(db, message);
  if (!done) {
    const now = await selectMessage(db, [message.workspaceId], message.id);
    throw new AppError("conflict", `Only scheduled messages can be cancelled; this one is ${(now ?? message).status}`);
  }
  await enqueueSends(
    rt,
    done.next.map(({ notBefore, ...job }) => ({
      job: { ...job, shard: scope.shard },
      delayMs: notBefore - rt.clock(),
    })),
  );
  await announceStatuses(rt, [done.message], db.bookmark);
  return done.message;
}
