/**
 * What a provider of WhatsApp is to this product. Adapters translate; only `messages/` decides what an outcome means
 * for a message, and only `inbound/` what an event means for a workspace.
 */
export type ProviderName = "meta" | "360dialog" | "infobip";

/** Shown to callers on a failed message. `code` is the provider's own, or one of ours such as `outcome_unknown`. */
export interface ProviderError {
  code: number | string;
  title: string;
  details: string | null;
  /** Whether sending the same again may work. */
  retryable: boolean;
}

/** What a number needs to call its provider; the token is opened from its sealed form for one batch and never stored. */
export interface Connection {
  provider: ProviderName;
  providerNumberId: string;
  businessId: string | null;
  accessToken: string;
  /** `+` and digits, where it is known: not every provider tells it. */
  phoneNumber?: string | null;
  /** The account's own API address, of a provider that gives each account one. */
  apiBase?: string | null;
}

/** Where a provider is told to send a number's webhooks, and what it proves itself with there (contract 24). */
export interface WebhookTarget {
  url: string;
  /** User of basic authentication: our id of the number. */
  user: string;
  secret: string;
}

/** Who receives: a phone number in digits, a business-scoped user id, or a group. At least one is set. */
export interface Recipient {
  phone: string | null;
  userId: string | null;
  groupId?: string | null;
}

/** One message to send. `content` is already in the provider-neutral shape of `messages/schema.ts`. */
export interface SendRequest {
  /** `<message id>.<attempt>`, echoed in statuses (Meta: biz_opaque_callback_data). */
  callbackId: string;
  /** Refusals of this message so far. Attempts are claims, and not every claim comes to a call. */
  failures?: number;
  /** The id under which an earlier call may have arrived: this one makes the same again (`repeat`). */
  repeats?: string | null;
  recipient: Recipient;
  type: string;
  /** The payload of the type, as Meta names its members; the type `contacts` is `{contacts: [...]}`. */
  content: Record<string, unknown>;
  /** Provider id of the message this one quotes. */
  replyTo: string | null;
}

/**
 * The outcome of a call, as a value. `ambiguous`: the request may have arrived, so it is never sent again blindly.
 * `blocked`: nothing of this number (or account) can be sent until somebody acts. `retryAfter`: ms the provider asked
 * to wait, null when it named no time; `throttled`: the whole number is too fast, not this message. `repeat`: the
 * request may have arrived, and the provider takes the same id only once, so the same call is simply made again.
 */
export type SendOutcome =
  | { kind: "sent"; waMessageId: string; waId: string | null; userId: string | null; held: boolean }
  | { kind: "permanent"; error: ProviderError }
  | { kind: "transient"; error: ProviderError; retryAfter: number | null; throttled?: boolean }
  | { kind: "ambiguous"; error: ProviderError }
  | { kind: "repeat"; providerMessageId: string; error: ProviderError; retryAfter: number | null }
  | { kind: "blocked"; scope: "number" | "account"; error: ProviderError };

/** What a provider says of a number. */
export interface NumberInfo {
  phoneNumber: string;
  verifiedName: string | null;
  qualityRating: "GREEN" | "YELLOW" | "RED" | "UNKNOWN";
  messageLimit: number | null;
  tier: string;
  status: "pending" | "active" | "disabled";
  providerStatus: string | null;
  businessId: string | null;
  /** ms; null: never. Undefined when the provider did not say. */
  tokenExpiresAt: number | null | undefined;
  /** The provider's id of the number, from a provider whose credentials alone say which number they are for. */
  providerNumberId?: string;
  /** The provider tells id and state only: what its webhooks said of name, quality and limits stays. */
  partial?: boolean;
}

/** The result of a management call: what it learned, or why the provider refused (its own words). */
export type ProviderResult<T> =
  | { ok: true; value: T }
  | { ok: false; refused: true; error: ProviderError }
  | { ok: false; refused: false; reason: string };

/** A template as the provider takes it; `components` is the provider's own list. */
export interface TemplateDraft {
  name: string;
  language: string;
  category: string;
  parameterFormat: "POSITIONAL" | "NAMED";
  components: Record<string, unknown>[];
}

/** A template as the provider has it. `status`, `category` and `components` are in the provider's own words. */
export interface ProviderTemplate extends TemplateDraft {
  id: string;
  status: string;
  rejectedReason: string | null;
  qualityScore: string | null;
}

export interface TemplatePage {
  templates: ProviderTemplate[];
  /** Templates of the page that could not be read. */
  unreadable: number;
  /** Where the next page begins; null after the last. */
  after: string | null;
}

/** What a webhook says of one template. Members are null where it says nothing of them. */
export interface TemplateUpdate {
  id: string;
  name: string | null;
  language: string | null;
  /** ms; null when the webhook carries no time. */
  at: number | null;
  status: { word: string; reason: string | null } | null;
  qualityScore: string | null;
  /** `announced`: the category it is about to get, and when (ms). */
  category: { now: string; announced: { category: string; at: number | null } | null } | null;
  /** Texts that were edited. What else changed is asked for. */
  texts: { header: string | null; body: string | null; footer: string | null } | null;
}

