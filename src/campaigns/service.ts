/** The verbs of campaigns besides starting them. */
import type { z } from "zod";
import type { WorkspaceScope } from "../auth/guard";
import { acceptMessage, type Message, type SendIntent, type SendScope } from "../messages/service";
import { type PhoneNumber, resolveNumber } from "../phone-numbers/service";
import { messagesPerSecond } from "../phone-numbers/service-pipeline";
import { AppError, invalidField } from "../platform/errors";
import { type StoredTemplate, selectTemplatesById } from "../templates/service";
import type { createCampaignBody, estimateBody, testSendBody, UpdateCampaign } from "./schema";
import { walkOf } from "./service-audience";
import { isStale, pauseSending, settleCampaign } from "./service-progress";
import { type CallKey, checkContent, checkSender } from "./service-start";
import { contentFor, placesOf } from "./snapshot";
import {
  type Campaign,
  type CampaignChange,
  insertCampaign,
  selectCampaign,
  selectHolder,
  softDeleteCampaign,
  updateCampaign,
  updateName,
} from "./store";
import { type Estimate, estimateAudience } from "./store-audience";
import { selectPerson, updateCancelled } from "./store-recipients";

/** Makes a draft, or, with a date, a scheduled campaign. Throws 422 naming what does not exist or cannot be. */
export async function createCampaign(
  scope: WorkspaceScope,
  body: z.output<typeof createCampaignBody>,
): Promise<Campaign> {
  const { rt, db, workspaceId } = scope;
  const now = rt.clock();
  const number = await numberOf(scope, body.phone_number_id ?? null);
  await checkConfigured(scope, body, now);
  return insertCampaign(
    db,
    {
      workspaceId,
      id: rt.newId(),
      phoneNumberId: number.id,
      templateId: body.template_id ?? null,
      name: body.name,
      audience: body.audience ?? null,
      templateParams: body.template_params ?? null,
      scheduledAt: body.scheduled_at ?? null,
      createdBy: scope.caller.kind === "user" ? scope.caller.userId : null,
    },
    now,
  );
}

async function numberOf({ db, workspaceId }: WorkspaceScope, named: string | null): Promise<PhoneNumber> {
  const number = await resolveNumber(db, workspaceId, named);
  if (number) return number;
  const missing =
    named === null ? "This workspace has no active phone number" : "Phone number not found in this workspace";
  throw invalidField(["body", "phone_number_id"], missing);
}

type Configured = Pick<UpdateCampaign, "template_id" | "audience" | "template_params" | "scheduled_at">;

/** What can be said of a campaign before it is complete. */
async function checkConfigured(scope: WorkspaceScope, given: Configured, now: number): Promise<void> {
  if (given.template_id != null) await templateOf(scope, given.template_id);
  if (given.audience != null) walkOf(scope.workspaceId, given.audience);
  if (given.template_params != null) {
    const places = placesOf(given.template_params);
    if (!places.ok) throw invalidField(["body", "template_params"], places.msg);
  }
  if (given.scheduled_at != null && given.scheduled_at <= now) {
    throw invalidField(["body", "scheduled_at"], "Must be in the future");
  }
}

async function templateOf({ db, workspaceId }: WorkspaceScope, id: string): Promise<StoredTemplate> {
  const [template] = await selectTemplatesById(db, [{ workspaceId, id }]);
  if (template && template.deletedAt === null) return template;
  throw invalidField(["body", "template_id"], "Template not found in this workspace");
}

/**
 * Changes a campaign (contract 20). A draft or scheduled one in all its parts, one that was started in its name only;
 * `status` moves between draft and scheduled, and from sending to scheduled, which pauses it. Throws 409 otherwise.
 */
