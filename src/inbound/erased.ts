/** Events about people who were erased: what comes again of them is stored nowhere (issue 3, 4). */
import { hashesOf, type NameHash, numbersInMessageId, selectMarks, toMark } from "../contacts/service-erased";
import type { Statement } from "../platform/d1";
import type { Runtime } from "../platform/runtime";
import type { InboundEvent, Person } from "../providers/provider";
import type { RoutedEvent } from "./routing";
import type { Before } from "./store-people";

/** By which hashes the people of each event would be marked. */
export class ErasureCheck {
  readonly #hashes: ReadonlyMap<RoutedEvent, readonly NameHash[]>;

  private constructor(hashes: ReadonlyMap<RoutedEvent, readonly NameHash[]>) {
    this.#hashes = hashes;
  }

  static async of(rt: Runtime, events: readonly RoutedEvent[]): Promise<ErasureCheck> {
    const once = new Map<string, Promise<NameHash[]>>();
    const hashed = (ws: string, name: string) => {
      const id = `${ws} ${name}`;
      const known = once.get(id) ?? hashesOf(rt, ws, name);
      once.set(id, known);
      return known;
    };
    const pairs = events.map(async (routed) => {
      const hashes = await Promise.all(namesIn(routed.event).map((name) => hashed(routed.workspaceId, name)));
      return [routed, hashes.flat()] as const;
    });
    return new ErasureCheck(new Map(await Promise.all(pairs)));
  }

  /** What asks which of them are marked, each once. */
  get statements(): Statement[] {
    const all = [...this.#hashes.values()].flat();
    return selectMarks([...new Map(all.map((hash) => [textOf(hash), hash])).values()]);
  }

  /** The events that are of nobody erased, or from after it. `before` is what was read: the marks, and who is known. */
  kept(events: readonly RoutedEvent[], before: Pick<Before, "marks" | "owners">): RoutedEvent[] {
    if (before.marks.length === 0) return [...events];
    const erased = new Map(before.marks.map(toMark).map((mark) => [textOf(mark), mark.erasedAt]));
    const known = new Set(before.owners.map(({ ws, key }) => `${ws} ${key.value}`));
    return events.filter((routed) => {
      const times = (this.#hashes.get(routed) ?? []).flatMap((hash) => erased.get(textOf(hash)) ?? []);
      if (times.length === 0) return true;
      // Providers tell whole seconds, rounded down: what was said in the erasure's own second is old.
      if (timeOf(routed.event) <= Math.max(...times)) return false;
      // Without a time of its own it may be old. It makes nobody known, and tells of who is known again.
      return !isUndated(routed) || namesIn(routed.event).some((name) => known.has(`${routed.workspaceId} ${name}`));
    });
  }
}

function textOf({ ws, h }: NameHash): string {
  return `${ws} ${h}`;
}

/** Whom an event names, as far as storing it would store the name. */
function namesIn(event: InboundEvent): string[] {
  switch (event.kind) {
    case "message":
      return [...namesOf(event.sender), ...some(event.groupId)];
    case "echo":
      return [...namesOf(event.recipient), ...some(event.groupId)];
    case "reaction":
    case "edit":
    case "revoke":
      // In a group somebody else may speak of the person's message, whose id holds the number.
      return [...namesOf(event.sender), ...numbersInMessageId(event.target)];
    case "status":
      // It finds its message by our own id, and brings nothing of the person. Others are stored until theirs comes.
      if (event.callbackId !== null && event.participant === null) return [];
      return [
        ...(event.recipient === null ? [] : namesOf(event.recipient)),
        ...some(event.participant),
        ...numbersInMessageId(event.waMessageId),
      ];
    case "preference":
      return namesOf(event.sender);
    case "contact_sync":
      return namesOf(event.person);
    case "identity_change":
      return [...namesOf(event.previous), ...namesOf(event.current)];
    case "notice":
    case "unknown":
      return namesInRaw(event.raw);
  }
}

function some(name: string | null): string[] {
  return name === null ? [] : [name];
}

function namesOf({ waId, userId, parentUserId }: Person): string[] {
  return [...some(waId), ...some(userId), ...some(parentUserId)];
}

/** Longer texts, and those with spaces, are no name. */
const MAX_NAME = 128;
/** An event that nobody understands names no more people than this. */
const MAX_NAMES = 100;

/** What may be a name in an event that is stored as it came: whole values, and numbers within texts. */
function namesInRaw(raw: unknown): string[] {
  const names = new Set<string>();
  const pending: unknown[] = [raw];
  for (const value of pending) {
    if (names.size >= MAX_NAMES) break;
    if (typeof value === "object" && value !== null) pending.push(...Object.values(value));
    if (typeof value !== "string" && typeof value !== "number") continue;
    const text = String(value);
    if (text.length <= MAX_NAME && !/\s/.test(text)) names.add(text.replace(/^\+/, ""));
    for (const [number] of text.matchAll(/(?<!\d)\d{7,15}(?!\d)/g)) names.add(number);
  }
  return [...names].slice(0, MAX_NAMES);
}

/** Whether an event was dated by its arrival, because its provider told no time (`parseMetaWebhook`). */
function isUndated({ event, receivedAt }: RoutedEvent): boolean {
  const { kind } = event;
  return (kind === "preference" || kind === "contact_sync" || kind === "identity_change") && event.at === receivedAt;
}

/** ms; of an event that is stored as it came, the latest time it tells. One that tells none counts as old. */
function timeOf(event: InboundEvent): number {
  if (event.kind === "message" || event.kind === "echo") return event.message.at;
  if (event.kind !== "notice" && event.kind !== "unknown") return event.at;
  const told = JSON.stringify(event.raw).matchAll(/"timestamp":"?(\d{10})(?:\d{3})?(?!\d)/g);
  return Math.max(0, ...[...told].map(([, seconds]) => Number(seconds) * 1000));
}
