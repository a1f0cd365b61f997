/** A claimed batch on its way through journal, calls and results (pipeline 3–5). */
import { type LearnedIdentity, learnIdentities } from "../contacts/service";
import { BatchFiles, carriesFiles } from "../media/service-provider";
import { openConnection, type PhoneNumber } from "../phone-numbers/service";
import { gateOf, noteBlocked } from "../phone-numbers/service-pipeline";
import { isPassing } from "../platform/d1";
import { AppError } from "../platform/errors";
import { errorFields, log } from "../platform/log";
import { callObject } from "../platform/objects";
import { type Runtime, shard } from "../platform/runtime";
import type { Connection, Provider, ProviderError, SendOutcome } from "../providers/provider";
import { providerFor } from "../providers/registry";
import { enqueueSends } from "./jobs";
import { TOKEN_UNREADABLE, UNKNOWN_OUTCOME } from "./refusals";
import { callbackId, isThrottle, provesNumber, released, resultOf, waitAfter } from "./send-outcome";
import { announceStatuses } from "./service-announce";
import { previewOf } from "./service-preview";
import type { Message } from "./store";
import { type Entering, type NextOpen, type SendResult, type Turn, updateResults } from "./store-sending";

/** Waves of at most 10 calls, at most 5 at a time: six connections is the platform's limit, and D1 needs one. */
const WAVE = 10;
const CONNECTIONS = 5;
/** An upload holds two of them. */
const UPLOADS = 2;

/** How often results are offered to D1: what cannot be stored is not known, and a message whose fate is not known waits. */
const STORE_TRIES = 3;
/** ms before the second try, doubled for each further one; an overloaded database is left alone for longer. */
const STORE_PAUSE = 50;
const OVERLOAD_PAUSE = 5_000;

export interface BatchContext {
  shardNumber: number;
  numbers: ReadonlyMap<string, PhoneNumber>;
  /** Numbers whose gate is closed: what is claimed of them is a probe. */
  probing: ReadonlySet<string>;
  claimedAt: number;
}

/** Why a number's messages go back without a call, until when, and whether its gate is closed. */
interface Stop {
  notBefore: number;
  closed: boolean;
}

/**
 * What is obtained is kept until it is stored: one object, database or call that fails takes nothing with it but what
 * it was about. After the last store has failed too, the claims that were called are settled by the sweep.
 */
export class SendBatch {
  readonly #rt: Runtime;
  readonly #context: BatchContext;
  readonly #leaseUntil: number;
  /** No call starts later: it must end, and its result be stored, while the claim is still ours. */
  readonly #lastStart: number;
  readonly #connections = new Map<string, Promise<Ready | Refused>>();
  readonly #stopped = new Map<string, Stop>();
  readonly #reopened = new Set<string>();
  /** Contents with the provider's ids of our files, by message; `kept`: an id in it may be one the provider has lost. */
  readonly #attached = new Map<string, { content: Message["content"]; kept: boolean }>();
  #results: SendResult[] = [];
  #turns: Turn[] = [];
  #entering: Entering[] = [];
  #learned: LearnedIdentity[] = [];
  #storedAt: number;
  #broken = false;

  constructor(rt: Runtime, context: BatchContext) {
    const { lease, providerTimeout } = rt.config.PIPELINE;
    this.#rt = rt;
    this.#context = context;
    this.#leaseUntil = context.claimedAt + lease;
    this.#lastStart = context.claimedAt + lease - 2 * providerTimeout;
    this.#storedAt = rt.clock();
  }

  /** Those who stood behind these are woken with the results: they were settled without a call. */
  wakeBehind(settled: readonly Message[]): void {
    this.#turns.push(...settled);
  }

