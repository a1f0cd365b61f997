import { type Answer, answer } from "../answer";
import { type Faults, waitOf } from "../state/faults";
import type { SettingsStore } from "../state/settings";
import { type Clock, count, type Storage } from "../state/storage";
import type { NumberRecord } from "./accounts";
import type { Customers } from "./customers";
import { GraphError } from "./graph-error";
import type { MediaIndex } from "./media";
import { fits } from "./media-rules";
import { newMessageId } from "./message-id";
import { isReadReceipt, type OutgoingMessage, parseMessage, parseReadReceipt } from "./parse-message";
import { failsLater, recipientDigits, refusedAtOnce, refusedSender, waIdOf } from "./recipients";
import type { Accepted, Statuses, StatusName } from "./statuses";
import { matchTemplate } from "./template-match";
import type { Templates } from "./templates";

const WINDOW_MS = 24 * 3_600_000;

interface MessageRow extends Record<string, SqlStorageValue> {
  seq: number;
  id: string;
  phone_id: string;
  waba_id: string;
  recipient: string;
  wa_id: string | null;
  user_id: string | null;
  to_group: number;
  type: string;
  category: string;
  callback: string | null;
  body: string;
  accepted_at: number;
}

interface Destination {
  /** As the caller wrote it. */
  input: string;
  waId: string | null;
  userId: string | null;
}

export interface MessageFilter {
  phone_number_id?: string;
  to?: string;
  type?: string;
  /** The whole callback data, or its part before the last dot. */
  callback?: string;
  since?: number;
  limit?: number;
}

/** `POST /{phone}/messages` and the record of what it accepted. */
export class Messages {
  private readonly storage: Storage;
  private readonly clock: Clock;
  private readonly settings: SettingsStore;
  private readonly media: MediaIndex;
  private readonly templates: Templates;
  private readonly customers: Customers;
  private readonly statuses: Statuses;
  private readonly faults: Faults;
  private readonly sentThisSecond = new Map<string, { second: number; n: number }>();

  constructor(parts: {
    storage: Storage;
    clock: Clock;
    settings: SettingsStore;
    media: MediaIndex;
    templates: Templates;
    customers: Customers;
    statuses: Statuses;
    faults: Faults;
  }) {
    this.storage = parts.storage;
    this.clock = parts.clock;
    this.settings = parts.settings;
    this.media = parts.media;
    this.templates = parts.templates;
    this.customers = parts.customers;
    this.statuses = parts.statuses;
    this.faults = parts.faults;
  }

  /**
   * Validates, draws a fault, accepts: all without waiting, so that what is counted as accepted was accepted. A fault
   * only ever hits a message that would have been accepted.
   */
  post(phoneId: string, number: NumberRecord, params: Record<string, unknown>): Answer {
    if (isReadReceipt(params)) return this.markRead(phoneId, params);
    const message = parseMessage(params);
    const destination = destinationOf(message);
    const category = this.check(phoneId, number, message, destination);
    this.throttle(phoneId);
    const fault = this.faults.draw({ sends: true, phoneId, to: destination.waId ?? destination.userId });
    switch (fault?.kind) {
      case "error":
        throw new GraphError(fault.code, { status: fault.http_status, details: "Ordered by a fault of the sandbox." });
      case "rate_limit":
        throw new GraphError(130429, {
          status: fault.http_status,
          details: "Cloud API message throughput has been reached.",
          retryAfter: fault.retry_after,
        });
      case "timeout":
        return { ...answer({}), fault: { kind: "hold", ms: waitOf(fault) } };
      case "reset":
        return { ...answer({}), fault: { kind: "cut" } };
    }
    const accepted = this.accept(phoneId, number, message, destination, category, params);
    if (fault?.kind === "drop_after_accept") return { ...accepted, fault: { kind: "cut" } };
    if (fault?.kind === "slow") return { ...accepted, fault: { kind: "slow", ms: waitOf(fault) } };
    return accepted;
  }

