/**
 * Stores a batch of routed events of one shard: one read, one transaction, then effects (pipeline 9–14). Everything may
 * run twice: rows are guarded by their keys, effects carry keys of their own.
 */
import { type Identity, orderMerges, selectOwners } from "../contacts/service";
import { orderFetches } from "../media/service-inbound";
import { announceStatuses } from "../messages/sending";
import { applyWaitingStatuses, foldStatuses, statusStatements } from "../messages/statuses";
import { MESSAGE_COLUMNS, type Message, toMessage } from "../messages/store";
import { messageView } from "../messages/view";
import {
  gateOf,
  messagesPerSecond,
  numbersById,
  touchNumbers,
  updateNumberFacts,
} from "../phone-numbers/service-pipeline";
import { isoMillis } from "../platform/clock";
import { type Db, jsonChunks, type Statement, statement } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import type { WorkspaceEvent } from "../realtime/events";
import { publishEvents } from "../realtime/publish";
import { templateStatements } from "../templates/service-webhooks";
import { keyText, People, type Someone } from "./people";
import { collectPeople, type Plan, planBatch } from "./plan";
import type { RoutedEvent } from "./routing";
import {
  countNew,
  countNewMessages,
  insertContacts,
  insertConversations,
  insertMessages,
  insertNewIdentities,
  insertWebhookEvents,
  moveIdentities,
  type NewContact,
  type NewIdentity,
  selectBefore,
  updateConsents,
  updateContactFacts,
  upsertMessageEvents,
} from "./store";

/** Stores the events and runs their effects. Throws when the shard did not take the batch: all of it or nothing is stored. */
export async function ingest(
  rt: Runtime,
  shardNumber: number,
  events: readonly RoutedEvent[],
  redelivered: boolean,
): Promise<void> {
  const db = shard(rt, shardNumber);
  const people = new People();
  collectPeople(events, people);
  const everybody = people.united();
  const workspaceIds = [...new Set(events.map((event) => event.workspaceId))];
  const before = await selectBefore(
    db,
    everybody.flatMap((one) => distinctKeys(one).map((key) => ({ workspaceId: one.workspaceId, ...key }))),
    workspaceIds,
  );
  const plan = await planBatch(events, { newId: rt.newId, settings: before.settings });
  const known = resolve(rt, everybody, before.owners, plan);
  const written = await write(rt, db, plan, known, redelivered);
  await runEffects(rt, db, shardNumber, plan, known, written);
}

interface Resolved {
  contacts: NewContact[];
  identities: NewIdentity[];
  facts: Parameters<typeof updateContactFacts>[0][number][];
  merges: { workspaceId: string; contactIds: [string, string] }[];
}

function distinctKeys(one: Someone) {
  return [...new Map([...one.keys, ...one.alsoKnownAs].map((key) => [keyText(key), key])).values()];
}

/** Of everybody in the batch: who is new, which names are, and who turned out to be two contacts. */
function resolve(
  rt: Runtime,
  everybody: readonly Someone[],
  owners: readonly { ws: string; key: string; contactId: string; createdAt: number }[],
  plan: Plan,
): Resolved {
  const resolved: Resolved = { contacts: [], identities: [], facts: [], merges: [] };
  const byKey = new Map(owners.map((owner) => [`${owner.ws} ${owner.key}`, owner]));
  for (const one of everybody) {
    const ofOne = distinctKeys(one).flatMap((key) => byKey.get(`${one.workspaceId} ${keyText(key)}`) ?? []);
    const contactIds = [...new Set(notReassigned(ofOne, one, plan).map((owner) => owner.contactId))].sort();
    const [oldest, ...others] = contactIds;
    if (oldest === undefined && !one.createIfUnknown) continue;
    const contactId = oldest ?? rt.newId();
    const keys = distinctKeys(one).map((key) => ({ k: key.kind as string, v: key.value }));
    const phone = one.waId === null ? null : `+${one.waId}`;
    if (oldest === undefined) {
      resolved.contacts.push({
        ws: one.workspaceId,
        id: contactId,
        kind: one.kind,
        phone,
        wa: one.waId,
        user: one.userId,
        username: one.username,
        name: one.name,
        keys,
      });
    } else if (one.name ?? one.username ?? one.waId ?? one.userId) {
      resolved.facts.push({
        ws: one.workspaceId,
        id: contactId,
        name: one.name,
        username: one.username,
        wa: one.waId,
        user: one.userId,
        phone,
      });
    }
    for (const other of others) resolved.merges.push({ workspaceId: one.workspaceId, contactIds: [contactId, other] });
    const missing = one.keys.filter((key) => !byKey.has(`${one.workspaceId} ${keyText(key)}`));
    resolved.identities.push(
      ...missing.map((key) => ({ ws: one.workspaceId, k: key.kind as string, v: key.value, c: contactId, keys })),
    );
  }
  return resolved;
}

