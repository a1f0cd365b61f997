/** What a batch of events means, as rows: pure code between the one read before and the one transaction after. */
import { previewOf } from "../messages/preview";
import type { StatusReport } from "../messages/statuses";
import { sha256Hex } from "../platform/crypto";
import { unreachable } from "../platform/errors";
import type { NewId } from "../platform/ids";
import type { Person } from "../providers/provider";
import type { ArrivedUpdate } from "../templates/service-webhooks";
import { type Key, keyText, type People, personKeys } from "./people";
import type { RoutedEvent } from "./routing";
import type {
  ConsentChange,
  MovedIdentity,
  NewConversation,
  NewMessage,
  NewMessageEvent,
  NewWebhookEvent,
} from "./store";
import { consentWord } from "./words";

/** Rows of a batch that name contacts by a key; who owns the key is settled in SQL. */
export interface Plan {
  conversations: NewConversation[];
  messages: NewMessage[];
  messageEvents: NewMessageEvent[];
  consents: ConsentChange[];
  statuses: StatusReport[];
  webhookEvents: NewWebhookEvent[];
  moved: (MovedIdentity & { at: number })[];
  facts: {
    workspaceId: string;
    id: string;
    qualityRating?: string;
    tier?: string;
    messageLimit?: number | null;
    verifiedName?: string;
  }[];
  templates: ArrivedUpdate[];
  /** Every number the batch is about; inbound messages count against its throughput. */
  numbers: Map<string, { workspaceId: string; id: string; statuses: boolean; inbound: number }>;
}

export interface PlanContext {
  newId: NewId;
  settings: ReadonlyMap<string, string>;
}

/** Sorts a batch's events into rows. People must have been collected with `collectPeople` before. */
export async function planBatch(events: readonly RoutedEvent[], context: PlanContext): Promise<Plan> {
  const plan: Plan = {
    conversations: [],
    messages: [],
    messageEvents: [],
    consents: [],
    statuses: [],
    webhookEvents: [],
    moved: [],
    facts: [],
    templates: [],
    numbers: new Map(),
  };
  const conversations = new Map<string, NewConversation>();
  for (const routed of events) await planEvent(routed, plan, conversations, context);
  plan.conversations = [...conversations.values()];
  return plan;
}

/** Says of every event whom it names, before anything is read. */
export function collectPeople(events: readonly RoutedEvent[], people: People): void {
  for (const { workspaceId, event } of events) {
    switch (event.kind) {
      case "message":
        if (event.groupId === null) people.person(workspaceId, event.sender, true);
        else people.group(workspaceId, event.groupId);
        break;
      case "echo":
        if (event.groupId === null) people.person(workspaceId, event.recipient, true);
        else people.group(workspaceId, event.groupId);
        break;
      case "preference":
        people.person(workspaceId, event.sender, true);
        break;
      case "contact_sync":
        people.person(workspaceId, event.person, event.action === "add");
        break;
      case "identity_change":
        people.same(workspaceId, event.previous, event.current);
        break;
      case "status":
        // A status may be the first to tell a known person's user id.
        if (event.recipient?.waId && event.recipient.userId) people.person(workspaceId, event.recipient, false);
        break;
      case "reaction":
      case "edit":
      case "revoke":
      case "notice":
      case "unknown":
        break;
      default:
        unreachable(event);
    }
  }
}

