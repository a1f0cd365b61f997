import { z } from "zod";

/**
 * WordPress sites as a test or the demo makes them. What is known lives as long as the process, per site, so that tests
 * do not meet. Shapes and headers as WordPress 6, WooCommerce 9 and Gravity Forms 2.9 answer.
 */
const fault = z.strictObject({
  /** `shrink` deletes records just before a page is answered. */
  kind: z.enum(["rate_limit", "error", "slow", "broken_json", "reset", "shrink"]),
  /** Calls that pass first, and how many it hits then. */
  skip: z.int().min(0).default(0),
  count: z.int().min(1).default(1),
  /** Seconds; of `rate_limit`, and of `error` if given. */
  retry_after: z.int().min(0).optional(),
  status: z.int().min(400).max(599).default(503),
  /** ms, of `slow`. */
  ms: z.int().min(0).max(120_000).default(1000),
  /** Ids of the records that `shrink` deletes. */
  ids: z.array(z.int()).default([]),
});

const record = z.looseObject({ id: z.union([z.int(), z.string()]) });
export type SiteRecord = z.output<typeof record>;

export const siteOrder = z.strictObject({
  site: z.string().regex(/^[a-z0-9-]+$/),
  /** Who may read; without them everybody may. */
  user: z.string().optional(),
  secret: z.string().optional(),
  customers: z.array(record).optional(),
  users: z.array(record).optional(),
  entries: z.array(record).optional(),
  /** What `/wp-json/custom/v1/leads` lists; each may have a `modified` time. */
  leads: z.array(record).optional(),
  faults: z.array(fault).optional(),
});

type Fault = z.output<typeof fault>;
export type SiteOrder = z.output<typeof siteOrder>;

export interface SiteCall {
  path: string;
  query: Record<string, string>;
  authorization: string | null;
  status: number;
  at: number;
}

export class Site {
  user: string | null = null;
  secret: string | null = null;
  customers: SiteRecord[] = [];
  users: SiteRecord[] = [];
  entries: SiteRecord[] = [];
  leads: SiteRecord[] = [];
  faults: Fault[] = [];
  calls: SiteCall[] = [];

  /** Lists that are named are replaced; faults as well. */
  order(order: SiteOrder): void {
    this.user = order.user ?? this.user;
    this.secret = order.secret ?? this.secret;
    this.customers = order.customers ?? this.customers;
    this.users = order.users ?? this.users;
    this.entries = order.entries ?? this.entries;
    this.leads = order.leads ?? this.leads;
    this.faults = order.faults ?? this.faults;
  }

  /** Deletes records from whatever list holds them. */
  remove(ids: readonly number[]): void {
    const stays = ({ id }: SiteRecord) => !ids.includes(Number(id));
    this.customers = this.customers.filter(stays);
    this.users = this.users.filter(stays);
    this.entries = this.entries.filter(stays);
    this.leads = this.leads.filter(stays);
  }

  /** The fault that hits this call: the first that is neither used up nor still waits. */
  draw(): Fault | null {
    for (const fault of this.faults) {
      if (fault.skip > 0) fault.skip -= 1;
      else if (fault.count > 0) {
        fault.count -= 1;
        return fault;
      }
    }
    return null;
  }
}

export const sites = new Map<string, Site>();

export function siteNamed(name: string): Site {
  const known = sites.get(name);
  if (known) return known;
  const site = new Site();
  sites.set(name, site);
  return site;
}