  /**
   * Calls wave by wave. Messages of one conversation follow each other; a wave holds one of each at the most. Throws
   * when results could not be stored.
   */
  async call(claimed: readonly Message[]): Promise<void> {
    const files = await this.#filesOf(claimed);
    const queues = [...Map.groupBy(claimed, turnKey).values()]
      .map((queue) => (files === null ? this.#withoutFiles(queue) : [...queue]))
      // An upload keeps nobody waiting who has no use for it.
      .sort((a, b) => Number(a.some((m) => files?.waits(m))) - Number(b.some((m) => files?.waits(m))));
    while (queues.some((queue) => queue.length > 0)) {
      const wave = queues.filter((queue) => queue.length > 0).slice(0, WAVE);
      const goOn = new Set<Message[]>();
      const ready = await this.#journal(await this.#withFiles(this.#startable(wave), files, goOn));
      await inParallel(ready, CONNECTIONS, async (queue) => {
        const message = queue[0];
        if (message && (await this.#callOne(message, files))) goOn.add(queue);
      });
      for (const queue of wave) {
        queue.shift();
        // Order within the conversation: what stands behind a message that did not get through goes back with it.
        if (!goOn.has(queue)) for (const behind of queue.splice(0)) this.#release(behind, this.#rt.clock());
      }
      if (this.#rt.clock() - this.#storedAt >= this.#rt.config.PIPELINE.resultEvery) await this.#storeBetween();
    }
    await this.#store();
  }

  /** The files that these name; null when the database does not answer, which is no reason to hold the others back. */
  async #filesOf(claimed: readonly Message[]): Promise<BatchFiles | null> {
    try {
      return await BatchFiles.load(this.#rt, this.#context.shardNumber, claimed);
    } catch (error) {
      this.#warn("outbound.files_unread", claimed[0], error);
      return null;
    }
  }

  /** The messages of a conversation before the first that carries a file; it and those behind it go back. */
  #withoutFiles(queue: readonly Message[]): Message[] {
    const at = queue.findIndex(carriesFiles);
    if (at < 0) return [...queue];
    const notBefore = this.#rt.clock() + waitAfter(1, null, this.#rt.config.PIPELINE);
    for (const message of queue.slice(at)) this.#release(message, notBefore);
    return queue.slice(0, at);
  }

  /** Without those whose number must wait, and without any once it is too late to start a call. */
  #startable(wave: readonly Message[][]): Message[][] {
    const now = this.#rt.clock();
    return wave.filter(([message]) => {
      if (!message) return false;
      const stopped = this.#stopped.get(message.phoneNumberId);
      if (!this.#broken && !stopped && now <= this.#lastStart) return true;
      this.#release(message, stopped?.notBefore ?? now);
      return false;
    });
  }

  /**
   * Those whose files the provider has. Before the journal: a crash during an upload leaves nothing ambiguous, because
   * no message was about to be sent. Adds the queues to `goOn` whose head was settled instead and lets the next follow.
   */
  async #withFiles(wave: readonly Message[][], files: BatchFiles | null, goOn: Set<Message[]>): Promise<Message[][]> {
    // Who carries one went back already.
    if (files === null) return [...wave];
    const ready: Message[][] = [];
    await inParallel(wave, UPLOADS, async (queue) => {
      const message = queue[0];
      const number = this.#context.numbers.get(message?.phoneNumberId ?? "");
      if (!message || !number || !carriesFiles(message)) {
        ready.push(queue);
        return;
      }
      const outcome = await this.#attach(message, number, files);
      if (outcome === null) ready.push(queue);
      else if (await this.#settle(message, number, outcome)) goOn.add(queue);
    });
    // Uploads take their time, and one may have stopped the number.
    return this.#startable(ready);
  }

  /** Null when the message can be sent; otherwise what became of it instead. */
  async #attach(message: Message, number: PhoneNumber, files: BatchFiles): Promise<SendOutcome | null> {
    const connection = await this.#connection(number);
    if (!connection.ok) return { kind: "blocked", scope: "number", error: connection.error };
    const timeout = Math.max(1, this.#lastStart - this.#rt.clock());
    const attached = await files.attach(message, number, connection.connection, timeout);
    if (!attached.ok) return attached.outcome;
    this.#attached.set(message.id, attached);
    return null;
  }

  /** Notes the calls about to be made, per number. A number whose gate does not answer makes none: they go back. */
  async #journal(wave: readonly Message[][]): Promise<Message[][]> {
    const now = this.#rt.clock();
    const heads = wave.flatMap((queue) => queue[0] ?? []);
    const noted = new Set<string>();
    await inParallel([...Map.groupBy(heads, (m) => m.phoneNumberId)], CONNECTIONS, async ([numberId, messages]) => {
      const gate = gateOf(this.#rt, messages[0]?.workspaceId ?? "", numberId);
      try {
        await callObject(() => gate.begin(messages.map(callbackId), now));
        noted.add(numberId);
      } catch (error) {
        this.#warn("gate.journal_failed", messages[0], error);
        const { PIPELINE } = this.#rt.config;
        this.#stopped.set(numberId, { notBefore: now + waitAfter(1, null, PIPELINE), closed: false });
        for (const message of messages) this.#release(message, this.#stopped.get(numberId)?.notBefore ?? now);
      }
    });
    return wave.filter((queue) => queue[0] !== undefined && noted.has(queue[0].phoneNumberId));
  }

  /** True when the next message of the conversation may follow. Never throws. */
  async #callOne(message: Message, files: BatchFiles | null): Promise<boolean> {
    const number = this.#context.numbers.get(message.phoneNumberId);
    // The journal's answer may have been slow: a call that starts too late could meet the next holder's. And a number
    // that was registered between the reads of this batch is met by the next one.
    if (!number || this.#rt.clock() > this.#lastStart) {
      this.#release(message, this.#rt.clock());
      return false;
    }
    const outcome = await this.#doubtFiles(message, await this.#send(message, number), files);
    if (outcome.kind === "sent") this.#learn(message, outcome);
    return this.#settle(message, number, outcome);
  }

  /** A refusal for a file that the provider has lost is none for good: the next try uploads it anew, and then counts. */
  async #doubtFiles(message: Message, outcome: SendOutcome, files: BatchFiles | null): Promise<SendOutcome> {
    if (outcome.kind !== "permanent" && outcome.kind !== "transient") return outcome;
    const number = this.#context.numbers.get(message.phoneNumberId);
    if (!files || !number || !this.#attached.get(message.id)?.kept) return outcome;
    if (!providerFor(this.#rt, number.provider).forgotFile(outcome.error)) return outcome;
    try {
      await files.forget(message);
    } catch (error) {
      // The next try finds the same out.
      this.#warn("media.not_forgotten", message, error);
    }
    return { kind: "transient", error: { ...outcome.error, retryable: true }, retryAfter: null };
  }

  /** Keeps what became of a message; true when the next one of its conversation may follow. */
  async #settle(message: Message, number: PhoneNumber, outcome: SendOutcome): Promise<boolean> {
    const result = resultOf(message, outcome, this.#rt.clock(), this.#rt.config.PIPELINE);
    this.#keep(message, result);
    await this.#heed(number, outcome);
    return result.kind !== "requeued";
  }

  async #send(message: Message, number: PhoneNumber): Promise<SendOutcome> {
    const ready = await this.#connection(number);
    if (!ready.ok) return { kind: "blocked", scope: "number", error: ready.error };
    try {
      return await ready.provider.send(ready.connection, {
        callbackId: callbackId(message),
        failures: message.failures,
        repeats: message.waMessageId,
        recipient: message.content.group_id
          ? { phone: null, userId: null, groupId: String(message.content.group_id) }
          : { phone: message.toNumber?.replace("+", "") ?? null, userId: message.toUser },
        type: message.type,
        content: this.#attached.get(message.id)?.content ?? message.content,
        replyTo: message.replyTo,
      });
    } catch (error) {
      // Adapters answer whatever happens; if one throws all the same, the call may have been made.
      this.#warn("provider.threw", message, error);
      return { kind: "ambiguous", error: UNKNOWN_OUTCOME };
    }
  }

  /** A token that does not open (the master secret is gone) stops the number like one the provider refuses. */
  #connection(number: PhoneNumber): Promise<Ready | Refused> {
    const known = this.#connections.get(number.id);
    if (known !== undefined) return known;
    const opening = connect(this.#rt, number);
    this.#connections.set(number.id, opening);
    return opening;
  }

  /** What an outcome means for the number. The result is kept already: nothing here can take it away. */
  async #heed(number: PhoneNumber, outcome: SendOutcome): Promise<void> {
    const gate = gateOf(this.#rt, number.workspaceId, number.id);
    const now = this.#rt.clock();
    try {
      if (isThrottle(outcome)) {
        const before = this.#stopped.get(number.id);
        const pause = now + waitAfter(1, outcome.retryAfter, this.#rt.config.PIPELINE);
        const notBefore = Math.max(pause, before?.notBefore ?? 0);
        this.#stopped.set(number.id, { notBefore, closed: before?.closed ?? false });
        await callObject(() => gate.throttled(notBefore, now));
      } else if (outcome.kind === "blocked" && !this.#stopped.get(number.id)?.closed) {
        this.#stopped.set(number.id, { notBefore: now, closed: true });
        log("warn", "number.blocked", {
          workspace_id: number.workspaceId,
          phone_number_id: number.id,
          code: String(outcome.error.code),
        });
        const probeAt = now + this.#rt.config.PIPELINE.blockedProbe;
        await callObject(() => gate.close({ reason: outcome.error.title, probeAt }));
        await noteBlocked(this.#rt, this.#context.shardNumber, number, outcome.error.title);
      } else if (provesNumber(outcome) && this.#wasBlocked(number) && !this.#reopened.has(number.id)) {
        // The probe went through: the gate opens, and the sweep brings what waited.
        this.#reopened.add(number.id);
        await callObject(() => gate.reopen());
        await noteBlocked(this.#rt, this.#context.shardNumber, number, null);
      }
    } catch (error) {
      // The next message of the number finds the same out.
      log("warn", "gate.unheeded", {
        workspace_id: number.workspaceId,
        phone_number_id: number.id,
        ...errorFields(error),
      });
    }
  }

  /**
   * By the gate or by the row: a crash between the two leaves one of them behind, and a gate that nobody knows to be
   * closed would let one message pass every few minutes for ever.
   */
  #wasBlocked(number: PhoneNumber): boolean {
    return number.blockedReason !== null || this.#context.probing.has(number.id);
  }

  #learn(message: Message, sent: SendOutcome & { kind: "sent" }): void {
    const waId = sent.waId === message.toNumber?.replace("+", "") ? null : sent.waId;
    const userId = sent.userId === message.toUser ? null : sent.userId;
    if (waId === null && userId === null) return;
    this.#learned.push({ workspaceId: message.workspaceId, contactId: message.contactId, waId, userId });
  }

  #release(message: Message, notBefore: number): void {
    this.#keep(message, released(message, notBefore));
  }

  #keep(message: Message, result: SendResult): void {
    this.#results.push(result);
    this.#turns.push(message);
    const left = result.kind === "sent" || result.kind === "ambiguous";
    if (left && message.scheduledAt !== null) {
      this.#entering.push({ message, preview: previewOf(message.type, message.content) });
    }
  }

  /** Between two waves a database that does not answer ends the calls; what was obtained is offered again at the end. */
  async #storeBetween(): Promise<void> {
    try {
      await this.#store();
    } catch (error) {
      this.#broken = true;
      log("warn", "outbound.results_waiting", { results: this.#results.length, ...errorFields(error) });
    }
  }

  /** Results first, in one round trip; then the next jobs; then what was learned and what browsers see. */
  async #store(): Promise<void> {
    this.#storedAt = this.#rt.clock();
    if (this.#results.length === 0 && this.#turns.length === 0) return;
    const db = shard(this.#rt, this.#context.shardNumber);
    const { messages, next } = await this.#offered(() =>
      updateResults(db, this.#results, this.#turns, {
        entering: this.#entering,
        // Clocks differ: a sweep may have ended the lease a little before our own clock does.
        late: this.#rt.clock() >= this.#leaseUntil - this.#rt.config.PIPELINE.providerTimeout,
      }),
    );
    const learned = this.#learned;
    this.#results = [];
    this.#turns = [];
    this.#entering = [];
    this.#learned = [];
    await this.#wake(next);
    try {
      await learnIdentities(this.#rt, this.#context.shardNumber, db, learned);
    } catch (error) {
      // The next answer for the same contact says it again.
      log("warn", "contact.learning_failed", { identities: learned.length, ...errorFields(error) });
    }
    await announceStatuses(this.#rt, messages, db.bookmark, this.#context.shardNumber);
  }

  async #offered<T>(store: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await store();
      } catch (error) {
        if (attempt === STORE_TRIES || !isPassing(error)) throw error;
        const overloaded = error instanceof AppError && error.code === "overloaded";
        await scheduler.wait(overloaded ? OVERLOAD_PAUSE : STORE_PAUSE * 2 ** (attempt - 1));
      }
    }
  }

  async #wake(next: readonly NextOpen[]): Promise<void> {
    const now = this.#rt.clock();
    // The head of a blocked number would only meet its closed gate: the sweep brings it.
    const awake = next.filter((n) => !this.#stopped.get(n.phoneNumberId)?.closed);
    await enqueueSends(
      this.#rt,
      awake.map(({ workspaceId, phoneNumberId, id, notBefore }) => ({
        job: { workspaceId, shard: this.#context.shardNumber, phoneNumberId, id },
        delayMs: Math.max(notBefore, this.#stopped.get(phoneNumberId)?.notBefore ?? 0) - now,
      })),
    );
  }

  #warn(event: string, message: Message | undefined, error: unknown): void {
    log("error", event, {
      workspace_id: message?.workspaceId,
      phone_number_id: message?.phoneNumberId,
      ...errorFields(error),
    });
  }
}

interface Ready {
  ok: true;
  provider: Provider;
  connection: Connection;
}

interface Refused {
  ok: false;
  error: ProviderError;
}

async function connect(rt: Runtime, number: PhoneNumber): Promise<Ready | Refused> {
  try {
    return { ok: true, provider: providerFor(rt, number.provider), connection: await openConnection(rt, number) };
  } catch (error) {
    log("error", "number.unusable", {
      workspace_id: number.workspaceId,
      phone_number_id: number.id,
      ...errorFields(error),
    });
    return { ok: false, error: TOKEN_UNREADABLE };
  }
}

function turnKey(message: Message): string {
  return `${message.workspaceId} ${message.conversationId} ${message.lane}`;
}

/** Runs all, `width` at a time. `run` must not throw: the others would go on unwatched. */
export async function inParallel<T>(
  items: readonly T[],
  width: number,
  run: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  await Promise.all(
    Array.from({ length: Math.min(width, queue.length) }, async () => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) await run(item);
    }),
  );
}