async function planEvent(
  routed: RoutedEvent,
  plan: Plan,
  conversations: Map<string, NewConversation>,
  context: PlanContext,
): Promise<void> {
  const { event, workspaceId: ws, phoneNumberId: num } = routed;
  if (num !== null) noteNumber(plan, ws, num, event.kind === "status", event.kind === "message" ? 1 : 0);
  // Messages and what refers to them need a number; without one they are kept as they came.
  if (num === null && event.kind !== "notice" && event.kind !== "unknown" && event.kind !== "preference") {
    plan.webhookEvents.push(await stored(routed, "unknown", null, "It names no number"));
    return;
  }
  const number = num ?? "";
  switch (event.kind) {
    case "message": {
      const key = event.groupId === null ? firstKey(event.sender) : ({ kind: "group", value: event.groupId } as const);
      if (!key) {
        plan.webhookEvents.push(await stored(routed, "unknown", null, "It names no sender"));
        return;
      }
      converse(conversations, ws, number, key, context.newId);
      plan.messages.push(inboundRow(routed, event, key, number, context.newId));
      if (event.origin === "live" && event.groupId === null && event.message.type === "text") {
        const word = consentWord(String(event.message.content.body ?? ""), context.settings.get(ws));
        if (word !== null) {
          plan.consents.push(consent(ws, key, word === "in", event.message.at, "keyword", event.message.waMessageId));
        }
      }
      return;
    }
    case "echo": {
      const key =
        event.groupId === null ? firstKey(event.recipient) : ({ kind: "group", value: event.groupId } as const);
      if (!key) {
        plan.webhookEvents.push(await stored(routed, "unknown", null, "It names no recipient"));
        return;
      }
      converse(conversations, ws, number, key, context.newId);
      plan.messages.push({
        ...common(routed, event.message, key, number, context.newId),
        direction: "outbound",
        origin: event.origin,
        status: event.status ?? "sent",
        from: null,
        to: event.recipient.waId === null ? null : `+${event.recipient.waId}`,
      });
      return;
    }
    case "reaction":
      plan.messageEvents.push({
        ws,
        num: number,
        target: event.target,
        kind: "reaction",
        actor: actorOf(event.sender, false),
        at: event.at,
        payload: JSON.stringify({ emoji: event.emoji, wa_message_id: event.waMessageId }),
      });
      return;
    case "edit":
      plan.messageEvents.push({
        ws,
        num: number,
        target: event.target,
        kind: "edit",
        actor: actorOf(event.sender, event.byUs),
        at: event.at,
        payload: JSON.stringify({ type: event.type, content: event.content, wa_message_id: event.waMessageId }),
      });
      return;
    case "revoke":
      plan.messageEvents.push({
        ws,
        num: number,
        target: event.target,
        kind: "revoke",
        actor: actorOf(event.sender, event.byUs),
        at: event.at,
        payload: JSON.stringify({ wa_message_id: event.waMessageId }),
      });
      return;
    case "status":
      if (event.participant !== null) {
        plan.messageEvents.push({
          ws,
          num: number,
          target: event.waMessageId,
          kind: "group_status",
          actor: `${event.participant} ${event.status}`,
          at: event.at,
          payload: JSON.stringify({ status: event.status, participant: event.participant, error: event.error }),
        });
        return;
      }
      plan.statuses.push({
        workspaceId: ws,
        phoneNumberId: number,
        waMessageId: event.waMessageId,
        callbackId: event.callbackId,
        status: event.status,
        at: event.at,
        error: event.error,
        pricing: event.pricing,
      });
      return;
    case "identity_change": {
      const key = firstKey(event.current);
      if (key) {
        plan.moved.push({
          ws,
          old: replaced(event.previous, event.current),
          k: key.kind,
          v: key.value,
          wa: event.current.waId,
          user: event.current.userId,
          at: event.at,
        });
      }
      plan.webhookEvents.push(await stored(routed, "identity_change", null, null));
      return;
    }
    case "preference": {
      const key = firstKey(event.sender);
      if (key) plan.consents.push(consent(ws, key, event.marketing === "resume", event.at, "preference", event.detail));
      plan.webhookEvents.push(await stored(routed, "preference", null, null));
      return;
    }
    case "contact_sync":
      plan.webhookEvents.push(await stored(routed, "contact_sync", null, null));
      return;
    case "notice":
      if (event.numberUpdate && num !== null) plan.facts.push({ workspaceId: ws, id: num, ...event.numberUpdate });
      if (event.templateUpdate) {
        const { businessId } = event.number;
        const { receivedAt, position } = routed;
        plan.templates.push({ workspaceId: ws, businessId, receivedAt, position, update: event.templateUpdate });
      }
      plan.webhookEvents.push(await stored(routed, event.topic, event.field, null));
      return;
    case "unknown":
      plan.webhookEvents.push(await stored(routed, "unknown", event.field, event.reason));
      return;
    default:
      unreachable(event);
  }
}

