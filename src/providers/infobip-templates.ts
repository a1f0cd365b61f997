/** Templates in Infobip's shape, one `structure` in place of Meta's list of components (facts 3.1). */
import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { callInfobip, resultOf } from "./infobip-http";
import type {
  Connection,
  ProviderError,
  ProviderResult,
  ProviderTemplate,
  TemplateDraft,
  TemplatePage,
} from "./provider";
import { isObject, type JsonObject, listOf, objectOf, textOf } from "./provider-json";

function pathOf(connection: Connection, ...rest: string[]): string[] {
  return ["whatsapp", "2", "senders", connection.providerNumberId, "templates", ...rest];
}

function refusal(title: string, code = "provider_limit"): { ok: false; refused: true; error: ProviderError } {
  return { ok: false, refused: true, error: { code, title, details: null, retryable: false } };
}

/** Meta's components as a structure; a text says what Infobip has no place for. */
export function structureOf(components: readonly JsonObject[]): JsonObject | string {
  const structure: JsonObject = {};
  for (const component of components) {
    const kind = (textOf(component.type) ?? "").toUpperCase();
    const example = objectOf(component.example);
    switch (kind) {
      case "HEADER": {
        const format = (textOf(component.format) ?? "TEXT").toUpperCase();
        const text = textOf(component.text);
        const sample = listOf(example.header_text)[0] ?? listOf(example.header_handle)[0];
        structure.header = {
          format,
          ...(text === null ? {} : { text }),
          ...(sample === undefined ? {} : { example: sample }),
        };
        break;
      }
      case "BODY": {
        if (example.body_text_named_params !== undefined) return "Infobip takes variables by place, {{1}}, not by name";
        const samples = listOf(listOf(example.body_text)[0]);
        structure.body = { text: component.text, ...(samples.length === 0 ? {} : { examples: samples }) };
        break;
      }
      case "FOOTER":
        structure.footer = { text: component.text };
        break;
      case "BUTTONS":
        structure.buttons = listOf(component.buttons).map(buttonOut);
        break;
      default:
        return `Infobip has no place for the component ${kind} of a template`;
    }
  }
  return structure;
}

function buttonOut(button: unknown): JsonObject {
  const { type, phone_number, example, ...rest } = objectOf(button);
  const sample = Array.isArray(example) ? example[0] : example;
  return {
    ...rest,
    type: (textOf(type) ?? "").toUpperCase(),
    ...(phone_number === undefined ? {} : { phoneNumber: phone_number }),
    ...(sample === undefined ? {} : { example: sample }),
  };
}

/** A structure as Meta's components, which is how templates are kept here. */
export function componentsOf(structure: JsonObject): JsonObject[] {
  const components: JsonObject[] = [];
  if (isObject(structure.header)) {
    const { format, text, example } = structure.header;
    const word = (textOf(format) ?? "TEXT").toUpperCase();
    const examples = word === "TEXT" ? { header_text: [example] } : { header_handle: [example] };
    components.push({
      type: "HEADER",
      format: word,
      ...(text === undefined ? {} : { text }),
      ...(example === undefined ? {} : { example: examples }),
    });
  }
  if (isObject(structure.body)) {
    const { text, examples } = structure.body;
    const samples = listOf(examples);
    components.push({ type: "BODY", text, ...(samples.length === 0 ? {} : { example: { body_text: [samples] } }) });
  }
  if (isObject(structure.footer)) components.push({ type: "FOOTER", text: structure.footer.text });
  const buttons = listOf(structure.buttons).map((button): JsonObject => {
    const { phoneNumber, example, ...rest } = objectOf(button);
    return {
      ...rest,
      ...(phoneNumber === undefined ? {} : { phone_number: phoneNumber }),
      ...(example === undefined ? {} : { example: [example] }),
    };
  });
  if (buttons.length > 0) components.push({ type: "BUTTONS", buttons });
  return components;
}

const SCORES: Readonly<Record<string, string>> = { HIGH: "GREEN", MEDIUM: "YELLOW", LOW: "RED" };

