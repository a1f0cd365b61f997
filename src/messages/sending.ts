/**
 * The sending pipeline (pipeline 2–5): gate, claim, journal, call, result. Every step may be the last one before a
 * crash; what a step leaves behind, a redelivery or the sweep takes up without a second call.
 */
import { type LearnedIdentity, learnIdentities } from "../contacts/service";
import { BatchFiles } from "../media/service-provider";
import { openConnection, type PhoneNumber } from "../phone-numbers/service";
import { gateOf, messagesPerSecond, noteBlocked, numbersById } from "../phone-numbers/service-pipeline";
import { isoMillis } from "../platform/clock";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import type { Connection, SendOutcome } from "../providers/provider";
import { providerFor } from "../providers/registry";
import { publishEvents } from "../realtime/publish";
import { enqueueSends, type SendJob } from "./jobs";
import type { Message } from "./store";
import { type ClaimResult, claimQueued, type NextOpen, type SendResult, updateResults } from "./store-sending";
import { messageView } from "./view";

/** Waves of at most 10 calls, at most 5 at a time: six connections is the platform's limit, and D1 needs one. */
const WAVE = 10;
const CONNECTIONS = 5;
/** An upload holds two of them. */
const UPLOADS = 2;

/**
 * Handles a batch of send jobs. Returns when every job is settled: sent, failed, handed back with a fresh job, or left
 * to whoever holds it. Throws when a database or object did not answer; then the whole batch may be delivered again.
 */
export async function handleSendJobs(rt: Runtime, jobs: readonly SendJob[], redelivered: boolean): Promise<void> {
  const distinct = [...new Map(jobs.map((job) => [`${job.workspaceId} ${job.id}`, job])).values()];
  for (const [number, ofShard] of Map.groupBy(distinct, (job) => job.shard)) {
    await sendShard(rt, number, ofShard, redelivered);
  }
}

async function sendShard(
  rt: Runtime,
  shardNumber: number,
  jobs: readonly SendJob[],
  redelivered: boolean,
): Promise<void> {
  const db = shard(rt, shardNumber);
  const wanted = [
    ...new Map(
      jobs.map((job) => [job.phoneNumberId, { workspaceId: job.workspaceId, id: job.phoneNumberId }]),
    ).values(),
  ];
  const numbers = await numbersById(db, wanted);
  const granted: SendJob[] = [];
  for (const [phoneNumberId, ofNumber] of Map.groupBy(jobs, (job) => job.phoneNumberId)) {
    const number = numbers.get(phoneNumberId);
    // Without its number a message is claimed all the same: the claim is what fails it.
    granted.push(...(number ? await reserve(rt, number, ofNumber) : ofNumber));
  }
  if (granted.length === 0) return;

  const claimedAt = rt.clock();
  const { lease, providerTimeout } = rt.config.PIPELINE;
  const claim = await claimQueued(db, granted, { now: claimedAt, leaseUntil: claimedAt + lease, token: rt.newId() });
  await enqueueSends(
    rt,
    claim.later.map((later) => ({
      job: { workspaceId: later.workspaceId, shard: shardNumber, phoneNumberId: later.phoneNumberId, id: later.id },
      delayMs: later.dueAt - claimedAt,
    })),
  );
  const batch = new SendBatch(rt, shardNumber, numbers, claimedAt + lease - 2 * providerTimeout);
  await batch.announceClaim(claim, redelivered);
  await batch.call(claim.claimed);
}

/** Asks the number's gate once. What it does not grant gets a fresh job with the exact delay, or waits for the sweep. */
async function reserve(rt: Runtime, number: PhoneNumber, jobs: readonly SendJob[]): Promise<SendJob[]> {
  const now = rt.clock();
  const answer = await gateOf(rt, number.workspaceId, number.id).reserve(
    jobs.length,
    messagesPerSecond(number),
    now,
    rt.config.PIPELINE.blockedProbe,
  );
  const rest = jobs.slice(answer.granted);
  // A closed gate gives nobody a job: the sweep brings the messages back until they expire.
  if (rest.length > 0 && answer.closed === null) {
    await enqueueSends(
      rt,
      rest.map((job) => ({ job, delayMs: answer.wait })),
    );
  }
  return jobs.slice(0, answer.granted);
}

