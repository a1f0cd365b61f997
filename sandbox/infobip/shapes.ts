/** What Infobip takes (facts 3.1), with its limits. */
import { z } from "zod";

const url = z.url({ protocol: /^https?$/ }).max(2048);
const caption = z.string().max(3000).optional();
const body = z.strictObject({ text: z.string().min(1).max(1024) });
const footer = z.strictObject({ text: z.string().min(1).max(60) }).optional();
const header = z
  .discriminatedUnion("type", [
    z.strictObject({ type: z.literal("TEXT"), text: z.string().min(1).max(60) }),
    z.strictObject({ type: z.literal("IMAGE"), mediaUrl: url }),
    z.strictObject({ type: z.literal("VIDEO"), mediaUrl: url }),
    z.strictObject({ type: z.literal("DOCUMENT"), mediaUrl: url, filename: z.string().max(240).optional() }),
  ])
  .optional();

const row = z.strictObject({
  id: z.string().min(1).max(200),
  title: z.string().min(1).max(24),
  description: z.string().max(72).optional(),
});

/** Content by path below `/whatsapp/1/message`. */
export const CONTENTS: Readonly<Record<string, z.ZodType>> = {
  text: z.strictObject({ text: z.string().min(1).max(4096), previewUrl: z.boolean().optional() }),
  image: z.strictObject({ mediaUrl: url, caption }),
  video: z.strictObject({ mediaUrl: url, caption }),
  document: z.strictObject({ mediaUrl: url, caption, filename: z.string().max(240).optional() }),
  audio: z.strictObject({ mediaUrl: url, voice: z.boolean().optional() }),
  sticker: z.strictObject({ mediaUrl: url }),
  location: z.strictObject({
    latitude: z.number().min(-90).max(90),
    longitude: z.number().min(-180).max(180),
    name: z.string().max(1000).optional(),
    address: z.string().max(1000).optional(),
  }),
  contact: z.strictObject({
    contacts: z
      .array(
        z.looseObject({
          name: z.looseObject({ firstName: z.string().min(1), formattedName: z.string().min(1) }),
          phones: z.array(z.strictObject({ phone: z.string(), type: kind(), waId: z.string().optional() })).optional(),
        }),
      )
      .min(1),
  }),
  "interactive/buttons": z.strictObject({
    header,
    body,
    footer,
    action: z.strictObject({
      buttons: z
        .array(
          z.strictObject({
            type: z.literal("REPLY"),
            id: z.string().min(1).max(256),
            title: z.string().min(1).max(20),
          }),
        )
        .min(1)
        .max(3),
    }),
  }),
  "interactive/list": z.strictObject({
    header,
    body,
    footer,
    action: z.strictObject({
      title: z.string().min(1).max(20),
      sections: z
        .array(z.strictObject({ title: z.string().max(24).optional(), rows: z.array(row).min(1) }))
        .min(1)
        .max(10),
    }),
  }),
  "interactive/url-button": z.strictObject({
    header,
    body,
    footer,
    action: z.strictObject({ displayText: z.string().min(1).max(20), url }),
  }),
  "interactive/flow": z.strictObject({
    header,
    body,
    footer,
    action: z.looseObject({
      mode: z.enum(["PUBLISHED", "DRAFT"]),
      flowMessageVersion: z.literal(3),
      flowId: z.string(),
      callToActionButton: z.string(),
      flowAction: z.enum(["NAVIGATE", "DATA_EXCHANGE"]),
    }),
  }),
  "interactive/location-request": z.strictObject({ body }),
  template: z.strictObject({
    templateName: z.string().min(1),
    templateData: z.looseObject({ body: z.strictObject({ placeholders: z.array(z.string()) }) }),
    language: z.string().min(1),
  }),
};

function kind() {
  return z.enum(["CELL", "MAIN", "IPHONE", "HOME", "WORK"]).optional();
}

/** What every message carries around its content. */
export const frame = z.strictObject({
  from: z.string().regex(/^\d{3,24}$/),
  to: z.string().min(1).max(150),
  messageId: z.string().min(1).max(100).optional(),
  content: z.unknown(),
  callbackData: z.string().max(4000).optional(),
  notifyUrl: z.string().optional(),
  context: z.strictObject({ replyToMessageId: z.string().min(1) }).optional(),
});

export type Frame = z.output<typeof frame>;

export const subscription = z.object({
  subscriptionId: z.string().min(1).max(255),
  events: z.array(z.string()),
  resources: z.array(z.string()).default([]),
  profile: z.object({
    profileId: z.string(),
    webhook: z.object({ notifyUrl: z.url() }).optional(),
    security: z
      .object({
        authId: z.string(),
        type: z.literal("BASIC"),
        credentials: z.object({ username: z.string(), password: z.string() }),
      })
      .optional(),
  }),
});
