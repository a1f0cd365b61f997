/**
 * Handing templates in. A row is claimed while somebody talks to the provider about it; what a crash or an outage leaves
 * behind is looked up first, because the provider may have taken it without our hearing of it.
 */
import { openConnection } from "../phone-numbers/service";
import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import type { Connection, Provider, ProviderResult, ProviderTemplate, TemplatePage } from "../providers/provider";
import { providerFor } from "../providers/registry";
import { fromProviderList, toProviderList, withExamples } from "./components";
import { categoryOf, isLeaving, statusOf } from "./states";
import { claimDue, selectNumberOfAccount, settlePostponed, settleSubmitted, type Template } from "./store";
import { type KnownTemplate, updateGone, updateKnown } from "./store-known";

/** ms a claim is held: longer than the calls it covers. */
export const CLAIM = 120_000;

/** Tries of the cron before it gives up: about three days at its slowest. */
const MAX_ATTEMPTS = 80;
const FIRST_WAIT = 60_000;
const LONGEST_WAIT = 3_600_000;

/** Who can be asked about an account's templates. */
export interface AccountAccess {
  provider: Provider;
  connection: Connection;
}

/** The way to the template's account; null when no number of it is connected any more. */
export async function accessTo(rt: Runtime, db: Db, template: Template): Promise<AccountAccess | null> {
  const number = await selectNumberOfAccount(db, template);
  if (!number) return null;
  return { provider: providerFor(rt, number.provider), connection: await openConnection(rt, number) };
}

/** Pages looked through for one name. Meta also lists names that only hold it, which may be many. */
const LOOKUP_PAGES = 10;

/** Languages of a name at the provider. */
interface Found {
  templates: ProviderTemplate[];
  /** False when there were more pages than are looked through: what was not found may be there all the same. */
  complete: boolean;
}

/** All languages of a name at the provider. */
export async function lookUp({ provider, connection }: AccountAccess, name: string): Promise<ProviderResult<Found>> {
  const templates: ProviderTemplate[] = [];
  let after: string | null = null;
  for (let page = 0; page < LOOKUP_PAGES; page += 1) {
    const answer: ProviderResult<TemplatePage> = await provider.listTemplates(connection, { name, after });
    if (!answer.ok) return answer;
    templates.push(...answer.value.templates.filter((template) => template.name === name));
    if (answer.value.unreadable > 0) return { ok: true, value: { templates, complete: false } };
    after = answer.value.after;
    if (after === null) return { ok: true, value: { templates, complete: true } };
  }
  return { ok: true, value: { templates, complete: false } };
}

/**
 * How the provider has a template it once took; null when it has it no more. Meta refuses to show a missing one with the
 * same words as one the token may not see: only a list without it says that it is gone.
 */
export async function describe(
  access: AccountAccess,
  template: { metaTemplateId: string; name: string },
): Promise<ProviderResult<ProviderTemplate | null>> {
  const shown = await access.provider.getTemplate(access.connection, template.metaTemplateId);
  if (shown.ok || !shown.refused) return shown;
  const found = await lookUp(access, template.name);
  if (!found.ok) return found;
  const own = found.value.templates.find(({ id }) => id === template.metaTemplateId);
  if (own) return { ok: true, value: own };
  return found.value.complete ? { ok: true, value: null } : shown;
}

/** What the provider says of a template, for the row of it in a workspace. */
export function knownTemplate(
  row: Pick<KnownTemplate, "workspaceId" | "businessId" | "phoneNumberId" | "id">,
  said: ProviderTemplate,
): KnownTemplate {
  const status = statusOf(said.status);
  return {
    workspaceId: row.workspaceId,
    businessId: row.businessId,
    phoneNumberId: row.phoneNumberId,
    id: row.id,
    metaTemplateId: said.id,
    name: said.name,
    language: said.language,
    category: categoryOf(said.category),
    parameterFormat: said.parameterFormat,
    components: fromProviderList(said.components),
    status,
    providerStatus: said.status,
    rejectionReason: status === "REJECTED" ? (said.rejectedReason ?? said.status) : null,
    qualityScore: said.qualityScore,
  };
}

/** Why a call gave nothing. */
function reasonOf(result: Exclude<ProviderResult<unknown>, { ok: true }>): string {
  if (!result.refused) return result.reason;
  const { title, details } = result.error;
  return details === null ? title : `${title}: ${details}`;
}

