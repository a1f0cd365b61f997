/** Making, changing and deleting templates. */
import type { WorkspaceScope } from "../auth/guard";
import { accepted, openConnection, resolveNumber } from "../phone-numbers/service";
import { withAccount } from "../phone-numbers/service-account";
import { AppError, invalidField } from "../platform/errors";
import { providerFor } from "../providers/registry";
import { parameterFormatOf, toProviderList, withExamples } from "./components";
import type { ChangeTemplate, CreateTemplate } from "./schema";
import {
  type AccountAccess,
  accessTo,
  attend,
  CLAIM,
  describe,
  knownTemplate,
  lookUp,
  postpone,
  settle,
  submit,
} from "./service-submit";
import {
  claimUnsubmitted,
  reserveTemplate,
  softDeleteTemplate,
  type Template,
  unreserveTemplate,
  updateEdited,
} from "./store";
import { updateGone, updateKnown } from "./store-known";

/**
 * Makes a template and hands it in (contract 17). Throws `already_exists` with the id of the one that has its name,
 * `provider_refused` with the provider's reason (nothing is stored then), and 422 for an unknown number. When the
 * provider cannot be reached the template waits, and the cron hands it in.
 */
export async function createTemplate(scope: WorkspaceScope, input: CreateTemplate): Promise<Template> {
  const { rt, db, workspaceId } = scope;
  const named = await resolveNumber(db, workspaceId, input.phone_number_id ?? null);
  if (!named) throw invalidField(["body", "phone_number_id"], "Phone number not found in this workspace");
  const number = await withAccount(rt, db, named);
  const now = rt.clock();
  const parameterFormat = input.parameter_format ?? parameterFormatOf(input.components);
  const claim = rt.newId();
  const reserved = await reserveTemplate(
    db,
    {
      workspaceId,
      id: rt.newId(),
      phoneNumberId: number.id,
      businessId: number.businessId,
      name: input.name,
      language: input.language,
      category: input.category,
      parameterFormat,
      components: withExamples(input.components, parameterFormat),
      claim,
      dueAt: now + CLAIM,
    },
    now,
  );
  if (reserved.kind === "exists") {
    throw new AppError("already_exists", "A template of this name and language exists already", {
      extra: { id: reserved.id },
    });
  }
  const { template } = reserved;
  const access = { provider: providerFor(rt, number.provider), connection: await openConnection(rt, number) };
  const created = await submit(access, template);
  if (!created.ok && created.refused) await unreserveTemplate(db, template, claim, rt.clock());
  const settled =
    created.ok || created.refused
      ? await settle(rt, db, template, claim, accepted(created))
      : await postpone(rt, db, template, claim, created.reason);
  if (!settled) throw new AppError("conflict", "The template was deleted meanwhile");
  return settled;
}

export interface Changed {
  template: Template;
  /** Why it is not what the caller said it is. */
  note: string | null;
}

/**
 * Changes a template at the provider, which may review it again, and answers it as the provider has it then. A `status`
 * is a question, not an order. Throws `provider_refused`, `provider_unavailable`, and `conflict` when nobody can be asked.
 */
export async function changeTemplate(
  scope: WorkspaceScope,
  template: Template,
  change: ChangeTemplate,
): Promise<Changed> {
  const { metaTemplateId } = template;
  const changed =
    metaTemplateId === null
      ? await changeUnsubmitted(scope, template, change)
      : await changeSubmitted(scope, { ...template, metaTemplateId }, change);
  if (!changed) throw new AppError("not_found", "Resource not found");
  const { status, providerStatus } = changed;
  const asked = change.status;
  if (asked === undefined || asked === status) return { template: changed, note: null };
  if (providerStatus === null) return { template: changed, note: `The provider has not said ${asked} yet` };
  const word = providerStatus === status ? status : `${providerStatus}, which counts as ${status}`;
  return { template: changed, note: `The provider says ${word}, not ${asked}` };
}

/** What the provider does not have yet changes here, and is handed in at once. */
async function changeUnsubmitted(
  { rt, db }: WorkspaceScope,
  template: Template,
  change: ChangeTemplate,
): Promise<Template | null> {
  const now = rt.clock();
  const token = rt.newId();
  const claimed = await claimUnsubmitted(
    db,
    template,
    { token, now, leaseUntil: now + CLAIM },
    {
      components: change.components ? withExamples(change.components, template.parameterFormat) : null,
      category: change.category ?? null,
    },
  );
  if (!claimed) throw new AppError("conflict", "The template is being handed in: try again in a moment");
  return attend(rt, db, claimed, token);
}

async function changeSubmitted(
  { rt, db }: WorkspaceScope,
  template: Template & { metaTemplateId: string },
  change: ChangeTemplate,
): Promise<Template | null> {
  const access = await accessTo(rt, db, template);
  if (!access) throw notConnected();
  const components = change.components ? withExamples(change.components, template.parameterFormat) : null;
  const edits = components !== null || change.category !== undefined;
  if (edits) {
    accepted(
      await access.provider.editTemplate(access.connection, template.metaTemplateId, {
        ...(components === null ? {} : { components: toProviderList(components) }),
        ...(change.category === undefined ? {} : { category: change.category }),
      }),
    );
  }
  const askedAt = rt.clock();
  const described = await describe(access, template);
  if (described.ok && described.value !== null)
    return updateKnown(db, knownTemplate(template, described.value), askedAt);
  // The edit is made: what became of it is asked again by the cron.
  if (edits) return updateEdited(db, template, { components, dueAt: askedAt }, askedAt);
  accepted(described);
  return updateGone(db, template, askedAt);
}

function notConnected(): AppError {
  return new AppError("conflict", "No phone number of the template's business account is connected");
}

/**
 * Deletes a template: this language at the provider, softly here. One whose account has no connected number any more is
 * deleted here only. Throws `provider_refused`, `provider_unavailable`, and `conflict` while it is being handed in.
 */
export async function deleteTemplate({ rt, db }: WorkspaceScope, template: Template): Promise<void> {
  const now = rt.clock();
  if (template.metaTemplateId === null && template.claim !== null && (template.dueAt ?? 0) > now) {
    throw new AppError("conflict", "The template is being handed in: try again in a moment");
  }
  const access = await accessTo(rt, db, template);
  const id = access && (await removeAtProvider(access, template));
  await softDeleteTemplate(db, template, id, now);
}

/** Answers the provider's id of what was removed; null when there was nothing. */
async function removeAtProvider(access: AccountAccess, template: Template): Promise<string | null> {
  const id = template.metaTemplateId ?? (await idAtProvider(access, template));
  if (id === null) return null;
  const removed = await access.provider.deleteTemplate(access.connection, { id, name: template.name });
  if (removed.ok || !removed.refused) {
    accepted(removed);
    return id;
  }
  const found = accepted(await lookUp(access, template.name));
  const still = !found.complete || found.templates.some((one) => one.id === id);
  if (still) accepted(removed);
  return id;
}

/** A template that was handed in, but whose answer was lost, has an id that nobody here knows. */
async function idAtProvider(access: AccountAccess, template: Template): Promise<string | null> {
  const found = accepted(await lookUp(access, template.name));
  const own = found.templates.find(
    ({ language, id }) => language === template.language && id !== template.formerTemplateId,
  );
  return own?.id ?? null;
}
