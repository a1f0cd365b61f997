/** What the rest of the product needs of templates: finding one for a send, filling it in, and showing it. */

import { openConnection, type PhoneNumber } from "../phone-numbers/service";
import { accountOf } from "../phone-numbers/service-account";
import type { Db } from "../platform/d1";
import { AppError } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import type { ProviderResult } from "../providers/provider";
import { providerFor } from "../providers/registry";
import { fillTemplate, toProviderParameters } from "./fill";
import { exampleParameters, type RenderedTemplate, renderTemplate as render } from "./render";
import { lookUp } from "./service-submit";
import { storeListed } from "./service-sync";
import { selectTemplate, selectTemplatesById, type Template } from "./store";

/** A template of a workspace. */
export type StoredTemplate = Template;

/** How long an authentication message may wait before it is worthless, in ms. */
const AUTHENTICATION_TTL = 600_000;

/**
 * The template a send through this number names. One that is not stored is asked of the provider once (contract 17) and
 * kept. Null when there is none, or it was deleted here. Throws `overloaded` when the provider could not be asked.
 */
export async function templateForSend(
  rt: Runtime,
  db: Db,
  number: PhoneNumber,
  name: string,
  language: string,
): Promise<StoredTemplate | null> {
  const account = await accountOf(rt, db, number);
  if (!account.ok) return unasked(account);
  if (account.value === null) return null;
  const known = { ...number, businessId: account.value };
  const key = { workspaceId: number.workspaceId, businessId: known.businessId, name, language };
  const stored = await selectTemplate(db, key);
  if (stored) return stored;
  const access = { provider: providerFor(rt, known.provider), connection: await openConnection(rt, known) };
  const askedAt = rt.clock();
  const found = await lookUp(access, name);
  if (!found.ok) return unasked(found);
  if (found.value.templates.length === 0) return null;
  await storeListed(rt, db, known, found.value.templates, askedAt);
  return selectTemplate(db, key);
}

/** A provider that refuses to say has no template for us; one that does not answer may have. */
function unasked(result: Exclude<ProviderResult<unknown>, { ok: true }>): null {
  if (result.refused) return null;
  throw new AppError("overloaded", `The provider could not be asked about the template: ${result.reason}`, {
    retryAfter: 10,
  });
}

/** Why a template cannot be sent now; null when it can. */
export function unsendable(template: StoredTemplate): string | null {
  if (template.deletedAt !== null) return "The template was deleted";
  if (template.status === "APPROVED") return null;
  const word = template.providerStatus ?? template.status;
  const why = template.rejectionReason ?? template.note;
  return `The template is not approved: ${word}${why === null || why === word ? "" : ` (${why})`}`;
}

/**
 * Which of these templates cannot be sent (any more), and why: paused, rejected, deleted. By id; one that is fine is not
 * in the answer. One read for all of them.
 */
export async function pausedOrRejected(
  db: Db,
  keys: readonly { workspaceId: string; id: string }[],
): Promise<Map<string, string>> {
  const found = await selectTemplatesById(db, keys);
  return new Map(
    keys.flatMap(({ id }) => {
      const template = found.find((one) => one.id === id);
      const why = template ? unsendable(template) : "The template was deleted";
      return why === null ? [] : [[id, why] as const];
    }),
  );
}

/** What a template message carries: what the provider takes, and the text a reader of the thread sees. */
export interface TemplateContent extends Record<string, unknown> {
  name: string;
  language: { code: string };
  components: Record<string, unknown>[];
  text: string;
}

export type TemplateFilling =
  | {
      ok: true;
      content: TemplateContent;
      /** As messages record it. */
      category: "marketing" | "utility" | "authentication";
      /** ms the message may wait; null is the default. */
      ttl: number | null;
      rendered: RenderedTemplate;
    }
  /** `field` is the place within `components`. */
  | { ok: false; field: (string | number)[]; msg: string };

const MESSAGE_CATEGORY = { MARKETING: "marketing", UTILITY: "utility", AUTHENTICATION: "authentication" } as const;

/**
 * Checks a send's `components` (the documented form by key, or the provider's array; positional or named parameters)
 * against the template and translates them. Says nothing of whether the template may be sent: see `unsendable`.
 */
export function templateContent(template: StoredTemplate, components: unknown): TemplateFilling {
  const filling = fillTemplate(template, components);
  if (!filling.ok) return filling;
  const rendered = render(template, filling.filled);
  return {
    ok: true,
    content: {
      name: template.name,
      language: { code: template.language },
      components: toProviderParameters(filling.filled),
      text: rendered.body,
    },
    category: MESSAGE_CATEGORY[template.category],
    ttl: template.category === "AUTHENTICATION" ? AUTHENTICATION_TTL : null,
    rendered,
  };
}

export type Rendering =
  | { ok: true; rendered: RenderedTemplate; components: Record<string, unknown>[] }
  | { ok: false; field: (string | number)[]; msg: string };

/** A template as the person would read it; without parameters, with its examples. */
export function renderTemplate(template: StoredTemplate, components: unknown): Rendering {
  if (components === undefined) {
    const filled = exampleParameters(template);
    return { ok: true, rendered: render(template, filled), components: toProviderParameters(filled) };
  }
  const filling = fillTemplate(template, components);
  if (!filling.ok) return filling;
  return { ok: true, rendered: render(template, filling.filled), components: toProviderParameters(filling.filled) };
}
