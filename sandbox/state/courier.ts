import { signature, webhookBytes } from "../meta/envelope";
import { randomSeed, seededRandom, shuffled } from "../random";
import type { Outbox, OutboxRow } from "./outbox";
import { count, type Storage } from "./storage";

/** The app has this long to answer a webhook. */
const ANSWER_MS = 20_000;

export interface Delivery {
  order: "in" | "reverse" | "shuffle";
  duplicate: number;
  batch: number;
  concurrency: number;
  seed: number | null;
}

export interface DeliveryReport {
  /** Items taken from the outbox. */
  items: number;
  posts: number;
  /** Items answered with 200. */
  delivered: number;
  /** HTTP status -> number of POSTs; 0 is a POST that got no answer. */
  statuses: Record<string, number>;
  seed: number;
}

interface CourierOptions {
  storage: Storage;
  outbox: Outbox;
  secret: string;
  fetcher: (url: string, init: RequestInit) => Promise<Response>;
  /** The address an item goes to: overrides of a number or account win over the app's. */
  addressOf: (item: OutboxRow) => string;
  /** The headers it goes with instead of Meta's signature, or null. */
  headersOf: (item: OutboxRow) => Record<string, string> | null;
  /** One body of several items. */
  bodyOf: (items: readonly OutboxRow[]) => unknown;
  /** Whether an item cannot share a body with others. */
  isAlone: (item: OutboxRow) => boolean;
}

/** Posts what the outbox holds to the app, signed, in the wanted order, copies and batches. */
export class Courier {
  private readonly options: CourierOptions;

  constructor(options: CourierOptions) {
    this.options = options;
  }

  async deliver(rows: OutboxRow[], delivery: Delivery): Promise<DeliveryReport> {
    const seed = delivery.seed ?? randomSeed();
    const posts = cut(arrange(rows, delivery, seededRandom(seed)), delivery.batch, this.options);
    const statuses: Record<string, number> = {};
    const answered = new Set<number>();
    const waiting = posts.values();
    const work = async () => {
      for (const { url, items } of waiting) {
        const status = await this.postItems(url, items);
        statuses[status] = (statuses[status] ?? 0) + 1;
        if (status === 200) for (const { seq } of items) answered.add(seq);
      }
    };
    await Promise.all(Array.from({ length: delivery.concurrency }, work));
    return { items: rows.length, posts: posts.length, delivered: answered.size, statuses, seed };
  }

  /** Posts any body as it is, signed with `secret` (null: unsigned). Answers the app's status and text. */
  async postRaw(
    url: string,
    bytes: Uint8Array,
    secret: string | null,
    headers: Record<string, string>,
  ): Promise<{ status: number; body: string }> {
    const sent = new Headers({ "Content-Type": "application/json", "User-Agent": "facebookexternalua", ...headers });
    if (secret !== null && !sent.has("X-Hub-Signature-256"))
      sent.set("X-Hub-Signature-256", await signature(bytes, secret));
    const response = await this.options.fetcher(url, {
      method: "POST",
      headers: sent,
      body: bytes,
      redirect: "manual",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    return { status: response.status, body: await response.text() };
  }

  private async postItems(url: string, items: OutboxRow[]): Promise<number> {
    const { bodyOf, headersOf, outbox, secret, storage } = this.options;
    let status = 0;
    try {
      const headers = items[0] ? headersOf(items[0]) : null;
      const bytes = webhookBytes(bodyOf(items));
      ({ status } = await this.postRaw(url, bytes, headers === null ? secret : null, headers ?? {}));
    } catch (error) {
      console.log(JSON.stringify({ event: "webhook_unanswered", url, error: String(error) }));
    }
    outbox.settle(items, status);
    count(storage, `webhook:${status}`);
    return status;
  }
}

/** Copies and order of a delivery. Copies of one item are spread, not sent back to back. */
function arrange<T>(rows: readonly T[], delivery: Pick<Delivery, "order" | "duplicate">, random: () => number): T[] {
  const copies = Array.from({ length: delivery.duplicate }, () => rows).flat();
  switch (delivery.order) {
    case "in":
      return copies;
    case "reverse":
      return copies.reverse();
    case "shuffle":
      return shuffled(copies, random);
  }
}

/** Cuts an arranged sequence into POSTs: one address each, `batch` items at most. */
function cut(
  rows: OutboxRow[],
  batch: number,
  { addressOf, isAlone }: Pick<CourierOptions, "addressOf" | "isAlone">,
): { url: string; items: OutboxRow[] }[] {
  const posts: { url: string; items: OutboxRow[] }[] = [];
  for (const row of rows) {
    const url = addressOf(row);
    const last = posts.at(-1);
    const shares = last?.items.every((item) => !isAlone(item)) && !isAlone(row);
    if (last && shares && last.url === url && last.items.length < batch) last.items.push(row);
    else posts.push({ url, items: [row] });
  }
  return posts;
}