  /** Orders one status of an accepted message. False when there is no such message. */
  orderStatus(id: string, status: StatusName, code: number | null): boolean {
    const [row] = this.storage.sql.exec<MessageRow>("SELECT * FROM messages WHERE id = ?", id);
    if (!row) return false;
    this.statuses.add(
      {
        id,
        phoneId: row.phone_id,
        wabaId: row.waba_id,
        waId: row.wa_id,
        userId: row.user_id,
        toGroup: row.to_group === 1,
        callback: row.callback,
        category: row.category,
      },
      status,
      0,
      status === "failed" ? (code ?? 131000) : null,
    );
    return true;
  }

  /** What was accepted, oldest first, with how often per callback data and per message (what stands before its last dot). */
  list(filter: MessageFilter): Record<string, unknown> {
    const where = `FROM messages WHERE (?1 IS NULL OR phone_id = ?1) AND (?2 IS NULL OR recipient = ?2 OR wa_id = ?2 OR user_id = ?2)
      AND (?3 IS NULL OR type = ?3) AND (?4 IS NULL OR callback = ?4 OR callback_prefix = ?4) AND seq > ?5`;
    const values = [
      filter.phone_number_id ?? null,
      filter.to ?? null,
      filter.type ?? null,
      filter.callback ?? null,
      filter.since ?? 0,
    ];
    const rows = this.storage.sql.exec<MessageRow>(
      `SELECT * ${where} ORDER BY seq LIMIT ?6`,
      ...values,
      filter.limit ?? 1_000,
    );
    const data = [...rows].map((row) => ({
      seq: row.seq,
      id: row.id,
      phone_number_id: row.phone_id,
      recipient: row.recipient,
      wa_id: row.wa_id,
      user_id: row.user_id,
      type: row.type,
      biz_opaque_callback_data: row.callback,
      body: JSON.parse(row.body) as unknown,
      accepted_at: new Date(row.accepted_at).toISOString(),
    }));
    const counted = (column: string) =>
      Object.fromEntries(
        [
          ...this.storage.sql.exec<{ name: string; n: number }>(
            `SELECT ${column} AS name, count(*) AS n ${where} AND ${column} IS NOT NULL GROUP BY ${column}`,
            ...values,
          ),
        ].map(({ name, n }) => [name, n]),
      );
    const { n: total } = this.storage.sql.exec<{ n: number }>(`SELECT count(*) AS n ${where}`, ...values).one();
    return { data, total, counts: { by_callback: counted("callback"), by_message: counted("callback_prefix") } };
  }

  reads(): Record<string, unknown>[] {
    const rows = this.storage.sql.exec<{ phone_id: string; message_id: string; typing: number; at: number }>(
      "SELECT phone_id, message_id, typing, at FROM reads ORDER BY seq",
    );
    return [...rows].map(({ phone_id, message_id, typing, at }) => ({
      phone_number_id: phone_id,
      message_id,
      typing: typing === 1,
      at: new Date(at).toISOString(),
    }));
  }

  count(): number {
    return this.storage.sql.exec<{ n: number }>("SELECT count(*) AS n FROM messages").one().n;
  }

  private markRead(phoneId: string, params: Record<string, unknown>): Answer {
    const { messageId, typing } = parseReadReceipt(params);
    this.storage.sql.exec(
      "INSERT INTO reads (phone_id, message_id, typing, at) VALUES (?, ?, ?, ?)",
      phoneId,
      messageId,
      typing ? 1 : 0,
      this.clock(),
    );
    return answer({ success: true });
  }

  /** Every refusal that comes with the call. Answers the pricing category of the message. */
  private check(phoneId: string, number: NumberRecord, message: OutgoingMessage, destination: Destination): string {
    const sender = refusedSender(phoneId);
    if (sender !== null) throw new GraphError(sender);
    if (!number.registered) throw new GraphError(133010);
    if (destination.waId === phoneId) throw new GraphError(131021);
    const refused = destination.waId === null ? null : refusedAtOnce(destination.waId);
    if (refused !== null) throw new GraphError(refused);
    for (const id of message.mediaIds) {
      if (this.media.find(id)) continue;
      throw new GraphError(100, {
        message: `(#100) Param ${message.type}['id'] is not a valid whatsapp business account media attachment ID`,
      });
    }
    if (message.template === null) return "service";
    const template = this.templates.sendable(number.wabaId, message.template.name, message.template.language.code);
    matchTemplate(template.draft, message.template);
    // One-time codes cannot go to somebody known by user id alone.
    if (template.draft.category === "AUTHENTICATION" && destination.waId === null) throw new GraphError(131062);
    return template.draft.category.toLowerCase();
  }

