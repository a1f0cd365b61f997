/**
 * Stores a batch of routed events of one shard: one read, one transaction, then effects (pipeline 9–14). Everything may
 * run twice: rows are guarded by their keys, effects carry keys of their own.
 */
import { orderAutoReplies, selectAnswering } from "../auto-replies/service-order";
import { orderMerges, selectOwners, toOwner } from "../contacts/service";
import { orderFetches } from "../media/service-inbound";
import { toMessage } from "../messages/service";
import { applyWaitingStatuses, foldStatuses, statusStatements } from "../messages/service-statuses";
import { touchNumbers, updateNumberFacts } from "../phone-numbers/service-pipeline";
import type { Db, Statement } from "../platform/d1";
import type { Runtime } from "../platform/runtime";
import { templateStatements } from "../templates/service-webhooks";
import { selectFeeds, toFeeds, wakeFeeds } from "../webhook-endpoints/service-wake";
import { countThroughput, publishBatch, threadKey, type Written } from "./effects";
import { keyText } from "./names";
import { lookupsOf, namedIn } from "./people";
import { type Plan, planBatch } from "./plan";
import type { RoutedEvent } from "./routing";
import {
  countNew,
  countNewMessages,
  insertConversations,
  insertMessages,
  insertWebhookEvents,
  selectStored,
  selectTargets,
  updateConsents,
  upsertMessageEvents,
} from "./store-batch";
import { deleteReleased, insertContacts, insertNewIdentities, selectBefore, updateContactFacts } from "./store-people";
import { type Resolved, resolveWho } from "./who";

/**
 * Stores the events in their shard (`db`, of number `shardNumber`) and runs their effects. Throws when the shard did
 * not take the batch: all of it or nothing is stored.
 */
export async function ingest(
  rt: Runtime,
  db: Db,
  shardNumber: number,
  events: readonly RoutedEvent[],
  redelivered: boolean,
): Promise<void> {
  const named = namedIn(events);
  const workspaceIds = [...new Set(events.map((event) => event.workspaceId))];
  const before = await selectBefore(db, lookupsOf(named), workspaceIds);
  const people = resolveWho(named, before, rt.newId);
  const plan = await planBatch(events, { newId: rt.newId, settings: before.settings, whoIs: people.whoIs });
  // Before anything is stored: after it, a name that was given up tells nobody any more that two contacts are one.
  const merge = (pairs: Resolved["merges"]) =>
    orderMerges(
      rt,
      pairs.map((pair) => ({ ...pair, shard: shardNumber })),
    );
  await merge(people.merges);
  const written = await write(rt, db, plan, people, workspaceIds, redelivered);
  await merge(written.merges);
  await orderFetches(rt, shardNumber, written.created);
  await wakeFeeds(rt, shardNumber, written.feeds);
  await orderAutoReplies(rt, shardNumber, written.answering, written.created);
  await publishBatch(rt, plan, written, db.bookmark);
  await countThroughput(rt, db, plan);
}

async function write(
  rt: Runtime,
  db: Db,
  plan: Plan,
  people: Resolved,
  workspaceIds: readonly string[],
  redelivered: boolean,
): Promise<Written> {
  const now = rt.clock();
  const minted = new Set(plan.messages.map((message) => message.id));
  const echoes = plan.messages.filter((m) => m.direction === "outbound").map(({ ws, id }) => ({ ws, id }));
  const statuses = statusStatements(foldStatuses(plan.statuses));
  const parts = {
    rows: [
      ...deleteReleased(people.releases),
      ...insertContacts(people.contacts, now),
      ...insertNewIdentities(people.identities),
      ...updateContactFacts(people.facts, now),
      ...insertConversations(plan.conversations, now),
      ...insertMessages(plan.messages),
      ...countNewMessages(plan.messages, now),
      ...countNew("contacts", people.contacts),
      ...countNew("conversations", plan.conversations),
      ...updateConsents(plan.consents, now),
      ...upsertMessageEvents(plan.messageEvents),
      ...insertWebhookEvents(plan.webhookEvents),
      ...(plan.numbers.size > 0 ? [touchNumbers([...plan.numbers.values()], now)] : []),
      ...(plan.facts.length > 0 ? [updateNumberFacts(plan.facts, now)] : []),
      ...templateStatements(plan.templates, now),
      ...(echoes.length > 0 ? [applyWaitingStatuses(echoes)] : []),
    ],
    changed: statuses.changed,
    after: statuses.after,
    stored: selectStored(plan.messages),
    targets: selectTargets(plan.messageEvents),
    feeds: [selectFeeds(workspaceIds)],
    answering: [selectAnswering(workspaceIds)],
    owners: selectOwners(
      people.claimants.flatMap(({ workspaceId, keys }) => keys.map((key) => ({ workspaceId, ...key }))),
    ),
  };
  const results = await batchOf(db, parts);
  const stored = results.stored.map(toMessage);
  const keys = new Set(stored.map((m) => threadKey(m.phoneNumberId, m.waMessageId ?? "")));
  // A name may be given up, or its contact erased, by another batch between our read and our transaction.
  const lost = plan.messages.filter((message) => !keys.has(threadKey(message.num, message.wa)));
  if (lost.length > 0) throw new Error(`${lost.length} messages lost their sender while they were stored`);
  const created = redelivered ? stored : stored.filter((message) => minted.has(message.id));
  return {
    created: [...new Map(created.map((message) => [message.id, message])).values()],
    changed: results.changed.map(toMessage),
    targets: new Map(
      results.targets.map((row) => [threadKey(String(row.num), String(row.wa)), String(row.conversation_id)]),
    ),
    merges: doubled(people, results.owners),
    feeds: toFeeds(rt, workspaceIds, results.feeds),
    answering: new Set(results.answering.map((row) => String(row.workspace_id))),
  };
}

type Rows = Record<string, unknown>[];

/** Runs the parts in their order in one transaction; answers the rows of each. */
async function batchOf<K extends string>(db: Db, parts: Record<K, Statement[]>): Promise<Record<K, Rows>> {
  const names = Object.keys(parts) as K[];
  const results = await db.batch(names.flatMap((name) => parts[name]));
  let start = 0;
  const rows = {} as Record<K, Rows>;
  for (const name of names) {
    const end = start + parts[name].length;
    rows[name] = results.slice(start, end).flatMap((result) => result.results);
    start = end;
  }
  return rows;
}

/** People whose names belong to more than one contact now. */
function doubled({ claimants }: Resolved, rows: Rows): Resolved["merges"] {
  const owners = new Map(rows.map(toOwner).map((owner) => [`${owner.workspaceId} ${keyText(owner)}`, owner.contactId]));
  return claimants.flatMap(({ workspaceId, keys }) => {
    const contactIds = new Set(keys.flatMap((key) => owners.get(`${workspaceId} ${keyText(key)}`) ?? []));
    const [oldest, ...others] = [...contactIds].sort();
    if (oldest === undefined) return [];
    return others.map((other) => ({ workspaceId, contactIds: [oldest, other] as [string, string] }));
  });
}
