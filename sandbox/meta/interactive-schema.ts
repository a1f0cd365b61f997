import { z } from "zod";

const httpUrl = z.url({ protocol: /^https?$/, error: "is not a valid URI." });

const media = z
  .strictObject({ id: z.string().regex(/^\d+$/).optional(), link: httpUrl.optional(), filename: z.string().optional() })
  .refine((source) => (source.id === undefined) !== (source.link === undefined), {
    error: "must name exactly one of 'id' and 'link'.",
  });

const textHeader = z.strictObject({ type: z.literal("text"), text: z.string().min(1).max(60) });

const anyHeader = z.discriminatedUnion("type", [
  textHeader,
  z.strictObject({ type: z.literal("image"), image: media }),
  z.strictObject({ type: z.literal("video"), video: media }),
  z.strictObject({ type: z.literal("document"), document: media }),
]);

const body = z.strictObject({ text: z.string().min(1).max(1024) });
const footer = z.strictObject({ text: z.string().min(1).max(60) }).optional();

function unique<T>(items: readonly T[], key: (item: T) => string): boolean {
  return new Set(items.map(key)).size === items.length;
}

const replyButton = z.strictObject({
  type: z.literal("reply"),
  reply: z.strictObject({ id: z.string().min(1).max(256), title: z.string().min(1).max(20) }),
});

const button = z.strictObject({
  type: z.literal("button"),
  header: anyHeader.optional(),
  body,
  footer,
  action: z.strictObject({
    buttons: z
      .array(replyButton)
      .min(1)
      .max(3)
      .refine((buttons) => unique(buttons, ({ reply }) => reply.id), { error: "must have different ids." })
      .refine((buttons) => unique(buttons, ({ reply }) => reply.title), { error: "must have different titles." }),
  }),
});

const listSection = z.strictObject({
  title: z.string().min(1).max(24).optional(),
  rows: z
    .array(
      z.strictObject({
        id: z.string().min(1).max(200),
        title: z.string().min(1).max(24),
        description: z.string().max(72).optional(),
      }),
    )
    .min(1)
    .max(10),
});

const list = z.strictObject({
  type: z.literal("list"),
  header: textHeader.optional(),
  body,
  footer,
  action: z.strictObject({
    button: z.string().min(1).max(20),
    sections: z
      .array(listSection)
      .min(1)
      .max(10)
      .refine((sections) => sections.flatMap(({ rows }) => rows).length <= 10, {
        error: "must have 10 rows in total at most.",
      })
      .refine(
        (sections) =>
          unique(
            sections.flatMap(({ rows }) => rows),
            ({ id }) => id,
          ),
        { error: "must have different row ids." },
      )
      .refine((sections) => sections.length === 1 || sections.every(({ title }) => title !== undefined), {
        error: "must each have a title when there is more than one.",
      }),
  }),
});

const ctaUrl = z.strictObject({
  type: z.literal("cta_url"),
  header: anyHeader.optional(),
  body,
  footer,
  action: z.strictObject({
    name: z.literal("cta_url"),
    parameters: z.strictObject({ display_text: z.string().min(1).max(20), url: httpUrl }),
  }),
});

const flow = z.strictObject({
  type: z.literal("flow"),
  header: anyHeader.optional(),
  body,
  footer,
  action: z.strictObject({
    name: z.literal("flow"),
    parameters: z
      .strictObject({
        flow_message_version: z.literal("3"),
        flow_id: z.string().min(1).optional(),
        flow_name: z.string().min(1).optional(),
        flow_cta: z.string().min(1).max(30),
        flow_token: z.string().optional(),
        flow_action: z.enum(["navigate", "data_exchange"]).optional(),
        flow_action_payload: z
          .strictObject({ screen: z.string().min(1), data: z.record(z.string(), z.unknown()).optional() })
          .optional(),
        mode: z.enum(["draft", "published"]).optional(),
      })
      .refine(({ flow_id, flow_name }) => (flow_id === undefined) !== (flow_name === undefined), {
        error: "must name exactly one of 'flow_id' and 'flow_name'.",
      }),
  }),
});

const locationRequest = z.strictObject({
  type: z.literal("location_request_message"),
  body,
  action: z.strictObject({ name: z.literal("send_location") }),
});

/** Kinds the product does not send yet: their frame is checked, what is inside `action` is not. */
const otherKinds = z.strictObject({
  type: z.enum([
    "product",
    "product_list",
    "catalog_message",
    "call_permission_request",
    "carousel",
    "request_contact_info",
  ]),
  header: anyHeader.optional(),
  body: body.optional(),
  footer,
  action: z.looseObject({}),
});

export const interactivePart = z.discriminatedUnion("type", [button, list, ctaUrl, flow, locationRequest, otherKinds]);
