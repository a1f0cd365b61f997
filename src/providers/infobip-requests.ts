/** Messages in Infobip's own shapes (facts 3.1). */
import { z } from "zod";
import { parseTemplateContent, templateData } from "./infobip-template-message";
import type { Recipient, SendLimit, SendRequest } from "./provider";
import { objectOf } from "./provider-json";

/** A send of Infobip's: where it is posted below `/whatsapp/1/message`, and with what. */
export interface InfobipMessage {
  path: readonly string[];
  content: Record<string, unknown>;
}

export type InfobipBody = ({ ok: true } & InfobipMessage) | { ok: false; reason: string };

const media = z.object({
  link: z.url(),
  caption: z.string().optional(),
  filename: z.string().optional(),
  voice: z.boolean().optional(),
});

const text = z.object({ body: z.string().min(1), preview_url: z.boolean().optional() });
const location = z.object({
  latitude: z.number(),
  longitude: z.number(),
  name: z.string().optional(),
  address: z.string().optional(),
});

/** Snake case of ours, camel case of theirs; kinds of phones and addresses in capitals. */
const cards = z.object({
  contacts: z
    .array(
      z
        .object({
          name: z.looseObject({
            formatted_name: z.string().min(1),
            first_name: z.string().optional(),
            last_name: z.string().optional(),
            middle_name: z.string().optional(),
            suffix: z.string().optional(),
            prefix: z.string().optional(),
          }),
          phones: z
            .array(z.object({ phone: z.string(), type: z.string().optional(), wa_id: z.string().optional() }))
            .optional(),
          emails: z.array(z.object({ email: z.string(), type: z.string().optional() })).optional(),
          urls: z.array(z.object({ url: z.string(), type: z.string().optional() })).optional(),
          addresses: z.array(z.record(z.string(), z.string())).optional(),
          org: z.record(z.string(), z.string()).optional(),
          birthday: z.string().optional(),
        })
        .transform(({ name, phones, emails, urls, addresses, org, birthday }) => ({
          name: {
            // Infobip needs a first name beside the whole one.
            firstName: name.first_name ?? name.formatted_name,
            lastName: name.last_name,
            middleName: name.middle_name,
            nameSuffix: name.suffix,
            namePrefix: name.prefix,
            formattedName: name.formatted_name,
          },
          phones: phones?.map(({ phone, type, wa_id: waId }) => ({ phone, type: type?.toUpperCase(), waId })),
          emails: emails?.map(({ email, type }) => ({ email, type: type?.toUpperCase() })),
          urls: urls?.map(({ url, type }) => ({ url, type: type?.toUpperCase() })),
          addresses: addresses?.map(({ country_code: countryCode, type, ...rest }) => ({
            ...rest,
            countryCode,
            type: type?.toUpperCase(),
          })),
          org,
          birthday,
        })),
    )
    .min(1),
});

const header = z.discriminatedUnion("type", [
  z.object({ type: z.literal("text"), text: z.string() }).transform(({ text: said }) => ({ type: "TEXT", text: said })),
  z
    .object({ type: z.literal("image"), image: media })
    .transform(({ image }) => ({ type: "IMAGE", mediaUrl: image.link })),
  z
    .object({ type: z.literal("video"), video: media })
    .transform(({ video }) => ({ type: "VIDEO", mediaUrl: video.link })),
  z
    .object({ type: z.literal("document"), document: media })
    .transform(({ document: file }) => ({ type: "DOCUMENT", mediaUrl: file.link, filename: file.filename })),
]);

const frame = {
  header: header.optional(),
  body: z.object({ text: z.string() }),
  footer: z.object({ text: z.string() }).optional(),
};

const interactive = z.discriminatedUnion("type", [
  z
    .object({
      type: z.literal("button"),
      ...frame,
      action: z.object({ buttons: z.array(z.object({ reply: z.object({ id: z.string(), title: z.string() }) })) }),
    })
    .transform(({ type: _type, action, ...rest }) => ({
      path: "buttons",
      content: { ...rest, action: { buttons: action.buttons.map(({ reply }) => ({ type: "REPLY", ...reply })) } },
    })),
  z
    .object({
      type: z.literal("list"),
      ...frame,
      action: z.object({ button: z.string(), sections: z.array(z.unknown()) }),
    })
    .transform(({ type: _type, action, ...rest }) => ({
      path: "list",
      content: { ...rest, action: { title: action.button, sections: action.sections } },
    })),
  z
    .object({
      type: z.literal("cta_url"),
      ...frame,
      action: z.object({ parameters: z.object({ display_text: z.string(), url: z.string() }) }),
    })
    .transform(({ type: _type, action: { parameters }, ...rest }) => ({
      path: "url-button",
      content: { ...rest, action: { displayText: parameters.display_text, url: parameters.url } },
    })),
  z
    .object({
      type: z.literal("flow"),
      ...frame,
      action: z.object({
        parameters: z.looseObject({
          flow_id: z.string(),
          flow_cta: z.string(),
          flow_token: z.string().optional(),
          flow_action: z.string().optional(),
          flow_action_payload: z.unknown().optional(),
          mode: z.string().optional(),
        }),
      }),
    })
    .transform(({ type: _type, action: { parameters }, ...rest }) => ({
      path: "flow",
      content: {
        ...rest,
        action: {
          mode: (parameters.mode ?? "published").toUpperCase(),
          flowMessageVersion: 3,
          flowToken: parameters.flow_token,
          flowId: parameters.flow_id,
          callToActionButton: parameters.flow_cta,
          flowAction: (parameters.flow_action ?? "navigate").toUpperCase(),
          flowActionPayload: parameters.flow_action_payload,
        },
      },
    })),
  z
    .object({ type: z.literal("location_request_message"), body: z.object({ text: z.string() }) })
    .transform(({ body }) => ({ path: "location-request", content: { body } })),
]);

