import { z } from "zod";
import { GraphError } from "./graph-error";

const namedExample = z.array(z.object({ param_name: z.string().min(1), example: z.string().min(1) }));

const header = z.object({
  type: z.literal("HEADER"),
  format: z.enum(["TEXT", "IMAGE", "VIDEO", "DOCUMENT", "LOCATION"]).default("TEXT"),
  text: z.string().optional(),
  example: z
    .object({
      header_text: z.array(z.string().min(1)).optional(),
      header_text_named_params: namedExample.optional(),
      header_handle: z.array(z.string().min(1)).optional(),
    })
    .optional(),
});

const body = z.object({
  type: z.literal("BODY"),
  text: z.string().optional(),
  add_security_recommendation: z.boolean().optional(),
  example: z
    .object({
      body_text: z.array(z.array(z.string().min(1))).optional(),
      body_text_named_params: namedExample.optional(),
    })
    .optional(),
});

const footer = z.object({
  type: z.literal("FOOTER"),
  text: z.string().optional(),
  code_expiration_minutes: z.int().min(1).max(90).optional(),
});

const button = z.looseObject({
  type: z.enum([
    "QUICK_REPLY",
    "URL",
    "PHONE_NUMBER",
    "OTP",
    "FLOW",
    "MPM",
    "CATALOG",
    "COPY_CODE",
    "REQUEST_CONTACT_INFO",
  ]),
  text: z.string().optional(),
  url: z.string().optional(),
  phone_number: z.string().optional(),
  example: z.union([z.string(), z.array(z.string())]).optional(),
});

const buttons = z.object({ type: z.literal("BUTTONS"), buttons: z.array(button) });

const components = z.array(z.discriminatedUnion("type", [header, body, footer, buttons]));

export type TemplateComponents = z.output<typeof components>;

const templateSchema = z.object({
  name: z.string(),
  language: z.string(),
  category: z.string(),
  parameter_format: z.string().default("POSITIONAL"),
  components: z.array(z.unknown()),
});

export interface TemplateDraft {
  name: string;
  language: string;
  category: string;
  parameterFormat: "POSITIONAL" | "NAMED";
  components: TemplateComponents;
}

const CATEGORIES = ["MARKETING", "UTILITY", "AUTHENTICATION"];
const upperTypes = (value: unknown): unknown =>
  typeof value === "object" && value !== null && "type" in value && typeof value.type === "string"
    ? { ...value, type: value.type.toUpperCase() }
    : value;

/** A refusal of a template, with the sub-code and the sentences Meta shows its user. */
function refused(subcode: number, title: string, message: string): GraphError {
  return new GraphError(100, { message: "Invalid parameter", subcode, userTitle: title, userMessage: message });
}

function badParameter(message: string): GraphError {
  return new GraphError(100, { message: `(#100) ${message}` });
}

/** Checks a new template. Throws the refusal of the first rule it breaks. */
export function parseTemplate(params: Record<string, unknown>): TemplateDraft {
  for (const name of ["name", "language", "category", "components"]) {
    if (params[name] === undefined) throw badParameter(`The parameter ${name} is required.`);
  }
  const parsed = templateSchema.safeParse(params);
  if (!parsed.success) throw badParameter(`Param ${String(parsed.error.issues[0]?.path[0])} is not valid.`);
  const { name, language, category, parameter_format } = parsed.data;
  if (!/^[a-z0-9_]{1,512}$/.test(name)) {
    throw badParameter("Param name must hold lower-case letters, digits and underscores only, 512 at most.");
  }
  if (!/^[a-z]{2,3}(_[A-Za-z]{2,4})?$/.test(language))
    throw badParameter(`Param language must be a known language - got "${language}".`);
  if (!CATEGORIES.includes(category))
    throw badParameter(`Param category must be one of {${CATEGORIES.join(", ")}} - got "${category}".`);
  if (parameter_format !== "POSITIONAL" && parameter_format !== "NAMED") {
    throw badParameter("Param parameter_format must be one of {POSITIONAL, NAMED}.");
  }
  const draft = {
    name,
    language,
    category,
    parameterFormat: parameter_format,
    components: parseComponents(parsed.data.components),
  } as const;
  checkComponents(draft);
  return draft;
}

/** Checks new components of a template that exists. */
export function parseEdit(current: TemplateDraft, params: Record<string, unknown>): TemplateDraft {
  const category = params.category ?? current.category;
  if (typeof category !== "string" || !CATEGORIES.includes(category)) {
    throw badParameter(`Param category must be one of {${CATEGORIES.join(", ")}}.`);
  }
  const edited = {
    ...current,
    category,
    components: params.components === undefined ? current.components : parseComponents(params.components),
  };
  checkComponents(edited);
  return edited;
}

function parseComponents(value: unknown): TemplateComponents {
  const parsed = components.safeParse(Array.isArray(value) ? value.map(upperTypes) : value);
  if (!parsed.success) {
    const path = parsed.error.issues[0]?.path.map(
      (part) => `[${typeof part === "number" ? part : `'${String(part)}'`}]`,
    );
    throw badParameter(`Param components${path?.join("") ?? ""} is not valid.`);
  }
  return parsed.data;
}

