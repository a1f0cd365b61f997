/** What a batch of events means, as rows: pure code between the one read before and the one transaction after. */
import { previewOf } from "../messages/service-preview";
import type { StatusReport } from "../messages/service-statuses";
import { unreachable } from "../platform/errors";
import type { NewId } from "../platform/ids";
import { errorFields, log } from "../platform/log";
import type { Person } from "../providers/provider";
import type { ArrivedUpdate } from "../templates/service-webhooks";
import { consentWord, saidText } from "./consent";
import { eventId } from "./event-id";
import { phoneOf } from "./names";
import type { RoutedEvent } from "./routing";
import type { ConsentChange, NewConversation, NewMessage, NewMessageEvent, NewWebhookEvent } from "./store-batch";
import type { Whom } from "./who";

/** What a webhook says of a number of ours. */
export interface NumberFacts {
  workspaceId: string;
  id: string;
  qualityRating?: string;
  tier?: string;
  messageLimit?: number | null;
  verifiedName?: string;
}

/** Rows of a batch that name contacts by a key; who owns the key is settled in SQL. */
export interface Plan {
  conversations: NewConversation[];
  messages: NewMessage[];
  messageEvents: NewMessageEvent[];
  consents: ConsentChange[];
  statuses: StatusReport[];
  webhookEvents: NewWebhookEvent[];
  facts: NumberFacts[];
  templates: ArrivedUpdate[];
  /** Every number the batch is about; inbound messages count against its throughput. */
  numbers: Map<string, { workspaceId: string; id: string; statuses: boolean; inbound: number }>;
}

export interface PlanContext {
  newId: NewId;
  /** Workspace id -> settings as stored. */
  settings: ReadonlyMap<string, string>;
  whoIs(routed: RoutedEvent): Whom | null;
}

/** Rows under way, at most one of each kind per person, pair or number. */
interface Draft {
  plan: Plan;
  conversations: Map<string, NewConversation>;
  consents: Map<string, ConsentChange>;
  facts: Map<string, NumberFacts>;
}

/** Sorts a batch's events into rows. An event that cannot be understood is kept as unknown and harms no neighbour. */
export async function planBatch(events: readonly RoutedEvent[], context: PlanContext): Promise<Plan> {
  const plan: Plan = {
    conversations: [],
    messages: [],
    messageEvents: [],
    consents: [],
    statuses: [],
    webhookEvents: [],
    facts: [],
    templates: [],
    numbers: new Map(),
  };
  const draft: Draft = { plan, conversations: new Map(), consents: new Map(), facts: new Map() };
  for (const routed of events) {
    try {
      const kept = planEvent(routed, draft, context);
      if (kept) plan.webhookEvents.push(await stored(routed, kept));
    } catch (error) {
      log("error", "webhook.not_understood", { workspace_id: routed.workspaceId, ...errorFields(error) });
      plan.webhookEvents.push(await stored(routed, { kind: "unknown", field: null, reason: "It was not understood" }));
    }
  }
  plan.conversations = [...draft.conversations.values()];
  plan.consents = [...draft.consents.values()];
  plan.facts = [...draft.facts.values()];
  return plan;
}

/** What is kept of an event besides the rows it became. */
interface Kept {
  kind: string;
  field: string | null;
  reason: string | null;
}

function unknown(reason: string): Kept {
  return { kind: "unknown", field: null, reason };
}

function planEvent(routed: RoutedEvent, draft: Draft, context: PlanContext): Kept | null {
  const { event, phoneNumberId } = routed;
  if (phoneNumberId !== null) noteNumber(draft.plan, routed, phoneNumberId);
  switch (event.kind) {
    case "message":
    case "echo":
      if (phoneNumberId === null) return unknown("It names no number");
      return planMessage(routed, phoneNumberId, draft, context);
    case "reaction":
    case "edit":
    case "revoke":
      if (phoneNumberId === null) return unknown("It names no number");
      draft.plan.messageEvents.push(referenceRow(routed, event, phoneNumberId));
      return null;
    case "status":
      if (phoneNumberId === null) return unknown("It names no number, and no message of any");
      planStatus(routed, event, phoneNumberId, draft.plan);
      return null;
    // These are about a person or an account, whichever number they came by.
    case "identity_change":
    case "contact_sync":
      return { kind: event.kind, field: null, reason: null };
    case "preference": {
      const optedIn = event.marketing === "resume";
      noteConsent(draft, context.whoIs(routed), routed, optedIn, event.at, "preference", event.detail);
      return { kind: "preference", field: null, reason: null };
    }
    case "notice":
      for (const id of event.numberUpdate === null ? [] : routed.numberIds) {
        const facts = draft.facts.get(id) ?? { workspaceId: routed.workspaceId, id };
        draft.facts.set(id, { ...facts, ...event.numberUpdate });
      }
      if (event.templateUpdate) {
        const { workspaceId, receivedAt, position } = routed;
        const { businessId } = event.number;
        draft.plan.templates.push({ workspaceId, businessId, receivedAt, position, update: event.templateUpdate });
      }
      return { kind: event.topic, field: event.field, reason: null };
    case "unknown":
      return { kind: "unknown", field: event.field, reason: event.reason };
    default:
      return unreachable(event);
  }
}

