/** The two forms of a send's `components`: the documented one (by key) and the provider's array. */
import { isTextual, type Parameter, parameter } from "./parameters";

type Json = Record<string, unknown>;

/** A place within `components`. */
export type Path = (string | number)[];

/** A refusal, on its way to `fillTemplate`: `field` is the place within `components`. */
export class Mismatch extends Error {
  constructor(
    readonly field: Path,
    message: string,
  ) {
    super(message);
  }
}

/** One parameter, and where it stood. */
export interface Given {
  at: Path;
  value: Parameter;
}

export interface Part {
  /** Where the part stands, or would stand. */
  at: Path;
  given: Given[];
}

export interface GivenButton extends Given {
  index: number | null;
  indexAt: Path;
  subType: string | null;
  subTypeAt: Path;
}

/** What a send gave, part by part. */
export interface GivenParts {
  header: Part;
  body: Part;
  buttons: { at: Path; given: GivenButton[] };
  others: Json[];
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Reads either form. `unchecked` names the parts the template needs and nobody here can check. Throws `Mismatch`.
 */
export function readComponents(components: unknown, unchecked: readonly string[]): GivenParts {
  const parts: GivenParts =
    components === undefined || components === null
      ? emptyParts([], [], [])
      : Array.isArray(components)
        ? readList(components, unchecked)
        : readKeyed(components, unchecked);
  const missing = unchecked.find((key) => !parts.others.some((other) => other.type === key));
  if (missing !== undefined) throw new Mismatch([], `The template needs its ${missing}`);
  return parts;
}

function emptyParts(header: Path, body: Path, buttons: Path): GivenParts {
  return {
    header: { at: header, given: [] },
    body: { at: body, given: [] },
    buttons: { at: buttons, given: [] },
    others: [],
  };
}

/** The documented form. */
function readKeyed(components: unknown, unchecked: readonly string[]): GivenParts {
  if (!isObject(components)) throw new Mismatch([], "Must be an object by key, or the provider's array");
  const parts = emptyParts(["header"], ["body"], ["buttons"]);
  for (const [key, value] of Object.entries(components)) {
    if (value === undefined || value === null) continue;
    switch (key) {
      case "header":
      case "body":
        parts[key].given = readParameters(value, [key]);
        break;
      case "buttons":
        parts.buttons.given = listIn(value, [key], "buttons").flatMap(({ at, item }) => readButton(item, at));
        break;
      case "footer":
        if (Array.isArray(value) && value.length === 0) break;
        throw new Mismatch([key], "The footer takes no parameters");
      default:
        if (!unchecked.includes(key) || !isObject(value)) throw new Mismatch([key], `The template has no ${key}`);
        parts.others.push({ ...value, type: key });
    }
  }
  return parts;
}

/** The provider's form. */
function readList(list: unknown[], unchecked: readonly string[]): GivenParts {
  const parts = emptyParts([], [], []);
  for (const [place, item] of list.entries()) {
    const type = isObject(item) && typeof item.type === "string" ? item.type.toLowerCase() : null;
    if (!isObject(item) || type === null) throw new Mismatch([place, "type"], "Needs a type");
    switch (type) {
      case "header":
      case "body":
        if (parts[type].at.length > 0) throw new Mismatch([place], `There are two of type ${type}`);
        parts[type] = {
          at: [place, "parameters"],
          given: readParameters(item.parameters ?? [], [place, "parameters"]),
        };
        break;
      case "button":
        parts.buttons.given.push(...readButton(item, [place]));
        break;
      default:
        if (!unchecked.includes(type)) throw new Mismatch([place, "type"], `The template has no ${type}`);
        parts.others.push({ ...item, type });
    }
  }
  return parts;
}

/** A list, or an object that holds it under `member`. */
function listIn(value: unknown, at: Path, member: string): { at: Path; item: unknown }[] {
  if (Array.isArray(value)) return value.map((item: unknown, place) => ({ at: [...at, place], item }));
  if (isObject(value) && Array.isArray(value[member])) return listIn(value[member], [...at, member], member);
  throw new Mismatch(at, "Must be a list");
}

/** A list of parameters, one parameter, or an object of names and values. */
function readParameters(value: unknown, at: Path): Given[] {
  if (isObject(value) && (typeof value.type === "string" || MEDIA.some((kind) => kind in value))) {
    return [readParameter(value, at)];
  }
  if (isObject(value) && !Array.isArray(value.parameters)) {
    return Object.entries(value).map(([name, item]) => {
      const given = readParameter(item, [...at, name]);
      if (!isTextual(given.value)) throw new Mismatch(given.at, "Only texts have names");
      return { at: given.at, value: { ...given.value, parameter_name: name } };
    });
  }
  return listIn(value, at, "parameters").map((one) => readParameter(one.item, one.at));
}

/** What a header may show; an object of one of these needs no `type`. */
const MEDIA = ["image", "video", "document", "location"] as const;

/** A parameter as it is, a text or number for a text. */
function plainParameter(item: unknown): unknown {
  if (typeof item === "string" || typeof item === "number") return { type: "text", text: String(item) };
  if (!isObject(item)) return item;
  const type = typeof item.type === "string" ? item.type.toLowerCase() : MEDIA.find((kind) => kind in item);
  return { ...item, type };
}

function readParameter(item: unknown, at: Path): Given {
  const read = parameter.safeParse(plainParameter(item));
  if (read.success) return { at, value: read.data };
  const issue = read.error.issues[0];
  throw new Mismatch(
    [...at, ...(issue?.path ?? []).map((part) => (typeof part === "number" ? part : String(part)))],
    issue?.message ?? "Not valid",
  );
}

function readButton(item: unknown, at: Path): GivenButton[] {
  const frame = { indexAt: [...at, "index"], subTypeAt: [...at, "sub_type"] };
  const whole = isObject(item) && ("parameters" in item || "index" in item || "sub_type" in item);
  if (!whole) return [{ ...readParameter(item, at), ...frame, index: null, subType: null }];
  const index = item.index === undefined ? null : Number(item.index);
  if (index !== null && !(Number.isInteger(index) && index >= 0)) {
    throw new Mismatch(frame.indexAt, "Must be the place of a button, from 0");
  }
  const subType = typeof item.sub_type === "string" ? item.sub_type.toLowerCase() : null;
  const list = listIn(item.parameters ?? [], [...at, "parameters"], "parameters");
  return list.map((one) => ({ ...readParameter(one.item, one.at), ...frame, index, subType }));
}
