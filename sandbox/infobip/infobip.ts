import { z } from "zod";
import { type Answer, answer } from "../answer";
import type { CustomerMessage } from "../meta/customers";
import { GraphError } from "../meta/graph-error";
import type { StoredFile } from "../meta/media";
import { newMessageId } from "../meta/message-id";
import type { StatusName } from "../meta/statuses";
import type { InfobipCommand } from "../state/commands";
import type { Core } from "../state/core";
import { type Fault, waitOf } from "../state/faults";
import type { OutboxRow } from "../state/outbox";
import { count } from "../state/storage";
import { ENROUTE, InfobipError, rejected, type Status, TO_HANDSET } from "./answers";
import { CONTENTS, type Frame, frame, subscription } from "./shapes";
import { componentsOf, structureOf } from "./structure";
import { inboundMessage, infobipTime, RESULT } from "./webhooks";

interface Sender {
  origin: string;
  about: string | null;
}

type Json = Record<string, unknown>;

const UNKNOWN_SENDER = "1555000033";

/** The core is still being put together when this is made: it is only asked later. */
type Parts = Pick<
  Core,
  "storage" | "clock" | "settings" | "accounts" | "media" | "outbox" | "templates" | "customers" | "faults"
>;

/** Infobip's WhatsApp API, over the same numbers, people, files, templates, faults and outbox as Meta's. */
export class Infobip {
  private readonly core: Parts;

  constructor(core: Parts) {
    this.core = core;
  }

  isSender(id: string): boolean {
    return this.sender(id) !== null;
  }

  /** Whether a webhook is one of Infobip's. */
  isOurs(item: Pick<OutboxRow, "wabaId"> | undefined): boolean {
    return item !== undefined && this.isSender(item.wabaId);
  }

  /** One call. Never throws for what Infobip would refuse: the refusal is the answer. */
  perform(command: InfobipCommand): Answer {
    count(this.core.storage, "call:infobip");
    try {
      if (command.key === null || /INVALID|EXPIRED|REVOKED/.test(command.key)) {
        throw new InfobipError(401, "Invalid login details");
      }
      if (command.key.includes("NOPERMISSION")) throw new InfobipError(403, "Forbidden");
      return this.route(command);
    } catch (error) {
      if (error instanceof InfobipError) return error.answer();
      if (error instanceof z.ZodError) return new InfobipError(400, "Bad request").answer();
      if (error instanceof GraphError) return new InfobipError(400, error.message).answer();
      throw error;
    }
  }

  private route(command: InfobipCommand): Answer {
    const [api, , kind, ...rest] = command.path;
    const body = parseJson(command.body);
    if (api === "whatsapp" && kind === "message") {
      return rest[0] === "template" ? this.sendTemplate(body, command) : this.send(rest.join("/"), body, command);
    }
    const fault = this.core.faults.draw({ sends: false, phoneId: rest[0] ?? null, to: null });
    if (fault) {
      const hit = before(fault);
      if (hit) return hit;
    }
    const given = this.manage(command, body);
    if (fault?.kind === "slow") return { ...given, fault: { kind: "slow", ms: waitOf(fault) } };
    return fault?.kind === "drop_after_accept" ? { ...given, fault: { kind: "cut" } } : given;
  }

  private manage(command: InfobipCommand, body: unknown): Answer {
    const { method, path } = command;
    if (path[0] === "subscriptions") return this.subscriptions(method, path.slice(2), body);
    if (path[2] === "events") return this.typing(body, command);
    if (path[2] === "senders" && path[3] === "quality") return this.quality(command);
    const sender = path[3] ?? "";
    this.know(sender, command);
    switch (path[4]) {
      case "message":
        this.read(sender, path[5] ?? "", false);
        return answer({}, 204);
      case "media":
        if (!this.core.media.find(path[5] ?? "")) throw new InfobipError(404, "Media not found or expired");
        return answer({});
      case "business-info":
        return this.businessInfo(sender, method, body);
      case "templates":
        return this.manageTemplates(sender, method, path[5] ?? null, body);
      default:
        throw new InfobipError(404, "Not found");
    }
  }

  // ---- senders ----

  private sender(id: string): Sender | null {
    return this.core.storage.kv.get<Sender>(`infobip:sender:${id}`) ?? null;
  }

  /** A sender needs no creation: the first call that names it makes it. */
  private know(id: string, { origin }: InfobipCommand): void {
    if (id === UNKNOWN_SENDER || !/^\d{3,24}$/.test(id)) throw new InfobipError(400, "Unknown sender");
    const known = this.sender(id);
    if (known?.origin !== origin) this.save(id, { about: null, ...known, origin });
  }