function checkComponents(template: TemplateDraft): void {
  const types = template.components.map(({ type }) => type);
  if (new Set(types).size !== types.length) throw badParameter("Param components must hold each type once.");
  if (!types.includes("BODY")) throw badParameter("Param components must hold a BODY.");
  for (const component of template.components) {
    switch (component.type) {
      case "HEADER":
        checkHeader(component, template);
        break;
      case "BODY":
        checkBody(component, template);
        break;
      case "FOOTER":
        checkText(component.text ?? "", 60, 2388073, "footer", template.category !== "AUTHENTICATION");
        if (variablesOf(component.text ?? "").length > 0) {
          throw refused(2388073, "Footer format is incorrect", "The footer cannot hold variables.");
        }
        break;
      case "BUTTONS":
        checkButtons(component.buttons);
        break;
    }
  }
}

function checkHeader(component: z.output<typeof header>, template: TemplateDraft): void {
  if (component.format === "LOCATION") return;
  if (component.format !== "TEXT") {
    if (!component.example?.header_handle?.length) {
      throw refused(
        2388273,
        "Sample is missing",
        "A media header needs an example with the handle of an uploaded file.",
      );
    }
    return;
  }
  checkText(component.text ?? "", 60, 2388047, "header", true);
  const variables = variablesOf(component.text ?? "");
  if (variables.length > 1)
    throw refused(2388047, "Header format is incorrect", "A header can hold one variable only.");
  checkVariables(variables, template.parameterFormat, {
    positional: component.example?.header_text,
    named: component.example?.header_text_named_params?.map(({ param_name }) => param_name),
  });
}

function checkBody(component: z.output<typeof body>, template: TemplateDraft): void {
  // The text of an authentication template is Meta's own.
  if (template.category === "AUTHENTICATION") return;
  const text = component.text ?? "";
  checkText(text, 1024, 2388072, "body", true);
  const variables = variablesOf(text);
  if (/^\s*\{\{[^}]*\}\}|\{\{[^}]*\}\}\s*$/.test(text)) {
    throw refused(2388299, "Variables cannot stand there", "The body cannot begin or end with a variable.");
  }
  checkVariables(variables, template.parameterFormat, {
    positional: component.example?.body_text?.[0],
    named: component.example?.body_text_named_params?.map(({ param_name }) => param_name),
  });
}

function checkText(text: string, limit: number, subcode: number, where: string, required: boolean): void {
  if (required && text.trim() === "") throw refused(subcode, "Text is missing", `The ${where} needs a text.`);
  if (text.length > limit) {
    throw refused(2388040, "Character limit exceeded", `The ${where} can hold ${limit} characters at most.`);
  }
}

function checkVariables(
  variables: string[],
  format: TemplateDraft["parameterFormat"],
  examples: { positional: string[] | undefined; named: string[] | undefined },
): void {
  if (variables.length === 0) return;
  if (format === "NAMED") {
    if (!variables.every((name) => /^[a-z][a-z0-9_]*$/.test(name))) {
      throw refused(
        2388093,
        "Variables are incorrect",
        "Named variables are lower-case letters, digits and underscores.",
      );
    }
    if (!variables.every((name) => examples.named?.includes(name))) throw missingExamples();
    return;
  }
  const expected = variables.map((_, index) => String(index + 1));
  if ([...variables].sort((a, b) => Number(a) - Number(b)).join() !== expected.join()) {
    throw refused(2388093, "Variables are incorrect", "Variables are numbered {{1}}, {{2}} and so on, without gaps.");
  }
  if (examples.positional?.length !== variables.length) throw missingExamples();
}

function missingExamples(): GraphError {
  return refused(2388043, "Sample is missing", "Every variable needs an example.");
}

function checkButtons(list: z.output<typeof button>[]): void {
  if (list.length === 0 || list.length > 10) throw badParameter("Param buttons must hold 1 to 10 buttons.");
  for (const item of list) {
    if (item.type === "URL" && !/^https?:\/\//.test(item.url ?? ""))
      throw badParameter("Param url is not a valid URI.");
    if (item.type === "URL" && variablesOf(item.url ?? "").length > 0 && item.example === undefined)
      throw missingExamples();
    if (item.type === "PHONE_NUMBER" && !/^\+?[0-9]{4,20}$/.test(item.phone_number ?? "")) {
      throw badParameter("Param phone_number is not a valid phone number.");
    }
    const needsText = ["QUICK_REPLY", "URL", "PHONE_NUMBER"].includes(item.type);
    if ((needsText && !item.text) || (item.text ?? "").length > 25) {
      throw badParameter("Param text of a button must hold 1 to 25 characters.");
    }
  }
}

/** The different variables of a text, in the order in which they stand. */
export function variablesOf(text: string): string[] {
  return [...new Set(Array.from(text.matchAll(/\{\{\s*([^{}]*?)\s*\}\}/g), (match) => match[1] ?? ""))];
}
