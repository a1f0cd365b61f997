/** Parameters of a template message, checked against the stored template before anything is sent (contract 17). */
import { type Components, fillText, type Shape, shapeOf, uncheckedKeys, variablesOf } from "./components";
import { type GivenButton, Mismatch, type Part, type Path, readComponents } from "./given";
import { isTextual, type Parameter, textOf } from "./parameters";
import type { TemplateCategory } from "./states";

type Json = Record<string, unknown>;

/** A button's parameter, with the place of the button in the template. */
interface ButtonParameter {
  index: number;
  subType: string;
  parameter: Parameter;
}

/** A template's parameters, complete, in the order of its variables. */
export interface FilledTemplate {
  header: Parameter[];
  body: Parameter[];
  buttons: ButtonParameter[];
  /** What is passed on unchecked: carousels and offers. */
  others: Json[];
}

export type Filling = { ok: true; filled: FilledTemplate } | { ok: false; field: Path; msg: string };

/** What is asked of a template's parameters. */
export interface FillableTemplate {
  category: TemplateCategory;
  parameterFormat: "POSITIONAL" | "NAMED";
  components: Components;
}

/**
 * The parameters of a send, in either form, as complete parameters of the template; or the first thing that is wrong
 * with them and the place in `components` where. Never throws.
 */
export function fillTemplate(template: FillableTemplate, components: unknown): Filling {
  try {
    const shape = shapeOf(template.components);
    const given = readComponents(components, uncheckedKeys(template.components));
    const header = fillHeader(shape, template, given.header);
    const body = fillBody(shape, template, given.body);
    const code = template.category === "AUTHENTICATION" ? (body[0] ?? null) : null;
    const buttons = fillButtons(shape, given.buttons, code);
    return { ok: true, filled: { header, body, buttons, others: given.others } };
  } catch (error) {
    if (error instanceof Mismatch) return { ok: false, field: error.field, msg: error.message };
    throw error;
  }
}

/** The provider's array of these parameters. */
export function toProviderParameters({ header, body, buttons, others }: FilledTemplate): Json[] {
  return [
    ...(header.length > 0 ? [{ type: "header", parameters: header }] : []),
    ...(body.length > 0 ? [{ type: "body", parameters: body }] : []),
    ...buttons.map(({ index, subType, parameter: one }) => ({
      type: "button",
      sub_type: subType,
      index: String(index),
      parameters: [one],
    })),
    ...others,
  ];
}

function fillHeader({ header }: Shape, template: FillableTemplate, part: Part): Parameter[] {
  const [first, second] = part.given;
  if (header === null) {
    if (first) throw new Mismatch(first.at, "The template has no header");
    return [];
  }
  if (header.format === "TEXT") return fillTexts("header", variablesOf(header.text), template, part);
  const kind = header.format.toLowerCase();
  if (!first) throw new Mismatch(part.at, `The header needs a parameter of type ${kind}`);
  if (second) throw new Mismatch(second.at, "The header takes one parameter");
  if (first.value.type !== kind)
    throw new Mismatch([...first.at, "type"], `The header needs a parameter of type ${kind}`);
  return [first.value];
}

/** Meta's bound of a body with its variables filled in (code 132005). */
const MAX_BODY = 1024;

function fillBody({ body }: Shape, template: FillableTemplate, part: Part): Parameter[] {
  // The text of an authentication template is the provider's, which may not have told it yet: it holds the code.
  const text = body.text ?? (template.category === "AUTHENTICATION" ? "{{1}}" : "");
  const variables = variablesOf(text);
  const parameters = fillTexts("body", variables, template, part);
  const values = new Map(variables.map((name, place) => [name, textAt(parameters, place)]));
  const length = [...fillText(text, values)].length;
  if (length > MAX_BODY) {
    throw new Mismatch(part.at, `The filled body has ${length} characters, ${MAX_BODY} are allowed`);
  }
  return parameters;
}

function textAt(parameters: readonly Parameter[], place: number): string {
  const found = parameters[place];
  return (found && textOf(found)) ?? "";
}

function fillTexts(
  where: "header" | "body",
  variables: readonly string[],
  template: FillableTemplate,
  part: Part,
): Parameter[] {
  const texts = part.given.map(({ at, value }) => {
    if (!isTextual(value)) throw new Mismatch([...at, "type"], `The ${where} takes texts, not ${value.type}`);
    return { at, value };
  });
  const extra = texts[variables.length];
  const count = `The ${where} takes ${variables.length} parameter${variables.length === 1 ? "" : "s"}`;
  const byName = texts.some(({ value }) => value.parameter_name !== undefined);
  const ordered = byName ? inOrder(where, variables, texts, part.at) : texts;
  if (extra) throw new Mismatch(extra.at, `${count}, got ${texts.length}`);
  if (ordered.length < variables.length) throw new Mismatch(part.at, `${count}, got ${texts.length}`);
  return ordered.map(({ value }, place) => {
    const { parameter_name: _, ...rest } = value;
    return template.parameterFormat === "NAMED" ? { ...rest, parameter_name: variables[place] } : rest;
  });
}