  private save(id: string, sender: Sender): void {
    this.core.storage.kv.put(`infobip:sender:${id}`, sender);
  }

  private quality(command: InfobipCommand): Answer {
    const { senders = "" } = z.object({ senders: z.string().optional() }).parse(JSON.parse(command.query));
    const asked = senders.split(",").filter((id) => id !== UNKNOWN_SENDER && /^\d{3,24}$/.test(id));
    const ratings: Record<string, string> = { GREEN: "HIGH", YELLOW: "MEDIUM", RED: "LOW" };
    const results = asked.map((sender) => {
      this.know(sender, command);
      const fields = this.core.accounts.knownNumber(sender)?.fields ?? {};
      return {
        sender,
        qualityRating: ratings[String(fields.quality_rating ?? "GREEN")] ?? "UNKNOWN",
        status: fields.status ?? "CONNECTED",
        currentLimit: "LIMIT_1K",
        lastUpdated: infobipTime(this.core.clock()),
      };
    });
    return answer({ results });
  }

  private businessInfo(id: string, method: string, body: unknown): Answer {
    const sender = this.sender(id);
    if (method === "PATCH" && sender) {
      const { about } = z.object({ about: z.string().min(1).max(139) }).parse(body);
      this.save(id, { ...sender, about });
      return answer({}, 204);
    }
    return answer({ displayName: `Sandbox ${id.slice(-4)}`, about: sender?.about ?? undefined });
  }

  // ---- messages ----

  private sendTemplate(body: unknown, command: InfobipCommand): Answer {
    const { messages } = z.object({ messages: z.array(z.unknown()).length(1) }).parse(body);
    const given = this.send("template", messages[0], command);
    if (given.status !== 200) return given;
    return { ...given, json: JSON.stringify({ messages: [JSON.parse(given.json)], bulkId: crypto.randomUUID() }) };
  }

  /** Validates, draws a fault, accepts: a fault only ever hits a message that would have been accepted. */
  private send(path: string, body: unknown, command: InfobipCommand): Answer {
    const shape = CONTENTS[path];
    if (!shape) throw new InfobipError(404, `No such message: ${path}`);
    const message = valid(frame, body);
    valid(shape, message.content, "content");
    this.know(message.from, command);
    if (path === "template") this.checkTemplate(message);
    const messageId = message.messageId ?? crypto.randomUUID();
    if (this.isUsed(messageId)) return shown(message, messageId, rejected(23));
    const fault = this.core.faults.draw({ sends: true, phoneId: message.from, to: message.to });
    if (fault) {
      if (fault.kind === "error" && fault.rejection !== undefined) {
        this.core.storage.kv.put(`infobip:used:${messageId}`, true);
        return shown(message, messageId, rejected(fault.rejection));
      }
      const hit = before(fault);
      if (hit) return hit;
    }
    this.accept(path, message, messageId);
    const accepted = shown(message, messageId, ENROUTE);
    if (fault?.kind === "drop_after_accept") return { ...accepted, fault: { kind: "cut" } };
    return fault?.kind === "slow" ? { ...accepted, fault: { kind: "slow", ms: waitOf(fault) } } : accepted;
  }

  /** An id is used up by a message that was accepted or rejected under it. */
  private isUsed(messageId: string): boolean {
    const { storage } = this.core;
    if (storage.kv.get(`infobip:used:${messageId}`)) return true;
    return storage.sql.exec("SELECT 1 FROM messages WHERE id = ?", messageId).toArray().length > 0;
  }

  private checkTemplate(message: Frame): void {
    const { templateName, language } = z
      .object({ templateName: z.string(), language: z.string() })
      .parse(message.content);
    this.core.templates.sendable(message.from, templateName, language);
  }

  private accept(path: string, message: Frame, messageId: string): void {
    const { storage, clock, settings } = this.core;
    const callback = message.callbackData ?? null;
    const dot = callback?.lastIndexOf(".") ?? -1;
    const isPhone = /^\d+$/.test(message.to);
    storage.sql.exec(
      `INSERT INTO messages (id, phone_id, waba_id, recipient, wa_id, user_id, to_group, type, category, callback, callback_prefix, body, accepted_at)
       VALUES (?, ?, ?, ?, ?, ?, 0, ?, 'service', ?, ?, ?, ?)`,
      messageId,
      message.from,
      message.from,
      message.to,
      isPhone ? message.to : null,
      isPhone ? null : message.to,
      path,
      callback,
      callback === null ? null : dot < 0 ? callback : callback.slice(0, dot),
      JSON.stringify(message),
      clock(),
    );
    count(storage, `accepted:${path}`);
    const { statuses, delays } = settings.get();
    const failure = /^155500(7\d{3})$/.exec(message.to)?.[1];
    if (failure !== undefined) {
      this.report(message.from, message.to, messageId, "failed", Number(failure), delays.sent);
      return;
    }
    for (const status of statuses) this.report(message.from, message.to, messageId, status, null, delays[status]);
  }