export async function changeCampaign(
  scope: WorkspaceScope,
  campaign: Campaign,
  body: UpdateCampaign,
): Promise<Campaign> {
  const { rt, db } = scope;
  const { name, status, ...rest } = body;
  const configures = Object.values(rest).some((value) => value !== undefined);
  const waits = campaign.status === "draft" || campaign.status === "scheduled";
  if (configures && !(waits && campaign.startedAt === null)) {
    const state = campaign.startedAt === null ? campaign.status : "under way or over";
    throw new AppError("conflict", `This campaign is ${state}: only its name can be changed`);
  }
  if (status !== undefined && status !== campaign.status) {
    const pauses = campaign.status === "sending" && status === "scheduled";
    const turns = waits && campaign.startedAt === null && (status === "draft" || status === "scheduled");
    if (!pauses && !turns)
      throw new AppError("conflict", `A campaign that is ${campaign.status} cannot become ${status}`);
    if (pauses) {
      const paused = await pauseCampaign(scope, campaign);
      return name === undefined ? paused : named(await updateName(db, paused, name, rt.clock()));
    }
  }
  const now = rt.clock();
  if (!configures && (status === undefined || status === campaign.status)) {
    return name === undefined ? campaign : named(await updateName(db, campaign, name, now));
  }
  await checkConfigured(scope, rest, now);
  const change = await changed(scope, campaign, body);
  const updated = await updateCampaign(db, campaign, change, now);
  if (!updated) throw new AppError("conflict", "The campaign was changed by somebody else meanwhile");
  return updated;
}

function named(campaign: Campaign | null): Campaign {
  if (!campaign) throw new AppError("not_found", "Resource not found");
  return campaign;
}

async function changed(scope: WorkspaceScope, campaign: Campaign, body: UpdateCampaign): Promise<CampaignChange> {
  const number = body.phone_number_id === undefined ? null : await numberOf(scope, body.phone_number_id);
  const given = <T>(value: T | undefined, before: T): T => (value === undefined ? before : value);
  const wanted = body.status === "draft" || body.status === "scheduled" ? body.status : null;
  // A date makes a draft a scheduled one, as it does when a campaign is made.
  const dated = body.scheduled_at != null && body.status === undefined;
  return {
    name: body.name ?? campaign.name,
    status: wanted ?? (dated || campaign.status === "scheduled" ? "scheduled" : "draft"),
    phoneNumberId: number?.id ?? campaign.phoneNumberId,
    templateId: given(body.template_id, campaign.templateId),
    audience: given(body.audience, campaign.audience),
    templateParams: given(body.template_params, campaign.templateParams),
    scheduledAt: given(body.scheduled_at, campaign.scheduledAt),
    replanned: body.scheduled_at != null || body.status !== undefined,
  };
}

/** sending → scheduled. Throws 409 when it is not sending. */
export async function pauseCampaign({ rt, db }: WorkspaceScope, campaign: Campaign): Promise<Campaign> {
  const paused = await pauseSending(rt, db, campaign, null);
  if (paused) return paused;
  const now = (await selectCampaign(db, [campaign.workspaceId], campaign.id)) ?? campaign;
  throw new AppError("conflict", `This campaign is ${now.status}: only one that is sending can be paused`);
}

/** draft, scheduled or sending → cancelled, with what waits in the queue. Throws 409 when it is over. */
export async function cancelCampaign({ rt, db }: WorkspaceScope, campaign: Campaign): Promise<Campaign> {
  const cancelled = await updateCancelled(db, campaign, rt.clock());
  if (cancelled) return settleCampaign(rt, db, cancelled, { anyway: true });
  const now = (await selectCampaign(db, [campaign.workspaceId], campaign.id)) ?? campaign;
  throw new AppError("conflict", `This campaign is ${now.status} already`);
}

/** Soft. Throws 409 while it is sending. */
export async function deleteCampaign({ rt, db }: WorkspaceScope, campaign: Campaign): Promise<void> {
  if (await softDeleteCampaign(db, campaign, rt.clock())) return;
  throw new AppError("conflict", "This campaign is sending: pause or cancel it first");
}