/** One claimed batch on its way through calls and results. */
class SendBatch {
  readonly #results: SendResult[] = [];
  readonly #learned: LearnedIdentity[] = [];
  readonly #touched = new Map<string, Message>();
  readonly #connections = new Map<string, Connection>();
  readonly #stopped = new Map<string, { notBefore: number }>();
  /** Contents with the provider's ids of our files, by message. */
  readonly #contents = new Map<string, Message["content"]>();
  #storedAt: number;

  constructor(
    readonly rt: Runtime,
    readonly shardNumber: number,
    readonly numbers: ReadonlyMap<string, PhoneNumber>,
    readonly lastStart: number,
  ) {
    this.#storedAt = rt.clock();
  }

  /** Shows what the claim itself decided; after a redelivery also what was done before and perhaps never shown. */
  async announceClaim(claim: ClaimResult, redelivered: boolean): Promise<void> {
    const shown = redelivered ? [...claim.refused, ...claim.settled] : claim.refused;
    if (claim.refused.length > 0) {
      for (const message of claim.refused) this.#touch(message);
      await this.#store();
    }
    await announceStatuses(this.rt, shown);
  }

  /** Calls wave by wave. Messages of one conversation follow each other; a wave holds one of each at the most. */
  async call(claimed: readonly Message[]): Promise<void> {
    for (const message of claimed) this.#touch(message);
    const files = await BatchFiles.load(this.rt, this.shardNumber, claimed);
    const queues = [...Map.groupBy(claimed, (m) => `${m.workspaceId} ${m.conversationId} ${m.lane}`).values()]
      .map((q) => [...q])
      // An upload keeps nobody waiting who has no use for it.
      .sort((a, b) => Number(a.some((m) => files.waits(m))) - Number(b.some((m) => files.waits(m))));
    while (queues.some((queue) => queue.length > 0)) {
      const wave = queues.filter((queue) => queue.length > 0).slice(0, WAVE);
      const heads = wave.map((queue) => queue.shift()).filter((m) => m !== undefined);
      const startable = await this.#withFiles(this.#startable(heads), files, wave);
      await this.#journal(startable);
      await inParallel(startable, CONNECTIONS, async (message) => {
        const goOn = await this.#callOne(message);
        if (!goOn) this.#releaseBehind(message, wave);
      });
      if (this.rt.clock() - this.#storedAt >= this.rt.config.PIPELINE.resultEvery) await this.#store();
    }
    await this.#store();
  }

  /** Order within the conversation: what stands behind a message that must be tried again goes back with it. */
  #releaseBehind(message: Message, wave: readonly Message[][]): void {
    const queue = wave.find((q) => q[0]?.conversationId === message.conversationId && q[0].lane === message.lane);
    for (const behind of queue?.splice(0) ?? []) this.#release(behind, this.rt.clock());
  }

  /** Those whose files the provider has. Before the journal: a crash during an upload leaves nothing ambiguous. */
  async #withFiles(heads: readonly Message[], files: BatchFiles, wave: readonly Message[][]): Promise<Message[]> {
    const ready: Message[] = [];
    await inParallel(heads, UPLOADS, async (message) => {
      const number = this.numbers.get(message.phoneNumberId);
      if (!number) throw new Error("A message was claimed without its number");
      const timeout = Math.max(1, this.lastStart - this.rt.clock());
      const attached = await files.attach(message, number, await this.#connection(number), timeout);
      if (attached.ok) {
        this.#contents.set(message.id, attached.content);
        ready.push(message);
      } else if (!(await this.#interpret(message, number, attached.outcome))) {
        this.#releaseBehind(message, wave);
      }
    });
    // Uploads take their time, and one may have stopped the number.
    return this.#startable(ready);
  }

  /** Without those whose number was blocked meanwhile, and without any once it is too late to start a call. */
  #startable(heads: readonly Message[]): Message[] {
    const now = this.rt.clock();
    return heads.filter((message) => {
      const stopped = this.#stopped.get(message.phoneNumberId);
      if (now <= this.lastStart && !stopped) return true;
      this.#release(message, stopped?.notBefore ?? now);
      return false;
    });
  }