/** A file as it is uploaded to a provider. */
export interface OutgoingFile {
  body: ReadableStream<Uint8Array>;
  /** Bytes. */
  size: number;
  mimeType: string;
  fileName: string;
}

/** What became of an upload. Uploading twice does no harm, so nothing of it is ever ambiguous. */
export type UploadOutcome =
  | { kind: "uploaded"; providerMediaId: string }
  | Exclude<SendOutcome, { kind: "sent" | "ambiguous" | "repeat" }>;

/** What a provider says of a file it holds. */
export interface MediaInfo {
  /** Works for minutes. */
  url: string;
  mimeType: string | null;
  fileName: string | null;
  /** Bytes, where it is told. */
  size?: number | null;
}

/** A download: its bytes, or that the address leads nowhere (any more), or why there is nothing now. */
export type MediaDownload =
  | { kind: "ok"; body: ReadableStream<Uint8Array>; size: number | null; mimeType: string | null }
  | { kind: "gone" }
  | { kind: "failed"; reason: string };

/** Why a provider cannot carry a file with a message (contract 15). `limit` is a number where there is one. */
export interface MediaLimit {
  field: "media_id" | "caption";
  limit: number | string;
  reason: string;
}

/** Why a provider cannot carry a message of some kind at all (contract 15). */
export interface SendLimit {
  /** The member of the send that it is about. */
  field: string;
  limit: number | string;
  reason: string;
}

export interface Provider {
  readonly name: ProviderName;
  /** Whether a call may be made again under the same id without sending twice. */
  readonly repeatable: boolean;
  /** How a message names a file: by the id of an upload, or by an address that the provider fetches it from. */
  readonly mediaBy: "id" | "link";
  /** What of a message's kind the provider cannot carry; null when it can. Files are judged by `mediaLimit`. */
  sendLimit(message: { type: string; content: Record<string, unknown> }): SendLimit | null;
  /** What the provider's own word for a number's state means for sending (contract 13). */
  statusOf(providerStatus: string | null): NumberInfo["status"];
  send(connection: Connection, request: SendRequest): Promise<SendOutcome>;
  /**
   * Marks an inbound message (and the earlier ones of its thread) read; optionally shows "typing" for up to 25 s, to
   * `peer` (digits or a user id) where the provider asks who sees it.
   */
  markRead(
    connection: Connection,
    waMessageId: string,
    typing: boolean,
    peer?: string | null,
  ): Promise<ProviderResult<null>>;
  describeNumber(connection: Connection): Promise<ProviderResult<NumberInfo>>;
  /** Asks for the number's webhooks, at `webhook` where each number has an address of its own. Safe to repeat. */
  subscribe(connection: Connection, webhook: WebhookTarget): Promise<ProviderResult<null>>;
  /** The line "About" of the number's profile; null when there is none. */
  readAbout(connection: Connection): Promise<ProviderResult<string | null>>;
  setAbout(connection: Connection, about: string): Promise<ProviderResult<null>>;
  /** A long-lived token for a short-lived one; `expiresAt` in ms, null when it does not expire. */
  exchangeToken(connection: Connection): Promise<ProviderResult<{ accessToken: string; expiresAt: number | null }>>;
  /** What of a file and its caption a message of this type cannot carry; null when it can. `size` in bytes. */
  mediaLimit(file: { messageType: string; mimeType: string; size: number; caption: string | null }): MediaLimit | null;
  /** How long an uploaded file can be sent by its id, in ms. */
  readonly uploadsLive: number;
  /** Uploads a file for a number. Ends after `timeout` ms at the latest. */
  uploadMedia(connection: Connection, file: OutgoingFile, timeout: number): Promise<UploadOutcome>;
  /** Whether a refused send may be due to the id of an uploaded file that the provider does not know any more. */
  forgotFile(error: ProviderError): boolean;
  /** A fresh link of a received file. */
  mediaInfo(connection: Connection, providerMediaId: string): Promise<ProviderResult<MediaInfo>>;
  /** Reads a link the provider gave, from its own hosts only. Ends after `timeout` ms at the latest. */
  downloadMedia(connection: Connection, url: string, timeout: number): Promise<MediaDownload>;
  /** Hands a template in for review, in the business account of the connection. */
  createTemplate(
    connection: Connection,
    draft: TemplateDraft,
  ): Promise<ProviderResult<{ id: string; status: string; category: string | null }>>;
  /** One page of the account's templates; with a name, those that bear it (and perhaps some that only hold it). */
  listTemplates(
    connection: Connection,
    query: { name: string | null; after: string | null },
  ): Promise<ProviderResult<TemplatePage>>;
  getTemplate(connection: Connection, id: string): Promise<ProviderResult<ProviderTemplate>>;
  /** Changes a template, which then is reviewed again. How often, and in which states, is the provider's rule. */
  editTemplate(
    connection: Connection,
    id: string,
    change: { components?: Record<string, unknown>[]; category?: string },
  ): Promise<ProviderResult<null>>;
  /** Deletes one language of a template. */
  deleteTemplate(connection: Connection, template: { id: string; name: string }): Promise<ProviderResult<null>>;
}