/** A campaign with counts that are a few seconds old at most. */
export async function freshCampaign({ rt, db }: WorkspaceScope, campaign: Campaign): Promise<Campaign> {
  return isStale(campaign, rt.clock()) ? settleCampaign(rt, db, campaign) : campaign;
}

export interface CampaignEstimate extends Estimate {
  /** Seconds sending takes at least. */
  seconds: number;
}

/** The part of a number's throughput that campaigns use (durable-objects/gate). */
const BULK_SHARE = 0.8;

/** Who would be sent to, were it started now, as it is or with what `body` says instead. */
export async function estimateCampaign(
  scope: WorkspaceScope,
  campaign: Campaign,
  body: z.output<typeof estimateBody>,
): Promise<CampaignEstimate> {
  const { db, workspaceId } = scope;
  const templateId = body.template_id === undefined ? campaign.templateId : body.template_id;
  const template = templateId === null ? null : await templateOf(scope, templateId);
  const params = body.template_params === undefined ? campaign.templateParams : body.template_params;
  const places = placesOf(params ?? undefined);
  if (!places.ok) throw invalidField(["body", "template_params"], places.msg);
  const walk = walkOf(workspaceId, body.audience === undefined ? campaign.audience : body.audience);
  const [estimate, number] = await Promise.all([
    estimateAudience(db, workspaceId, walk, {
      required: places.required,
      marketing: template?.category === "MARKETING",
    }),
    resolveNumber(db, workspaceId, campaign.phoneNumberId),
  ]);
  const perSecond = number ? messagesPerSecond(number) * BULK_SHARE : 1;
  return { ...estimate, seconds: Math.ceil(estimate.recipients / perSecond) };
}

/** ms a key must stay in use for its first answer to be given again: longer than a request takes. */
const HELD = 60_000;

/**
 * Sends the campaign's message to one person, as a message of its own that counts nowhere. Throws 422 as a start does, and
 * for what is not known of that person and has no other text.
 */
export async function testSend(
  scope: SendScope,
  campaign: Campaign,
  body: z.output<typeof testSendBody>,
  key: CallKey | null,
): Promise<{ message: Message; replayed: boolean }> {
  const holder = key && (await selectHolder(scope.db, scope.workspaceId, key.key, scope.rt.clock() + HELD));
  // The same call gets its first answer again, whatever became of the template: nothing of this is stored or sent.
  const payload = holder ? { content: {}, category: null, ttl: null } : await testPayload(scope, campaign, body);
  const intent = {
    phoneNumberId: campaign.phoneNumberId,
    to: body.to ?? null,
    contactId: body.contact_id ?? null,
    conversationId: null,
    type: "template",
    replyTo: null,
    scheduledAt: null,
    ...payload,
  };
  return acceptMessage(scope, intent, key);
}

async function testPayload(
  scope: SendScope,
  campaign: Campaign,
  body: z.output<typeof testSendBody>,
): Promise<Pick<SendIntent, "content" | "category" | "ttl">> {
  const { number, template } = await checkSender(scope, campaign);
  const snapshot = await checkContent(scope, campaign, number, template);
  const asked = body.contact_id === undefined ? { digits: body.to?.slice(1) ?? "" } : { contactId: body.contact_id };
  const person = await selectPerson(scope.db, scope.workspaceId, asked);
  const known: Record<string, string | null> = person ? { ...person } : { phone_number: body.to ?? null };
  const unknown = snapshot.required.find((field) => (known[field] ?? "").trim() === "");
  if (unknown !== undefined) {
    throw invalidField(["body", "to"], `The contact has no ${unknown}, and {{contact.${unknown}}} has no other text`);
  }
  const filling = contentFor(template, snapshot, known);
  if (!filling.ok) throw invalidField(["body", "template_params", ...filling.field], filling.msg);
  return { content: filling.content, category: filling.category, ttl: filling.ttl };
}
