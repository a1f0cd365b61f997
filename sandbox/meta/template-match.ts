import { GraphError } from "./graph-error";
import type { TemplateComponent, TemplateParameter, TemplatePart } from "./message-schema";
import { type TemplateDraft, variablesOf } from "./template-rules";

/** The translated body of a message can hold this much (code 132005). */
const MAX_BODY = 1024;

/**
 * Compares what a message gives with what the approved template asks for, as Meta does when it builds the message.
 * Throws 132000 (count), 132005 (too long), 132012 (kind of parameter) or 131008 (a button without its parameter).
 */
export function matchTemplate(template: TemplateDraft, part: TemplatePart): void {
  const given = (type: "header" | "body") =>
    part.components.find((component) => component.type === type)?.parameters ?? [];
  const buttons = part.components.filter((component) => component.type === "button");
  for (const component of template.components) {
    switch (component.type) {
      case "HEADER":
        if (component.format === "TEXT") matchText("header", component.text ?? "", given("header"), template);
        else matchMedia(component.format, given("header"));
        break;
      case "BODY":
        if (template.category === "AUTHENTICATION") matchCount("body", 1, given("body"));
        else matchText("body", component.text ?? "", given("body"), template);
        break;
      case "FOOTER":
        break;
      case "BUTTONS":
        component.buttons.forEach((button, index) => {
          const needs =
            (button.type === "URL" && variablesOf(button.url ?? "").length > 0) ||
            button.type === "OTP" ||
            button.type === "COPY_CODE";
          if (needs) requireButton(buttons, index, button.type);
        });
        break;
    }
  }
}

function matchCount(where: string, expected: number, given: TemplateParameter[]): void {
  if (given.length === expected) return;
  throw new GraphError(132000, {
    details: `${where}: number of localizable_params (${given.length}) does not match the expected number of params (${expected})`,
  });
}

function matchText(where: "header" | "body", text: string, given: TemplateParameter[], template: TemplateDraft): void {
  const variables = variablesOf(text);
  matchCount(where, variables.length, given);
  const wrong = given.find(({ type }) => type !== "text" && type !== "currency" && type !== "date_time");
  if (wrong) {
    throw new GraphError(132012, {
      details: `${where}: Format mismatch, expected TEXT, received ${wrong.type.toUpperCase()}`,
    });
  }
  const names = given.map((parameter) => ("parameter_name" in parameter ? parameter.parameter_name : undefined));
  if (template.parameterFormat === "NAMED") {
    const missing = variables.find((name) => !names.includes(name));
    if (missing)
      throw new GraphError(100, {
        message: "(#100) Invalid parameter",
        details: `Parameter name is missing or empty: ${missing}`,
      });
  } else if (names.some((name) => name !== undefined)) {
    throw new GraphError(132012, { details: `${where}: parameter_name is for named templates only` });
  }
  const filled = given.reduce(
    (length, parameter) => length + (parameter.type === "text" ? parameter.text.length : 0),
    0,
  );
  const fixed = text.replaceAll(/\{\{[^{}]*\}\}/g, "").length;
  if (where === "body" && fixed + filled > MAX_BODY) {
    throw new GraphError(132005, {
      details: `Translated body has ${fixed + filled} characters, ${MAX_BODY} are allowed`,
    });
  }
}

function matchMedia(format: string, given: TemplateParameter[]): void {
  const received = given[0]?.type.toUpperCase() ?? "UNKNOWN";
  if (received !== format || given.length !== 1) {
    throw new GraphError(132012, { details: `header: Format mismatch, expected ${format}, received ${received}` });
  }
}

function requireButton(buttons: TemplateComponent[], index: number, type: string): void {
  const found = buttons.find((component) => component.type === "button" && component.index === index);
  if (found && found.parameters.length > 0) return;
  throw new GraphError(131008, { details: `buttons: Button at index ${index} of type ${type} requires a parameter` });
}
