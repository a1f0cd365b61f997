/** From queue message to stored events: parse, route, store; what cannot be stored is singled out (pipeline 9, 15). */

import { type Db, isPassing } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { directory, type Runtime, shard } from "../platform/runtime";
import { eventId } from "./event-id";
import { ingest } from "./ingest";
import type { WebhookJob } from "./jobs";
import { BodyGone, parseJob } from "./parse";
import { type ArrivedEvent, type RoutedEvent, routeEvents } from "./routing";
import { buryJob } from "./service-dead-letters";
import { insertUnrouted } from "./store-batch";

/** What is in memory at once; a part in R2 counts as the largest body there is. Bytes. */
const GROUP_BYTES = 12_000_000;
const LARGEST_BODY = 3_000_000;
/** Events per transaction: a large one holds the database's only writer. */
const EVENTS_AT_ONCE = 1000;
/** Of the 1,000 statements an invocation may run. What is over comes again in another one. */
const MAX_QUERIES = 800;

/**
 * Handles a batch of webhook parts. Answers those that must come again, because a database or bucket did not answer;
 * of the others every event is stored: in its workspace, as unknown, as unrouted, or as a dead letter.
 */
export async function handleWebhookJobs(
  rt: Runtime,
  jobs: readonly WebhookJob[],
  redelivered: boolean,
): Promise<WebhookJob[]> {
  const intake = new Intake(rt, redelivered);
  for (const group of inGroups(jobs)) await intake.take(group);
  return [...intake.again];
}

function inGroups(jobs: readonly WebhookJob[]): WebhookJob[][] {
  const groups: WebhookJob[][] = [];
  let size = 0;
  for (const job of jobs) {
    const bytes = "body" in job ? job.body.length : LARGEST_BODY;
    const current = groups.at(-1);
    if (current && size + bytes <= GROUP_BYTES) {
      current.push(job);
      size += bytes;
    } else {
      groups.push([job]);
      size = bytes;
    }
  }
  return groups;
}

/** One invocation's work: what it has used, and what it could not do. */
class Intake {
  readonly again = new Set<WebhookJob>();
  readonly #directory: Db;
  readonly #shards = new Map<number, Db>();
  /** Shards that did not answer: asked once, never hot. */
  readonly #down = new Set<number>();

  constructor(
    readonly rt: Runtime,
    readonly redelivered: boolean,
  ) {
    this.#directory = directory(rt);
  }

  async take(jobs: readonly WebhookJob[]): Promise<void> {
    try {
      const { routed, unrouted } = await routeEvents(this.rt, this.#directory, await this.#parse(jobs));
      await this.#storeUnrouted(unrouted);
      for (const [number, events] of Map.groupBy(routed, (event) => event.shard)) await this.#store(number, events);
    } catch (error) {
      this.#comeAgain(jobs, "webhook.batch_failed", error);
    }
  }

  async #parse(jobs: readonly WebhookJob[]): Promise<ArrivedEvent[]> {
    const arrived: ArrivedEvent[] = [];
    for (const job of jobs) {
      try {
        arrived.push(...(await parseJob(this.rt, job)));
      } catch (error) {
        if (error instanceof BodyGone) await buryJob(this.rt, lost(job, error.message), []);
        else this.#comeAgain([job], "webhook.body_unread", error);
      }
    }
    return arrived;
  }

  async #storeUnrouted(events: readonly ArrivedEvent[]): Promise<void> {
    if (events.length === 0) return;
    log("warn", "webhook.unrouted", { events: events.length });
    const rows = await Promise.all(
      events.map(async ({ event, provider, r2Key, receivedAt }) => {
        const number = event.number.providerNumberId;
        const raw = JSON.stringify(event.raw);
        const id = await eventId({ workspaceId: "", phoneNumberId: number, provider }, raw);
        return { id, provider, number, raw: r2Key === null ? raw : null, r2: r2Key, at: receivedAt };
      }),
    );
    await this.#directory.batch(insertUnrouted(rows));
  }

  async #store(number: number, events: readonly RoutedEvent[]): Promise<void> {
    for (let start = 0; start < events.length; start += EVENTS_AT_ONCE) {
      await this.#ingestBisected(number, events.slice(start, start + EVENTS_AT_ONCE));
    }
  }

  /**
   * Stores events; when a statement fails for a reason that will not pass, halves them until the culprit stands alone,
   * which goes to the dead letters. One poisoned event costs its neighbours nothing but a few more round trips.
   */
  async #ingestBisected(number: number, events: readonly RoutedEvent[]): Promise<void> {
    try {
      if (this.#down.has(number)) throw new Error(`Shard ${number} did not answer before`);
      if (this.#queries() > MAX_QUERIES) throw new Error("The statements of this invocation are used up");
      await ingest(this.rt, this.#shard(number), number, events, this.redelivered);
    } catch (error) {
      const [only] = events;
      if (isPassing(error)) return this.#giveBack(number, events, error);
      if (only && events.length === 1) return this.#bury(only, error);
      const half = Math.ceil(events.length / 2);
      await this.#ingestBisected(number, events.slice(0, half));
      await this.#ingestBisected(number, events.slice(half));
    }
  }

  #giveBack(number: number, events: readonly RoutedEvent[], error: unknown): void {
    this.#down.add(number);
    const jobs = events.map((event) => event.source);
    this.#comeAgain(jobs, "webhook.shard_failed", error);
  }

  async #bury(routed: RoutedEvent, error: unknown): Promise<void> {
    const { workspaceId, shard: number, event, source } = routed;
    log("error", "webhook.poison", { workspace_id: workspaceId, kind: event.kind, ...errorFields(error) });
    try {
      const reason = `A ${event.kind} event could not be stored`;
      await buryJob(this.rt, lost(source, reason), [{ workspaceId, shard: number }]);
    } catch (failure) {
      this.#giveBack(number, [routed], failure);
    }
  }

  #shard(number: number): Db {
    const known = this.#shards.get(number) ?? shard(this.rt, number);
    this.#shards.set(number, known);
    return known;
  }

  #queries(): number {
    return [this.#directory, ...this.#shards.values()].reduce((sum, db) => sum + db.cost.queries, 0);
  }

  #comeAgain(jobs: readonly WebhookJob[], event: string, error: unknown): void {
    for (const job of jobs) this.again.add(job);
    log("error", event, { jobs: jobs.length, ...errorFields(error) });
  }
}

function lost(job: WebhookJob, reason: string) {
  return { queue: "inbound", job, reason, at: job.receivedAt };
}
