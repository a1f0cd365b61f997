/** Starting campaigns, and starting them again for those who failed. */
import { checkFiles } from "../media/service-limits";
import type { SendScope } from "../messages/service";
import { type PhoneNumber, resolveNumber } from "../phone-numbers/service";
import { AppError, invalidField } from "../platform/errors";
import { type StoredTemplate, selectTemplatesById, templateContent, unsendable } from "../templates/service";
import type { Snapshot } from "./schema";
import { walkOf } from "./service-audience";
import { ATTEND_EVERY, announceProgress } from "./service-progress";
import { runBegun } from "./service-run";
import { placesOf, sampleOf } from "./snapshot";
import {
  type BeginResult,
  type Campaign,
  type Run,
  selectCampaign,
  selectHolder,
  selectWorkspaceStatus,
  updateRetrying,
  updateStarted,
} from "./store";
import { startOf } from "./store-audience";

/** A call's idempotency key, with the hash of what was asked. */
export interface CallKey {
  key: string;
  hash: string;
}

interface Begun {
  campaign: Campaign;
  /** The same call had begun it before. */
  replayed: boolean;
}

/**
 * draft or scheduled → sending. The first start freezes what is sent and to whom; after a pause it goes on. Throws 422
 * naming what is missing or does not fit, 409 when it cannot be started now, or was changed at this very moment.
 * `scheduled`: only if its time has come and nobody paused it.
 */
export async function startCampaign(
  scope: SendScope,
  campaign: Campaign,
  key: CallKey | null,
  scheduled = false,
): Promise<Begun> {
  const before = await replay(scope, campaign, key);
  if (before) return before;
  if (campaign.status !== "draft" && campaign.status !== "scheduled") throw notNow(campaign, "started");
  const { number, template } = await checkSender(scope, campaign);
  const snapshot = campaign.snapshot ?? (await checkContent(scope, campaign, number, template));
  const place = startOf(walkOf(campaign.workspaceId, campaign.audience));
  const redAccepted = number.qualityRating === "RED";
  return begin(scope, campaign, key, "started", (run) =>
    updateStarted(scope.db, campaign, run, { snapshot, place, redAccepted, scheduled }),
  );
}

/**
 * completed or failed → sending, for those who failed, and no one else: what nobody knows of is no failure unless
 * `unknown`. Throws as a start does.
 */
export async function retryFailed(
  scope: SendScope,
  campaign: Campaign,
  key: CallKey | null,
  unknown: boolean,
): Promise<Begun> {
  const before = await replay(scope, campaign, key);
  if (before) return before;
  if (campaign.status !== "completed" && campaign.status !== "failed") throw notNow(campaign, "tried again");
  const { number } = await checkSender(scope, campaign);
  const redAccepted = number.qualityRating === "RED";
  return begin(scope, campaign, key, "tried again", (run) =>
    updateRetrying(scope.db, campaign, run, { unknown, redAccepted }),
  );
}

async function begin(
  scope: SendScope,
  campaign: Campaign,
  key: CallKey | null,
  what: string,
  update: (run: Run) => Promise<BeginResult>,
): Promise<Begun> {
  const { rt, db, workspaceId } = scope;
  const now = rt.clock();
  const id = rt.newId();
  const claim = key && { workspaceId, ...key, ref: id };
  const result = await update({ id, claim, now, dueAt: now + ATTEND_EVERY });
  switch (result.kind) {
    case "begun": {
      const campaign = await runBegun(rt, db, scope.shard, result.campaign);
      await announceProgress(rt, campaign, db.bookmark);
      return { campaign, replayed: false };
    }
    case "held": {
      const replayed = await replay(scope, campaign, key);
      if (replayed) return replayed;
      throw notNow(campaign, what);
    }
    case "conflict":
      throw notNow((await selectCampaign(db, [workspaceId], campaign.id)) ?? campaign, what);
  }
}

/** The answer to a call whose key began something before; null when the key is free. */
async function replay(scope: SendScope, campaign: Campaign, key: CallKey | null): Promise<Begun | null> {
  if (key === null) return null;
  const holder = await selectHolder(scope.db, scope.workspaceId, key.key, scope.rt.clock());
  if (holder === null) return null;
  if (holder.hash !== key.hash) {
    throw new AppError("idempotency_conflict", "This idempotency key was used with another request");
  }
  return { campaign: (await selectCampaign(scope.db, [scope.workspaceId], campaign.id)) ?? campaign, replayed: true };
}

function notNow(campaign: Campaign, what: string): AppError {
  return new AppError("conflict", `This campaign is ${campaign.status}: it cannot be ${what} now`);
}

/** The number and template, if they can send now. */
export async function checkSender(
  scope: SendScope,
  campaign: Pick<Campaign, "workspaceId" | "phoneNumberId" | "templateId">,
): Promise<{ number: PhoneNumber; template: StoredTemplate }> {
  const { db, workspaceId } = scope;
  if (campaign.templateId === null) throw invalidField(["body", "template_id"], "The campaign has no template");
  const [number, [template], workspace] = await Promise.all([
    resolveNumber(db, workspaceId, campaign.phoneNumberId),
    selectTemplatesById(db, [{ workspaceId, id: campaign.templateId }]),
    selectWorkspaceStatus(db, workspaceId),
  ]);
  if (workspace !== "active") throw new AppError("conflict", "The workspace is suspended");
  if (!number) throw invalidField(["body", "phone_number_id"], "The phone number was deleted");
  if (number.status !== "active") throw new AppError("conflict", `The phone number is ${number.status}`);
  if (!template) throw invalidField(["body", "template_id"], "Template not found in this workspace");
  const refusal = unsendable(template);
  if (refusal !== null) throw invalidField(["body", "template_id"], refusal);
  if (number.businessId !== null && template.businessId !== number.businessId) {
    throw invalidField(["body", "template_id"], "The template is of another business account than the phone number");
  }
  return { number, template };
}

/** The parameters, if they fill the template: what is about to be frozen. */
export async function checkContent(
  scope: SendScope,
  campaign: Pick<Campaign, "templateParams">,
  number: PhoneNumber,
  template: StoredTemplate,
): Promise<Snapshot> {
  const components = campaign.templateParams ?? undefined;
  const places = placesOf(components);
  if (!places.ok) throw invalidField(["body", "template_params"], places.msg);
  const filling = templateContent(template, sampleOf(components));
  if (!filling.ok) throw invalidField(["body", "template_params", ...filling.field], filling.msg);
  await checkFiles(scope.rt, scope.db, number, { type: "template", content: filling.content });
  const { name, language, category, parameterFormat } = template;
  return {
    template: { name, language, category, parameterFormat, components: template.components },
    components,
    fields: places.fields,
    required: places.required,
  };
}
