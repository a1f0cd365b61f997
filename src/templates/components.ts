/**
 * The two forms of a template's components: the documented one (objects by key `header`, `body`, `footer`, `buttons`),
 * which is stored, and the provider's list of `{type, …}`. Whatever the provider has beyond the four keeps its key.
 */
import { z } from "zod";

export type Components = Record<string, unknown>;
type Json = Record<string, unknown>;

const ORDER = ["header", "body", "footer", "buttons"];

/** The provider's list, in the order in which a message shows them. */
export function toProviderList(components: Components): Json[] {
  const keys = [...ORDER, ...Object.keys(components).filter((key) => !ORDER.includes(key))];
  return keys.flatMap((key) => {
    const value = components[key];
    if (value === undefined || value === null) return [];
    const members = key === "buttons" ? { buttons: value } : typeof value === "object" ? value : {};
    return [{ type: key.toUpperCase(), ...members }];
  });
}

/** The documented form of the provider's list. */
export function fromProviderList(list: readonly Json[]): Components {
  return Object.fromEntries(
    list.flatMap(({ type, ...members }) => {
      if (typeof type !== "string") return [];
      const key = type.toLowerCase();
      return [[key, key === "buttons" ? (members.buttons ?? []) : members]];
    }),
  );
}

const textOrNull = z.string().nullable().catch(null).default(null);
const texts = z.array(z.string()).catch([]).default([]);
const named = z
  .array(z.object({ param_name: z.string(), example: z.string() }))
  .catch([])
  .default([]);

const headerShape = z.object({
  format: z
    .string()
    .catch("TEXT")
    .default("TEXT")
    .transform((format) => format.toUpperCase()),
  text: textOrNull,
  example: z
    .object({ header_text: texts, header_text_named_params: named })
    .catch({ header_text: [], header_text_named_params: [] })
    .prefault({}),
});
const bodyShape = z.object({
  text: textOrNull,
  add_security_recommendation: z.boolean().catch(false).default(false),
  example: z
    .object({ body_text: z.array(texts).catch([]).default([]), body_text_named_params: named })
    .catch({ body_text: [], body_text_named_params: [] })
    .prefault({}),
});
const buttonShape = z.object({
  type: z
    .string()
    .catch("")
    .transform((type) => type.toUpperCase()),
  text: textOrNull,
  url: textOrNull,
  phone_number: textOrNull,
  example: z
    .union([z.array(z.string()), z.string().transform((one) => [one])])
    .catch([])
    .default([]),
});

/** What code needs to know of stored components. What is not there, or has another form, is as if it were left out. */
const shapeSchema = z.object({
  header: headerShape.nullable().catch(null).default(null),
  body: bodyShape.catch(bodyShape.parse({})).prefault({}),
  footer: z
    .object({ text: textOrNull, code_expiration_minutes: z.number().nullable().catch(null).default(null) })
    .nullable()
    .catch(null)
    .default(null),
  buttons: z.array(buttonShape).catch([]).default([]),
});

export type Shape = z.output<typeof shapeSchema>;

export function shapeOf(components: Components): Shape {
  return shapeSchema.parse(components);
}

/** Components that a send must name and nobody here can check: their parameters go to the provider as they are. */
export function uncheckedKeys(components: Components): string[] {
  return Object.keys(components).filter((key) => key === "carousel" || key === "limited_time_offer");
}

/** Trimmed after matching: white space around a lazy group takes a regular expression cubic time. */
const VARIABLE = /\{\{([^{}]*)\}\}/g;

/** The different variables of a text: numbers in their order, names in the order in which they stand. */
export function variablesOf(text: string | null): string[] {
  const found = [...new Set(Array.from((text ?? "").matchAll(VARIABLE), (match) => (match[1] ?? "").trim()))];
  return found.every((name) => /^\d+$/.test(name)) ? found.sort((a, b) => Number(a) - Number(b)) : found;
}

/** The text with its variables filled in; one without a value stays as it is. */
export function fillText(text: string, values: ReadonlyMap<string, string>): string {
  return text.replaceAll(VARIABLE, (whole, name: string) => values.get(name.trim()) ?? whole);
}

/** Named when a variable of header or body is no number (contract 17: the format follows from the text). */
export function parameterFormatOf(components: Components): "POSITIONAL" | "NAMED" {
  const { header, body } = shapeOf(components);
  const variables = [...variablesOf(header?.text ?? null), ...variablesOf(body.text)];
  return variables.some((name) => !/^\d+$/.test(name)) ? "NAMED" : "POSITIONAL";
}

/** A value that shows a reviewer what kind of thing stands in a variable's place. */
function sample(variable: string): string {
  return /^\d+$/.test(variable) ? `Sample ${variable}` : variable.replaceAll("_", " ") || "Sample";
}

interface Examples {
  positional: readonly string[];
  named: readonly { param_name: string; example: string }[];
}

/** The example of every variable: as given, else a generated one. */
export function examplesOf(variables: readonly string[], given: Examples): string[] {
  return variables.map(
    (name, place) =>
      given.named.find((example) => example.param_name === name)?.example ?? given.positional[place] ?? sample(name),
  );
}

/** The components with an example for every variable: the provider refuses one without (contract 17). */
export function withExamples(components: Components, format: "POSITIONAL" | "NAMED"): Components {
  const { header, body, buttons } = shapeOf(components);
  const full: Components = { ...components };
  const inHeader = variablesOf(header?.text ?? null);
  if (header?.format === "TEXT" && inHeader.length > 0) {
    const { header_text, header_text_named_params } = header.example;
    const values = examplesOf(inHeader, { positional: header_text, named: header_text_named_params });
    full.header = merged(components.header, {
      example:
        format === "NAMED" ? { header_text_named_params: namedExamples(inHeader, values) } : { header_text: values },
    });
  }
  const inBody = variablesOf(body.text);
  if (inBody.length > 0) {
    const { body_text, body_text_named_params } = body.example;
    const values = examplesOf(inBody, { positional: body_text[0] ?? [], named: body_text_named_params });
    full.body = merged(components.body, {
      example: format === "NAMED" ? { body_text_named_params: namedExamples(inBody, values) } : { body_text: [values] },
    });
  }
  if (Array.isArray(components.buttons)) {
    full.buttons = components.buttons.map((button: unknown, place) => {
      const shape = buttons[place];
      const example = shape && buttonExample(shape);
      return example === undefined ? button : merged(button, { example });
    });
  }
  return full;
}

function buttonExample(button: Shape["buttons"][number]): string | string[] | undefined {
  if (button.example.length > 0) return undefined;
  if (button.type === "COPY_CODE") return "SAMPLE10";
  if (button.type !== "URL" || button.url === null) return undefined;
  const variables = variablesOf(button.url);
  return variables.length === 0
    ? undefined
    : [fillText(button.url, new Map(variables.map((name) => [name, "sample"])))];
}

function namedExamples(names: readonly string[], values: readonly string[]): Json[] {
  return names.map((name, place) => ({ param_name: name, example: values[place] ?? sample(name) }));
}

function merged(value: unknown, members: Json): Json {
  return { ...(typeof value === "object" && value !== null ? value : {}), ...members };
}
