/** Bodies of the sends beyond text, each held to WhatsApp's own limits (facts 1.2), so that a 422 names the field. */
import { z } from "@hono/zod-openapi";
import { uuidSchema } from "../platform/ids";
import { sendBase } from "./schema";

const text = (max: number) => z.string().min(1, "Must not be empty").max(max, `Must have at most ${max} characters`);
const httpUrl = z.url({ protocol: /^https?$/, error: "Must be an http or https address" }).max(2000);

/** Degrees. */
const latitude = z.number().min(-90, "Must be from -90 to 90").max(90, "Must be from -90 to 90");
const longitude = z.number().min(-180, "Must be from -180 to 180").max(180, "Must be from -180 to 180");

export const sendLocationBody = sendBase
  .extend({ latitude, longitude, name: text(1000).optional(), address: text(1000).optional() })
  .openapi("SendLocation");

/** One emoji with its joiners and modifiers; nothing takes a reaction back. */
const emoji = z
  .string()
  .max(50)
  .refine(
    (value) =>
      value === "" ||
      (/\p{Extended_Pictographic}|\p{Regional_Indicator}|[#*0-9]\u{FE0F}?\u{20E3}/u.test(value) &&
        [...new Intl.Segmenter().segment(value)].length === 1),
    "Must be one emoji, or empty to take the reaction back",
  );

export const sendReactionBody = sendBase
  .omit({ reply_to: true })
  .extend({
    message_id: z
      .string()
      .min(1)
      .max(200)
      .openapi({ description: "The message reacted to: our id or the provider's." }),
    emoji,
  })
  .openapi("SendReaction");

const mediaHeader = z
  .object({
    media_id: uuidSchema.optional(),
    id: z.string().regex(/^\d+$/).optional(),
    link: httpUrl.optional(),
    filename: text(240).optional(),
  })
  .refine(
    ({ media_id, id, link }) => [media_id, id, link].filter((source) => source !== undefined).length === 1,
    "Exactly one of media_id, id and link is needed",
  );
const textHeader = z.object({ type: z.literal("text"), text: text(60) });
const header = z.discriminatedUnion("type", [
  textHeader,
  z.object({ type: z.literal("image"), image: mediaHeader }),
  z.object({ type: z.literal("video"), video: mediaHeader }),
  z.object({ type: z.literal("document"), document: mediaHeader }),
]);
const frame = { body: z.object({ text: text(1024) }), footer: z.object({ text: text(60) }).optional() };

function distinct<T>(items: readonly T[], key: (item: T) => string): boolean {
  return new Set(items.map(key)).size === items.length;
}

const buttons = z.object({
  type: z.literal("button"),
  header: header.optional(),
  ...frame,
  action: z.object({
    buttons: z
      .array(
        z.object({ type: z.literal("reply").default("reply"), reply: z.object({ id: text(256), title: text(20) }) }),
      )
      .min(1, "Needs at least one button")
      .max(3, "Takes at most 3 buttons")
      .refine((list) => distinct(list, (b) => b.reply.id), "Buttons need different ids")
      .refine((list) => distinct(list, (b) => b.reply.title), "Buttons need different titles"),
  }),
});

const list = z.object({
  type: z.literal("list"),
  header: textHeader.optional(),
  ...frame,
  action: z.object({
    button: text(20),
    sections: z
      .array(
        z.object({
          title: text(24).optional(),
          rows: z
            .array(z.object({ id: text(200), title: text(24), description: text(72).optional() }))
            .min(1, "Needs at least one row"),
        }),
      )
      .min(1, "Needs at least one section")
      .max(10, "Takes at most 10 sections")
      .refine((sections) => sections.flatMap((s) => s.rows).length <= 10, "Takes at most 10 rows in total")
      .refine(
        (sections) =>
          distinct(
            sections.flatMap((s) => s.rows),
            (row) => row.id,
          ),
        "Rows need different ids",
      )
      .refine(
        (sections) => sections.length === 1 || sections.every((s) => s.title !== undefined),
        "Several sections each need a title",
      ),
  }),
});

const ctaUrl = z.object({
  type: z.literal("cta_url"),
  header: header.optional(),
  ...frame,
  action: z.object({
    name: z.literal("cta_url").default("cta_url"),
    parameters: z.object({ display_text: text(20), url: httpUrl }),
  }),
});

const flow = z.object({
  type: z.literal("flow"),
  header: header.optional(),
  ...frame,
  action: z.object({
    name: z.literal("flow").default("flow"),
    parameters: z
      .object({
        flow_message_version: z.literal("3").default("3"),
        flow_id: text(100).optional(),
        flow_name: text(200).optional(),
        flow_cta: text(30),
        flow_token: text(200).optional(),
        flow_action: z.enum(["navigate", "data_exchange"]).optional(),
        flow_action_payload: z
          .object({ screen: text(200), data: z.record(z.string(), z.unknown()).optional() })
          .optional(),
        mode: z.enum(["draft", "published"]).optional(),
      })
      .refine(
        (p) => (p.flow_id === undefined) !== (p.flow_name === undefined),
        "Exactly one of flow_id and flow_name is needed",
      ),
  }),
});

const locationRequest = z.object({
  type: z.literal("location_request_message"),
  body: z.object({ text: text(1024) }),
  action: z.object({ name: z.literal("send_location").default("send_location") }).prefault({}),
});

export const sendInteractiveBody = sendBase
  .extend({ interactive: z.discriminatedUnion("type", [buttons, list, ctaUrl, flow, locationRequest]) })
  .openapi("SendInteractive");

const kind = z.string().max(40).optional();
const card = z.object({
  name: z.object({
    formatted_name: text(200),
    first_name: text(100).optional(),
    last_name: text(100).optional(),
    middle_name: text(100).optional(),
    suffix: text(40).optional(),
    prefix: text(40).optional(),
  }),
  phones: z
    .array(
      z.object({
        phone: text(40),
        type: kind,
        wa_id: z
          .string()
          .regex(/^\d{1,20}$/, "Must be digits")
          .optional(),
      }),
    )
    .max(20)
    .optional(),
  emails: z
    .array(z.object({ email: z.email("Invalid email format"), type: kind }))
    .max(20)
    .optional(),
  urls: z
    .array(z.object({ url: httpUrl, type: kind }))
    .max(20)
    .optional(),
  addresses: z
    .array(
      z.object({
        street: text(200).optional(),
        city: text(100).optional(),
        state: text(100).optional(),
        zip: text(20).optional(),
        country: text(100).optional(),
        country_code: text(2).optional(),
        type: kind,
      }),
    )
    .max(20)
    .optional(),
  org: z
    .object({ company: text(200).optional(), department: text(200).optional(), title: text(200).optional() })
    .optional(),
  birthday: z.iso.date("Must be a date such as 1990-01-31").optional(),
});

/** WhatsApp takes up to 257 cards; a few fit the purpose and the row. */
export const sendContactsBody = sendBase
  .extend({ contacts: z.array(card).min(1, "Needs at least one contact").max(50, "Takes at most 50 contacts") })
  .openapi("SendContacts");
