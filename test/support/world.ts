import { createExecutionContext, createMessageBatch, getQueueResult } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect } from "vitest";
import { api } from "../../src/api";
import { consume } from "../../src/consumer";
import { acceptMessage, type SendIntent, type SendScope } from "../../src/messages/service";
import type { Message } from "../../src/messages/store";
import type { PhoneNumber } from "../../src/phone-numbers/service";
import type { PipelineSettings } from "../../src/platform/config";
import { createRuntime, type Runtime, shard } from "../../src/platform/runtime";
import { newWorkspace, type TestWorkspace } from "./identity";
import { registerNumber } from "./numbers";
import { fireCron } from "./pipeline";
import { sandbox } from "./sandbox";

/** A message of a queue that is delivered when a test says so. */
export interface Waiting {
  queue: "outbound" | "bulk";
  body: unknown;
  dueAt: number;
  attempts: number;
}

const MINUTE = 60_000;

/** Worlds of one file share its databases, and crons know no way back in time: each begins after the one before. */
let latest = Date.now();

/**
 * A workspace with a number, in a time of its own: its clock stands until a test moves it, and its queues deliver when
 * the test says so. Databases, objects and the provider are the real ones.
 */
export class World {
  readonly env: Env;
  #now: number;
  /** What waits in the queues. */
  waiting: Waiting[] = [];
  /** Texts of the calls made to the provider, in order, whatever became of them. */
  calls: string[] = [];
  /** Stands between the product and the provider: `go` makes the call. */
  onCall: (go: () => Promise<Response>, text: string) => Promise<Response> = (go) => go();

  constructor(
    readonly workspace: TestWorkspace,
    readonly number: PhoneNumber,
    settings: Partial<PipelineSettings>,
  ) {
    this.#now = Math.max(latest, Date.now());
    this.env = {
      ...env,
      PIPELINE: JSON.stringify(settings),
      OUTBOUND: this.#queue("outbound"),
      BULK: this.#queue("bulk"),
    } as unknown as Env;
  }

  /** `settings` are short by default where real time would pass: the provider's time-out. */
  static async create(
    options: { shard?: number; settings?: Partial<PipelineSettings>; workspaceSettings?: Record<string, unknown> } = {},
  ): Promise<World> {
    const workspace = await newWorkspace({ shard: options.shard, settings: options.workspaceSettings });
    const number = await registerNumber(workspace);
    return new World(workspace, number, { providerTimeout: 250, ...options.settings });
  }

  get now(): number {
    return this.#now;
  }

  set now(time: number) {
    this.#now = time;
    latest = Math.max(latest, time);
  }

  readonly clock = () => this.#now;

  get overrides() {
    return { clock: this.clock, fetch: this.#fetch };
  }

  readonly #fetch: typeof fetch = (input, init) => {
    const sent = JSON.parse(String(init?.body)) as { text?: { body?: string } };
    const text = sent.text?.body ?? "";
    this.calls.push(text);
    return this.onCall(() => fetch(input, init), text);
  };

  get runtime(): Runtime {
    return createRuntime(this.env, this.overrides);
  }

  get database(): D1Database {
    return this.workspace.shard === 0 ? env.SHARD_0 : env.SHARD_1;
  }

  get scope(): SendScope {
    const rt = this.runtime;
    const { workspaceId, shard: number } = this.workspace;
    return { rt, workspaceId, shard: number, db: shard(rt, number) };
  }

  /** Accepts a text as the API does, at this world's time. */
  async accept(to: string, text: string, intent: Partial<SendIntent> = {}): Promise<Message> {
    const { message } = await acceptMessage(
      this.scope,
      {
        phoneNumberId: this.number.id,
        to,
        contactId: null,
        conversationId: null,
        type: "text",
        content: { body: text },
        category: null,
        replyTo: null,
        scheduledAt: null,
        ttl: null,
        ...intent,
      },
      null,
    );
    return message;
  }