function noteNumber(plan: Plan, workspaceId: string, id: string, statuses: boolean, inbound: number): void {
  const number = plan.numbers.get(id) ?? { workspaceId, id, statuses: false, inbound: 0 };
  number.statuses ||= statuses;
  number.inbound += inbound;
  plan.numbers.set(id, number);
}

function firstKey(person: Person): Key | null {
  return personKeys(person)[0] ?? null;
}

/** Names of the previous person that the current one does not have any more. */
function replaced(previous: Person, current: Person): { k: string; v: string }[] {
  const kept = new Set(personKeys(current).map(keyText));
  const old = personKeys(previous).filter((key) => !kept.has(keyText(key)));
  const kinds = new Set(personKeys(current).map((key) => key.kind));
  // Only a name of a kind that was replaced goes: a new user id says nothing about the number.
  const gone = old.filter((key) => kinds.has(key.kind));
  return gone.flatMap((key) => [
    { k: key.kind as string, v: key.value },
    ...(key.kind === "wa" ? [{ k: "phone", v: key.value }] : []),
  ]);
}

function converse(conversations: Map<string, NewConversation>, ws: string, num: string, key: Key, newId: NewId): void {
  const name = `${ws} ${num} ${keyText(key)}`;
  if (conversations.has(name)) return;
  const peer = key.kind === "group" ? `group-${key.value}` : key.value;
  conversations.set(name, { ws, id: newId(), num, k: key.kind, v: key.value, peer });
}

type MessageEvent = Extract<RoutedEvent["event"], { kind: "message" }>;

function common(
  routed: RoutedEvent,
  message: MessageEvent["message"],
  key: Key,
  num: string,
  newId: NewId,
): Omit<NewMessage, "direction" | "origin" | "status" | "from" | "to"> {
  return {
    ws: routed.workspaceId,
    id: newId(),
    num,
    k: key.kind,
    v: key.value,
    type: message.type,
    content: JSON.stringify(message.content),
    wa: message.waMessageId,
    reply: message.replyTo,
    at: message.at,
    received: routed.receivedAt,
    position: routed.position,
    preview: previewOf(message.type, message.content),
  };
}

function inboundRow(routed: RoutedEvent, event: MessageEvent, key: Key, num: string, newId: NewId): NewMessage {
  const { sender, message } = event;
  // In a group the thread is the group's; who wrote stands with the message.
  const author =
    event.groupId === null ? {} : { author: { wa_id: sender.waId, user_id: sender.userId, name: sender.name } };
  return {
    ...common(routed, { ...message, content: { ...message.content, ...author } }, key, num, newId),
    direction: "inbound",
    origin: event.origin,
    status: "delivered",
    from: sender.waId === null ? null : `+${sender.waId}`,
    to: null,
  };
}

function actorOf(person: Person, byUs: boolean): string {
  return byUs ? "us" : (person.waId ?? person.userId ?? "unknown");
}

function consent(
  ws: string,
  key: Key,
  optedIn: boolean,
  at: number,
  source: "keyword" | "preference",
  reference: string | null,
): ConsentChange {
  return { ws, k: key.kind, v: key.value, in: optedIn ? 1 : 0, at, proof: JSON.stringify({ source, reference, at }) };
}

async function stored(
  routed: RoutedEvent,
  kind: string,
  field: string | null,
  reason: string | null,
): Promise<NewWebhookEvent> {
  const raw = JSON.stringify(routed.event.raw);
  return {
    ws: routed.workspaceId,
    id: await eventId(routed, raw),
    num: routed.phoneNumberId,
    provider: routed.provider,
    kind,
    field,
    raw: routed.r2Key === null ? raw : null,
    r2: routed.r2Key,
    reason,
    at: routed.receivedAt,
  };
}

/** The same event has the same id however often it is delivered: a UUID (version 8) of what it says. */
export async function eventId(
  routed: { workspaceId: string; phoneNumberId: string | null; provider: string },
  raw: string,
): Promise<string> {
  const hex = await sha256Hex(`${routed.workspaceId}\n${routed.phoneNumberId ?? ""}\n${routed.provider}\n${raw}`);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