  async #journal(wave: readonly Message[]): Promise<void> {
    const now = this.rt.clock();
    await Promise.all(
      [...Map.groupBy(wave, (m) => m.phoneNumberId)].map(([numberId, messages]) => {
        const workspaceId = messages[0]?.workspaceId ?? "";
        return gateOf(this.rt, workspaceId, numberId).begin(messages.map(callbackId), now);
      }),
    );
  }

  /** True when the next message of the conversation may follow. */
  async #callOne(message: Message): Promise<boolean> {
    // The journal's answer may have been slow: a call that starts too late could meet the next holder's.
    if (this.rt.clock() > this.lastStart) {
      this.#release(message, this.rt.clock());
      return false;
    }
    const number = this.numbers.get(message.phoneNumberId);
    if (!number) throw new Error("A message was claimed without its number");
    const outcome = await providerFor(this.rt, number.provider).send(await this.#connection(number), {
      callbackId: callbackId(message),
      recipient: message.content.group_id
        ? { phone: null, userId: null, groupId: String(message.content.group_id) }
        : { phone: message.toNumber?.replace("+", "") ?? null, userId: message.toUser },
      type: message.type,
      content: this.#contents.get(message.id) ?? message.content,
      replyTo: message.replyTo,
    });
    return this.#interpret(message, number, outcome);
  }

  async #interpret(message: Message, number: PhoneNumber, outcome: SendOutcome): Promise<boolean> {
    const now = this.rt.clock();
    const base = { workspaceId: message.workspaceId, id: message.id, claim: message.claim ?? "" };
    const { PIPELINE } = this.rt.config;
    switch (outcome.kind) {
      case "sent":
        this.#results.push({ ...base, kind: "sent", waMessageId: outcome.waMessageId, at: now });
        this.#learned.push({
          workspaceId: message.workspaceId,
          contactId: message.contactId,
          waId: differs(outcome.waId, message.toNumber?.replace("+", "")),
          userId: differs(outcome.userId, message.toUser),
        });
        if (number.blockedReason !== null) await this.#unblock(number);
        return true;
      case "permanent":
        this.#results.push({ ...base, kind: "failed", error: outcome.error, at: now });
        if (number.blockedReason !== null) await this.#unblock(number);
        return true;
      case "ambiguous":
        this.#results.push({ ...base, kind: "ambiguous", error: outcome.error, at: now });
        return true;
      case "transient": {
        const failures = message.failures + 1;
        if (failures >= PIPELINE.maxAttempts) {
          this.#results.push({ ...base, kind: "failed", error: outcome.error, at: now });
          return true;
        }
        const wait = outcome.retryAfter ?? backoff(failures, PIPELINE.backoffBase, PIPELINE.backoffCap);
        if (THROTTLES.has(String(outcome.error.code))) {
          await gateOf(this.rt, message.workspaceId, number.id).throttled(now + wait, now);
        }
        this.#results.push({ ...base, kind: "requeued", notBefore: now + wait, error: outcome.error, failure: true });
        return false;
      }
      case "blocked": {
        const probeAt = now + PIPELINE.blockedProbe;
        log("warn", "number.blocked", {
          workspace_id: number.workspaceId,
          phone_number_id: number.id,
          code: String(outcome.error.code),
        });
        await gateOf(this.rt, message.workspaceId, number.id).close({ reason: outcome.error.title, probeAt });
        this.#stopped.set(number.id, { notBefore: now });
        await noteBlocked(this.rt, this.shardNumber, number, outcome.error.title);
        this.#results.push({ ...base, kind: "requeued", notBefore: now, error: outcome.error, failure: false });
        return false;
      }
    }
  }

  /** The probe went through: the gate opens, and the sweep brings what waited. */
  async #unblock(number: PhoneNumber): Promise<void> {
    await gateOf(this.rt, number.workspaceId, number.id).reopen();
    await noteBlocked(this.rt, this.shardNumber, number, null);
  }

  #release(message: Message, notBefore: number): void {
    this.#results.push({
      workspaceId: message.workspaceId,
      id: message.id,
      claim: message.claim ?? "",
      kind: "requeued",
      notBefore,
      error: null,
      failure: false,
    });
  }

  /** Results first, in one round trip; then the next jobs; then what browsers see. */
  async #store(): Promise<void> {
    const results = this.#results.splice(0);
    const learned = this.#learned.splice(0);
    const conversations = [...this.#touched.values()];
    this.#touched.clear();
    this.#storedAt = this.rt.clock();
    if (results.length === 0 && conversations.length === 0) return;
    const db = shard(this.rt, this.shardNumber);
    const { messages, next } = await updateResults(db, results, conversations);
    await learnIdentities(this.rt, this.shardNumber, db, learned);
    await this.#wake(next);
    await announceStatuses(this.rt, messages, db.bookmark);
  }

  async #wake(next: readonly NextOpen[]): Promise<void> {
    const now = this.rt.clock();
    // The head of a stopped number would only meet its closed gate.
    const awake = next.filter((n) => !this.#stopped.has(n.phoneNumberId));
    await enqueueSends(
      this.rt,
      awake.map(({ workspaceId, phoneNumberId, id, notBefore }) => ({
        job: { workspaceId, shard: this.shardNumber, phoneNumberId, id },
        delayMs: notBefore - now,
      })),
    );
  }

  #touch(message: Message): void {
    this.#touched.set(message.id, message);
  }

  async #connection(number: PhoneNumber): Promise<Connection> {
    const known = this.#connections.get(number.id);
    if (known) return known;
    const connection = await openConnection(this.rt, number);
    this.#connections.set(number.id, connection);
    return connection;
  }
}