  private throttle(phoneId: string): void {
    const limit = this.settings.get().throughput;
    if (limit === 0) return;
    const second = Math.floor(this.clock() / 1000);
    const window = this.sentThisSecond.get(phoneId);
    const n = window?.second === second ? window.n + 1 : 1;
    this.sentThisSecond.set(phoneId, { second, n });
    if (n > limit)
      throw new GraphError(130429, { details: "Cloud API message throughput has been reached.", retryAfter: 1 });
  }

  private accept(
    phoneId: string,
    number: NumberRecord,
    message: OutgoingMessage,
    destination: Destination,
    category: string,
    params: Record<string, unknown>,
  ): Answer {
    const { input, waId, userId } = destination;
    const accepted: Accepted = {
      id: newMessageId("out", waId ?? userId ?? ""),
      phoneId,
      wabaId: number.wabaId,
      waId,
      userId,
      toGroup: message.toGroup,
      callback: message.callbackData,
      category,
    };
    this.storage.sql.exec(
      `INSERT INTO messages (id, phone_id, waba_id, recipient, wa_id, user_id, to_group, type, category, callback, callback_prefix, body, accepted_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      accepted.id,
      phoneId,
      number.wabaId,
      input,
      waId,
      userId,
      message.toGroup ? 1 : 0,
      message.type,
      category,
      message.callbackData,
      prefixOf(message.callbackData),
      JSON.stringify(params),
      this.clock(),
    );
    count(this.storage, `accepted:${message.type}`);
    this.statuses.follow(accepted, this.laterFailure(phoneId, message, destination));
    const { hold_templates } = this.settings.get();
    const status =
      message.template === null ? {} : { message_status: hold_templates ? "held_for_quality_assessment" : "accepted" };
    return answer({
      messaging_product: "whatsapp",
      contacts: [{ input, ...(waId === null ? {} : { wa_id: waId }), ...(userId === null ? {} : { user_id: userId }) }],
      messages: [{ id: accepted.id, ...status }],
    });
  }

  /** Why an accepted message will fail, or null. */
  private laterFailure(phoneId: string, message: OutgoingMessage, destination: Destination): number | null {
    if (destination.waId !== null) {
      const code = failsLater(destination.waId);
      if (code !== null) return code;
    }
    const unfit = message.mediaIds.some((id) => {
      const file = this.media.find(id);
      return (
        message.template === null &&
        message.type !== "interactive" &&
        file !== null &&
        !fits(message.type, file.mimeType)
      );
    });
    if (unfit || message.links.some((link) => new URL(link).hostname.endsWith(".invalid"))) return 131053;
    if (this.settings.get().service_window && message.template === null && !message.toGroup) {
      const person = destination.waId ?? destination.userId ?? "";
      const last = this.customers.lastWrote(phoneId, this.customers.find(person)?.waId ?? person);
      if (last === null || last < this.clock() - WINDOW_MS) return 131047;
    }
    return null;
  }
}

function destinationOf(message: OutgoingMessage): Destination {
  const { to, recipient, toGroup } = message;
  if (to === null) return { input: recipient ?? "", waId: null, userId: recipient };
  if (toGroup) return { input: to, waId: to, userId: null };
  // The phone number wins when both are given.
  return { input: to, waId: waIdOf(recipientDigits(to)), userId: recipient };
}

/** `<message id>.<attempt>` -> the message id. */
function prefixOf(callback: string | null): string | null {
  if (callback === null) return null;
  const dot = callback.lastIndexOf(".");
  return dot < 0 ? callback : callback.slice(0, dot);
}
