/** Templates through 360dialog: Meta's components under an address of its own (facts 2). */
import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { call360, result360 } from "./dialog360-http";
import { createdSchema, templateSchema } from "./meta-templates";
import type { Connection, ProviderResult, ProviderTemplate, TemplateDraft, TemplatePage } from "./provider";
import { isObject, textOf } from "./provider-json";

const PATH = ["v1", "configs", "templates"];

/** A page of this many templates stays within the bound of an answer. */
const PAGE = 50;

export async function create360Template(
  rt: Runtime,
  connection: Connection,
  draft: TemplateDraft,
): Promise<ProviderResult<{ id: string; status: string; category: string | null }>> {
  const { name, language, category, components } = draft;
  const answer = await call360(rt, connection, {
    method: "POST",
    path: PATH,
    body: { name, language, category, parameter_format: draft.parameterFormat, components },
  });
  return result360(answer, (body) => {
    const created = createdSchema.safeParse(body).data;
    return created && { id: created.id, status: worded(created.status), category: created.category ?? null };
  });
}

/** 360dialog writes states small (`submitted`, `approved`); Meta's words are the capital ones. */
function worded(status: string): string {
  const word = status.toUpperCase();
  return word === "SUBMITTED" || word === "CREATED" ? "PENDING" : word;
}

/** Webhooks name a template by Meta's id, which stands beside 360dialog's own in its list. */
function withMetaId(item: unknown): unknown {
  if (!isObject(item)) return item;
  const metaId = textOf(item.external_id);
  return metaId !== null && /^\d+$/.test(metaId) ? { ...item, id: metaId } : item;
}

const pageSchema = z.object({
  waba_templates: z.array(z.unknown()),
  total: z.number().optional(),
});

/** One page; `after` is the offset of the next. The list is filtered by name here: whether 360dialog does is not told. */
export async function list360Templates(
  rt: Runtime,
  connection: Connection,
  query: { name: string | null; after: string | null },
): Promise<ProviderResult<TemplatePage>> {
  const offset = Number(query.after ?? 0);
  const answer = await call360(rt, connection, {
    method: "GET",
    path: PATH,
    query: { limit: String(PAGE), offset: String(offset) },
  });
  return result360(answer, (body) => {
    const page = pageSchema.safeParse(body).data;
    if (!page) return undefined;
    const read = page.waba_templates.flatMap((item) => templateSchema.safeParse(withMetaId(item)).data ?? []);
    const templates = read.map((template): ProviderTemplate => ({ ...template, status: worded(template.status) }));
    const end = offset + page.waba_templates.length;
    const more = page.total === undefined ? page.waba_templates.length >= PAGE : end < page.total;
    return {
      templates: query.name === null ? templates : templates.filter((template) => template.name === query.name),
      unreadable: page.waba_templates.length - read.length,
      after: more && page.waba_templates.length > 0 ? String(end) : null,
    };
  });
}

/** Pages looked through for one id. */
const LOOKUP_PAGES = 20;

/** 360dialog shows no single template: it is sought in the list. */
export async function get360Template(
  rt: Runtime,
  connection: Connection,
  id: string,
): Promise<ProviderResult<ProviderTemplate>> {
  let after: string | null = null;
  for (let page = 0; page < LOOKUP_PAGES; page += 1) {
    const listed: ProviderResult<TemplatePage> = await list360Templates(rt, connection, { name: null, after });
    if (!listed.ok) return listed;
    const found = listed.value.templates.find((template) => template.id === id);
    if (found) return { ok: true, value: found };
    after = listed.value.after;
    if (after === null) break;
  }
  return { ok: false, refused: true, error: refusal("template_not_found", "The account has no such template") };
}

function refusal(code: string, title: string) {
  return { code, title, details: null, retryable: false };
}

/** 360dialog creates and deletes templates; it has no way to edit one ("Template Messages"). */
export function edit360Template(): Promise<ProviderResult<null>> {
  const title = "360dialog cannot edit templates: delete it and make a new one";
  return Promise.resolve({ ok: false, refused: true, error: refusal("provider_limit", title) });
}

/** Its address names a template by its name, which takes every language: one of several is therefore not deleted. */
export async function delete360Template(
  rt: Runtime,
  connection: Connection,
  template: { id: string; name: string },
): Promise<ProviderResult<null>> {
  const listed = await list360Templates(rt, connection, { name: template.name, after: null });
  if (!listed.ok) return listed;
  if (listed.value.templates.some(({ id }) => id !== template.id)) {
    const title = "360dialog deletes a template in all of its languages at once, and this one has others";
    return { ok: false, refused: true, error: refusal("provider_limit", title) };
  }
  const answer = await call360(rt, connection, { method: "DELETE", path: [...PATH, template.name] });
  return result360(answer, () => null);
}