/** Named parameters in the order of the variables. */
function inOrder<T extends { at: Path; value: { parameter_name?: string | undefined } }>(
  where: string,
  variables: readonly string[],
  given: readonly T[],
  at: Path,
): T[] {
  const byName = new Map<string, T>();
  for (const one of given) {
    const name = one.value.parameter_name;
    if (name === undefined) throw new Mismatch(one.at, "Either all parameters are named or none is");
    if (!variables.includes(name)) throw new Mismatch(one.at, `The ${where} has no variable ${name}`);
    if (byName.has(name)) throw new Mismatch(one.at, `The variable ${name} is given twice`);
    byName.set(name, one);
  }
  return variables.map((name) => {
    const found = byName.get(name);
    if (!found) throw new Mismatch(at, `The variable ${name} of the ${where} is missing`);
    return found;
  });
}

interface Slot {
  index: number;
  name: string;
  subType: string;
  type: Parameter["type"];
  required: boolean;
}

/** The parameter a button takes; null when it takes none (facts 1.3). */
function slotOf(button: Shape["buttons"][number], index: number): Slot | null {
  const slot = { index, name: button.text ?? button.type };
  switch (button.type) {
    case "URL":
      return variablesOf(button.url).length > 0 ? { ...slot, subType: "url", type: "text", required: true } : null;
    case "OTP":
      return { ...slot, subType: "url", type: "text", required: true };
    case "COPY_CODE":
      return { ...slot, subType: "copy_code", type: "coupon_code", required: true };
    case "MPM":
      return { ...slot, subType: "mpm", type: "action", required: true };
    case "QUICK_REPLY":
      return { ...slot, subType: "quick_reply", type: "payload", required: false };
    case "FLOW":
      return { ...slot, subType: "flow", type: "action", required: false };
    case "CATALOG":
      return { ...slot, subType: "catalog", type: "action", required: false };
    default:
      return null;
  }
}

function fillButtons(
  shape: Shape,
  part: { at: Path; given: readonly GivenButton[] },
  code: Parameter | null,
): ButtonParameter[] {
  const slots = shape.buttons.map(slotOf);
  const filledSlots = new Map<number, Parameter>();
  for (const given of part.given) {
    const slot = given.index === null ? nextSlot(slots, filledSlots, given) : slotAt(slots, given, given.index);
    if (filledSlots.has(slot.index)) throw new Mismatch(given.at, `The button ${slot.index} takes one parameter`);
    if (given.subType !== null && given.subType !== slot.subType) {
      throw new Mismatch(given.subTypeAt, `The button ${slot.index} is of sub_type ${slot.subType}`);
    }
    if (given.value.type !== slot.type) {
      throw new Mismatch([...given.at, "type"], `The button ${slot.index} needs a parameter of type ${slot.type}`);
    }
    filledSlots.set(slot.index, given.value);
  }
  return slots.flatMap((slot) => {
    if (!slot) return [];
    // The button of an authentication template carries the same code as its body.
    const found = filledSlots.get(slot.index) ?? (slot.subType === "url" ? code : null);
    if (found) return [{ index: slot.index, subType: slot.subType, parameter: unnamed(found) }];
    if (!slot.required) return [];
    throw new Mismatch(part.at, `The button ${slot.index} (${slot.name}) needs a parameter of type ${slot.type}`);
  });
}

function unnamed(given: Parameter): Parameter {
  if (!isTextual(given)) return given;
  const { parameter_name: _, ...rest } = given;
  return rest;
}

function slotAt(slots: readonly (Slot | null)[], given: GivenButton, index: number): Slot {
  const slot = slots[index];
  if (slot) return slot;
  const why = slot === undefined ? "does not exist" : "takes no parameter";
  throw new Mismatch(given.indexAt, `The button ${index} ${why}`);
}

/** A parameter that names no button is for the next one that takes its type. */
function nextSlot(slots: readonly (Slot | null)[], taken: ReadonlyMap<number, Parameter>, given: GivenButton): Slot {
  const slot = slots.find((one) => one !== null && one.type === given.value.type && !taken.has(one.index));
  if (slot) return slot;
  throw new Mismatch(given.at, `No further button takes a parameter of type ${given.value.type}`);
}