  /** A report, `delay` ms from now. Infobip tells nothing of `sent` and `played`. */
  private report(
    sender: string,
    to: string,
    messageId: string,
    status: StatusName,
    code: number | null,
    delay: number,
  ): void {
    if (status === "sent" || status === "played") return;
    const at = infobipTime(this.core.clock() + delay);
    const contact = { name: "Customer", phoneNumber: to };
    if (status === "read") {
      this.post(sender, { messageId, from: to, to: sender, sentAt: at, seenAt: at, contact }, delay);
      return;
    }
    const failed = { groupId: 2, groupName: "UNDELIVERABLE", id: 9, name: "UNDELIVERABLE_NOT_DELIVERED" };
    const delivered = status === "delivered";
    const result = {
      bulkId: "",
      price: { pricePerMessage: delivered ? 0.01 : 0, currency: "EUR" },
      status: delivered ? TO_HANDSET : { ...failed, description: "Message sent not delivered" },
      error: delivered
        ? { id: 0, name: "NO_ERROR", description: "No Error", groupId: 0, groupName: "OK", permanent: false }
        : { id: code ?? 7_002, name: `EC_${code ?? 7_002}`, description: "Ordered", groupId: 1, permanent: true },
      messageId,
      doneAt: at,
      messageCount: 1,
      sentAt: at,
      to,
      contact,
    };
    this.post(sender, result, delay);
  }

  /** Nobody hears of a sender that has no subscription. */
  private post(sender: string, item: Json, delay: number): void {
    if (this.core.accounts.callbackHeaders(sender, sender) === null) return;
    this.core.outbox.add({ wabaId: sender, phoneId: sender, field: RESULT, list: null, item, contacts: null }, delay);
  }

  /** False when there is no such message of Infobip's. */
  orderStatus(id: string, status: StatusName, code: number | null): boolean {
    const [row] = this.core.storage.sql.exec<{ phone_id: string; recipient: string }>(
      "SELECT phone_id, recipient FROM messages WHERE id = ?",
      id,
    );
    if (!row || !this.isSender(row.phone_id)) return false;
    this.report(row.phone_id, row.recipient, id, status, code, 0);
    return true;
  }

  /** Writes to a sender as `waId`. Answers the message's id; the webhook waits in the outbox. */
  write(waId: string, message: CustomerMessage, file: StoredFile | null): { id: string; user_id: string | null } {
    const { clock, media, settings } = this.core;
    const { to, profile_name: name, username, user_id: userId = null, only_user_id, id, timestamp } = message;
    if (file) media.add(to, file);
    const messageId = id ?? newMessageId("in", waId);
    const origin = this.sender(to)?.origin ?? "https://api.infobip.com";
    const mediaUrl = `${origin}/whatsapp/1/senders/${to}/media/${file?.id ?? ""}`;
    const contact = {
      name: name ?? `Customer ${waId.slice(-4)}`,
      ...(only_user_id ? {} : { phoneNumber: waId }),
      ...(userId === null ? {} : { userId }),
      ...(username === undefined ? {} : { username }),
    };
    const result = {
      from: only_user_id ? (userId ?? waId) : waId,
      to,
      integrationType: "WHATSAPP",
      receivedAt: infobipTime(timestamp === undefined ? clock() : Number(timestamp) * 1000),
      messageId,
      message: inboundMessage(message, file, mediaUrl),
      price: { pricePerMessage: 0, currency: "EUR" },
      contact,
    };
    this.post(to, result, settings.get().delays.inbound);
    return { id: messageId, user_id: userId };
  }

  private read(sender: string, messageId: string, typing: boolean): void {
    this.core.storage.sql.exec(
      "INSERT INTO reads (phone_id, message_id, typing, at) VALUES (?, ?, ?, ?)",
      sender,
      messageId,
      typing ? 1 : 0,
      this.core.clock(),
    );
  }

  private typing(body: unknown, command: InfobipCommand): Answer {
    const events = z
      .object({
        events: z.array(
          z.strictObject({
            sender: z.string(),
            destinations: z.array(z.strictObject({ to: z.string().min(1) })).length(1),
            content: z.strictObject({ type: z.literal("TYPING_INDICATOR") }),
          }),
        ),
      })
      .safeParse(body);
    if (!events.success) throw new InfobipError(400, "Bad request");
    for (const { sender, destinations } of events.data.events) {
      this.know(sender, command);
      this.read(sender, destinations[0]?.to ?? "", true);
    }
    return answer({ bulkId: crypto.randomUUID(), messages: [] });
  }