function noteNumber(plan: Plan, { workspaceId, event }: RoutedEvent, id: string): void {
  const number = plan.numbers.get(id) ?? { workspaceId, id, statuses: false, inbound: 0 };
  number.statuses ||= event.kind === "status";
  if (event.kind === "message") number.inbound += 1;
  plan.numbers.set(id, number);
}

type EventOf<K extends RoutedEvent["event"]["kind"]> = Extract<RoutedEvent["event"], { kind: K }>;

function planMessage(routed: RoutedEvent, num: string, draft: Draft, context: PlanContext): Kept | null {
  const event = routed.event as EventOf<"message" | "echo">;
  const whom = context.whoIs(routed);
  if (!whom) return unknown(event.kind === "message" ? "It names no sender" : "It names no recipient");
  const ws = routed.workspaceId;
  const { key, contactId } = whom;
  const pair = `${ws} ${num} ${contactId}`;
  if (!draft.conversations.has(pair)) {
    draft.conversations.set(pair, { ws, id: context.newId(), num, k: key.kind, v: key.value, peer: whom.peer });
  }
  const { message } = event;
  const common = {
    ws,
    id: context.newId(),
    num,
    k: key.kind,
    v: key.value,
    type: message.type,
    wa: message.waMessageId,
    reply: message.replyTo,
    at: message.at,
    received: routed.receivedAt,
    position: routed.position,
    preview: previewOf(message.type, message.content),
  };
  if (event.kind === "echo") {
    const content = JSON.stringify(message.content);
    const to = event.groupId === null ? phoneOf(event.recipient.waId) : null;
    const status = event.status ?? "sent";
    draft.plan.messages.push({
      ...common,
      content,
      direction: "outbound",
      origin: event.origin,
      status,
      from: null,
      to,
    });
    return null;
  }
  const { sender, origin } = event;
  // In a group the thread is the group's; who wrote stands with the message.
  const author =
    event.groupId === null ? {} : { author: { wa_id: sender.waId, user_id: sender.userId, name: sender.name } };
  const content = JSON.stringify({ ...message.content, ...author });
  const from = phoneOf(sender.waId);
  draft.plan.messages.push({ ...common, content, direction: "inbound", origin, status: "delivered", from, to: null });
  const text = origin === "live" && event.groupId === null ? saidText(message) : null;
  const word = text === null ? null : consentWord(text, context.settings.get(ws));
  if (word !== null) {
    noteConsent(draft, whom, routed, word === "in", message.at, "keyword", message.waMessageId);
  }
  return null;
}

function referenceRow(
  routed: RoutedEvent,
  event: EventOf<"reaction" | "edit" | "revoke">,
  num: string,
): NewMessageEvent {
  const own = { wa_message_id: event.waMessageId, seen: [event.waMessageId] };
  const says =
    event.kind === "reaction"
      ? { emoji: event.emoji }
      : event.kind === "edit"
        ? { type: event.type, content: event.content }
        : {};
  return {
    ws: routed.workspaceId,
    num,
    target: event.target,
    kind: event.kind,
    actor: actorOf(event.sender, event.byUs),
    at: event.at,
    payload: JSON.stringify({ ...says, ...own }),
  };
}

function actorOf(person: Person, byUs: boolean): string {
  return byUs ? "us" : (person.waId ?? person.userId ?? person.parentUserId ?? "unknown");
}

function planStatus(routed: RoutedEvent, event: EventOf<"status">, num: string, plan: Plan): void {
  if (event.participant === null) {
    const { waMessageId, callbackId, status, at, error, pricing } = event;
    const of = { workspaceId: routed.workspaceId, phoneNumberId: num };
    plan.statuses.push({ ...of, waMessageId, callbackId, status, at, error, pricing });
    return;
  }
  // In a group everybody has a status of their own: counted, never applied to the message (pipeline 14).
  plan.messageEvents.push({
    ws: routed.workspaceId,
    num,
    target: event.waMessageId,
    kind: "group_status",
    actor: `${event.participant} ${event.status}`,
    at: event.at,
    payload: JSON.stringify({ status: event.status, participant: event.participant, error: event.error }),
  });
}

/** The newest of each person; of two of the same second, that of leaving. */
function noteConsent(
  draft: Draft,
  whom: Whom | null,
  { workspaceId: ws }: RoutedEvent,
  optedIn: boolean,
  at: number,
  source: "keyword" | "preference",
  reference: string | null,
): void {
  if (!whom) return;
  const person = `${ws} ${whom.contactId}`;
  const known = draft.consents.get(person);
  if (known && (known.at > at || (known.at === at && (optedIn || known.in === 0)))) return;
  const { kind: k, value: v } = whom.key;
  draft.consents.set(person, { ws, k, v, in: optedIn ? 1 : 0, at, proof: JSON.stringify({ source, reference, at }) });
}

async function stored(routed: RoutedEvent, kept: Kept): Promise<NewWebhookEvent> {
  const raw = JSON.stringify(routed.event.raw);
  return {
    ws: routed.workspaceId,
    id: await eventId(routed, raw),
    num: routed.phoneNumberId,
    provider: routed.provider,
    ...kept,
    // What is too large for a row lies in R2 already.
    raw: routed.r2Key === null ? raw : null,
    r2: routed.r2Key,
    at: routed.receivedAt,
  };
}
