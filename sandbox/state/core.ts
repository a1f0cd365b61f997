import type { SandboxConfig } from "../env";
import { Infobip } from "../infobip/infobip";
import { infobipBody, isResult } from "../infobip/webhooks";
import { Accounts } from "../meta/accounts";
import type { Fetcher } from "../meta/callbacks";
import { Customers } from "../meta/customers";
import { envelope } from "../meta/envelope";
import { MediaIndex } from "../meta/media";
import { Messages } from "../meta/messages";
import { Statuses } from "../meta/statuses";
import { Templates } from "../meta/templates";
import { Courier } from "./courier";
import { Faults } from "./faults";
import { Outbox } from "./outbox";
import { SettingsStore } from "./settings";
import { type Clock, clearTables, createTables, type Storage } from "./storage";

interface CoreOptions {
  storage: Storage;
  clock: Clock;
  config: SandboxConfig;
  fetcher: Fetcher;
  /** Told of every time at which something falls due. */
  onDue: (due: number) => void;
}

/** The sandbox's whole state, put together. The Durable Object around it only knows alarms and calls. */
export class Core {
  readonly storage: Storage;
  readonly clock: Clock;
  readonly config: SandboxConfig;
  readonly fetcher: Fetcher;
  readonly settings: SettingsStore;
  readonly accounts: Accounts;
  readonly media: MediaIndex;
  readonly outbox: Outbox;
  readonly templates: Templates;
  readonly customers: Customers;
  readonly statuses: Statuses;
  readonly faults: Faults;
  readonly messages: Messages;
  readonly infobip: Infobip;
  readonly courier: Courier;

  constructor({ storage, clock, config, fetcher, onDue }: CoreOptions) {
    createTables(storage);
    this.storage = storage;
    this.clock = clock;
    this.config = config;
    this.fetcher = fetcher;
    this.settings = new SettingsStore(storage, config.MODE);
    this.accounts = new Accounts(storage, clock, this.settings, config.APP_URL);
    this.media = new MediaIndex(storage, clock, this.settings, config.META_APP_SECRET);
    this.outbox = new Outbox(storage, clock, onDue, (wabaId) => this.accounts.isSubscribed(wabaId));
    this.templates = new Templates(storage, clock, this.settings, this.outbox, onDue);
    this.customers = new Customers(storage, clock, this.settings, this.accounts, this.media, this.outbox);
    this.statuses = new Statuses(clock, this.settings, this.customers, this.outbox);
    this.faults = new Faults(storage);
    this.messages = new Messages(this);
    this.infobip = new Infobip(this);
    this.courier = new Courier({
      storage,
      outbox: this.outbox,
      secret: config.META_APP_SECRET,
      fetcher,
      addressOf: ({ field, phoneId, wabaId }) => this.accounts.callbackUrl(field, phoneId, wabaId),
      headersOf: ({ phoneId, wabaId }) => this.accounts.callbackHeaders(phoneId, wabaId),
      bodyOf: (items) => (this.infobip.isOurs(items[0]) ? infobipBody(items, clock()) : envelope(items, clock())),
      isAlone: (item) => this.infobip.isOurs(item) && !isResult(item),
    });
  }

  reset(): void {
    clearTables(this.storage);
    this.settings.forget();
    this.accounts.forget();
    this.faults.clear();
  }

  /** Delivers what is due and reviews templates. */
  async run(): Promise<void> {
    const settings = this.settings.get();
    const now = this.clock();
    this.templates.reviewDue(now);
    if (settings.auto_deliver) {
      const rows = this.outbox.open(now, settings.batch * settings.concurrency * 4);
      if (rows.length > 0) await this.courier.deliver(rows, settings);
      this.outbox.prune();
    }
  }

  /** When something falls due next, in ms; null for never. */
  nextDue(): number | null {
    const dues = [this.templates.nextReview(), this.settings.get().auto_deliver ? this.outbox.nextDue() : null];
    const waiting = dues.filter((due) => due !== null);
    return waiting.length === 0 ? null : Math.min(...waiting);
  }
}
