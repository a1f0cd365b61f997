/**
 * A run of one endpoint: what is due for it, conversation by conversation. Within a conversation nothing overtakes: the
 * first event that is not taken holds back those behind it, and nobody else.
 */
import type { MessageMedia } from "../media/schema";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { callEndpoint, kept } from "./call";
import { bodyOf, eventId } from "./payload";
import type { DeliveryEntry } from "./schema";
import type { Endpoint } from "./store";
import {
  DOWN_AFTER,
  LAG_EVENTS,
  type Lag,
  type OutboxEvent,
  type Run,
  type RunResult,
  reachOf,
  type Subjects,
} from "./store-pump";

/** ms a run may begin calls; what is left comes in the next. */
const RUN_TIME = 20_000;
/** Conversations of one endpoint told at a time. */
const LANES_AT_ONCE = 2;
/** ms. 24 attempts in 72 hours; the last step repeats. */
const STEPS = [5_000, 30_000, 120_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000];
/** ms. An event that failed for so long while others were taken is given up; an endpoint that took none is disabled. */
const GIVE_UP_AFTER = 72 * 3_600_000;
const DISABLE_TRIES = 10;
/** A replay passes an event by that failed so often. */
const REPLAY_TRIES = 8;

/** How long to wait after the nth failure, ms; a tenth of jitter either way. */
function backoff(failures: number): number {
  const step = STEPS[Math.min(Math.max(failures, 1), STEPS.length) - 1] ?? 0;
  return Math.round(step * (0.9 + Math.random() * 0.2));
}

/** Connections of one invocation: the platform allows six, and the database needs one. */
export class Slots {
  #free: number;
  readonly #queue: (() => void)[] = [];

  constructor(n: number) {
    this.#free = n;
  }

  async use<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#queue.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}

interface Lane {
  conversationId: string;
  events: OutboxEvent[];
  lag: Lag | null;
  /** There is more of it than was read: where to go on. */
  resume: number | null;
  /** Events that are done with. */
  done: number;
  failed: { event: OutboxEvent; attempts: number; first: number } | null;
}

export interface RunContext {
  rt: Runtime;
  endpoint: Endpoint;
  secret: string;
  subjects: Subjects;
  files: ReadonlyMap<string, MessageMedia>;
  slots: Slots;
}

/** Delivers what a claim brought. Never throws; the result is what must be stored. */
export class EndpointRun {
  readonly #context: RunContext;
  readonly #run: Run;
  readonly #types: ReadonlySet<string>;
  readonly #startedAt: number;
  readonly #entries: DeliveryEntry[] = [];
  #failures: number;
  #failingSince: number | null;
  #lastSuccessAt: number | null = null;
  #lastError: string | null;
  #pauseUntil: number | null = null;
  /** How often the event was tried that failed most often. */
  #tries = 0;
  #gone = false;
  #stopped = false;

  constructor(context: RunContext, run: Run) {
    this.#context = context;
    this.#run = run;
    this.#types = new Set(context.endpoint.types.split(" "));
    this.#startedAt = context.rt.clock();
    this.#failures = context.endpoint.failures;
    this.#failingSince = context.endpoint.failingSince;
    this.#lastError = context.endpoint.lastError;
  }

  async deliver(): Promise<RunResult> {
    const lanes = this.#lanes();
    const probe = this.#failures >= DOWN_AFTER ? probeOf(lanes) : null;
    if (probe) {
      await this.#follow(probe, 1);
      this.#stopped = this.#failures > 0;
    }
    const queue = [...lanes];
    const work = async () => {
      for (let lane = queue.shift(); lane !== undefined; lane = queue.shift()) await this.#follow(lane, Infinity);
    };
    await Promise.all(Array.from({ length: LANES_AT_ONCE }, work));
    return this.#result(lanes, await this.#replay());
  }

  #now(): number {
    return this.#context.rt.clock();
  }