/** Codes by which Meta says that the number (not the message) is too fast (facts: throughput and rate limits). */
const THROTTLES = new Set(["4", "80007", "130429"]);

/** What the provider's answer adds to what was known; null when nothing. */
function differs(answered: string | null, known: string | null | undefined): string | null {
  return answered === known ? null : answered;
}

/** `<message id>.<attempt>`: a negative status counts only for the current attempt. */
function callbackId(message: Message): string {
  return `${message.id}.${message.attempts}`;
}

/** Full jitter over an exponential curve, in ms: half of it at the least, so that a retry is never at once. */
function backoff(failures: number, base: number, cap: number): number {
  const ceiling = Math.min(cap, base * 2 ** (failures - 1));
  return Math.round(ceiling / 2 + (Math.random() * ceiling) / 2);
}

async function inParallel<T>(items: readonly T[], width: number, run: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  await Promise.all(
    Array.from({ length: Math.min(width, queue.length) }, async () => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) await run(item);
    }),
  );
}

/** One publish per workspace. A lost one is repaired by the next status or by the client's own fetch: never by a retry of the send. */
export async function announceStatuses(
  rt: Runtime,
  messages: readonly Message[],
  bookmark: string | null = null,
): Promise<void> {
  const at = rt.clock();
  for (const [workspaceId, ofWorkspace] of Map.groupBy(messages, (m) => m.workspaceId)) {
    const events = ofWorkspace.map((m) => ({
      type: "message.status" as const,
      message: messageView(m, at),
      at: isoMillis(at),
    }));
    const key = `status:${ofWorkspace
      .map((m) => `${m.id}.${m.attempts}.${m.status}`)
      .sort()
      .join(",")}`;
    try {
      await publishEvents(rt, workspaceId, key, events, bookmark);
    } catch (error) {
      log("warn", "live.publish_failed", { workspace_id: workspaceId, ...errorFields(error) });
    }
  }
}
