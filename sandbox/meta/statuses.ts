import type { Outbox } from "../state/outbox";
import type { PositiveStatus, SettingsStore } from "../state/settings";
import type { Clock } from "../state/storage";
import { type Customers, contactOf } from "./customers";
import { errorTitle } from "./graph-error";

/** An accepted message, as far as its statuses need it. */
export interface Accepted {
  id: string;
  phoneId: string;
  wabaId: string;
  waId: string | null;
  userId: string | null;
  toGroup: boolean;
  callback: string | null;
  /** `service` for free-form messages, else the template's category in lower case. */
  category: string;
}

export type StatusName = PositiveStatus | "failed";

/** Makes the status webhooks of a message and puts them into the outbox. */
export class Statuses {
  private readonly clock: Clock;
  private readonly settings: SettingsStore;
  private readonly customers: Customers;
  private readonly outbox: Outbox;

  constructor(clock: Clock, settings: SettingsStore, customers: Customers, outbox: Outbox) {
    this.clock = clock;
    this.settings = settings;
    this.customers = customers;
    this.outbox = outbox;
  }

  /** The statuses that follow acceptance: those of the settings, or the one failure. */
  follow(message: Accepted, failure: number | null): void {
    const { statuses, delays } = this.settings.get();
    if (failure !== null) {
      this.add(message, "failed", delays.sent, failure);
      return;
    }
    for (const status of statuses) this.add(message, status, delays[status], null);
  }

  /** One status, `delay` ms from now; `code` says why a failed one failed. */
  add(message: Accepted, status: StatusName, delay: number, code: number | null): void {
    const failed = status === "failed";
    const customer = this.customers.find(message.waId ?? message.userId ?? "");
    // A failed status names no user id when the message went to a phone number.
    const userId = message.userId ?? (failed ? null : (customer?.userId ?? null));
    const parentId = failed || userId === null ? null : (customer?.parentUserId ?? null);
    const item = {
      id: message.id,
      status,
      timestamp: String(Math.floor((this.clock() + delay) / 1000)),
      ...(message.waId === null ? {} : { recipient_id: message.waId }),
      ...(message.toGroup ? { recipient_type: "group" } : {}),
      ...(userId === null ? {} : { recipient_user_id: userId }),
      ...(parentId === null ? {} : { recipient_parent_user_id: parentId }),
      ...(message.callback === null ? {} : { biz_opaque_callback_data: message.callback }),
      // `sent` and one of delivered or read carry the price.
      ...(status === "sent" || status === "delivered" ? { pricing: pricing(message.category) } : {}),
      ...(code === null ? {} : { errors: [webhookError(code)] }),
    };
    const contact = {
      waId: message.waId ?? "",
      name: customer?.name ?? `Customer ${(message.waId ?? message.userId ?? "").slice(-4)}`,
      userId,
      parentUserId: parentId,
      username: customer?.username ?? null,
    };
    this.outbox.add(
      {
        wabaId: message.wabaId,
        phoneId: message.phoneId,
        field: "messages",
        list: "statuses",
        item,
        contacts: failed || message.toGroup ? null : [contactOf(contact, message.waId !== null, status !== "sent")],
      },
      delay,
    );
  }
}

function pricing(category: string): Record<string, unknown> {
  const free = category === "service";
  return {
    billable: !free,
    pricing_model: "PMP",
    type: free ? "free_customer_service" : "regular",
    category,
  };
}

function webhookError(code: number): Record<string, unknown> {
  const title = errorTitle(code);
  return {
    code,
    title,
    message: title,
    error_data: { details: `The sandbox was asked to fail this message with ${code}.` },
    href: "/documentation/business-messaging/whatsapp/support/error-codes",
  };
}
