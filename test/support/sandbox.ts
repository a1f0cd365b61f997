/** What the sandbox accepted as provider. */
export interface AcceptedMessage {
  seq: number;
  id: string;
  phone_number_id: string;
  /** As the caller wrote it; `wa_id` is what WhatsApp made of it. */
  recipient: string;
  wa_id: string | null;
  user_id: string | null;
  type: string;
  biz_opaque_callback_data: string | null;
  /** The whole body of the call. */
  body: Record<string, unknown>;
  accepted_at: string;
}

export interface Accepted {
  data: AcceptedMessage[];
  total: number;
  counts: {
    /** Whole callback data -> how often it was accepted. */
    by_callback: Record<string, number>;
    /** What stands before the last dot of the callback data (our message id) -> how often it was accepted. */
    by_message: Record<string, number>;
  };
}

export interface FlushReport {
  /** Items that waited. */
  items: number;
  posts: number;
  /** Items answered with 200. */
  delivered: number;
  /** HTTP status -> number of POSTs. */
  statuses: Record<string, number>;
  /** Items that still wait. */
  pending: number;
  seed: number;
}

export interface FlushOptions {
  order?: "in" | "reverse" | "shuffle";
  /** How often each item is delivered in all. */
  duplicate?: number;
  /** Items in one POST, at most. */
  batch?: number;
  limit?: number;
  seed?: number;
  /** POSTs under way at once; 1 unless given. */
  concurrency?: number;
}

/** Documented in sandbox/README.md. */
export interface FaultOrder {
  kind: "error" | "timeout" | "drop_after_accept" | "rate_limit" | "slow" | "reset";
  code?: number;
  rate?: number;
  count?: number;
  skip?: number;
  phone_number_id?: string;
  to?: string;
  ms?: number;
  retry_after?: number;
  http_status?: number;
  rejection?: number;
  seed?: number;
  on?: "sends" | "other" | "all";
}

export interface SandboxStats {
  accepted: number;
  accepted_by_type: Record<string, number>;
  refused: Record<string, number>;
  faults: Record<string, number>;
  calls: Record<string, number>;
  webhooks: { pending: number; posts: Record<string, number> };
}

export interface RawWebhook {
  body?: unknown;
  raw?: string;
  path?: string;
  headers?: Record<string, string>;
  secret?: string;
  sign?: boolean;
}

// Taken when the file is loaded, so that a test that replaces the global fetch still reaches the sandbox.
const outbound = globalThis.fetch.bind(globalThis);

async function call<T>(method: "GET" | "POST" | "DELETE", path: string, body?: unknown): Promise<T> {
  const response = await outbound(`https://sandbox.test/sandbox${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`sandbox ${method} ${path}: ${response.status} ${text}`);
  return JSON.parse(text);
}

/** The provider side of a test: what it accepted, what it does wrong, and when it delivers. */
export const sandbox = {
  /** Forgets everything: messages, faults, settings, media, templates, waiting webhooks. */
  reset: () => call<{ reset: true }>("POST", "/reset"),

  /** Orders faults. They stay until used up or cleared. */
  faults: (...faults: FaultOrder[]) => call<{ ids: number[] }>("POST", "/faults", faults),
  clearFaults: () => call("DELETE", "/faults"),

  /** Posts every waiting webhook to the app, once each unless told otherwise. Those not answered with 200 go on waiting. */
  flush: (options: FlushOptions = {}) => call<FlushReport>("POST", "/flush", options),

  /** Writes to one of our numbers as a customer. The webhook waits for a flush. Answers the provider's message id. */
  customerSends: (phone: string, message: { to: string; type?: string } & Record<string, unknown>) =>
    call<{ id: string; user_id: string | null }>("POST", `/customers/${phone.replace("+", "")}/messages`, message),

  /** What was really accepted, oldest first. */
  accepted: (filter: { phone_number_id?: string; to?: string; type?: string; callback?: string } = {}) =>
    call<Accepted>("GET", `/messages?${new URLSearchParams({ ...filter, limit: "100000" })}`),

  /** Orders one status of an accepted message, such as a late `failed`. The webhook waits for a flush. */
  orderStatus: (id: string, status: "sent" | "delivered" | "read" | "played" | "failed", code?: number) =>
    call("POST", `/messages/${encodeURIComponent(id)}/status`, { status, code }),

  /** Read receipts and typing indicators the app sent. */
  reads: () =>
    call<{ data: { phone_number_id: string; message_id: string; typing: boolean; at: string }[] }>("GET", "/reads"),

  stats: () => call<SandboxStats>("GET", "/stats"),

  settings: (patch: Record<string, unknown>) => call<Record<string, unknown>>("POST", "/settings", patch),

  /** Changes what the provider says of a number: quality_rating, status, whatsapp_business_manager_messaging_limit, … */
  number: (phoneNumberId: string, patch: Record<string, unknown>) => call("POST", `/numbers/${phoneNumberId}`, patch),

  templates: () => call<{ data: Record<string, unknown>[] }>("GET", "/templates"),

  /** Reviews a template by the provider's id; the webhook waits for a flush. */
  review: (templateId: string, status: string, reason?: string) =>
    call("POST", `/templates/${templateId}/review`, { status, reason }),

  /** Waiting and settled webhooks, newest first. */
  webhooks: (state?: "open" | "settled") =>
    call<{ data: Record<string, unknown>[]; open: number }>("GET", `/webhooks${state ? `?state=${state}` : ""}`),

  /** Posts one body to the app at once, signed. Answers what the app answered. */
  sendWebhook: (webhook: RawWebhook) => call<{ status: number; body: string }>("POST", "/webhooks/send", webhook),

  /** Puts settled webhooks back among the waiting ones. */
  redeliver: () => call<{ items: number }>("POST", "/webhooks/redeliver", {}),
};