/**
 * A number is given to somebody else one day. A change of number that is told again after that must not make one
 * person of both: an owner of the old name who is younger than the change is somebody else.
 */
function notReassigned<T extends { key: string; createdAt: number }>(
  owners: readonly T[],
  one: Someone,
  plan: Plan,
): T[] {
  const moves = plan.moved.filter(
    (move) => move.ws === one.workspaceId && one.keys.some((key) => key.kind === move.k && key.value === move.v),
  );
  return owners.filter(
    (owner) =>
      !moves.some((move) => move.old.some((old) => `${old.k} ${old.v}` === owner.key) && owner.createdAt > move.at),
  );
}

interface Written {
  /** Messages stored by this run, or, after a redelivery, perhaps by the run before. */
  created: Message[];
  changed: Message[];
  /** Threads of the messages that reactions, edits and revokes are about, by provider id. */
  targets: Map<string, string>;
}

async function write(rt: Runtime, db: Db, plan: Plan, known: Resolved, redelivered: boolean): Promise<Written> {
  const now = rt.clock();
  const minted = plan.messages.map(({ ws, id }) => ({ ws, id }));
  const echoes = plan.messages.filter((m) => m.direction === "outbound").map(({ ws, id }) => ({ ws, id }));
  const statuses = statusStatements(foldStatuses(plan.statuses));
  const statements: Statement[] = [
    ...insertContacts(known.contacts, now),
    ...insertNewIdentities(known.identities),
    ...updateContactFacts(known.facts, now),
    ...insertConversations(plan.conversations, now),
    ...insertMessages(plan.messages),
    ...countNewMessages(plan.messages, now),
    ...(known.contacts.length > 0 ? countNew("contacts", known.contacts) : []),
    ...countNew("conversations", plan.conversations),
    ...updateConsents(plan.consents, now),
    ...upsertMessageEvents(plan.messageEvents),
    ...insertWebhookEvents(plan.webhookEvents),
    ...moveIdentities(plan.moved, now),
    ...(plan.numbers.size > 0 ? [touchNumbers([...plan.numbers.values()], now)] : []),
    ...(plan.facts.length > 0 ? [updateNumberFacts(plan.facts, now)] : []),
    ...templateStatements(plan.templates, now),
    ...(echoes.length > 0 ? [applyWaitingStatuses(echoes)] : []),
  ];
  const firstStatus = statements.length;
  statements.push(...statuses.changed, ...statuses.after);
  const readBack = statements.length;
  statements.push(...(redelivered ? selectByProviderId(plan) : selectById(minted)));
  const targets = statements.length;
  statements.push(...selectTargets(plan));
  const results = await db.batch(statements);
  const rows = (from: number, to: number) => results.slice(from, to).flatMap((result) => result.results.map(toMessage));
  return {
    created: rows(readBack, targets),
    changed: rows(firstStatus, firstStatus + statuses.changed.length),
    targets: new Map(
      results
        .slice(targets)
        .flatMap((result) => result.results.map((row) => [String(row.wa), String(row.conversation_id)])),
    ),
  };
}

function selectById(minted: readonly { ws: string; id: string }[]): Statement[] {
  return jsonChunks(minted).map((json) =>
    statement(
      `SELECT ${MESSAGE_COLUMNS} FROM json_each(?1) j CROSS JOIN messages m WHERE m.workspace_id = j.value ->> 'ws' AND m.id = j.value ->> 'id'`,
      json,
    ),
  );
}

function selectTargets(plan: Plan): Statement[] {
  return jsonChunks(plan.messageEvents.map(({ ws, num, target }) => ({ ws, num, wa: target }))).map((json) =>
    statement(
      `SELECT m.wa_message_id AS wa, m.conversation_id AS conversation_id FROM json_each(?1) j CROSS JOIN messages m
       WHERE m.phone_number_id = j.value ->> 'num' AND m.wa_message_id = j.value ->> 'wa' AND m.workspace_id = j.value ->> 'ws'`,
      json,
    ),
  );
}

