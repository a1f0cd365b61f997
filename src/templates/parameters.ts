/** What a template message may give for a variable, a header or a button (facts 1.3). */
import { z } from "zod";
import { uuidSchema } from "../platform/ids";

const httpUrl = z.url({ protocol: /^https?$/, error: "Must be an http or https address" }).max(2000);
const filled = (max: number) => z.string().min(1, "Must not be empty").max(max, `Must have at most ${max} characters`);

/** Media of a header: uploaded here, uploaded at the provider, or at an address. */
const media = z
  .object({
    media_id: uuidSchema.optional(),
    id: z.string().regex(/^\d+$/, "Must be the provider's id: digits").optional(),
    link: httpUrl.optional(),
    filename: filled(240).optional(),
  })
  .refine(
    ({ media_id, id, link }) => [media_id, id, link].filter((source) => source !== undefined).length === 1,
    "Exactly one of media_id, id and link is needed",
  );
const picture = media.transform(({ filename: _, ...rest }) => rest);

const parameterName = z.string().min(1).max(100).optional();

export const parameter = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("text"),
    text: z.preprocess((value) => (typeof value === "number" ? String(value) : value), filled(4096)),
    parameter_name: parameterName,
  }),
  z.object({
    type: z.literal("currency"),
    currency: z.object({
      fallback_value: filled(100),
      code: z.string().length(3, "Must be a code of three letters"),
      amount_1000: z.int(),
    }),
    parameter_name: parameterName,
  }),
  z.object({
    type: z.literal("date_time"),
    date_time: z.object({ fallback_value: filled(100) }),
    parameter_name: parameterName,
  }),
  z.object({ type: z.literal("image"), image: picture }),
  z.object({ type: z.literal("video"), video: picture }),
  z.object({ type: z.literal("document"), document: media }),
  z.object({
    type: z.literal("location"),
    location: z.object({
      latitude: z.number().min(-90, "Must be from -90 to 90").max(90, "Must be from -90 to 90"),
      longitude: z.number().min(-180, "Must be from -180 to 180").max(180, "Must be from -180 to 180"),
      name: filled(1000).optional(),
      address: filled(1000).optional(),
    }),
  }),
  z.object({ type: z.literal("payload"), payload: filled(256) }),
  z.object({ type: z.literal("coupon_code"), coupon_code: filled(20) }),
  z.object({ type: z.literal("action"), action: z.record(z.string(), z.unknown()) }),
]);

export type Parameter = z.output<typeof parameter>;

/** Parameters that stand in a text, by place or by name. */
export function isTextual(value: Parameter): value is Extract<Parameter, { parameter_name?: string | undefined }> {
  return value.type === "text" || value.type === "currency" || value.type === "date_time";
}

/** How a parameter reads where it is shown as text; null for what is no text. */
export function textOf(given: Parameter): string | null {
  switch (given.type) {
    case "text":
      return given.text;
    case "currency":
      return given.currency.fallback_value;
    case "date_time":
      return given.date_time.fallback_value;
    default:
      return null;
  }
}
