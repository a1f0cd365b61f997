/** Which workspace an event belongs to. */
import { z } from "zod";
import { type Db, statement } from "../platform/d1";
import { directory, type Runtime, shard } from "../platform/runtime";
import type { InboundEvent, ProviderName } from "../providers/provider";
import type { WebhookJob } from "./jobs";

/** An event on its way into a workspace. */
export interface RoutedEvent {
  workspaceId: string;
  shard: number;
  /** Null for what concerns an account as a whole. */
  phoneNumberId: string | null;
  provider: ProviderName;
  receivedAt: number;
  /** Place within the whole POST. */
  position: number;
  event: InboundEvent;
  /** The job it came with: what a dead letter keeps, so that it can be replayed. */
  source: WebhookJob;
  /** Where the raw text of an oversized event lies. */
  r2Key: string | null;
}

/** An event with the facts of the POST it came with. */
export interface ArrivedEvent {
  provider: ProviderName;
  connection: string | null;
  receivedAt: number;
  position: number;
  event: InboundEvent;
  source: WebhookJob;
  r2Key: string | null;
}

const registrationRow = z.object({
  provider: z.enum(["meta", "360dialog", "infobip"]),
  provider_number_id: z.string(),
  workspace_id: z.string(),
  shard: z.number(),
  phone_number_id: z.string(),
  business_id: z.string().nullable(),
  phone_digits: z.string().nullable(),
});
type Registration = z.infer<typeof registrationRow>;

const FIELDS =
  "n.provider, n.provider_number_id, n.workspace_id, n.shard, n.phone_number_id, n.business_id, n.phone_digits";

/** The registrations that these events can concern, in one round trip. */
async function registrations(db: Db, events: readonly ArrivedEvent[]): Promise<Registration[]> {
  const numbers = new Set<string>();
  const businesses = new Set<string>();
  const connections = new Set<string>();
  for (const { event, provider, connection } of events) {
    if (connection !== null) connections.add(JSON.stringify({ c: connection }));
    if (event.number.providerNumberId !== null)
      numbers.add(JSON.stringify({ p: provider, n: event.number.providerNumberId }));
    else if (event.number.businessId !== null)
      businesses.add(JSON.stringify({ p: provider, b: event.number.businessId }));
  }
  const list = (set: Set<string>) => `[${[...set].join(",")}]`;
  const results = await db.batch([
    statement(
      `SELECT ${FIELDS} FROM json_each(?1) j CROSS JOIN provider_numbers n
       WHERE n.provider = j.value ->> 'p' AND n.provider_number_id = j.value ->> 'n'`,
      list(numbers),
    ),
    statement(
      `SELECT ${FIELDS} FROM json_each(?1) j CROSS JOIN provider_numbers n WHERE n.provider = j.value ->> 'p' AND n.business_id = j.value ->> 'b'`,
      list(businesses),
    ),
    statement(
      `SELECT ${FIELDS} FROM json_each(?1) j CROSS JOIN provider_numbers n WHERE n.phone_number_id = j.value ->> 'c'`,
      list(connections),
    ),
  ]);
  return results.flatMap((result) => result.results.map((row) => registrationRow.parse(row)));
}

/** Numbers tried for a status that names none: more than this many registrations and it stays unrouted. */
const MAX_TRIED = 5000;

const sentRow = z.object({ phone_number_id: z.string(), wa_message_id: z.string() });

/**
 * Statuses without metadata are matched by the provider's message id (contract 23): each registered number of the
 * provider is tried in its shard, over the index that deduplicates.
 */
async function byMessageId(rt: Runtime, db: Db, events: readonly ArrivedEvent[]): Promise<RoutedEvent[]> {
  const statuses = events.flatMap((arrived) =>
    arrived.event.kind === "status" ? [{ arrived, wa: arrived.event.waMessageId }] : [],
  );
  if (statuses.length === 0) return [];
  const rows = await db.all(
    `SELECT ${FIELDS} FROM provider_numbers n WHERE n.provider = ?1 LIMIT ${MAX_TRIED}`,
    statuses[0]?.arrived.provider ?? "",
  );
  const registered = rows.map((row) => registrationRow.parse(row));
  const found: RoutedEvent[] = [];
  for (const [number, ofShard] of Map.groupBy(registered, (r) => r.shard)) {
    const sent = await shard(rt, number).all(
      `SELECT m.phone_number_id, m.wa_message_id FROM json_each(?1) j CROSS JOIN json_each(?2) n CROSS JOIN messages m
       WHERE m.phone_number_id = n.value AND m.wa_message_id = j.value`,
      JSON.stringify([...new Set(statuses.map((status) => status.wa))]),
      JSON.stringify(ofShard.map((r) => r.phone_number_id)),
    );
    for (const row of sent.map((raw) => sentRow.parse(raw))) {
      const registration = ofShard.find((r) => r.phone_number_id === row.phone_number_id);
      if (!registration) continue;
      found.push(
        ...statuses.filter((s) => s.wa === row.wa_message_id).map((s) => route(s.arrived, registration, false)),
      );
    }
  }
  return found;
}

