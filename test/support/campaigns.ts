import { expect } from "vitest";
import type { PhoneNumber } from "../../src/phone-numbers/service";
import type { PipelineSettings } from "../../src/platform/config";
import { newWorkspace, type TestWorkspace } from "./identity";
import { registerNumber } from "./numbers";
import { approved, type Body, bodyOf } from "./templates";
import { type Waiting, World } from "./world";

/** A job that the gate has out, or will give out. */
interface FeedJob extends Waiting {
  feed?: string;
}

/** As the gate: a job of which nobody reports is given out again. */
const UNHEARD = 30_000;

/**
 * A world with an approved template, in which the gate's alarm follows the world's clock: what the gate would give out by
 * alarm waits among the jobs of the queue `bulk`. All else of the gate is the real object.
 */
export class CampaignWorld extends World {
  template: Body = {};
  /** A gate that was evicted at every call: whoever asks gets a second's share, as often as they ask. */
  forgetful = false;

  constructor(workspace: TestWorkspace, number: PhoneNumber, settings: Partial<PipelineSettings>) {
    super(workspace, number, settings);
    Object.assign(this, { env: { ...this.env, SENDER_GATE: this.#gates(this.env.SENDER_GATE) } });
  }

  static async open(
    options: { settings?: Partial<PipelineSettings>; template?: Body; shard?: number } = {},
  ): Promise<CampaignWorld> {
    const workspace = await newWorkspace({ shard: options.shard });
    const token = `EAA${crypto.randomUUID().replaceAll("-", "")}`;
    const number = await registerNumber(workspace, { access_token: token });
    const world = new CampaignWorld(workspace, number, { providerTimeout: 250, ...options.settings });
    const account = { workspace, number, token, businessId: number.businessId ?? "" };
    world.template = await approved(account, { name: "summer_sale", ...options.template });
    return world;
  }

  #gates(gates: Env["SENDER_GATE"]) {
    return {
      getByName: (name: string) => {
        const stub = gates.getByName(name) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
        return new Proxy(stub, {
          get: (_target, method) => {
            if (typeof method === "symbol" || method === "then") return undefined;
            if (method === "beginFeed") return async (order: unknown) => this.#plan(name, order, 0);
            if (method === "share" && this.forgetful) return async () => ({ count: 64, closed: null });
            if (method === "feedReported") return async (wanted: number | null) => this.#reported(name, wanted);
            return (...args: unknown[]) => stub[method]?.(...args);
          },
        });
      },
    };
  }

  readonly #orders = new Map<string, unknown>();

  #plan(feed: string, order: unknown, delay: number): void {
    this.#orders.set(feed, order);
    this.waiting = this.waiting.filter((job: FeedJob) => job.feed !== feed);
    const job: FeedJob = { queue: "bulk", body: structuredClone(order), dueAt: this.now + delay, attempts: 1, feed };
    this.waiting.push(job);
  }

  #reported(feed: string, wanted: number | null): void {
    if (wanted === null) this.waiting = this.waiting.filter((job: FeedJob) => job.feed !== feed);
    else this.#plan(feed, this.#orders.get(feed), wanted);
  }

  /** Other tests of the file share the databases, and their crons. */
  override async retire(): Promise<void> {
    await super.retire();
    await this.database.prepare("DELETE FROM campaigns WHERE workspace_id = ?1").bind(this.workspace.workspaceId).run();
  }

  override take(): Waiting[] {
    const due = super.take();
    for (const { feed, body } of due as FeedJob[]) if (feed !== undefined) this.#plan(feed, body, UNHEARD);
    return due;
  }

  override async isBusy(): Promise<boolean> {
    const row = await this.database
      .prepare("SELECT count(*) AS n FROM campaigns WHERE workspace_id = ?1 AND status = 'sending'")
      .bind(this.workspace.workspaceId)
      .first<{ n: number }>();
    return (row?.n ?? 0) > 0 || super.isBusy();
  }

  /** Makes contacts by row: names, and numbers that nobody else in the workspace has. Answers their ids in order. */
  async contacts(count: number, set: { optedIn?: boolean; tags?: string[]; name?: string | null; from?: number } = {}) {
    const rows = Array.from({ length: count }, (_, n) => {
      const place = (set.from ?? 0) + n;
      return {
        id: this.runtime.newId(),
        digits: `4930${String(place).padStart(8, "0")}`,
        name: set.name === undefined ? `Person ${place}` : set.name,
      };
    });
    const json = JSON.stringify(rows);
    const bind = [json, this.workspace.workspaceId, this.now - 1000] as const;
    await this.database.batch([
      this.database
        .prepare(
          `INSERT INTO contacts (workspace_id, id, kind, phone_number, wa_id, name, tags, opted_in, source, created_at, updated_at)
           SELECT ?2, j.value ->> 'id', 'person', '+' || (j.value ->> 'digits'), j.value ->> 'digits', j.value ->> 'name', ?4, ?5, 'api', ?3, ?3 FROM json_each(?1) j`,
        )
        .bind(...bind, JSON.stringify(set.tags ?? []), Number(set.optedIn ?? true)),
      this.database
        .prepare(
          `INSERT INTO contact_identities (workspace_id, kind, value, contact_id)
           SELECT ?2, k.value, j.value ->> 'digits', j.value ->> 'id' FROM json_each(?1) j CROSS JOIN json_each('["phone","wa"]') k WHERE ?3 > 0`,
        )
        .bind(...bind),
    ]);
    return rows.map(({ id, digits, name }) => ({ id, digits, name }));
  }

