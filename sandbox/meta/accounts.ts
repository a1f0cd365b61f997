import { stableHash } from "../random";
import type { SettingsStore } from "../state/settings";
import type { Clock, Storage } from "../state/storage";
import { LONG_TOKEN_SECONDS, SHORT_TOKEN_SECONDS } from "./tokens";

interface TokenRecord {
  wabaId: string;
  issuedAt: number;
  /** ms; null never expires. */
  expiresAt: number | null;
}

interface Override {
  override_callback_uri: string;
  verify_token: string;
  /** Of providers that prove themselves by headers of the app's choice: they sign nothing, and everything goes there. */
  headers?: Record<string, string>;
}

export interface AccountRecord {
  subscribed: boolean;
  override: Override | null;
}

export interface NumberRecord {
  wabaId: string;
  /** True until a token names the number: its account is made up until then. */
  provisional: boolean;
  registered: boolean;
  pin: string | null;
  /** Fields that were set, over the defaults of a fresh number. */
  fields: Record<string, unknown>;
  profile: Record<string, unknown>;
  override: Override | null;
}

/** Fields that only webhooks of the number's own traffic may leave the app's address for; the others never do. */
const OVERRIDABLE = new Set([
  "messages",
  "message_echoes",
  "calls",
  "history",
  "smb_message_echoes",
  "smb_app_state_sync",
]);

/**
 * Tokens, business accounts and numbers. They need no creation: a token belongs to one account, which follows from the
 * token until a call with it names another, and a number belongs to the account of the token that first named it.
 */
export class Accounts {
  private readonly storage: Storage;
  private readonly clock: Clock;
  private readonly settings: SettingsStore;
  private readonly appUrl: string;
  private readonly knownNumbers = new Map<string, NumberRecord>();

  constructor(storage: Storage, clock: Clock, settings: SettingsStore, appUrl: string) {
    this.storage = storage;
    this.clock = clock;
    this.settings = settings;
    this.appUrl = appUrl;
  }

  forget(): void {
    this.knownNumbers.clear();
  }

  token(token: string): TokenRecord {
    const key = tokenKey(token);
    const known = this.storage.kv.get<TokenRecord>(key);
    if (known) return known;
    const now = this.clock();
    const record = {
      wabaId: accountOfToken(token),
      issuedAt: now,
      expiresAt: token.includes("SHORT") ? now + SHORT_TOKEN_SECONDS * 1000 : null,
    };
    this.storage.kv.put(key, record);
    return record;
  }

  /** A long-lived token of the same account; valid 60 days. */
  issueToken(account: string | null): { token: string; expiresIn: number } {
    const token = `EAAL${crypto.randomUUID().replaceAll("-", "")}`;
    const now = this.clock();
    const wabaId = account ?? this.token(token).wabaId;
    this.storage.kv.put(tokenKey(token), { wabaId, issuedAt: now, expiresAt: now + LONG_TOKEN_SECONDS * 1000 });
    return { token, expiresIn: LONG_TOKEN_SECONDS };
  }

  /** The account a path names: from now on the token's, with the numbers the token has named so far. */
  account(wabaId: string, token: string): AccountRecord {
    const record = this.token(token);
    if (record.wabaId !== wabaId) {
      for (const [id, number] of this.numbers(record.wabaId)) this.saveNumber(id, { ...number, wabaId });
      this.storage.kv.put(tokenKey(token), { ...record, wabaId });
    }
    if (!this.isAccount(wabaId)) this.saveAccount(wabaId, { subscribed: true, override: null });
    return this.accountRecord(wabaId);
  }

  isAccount(wabaId: string): boolean {
    return this.storage.kv.get(accountKey(wabaId)) !== undefined;
  }

  saveAccount(wabaId: string, record: AccountRecord): void {
    this.storage.kv.put(accountKey(wabaId), record);
  }

  /** A number as it is, made on its first mention. */
  number(phoneId: string, token: string): NumberRecord {
    const known = this.knownNumber(phoneId);
    if (known && !known.provisional) return known;
    return this.adopt(phoneId, this.token(token).wabaId, known ?? {});
  }

  knownNumber(phoneId: string): NumberRecord | null {
    const cached = this.knownNumbers.get(phoneId);
    if (cached) return cached;
    const stored = this.storage.kv.get<NumberRecord>(numberKey(phoneId));
    if (stored) this.knownNumbers.set(phoneId, stored);
    return stored ?? null;
  }

  /** A number that a customer writes to before the app ever called about it. */
  numberForInbound(phoneId: string): NumberRecord {
    return (
      this.knownNumber(phoneId) ??
      this.adopt(phoneId, `1${phoneId.padStart(14, "0").slice(-14)}`, { provisional: true })
    );
  }

  saveNumber(phoneId: string, record: NumberRecord): void {
    this.storage.kv.put(numberKey(phoneId), record);
    this.knownNumbers.set(phoneId, record);
  }

  numbers(wabaId: string): [string, NumberRecord][] {
    return [...this.storage.kv.list<NumberRecord>({ prefix: "number:" })]
      .filter(([, record]) => record.wabaId === wabaId)
      .map(([key, record]) => [key.slice("number:".length), record]);
  }

  /** Where a webhook goes: the number's own address, else the account's, else the app's. */
  callbackUrl(field: string, phoneId: string | null, wabaId: string): string {
    const direct = this.direct(phoneId, wabaId);
    if (direct) return direct.override_callback_uri;
    if (OVERRIDABLE.has(field) || field.startsWith("group_")) {
      const own = phoneId === null ? null : this.knownNumber(phoneId)?.override;
      const override = own ?? this.accountRecord(wabaId).override;
      if (override) return override.override_callback_uri;
    }
    return this.appCallbackUrl();
  }

  /** The headers that a webhook goes with instead of a signature, or null. */
  callbackHeaders(phoneId: string | null, wabaId: string): Record<string, string> | null {
    return this.direct(phoneId, wabaId)?.headers ?? null;
  }

  private direct(phoneId: string | null, wabaId: string): Override | null {
    const own = phoneId === null ? null : this.knownNumber(phoneId)?.override;
    return [own, this.accountRecord(wabaId).override].find((override) => override?.headers) ?? null;
  }

  appCallbackUrl(): string {
    return this.settings.get().callback_url ?? `${this.appUrl}/webhook`;
  }

  /** Whether the app hears of this account at all: yes, until it takes its subscription back. */
  isSubscribed(wabaId: string): boolean {
    return this.accountRecord(wabaId).subscribed;
  }

  private accountRecord(wabaId: string): AccountRecord {
    return this.storage.kv.get<AccountRecord>(accountKey(wabaId)) ?? { subscribed: true, override: null };
  }

  private adopt(phoneId: string, wabaId: string, known: Partial<NumberRecord>): NumberRecord {
    const fresh = { registered: true, pin: null, fields: {}, profile: {}, override: null, provisional: false };
    const record: NumberRecord = { ...fresh, ...known, wabaId };
    if (known.wabaId !== undefined) record.provisional = false;
    this.saveNumber(phoneId, record);
    if (!this.isAccount(wabaId)) this.saveAccount(wabaId, { subscribed: true, override: null });
    return record;
  }
}

/** The account of a token that has named none yet. */
export function accountOfToken(token: string): string {
  return `1${stableHash(token).toString().padStart(14, "0").slice(-14)}`;
}

const tokenKey = (token: string) => `token:${stableHash(token).toString(36)}`;
const accountKey = (wabaId: string) => `account:${wabaId}`;
const numberKey = (phoneId: string) => `number:${phoneId}`;
