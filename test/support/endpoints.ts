import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { api } from "../../src/api";
import type { PhoneNumber } from "../../src/phone-numbers/service";
import { createRuntime, type Runtime } from "../../src/platform/runtime";
import { runDueEndpoints } from "../../src/webhook-endpoints/jobs";
import { newWorkspace, type TestWorkspace } from "./identity";
import { digits, receive, says } from "./inbox";
import { registerNumber } from "./numbers";
import { deliver, heldQueues } from "./pipeline";
import { type Hook, hooks } from "./receiver";

interface Held {
  body: unknown;
  dueAt: number;
}

export interface Endpoint {
  id: string;
  enabled: boolean;
  disabled_reason: string | null;
  failing_since: string | null;
  next_attempt_at: string | null;
  last_error: string | null;
  replaying: boolean;
  [member: string]: unknown;
}

export interface Delivery {
  id: string;
  event_id: string;
  type: string;
  cause: string;
  attempt: number;
  outcome: string;
  response_status: number | null;
  error: string | null;
  request_body: string;
  response_body: string | null;
  [member: string]: unknown;
}

/**
 * A workspace with a number whose queue of deliveries runs when a test says so, at a time of its own. Each begins a
 * month after the one before: sweeps of one file share a database.
 */
let latest = Date.now();

export class DeliveryWorld {
  now: number;
  held: Held[] = [];
  readonly env: Env;

  constructor(
    readonly workspace: TestWorkspace,
    readonly number: PhoneNumber,
  ) {
    this.now = latest;
    const { env: base } = heldQueues();
    const add = (body: unknown, delaySeconds = 0) =>
      this.held.push({ body: structuredClone(body), dueAt: this.now + delaySeconds * 1000 });
    const DELIVERIES = {
      send: async (body: unknown, options?: QueueSendOptions) => void add(body, options?.delaySeconds),
      sendBatch: async (messages: Iterable<MessageSendRequest>) => {
        for (const { body, delaySeconds } of messages) add(body, delaySeconds);
      },
    };
    const PIPELINE = JSON.stringify({ providerTimeout: 300, lease: 5_000 });
    this.env = { ...base, DELIVERIES, PIPELINE } as unknown as Env;
  }

  static async create(options: Parameters<typeof newWorkspace>[0] = {}): Promise<DeliveryWorld> {
    const workspace = await newWorkspace(options);
    return new DeliveryWorld(workspace, await registerNumber(workspace));
  }

  get overrides(): Partial<Omit<Runtime, "env" | "config">> {
    return { clock: () => this.now };
  }

  /** A call to the API whose queues are this world's. */
  async call(method: string, path: string, body?: unknown, token = this.workspace.token): Promise<Response> {
    const ctx = createExecutionContext();
    const request = new Request(`https://switchboard.test${path}`, {
      method,
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const response = await api.fetch(request, this.env, ctx);
    await waitOnExecutionContext(ctx);
    return response;
  }

  async listen(options: { events?: string[]; hook?: Hook } = {}): Promise<{ hook: Hook; id: string }> {
    const hook = options.hook ?? hooks();
    const body = {
      workspace_id: this.workspace.workspaceId,
      url: hook.url,
      events: options.events ?? ["message.received"],
    };
    const response = await this.call("POST", "/api/webhook-endpoints", body);
    if (response.status !== 201) throw new Error(await response.text());
    return { hook, id: (await response.json<Endpoint>()).id };
  }

  async endpoint(id: string): Promise<Endpoint> {
    return (await this.call("GET", `/api/webhook-endpoints/${id}`)).json<Endpoint>();
  }

  async log(id: string, query = "limit=100"): Promise<{ data: Delivery[]; total: number; next_cursor: string | null }> {
    return (await this.call("GET", `/api/webhook-endpoints/${id}/deliveries?${query}`)).json();
  }

  /** A person writes these texts, one webhook each, in one batch. */
  async write(person: string, ...texts: string[]): Promise<void> {
    await this.writeAll(texts.map((text) => [person, text]));
  }

  async writeAll(said: [person: string, text: string][], options: Parameters<typeof receive>[1] = {}): Promise<void> {
    const bodies = said.map(([person, text]) => says(this.number, { wa: person, name: "Ann" }, text));
    await receive(bodies, { env: this.env, overrides: this.overrides, ...options });
  }

  /** Delivers what the queue holds and what falls due of it, until nothing is due within `ms`. */
  async run(ms = 0): Promise<void> {
    const end = this.now + ms;
    for (let steps = 0; steps < 500; steps += 1) {
      const due = this.held.filter(({ dueAt }) => dueAt <= this.now);
      if (due.length > 0) {
        this.held = this.held.filter(({ dueAt }) => dueAt > this.now);
        const bodies = due.map(({ body }) => body);
        await deliver("deliveries", bodies, { env: this.env, overrides: this.overrides });
        continue;
      }
      const next = Math.min(...this.held.map(({ dueAt }) => dueAt));
      if (next > end) break;
      this.now = next;
    }
    this.now = Math.max(this.now, end);
    latest = Math.max(latest, this.now);
  }

  /** What the minute's cron does for endpoints, and what it brings. */
  async minute(): Promise<void> {
    await runDueEndpoints(createRuntime(this.env, this.overrides), this.workspace.shard, this.now);
    await this.run();
  }

  /** Lets hours pass, with a cron each quarter of an hour. */
  async hours(hours: number): Promise<void> {
    for (let quarter = 0; quarter < hours * 4; quarter += 1) {
      await this.run(900_000);
      await this.minute();
    }
  }

  person(): string {
    return digits();
  }

  rows<T = Record<string, unknown>>(sql: string): Promise<T[]> {
    return env.SHARD_0.prepare(sql)
      .bind(this.workspace.workspaceId)
      .all<T>()
      .then(({ results }) => results);
  }
}

/** Texts a receiver was sent, in order. */
export async function textsAt(hook: Hook): Promise<string[]> {
  return (await hook.received()).map((call) => {
    const body: { data: { content: { body: string } } } = JSON.parse(call.body);
    return body.data.content.body;
  });
}