  /** Makes a campaign with this world's number and template. */
  async campaign(body: Body = {}): Promise<string> {
    const made = await bodyOf(
      await this.call("POST", "/api/campaigns", {
        workspace_id: this.workspace.workspaceId,
        phone_number_id: this.number.id,
        template_id: this.template.id,
        name: "Summer Sale 2024",
        template_params: { body: [{ type: "text", text: "{{contact.name|there}}" }] },
        ...body,
      }),
      201,
    );
    return String(made.id);
  }

  async verb(
    id: string,
    verb: string,
    body?: unknown,
    headers: Record<string, string> = {},
    status = 200,
  ): Promise<Body> {
    return bodyOf(await this.timed("POST", `/api/campaigns/${id}/${verb}`, body, headers), status);
  }

  /** A call to the API at this world's time. */
  timed(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
    using: Env = this.env,
  ): Promise<Response> {
    // The key has no hour after which it ends.
    const authorized = { Authorization: `Bearer ${this.workspace.apiKey}`, ...headers };
    return atTime(this.now, async () => this.call(method, path, body, authorized, using));
  }

  async shown(id: string): Promise<Body> {
    return bodyOf(await this.timed("GET", `/api/campaigns/${id}`), 200);
  }

  async row(id: string): Promise<Record<string, unknown>> {
    const row = await this.database
      .prepare("SELECT * FROM campaigns WHERE workspace_id = ?1 AND id = ?2")
      .bind(this.workspace.workspaceId, id)
      .first();
    if (!row) throw new Error("No such campaign");
    return row;
  }

  async recipients(id: string): Promise<Record<string, unknown>[]> {
    const { results } = await this.database
      .prepare(
        `SELECT r.*, m.status AS message_status, m.to_number, m.error AS message_error FROM campaign_recipients r
         LEFT JOIN messages m ON m.workspace_id = r.workspace_id AND m.id = r.message_id
         WHERE r.workspace_id = ?1 AND r.campaign_id = ?2 ORDER BY r.contact_id`,
      )
      .bind(this.workspace.workspaceId, id)
      .all();
    return results;
  }

  /** Whether somebody waits still, or a message does. */
  async hasWork(id: string): Promise<boolean> {
    const row = await this.database
      .prepare(
        `SELECT (SELECT count(*) FROM campaign_recipients r WHERE r.workspace_id = ?1 AND r.campaign_id = ?2 AND r.state = 'waiting')
           + (SELECT count(*) FROM messages m WHERE m.workspace_id = ?1 AND m.open = 1) AS n`,
      )
      .bind(this.workspace.workspaceId, id)
      .first<{ n: number }>();
    return (row?.n ?? 0) > 0;
  }

  /** How often the provider accepted a message to each number, by digits. */
  async acceptedByPerson(): Promise<Map<string, number>> {
    const { data } = await this.accepted();
    const times = new Map<string, number>();
    for (const { recipient } of data) times.set(recipient, (times.get(recipient) ?? 0) + 1);
    return times;
  }

  /** The counts that are stored are those of the rows. */
  async expectCountsOfRows(id: string): Promise<void> {
    const rows = await this.recipients(id);
    const among = (...statuses: string[]) =>
      rows.filter((row) => row.state === "taken" && statuses.includes(String(row.message_status))).length;
    expect(await this.row(id)).toMatchObject({
      total_contacts: rows.filter((row) => row.state !== "skipped").length,
      sent_count: among("sent", "delivered", "read"),
      delivered_count: among("delivered", "read"),
      read_count: among("read"),
      failed_count: among("failed") + rows.filter((row) => row.state === "failed").length,
      skipped_count: rows.filter((row) => row.state === "skipped").length,
    });
  }

  /** Delivers what is due, then lets a second pass. */
  async second(): Promise<void> {
    await this.deliver(this.take());
    await this.deliver(this.take());
    this.now += 1000;
  }
}

/** Runs a call while `Date.now` is the world's: the API takes its time from there. */
async function atTime<T>(now: number, run: () => Promise<T>): Promise<T> {
  const real = Date.now;
  // Delays in seconds leave fractions of a millisecond; a clock of the machine has none.
  Date.now = () => Math.floor(now);
  try {
    return await run();
  } finally {
    Date.now = real;
  }
}