/** After a crash between commit and effects the ids were minted by the run before: found by the provider's. */
function selectByProviderId(plan: Plan): Statement[] {
  return jsonChunks(plan.messages.map(({ ws, num, wa }) => ({ ws, num, wa }))).map((json) =>
    statement(
      `SELECT ${MESSAGE_COLUMNS} FROM json_each(?1) j CROSS JOIN messages m
       WHERE m.phone_number_id = j.value ->> 'num' AND m.wa_message_id = j.value ->> 'wa' AND m.workspace_id = j.value ->> 'ws'`,
      json,
    ),
  );
}

async function runEffects(
  rt: Runtime,
  db: Db,
  shardNumber: number,
  plan: Plan,
  known: Resolved,
  written: Written,
): Promise<void> {
  await orderMerges(
    rt,
    [...known.merges, ...(await conflictingOwners(db, known))].map((merge) => ({ ...merge, shard: shardNumber })),
  );
  await orderFetches(rt, shardNumber, written.created);
  await publishBatch(rt, plan, written, db.bookmark);
  await countThroughput(rt, db, plan);
}

/** A name that another batch gave to another contact a moment earlier: the two are one person. */
async function conflictingOwners(db: Db, known: Resolved): Promise<Resolved["merges"]> {
  const several = known.identities.filter((identity) => identity.keys.length > 1);
  if (several.length === 0) return [];
  const asked: Identity[] = several.map((i) => ({ workspaceId: i.ws, kind: i.k as Identity["kind"], value: i.v }));
  const owners = await selectOwners(db, asked);
  const expected = new Map(known.contacts.map((contact) => [contact.id, contact]));
  return several.flatMap((identity) => {
    const owner = owners.find((o) => o.workspaceId === identity.ws && o.kind === identity.k && o.value === identity.v);
    // Somebody we meant to create was created by the other batch: nothing of ours exists that could be merged.
    if (!owner || owner.contactId === identity.c || expected.has(identity.c)) return [];
    return [{ workspaceId: identity.ws, contactIds: [identity.c, owner.contactId] as [string, string] }];
  });
}

async function publishBatch(rt: Runtime, plan: Plan, written: Written, bookmark: string | null): Promise<void> {
  const at = rt.clock();
  const events = new Map<string, { key: string; event: WorkspaceEvent }[]>();
  const add = (workspaceId: string, key: string, event: WorkspaceEvent) => {
    events.set(workspaceId, [...(events.get(workspaceId) ?? []), { key, event }]);
  };
  for (const message of written.created) {
    // History is fetched, not shown as it comes: an onboarding brings months of it.
    if (message.origin === "history") continue;
    add(message.workspaceId, `new:${message.id}`, {
      type: "message.created",
      message: messageView(message, at),
      at: isoMillis(at),
    });
    add(message.workspaceId, `thread:${message.id}`, {
      type: "conversation.updated",
      conversation_id: message.conversationId,
      unread_count: null,
      at: isoMillis(at),
    });
  }
  for (const event of plan.webhookEvents) {
    add(event.ws, `event:${event.id}`, {
      type: "webhook_event.created",
      webhook_event_id: event.id,
      kind: event.kind,
      at: isoMillis(at),
    });
  }
  for (const event of plan.messageEvents) {
    const conversationId = written.targets.get(event.target);
    // What it is about is not stored yet: nothing is on a screen that could change.
    if (conversationId === undefined) continue;
    add(event.ws, `ref:${event.target}:${event.kind}:${event.actor}:${event.at}`, {
      type: "message.event",
      conversation_id: conversationId,
      target: event.target,
      kind: event.kind,
      at: isoMillis(at),
    });
  }
  for (const [workspaceId, list] of events) {
    const key = `in:${list
      .map((entry) => entry.key)
      .sort()
      .join(",")}`;
    await publishEvents(
      rt,
      workspaceId,
      key,
      list.map((entry) => entry.event),
      bookmark,
    );
  }
  await announceStatuses(rt, written.changed, bookmark);
}

/** Inbound messages use the number's throughput too; a gate that cannot be told only sends a little too eagerly. */
async function countThroughput(rt: Runtime, db: Db, plan: Plan): Promise<void> {
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

/** Fewer than this in a batch is no load: the call would cost more than it tells. */
const COUNTED_FROM = 5;
