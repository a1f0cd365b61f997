/** A template as the person will read it. */
import { type Components, examplesOf, fillText, type Shape, shapeOf, variablesOf } from "./components";
import type { FillableTemplate, FilledTemplate } from "./fill";
import { type Parameter, textOf } from "./parameters";

export interface RenderedTemplate {
  header: { format: string; text: string | null; media: Record<string, unknown> | null } | null;
  body: string;
  footer: string | null;
  buttons: { type: string; text: string | null; url: string | null }[];
}

/** Fills a template in. Without parameters of a part, its variables stay as they are. */
export function renderTemplate(template: FillableTemplate, filled: FilledTemplate): RenderedTemplate {
  const shape = shapeOf(template.components);
  const text = bodyText(shape, template);
  return {
    header: shape.header && {
      format: shape.header.format,
      text: shape.header.text === null ? null : fillText(shape.header.text, valuesOf(shape.header.text, filled.header)),
      media: mediaOf(filled.header[0]),
    },
    body: fillText(text, valuesOf(text, filled.body)),
    footer: footerText(shape),
    buttons: shape.buttons.map((button, index) => {
      const given = filled.buttons.find((one) => one.index === index);
      const { url } = button;
      return {
        type: button.type,
        text: button.text,
        url: url === null ? null : fillText(url, valuesOf(url, given ? [given.parameter] : [])),
      };
    }),
  };
}

/** The parameters its examples would be; media have none. */
export function exampleParameters(template: FillableTemplate): FilledTemplate {
  const shape = shapeOf(template.components);
  const { header, body, buttons } = shape;
  const texts = (values: string[]): Parameter[] => values.map((text) => ({ type: "text", text }));
  const inHeader = header?.format === "TEXT" ? variablesOf(header.text) : [];
  return {
    header: header
      ? texts(
          examplesOf(inHeader, {
            positional: header.example.header_text,
            named: header.example.header_text_named_params,
          }),
        )
      : [],
    body: texts(
      examplesOf(variablesOf(bodyText(shape, template)), {
        positional: body.example.body_text[0] ?? [],
        named: body.example.body_text_named_params,
      }),
    ),
    buttons: buttons.flatMap((button, index) =>
      variablesOf(button.url).length === 0
        ? []
        : [{ index, subType: "url", parameter: { type: "text" as const, text: "sample" } }],
    ),
    others: [],
  };
}

/** The provider writes the text of authentication templates itself; until it has told it, this says what it will say. */
function bodyText({ body }: Shape, template: { category: string; components: Components }): string {
  if (body.text !== null || template.category !== "AUTHENTICATION") return body.text ?? "";
  const advice = body.add_security_recommendation ? " For your security, do not share this code." : "";
  return `{{1}} is your verification code.${advice}`;
}

function footerText({ footer }: Shape): string | null {
  if (footer === null || footer.text !== null) return footer?.text ?? null;
  const minutes = footer.code_expiration_minutes;
  return minutes === null ? null : `This code expires in ${minutes} minute${minutes === 1 ? "" : "s"}.`;
}

function valuesOf(text: string, parameters: readonly Parameter[]): Map<string, string> {
  const values = new Map<string, string>();
  for (const [place, name] of variablesOf(text).entries()) {
    const value = parameters[place] && textOf(parameters[place]);
    if (value !== undefined && value !== null) values.set(name, value);
  }
  return values;
}

function mediaOf(given: Parameter | undefined): Record<string, unknown> | null {
  switch (given?.type) {
    case "image":
      return given.image;
    case "video":
      return given.video;
    case "document":
      return given.document;
    case "location":
      return given.location;
    default:
      return null;
  }
}