  /** A call to the API with this world's queues (and the real clock). */
  call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}, using: Env = this.env) {
    const request = new Request(`http://switchboard.test${path}`, {
      method,
      headers: { Authorization: `Bearer ${this.workspace.token}`, "Content-Type": "application/json", ...headers },
      body: body === undefined ? null : JSON.stringify(body),
    });
    return api.fetch(request, using, createExecutionContext());
  }

  /** Takes what is due out of the queues. */
  take(): Waiting[] {
    const due = this.waiting.filter((message) => message.dueAt <= this.now);
    this.waiting = this.waiting.filter((message) => message.dueAt > this.now);
    return due;
  }

  /** Delivers messages in batches of at most 100, as they are given; what is to be retried waits again. */
  async deliver(messages: readonly Waiting[], options: { size?: number; env?: Env } = {}): Promise<void> {
    const size = options.size ?? 100;
    for (const [queue, ofQueue] of Map.groupBy(messages, (message) => message.queue)) {
      for (let at = 0; at < ofQueue.length; at += size) {
        const batch = ofQueue.slice(at, at + size);
        const given = createMessageBatch(
          queue,
          batch.map(({ body, attempts }, n) => ({ id: `w${n}`, timestamp: new Date(this.now), attempts, body })),
        );
        const ctx = createExecutionContext();
        await consume(given, options.env ?? this.env, this.overrides);
        const result = await getQueueResult(given, ctx);
        for (const [place, message] of batch.entries()) {
          const delay = retryDelay(result, place);
          if (delay === null) continue;
          this.waiting.push({ ...message, attempts: message.attempts + 1, dueAt: this.now + delay * 1000 });
        }
      }
    }
  }

  sweep(using: Env = this.env): Promise<void> {
    return fireCron("* * * * *", this.now, { env: using });
  }

  /**
   * Lets time pass: delivers what falls due and fires the minute's cron, until nothing of this workspace is open any
   * more or `minutes` are over. Ambiguous messages are not open: their fate is in nobody's hands.
   */
  async drain(minutes = 30): Promise<void> {
    const end = this.now + minutes * MINUTE;
    for (let steps = 0; steps < 20_000; steps += 1) {
      const due = this.take();
      if (due.length > 0) {
        await this.deliver(due);
        continue;
      }
      if (!(await this.isBusy()) || this.now >= end) return;
      const tick = (Math.floor(this.now / MINUTE) + 1) * MINUTE;
      const next = Math.min(tick, ...this.waiting.map((message) => message.dueAt));
      this.now = next;
      if (next === tick) await this.sweep();
    }
    throw new Error("Time does not pass");
  }

  /** Lets whole minutes pass, whatever happens in them. */
  async pass(minutes: number): Promise<void> {
    for (let minute = 0; minute < minutes; minute += 1) {
      const tick = (Math.floor(this.now / MINUTE) + 1) * MINUTE;
      for (;;) {
        const due = this.take();
        if (due.length > 0) {
          await this.deliver(due);
          continue;
        }
        const next = Math.min(...this.waiting.map((message) => message.dueAt), tick);
        this.now = next;
        if (next === tick) break;
      }
      await this.sweep();
      await this.deliver(this.take());
    }
  }

  async isBusy(): Promise<boolean> {
    const row = await this.database
      .prepare("SELECT count(*) AS n FROM messages WHERE workspace_id = ?1 AND (open = 1 OR status = 'scheduled')")
      .bind(this.workspace.workspaceId)
      .first<{ n: number }>();
    return (row?.n ?? 0) > 0;
  }

  /** Every message of the workspace, oldest first. */
  async messages(): Promise<Record<string, unknown>[]> {
    const { results } = await this.database
      .prepare("SELECT * FROM messages WHERE workspace_id = ?1 AND direction = 'outbound' ORDER BY id")
      .bind(this.workspace.workspaceId)
      .all();
    return results;
  }

  async message(id: string): Promise<Record<string, unknown>> {
    const row = (await this.messages()).find((message) => message.id === id);
    if (!row) throw new Error("No such message");
    return row;
  }

  /** Statuses of other messages of the number keep arriving. */
  async statusesArrive(): Promise<void> {
    await this.database
      .prepare("UPDATE phone_numbers SET last_status_at = ?2 WHERE id = ?1")
      .bind(this.number.id, this.now)
      .run();
  }

  /** Minutes in which statuses of the number arrive. */
  async passWithStatuses(minutes: number): Promise<void> {
    for (let minute = 0; minute < minutes; minute += 1) {
      await this.statusesArrive();
      await this.pass(1);
    }
  }

  accepted() {
    return sandbox.accepted({ phone_number_id: this.number.providerNumberId });
  }

  /** What the person got, in the order in which the provider accepted it. */
  async receivedBy(to: string): Promise<string[]> {
    const { data } = await this.accepted();
    return data
      .filter((message) => message.recipient === to.slice(1))
      .map((message) => String((message.body.text as { body?: unknown } | undefined)?.body));
  }

  /** The promise: no message accepted twice, and whatever was accepted is known as sent. */
  async expectNoneTwice(): Promise<void> {
    const { counts } = await this.accepted();
    expect(Object.entries(counts.by_message).filter(([, n]) => n > 1)).toEqual([]);
  }

  /** Leaves nothing open behind: sweeps of other tests of the file walk the same database. */
  async retire(): Promise<void> {
    await this.database
      .prepare(
        `UPDATE messages SET status = 'cancelled', open = NULL, ambiguous_at = NULL, lease_until = NULL
         WHERE workspace_id = ?1 AND (open = 1 OR ambiguous_at IS NOT NULL OR status = 'scheduled')`,
      )
      .bind(this.workspace.workspaceId)
      .run();
  }

  #queue(queue: Waiting["queue"]) {
    const add = (body: unknown, delaySeconds = 0) => {
      this.waiting.push({ queue, body: structuredClone(body), dueAt: this.now + delaySeconds * 1000, attempts: 1 });
    };
    return {
      send: async (body: unknown, options?: QueueSendOptions) => add(body, options?.delaySeconds),
      sendBatch: async (messages: Iterable<MessageSendRequest>) => {
        for (const { body, delaySeconds } of messages) add(body, delaySeconds);
      },
    };
  }
}

/** Seconds after which the message at this place of a batch comes again; null when it is settled. */
function retryDelay(result: Awaited<ReturnType<typeof getQueueResult>>, place: number): number | null {
  if (result.retryBatch.retry) return result.retryBatch.delaySeconds ?? 0;
  const again = result.retryMessages.find(({ msgId }) => msgId === `w${place}`);
  return again ? (again.delaySeconds ?? 0) : null;
}

/** People nobody else in this file writes to. */
let people = 0;
export function newPerson(): string {
  people += 1;
  return `+1202${String(Date.now()).slice(-4)}${String(people).padStart(3, "0")}`;
}
