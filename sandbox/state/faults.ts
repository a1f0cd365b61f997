import { z } from "zod";
import { isKnownCode } from "../meta/graph-error";
import { randomSeed, seededRandom } from "../random";
import { count, type Storage } from "./storage";

/** How long a time-out holds the connection when the order does not say: longer than any client waits. */
const HOLD_MS = 60_000;

export const faultSchema = z.strictObject({
  kind: z.enum(["error", "timeout", "drop_after_accept", "rate_limit", "slow", "reset"]),
  /** Meta's code, for `error`. */
  code: z.int().refine(isKnownCode, { error: "is not a code the sandbox knows" }).default(131000),
  /** Share of the calls it hits. */
  rate: z.number().min(0).max(1).default(1),
  /** How many calls it hits before it is used up; without it, it stays. */
  count: z.int().min(1).optional(),
  /** Matching calls that pass first. */
  skip: z.int().min(0).default(0),
  phone_number_id: z.string().optional(),
  /** Digits of one recipient, or a user id. */
  to: z.string().optional(),
  /** How long `timeout` holds and `slow` waits. */
  ms: z.int().min(0).max(600_000).optional(),
  /** Seconds, for `rate_limit`. */
  retry_after: z.number().min(0).max(3_600).default(1),
  http_status: z.int().min(400).max(599).optional(),
  /** Infobip, for `error`: the status id of a 200 that refuses. */
  rejection: z.int().min(1).max(9_999).optional(),
  /** The same seed gives the same sequence of hits. */
  seed: z.int().min(0).optional(),
  /** Which calls: sending messages, everything else of the Graph API, or both. */
  on: z.enum(["sends", "other", "all"]).default("sends"),
});

export type Fault = z.output<typeof faultSchema>;

interface OrderedFault extends Fault {
  id: number;
  seed: number;
  /** Calls it was drawn for, and how many of them it hit. */
  draws: number;
  hits: number;
}

export interface FaultTarget {
  sends: boolean;
  phoneId: string | null;
  to: string | null;
}

/** The faults that were ordered, with what they did so far. */
export class Faults {
  private readonly storage: Storage;
  private readonly sources = new Map<number, () => number>();

  constructor(storage: Storage) {
    this.storage = storage;
  }

  add(fault: Fault): number {
    const ordered = this.list();
    const id = (ordered.at(-1)?.id ?? 0) + 1;
    this.save([...ordered, { ...fault, id, seed: fault.seed ?? randomSeed(), draws: 0, hits: 0 }]);
    return id;
  }

  clear(): void {
    this.sources.clear();
    this.storage.kv.delete("faults");
  }

  list(): OrderedFault[] {
    return this.storage.kv.get<OrderedFault[]>("faults") ?? [];
  }

  /**
   * The fault that hits this call, or null. Faults are tried in the order in which they were given; the first wins.
   * One that is used up stays listed with its hits, and hits no more.
   */
  draw(target: FaultTarget): Fault | null {
    const ordered = this.list();
    if (ordered.length === 0) return null;
    const hit = ordered.find((fault) => matches(fault, target) && this.hits(fault)) ?? null;
    if (hit) {
      hit.hits += 1;
      count(this.storage, `fault:${hit.kind}`);
    }
    this.save(ordered);
    return hit;
  }

  private hits(fault: OrderedFault): boolean {
    const draw = fault.draws++;
    const random = this.source(fault, draw)();
    return draw >= fault.skip && random < fault.rate;
  }

  /** The fault's source of random numbers, wound forward to where it was when the object was restarted. */
  private source(fault: OrderedFault, draws: number): () => number {
    const known = this.sources.get(fault.id);
    if (known) return known;
    const random = seededRandom(fault.seed);
    for (let done = 0; done < draws; done++) random();
    this.sources.set(fault.id, random);
    return random;
  }

  private save(faults: OrderedFault[]): void {
    this.storage.kv.put("faults", faults);
  }
}

function matches(fault: OrderedFault, target: FaultTarget): boolean {
  if (fault.count !== undefined && fault.hits >= fault.count) return false;
  if (fault.on !== "all" && (fault.on === "sends") !== target.sends) return false;
  if (fault.phone_number_id !== undefined && fault.phone_number_id !== target.phoneId) return false;
  return fault.to === undefined || fault.to === target.to;
}

/** How long the connection is held (`timeout`) or the answer waits (`slow`), in ms. */
export function waitOf(fault: Fault): number {
  return fault.ms ?? (fault.kind === "timeout" ? HOLD_MS : 1_000);
}