/** Gives the provider a claimed template. Answers what came of it; the caller settles the row. */
export function submit(
  { provider, connection }: AccountAccess,
  template: Template,
): ReturnType<Provider["createTemplate"]> {
  return provider.createTemplate(connection, {
    name: template.name,
    language: template.language,
    category: template.category,
    parameterFormat: template.parameterFormat,
    components: toProviderList(withExamples(template.components, template.parameterFormat)),
  });
}

/** Settles a claimed row after the provider took it. */
export function settle(
  rt: Runtime,
  db: Db,
  template: Template,
  claim: string,
  created: { id: string; status: string; category: string | null },
): Promise<Template | null> {
  const settlement = {
    metaTemplateId: created.id,
    status: statusOf(created.status),
    providerStatus: created.status,
    category: created.category === null ? template.category : categoryOf(created.category),
  };
  return settleSubmitted(db, template, claim, settlement, rt.clock());
}

/** Puts a claimed row back for a later try; after too many of them the template counts as rejected. */
export function postpone(
  rt: Runtime,
  db: Db,
  template: Template,
  claim: string,
  reason: string,
): Promise<Template | null> {
  const now = rt.clock();
  const waits = template.metaTemplateId === null;
  if (template.attempts >= MAX_ATTEMPTS) {
    const rejection = waits ? `It could not be handed in: ${reason}` : null;
    return settlePostponed(db, template, claim, { dueAt: null, note: reason, rejection }, now);
  }
  const dueAt = now + Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(template.attempts, 10));
  const note = waits ? `Not handed in yet: ${reason}` : template.note;
  return settlePostponed(db, template, claim, { dueAt, note, rejection: null }, now);
}

/** Does what is due for a claimed row: hand it in, or ask how it is now. Answers the row, null when it is gone. */
export async function attend(rt: Runtime, db: Db, template: Template, claim: string): Promise<Template | null> {
  const access = await accessTo(rt, db, template);
  if (!access) return postpone(rt, db, template, claim, "No phone number of its business account is connected");
  const { metaTemplateId } = template;
  return metaTemplateId === null
    ? handIn(rt, db, template, claim, access)
    : refresh(rt, db, { ...template, metaTemplateId }, claim, access);
}

async function refresh(
  rt: Runtime,
  db: Db,
  template: Template & { metaTemplateId: string },
  claim: string,
  access: AccountAccess,
): Promise<Template | null> {
  const askedAt = rt.clock();
  const described = await describe(access, template);
  if (!described.ok) return postpone(rt, db, template, claim, reasonOf(described));
  if (described.value === null) return updateGone(db, template, askedAt);
  return updateKnown(db, knownTemplate(template, described.value), askedAt);
}

async function handIn(
  rt: Runtime,
  db: Db,
  template: Template,
  claim: string,
  access: AccountAccess,
): Promise<Template | null> {
  const askedAt = rt.clock();
  const found = await lookUp(access, template.name);
  if (!found.ok) return postpone(rt, db, template, claim, reasonOf(found));
  const taken = found.value.templates.find(
    ({ language, id, status }) =>
      language === template.language && id !== template.formerTemplateId && !isLeaving(status),
  );
  if (taken) return updateKnown(db, knownTemplate(template, taken), askedAt);
  const created = await submit(access, template);
  if (created.ok) return settle(rt, db, template, claim, created.value);
  if (!created.refused || created.error.retryable) return postpone(rt, db, template, claim, reasonOf(created));
  return settlePostponed(db, template, claim, { dueAt: null, note: null, rejection: reasonOf(created) }, rt.clock());
}

/** Rows taken in one run, and calls at once. */
const BATCH = 50;
const CALLS = 5;

/** Cron, each minute, per shard: what is due. One template that fails must not keep the others from their turn. */
export async function attendDue(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const db = shard(rt, shardNumber);
  const token = rt.newId();
  const due = await claimDue(db, { token, now, leaseUntil: now + CLAIM, limit: BATCH });
  for (let at = 0; at < due.length; at += CALLS) {
    await Promise.all(
      due.slice(at, at + CALLS).map(async (template) => {
        try {
          await attend(rt, db, template, token);
        } catch (error) {
          log("error", "template.attend_failed", { workspace_id: template.workspaceId, ...errorFields(error) });
        }
      }),
    );
  }
  if (due.length > 0) log("info", "templates.attended", { shard: shardNumber, templates: due.length });
}
