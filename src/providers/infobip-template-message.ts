/** A template message in Infobip's shape: its parameters by place, without Meta's components. */
import { z } from "zod";

type Json = Record<string, unknown>;

const file = z.looseObject({ link: z.url(), filename: z.string().optional() });

const parameter = z.looseObject({
  type: z.string(),
  text: z.string().optional(),
  payload: z.string().optional(),
  coupon_code: z.string().optional(),
  parameter_name: z.string().optional(),
  currency: z.looseObject({ fallback_value: z.string() }).optional(),
  date_time: z.looseObject({ fallback_value: z.string() }).optional(),
  image: file.optional(),
  video: file.optional(),
  document: file.optional(),
  location: z.looseObject({ latitude: z.coerce.number(), longitude: z.coerce.number() }).optional(),
  action: z.looseObject({ flow_token: z.string().optional() }).optional(),
});

type Parameter = z.output<typeof parameter>;

const templateSchema = z.object({
  name: z.string().min(1),
  language: z.object({ code: z.string().min(1) }),
  components: z
    .array(
      z.looseObject({
        type: z.string(),
        sub_type: z.string().optional(),
        index: z.coerce.number().int().optional(),
        parameters: z.array(parameter).default([]),
      }),
    )
    .default([]),
});

type TemplateMessage = z.output<typeof templateSchema>;

type Read<T> = { ok: true; value: T } | { ok: false; reason: string };

export function parseTemplateContent(content: Json): Read<TemplateMessage> {
  const parsed = templateSchema.safeParse(content);
  if (!parsed.success) return { ok: false, reason: "The content is no template message that Infobip has" };
  return { ok: true, value: parsed.data };
}

/** `{templateName, templateData, language}`. What Infobip has no place for (carousels, offers) is a refusal. */
export function templateData({ name, language, components }: TemplateMessage): Read<Json> {
  const data: Json = { body: { placeholders: [] } };
  const buttons: { index: number; button: Json }[] = [];
  for (const { type, sub_type, index, parameters } of components) {
    switch (type.toLowerCase()) {
      case "body":
        data.body = { placeholders: parameters.map(textOf) };
        break;
      case "header": {
        const [first] = parameters;
        if (first) data.header = headerOf(first);
        break;
      }
      case "button":
        buttons.push({ index: index ?? buttons.length, button: buttonOf(sub_type ?? "", parameters[0]) });
        break;
      default:
        return { ok: false, reason: `Infobip cannot send the component ${type} of a template` };
    }
  }
  if (buttons.length > 0) data.buttons = buttons.sort((a, b) => a.index - b.index).map(({ button }) => button);
  return { ok: true, value: { templateName: name, templateData: data, language: language.code } };
}

function textOf(given: Parameter): string {
  return given.text ?? given.currency?.fallback_value ?? given.date_time?.fallback_value ?? given.payload ?? "";
}

function headerOf(given: Parameter): Json {
  const { image, video, document, location } = given;
  if (image) return { type: "IMAGE", mediaUrl: image.link };
  if (video) return { type: "VIDEO", mediaUrl: video.link };
  if (document) return { type: "DOCUMENT", mediaUrl: document.link, filename: document.filename ?? "document" };
  if (location) return { type: "LOCATION", latitude: location.latitude, longitude: location.longitude };
  return { type: "TEXT", placeholder: textOf(given) };
}

function buttonOf(subType: string, given: Parameter | undefined): Json {
  switch (subType.toLowerCase()) {
    case "quick_reply":
      return { type: "QUICK_REPLY", parameter: given?.payload ?? given?.text ?? "" };
    case "copy_code":
      return { type: "COPY_CODE", parameter: given?.coupon_code ?? given?.text ?? "" };
    case "flow":
      return { type: "FLOW", parameter: { flowToken: given?.action?.flow_token ?? "unused" } };
    default:
      return { type: "URL", parameter: given?.text ?? "" };
  }
}
