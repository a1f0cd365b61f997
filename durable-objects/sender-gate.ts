import { DurableObject } from "cloudflare:workers";
import { Gate, type GateClosed, type Reservation } from "./gate";

/** One per phone number, named `workspace:number`: throughput, the journal of calls, and whether the provider blocks it. */
export class SenderGate extends DurableObject<Env> {
  readonly #gate: Gate;

  constructor(state: DurableObjectState, env: Env) {
    super(state, env);
    this.#gate = new Gate(state.storage);
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
  reopen(): boolean {
    return this.#gate.reopen();
  }

  override async alarm(): Promise<void> {
    await this.#gate.prune(Date.now());
  }
}