  // ---- subscriptions ----

  private subscriptions(method: string, path: string[], body: unknown): Answer {
    const { kv } = this.core.storage;
    const [what, ...rest] = path;
    const id = rest.at(-1) ?? "";
    const key = `infobip:subscription:${id}`;
    type Known = z.output<typeof subscription>;
    if (what === "subscription" && method === "POST") {
      const made = valid(subscription, body);
      const taken = `infobip:subscription:${made.subscriptionId}`;
      if (kv.get(taken)) throw new InfobipError(400, "A subscription of this id exists already");
      kv.put(taken, made);
      this.subscribe(made);
      return answer({ subscriptionId: made.subscriptionId }, 201);
    }
    const known = kv.get<Known>(key);
    if (!known) throw new InfobipError(404, "Not found");
    if (method === "GET") return answer(known);
    const changed: Known = structuredClone(known);
    const given = z.record(z.string(), z.unknown()).parse(body);
    if (what === "security" && changed.profile.security) {
      changed.profile.security.credentials = z
        .object({ username: z.string(), password: z.string() })
        .parse(given.credentials);
    }
    if (what === "profiles") changed.profile.webhook = z.object({ notifyUrl: z.url() }).parse(given.webhook);
    kv.put(key, changed);
    this.subscribe(changed);
    return answer({ subscriptionId: id });
  }

  /** Each of its senders posts to that address from now on, with basic authentication. */
  private subscribe({ resources, profile }: z.output<typeof subscription>): void {
    const { username = "", password = "" } = profile.security?.credentials ?? {};
    const headers = { Authorization: `Basic ${btoa(`${username}:${password}`)}` };
    const override = { override_callback_uri: profile.webhook?.notifyUrl ?? "", verify_token: "", headers };
    for (const sender of resources) this.core.accounts.saveAccount(sender, { subscribed: true, override });
  }

  // ---- templates ----

  private manageTemplates(sender: string, method: string, id: string | null, body: unknown): Answer {
    const { templates } = this.core;
    const own = () =>
      templates
        .all()
        .filter((template) => template.waba_id === sender)
        .map((template) => infobipTemplate(template));
    if (id === null && method === "GET") return answer({ templates: own() });
    if (id === null) {
      const { structure, ...draft } = z.looseObject({ structure: z.record(z.string(), z.unknown()) }).parse(body);
      const made = z
        .object({ id: z.string() })
        .parse(templates.create(sender, { ...draft, components: componentsOf(structure) }));
      return answer(
        own().find((template) => template.id === made.id),
        201,
      );
    }
    if (method === "DELETE") {
      templates.remove(sender, { name: id });
      return answer({}, 204);
    }
    if (method === "PATCH") {
      const { structure, ...rest } = z
        .looseObject({ structure: z.record(z.string(), z.unknown()).optional() })
        .parse(body);
      templates.edit(id, { ...rest, ...(structure ? { components: componentsOf(structure) } : {}) });
    }
    const found = own().find((template) => template.id === id);
    if (!found) throw new InfobipError(404, "Template not found");
    return answer(found);
  }
}

function infobipTemplate(template: Json): Json {
  const { id, waba_id: businessAccountId, name, language, status, category, components } = template;
  const structure = structureOf(z.array(z.record(z.string(), z.unknown())).parse(components));
  return { id, businessAccountId, name, language, status, category, structure };
}

function shown({ to }: Frame, messageId: string, status: Status): Answer {
  return answer({ to, messageCount: 1, messageId, status });
}

/** The fault that strikes before anything is done; null for those that strike afterwards. */
function before(fault: Fault): Answer | null {
  switch (fault.kind) {
    case "error":
      throw new InfobipError(fault.http_status ?? 500, "Ordered by a fault of the sandbox.");
    case "rate_limit":
      throw new InfobipError(429, "Too many requests", null, fault.retry_after);
    case "timeout":
      return { ...answer({}), fault: { kind: "hold", ms: waitOf(fault) } };
    case "reset":
      return { ...answer({}), fault: { kind: "cut" } };
    case "drop_after_accept":
    case "slow":
      return null;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new InfobipError(400, "Bad request");
  }
}

function valid<T extends z.ZodType>(schema: T, value: unknown, root = ""): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const fields: Record<string, string[]> = {};
  for (const { path, message } of parsed.error.issues) {
    const name = [root, ...path].filter((part) => part !== "").join(".");
    fields[name] = [...(fields[name] ?? []), message];
  }
  throw new InfobipError(400, "Bad request", fields);
}
