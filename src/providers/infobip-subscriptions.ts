/** Infobip's subscriptions: which events of a sender go where, and how they prove themselves there (facts 3.3). */
import type { Runtime } from "../platform/runtime";
import { callInfobip, type InfobipAnswer, resultOf } from "./infobip-http";
import type { Connection, ProviderResult, WebhookTarget } from "./provider";

const EVENTS = [
  "INBOUND_MESSAGE",
  "DELIVERY",
  "SEEN",
  "TEMPLATE_UPDATE",
  "IDENTITY_CHANGE",
  "MARKETING_SUBSCRIPTION_UPDATE",
  "PAYMENT_STATUS",
];

const SUBSCRIPTIONS = ["subscriptions", "1", "subscription", "WHATSAPP"];

/**
 * Subscribes the sender's events to a webhook with basic authentication. Ids follow from ours, so a repetition finds
 * what is there and sets its credentials and address anew: a rotated secret takes the place of the old one.
 */
export async function subscribeInfobip(
  rt: Runtime,
  connection: Connection,
  webhook: WebhookTarget,
): Promise<ProviderResult<null>> {
  const id = `switchboard-${webhook.user}`;
  const credentials = { username: webhook.user, password: webhook.secret };
  const target = { notifyUrl: webhook.url };
  const wanted = { name: "Switchboard", events: EVENTS, resources: [connection.providerNumberId] };
  const known = await callInfobip(rt, connection, { method: "GET", path: [...SUBSCRIPTIONS, id] });
  if (known.kind === "error" && known.status === 404) {
    const security = { authId: id, type: "BASIC", credentials };
    const profile = { profileId: id, webhook: target, security };
    const body = { subscriptionId: id, ...wanted, profile };
    return done(await callInfobip(rt, connection, { method: "POST", path: SUBSCRIPTIONS, body }));
  }
  if (known.kind !== "ok") return done(known);
  const changes = [
    { path: ["subscriptions", "1", "security", id], body: { type: "BASIC", credentials } },
    { path: ["subscriptions", "1", "profiles", id], body: { webhook: target, security: { authId: id } } },
    { path: [...SUBSCRIPTIONS, id], body: { ...wanted, profile: { profileId: id } } },
  ];
  for (const change of changes) {
    const answer = done(await callInfobip(rt, connection, { method: "PUT", ...change }));
    if (!answer.ok) return answer;
  }
  return { ok: true, value: null };
}

function done(answer: InfobipAnswer): ProviderResult<null> {
  return resultOf(answer, () => null);
}
