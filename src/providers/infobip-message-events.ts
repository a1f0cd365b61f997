/** Received messages of Infobip's as the product keeps them: in the shape Meta's have, so that every reader knows one. */
import { digitsOf, infobipPerson, infobipTime } from "./infobip-values";
import type { EventFields } from "./meta-webhook";
import type { MediaReference } from "./provider";
import { type JsonObject, listOf, objectOf, textOf } from "./provider-json";

const MEDIA: Readonly<Record<string, string>> = {
  IMAGE: "image",
  VIDEO: "video",
  AUDIO: "audio",
  VOICE: "audio",
  DOCUMENT: "document",
  STICKER: "sticker",
};

/** What a received message is; a text says why it is none. `raw` is the result, `message` its message. */
export function infobipMessageEvent(raw: JsonObject, message: JsonObject): EventFields | string {
  const waMessageId = textOf(raw.messageId);
  if (waMessageId === null) return "The message has no id";
  const at = infobipTime(raw.receivedAt);
  if (at === null) return "The message has no time";
  const said = textOf(message.type);
  if (said === null) return "The message has no type";
  const sender = infobipPerson(raw.from, raw.contact);
  const context = objectOf(message.context);
  const groupId = textOf(context.groupId);
  if (sender.waId === null && sender.userId === null && groupId === null) return "The message does not say who sent it";
  if (said === "REACTION") {
    const target = textOf(context.id);
    if (target === null) return "The reaction names no message";
    const emoji = message.action === "REMOVED" ? null : textOf(message.emoji);
    return { kind: "reaction", sender, byUs: false, groupId, target, emoji, waMessageId, at };
  }
  const told = contentOf(said, message);
  const referral = referralOf(message.referral);
  const product = objectOf(context.referredProduct);
  const content = {
    ...told.content,
    ...(referral === null ? {} : { referral }),
    ...(Object.keys(product).length === 0
      ? {}
      : {
          context: {
            referred_product: { catalog_id: product.catalogId, product_retailer_id: product.productRetailerId },
          },
        }),
    ...(raw.identity === undefined ? {} : { identity: raw.identity }),
  };
  const replyTo = textOf(context.id) ?? textOf(raw.pairedMessageId);
  const media = told.media ?? null;
  return {
    kind: "message",
    origin: "live",
    sender,
    groupId,
    message: { waMessageId, type: told.type, content, media, replyTo, at },
  };
}

interface Told {
  type: string;
  content: JsonObject;
  media?: MediaReference;
}

/** The last part of a media address is the file's id. */
function mediaOf(message: JsonObject): { id: string | null; reference: MediaReference } {
  const url = textOf(message.url);
  const id = /\/media\/([^/?#]+)$/.exec(url ?? "")?.[1] ?? null;
  return { id, reference: { id, url, mimeType: null, sha256: null, fileName: textOf(message.fileName) } };
}

function contentOf(said: string, message: JsonObject): Told {
  const type = MEDIA[said];
  if (type !== undefined) {
    const { id, reference } = mediaOf(message);
    const caption = textOf(message.caption);
    const content = {
      ...(id === null ? {} : { id }),
      ...(reference.url === null ? {} : { url: reference.url }),
      ...(caption === null ? {} : { caption }),
      // A document's caption is often its name, and nothing else tells it.
      ...(reference.fileName === null ? {} : { filename: reference.fileName }),
      ...(said === "VOICE" ? { voice: true } : {}),
    };
    return { type, content, media: reference };
  }
  switch (said) {
    case "TEXT":
      return { type: "text", content: { body: textOf(message.text) ?? "" } };
    case "LOCATION": {
      const { type: _type, context: _context, referral: _referral, ...place } = message;
      return { type: "location", content: place };
    }
    case "CONTACT":
      return { type: "contacts", content: { contacts: listOf(message.contacts).map(cardOf) } };
    case "BUTTON":
      return { type: "button", content: { text: message.text, payload: message.payload } };
    case "INTERACTIVE_BUTTON_REPLY":
      return interactive("button_reply", { id: message.id, title: message.title });
    case "INTERACTIVE_LIST_REPLY":
      return interactive("list_reply", { id: message.id, title: message.title, description: message.description });
    case "INTERACTIVE_FLOW_REPLY":
      return interactive("nfm_reply", {
        name: "flow",
        body: message.text,
        response_json: JSON.stringify(message.response ?? {}),
      });
    case "INTERACTIVE_CALL_PERMISSION_REPLY":
      return interactive("call_permission_reply", objectOf(message.callPermissionReply));
    case "INTERACTIVE_IN_THREAD_AUTHENTICATION_REPLY":
      return interactive("in_thread_authentication_reply", objectOf(message.inThreadAuthenticationReply));
    case "INTERACTIVE_PAYMENT_CONFIRMATION":
    case "INTERACTIVE_PAYMENT_ACKNOWLEDGEMENT": {
      const { type: _type, context: _context, ...payload } = message;
      return interactive(said.replace("INTERACTIVE_", "").toLowerCase(), payload);
    }
    case "ORDER":
      return {
        type: "order",
        content: {
          catalog_id: message.catalogId,
          text: message.text,
          product_items: listOf(message.productItems).map((item) => {
            const { productRetailerId, itemPrice, ...rest } = objectOf(item);
            return { ...rest, product_retailer_id: productRetailerId, item_price: itemPrice };
          }),
        },
      };
    // What was infected was never passed on, and what WhatsApp cannot show neither.
    case "INFECTED_CONTENT":
      return { type: "unsupported", content: { errors: [{ title: textOf(message.malware) ?? "Infected content" }] } };
    default: {
      const { type: _type, ...rest } = message;
      return { type: "unsupported", content: { ...rest, provider_type: said } };
    }
  }
}

function interactive(kind: string, reply: JsonObject): Told {
  const told = Object.fromEntries(Object.entries(reply).filter(([, value]) => value !== undefined));
  return { type: "interactive", content: { type: kind, [kind]: told } };
}

function cardOf(card: unknown): JsonObject {
  const { name, phones, addresses, ...rest } = objectOf(card);
  const names = objectOf(name);
  const named: JsonObject = {
    formatted_name: names.formattedName,
    first_name: names.firstName,
    last_name: names.lastName,
    middle_name: names.middleName,
    prefix: names.namePrefix,
    suffix: names.nameSuffix,
  };
  return {
    ...rest,
    name: Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined)),
    phones: listOf(phones).map((phone) => {
      const { waId, ...said } = objectOf(phone);
      return waId === undefined ? said : { ...said, wa_id: digitsOf(waId) };
    }),
    addresses: listOf(addresses).map((address) => {
      const { countryCode, ...said } = objectOf(address);
      return countryCode === undefined ? said : { ...said, country_code: countryCode };
    }),
  };
}

function referralOf(value: unknown): JsonObject | null {
  const said = objectOf(value);
  if (Object.keys(said).length === 0) return null;
  const { sourceType, sourceId, sourceUrl, ctwaClickId, referralMedia, ...rest } = said;
  const named: JsonObject = {
    ...rest,
    source_type: textOf(sourceType)?.toLowerCase(),
    source_id: sourceId,
    source_url: sourceUrl,
    ctwa_clid: ctwaClickId,
    media: referralMedia,
  };
  return Object.fromEntries(Object.entries(named).filter(([, one]) => one !== undefined));
}
