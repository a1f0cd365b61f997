import type { StoredFile } from "../meta/media";
import type { MessageFilter } from "../meta/messages";

/**
 * Everything the Worker asks of the state object: plain values in, an `Answer` out, one call per request. `params` is
 * the query and the body of the request as JSON text.
 */
export type GraphCommand = { surface: "graph"; token: string | null } & (
  | { kind: "message.post"; phoneId: string; params: string }
  | { kind: "media.create"; phoneId: string; file: StoredFile }
  | { kind: "media.open"; id: string; expires: string; mark: string }
  | { kind: "node.get"; id: string; fields: string | null; origin: string }
  | { kind: "node.post"; id: string; params: string }
  | { kind: "node.delete"; id: string }
  | { kind: "number.register"; phoneId: string; params: string }
  | { kind: "number.deregister"; phoneId: string }
  | { kind: "profile.get"; phoneId: string; fields: string | null }
  | { kind: "profile.post"; phoneId: string; params: string }
  | { kind: "account.numbers"; wabaId: string; fields: string | null }
  | { kind: "templates.get"; wabaId: string; params: string }
  | { kind: "templates.post"; wabaId: string; params: string }
  | { kind: "templates.delete"; wabaId: string; params: string }
  | { kind: "subscribed.get"; wabaId: string }
  | { kind: "subscribed.post"; wabaId: string; params: string }
  | { kind: "subscribed.delete"; wabaId: string }
  | { kind: "subscriptions.get" }
  | { kind: "subscriptions.post"; params: string }
  | { kind: "subscriptions.delete" }
  | { kind: "oauth"; params: string }
  | { kind: "debug_token"; inputToken: string | null }
  /** 360dialog's address and headers of a number's webhooks. */
  | { kind: "webhook.configure"; phoneId: string; params: string }
);

/** One call of Infobip's API: method and path parts, query and body as JSON text. */
export interface InfobipCommand {
  surface: "infobip";
  key: string | null;
  method: string;
  path: string[];
  query: string;
  body: string;
  /** Where the call came in: media addresses lead there. */
  origin: string;
}

export type ControlCommand = { surface: "control" } & (
  | { kind: "customer.write"; phone: string; message: string; file: StoredFile | null }
  | { kind: "messages.list"; filter: MessageFilter }
  | { kind: "messages.status"; id: string; body: string }
  | { kind: "reads.list" }
  | { kind: "faults.add"; body: string }
  | { kind: "faults.list" }
  | { kind: "faults.clear" }
  | { kind: "settings.get" }
  | { kind: "settings.patch"; body: string }
  | { kind: "numbers.patch"; phoneId: string; body: string }
  | { kind: "templates.list" }
  | { kind: "templates.review"; id: string; body: string }
  | { kind: "webhooks.list"; state: "open" | "settled" | null; limit: number }
  | { kind: "webhooks.send"; body: string }
  | { kind: "webhooks.redeliver"; body: string }
  | { kind: "flush"; body: string }
  | { kind: "stats" }
  | { kind: "reset" }
);

export type Command = GraphCommand | InfobipCommand | ControlCommand;
