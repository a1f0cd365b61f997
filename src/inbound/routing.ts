/** Which workspace an event belongs to. */
import { z } from "zod";
import { ROTATION_GRACE } from "../phone-numbers/service-webhook";
import { type Db, statement } from "../platform/d1";
import { type Runtime, shard } from "../platform/runtime";
import type { InboundEvent, ProviderName } from "../providers/provider";
import type { WebhookJob } from "./jobs";

/** An event on its way into a workspace. */
export interface RoutedEvent {
  workspaceId: string;
  shard: number;
  /** Null for what concerns an account as a whole. */
  phoneNumberId: string | null;
  /** The workspace's numbers that it is about: that one, or those of the account. */
  numberIds: string[];
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
  webhook_version: z.number(),
  webhook_rotated_at: z.number().nullable(),
});
type Registration = z.infer<typeof registrationRow>;

const FIELDS =
  "n.provider, n.provider_number_id, n.workspace_id, n.shard, n.phone_number_id, n.business_id, n.phone_digits, n.webhook_version, n.webhook_rotated_at";

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

/** Numbers tried for a status that names neither number nor account: with more registrations it stays unrouted. */
const MAX_TRIED = 5000;

const sentRow = z.object({ phone_number_id: z.string(), wa_message_id: z.string() });

/** A status that names no number of ours, with the registrations of the account it names. */
interface Unnamed {
  arrived: ArrivedEvent;
  waMessageId: string;
  ofBusiness: Registration[];
}

/**
 * Statuses without metadata are matched by the provider's message id (contract 23): over the index that deduplicates,
 * each registered number of their account is tried in its shard, or of the provider where they name no account either.
 */