/** Infobip says HIGH, MEDIUM, LOW where Meta has colours. */
export function infobipScore(word: string | null): string | null {
  return word === null ? null : (SCORES[word] ?? word);
}

const templateSchema = z
  .object({
    id: z.coerce.string().min(1),
    name: z.string().min(1),
    language: z.string().min(1),
    status: z.string().min(1),
    category: z.string().min(1),
    structure: z.record(z.string(), z.unknown()).default({}),
    rejectionReason: z.string().nullish(),
    quality: z.string().nullish(),
  })
  .transform(
    ({ id, name, language, status, category, structure, rejectionReason, quality }): ProviderTemplate => ({
      id,
      name,
      language,
      status,
      category,
      components: componentsOf(structure),
      parameterFormat: "POSITIONAL",
      rejectedReason: rejectionReason ?? null,
      qualityScore: infobipScore(quality ?? null),
    }),
  );

export async function createInfobipTemplate(
  rt: Runtime,
  connection: Connection,
  draft: TemplateDraft,
): Promise<ProviderResult<{ id: string; status: string; category: string | null }>> {
  if (draft.parameterFormat === "NAMED") return refusal("Infobip takes variables by place, {{1}}, not by name");
  const structure = structureOf(draft.components);
  if (typeof structure === "string") return refusal(structure);
  const { name, language, category } = draft;
  const body = { name, language, category, structure };
  const answer = await callInfobip(rt, connection, { method: "POST", path: pathOf(connection), body });
  return resultOf(answer, (said) => templateSchema.safeParse(said).data);
}

const listSchema = z.object({ templates: z.array(z.unknown()) });

/** All of a sender's templates: Infobip gives them in one answer. */
export async function listInfobipTemplates(
  rt: Runtime,
  connection: Connection,
  query: { name: string | null },
): Promise<ProviderResult<TemplatePage>> {
  const answer = await callInfobip(rt, connection, { method: "GET", path: pathOf(connection) });
  return resultOf(answer, (body) => {
    const list = listSchema.safeParse(body).data;
    if (!list) return undefined;
    const read = list.templates.flatMap((item) => templateSchema.safeParse(item).data ?? []);
    return {
      templates: query.name === null ? read : read.filter(({ name }) => name === query.name),
      unreadable: list.templates.length - read.length,
      after: null,
    };
  });
}

export async function getInfobipTemplate(
  rt: Runtime,
  connection: Connection,
  id: string,
): Promise<ProviderResult<ProviderTemplate>> {
  const answer = await callInfobip(rt, connection, { method: "GET", path: pathOf(connection, id) });
  return resultOf(answer, (body) => templateSchema.safeParse(body).data);
}

export async function editInfobipTemplate(
  rt: Runtime,
  connection: Connection,
  id: string,
  change: { components?: Record<string, unknown>[]; category?: string },
): Promise<ProviderResult<null>> {
  const structure = change.components && structureOf(change.components);
  if (typeof structure === "string") return refusal(structure);
  const body = {
    ...(structure === undefined ? {} : { structure }),
    ...(change.category === undefined ? {} : { category: change.category }),
  };
  const answer = await callInfobip(rt, connection, { method: "PATCH", path: pathOf(connection, id), body });
  return resultOf(answer, () => null);
}

/** Its address names a template by its name, which takes every language: one of several is therefore not deleted. */
export async function deleteInfobipTemplate(
  rt: Runtime,
  connection: Connection,
  template: { id: string; name: string },
): Promise<ProviderResult<null>> {
  const listed = await listInfobipTemplates(rt, connection, { name: template.name });
  if (!listed.ok) return listed;
  if (listed.value.templates.some(({ id }) => id !== template.id)) {
    return refusal("Infobip deletes a template in all of its languages at once, and this one has others");
  }
  const answer = await callInfobip(rt, connection, { method: "DELETE", path: pathOf(connection, template.name) });
  return resultOf(answer, () => null);
}