/**
 * What Infobip lacks, whatever the file or text: it has no path for reactions, knows flows by id only and takes media
 * by address only (facts 3.1: 3.210 lists none).
 */
export function infobipSendLimit({
  type,
  content,
}: {
  type: string;
  content: Record<string, unknown>;
}): SendLimit | null {
  if (type === "reaction") {
    return { field: "emoji", limit: "none", reason: "Infobip cannot send reactions" };
  }
  if (type === "pin") return { field: "type", limit: "none", reason: "Infobip cannot pin messages" };
  if (typeof content.group_id === "string") {
    return { field: "to", limit: "none", reason: "Infobip cannot send to groups" };
  }
  if ((MEDIA.has(type) && isUploadOnly(content)) || (type === "interactive" && isUploadOnly(headerFile(content)))) {
    return { field: "media_id", limit: "link", reason: "Infobip takes media by address, not by an uploaded id" };
  }
  if (type === "template") return templateLimit(content);
  if (type !== "interactive" || "media_id" in headerFile(content) || interactive.safeParse(content).success)
    return null;
  const kind = typeof content.type === "string" ? content.type : "unknown";
  const named = "Infobip knows a flow by flow_id only";
  const reason = kind === "flow" ? named : `Infobip cannot send interactive messages of type ${kind}`;
  return { field: "interactive", limit: kind, reason };
}

/** Carousels and offers have no place in a template message of Infobip's. */
function templateLimit(content: Record<string, unknown>): SendLimit | null {
  const parsed = parseTemplateContent(content);
  const data = parsed.ok ? templateData(parsed.value) : parsed;
  // What names a file of ours is looked at when it has an address.
  if (data.ok || JSON.stringify(content).includes('"media_id"')) return null;
  return { field: "components", limit: "none", reason: data.reason };
}

/** A file that only an upload to Meta stands for. */
function isUploadOnly(file: Record<string, unknown>): boolean {
  return typeof file.id === "string" && typeof file.link !== "string" && !("media_id" in file);
}

/** The file in the header of an interactive message; empty where there is none. */
function headerFile(content: Record<string, unknown>): Record<string, unknown> {
  const { type, ...rest } = objectOf(content.header);
  return typeof type === "string" ? objectOf(rest[type]) : {};
}

const MEDIA = new Set(["image", "video", "audio", "document", "sticker"]);

/** The message as Infobip takes it, or why it cannot be sent. */
export function infobipMessage(request: SendRequest): InfobipBody {
  const { type, content } = request;
  const limit = infobipSendLimit(request);
  if (limit) return { ok: false, reason: limit.reason };
  switch (type) {
    case "text":
      return made(text.safeParse(content), ["text"], ({ body, preview_url }) => ({
        text: body,
        previewUrl: preview_url,
      }));
    case "image":
    case "video":
      return made(media.safeParse(content), [type], ({ link, caption }) => ({ mediaUrl: link, caption }));
    case "document":
      return made(media.safeParse(content), [type], ({ link, caption, filename }) => ({
        mediaUrl: link,
        caption,
        filename,
      }));
    case "audio":
      return made(media.safeParse(content), [type], ({ link, voice }) => ({ mediaUrl: link, voice }));
    case "sticker":
      return made(media.safeParse(content), [type], ({ link }) => ({ mediaUrl: link }));
    case "location":
      return made(location.safeParse(content), ["location"], (value) => value);
    case "contacts":
      return made(cards.safeParse(content), ["contact"], (value) => value);
    case "interactive": {
      const parsed = interactive.safeParse(content);
      if (!parsed.success) return { ok: false, reason: "The content is no interactive message that Infobip has" };
      return { ok: true, path: ["interactive", parsed.data.path], content: parsed.data.content };
    }
    case "template": {
      const parsed = parseTemplateContent(content);
      if (!parsed.ok) return parsed;
      const data = templateData(parsed.value);
      if (!data.ok) return data;
      return { ok: true, path: ["template"], content: data.value };
    }
    default:
      return { ok: false, reason: `Messages of type ${type} cannot be sent` };
  }
}

function made<T>(
  parsed: z.ZodSafeParseResult<T>,
  path: readonly string[],
  content: (value: T) => Record<string, unknown>,
): InfobipBody {
  if (!parsed.success) return { ok: false, reason: parsed.error.issues[0]?.message ?? "The content cannot be sent" };
  return { ok: true, path, content: content(parsed.data) };
}

/** `to` takes a number or a business-scoped user id. */
export function infobipRecipient({ phone, userId }: Recipient): string | null {
  return phone ?? userId;
}
