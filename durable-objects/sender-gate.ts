import { DurableObject } from "cloudflare:workers";
import { CampaignFeed, type FeedOrder } from "./campaign-feed";
import { Gate, type GateClosed, type Reservation, type Share } from "./gate";
import { GateTimers } from "./gate-timers";

/**
 * One per phone number, named `workspace:number`: throughput, the journal of calls, whether the provider blocks it, and the
 * pace of its campaigns.
 */
export class SenderGate extends DurableObject<Env> {
  readonly #gate: Gate;
  readonly #timers: GateTimers;
  readonly #feed: CampaignFeed;

  constructor(state: DurableObjectState, env: Env) {
    super(state, env);
    this.#timers = new GateTimers(state.storage);
    this.#gate = new Gate(state.storage, this.#timers);
    this.#feed = new CampaignFeed(state.storage, this.#timers, async (order) => {
      await env.BULK.send(order);
    });
  }

  reserve(count: number, perSecond: number, now: number, probeEvery: number): Reservation {
    return this.#gate.reserve(count, perSecond, now, probeEvery);
  }

  /** A probe was granted that no message could use. */
  returnProbe(now: number): void {
    this.#gate.returnProbe(now);
  }

  count(count: number, perSecond: number, now: number): void {
    this.#gate.count(count, perSecond, now);
  }

  async begin(entries: string[], now: number): Promise<void> {
    await this.#gate.begin(entries, now);
  }

  journaled(entries: string[]): string[] {
    return this.#gate.journaled(entries);
  }

  throttled(until: number, now: number): void {
    this.#gate.throttled(until, now);
  }

  close(closed: GateClosed): void {
    this.#gate.close(closed);
  }

  /** True when the gate was closed until now. */
  async reopen(): Promise<boolean> {
    const reopened = this.#gate.reopen();
    if (reopened) await this.#feed.resume(Date.now());
    return reopened;
  }

  /** How many messages campaigns may make now. */
  share(perSecond: number, now: number): Share {
    return this.#gate.share(perSecond, now);
  }

  /** A campaign of the number has something to send. */
  async beginFeed(order: FeedOrder): Promise<void> {
    await this.#feed.begin(order, Date.now());
  }

  /** A feeding job is done; the next one is wanted after so many ms, or when somebody begins. */
  async feedReported(wanted: number | null): Promise<void> {
    await this.#feed.reported(wanted, Date.now());
  }

  override async alarm(): Promise<void> {
    const now = Date.now();
    for (const timer of this.#timers.take(now)) {
      await this.#gate.onTimer(timer, now);
      await this.#feed.onTimer(timer, now);
    }
    await this.#timers.rearm();
  }
}