async function byMessageId(rt: Runtime, db: Db, unnamed: readonly Unnamed[]): Promise<RoutedEvent[]> {
  const found: RoutedEvent[] = [];
  for (const [provider, statuses] of Map.groupBy(unnamed, ({ arrived }) => arrived.provider)) {
    const rows = statuses.every(({ ofBusiness }) => ofBusiness.length > 0)
      ? []
      : await db.all(`SELECT ${FIELDS} FROM provider_numbers n WHERE n.provider = ?1 LIMIT ${MAX_TRIED}`, provider);
    const everybody = rows.map((row) => registrationRow.parse(row));
    const tried = statuses.map((status) => ({
      ...status,
      candidates: status.ofBusiness.length > 0 ? status.ofBusiness : everybody,
    }));
    const registered = distinctNumbers(tried.flatMap(({ candidates }) => candidates));
    for (const [number, ofShard] of Map.groupBy(registered, (r) => r.shard)) {
      const sent = await shard(rt, number).all(
        `SELECT m.phone_number_id, m.wa_message_id FROM json_each(?1) j CROSS JOIN json_each(?2) n CROSS JOIN messages m
         WHERE m.phone_number_id = n.value AND m.wa_message_id = j.value AND m.direction = 'outbound'`,
        JSON.stringify([...new Set(statuses.map((status) => status.waMessageId))]),
        JSON.stringify(ofShard.map((r) => r.phone_number_id)),
      );
      for (const row of sent.map((raw) => sentRow.parse(raw))) {
        for (const { arrived, waMessageId, candidates } of tried) {
          const registration = candidates.find((r) => r.phone_number_id === row.phone_number_id);
          if (registration && waMessageId === row.wa_message_id) found.push(route(arrived, registration));
        }
      }
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
 * Finds each event's workspace in the directory `db`. On the app's address that is where the number is registered; on a connection's own
 * address it is the connection's, and what names another number becomes an unknown event of that connection (pipeline 8).
 * What names only a business account concerns every workspace with a number of it.
 */
export async function routeEvents(rt: Runtime, db: Db, events: readonly ArrivedEvent[]): Promise<Routed> {
  if (events.length === 0) return { routed: [], unrouted: [] };
  const known = await registrations(db, events);
  const routed: RoutedEvent[] = [];
  const unrouted: ArrivedEvent[] = [];
  const unnamed: (Unnamed & { targets: RoutedEvent[] })[] = [];
  for (const arrived of events) {
    const targets =
      arrived.connection === null ? byNumber(known, arrived) : byConnection(known, arrived, arrived.connection);
    if (arrived.connection === null && arrived.event.kind === "status" && namesNoNumber(arrived, targets)) {
      const { waMessageId } = arrived.event;
      unnamed.push({ arrived, waMessageId, ofBusiness: ofBusiness(known, arrived), targets });
      continue;
    }
    if (targets.length === 0) unrouted.push(arrived);
    routed.push(...targets);
  }
  const matched = await byMessageId(rt, db, unnamed);
  const settled = new Set(matched.map(({ event }) => event));
  for (const { arrived, targets } of unnamed) {
    if (settled.has(arrived.event)) continue;
    if (targets.length === 0) unrouted.push(arrived);
    routed.push(...targets);
  }
  return { routed: [...routed, ...matched], unrouted };
}

function namesNoNumber({ event }: ArrivedEvent, targets: readonly RoutedEvent[]): boolean {
  return event.number.providerNumberId === null && targets.every((target) => target.phoneNumberId === null);
}

/** About one number. */
function route(arrived: ArrivedEvent, registration: Registration, event = arrived.event): RoutedEvent {
  return {
    workspaceId: registration.workspace_id,
    shard: registration.shard,
    phoneNumberId: registration.phone_number_id,
    numberIds: [registration.phone_number_id],
    provider: arrived.provider,
    receivedAt: arrived.receivedAt,
    position: arrived.position,
    event,
    source: arrived.source,
    r2Key: arrived.r2Key,
  };
}

function ofBusiness(known: readonly Registration[], { provider, event }: ArrivedEvent): Registration[] {
  const { businessId } = event.number;
  return known.filter((r) => r.provider === provider && businessId !== null && r.business_id === businessId);
}

function byNumber(known: readonly Registration[], arrived: ArrivedEvent): RoutedEvent[] {
  const { providerNumberId, displayDigits } = arrived.event.number;
  if (providerNumberId !== null) {
    return known
      .filter((r) => r.provider === arrived.provider && r.provider_number_id === providerNumberId)
      .slice(0, 1)
      .map((r) => route(arrived, r));
  }
  const registered = distinctNumbers(ofBusiness(known, arrived));
  const named = registered.filter((r) => displayDigits !== null && r.phone_digits === displayDigits);
  if (named.length > 0) return named.map((r) => route(arrived, r));
  return [...Map.groupBy(registered, (r) => r.workspace_id).values()].flatMap((ofWorkspace) => {
    const [first] = ofWorkspace;
    // What names a number that is not ours says nothing of those that are.
    const numberIds = displayDigits === null ? ofWorkspace.map((r) => r.phone_number_id) : [];
    return first ? [{ ...route(arrived, first), phoneNumberId: null, numberIds }] : [];
  });
}

function byConnection(known: readonly Registration[], arrived: ArrivedEvent, connection: string): RoutedEvent[] {
  const own = known.find((r) => r.phone_number_id === connection);
  if (!own || isOutdated(own, arrived)) return [];
  const { providerNumberId, businessId, displayDigits } = arrived.event.number;
  const foreign =
    own.provider !== arrived.provider ||
    (providerNumberId !== null && providerNumberId !== own.provider_number_id) ||
    (providerNumberId === null && displayDigits !== null && displayDigits !== own.phone_digits) ||
    (providerNumberId === null && businessId !== null && own.business_id !== null && businessId !== own.business_id);
  if (!foreign) return [route(arrived, own)];
  const { number, position, raw } = arrived.event;
  const reason = "It names another number than the connection it came in on";
  return [route(arrived, own, { kind: "unknown", number, position, raw, field: null, reason })];
}

/** Whether the secret it came with was rotated out, and its day of grace is over. */
function isOutdated(own: Registration, { source, receivedAt }: ArrivedEvent): boolean {
  const version = source.secretVersion;
  if (version === undefined || version === own.webhook_version) return false;
  const rotatedAt = own.webhook_rotated_at ?? 0;
  return version !== own.webhook_version - 1 || receivedAt > rotatedAt + ROTATION_GRACE;
}

function distinctNumbers(rows: readonly Registration[]): Registration[] {
  return [...new Map(rows.map((r) => [r.phone_number_id, r])).values()];
}