// ---- inbound ----

/** How a webhook names a person. Any of the first four may be missing; at least one is set for a person. */
export interface Person {
  /** Digits. */
  waId: string | null;
  userId: string | null;
  parentUserId: string | null;
  username: string | null;
  name: string | null;
}

/** Which of our numbers an event is about, as the provider names it. */
export interface EventNumber {
  /** Meta: metadata.phone_number_id. */
  providerNumberId: string | null;
  /** Meta: entry[].id, the WhatsApp business account. */
  businessId: string | null;
  /** Digits of the display number, for events that name only it. */
  displayDigits: string | null;
}

export interface MediaReference {
  id: string | null;
  url: string | null;
  mimeType: string | null;
  sha256: string | null;
  fileName: string | null;
}

/**
 * A message as it came. `content` keeps the provider's payload of its type whole (a list under the type's own name),
 * and beside it what else the message said: `context`, `referral`, `errors`, `identity`.
 */
export interface InboundMessage {
  waMessageId: string;
  type: string;
  content: Record<string, unknown>;
  media: MediaReference | null;
  /** Provider id of the message it answers, and whether it was forwarded. */
  replyTo: string | null;
  /** ms; provider time. */
  at: number;
}

export type StatusName = "sent" | "delivered" | "read" | "failed";

interface EventBase {
  number: EventNumber;
  /** Place within the webhook body: the last tie-breaker of thread order. */
  position: number;
  /** The raw JSON of this item, kept where the event is stored whole. */
  raw: unknown;
}

/** Everything a webhook can say, item by item. What is none of these is `unknown` and kept with its raw text. */
export type InboundEvent = EventBase &
  (
    | { kind: "message"; origin: "live" | "history"; sender: Person; groupId: string | null; message: InboundMessage }
    /** A message our side sent by another way (the phone's app, or history): outbound, never unread, no auto-reply. */
    | {
        kind: "echo";
        origin: "echo" | "history";
        recipient: Person;
        groupId: string | null;
        message: InboundMessage;
        status: StatusName | null;
      }
    | {
        kind: "reaction";
        /** Who reacted; the person on the other side when `byUs`. The same holds for edits and revokes. */
        sender: Person;
        byUs: boolean;
        groupId: string | null;
        target: string;
        emoji: string | null;
        waMessageId: string;
        at: number;
      }
    | {
        kind: "edit";
        sender: Person;
        byUs: boolean;
        target: string;
        content: Record<string, unknown>;
        type: string;
        waMessageId: string;
        at: number;
      }
    | { kind: "revoke"; sender: Person; byUs: boolean; target: string; waMessageId: string; at: number }
    | {
        kind: "status";
        waMessageId: string;
        /** Our callback id, when the provider echoed one. */
        callbackId: string | null;
        status: StatusName;
        at: number;
        recipient: Person | null;
        /** Set for group statuses: counted per participant, not applied to the message. */
        participant: string | null;
        error: ProviderError | null;
        pricing: Record<string, unknown> | null;
      }
    /** A person's number or id changed: the same contact and conversation go on under the new one. */
    | { kind: "identity_change"; previous: Person; current: Person; at: number }
    | { kind: "preference"; sender: Person; marketing: "stop" | "resume"; detail: string | null; at: number }
    /** A contact of the phone's own address book (coexistence). */
    | { kind: "contact_sync"; person: Person; action: "add" | "remove"; at: number }
    /** Facts about templates, numbers and accounts, and everything else that is known but acts on no message. */
    | {
        kind: "notice";
        topic: NoticeTopic;
        field: string;
        /** For `phone_quality` and `capability`: what to store on the number. */
        numberUpdate: {
          qualityRating?: NumberInfo["qualityRating"];
          tier?: string;
          messageLimit?: number | null;
          verifiedName?: string;
        } | null;
        /** For the topics of templates: what to store on the template. */
        templateUpdate?: TemplateUpdate | null;
      }
    | { kind: "unknown"; field: string | null; reason: string }
  );

export type NoticeTopic =
  | "template_status"
  | "template_quality"
  | "template_components"
  | "template_category"
  | "phone_name"
  | "phone_quality"
  | "capability"
  | "account"
  | "account_alert"
  | "account_review"
  | "account_settings"
  | "username"
  | "call"
  | "flow"
  | "group"
  | "history_progress"
  | "history_declined"
  | "handover"
  | "identity_check"
  | "error"
  | "security"
  | "partner"
  | "payment"
  | "automatic"
  | "other";