  #wants(event: OutboxEvent): boolean {
    return this.#types.has(event.type);
  }

  /** Conversations in the order of their first events. */
  #lanes(): Lane[] {
    const { page, lags, waiting, behind } = this.#run;
    const lanes = new Map<string, Lane>();
    for (const lag of lags) {
      const events = behind.filter((event) => event.conversationId === lag.conversationId);
      const last = events.at(-1);
      const reach = last && events.length === LAG_EVENTS ? last.seq : reachOf(this.#context.endpoint, lag);
      const resume = reach < this.#context.endpoint.cursor ? reach + 1 : null;
      const wanted = events.filter((event) => this.#wants(event));
      lanes.set(lag.conversationId, laneOf(lag.conversationId, wanted, lag, resume));
    }
    for (const event of page) {
      if (!this.#wants(event) || waiting.has(event.conversationId)) continue;
      const lane = lanes.get(event.conversationId) ?? laneOf(event.conversationId, [], null, null);
      lanes.set(event.conversationId, lane);
      if (lane.resume === null) lane.events.push(event);
    }
    return [...lanes.values()].sort((a, b) => (a.events[0]?.seq ?? 0) - (b.events[0]?.seq ?? 0));
  }

  /** Delivers a conversation's events one after the other until one fails, at most `most` of them. */
  async #follow(lane: Lane, most: number): Promise<void> {
    for (let n = 0; n < most && lane.failed === null; n += 1) {
      const event = lane.events[lane.done];
      if (!event) return;
      const before = lane.lag?.seq === event.seq ? lane.lag : null;
      const attempts = (before?.attempts ?? 0) + 1;
      const first = before?.firstFailedAt ?? this.#now();
      const outcome = await this.#attempt(event, {
        attempts,
        cause: "event",
        givesUp: this.#now() - first >= GIVE_UP_AFTER,
      });
      if (outcome === "not_tried") return;
      if (outcome === "failed") lane.failed = { event, attempts, first };
      else lane.done += 1;
    }
  }

  async #attempt(
    event: OutboxEvent,
    { attempts, cause, givesUp }: { attempts: number; cause: DeliveryEntry["cause"]; givesUp: boolean },
  ): Promise<"done" | "failed" | "not_tried"> {
    const { rt, endpoint, secret, slots } = this.#context;
    const body = this.#body(event);
    if (body === null) return this.#stopped ? "not_tried" : "done";
    return slots.use(async () => {
      if (this.#stopped || this.#now() - this.#startedAt > RUN_TIME) return "not_tried";
      const at = this.#now();
      const id = eventId(event);
      const call = await callEndpoint(rt, endpoint, secret, { id, body });
      this.#entries.push({
        id: rt.newId(),
        event_id: id,
        seq: event.seq,
        type: event.type,
        conversation_id: event.conversationId,
        cause,
        attempt: attempts,
        at,
        duration: call.duration,
        outcome: call.ok ? "delivered" : givesUp ? "given_up" : "failed",
        status: call.status,
        error: call.error,
        request_body: kept(body),
        response_body: call.answer,
      });
      if (call.ok) {
        this.#failures = 0;
        this.#failingSince = null;
        this.#lastError = null;
        this.#lastSuccessAt = this.#now();
        return "done";
      }
      // One event that is refused again and again says nothing of the endpoint: only its own conversation waits.
      if (attempts === 1 || this.#failures >= DOWN_AFTER) this.#failures += 1;
      this.#tries = Math.max(this.#tries, attempts);
      this.#failingSince ??= at;
      this.#lastError = call.error;
      this.#gone ||= call.gone;
      if (call.retryAfter !== null) this.#pauseUntil = this.#now() + call.retryAfter;
      this.#stopped ||= this.#gone || this.#pauseUntil !== null || this.#failures >= DOWN_AFTER;
      return givesUp ? "done" : "failed";
    });
  }

  /** Null when there is nothing to tell: what it was about is gone, or cannot be told, which must not hold back the others. */
  #body(event: OutboxEvent): string | null {
    const { endpoint, subjects, files } = this.#context;
    try {
      return bodyOf(event, subjects, files);
    } catch (error) {
      log("error", "webhooks.untold", { workspace_id: endpoint.workspaceId, seq: event.seq, ...errorFields(error) });
      return null;
    }
  }

  /** Goes on with a replay, in the order of the outbox. */
  async #replay(): Promise<Pick<RunResult, "replayNext" | "replayAt" | "replayFailures">> {
    const { replayNext, replayUntil, replayAt, replayFailures } = this.#context.endpoint;
    const waits = replayNext === null || (replayAt ?? 0) > this.#startedAt;
    if (waits) return { replayNext, replayAt, replayFailures };
    let next = replayNext;
    let failures = replayFailures;
    for (const event of this.#run.replay) {
      const given = { attempts: failures + 1, cause: "replay", givesUp: failures + 1 >= REPLAY_TRIES } as const;
      const outcome = this.#wants(event) ? await this.#attempt(event, given) : "done";
      if (outcome === "not_tried") return { replayNext: next, replayAt: null, replayFailures: failures };
      if (outcome === "failed") {
        return { replayNext: next, replayAt: this.#now() + backoff(failures + 1), replayFailures: failures + 1 };
      }
      next = event.seq + 1;
      failures = 0;
    }
    const ended = this.#run.replay.length === 0 || next > (replayUntil ?? 0);
    return { replayNext: ended ? null : next, replayAt: null, replayFailures: 0 };
  }

  #result(lanes: readonly Lane[], replay: Pick<RunResult, "replayNext" | "replayAt" | "replayFailures">): RunResult {
    const now = this.#now();
    const cursor = this.#cursor(lanes);
    const lags: RunResult["lags"] = [];
    const caughtUp: string[] = [];
    for (const lane of lanes) {
      const lag = this.#lagOf(lane, cursor, now);
      if (lag) lags.push(lag);
      else if (lane.lag) caughtUp.push(lane.conversationId);
    }
    return {
      cursor,
      failures: this.#failures,
      failingSince: this.#failingSince,
      nextAt: this.#nextAt(now),
      lastSuccessAt: this.#lastSuccessAt,
      lastError: this.#lastError,
      disabled: this.#disabled(now),
      ...replay,
      lags,
      caughtUp,
      entries: this.#entries,
    };
  }

  /** How far the outbox is settled. What was tried stays behind it; what was not is read again, or lags. */
  #cursor(lanes: readonly Lane[]): number {
    const { cursor } = this.#context.endpoint;
    const untried = lanes.flatMap((lane) => restOf(lane)?.seq ?? []).filter((seq) => seq > cursor);
    if (untried.length === 0) return this.#run.page.at(-1)?.seq ?? cursor;
    const tried = lanes.flatMap((lane) => lane.events.slice(0, lane.done + (lane.failed ? 1 : 0)));
    return Math.max(cursor, Math.min(...untried) - 1, ...tried.map((event) => event.seq));
  }

  #lagOf(lane: Lane, cursor: number, now: number): RunResult["lags"][number] | null {
    const { conversationId } = lane;
    if (lane.failed) {
      const { event, attempts, first } = lane.failed;
      return { conversationId, seq: event.seq, attempts, firstFailedAt: first, nextAt: now + backoff(attempts) };
    }
    const rest = restOf(lane);
    if (rest && rest.seq <= cursor) {
      const same = lane.lag?.seq === rest.seq ? lane.lag : null;
      return {
        conversationId,
        seq: rest.seq,
        attempts: same?.attempts ?? 0,
        firstFailedAt: same?.firstFailedAt ?? null,
        nextAt: now,
      };
    }
    return lane.resume === null
      ? null
      : { conversationId, seq: lane.resume, attempts: 0, firstFailedAt: null, nextAt: now };
  }

  #nextAt(now: number): number | null {
    const down = this.#failures >= DOWN_AFTER ? now + backoff(this.#failures - DOWN_AFTER + 1) : null;
    return down === null ? this.#pauseUntil : Math.max(down, this.#pauseUntil ?? 0);
  }

  #disabled(now: number): string | null {
    if (this.#gone) return "The endpoint answered 410 Gone";
    const failedFor = this.#failingSince === null ? 0 : now - this.#failingSince;
    if (failedFor < GIVE_UP_AFTER || Math.max(this.#failures, this.#tries) < DISABLE_TRIES) return null;
    return `No delivery succeeded for ${Math.floor(failedFor / 3_600_000)} hours: ${this.#lastError ?? "no answer"}`;
  }
}

function laneOf(conversationId: string, events: OutboxEvent[], lag: Lag | null, resume: number | null): Lane {
  return { conversationId, events, lag, resume, done: 0, failed: null };
}

/** What an endpoint that is down is tried with: a conversation that did not fail yet, or failed least. */
function probeOf(lanes: readonly Lane[]): Lane | null {
  const tries = ({ lag }: Lane) => lag?.attempts ?? 0;
  return lanes.filter((lane) => lane.events.length > 0).sort((a, b) => tries(a) - tries(b))[0] ?? null;
}

/** The first event that was not tried; null when all were, or one failed, which holds the others back. */
function restOf(lane: Lane): OutboxEvent | null {
  return lane.failed ? null : (lane.events[lane.done] ?? null);
}