export interface Routed {
  routed: RoutedEvent[];
  /** Signed, but about a number (or account) nobody registered. */
  unrouted: ArrivedEvent[];
}

/**
 * Finds each event's workspace. On the app's address that is where the number is registered; on a connection's own
 * address it is the connection's, and what names another number becomes an unknown event of that connection (pipeline 8).
 * What names only a business account concerns every workspace with a number of it.
 */
export async function routeEvents(rt: Runtime, events: readonly ArrivedEvent[]): Promise<Routed> {
  const db = directory(rt);
  const known = await registrations(db, events);
  const routed: RoutedEvent[] = [];
  const unrouted: ArrivedEvent[] = [];
  for (const arrived of events) {
    const targets =
      arrived.connection === null ? byNumber(known, arrived) : byConnection(known, arrived, arrived.connection);
    if (targets.length === 0) unrouted.push(arrived);
    routed.push(...targets);
  }
  const { providerless = [], rest = [] } = Object.groupBy(unrouted, (u) => (namesNothing(u) ? "providerless" : "rest"));
  const matched = await byMessageId(rt, db, providerless);
  const missed = providerless.filter((u) => !matched.some((m) => m.event === u.event));
  return { routed: [...routed, ...matched], unrouted: [...rest, ...missed] };
}

function namesNothing(arrived: ArrivedEvent): boolean {
  const { providerNumberId, businessId, displayDigits } = arrived.event.number;
  return providerNumberId === null && businessId === null && displayDigits === null;
}

function route(arrived: ArrivedEvent, registration: Registration, whole: boolean, event = arrived.event): RoutedEvent {
  return {
    workspaceId: registration.workspace_id,
    shard: registration.shard,
    phoneNumberId: whole ? null : registration.phone_number_id,
    provider: arrived.provider,
    receivedAt: arrived.receivedAt,
    position: arrived.position,
    event,
    source: arrived.source,
    r2Key: arrived.r2Key,
  };
}

function byNumber(known: readonly Registration[], arrived: ArrivedEvent): RoutedEvent[] {
  const { providerNumberId, businessId, displayDigits } = arrived.event.number;
  const ofProvider = known.filter((r) => r.provider === arrived.provider);
  if (providerNumberId !== null) {
    return ofProvider
      .filter((r) => r.provider_number_id === providerNumberId)
      .slice(0, 1)
      .map((r) => route(arrived, r, false));
  }
  const ofBusiness = ofProvider.filter((r) => businessId !== null && r.business_id === businessId);
  const named = ofBusiness.filter((r) => displayDigits !== null && r.phone_digits === displayDigits);
  if (named.length > 0) return distinctNumbers(named).map((r) => route(arrived, r, false));
  return distinctWorkspaces(ofBusiness).map((r) => route(arrived, r, true));
}

function byConnection(known: readonly Registration[], arrived: ArrivedEvent, connection: string): RoutedEvent[] {
  const own = known.find((r) => r.phone_number_id === connection);
  if (!own) return [];
  const { providerNumberId, businessId, displayDigits } = arrived.event.number;
  const foreign =
    (providerNumberId !== null && providerNumberId !== own.provider_number_id) ||
    (providerNumberId === null && displayDigits !== null && displayDigits !== own.phone_digits) ||
    (providerNumberId === null && businessId !== null && own.business_id !== null && businessId !== own.business_id);
  if (!foreign) return [route(arrived, own, false)];
  const { number, position, raw } = arrived.event;
  const unknown: InboundEvent = {
    kind: "unknown",
    number,
    position,
    raw,
    field: null,
    reason: "It names another number than the connection it came in on",
  };
  return [route(arrived, own, false, unknown)];
}

function distinctNumbers(rows: readonly Registration[]): Registration[] {
  return [...new Map(rows.map((r) => [r.phone_number_id, r])).values()];
}

function distinctWorkspaces(rows: readonly Registration[]): Registration[] {
  return [...new Map(rows.map((r) => [r.workspace_id, r])).values()];
}
