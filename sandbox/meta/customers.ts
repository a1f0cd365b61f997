import { z } from "zod";
import { stableHash } from "../random";
import type { Outbox } from "../state/outbox";
import type { SettingsStore } from "../state/settings";
import type { Clock, Storage } from "../state/storage";
import type { Accounts } from "./accounts";
import { base64Digest, type MediaIndex, type StoredFile } from "./media";
import { newMessageId } from "./message-id";

/** What a customer writes. Members that are not named here go into the webhook as they are. */
export const customerMessage = z.looseObject({
  /** The phone number id the customer writes to. */
  to: z.string().regex(/^[1-9]\d*$/, "must be a numeric phone number id"),
  type: z.string().min(1).default("text"),
  profile_name: z.string().optional(),
  username: z.string().optional(),
  user_id: z.string().min(1).optional(),
  parent_user_id: z.string().min(1).optional(),
  /** Leaves the phone number out, as for users known by their id alone. */
  only_user_id: z.boolean().default(false),
  /** The provider's message id, when a test wants to choose it. */
  id: z.string().min(1).optional(),
  /** Seconds. */
  timestamp: z.union([z.int(), z.string().regex(/^\d+$/)]).optional(),
  context: z.looseObject({ message_id: z.string().optional() }).optional(),
});

export type CustomerMessage = z.output<typeof customerMessage>;

export interface Customer {
  waId: string;
  name: string;
  userId: string | null;
  parentUserId: string | null;
  username: string | null;
}

export class Customers {
  private readonly storage: Storage;
  private readonly clock: Clock;
  private readonly settings: SettingsStore;
  private readonly accounts: Accounts;
  private readonly media: MediaIndex;
  private readonly outbox: Outbox;

  constructor(
    storage: Storage,
    clock: Clock,
    settings: SettingsStore,
    accounts: Accounts,
    media: MediaIndex,
    outbox: Outbox,
  ) {
    this.storage = storage;
    this.clock = clock;
    this.settings = settings;
    this.accounts = accounts;
    this.media = media;
    this.outbox = outbox;
  }

  /** What is known of a person by WhatsApp id or user id; a stranger has a name made of the number. */
  find(waIdOrUserId: string): Customer | null {
    const waId = this.storage.kv.get<string>(`user:${waIdOrUserId}`) ?? waIdOrUserId;
    return this.storage.kv.get<Customer>(`customer:${waId}`) ?? null;
  }

  /** Writes to a number as `waId`. Answers the message's id; the webhook waits in the outbox. */
  write(waId: string, message: CustomerMessage, file: StoredFile | null): { id: string; user_id: string | null } {
    const {
      to: phoneId,
      profile_name,
      username,
      user_id,
      parent_user_id,
      only_user_id,
      id,
      timestamp,
      context,
      ...rest
    } = message;
    const now = this.clock();
    const number = this.accounts.numberForInbound(phoneId);
    const known = this.find(waId);
    const customer: Customer = {
      waId,
      name: profile_name ?? known?.name ?? `Customer ${waId.slice(-4)}`,
      userId: user_id ?? known?.userId ?? (only_user_id ? `US.${stableHash(waId)}` : null),
      parentUserId: parent_user_id ?? known?.parentUserId ?? null,
      username: username ?? known?.username ?? null,
    };
    this.remember(customer);
    this.storage.sql.exec(
      "INSERT INTO windows (phone_id, customer, at) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at",
      phoneId,
      waId,
      now,
    );
    if (file) this.media.add(phoneId, file);
    const messageId = id ?? newMessageId("in", waId);
    const item = {
      ...(only_user_id ? {} : { from: waId }),
      ...(customer.userId === null ? {} : { from_user_id: customer.userId }),
      ...(customer.parentUserId === null ? {} : { from_parent_user_id: customer.parentUserId }),
      id: messageId,
      timestamp: String(timestamp ?? Math.floor(now / 1000)),
      ...rest,
      ...(context ? { context: quoted(context, phoneId) } : {}),
      ...(file ? { [message.type]: fileObject(rest[message.type], file) } : {}),
    };
    this.outbox.add(
      {
        wabaId: number.wabaId,
        phoneId,
        field: "messages",
        list: "messages",
        item,
        contacts: message.type === "system" ? null : [contactOf(customer, !only_user_id, true)],
      },
      this.settings.get().delays.inbound,
    );
    return { id: messageId, user_id: customer.userId };
  }

  /** When the customer last wrote to the number, in ms; null for never. */
  lastWrote(phoneId: string, waId: string): number | null {
    const [row] = this.storage.sql.exec<{ at: number }>(
      "SELECT at FROM windows WHERE phone_id = ? AND customer = ?",
      phoneId,
      waId,
    );
    return row?.at ?? null;
  }

  private remember(customer: Customer): void {
    this.storage.kv.put(`customer:${customer.waId}`, customer);
    if (customer.userId !== null) this.storage.kv.put(`user:${customer.userId}`, customer.waId);
  }
}

/** An entry of a webhook's `contacts`. */
export function contactOf(customer: Customer, withPhone: boolean, withUsername: boolean): Record<string, unknown> {
  return {
    profile: {
      name: customer.name,
      ...(withUsername && customer.username !== null ? { username: customer.username } : {}),
    },
    ...(withPhone ? { wa_id: customer.waId } : {}),
    ...(customer.userId === null ? {} : { user_id: customer.userId }),
    ...(customer.parentUserId === null ? {} : { parent_user_id: customer.parentUserId }),
  };
}

/** A quote given as a send would give it becomes what the webhook says: whose message, and its id. */
function quoted(context: Record<string, unknown>, phoneId: string): Record<string, unknown> {
  const { message_id: messageId, ...rest } = context;
  return messageId === undefined ? rest : { from: phoneId, id: messageId, ...rest };
}

function fileObject(given: unknown, file: StoredFile): Record<string, unknown> {
  const { data: _data, ...members } = z.looseObject({}).catch({}).parse(given);
  return {
    ...members,
    mime_type: file.mimeType,
    sha256: base64Digest(file.sha256),
    id: file.id,
    ...(file.filename === null ? {} : { filename: file.filename }),
  };
}
