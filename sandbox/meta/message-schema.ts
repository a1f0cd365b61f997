import { z } from "zod";
import { interactivePart } from "./interactive-schema";

const caption = z.string().max(1024).optional();

const httpUrl = z.url({ protocol: /^https?$/, error: "is not a valid URI." });

/** Media is named by the id of an upload or by a link, never both. */
const mediaSource = {
  id: z.string().regex(/^\d+$/, "must be a numeric media id.").optional(),
  link: httpUrl.optional(),
};

function oneSource<T extends z.ZodType<{ id?: string; link?: string }>>(schema: T): T {
  return schema.refine((media) => (media.id === undefined) !== (media.link === undefined), {
    error: "must name exactly one of 'id' and 'link'.",
  });
}

/** `header` media of interactive messages and of template parameters. */
const imageMedia = oneSource(z.strictObject(mediaSource));
const documentMedia = oneSource(z.strictObject({ ...mediaSource, filename: z.string().max(240).optional() }));

const coordinate = (limit: number) => z.coerce.number().min(-limit).max(limit);

const contactCard = z.strictObject({
  name: z.strictObject({
    formatted_name: z.string().min(1),
    first_name: z.string().optional(),
    last_name: z.string().optional(),
    middle_name: z.string().optional(),
    suffix: z.string().optional(),
    prefix: z.string().optional(),
  }),
  phones: z
    .array(z.strictObject({ phone: z.string().optional(), type: z.string().optional(), wa_id: z.string().optional() }))
    .optional(),
  emails: z.array(z.strictObject({ email: z.string().optional(), type: z.string().optional() })).optional(),
  addresses: z.array(z.record(z.string(), z.string())).optional(),
  org: z
    .strictObject({
      company: z.string().optional(),
      department: z.string().optional(),
      title: z.string().optional(),
    })
    .optional(),
  urls: z.array(z.strictObject({ url: z.string().optional(), type: z.string().optional() })).optional(),
  birthday: z
    .string()
    .regex(/^\d{4}-\d{2}-\d{2}$/, "must look like YYYY-MM-DD.")
    .optional(),
});

const isOneEmoji = (text: string) =>
  [...new Intl.Segmenter("en", { granularity: "grapheme" }).segment(text)].length === 1 &&
  /\p{Extended_Pictographic}|\p{Regional_Indicator}|[#*0-9]\ufe0f?\u20e3/u.test(text);

const templateText = z.strictObject({
  type: z.literal("text"),
  text: z.string().min(1),
  parameter_name: z.string().optional(),
});

/** What may stand in a template's place for a variable. */
const templateParameter = z.discriminatedUnion("type", [
  templateText,
  z.strictObject({
    type: z.literal("currency"),
    currency: z.strictObject({ fallback_value: z.string(), code: z.string().length(3), amount_1000: z.number().int() }),
    parameter_name: z.string().optional(),
  }),
  z.strictObject({
    type: z.literal("date_time"),
    date_time: z.looseObject({ fallback_value: z.string() }),
    parameter_name: z.string().optional(),
  }),
  z.strictObject({ type: z.literal("image"), image: imageMedia }),
  z.strictObject({ type: z.literal("video"), video: imageMedia }),
  z.strictObject({ type: z.literal("document"), document: documentMedia }),
  z.strictObject({
    type: z.literal("location"),
    location: z.strictObject({
      latitude: coordinate(90),
      longitude: coordinate(180),
      name: z.string().optional(),
      address: z.string().optional(),
    }),
  }),
  z.strictObject({ type: z.literal("payload"), payload: z.string().min(1).max(256) }),
  z.strictObject({ type: z.literal("coupon_code"), coupon_code: z.string().min(1).max(20) }),
  z.strictObject({ type: z.literal("action"), action: z.looseObject({}) }),
]);

const buttonIndex = z.union([z.int().min(0).max(9), z.string().regex(/^[0-9]$/)]).transform(Number);

const templateComponent = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("header"), parameters: z.array(templateParameter).default([]) }),
  z.strictObject({ type: z.literal("body"), parameters: z.array(templateParameter).default([]) }),
  z.strictObject({
    type: z.literal("button"),
    sub_type: z
      .string()
      .transform((value) => value.toLowerCase())
      .pipe(z.enum(["quick_reply", "url", "flow", "catalog", "mpm", "copy_code"])),
    index: buttonIndex,
    parameters: z.array(templateParameter).default([]),
  }),
]);

export type TemplateParameter = z.output<typeof templateParameter>;
export type TemplateComponent = z.output<typeof templateComponent>;

const templatePart = z.strictObject({
  name: z.string().min(1).max(512),
  language: z.strictObject({ code: z.string().min(2), policy: z.literal("deterministic").optional() }),
  namespace: z.string().optional(),
  components: z.array(templateComponent).default([]),
});

export type TemplatePart = z.output<typeof templatePart>;

/** The object that stands under the name of its type, with the limits of Meta's reference. */
export const MESSAGE_PARTS = {
  text: z.strictObject({ body: z.string().min(1).max(4096), preview_url: z.boolean().optional() }),
  image: oneSource(z.strictObject({ ...mediaSource, caption })),
  video: oneSource(z.strictObject({ ...mediaSource, caption })),
  document: oneSource(z.strictObject({ ...mediaSource, caption, filename: z.string().max(240).optional() })),
  audio: oneSource(z.strictObject({ ...mediaSource, voice: z.boolean().optional() })),
  sticker: oneSource(z.strictObject(mediaSource)),
  location: z.strictObject({
    latitude: coordinate(90),
    longitude: coordinate(180),
    name: z.string().optional(),
    address: z.string().optional(),
  }),
  contacts: z.array(contactCard).min(1).max(257),
  reaction: z.strictObject({
    message_id: z.string().min(1),
    emoji: z.string().refine((text) => text === "" || isOneEmoji(text), { error: "must be one emoji." }),
  }),
  interactive: interactivePart,
  template: templatePart,
} as const;

export type MessageType = keyof typeof MESSAGE_PARTS;

export function isMessageType(type: string): type is MessageType {
  return Object.hasOwn(MESSAGE_PARTS, type);
}

/** What stands around the part of the type. Unknown members are ignored here, as Meta does at the top level only. */
export const messageFrame = z.object({
  messaging_product: z.literal("whatsapp"),
  recipient_type: z.enum(["individual", "group"]).default("individual"),
  to: z.string().min(1).optional(),
  recipient: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,150}$/, "is not a valid user id.")
    .optional(),
  type: z.string().default("text"),
  context: z.strictObject({ message_id: z.string().min(1) }).optional(),
  biz_opaque_callback_data: z.string().max(512).optional(),
  recipient_identity_key_hash: z.string().optional(),
});

/** `status: read`, which the same address takes; the typing indicator rides on it. */
export const readReceipt = z.strictObject({
  messaging_product: z.literal("whatsapp"),
  status: z.literal("read"),
  message_id: z.string().min(1),
  typing_indicator: z.strictObject({ type: z.literal("text") }).optional(),
});
