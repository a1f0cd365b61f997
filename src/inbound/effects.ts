/** What others see and feel of a stored batch. Every effect has a key of its own, so that it may run twice (pipeline 11). */
import type { Message } from "../messages/service";
import { announceStatuses } from "../messages/service-announce";
import { messageView } from "../messages/service-view";
import { gateOf, messagesPerSecond, numbersById } from "../phone-numbers/service-pipeline";
import { isoMillis } from "../platform/clock";
import { sha256Hex } from "../platform/crypto";
import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import type { WorkspaceEvent } from "../realtime/events";
import { publishEvents } from "../realtime/publish";
import type { Feed } from "../webhook-endpoints/service-wake";
import type { Plan } from "./plan";
import type { Resolved } from "./who";

/** What a batch's transaction did. */
export interface Written {
  /** Messages stored by this run, or, after a redelivery, perhaps by the run before. */
  created: Message[];
  /** Messages whose status changed. */
  changed: Message[];
  /** Threads of the messages that reactions, edits and revokes are about, by `threadKey`. */
  targets: Map<string, string>;
  /** People of whom another batch stored a name at the same time: they turned out to be two contacts. */
  merges: Resolved["merges"];
  /** Who wants to be told of what happens in these workspaces. */
  feeds: Feed[];
  /** Workspaces that have rules which may answer. */
  answering: Set<string>;
}

/** Names a message of a number as others refer to it. */
export function threadKey(phoneNumberId: string, waMessageId: string): string {
  return `${phoneNumberId} ${waMessageId}`;
}

interface Shown {
  /** Names what happened, so that a write shown before is recognised. */
  key: string;
  event: WorkspaceEvent;
}

/** Shows a batch, one publish per workspace. A workspace whose hub does not answer keeps no other from its turn. */
export async function publishBatch(rt: Runtime, plan: Plan, written: Written, bookmark: string | null): Promise<void> {
  const at = isoMillis(rt.clock());
  const failures: unknown[] = [];
  for (const [workspaceId, list] of Map.groupBy(eventsOf(plan, written, rt.clock(), at), ({ ws }) => ws)) {
    const keys = list.map(({ key }) => key).sort();
    try {
      const events = list.map(({ event }) => event);
      await publishEvents(rt, workspaceId, `in:${await sha256Hex(keys.join("\n"))}`, events, bookmark);
    } catch (error) {
      failures.push(error);
    }
  }
  await announceStatuses(rt, written.changed, bookmark);
  if (failures.length > 0) throw new AggregateError(failures, `${failures.length} workspaces could not be told`);
}

function eventsOf(plan: Plan, { created, targets }: Written, now: number, at: string): (Shown & { ws: string })[] {
  // History is fetched, not shown as it comes: an onboarding brings months of it.
  const messages = created.filter((message) => message.origin !== "history");
  return [
    ...messages.map((message) => ({
      ws: message.workspaceId,
      key: `new:${message.id}`,
      event: { type: "message.created" as const, message: messageView(message, now), at },
    })),
    ...messages.map((message) => ({
      ws: message.workspaceId,
      key: `thread:${message.id}`,
      event: {
        type: "conversation.updated" as const,
        conversation_id: message.conversationId,
        unread_count: null,
        at,
      },
    })),
    ...plan.webhookEvents.map(({ ws, id, kind }) => ({
      ws,
      key: `event:${id}`,
      event: { type: "webhook_event.created" as const, webhook_event_id: id, kind, at },
    })),
    ...plan.messageEvents.flatMap(({ ws, num, target, kind, actor, at: said }) => {
      const conversationId = targets.get(threadKey(num, target));
      // What it is about is not stored yet: nothing is on a screen that could change.
      if (conversationId === undefined) return [];
      const key = `ref:${target}:${kind}:${actor}:${said}`;
      return [
        { ws, key, event: { type: "message.event" as const, conversation_id: conversationId, target, kind, at } },
      ];
    }),
  ];
}

/** Fewer than this in a batch is no load: the call would cost more than it tells. */
const COUNTED_FROM = 5;

/** Inbound messages use the number's throughput too; a gate that cannot be told only sends a little too eagerly. */
export async function countThroughput(rt: Runtime, db: Db, plan: Plan): Promise<void> {
  const busy = [...plan.numbers.values()].filter((number) => number.inbound >= COUNTED_FROM);
  if (busy.length === 0) return;
  try {
    const numbers = await numbersById(db, busy);
    await Promise.all(
      busy.map(async ({ workspaceId, id, inbound }) => {
        const number = numbers.get(id);
        if (number) await gateOf(rt, workspaceId, id).count(inbound, messagesPerSecond(number), rt.clock());
      }),
    );
  } catch (error) {
    log("warn", "gate.count_failed", errorFields(error));
  }
}
